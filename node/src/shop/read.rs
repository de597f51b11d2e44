//! Reads the small files of a shop from anywhere.

use bytes::Bytes;
use cid::Cid;
use futures::TryStreamExt;

use super::json::JsonError;
use crate::dag::DagError;
use crate::dag::read::{load, read_range};
use crate::dag::unixfs::{Link, UnixFs};
use crate::source::BlockSource;

/// Why a file of a shop could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A block of it could not be had, or is not what it should be.
    #[error(transparent)]
    Dag(#[from] DagError),
    /// A file is not what it should be.
    #[error("{cid} is not a file of a shop")]
    Json {
        /// The file.
        cid: Cid,
        /// Why not.
        #[source]
        source: JsonError,
    },
    /// There is no `shop.json`.
    #[error("{root} is not a shop: it has no shop.json")]
    NoShop {
        /// What was looked into.
        root: Cid,
    },
    /// A head names a head before it by something that is no CID.
    #[error("{text:?} is no CID of an earlier head")]
    Ancestor {
        /// What it names.
        text: String,
    },
}

/// The entries of a shop's root, a plain directory.
pub(crate) async fn root_links<S: BlockSource>(
    source: &S,
    root: Cid,
) -> Result<Vec<Link>, ReadError> {
    match load(source, &root).await? {
        UnixFs::Directory(dir) => Ok(dir.links),
        _ => Err(ReadError::NoShop { root }),
    }
}

/// A file of at most `limit` bytes.
pub async fn read_small<S: BlockSource + Clone>(
    source: &S,
    cid: Cid,
    limit: usize,
) -> Result<Bytes, ReadError> {
    // One byte more than may be there, so that a longer file is noticed.
    let mut parts = std::pin::pin!(read_range(source, cid, 0..limit as u64 + 1));
    let mut file = Vec::new();
    while let Some(part) = parts.try_next().await? {
        file.extend_from_slice(&part);
    }
    if file.len() > limit {
        let limit = format!("{limit} bytes");
        return Err(DagError::Limit { cid, limit }.into());
    }
    Ok(file.into())
}
