//! DNSLink: where domains lead to.

use std::collections::BTreeMap;

use duka_node::dag::path::{ContentPath, PathError};

/// The content paths of domains, as they are configured.
#[derive(Debug, Default)]
pub(crate) struct Dnslinks(BTreeMap<String, ContentPath>);

impl Dnslinks {
    /// Reads `gateway.dnslink`.
    ///
    /// # Errors
    /// The first domain whose value is no content path.
    pub(crate) fn new(configured: &BTreeMap<String, String>) -> Result<Self, (String, PathError)> {
        let read = |(domain, path): (&String, &String)| match ContentPath::parse(path) {
            Ok(path) => Ok((domain.to_ascii_lowercase(), path)),
            Err(error) => Err((domain.clone(), error)),
        };
        Ok(Self(configured.iter().map(read).collect::<Result<_, _>>()?))
    }

    /// Where the domain leads to.
    pub(crate) fn path(&self, domain: &str) -> Option<&ContentPath> {
        self.0.get(domain)
    }
}

/// A domain as one DNS label.
pub(crate) fn inline(domain: &str) -> String {
    domain.replace('-', "--").replace('.', "-")
}

/// The domain that was written as one label.
pub(crate) fn uninline(label: &str) -> String {
    let parts: Vec<String> = label
        .split("--")
        .map(|part| part.replace('-', "."))
        .collect();
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn inlined_domain_is_one_label_and_comes_back() {
        let label = inline("en.wikipedia-on-ipfs.org");
        assert_eq!(label, "en-wikipedia--on--ipfs-org");
        assert_eq!(uninline(&label), "en.wikipedia-on-ipfs.org");
    }

    #[test]
    fn value_that_is_no_path_names_its_domain() {
        let map = BTreeMap::from([("a.example".to_owned(), "/ipfs/nonsense".to_owned())]);
        assert_eq!(Dnslinks::new(&map).unwrap_err().0, "a.example");
    }

    proptest! {
        #[test]
        fn every_domain_survives_inlining(
            domain in "[a-z0-9]{1,4}(-[a-z0-9]{1,3})?(\\.[a-z0-9]{1,4}(-[a-z0-9]{1,3})?){1,3}"
        ) {
            prop_assert_eq!(uninline(&inline(&domain)), domain);
        }
    }
}
