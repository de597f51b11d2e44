//! A TAR of the tree (`application/x-tar`): files, folders and symlinks under the CID they came from.

mod entry;

use async_stream::try_stream;
use bytes::{Bytes, BytesMut};
use cid::Cid;
use duka_node::dag::unixfs::{FileNode, Link, UnixFs};
use duka_node::dag::{DagError, DagLimits, read};
use duka_node::source::BlockSource;
use futures::stream::{BoxStream, Stream, StreamExt};
use http::{HeaderValue, Response, header};

use self::entry::{BLOCK, Entry};
use super::entity;
use crate::body::{Body, BodyError};
use crate::error::GatewayError;
use crate::ipfs::conditional;
use crate::ipfs::headers::{Disposition, content_disposition, describe};
use crate::ipfs::negotiate::Format;
use crate::ipfs::request::ContentRequest;
use crate::ipfs::resolve::Resolved;
use crate::ipfs::source::RequestSource;
use crate::ipfs::{Backend, Gateway};

/// Most entries: an end to DAGs that link to the same folder again and again.
const MAX_ENTRIES: usize = 1_000_000;

pub(super) async fn respond<B: Backend>(
    gateway: &Gateway<B>,
    request: &ContentRequest,
    resolved: &Resolved,
    source: RequestSource<B>,
) -> Result<Response<Body>, GatewayError> {
    let cid = resolved.cid;
    let etag = entity::etag(format!("W/\"{cid}.x-tar\""));
    if conditional::not_modified(request.headers(), &etag) {
        return Ok(entity::not_modified(request, resolved, etag));
    }
    // Whether the root is there, and is UnixFS, decides between an error with a status and a stream.
    let root = match read::load(&source, &cid).await {
        Err(DagError::WrongKind { .. }) => {
            return Err(GatewayError::Format {
                cid,
                wanted: Format::Tar.media_type(),
            });
        }
        loaded => loaded?,
    };
    let body = if request.head {
        Body::empty()
    } else {
        let permit = gateway.walk_permit()?;
        let archive = archive(source, cid, root).inspect(move |_| {
            // The permit lives as long as the stream that owns this closure.
            let _walking = &permit;
        });
        Body::stream(archive, None)
    };
    let mut response = Response::new(body);
    let map = response.headers_mut();
    describe(map, request, resolved);
    map.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(Format::Tar.media_type()),
    );
    map.insert(header::ETAG, etag);
    map.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    let name = format!("{cid}.tar");
    let disposition = content_disposition(request, Some((Disposition::Attachment, &name)));
    entity::as_opaque(map, disposition);
    Ok(response)
}

/// A folder whose entries are being archived.
struct Folder {
    cid: Cid,
    /// Below the root of the archive, slashes between names.
    path: String,
    entries: BoxStream<'static, Result<Link, DagError>>,
}

/// The archive: every entry depth first, then its end.
fn archive<S: BlockSource + Clone + 'static>(
    source: S,
    root_cid: Cid,
    root: UnixFs,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static {
    try_stream! {
        let mut folders: Vec<Folder> = Vec::new();
        let mut entries = 0;
        let mut next = Some((root_cid, root_cid.to_string(), root));
        while let Some((cid, path, node)) = next {
            entries += 1;
            check_limits(cid, folders.len(), entries)?;
            match node {
                UnixFs::File(file) if file.children.is_empty() => {
                    yield small_file(&path, &file)?;
                }
                UnixFs::File(file) => {
                    yield Entry::of_file(&path, &file).header()?;
                    let mut missing = file.size;
                    let mut chunks = read::read_range(&source, cid, 0..file.size).boxed();
                    while let Some(chunk) = chunks.next().await.transpose()? {
                        missing = missing.saturating_sub(chunk.len() as u64);
                        yield chunk;
                    }
                    if missing > 0 {
                        Err(BodyError::Short { missing })?;
                    }
                    yield Bytes::from_static(entry::padding(file.size));
                }
                UnixFs::Symlink { target } => {
                    yield Entry::of_symlink(&path, &target).header()?;
                }
                UnixFs::Directory(_) | UnixFs::Shard(_) => {
                    yield Entry::of_folder(&path, &node).header()?;
                    let entries = read::list(&source, cid).boxed();
                    folders.push(Folder { cid, path, entries });
                }
            }
            next = None;
            while let Some(folder) = folders.last_mut() {
                let Some(link) = folder.entries.next().await.transpose()? else {
                    folders.pop();
                    continue;
                };
                let path = entry::join(&folder.path, &link.name).ok_or_else(|| escapes(folder.cid, &link))?;
                next = Some((link.cid, path, read::load(&source, &link.cid).await?));
                break;
            }
        }
        yield Bytes::from_static(&[0; 2 * BLOCK]);
    }
}

/// A file of one block: header, bytes and padding in one piece.
fn small_file(path: &str, file: &FileNode) -> Result<Bytes, BodyError> {
    let header = Entry::of_file(path, file).header()?;
    let padding = entry::padding(file.size);
    let mut bytes = BytesMut::with_capacity(header.len() + file.data.len() + padding.len());
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(&file.data);
    bytes.extend_from_slice(padding);
    Ok(bytes.freeze())
}

fn check_limits(cid: Cid, depth: usize, entries: usize) -> Result<(), DagError> {
    let most = DagLimits::current().depth;
    let limit = match (depth > most, entries > MAX_ENTRIES) {
        (true, _) => format!("{most} folders in one another"),
        (_, true) => format!("{MAX_ENTRIES} entries of a TAR"),
        _ => return Ok(()),
    };
    Err(DagError::Limit { cid, limit })
}

fn escapes(cid: Cid, link: &Link) -> DagError {
    let name = String::from_utf8_lossy(&link.name);
    DagError::Malformed {
        cid,
        what: "UnixFS",
        reason: format!("the name {name:?} leads out of the folder"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_entries_have_a_limit() {
        let cid: Cid = "bafkqaaa".parse().unwrap();
        let depth = DagLimits::current().depth;
        assert!(check_limits(cid, depth, MAX_ENTRIES).is_ok());
        assert!(check_limits(cid, depth + 1, 1).is_err());
        assert!(check_limits(cid, 1, MAX_ENTRIES + 1).is_err());
    }
}
