//! One line of a denylist: what it names, and whether that is denied or allowed.

use cid::Cid;
use multibase::Base;
use multihash_codetable::Code;
use percent_encoding::percent_decode_str;

use super::rules::Status;
use crate::block::{Multihash, SHA2_256};
use crate::keys::Name;

/// A line that is neither empty nor a comment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// It takes back what lines before it deny.
    pub(super) allow: bool,
    pub(super) item: Item,
    pub(super) status: Option<Status>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// This path, and nothing below it.
    Path { root: Root, path: String },
    /// All paths that begin so.
    Prefix { root: Root, path: String },
    /// Hashes of what is denied: more than one where the text can be read in two ways.
    Hashes(Vec<Hash>),
}

/// Where a path begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Root {
    Content(Multihash),
    Key(Multihash),
    Domain(String),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hash {
    /// Of a multihash in base58 and a path.
    Modern(Multihash),
    /// SHA-256 of a CIDv1 in base32, a slash and a path.
    Legacy([u8; 32]),
}

/// Why a line is no rule.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum LineError {
    #[error("it begins with none of /ipfs/, /ipns/ and //")]
    Start,
    #[error("what follows /ipfs/ is neither a CID nor a multihash")]
    Cid,
    #[error("what follows /ipns/ is neither a key nor a domain")]
    Name,
    #[error("its path is no text in UTF-8")]
    Encoding,
    #[error("what follows // is neither a multihash in base58 nor a SHA-256 in hex")]
    Hash,
    #[error("it uses a hash function that is not supported")]
    HashFunction,
    #[error("it is longer than 2 MiB")]
    Length,
    #[error("it is no text in UTF-8")]
    Text,
}

/// Reads a line; `None` when it is empty or a comment.
pub(super) fn parse(line: &str) -> Result<Option<Line>, LineError> {
    let mut words = line.split_ascii_whitespace();
    let Some(item) = words.next().filter(|word| !word.starts_with('#')) else {
        return Ok(None);
    };
    let (allow, item) = match item.strip_prefix('!') {
        Some(item) => (true, item),
        None => (false, item),
    };
    let status = words
        .filter_map(|hint| hint.split_once(':'))
        .filter_map(|(name, value)| Status::of_hint(name, value))
        .next_back();
    Ok(Some(Line {
        allow,
        item: parse_item(item)?,
        status,
    }))
}

fn parse_item(item: &str) -> Result<Item, LineError> {
    if let Some(hash) = item.strip_prefix("//") {
        return parse_hashes(hash).map(Item::Hashes);
    }
    let (root, path) = if let Some(rest) = item.strip_prefix("/ipfs/") {
        let (cid, path) = split(rest);
        (Root::Content(parse_cid(cid)?), path)
    } else if let Some(rest) = item.strip_prefix("/ipns/") {
        let (name, path) = split(rest);
        (parse_name(name)?, path)
    } else {
        return Err(LineError::Start);
    };
    let (path, is_prefix) = match path.strip_suffix('*') {
        Some(path) => (path, true),
        None => (path, false),
    };
    let path = percent_decode_str(path.trim_matches('/'))
        .decode_utf8()
        .map_err(|_| LineError::Encoding)?
        .into_owned();
    Ok(match is_prefix {
        true => Item::Prefix { root, path },
        false => Item::Path { root, path },
    })
}

fn split(rest: &str) -> (&str, &str) {
    rest.split_once('/').unwrap_or((rest, ""))
}

fn parse_cid(text: &str) -> Result<Multihash, LineError> {
    match text.parse::<Cid>() {
        Ok(cid) => Ok(*cid.hash()),
        Err(_) => base58_multihash(text).ok_or(LineError::Cid),
    }
}

fn parse_name(text: &str) -> Result<Root, LineError> {
    if let Ok(name) = text.parse::<Name>() {
        return Ok(Root::Key(*name.cid().hash()));
    }
    if let Ok(hash) = parse_cid(text) {
        return Ok(Root::Key(hash));
    }
    match text.contains('.') {
        true => Ok(Root::Domain(text.to_ascii_lowercase())),
        false => Err(LineError::Name),
    }
}

fn parse_hashes(text: &str) -> Result<Vec<Hash>, LineError> {
    let mut legacy = [0; 32];
    let legacy = hex::decode_to_slice(text, &mut legacy)
        .is_ok()
        .then_some(Hash::Legacy(legacy));
    let modern = base58_multihash(text);
    if let (None, Some(hash)) = (&legacy, &modern)
        && !is_supported(hash)
    {
        return Err(LineError::HashFunction);
    }
    let modern = modern.filter(is_supported).map(Hash::Modern);
    let hashes: Vec<Hash> = legacy.into_iter().chain(modern).collect();
    match hashes.is_empty() {
        true => Err(LineError::Hash),
        false => Ok(hashes),
    }
}

/// Whether what is asked for can be hashed so.
fn is_supported(hash: &Multihash) -> bool {
    hash.code() == SHA2_256 || Code::try_from(hash.code()).is_ok()
}

/// Long texts are no multihash: base58 takes time that is the square of the length.
fn base58_multihash(text: &str) -> Option<Multihash> {
    const MAX_LEN: usize = 128;
    if text.len() > MAX_LEN {
        return None;
    }
    Multihash::from_bytes(&Base::Base58Btc.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V0: &str = "QmecDgNqCRirkc3Cjz9eoRBNwXGckJ9WvTdmY16HP88768";
    const V1: &str = "bafybeihrw75yfhdx5qsqgesdnxejtjybscwuclpusvxkuttep6h7pkgmze";

    fn item(line: &str) -> Item {
        parse(line).unwrap().unwrap().item
    }

    fn content() -> Root {
        Root::Content(*V0.parse::<Cid>().unwrap().hash())
    }

    #[test]
    fn empty_lines_and_comments_are_no_rules() {
        for line in ["", "  ", "# x", "#/ipfs/x", "\r"] {
            assert_eq!(parse(line), Ok(None), "{line:?}");
        }
    }

    #[test]
    fn versions_of_a_cid_and_its_multihash_are_the_same() {
        let plain = Item::Path {
            root: content(),
            path: String::new(),
        };
        for cid in [V0, V1] {
            assert_eq!(item(&format!("/ipfs/{cid}")), plain);
            assert_eq!(item(&format!("/ipfs/{cid}/")), plain);
        }
        let blake3 = "gW7Nhu4HrfDtphEivm3Z9NNE7gpdh5Tga8g6JNZc1S8E47";
        let cid = "bafyb4ieqht3b2rssdmc7sjv2cy2gfdilxkfh7623nvndziyqnawkmo266a";
        assert_eq!(
            item(&format!("/ipfs/{blake3}")),
            item(&format!("/ipfs/{cid}"))
        );
    }

    #[test]
    fn paths_are_unescaped_and_end_without_a_slash() {
        let path = |path: &str| Item::Path {
            root: content(),
            path: path.to_owned(),
        };
        assert_eq!(item(&format!("/ipfs/{V1}/a%20b/c")), path("a b/c"));
        assert_eq!(item(&format!("/ipfs/{V1}/a/")), path("a"));
        let prefix = |path: &str| Item::Prefix {
            root: content(),
            path: path.to_owned(),
        };
        assert_eq!(item(&format!("/ipfs/{V1}/*")), prefix(""));
        assert_eq!(item(&format!("/ipfs/{V1}/ab*")), prefix("ab"));
        assert_eq!(item(&format!("/ipfs/{V1}/ab/*")), prefix("ab"));
    }

    #[test]
    fn names_are_keys_or_domains() {
        let key = "k51qzi5uqu5dhmzyv3zac033i7rl9hkgczxyl81lwoukda2htteop7d3x0y1mf";
        assert!(matches!(
            item(&format!("/ipns/{key}")),
            Item::Path {
                root: Root::Key(_),
                ..
            }
        ));
        let domain = Item::Path {
            root: Root::Domain("domain.example".to_owned()),
            path: "path".to_owned(),
        };
        assert_eq!(item("/ipns/Domain.example/path"), domain);
    }

    #[test]
    fn what_is_allowed_and_hints_are_told() {
        let line = parse(&format!(
            "!/ipfs/{V1} a:b gateway_status:410 gateway_status:451"
        ));
        let line = line.unwrap().unwrap();
        assert!(line.allow);
        assert_eq!(line.status, Some(Status::Legal));
        let plain = parse(&format!("/ipfs/{V1} gateway_status:200 text"));
        assert_eq!(plain.unwrap().unwrap().status, None);
    }

    #[test]
    fn lines_that_are_no_rules_say_why() {
        let unknown = "//2UPxNwmxDVzAxSgUH7X3ZpAq5pMQ1vjJTiaSKx6LNt2WJCnrjLXwYzUZ2UxTwkPYhMPGFRLTQ";
        let errors = [
            ("/ipfs/nonsense", LineError::Cid),
            ("/ipfs/", LineError::Cid),
            ("/ipns/nonsense", LineError::Name),
            ("/other/x", LineError::Start),
            ("ipfs", LineError::Start),
            ("//", LineError::Hash),
            ("//00", LineError::Hash),
            (unknown, LineError::Hash),
        ];
        for (line, error) in errors {
            assert_eq!(parse(line), Err(error), "{line}");
        }
        assert_eq!(parse(&format!("/ipfs/{V1}/%ff")), Err(LineError::Encoding));
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in "\\PC*") {
            drop(parse(&line));
        }

        #[test]
        fn any_path_is_read_as_it_was_written(segments in prop::collection::vec("[^/]+", 1..5)) {
            let path = segments.join("/");
            let escape = percent_encoding::NON_ALPHANUMERIC;
            let escaped: Vec<String> = segments
                .iter()
                .map(|segment| percent_encoding::utf8_percent_encode(segment, escape).to_string())
                .collect();
            let parsed = item(&format!("/ipfs/{V1}/{}", escaped.join("/")));
            prop_assert_eq!(parsed, Item::Path { root: content(), path });
        }
    }
}
