//! Phase two: from a path to the CID at its end.

use cid::Cid;
use duka_node::dag::DagError;
use duka_node::dag::path::{self, ContentPath, Root};
use duka_node::denylist::Denylists;
use duka_node::ipns::Record;
use duka_node::source::FetchError;

use super::dns::Silent;
use super::request::ContentRequest;
use super::source::RequestSource;
use super::{Backend, Gateway};
use crate::error::GatewayError;

/// Names and domains that may lead to one another before it is called a loop.
const MAX_NAMES: usize = 32;

/// How long an answer stays true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// For ever: the path began with a CID.
    Immutable,
    /// For so many seconds: the path began with a name.
    Seconds(u64),
    /// Nobody knows: the path began with a domain whose target is configured.
    Unknown,
}

impl Freshness {
    /// What holds when both must hold.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Immutable, other) => other,
            (this, Self::Immutable) => this,
            (Self::Seconds(a), Self::Seconds(b)) => Self::Seconds(a.min(b)),
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
        }
    }
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

/// The CID that a path begins at once its names are resolved.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    /// That CID.
    pub(crate) root: Cid,
    /// Segments that the names lead to below it.
    pub(crate) prefix: Vec<String>,
    freshness: Freshness,
    record: Option<Record>,
}

impl Start {
    /// Follows `segments` from the root down.
    pub(crate) async fn follow<B: Backend>(
        &self,
        gateway: &Gateway<B>,
        source: &RequestSource<B>,
        segments: &[String],
    ) -> Result<Resolved, GatewayError> {
        let denylists = gateway.backend.denylists();
        check_path(denylists, &Root::Cid(self.root), &[], segments)?;
        let found = match gateway.backend.resolve_path(self.root, segments).await {
            Err(DagError::Fetch(FetchError::NotFound { .. })) if source.asks_the_network() => {
                path::resolve(source, self.root, segments).await?
            }
            found => found?,
        };
        // It may be answered without being read.
        if let Some(source) = denylists.check_block(&found.cid) {
            let cid = found.cid;
            return Err(FetchError::Denied { cid, source }.into());
        }
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
            freshness: self.freshness,
            record: self.record.clone(),
        })
    }
}

/// Resolves the names and domains that a path begins with.
pub(crate) async fn start<B: Backend>(
    gateway: &Gateway<B>,
    request: &ContentRequest,
) -> Result<Start, GatewayError> {
    let (denylists, segments) = (gateway.backend.denylists(), request.segments());
    let mut freshness = Freshness::Immutable;
    let mut record = None;
    let mut at = ContentPath {
        root: request.root.clone(),
        segments: Vec::new(),
    };
    for _ in 0..MAX_NAMES {
        let (target, fresh) = match &at.root {
            Root::Cid(root) => {
                return Ok(Start {
                    root: *root,
                    prefix: at.segments,
                    freshness,
                    record,
                });
            }
            Root::Name(name) => {
                check_path(denylists, &at.root, &at.segments, segments)?;
                let named = Box::pin(gateway.backend.resolve_name(name)).await?;
                let target = ContentPath::parse(&named.path)
                    .map_err(|_| GatewayError::BadValue { value: named.path })?;
                record.get_or_insert(named.record);
                (target, Freshness::Seconds(named.max_age))
            }
            Root::Domain(domain) => {
                check_path(denylists, &at.root, &at.segments, segments)?;
                let link = gateway.dnslinks.find(&domain.to_ascii_lowercase()).await;
                let link = link.map_err(|Silent { tried }| GatewayError::DnsSilent {
                    domain: domain.clone(),
                    tried,
                })?;
                let link = link.ok_or_else(|| GatewayError::NoDnslink {
                    domain: domain.clone(),
                })?;
                (link.path, link.freshness)
            }
        };
        freshness = freshness.and(fresh);
        at = ContentPath {
            root: target.root,
            segments: [target.segments, at.segments].concat(),
        };
    }
    Err(GatewayError::NameLoop)
}

/// Refuses a path that is denied as it stands: what is below `root`, and then `segments`.
fn check_path(
    denylists: &Denylists,
    root: &Root,
    below: &[String],
    segments: &[String],
) -> Result<(), GatewayError> {
    if denylists.is_empty() {
        return Ok(());
    }
    let path = ContentPath {
        root: root.clone(),
        segments: [below, segments].concat(),
    };
    match denylists.check(&path) {
        Some(source) => Err(GatewayError::Denied {
            path: path.to_string(),
            source,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortest_time_wins_and_what_is_unknown_stays_so() {
        use Freshness::{Immutable, Seconds, Unknown};

        assert_eq!(Immutable.and(Seconds(5)), Seconds(5));
        assert_eq!(Seconds(9).and(Seconds(5)), Seconds(5));
        assert_eq!(Seconds(5).and(Unknown), Unknown);
        assert_eq!(Unknown.and(Seconds(5)), Unknown);
    }
}
