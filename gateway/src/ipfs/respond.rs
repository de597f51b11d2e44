//! Phase three: from a CID to a response, one file per format.

mod car;
mod codec;
mod dir;
mod document;
mod entity;
mod file;
mod listing;
mod metalink;
mod page;
mod raw;
mod record;
mod tar;

use duka_node::block::{CBOR, DAG_CBOR, DAG_JSON, DAG_PB, JSON, RAW};
use duka_node::dag::read;
use duka_node::dag::unixfs::UnixFs;
use http::Response;

use super::negotiate::Format;
use super::request::ContentRequest;
use super::resolve::Resolved;
use super::source::RequestSource;
use super::{Backend, Gateway};
use crate::body::Body;
use crate::error::GatewayError;

/// Makes the response that the request asked for of the node it led to.
///
/// What is rarely asked for is on the heap, so that a file takes less room and is moved around faster.
pub(super) async fn respond<B: Backend>(
    gateway: &Gateway<B>,
    request: &ContentRequest,
    resolved: Resolved,
    source: RequestSource<B>,
) -> Result<Response<Body>, GatewayError> {
    match request.chosen.format {
        Format::Raw => Box::pin(raw::respond(request, &resolved, &source)).await,
        Format::Car => Box::pin(car::respond(gateway, request, &resolved, source)).await,
        Format::Metalink => Box::pin(metalink::respond(gateway, request, &resolved, &source)).await,
        Format::IpnsRecord => record::respond(request, &resolved),
        Format::Tar => Box::pin(tar::respond(gateway, request, &resolved, source)).await,
        format => match resolved.cid.codec() {
            DAG_PB | RAW => match format {
                Format::DagJson | Format::DagCbor => Err(GatewayError::Format {
                    cid: resolved.cid,
                    wanted: format.media_type(),
                }),
                _ => unixfs(gateway, request, &resolved, source).await,
            },
            DAG_JSON | DAG_CBOR if request.wants_page() => {
                Box::pin(document::respond(request, &resolved, &source)).await
            }
            DAG_JSON | DAG_CBOR | JSON | CBOR => {
                Box::pin(codec::respond(request, &resolved, &source)).await
            }
            _ => Err(GatewayError::Format {
                cid: resolved.cid,
                wanted: "a file or a document",
            }),
        },
    }
}

async fn unixfs<B: Backend>(
    gateway: &Gateway<B>,
    request: &ContentRequest,
    resolved: &Resolved,
    source: RequestSource<B>,
) -> Result<Response<Body>, GatewayError> {
    match read::load(&source, &resolved.cid).await? {
        UnixFs::File(node) => file::respond(gateway, request, resolved, source, node).await,
        UnixFs::Symlink { target } => file::symlink(request, resolved, &target),
        UnixFs::Directory(node) => {
            Box::pin(dir::plain(gateway, request, resolved, source, &node)).await
        }
        UnixFs::Shard(_) => Box::pin(dir::sharded(gateway, request, resolved, source)).await,
    }
}
