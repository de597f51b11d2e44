//! Phase two: from a path to the CID at its end.

use cid::Cid;
use duka_node::dag::path;
use duka_node::ipns::Record;

use super::Backend;
use super::request::{ContentRequest, Root};
use super::source::RequestSource;
use crate::error::GatewayError;

/// How long an answer stays true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// For ever: the path began with a CID.
    Immutable,
    /// For so many seconds: the path began with a name.
    Seconds(u64),
}

/// Where a path leads.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// The node at the end.
    pub(crate) cid: Cid,
    /// One CID per segment, from the root down; no HAMT shards.
    pub(crate) roots: Vec<Cid>,
    /// Every block read on the way, root first.
    pub(crate) visited: Vec<Cid>,
    /// How long the answer stays true.
    pub(crate) freshness: Freshness,
    /// The record of the name, when the path began with one.
    pub(crate) record: Option<Record>,
}

/// Follows the request's path: the name first, if it begins with one, then the segments.
pub(crate) async fn resolve<B: Backend>(
    backend: &B,
    source: &RequestSource<B>,
    request: &ContentRequest,
) -> Result<Resolved, GatewayError> {
    let (root, freshness, record, prefix) = match &request.root {
        Root::Ipfs(cid) => (*cid, Freshness::Immutable, None, Vec::new()),
        Root::Ipns(name) => {
            let named = backend.resolve_name(name).await?;
            let (root, prefix) = split_value(&named.path)?;
            (
                root,
                Freshness::Seconds(named.max_age),
                Some(named.record),
                prefix,
            )
        }
    };
    let segments = request.segments();
    if segments.is_empty() && prefix.is_empty() {
        return Ok(Resolved {
            cid: root,
            roots: vec![root],
            visited: Vec::new(),
            freshness,
            record,
        });
    }
    let found = if prefix.is_empty() {
        path::resolve(source, root, segments).await?
    } else {
        path::resolve(source, root, &[prefix.as_slice(), segments].concat()).await?
    };
    if !found.remainder.is_empty() {
        return Err(GatewayError::NotALink {
            cid: found.cid,
            remainder: found.remainder.join("/"),
        });
    }
    Ok(Resolved {
        cid: found.cid,
        roots: found.roots,
        visited: found.visited,
        freshness,
        record,
    })
}

/// Splits `/ipfs/<cid>[/path]`, the value of a name.
fn split_value(value: &str) -> Result<(Cid, Vec<String>), GatewayError> {
    let invalid = || GatewayError::BadValue {
        value: value.to_owned(),
    };
    let mut segments = value
        .strip_prefix("/ipfs/")
        .ok_or_else(invalid)?
        .split('/')
        .filter(|s| !s.is_empty());
    let root = segments
        .next()
        .and_then(|cid| Cid::try_from(cid).ok())
        .ok_or_else(invalid)?;
    Ok((root, segments.map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_of_a_name_may_carry_a_path() {
        let (root, path) = split_value("/ipfs/bafkqaaa/a/b").unwrap();
        assert_eq!(root.to_string(), "bafkqaaa");
        assert_eq!(path, ["a", "b"]);
        assert!(split_value("/ipfs/").is_err());
        assert!(split_value("/ipns/x").is_err());
    }
}
