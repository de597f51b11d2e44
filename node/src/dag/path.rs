//! `/ipfs/<cid>/<segments>`: parsing, and resolving segments to a node.

use std::fmt;
use std::iter::repeat_n;

use cid::Cid;
use ipld_core::ipld::Ipld;

use super::hamt::{Lookup, Step};
use super::read::fetch;
use super::unixfs::{ShardNode, UnixFs, decode};
use super::{DagError, DagLimits, document};
use crate::block::{Block, DAG_CBOR, DAG_JSON, DAG_PB, LIBP2P_KEY};
use crate::keys::Name;
use crate::source::BlockSource;

/// `/ipfs/<cid>/…` or `/ipns/<name>/…`, or a bare CID with an optional path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentPath {
    /// Where it begins.
    pub root: Root,
    /// The segments below, not empty, as they are in the DAG (not percent-encoded).
    pub segments: Vec<String>,
}

/// Where a path begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// `/ipfs/<cid>`.
    Cid(Cid),
    /// `/ipns/<key>`.
    Name(Name),
    /// `/ipns/<domain>`: a DNSLink.
    Domain(String),
}

/// Why a text is not a content path.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not a CID or an IPFS path: {reason}")]
pub struct PathError {
    /// What was given.
    pub text: String,
    /// Why.
    pub reason: String,
}

impl ContentPath {
    /// Parses `/ipfs/<cid>/…`, `/ipns/<name>/…`, `ipfs://<cid>/…`, `ipns://<name>/…`, `<cid>/…`, or
    /// `<name>/…` where the name is no CID of content (`k51…`, `bafz…`, `12D3KooW…`, not `Qm…`).
    /// Empty segments (doubled or trailing slashes) do not count.
    ///
    /// # Errors
    /// [`PathError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let error = |reason: String| PathError {
            text: text.to_owned(),
            reason,
        };
        let below = |path: &str, scheme: &str| {
            let rest = text.strip_prefix(path);
            rest.or_else(|| text.strip_prefix(scheme))
        };
        let name = below("/ipns/", "ipns://");
        let cid = below("/ipfs/", "ipfs://");
        let rest = name.or(cid).unwrap_or(text);
        let mut parts = rest.split('/').filter(|part| !part.is_empty());
        let first = parts
            .next()
            .ok_or_else(|| error("it is empty".to_owned()))?;
        let root = if name.is_some() || (cid.is_none() && is_name(first)) {
            parse_name(first).map_err(error)?
        } else {
            let parsed = first.parse();
            Root::Cid(
                parsed.map_err(|err: cid::Error| error(format!("{first:?} is no CID ({err})")))?,
            )
        };
        let segments: Vec<String> = parts.map(str::to_owned).collect();
        let most = DagLimits::current().path_segments;
        if segments.len() > most {
            return Err(error(format!("it has more than {most} segments")));
        }
        Ok(Self { root, segments })
    }
}

/// Whether a bare word can only be a name. An old peer id (`Qm…`) looks like a CID, and is taken for one.
fn is_name(word: &str) -> bool {
    match word.parse::<Cid>() {
        Ok(cid) => cid.codec() == LIBP2P_KEY,
        Err(_) => word.parse::<Name>().is_ok(),
    }
}

/// A key, or a domain, which is what has a dot.
fn parse_name(word: &str) -> Result<Root, String> {
    if !word.contains('.') {
        let name = word.parse();
        return name
            .map(Root::Name)
            .map_err(|_| format!("{word:?} is no key"));
    }
    let is_domain_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if word.len() <= 253 && word.bytes().all(is_domain_byte) {
        Ok(Root::Domain(word.to_owned()))
    } else {
        Err(format!("{word:?} is no domain"))
    }
}

impl fmt::Display for ContentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.root {
            Root::Cid(cid) => write!(f, "/ipfs/{cid}")?,
            Root::Name(name) => write!(f, "/ipns/{name}")?,
            Root::Domain(domain) => write!(f, "/ipns/{domain}")?,
        }
        self.segments
            .iter()
            .try_for_each(|segment| write!(f, "/{segment}"))
    }
}

/// What a path resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The CID of the last node reached.
    pub cid: Cid,
    /// The root, then for each segment the CID of the node that it led to or stayed in: logical
    /// roots only, no HAMT shards.
    pub roots: Vec<Cid>,
    /// Every block that was read on the way, in order, HAMT shards included: the path part of a CAR.
    pub visited: Vec<Cid>,
    /// Segments that could not be followed because they lead inside a block of a codec other than
    /// UnixFS (dag-cbor and dag-json values that are no links).
    pub remainder: Vec<String>,
}

/// Follows `segments` from `root` through UnixFS directories, HAMTs and IPLD links. The last node
/// itself is not fetched.
///
/// # Errors
/// [`DagError::NoLink`] names the missing segment; a segment below a file is missing, too.
pub async fn resolve<S: BlockSource>(
    source: &S,
    root: Cid,
    segments: &[String],
) -> Result<Resolved, DagError> {
    let mut resolved = Resolved {
        cid: root,
        roots: vec![root],
        visited: Vec::new(),
        remainder: Vec::new(),
    };
    let most = DagLimits::current().path_segments;
    if segments.len() > most {
        return Err(DagError::Limit {
            cid: root,
            limit: format!("{most} path segments"),
        });
    }
    let mut rest = segments;
    while let Some((segment, after)) = rest.split_first() {
        let block = fetch(source, &resolved.cid).await?;
        resolved.visited.push(resolved.cid);
        match block.cid().codec() {
            DAG_PB => {
                resolved.cid = step_unixfs(source, &block, segment, &mut resolved.visited).await?;
                rest = after;
            }
            DAG_CBOR | DAG_JSON => match step_ipld(&block, rest)? {
                Some((cid, after)) => {
                    // Values on the way to the link are in the same block.
                    let inside = rest.len().saturating_sub(after.len() + 1);
                    resolved.roots.extend(repeat_n(resolved.cid, inside));
                    resolved.cid = cid;
                    rest = after;
                }
                None => {
                    resolved.remainder = rest.to_vec();
                    return Ok(resolved);
                }
            },
            _ => return Err(no_link(&block, segment)),
        }
        resolved.roots.push(resolved.cid);
    }
    Ok(resolved)
}

async fn step_unixfs<S: BlockSource>(
    source: &S,
    block: &Block,
    segment: &str,
    visited: &mut Vec<Cid>,
) -> Result<Cid, DagError> {
    match decode(block)? {
        UnixFs::Directory(directory) => directory
            .links
            .iter()
            .find(|link| link.name == segment.as_bytes())
            .map(|link| link.cid)
            .ok_or_else(|| no_link(block, segment)),
        UnixFs::Shard(shard) => step_hamt(source, block, shard, segment, visited).await,
        UnixFs::File(_) | UnixFs::Symlink { .. } => Err(no_link(block, segment)),
    }
}

async fn step_hamt<S: BlockSource>(
    source: &S,
    root: &Block,
    mut shard: ShardNode,
    segment: &str,
    visited: &mut Vec<Cid>,
) -> Result<Cid, DagError> {
    let mut lookup = Lookup::new(segment);
    loop {
        let cid = match lookup.step(&shard) {
            Some(Step::Found(cid)) => return Ok(cid),
            Some(Step::Absent) => return Err(no_link(root, segment)),
            Some(Step::Descend(cid)) => cid,
            None => {
                return Err(DagError::Limit {
                    cid: *root.cid(),
                    limit: "64 bits of hash".to_owned(),
                });
            }
        };
        let block = fetch(source, &cid).await?;
        visited.push(cid);
        shard = match decode(&block)? {
            UnixFs::Shard(shard) => shard,
            other => {
                return Err(DagError::WrongKind {
                    cid,
                    found: super::read::kind(&other),
                    wanted: "a HAMT shard",
                });
            }
        };
    }
}

/// Follows segments inside one dag-cbor or dag-json block to the first link. `None` when all
/// segments end at a value inside it.
fn step_ipld<'a>(
    block: &Block,
    segments: &'a [String],
) -> Result<Option<(Cid, &'a [String])>, DagError> {
    let node = document::decode(block)?;
    let mut at = &node;
    for (index, segment) in segments.iter().enumerate() {
        let value = match at {
            Ipld::Map(map) => map.get(segment),
            Ipld::List(list) => list_index(segment).and_then(|index| list.get(index)),
            _ => None,
        };
        at = value.ok_or_else(|| no_link(block, segment))?;
        if let Ipld::Link(cid) = at {
            return Ok(Some((*cid, &segments[index + 1..])));
        }
    }
    Ok(None)
}

/// A list index in its one decimal spelling.
fn list_index(segment: &str) -> Option<usize> {
    let index: usize = segment.parse().ok()?;
    (index.to_string() == segment).then_some(index)
}

fn no_link(parent: &Block, segment: &str) -> DagError {
    DagError::NoLink {
        parent: *parent.cid(),
        segment: segment.to_owned(),
    }
}

#[cfg(test)]
mod tests;
