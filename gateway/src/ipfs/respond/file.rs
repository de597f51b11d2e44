//! A UnixFS file, whole or a range, and the body of a symlink.

use std::ops::Range;

use bytes::Bytes;
use cid::Cid;
use duka_node::dag::unixfs::FileNode;
use duka_node::dag::{DagError, read};
use futures::future;
use futures::stream::{self, StreamExt};
use http::{HeaderValue, Response, StatusCode, header};

use super::entity::{self, Entity};
use super::metalink;
use crate::body::Body;
use crate::error::GatewayError;
use crate::ipfs::digest;
use crate::ipfs::headers::content_disposition;
use crate::ipfs::mime;
use crate::ipfs::request::ContentRequest;
use crate::ipfs::resolve::Resolved;
use crate::ipfs::source::RequestSource;
use crate::ipfs::{Backend, Gateway};

/// The file that the path led to.
pub(super) async fn respond<B: Backend>(
    gateway: &Gateway<B>,
    request: &ContentRequest,
    resolved: &Resolved,
    source: RequestSource<B>,
    node: FileNode,
) -> Result<Response<Body>, GatewayError> {
    let etag = entity::etag(format!("\"{}\"", resolved.cid));
    let named = request
        .query
        .filename
        .as_deref()
        .or(request.segments().last().map(String::as_str));
    let content_type = named.and_then(mime::by_name);
    let cid = resolved.cid;
    let is_large = !node.children.is_empty();
    let mut response = send(request, resolved, source, cid, node, etag, content_type).await?;
    let whole = response.status() == StatusCode::OK;
    let headers = response.headers_mut();
    if let Some(digest) = gateway.digests.known(&cid) {
        digest::tell(headers, &digest, whole);
    }
    if is_large {
        metalink::link(headers, request, &gateway.mirrors, &cid);
    }
    Ok(response)
}

/// `index.html` of a directory: the entity is the directory, the bytes are the file's.
pub(super) async fn index<B: Backend>(
    request: &ContentRequest,
    directory: &Resolved,
    source: RequestSource<B>,
    cid: Cid,
    node: FileNode,
) -> Result<Response<Body>, GatewayError> {
    let etag = entity::etag(format!("\"{}\"", directory.cid));
    let content_type = HeaderValue::from_static(mime::HTML);
    send(
        request,
        directory,
        source,
        cid,
        node,
        etag,
        Some(content_type),
    )
    .await
}

/// The target of a symlink, which is never followed.
pub(super) fn symlink(
    request: &ContentRequest,
    resolved: &Resolved,
    target: &Bytes,
) -> Result<Response<Body>, GatewayError> {
    let entity = Entity {
        etag: entity::etag(format!("\"{}\"", resolved.cid)),
        len: target.len() as u64,
    };
    if entity.not_modified(request) {
        return Ok(entity::not_modified(request, resolved, entity.etag));
    }
    let part = entity.part(request)?;
    let body = Body::bytes(slice(target, &part.range)?);
    let content_type = HeaderValue::from_static("inode/symlink");
    Ok(entity.response(request, resolved, &part, content_type, body))
}

async fn send<B: Backend>(
    request: &ContentRequest,
    resolved: &Resolved,
    source: RequestSource<B>,
    cid: Cid,
    node: FileNode,
    etag: HeaderValue,
    content_type: Option<HeaderValue>,
) -> Result<Response<Body>, GatewayError> {
    let entity = Entity {
        etag,
        len: node.size,
    };
    if entity.not_modified(request) {
        return Ok(entity::not_modified(request, resolved, entity.etag));
    }
    let part = entity.part(request)?;
    let (content_type, body) = if node.children.is_empty() {
        let content_type = content_type.unwrap_or_else(|| sniffed(&node.data, true));
        (content_type, Body::bytes(slice(&node.data, &part.range)?))
    } else {
        let head = match content_type {
            Some(content_type) => Head::Known(content_type),
            None => Head::Sniff {
                partial: part.partial,
            },
        };
        stream_file(
            &source,
            cid,
            entity.len,
            part.range.clone(),
            head,
            request.head,
        )
        .await?
    };
    let mut response = entity.response(request, resolved, &part, content_type, body);
    if let Some(disposition) = content_disposition(request, None) {
        response
            .headers_mut()
            .insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// Where the content type comes from.
enum Head {
    Known(HeaderValue),
    Sniff { partial: bool },
}

/// The body of a file of several blocks. The first bytes are read before the header is sent, so that
/// a file whose beginning is missing is an error with a status and not a cut connection.
async fn stream_file<B: Backend>(
    source: &RequestSource<B>,
    cid: Cid,
    len: u64,
    range: Range<u64>,
    head: Head,
    headers_only: bool,
) -> Result<(HeaderValue, Body), GatewayError> {
    if headers_only {
        let content_type = match head {
            Head::Known(content_type) => content_type,
            Head::Sniff { .. } => sniff_file(source, cid, len).await?,
        };
        return Ok((content_type, Body::empty()));
    }
    let content_type = match &head {
        // A range may be there although the file's beginning is not.
        Head::Sniff { partial: true } => Some(
            sniff_file(source, cid, len)
                .await
                .unwrap_or(HeaderValue::from_static(mime::OCTET_STREAM)),
        ),
        _ => None,
    };
    let total = range.end.saturating_sub(range.start);
    let mut chunks = Box::pin(read::read_range(source, cid, range));
    let first = chunks.next().await.transpose()?.unwrap_or_default();
    let content_type = match (head, content_type) {
        (Head::Known(content_type), _) | (_, Some(content_type)) => content_type,
        (Head::Sniff { .. }, None) => sniffed(&first, first.len() as u64 == len),
    };
    let first = stream::once(future::ready(Ok::<_, DagError>(first)));
    Ok((content_type, Body::stream(first.chain(chunks), Some(total))))
}

async fn sniff_file<B: Backend>(
    source: &RequestSource<B>,
    cid: Cid,
    len: u64,
) -> Result<HeaderValue, GatewayError> {
    let mut chunks = Box::pin(read::read_range(source, cid, 0..len.min(mime::SNIFF_LEN)));
    let first = chunks.next().await.transpose()?.unwrap_or_default();
    Ok(sniffed(&first, first.len() as u64 == len))
}

fn sniffed(head: &Bytes, whole: bool) -> HeaderValue {
    let window = usize::try_from(mime::SNIFF_LEN).unwrap_or(usize::MAX);
    let (head, whole) = match head.get(..window) {
        Some(window) => (window, whole && window.len() == head.len()),
        None => (&head[..], whole),
    };
    HeaderValue::from_static(mime::sniff(head, whole))
}

/// A part of bytes at hand, without copying them.
pub(super) fn slice(data: &Bytes, range: &Range<u64>) -> Result<Bytes, GatewayError> {
    let bound = |at| usize::try_from(at).ok().filter(|at| *at <= data.len());
    match (bound(range.start), bound(range.end)) {
        (Some(start), Some(end)) if start <= end => Ok(data.slice(start..end)),
        _ => Err(GatewayError::Range {
            len: data.len() as u64,
        }),
    }
}
