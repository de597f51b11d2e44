//! A directory: redirect to its slash, `index.html`, or a listing.

use cid::Cid;
use duka_node::dag::unixfs::{DirNode, UnixFs};
use duka_node::dag::{DagError, path, read};
use http::{Response, StatusCode};

use super::{file, listing};
use crate::body::Body;
use crate::error::GatewayError;
use crate::ipfs::request::ContentRequest;
use crate::ipfs::resolve::Resolved;
use crate::ipfs::source::RequestSource;
use crate::ipfs::{Backend, Gateway, redirect};

const INDEX: &str = "index.html";

/// A directory of one node.
pub(super) async fn plain<B: Backend>(
    gateway: &Gateway<B>,
    request: &ContentRequest,
    resolved: &Resolved,
    source: RequestSource<B>,
    node: &DirNode,
) -> Result<Response<Body>, GatewayError> {
    if let Some(response) = to_slash(request) {
        return Ok(response);
    }
    let index = node.links.iter().find(|link| link.name == INDEX.as_bytes());
    if let Some(index) = index {
        return serve_index(request, resolved, source, index.cid).await;
    }
    listing::respond(gateway, request, resolved, source, false).await
}

/// A HAMT directory.
pub(super) async fn sharded<B: Backend>(
    gateway: &Gateway<B>,
    request: &ContentRequest,
    resolved: &Resolved,
    source: RequestSource<B>,
) -> Result<Response<Body>, GatewayError> {
    if let Some(response) = to_slash(request) {
        return Ok(response);
    }
    match path::resolve(&source, resolved.cid, &[INDEX.to_owned()]).await {
        Ok(index) => serve_index(request, resolved, source, index.cid).await,
        Err(DagError::NoLink { .. }) => {
            listing::respond(gateway, request, resolved, source, true).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Relative links of a page work only below a slash. Go's tools ask without one on purpose.
pub(super) fn to_slash(request: &ContentRequest) -> Option<Response<Body>> {
    if request.path.trailing_slash || request.query.go_get {
        return None;
    }
    Some(redirect(
        StatusCode::MOVED_PERMANENTLY,
        request.as_directory(),
    ))
}

async fn serve_index<B: Backend>(
    request: &ContentRequest,
    directory: &Resolved,
    source: RequestSource<B>,
    cid: Cid,
) -> Result<Response<Body>, GatewayError> {
    match read::load(&source, &cid).await? {
        UnixFs::File(node) => file::index(request, directory, source, cid, node).await,
        _ => Err(GatewayError::IndexNotFile {
            directory: directory.cid,
        }),
    }
}
