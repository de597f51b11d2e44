//! What `get` takes: a CID, a content path, something of a shop, or the URL of any at a gateway.

use cid::Cid;
use duka_node::dag::path::{ContentPath, Root};
use duka_node::keys::Name;
use url::{Host, Url};

use crate::error::CliError;
use duka_gateway::control::failure::Failure;

/// A reference, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// `/ipfs/…` or `/ipns/…`.
    pub(crate) path: ContentPath,
    /// The gateway it named, if it was a URL.
    pub(crate) gateway: Option<Url>,
}

impl Reference {
    /// Parses what the user typed; `alias` knows the names of shops.
    pub(crate) fn parse(
        text: &str,
        alias: impl Fn(&str) -> Result<Option<Name>, CliError>,
    ) -> Result<Self, CliError> {
        if text.starts_with("http://") || text.starts_with("https://") {
            return Self::of_url(text);
        }
        let text = ["ipfs", "ipns"]
            .iter()
            .find_map(|scheme| {
                let rest = text.strip_prefix(scheme)?.strip_prefix("://")?;
                Some(format!("/{scheme}/{rest}"))
            })
            .unwrap_or_else(|| text.to_owned());
        let path = match Self::below_shop(&text, alias)? {
            Some(path) => path,
            None => ContentPath::parse(&text).map_err(Failure::from)?,
        };
        Ok(Self {
            path,
            gateway: None,
        })
    }

    /// `SHOP/…`, where the shop is a name, a domain or one of the user's own names for shops.
    fn below_shop(
        text: &str,
        alias: impl Fn(&str) -> Result<Option<Name>, CliError>,
    ) -> Result<Option<ContentPath>, CliError> {
        let mut segments = text.trim_end_matches('/').split('/');
        let shop = segments.next().unwrap_or_default();
        if shop.is_empty() {
            return Ok(None);
        }
        let root = match alias(shop)? {
            Some(name) => Root::Name(name),
            None => match shop.parse::<Name>() {
                Ok(name) => Root::Name(name),
                Err(_) if shop.parse::<Cid>().is_ok() => return Ok(None),
                Err(_) if shop.contains('.') => Root::Domain(shop.to_ascii_lowercase()),
                Err(_) => {
                    let message =
                        format!("{shop:?} is neither a CID nor a shop that is known here");
                    return Err(CliError::usage(message).hint(
                        "give a CID, a k51… name or an URL, or name the shop first: `duka shop alias NAME \
                         k51…`",
                    ));
                }
            },
        };
        let segments = segments.filter(|segment| !segment.is_empty());
        let segments = segments.map(str::to_owned).collect();
        Ok(Some(ContentPath { root, segments }))
    }

    fn of_url(text: &str) -> Result<Self, CliError> {
        let wrong = || {
            CliError::usage(format!("{text} is not the URL of content at a gateway"))
                .hint("it has /ipfs/CID or /ipns/NAME in its path, or begins with CID.ipfs.")
        };
        let url = Url::parse(text).map_err(|_| wrong())?;
        let decoded = |path: &str| {
            percent_encoding::percent_decode_str(path)
                .decode_utf8()
                .map(std::borrow::Cow::into_owned)
                .map_err(|_| wrong())
        };
        let (path, gateway) = match subdomain(&url) {
            Some((prefix, gateway)) => (decoded(&format!("{prefix}{}", url.path()))?, gateway),
            None if url.path().starts_with("/ipfs/") || url.path().starts_with("/ipns/") => {
                (decoded(url.path())?, origin(&url))
            }
            None => return Err(wrong()),
        };
        Ok(Self {
            path: ContentPath::parse(&path).map_err(Failure::from)?,
            gateway: Some(gateway),
        })
    }
}

fn origin(url: &Url) -> Url {
    let mut origin = url.clone();
    origin.set_path("/");
    origin.set_query(None);
    origin.set_fragment(None);
    origin
}

/// `https://<cid>.ipfs.example/…`: the path prefix, and the gateway without the subdomain.
fn subdomain(url: &Url) -> Option<(String, Url)> {
    let Some(Host::Domain(host)) = url.host() else {
        return None;
    };
    let (id, rest) = host.split_once('.')?;
    let (kind, gateway) = rest.split_once('.')?;
    if !matches!(kind, "ipfs" | "ipns") {
        return None;
    }
    let mut bare = origin(url);
    bare.set_host(Some(gateway)).ok()?;
    Some((format!("/{kind}/{id}"), bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";
    const CID: &str = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

    fn parse(text: &str) -> (String, Option<String>) {
        let found = Reference::parse(text, |_| Ok(None)).unwrap();
        (
            found.path.to_string(),
            found.gateway.map(|url| url.to_string()),
        )
    }

    #[test]
    fn cids_paths_and_urls_lead_to_the_same_content() {
        let path = format!("/ipfs/{CID}/a b");
        assert_eq!(parse(&format!("{CID}/a b")), (path.clone(), None));
        assert_eq!(parse(&path), (path.clone(), None));
        assert_eq!(parse(&format!("ipfs://{CID}/a b")), (path.clone(), None));
        let at = |gateway: &str| (path.clone(), Some(gateway.to_owned()));
        assert_eq!(
            parse(&format!(
                "http://127.0.0.1:8080/ipfs/{CID}/a%20b?filename=x#y"
            )),
            at("http://127.0.0.1:8080/")
        );
        assert_eq!(
            parse(&format!("https://{CID}.ipfs.example.com/a%20b")),
            at("https://example.com/")
        );
    }

    #[test]
    fn a_shop_is_a_name_a_domain_or_what_the_user_calls_it() {
        let shop: Name = NAME.parse().unwrap();
        let parse = |text: &str| {
            let known = |alias: &str| Ok((alias == "songs").then(|| shop.clone()));
            Reference::parse(text, known).map(|found| found.path.to_string())
        };
        let album = format!("/ipns/{NAME}/album@1.2/a b");
        for text in [
            "songs/album@1.2/a b",
            &format!("{NAME}/album@1.2/a b"),
            &album,
        ] {
            assert_eq!(parse(text).unwrap(), album);
        }
        assert_eq!(
            parse("shop.example/album").unwrap(),
            "/ipns/shop.example/album"
        );
        assert!(parse("nobody/album").is_err());
    }

    #[test]
    fn url_without_content_is_refused() {
        for text in ["https://example.com/", "http://x/ipfs/", "http://"] {
            assert!(Reference::parse(text, |_| Ok(None)).is_err(), "{text}");
        }
    }
}
