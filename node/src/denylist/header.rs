//! The header of a denylist: YAML, of which few keys count.

use saphyr_parser::{Event, Parser, ScanError};

use super::rules::Status;

/// The version of the format that is known here.
const VERSION: &str = "1";

/// What a header says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: Option<String>,
    /// What holds for items that say nothing themselves.
    pub(super) status: Option<Status>,
}

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("its header is no YAML: {0}")]
    Yaml(#[from] ScanError),
    #[error("its header is no map of keys and values")]
    NoMap,
    #[error("its format has version {0:?}, and only version 1 is known")]
    Version(String),
}

/// Reads a header, without the `---` that ends it. Nothing is built from it but what counts, so that
/// aliases and depth cost nothing.
pub(super) fn read(yaml: &str) -> Result<Header, HeaderError> {
    let mut header = Header::default();
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(yaml) {
        match event?.0 {
            Event::MappingStart(..) => open.push(Open::Mapping { key: None }),
            Event::SequenceStart(..) if !open.is_empty() => open.push(Open::Sequence),
            Event::MappingEnd | Event::SequenceEnd => {
                open.pop();
                end_of_node(&mut open, "");
            }
            Event::Alias(_) => end_of_node(&mut open, ""),
            Event::Scalar(text, ..) if !open.is_empty() => {
                header.note(&open, &text)?;
                end_of_node(&mut open, &text);
            }
            Event::SequenceStart(..) | Event::Scalar(..) => return Err(HeaderError::NoMap),
            _ => {}
        }
    }
    Ok(header)
}

/// A collection that is being read.
enum Open {
    Sequence,
    /// With the key whose value comes next.
    Mapping {
        key: Option<String>,
    },
}

/// A node ends: in a map it was a key, or the value of one.
fn end_of_node(open: &mut [Open], text: &str) {
    if let Some(Open::Mapping { key }) = open.last_mut() {
        *key = match key {
            None => Some(text.to_owned()),
            Some(_) => None,
        };
    }
}

impl Header {
    fn note(&mut self, open: &[Open], value: &str) -> Result<(), HeaderError> {
        let keys = open.iter().map(|open| match open {
            Open::Mapping { key } => key.as_deref(),
            Open::Sequence => None,
        });
        match keys.collect::<Option<Vec<&str>>>().as_deref() {
            Some(["version"]) if value != VERSION => {
                return Err(HeaderError::Version(value.to_owned()));
            }
            Some(["name"]) => self.name = Some(value.to_owned()),
            Some(["hints", hint]) => self.status = Status::of_hint(hint, value).or(self.status),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_count_and_others_do_not() {
        let header = "version: 1\nname: \"Example: a list\"\nauthors:\n  - name: no\n  - [version, 7]\n\
                      custom:\n  hints: {gateway_status: 410}\n  name: no\n\
                      hints:\n  gateway_status: 451 # legal\n  other: value\n";
        let expected = Header {
            name: Some("Example: a list".to_owned()),
            status: Some(Status::Legal),
        };
        assert_eq!(read(header).unwrap(), expected);
        assert_eq!(read("").unwrap(), Header::default());
    }

    #[test]
    fn what_cannot_be_used_is_an_error() {
        assert!(matches!(read("version: 2"), Err(HeaderError::Version(version)) if version == "2"));
        assert!(matches!(read("a: ["), Err(HeaderError::Yaml(_))));
        assert!(matches!(read("/ipfs/x\n"), Err(HeaderError::NoMap)));
        assert!(matches!(read("- a\n"), Err(HeaderError::NoMap)));
    }

    #[test]
    fn aliases_are_not_expanded() {
        let mut yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..60 {
            let alias = format!("*a{}, ", n - 1).repeat(10);
            yaml.push_str(&format!("a{n}: &a{n} [{alias}]\n"));
        }
        yaml.push_str("name: small\n");
        assert_eq!(read(&yaml).unwrap().name.as_deref(), Some("small"));
    }
}
