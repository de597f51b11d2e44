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
pub(super) async fn respond<B: Backend>(
    gateway: &Gateway<B>,
    request: &ContentRequest,
    resolved: Resolved,
    source: RequestSource<B>,
) -> Result<Response<Body>, GatewayError> {
    match request.chosen.format {
        Format::Raw => raw::respond(request, &resolved, &source).await,
        Format::Car => car::respond(gateway, request, &resolved, source).await,
        Format::Metalink => metalink::respond(gateway, request, &resolved, &source).await,
        Format::IpnsRecord => record::respond(request, &resolved),
        Format::Tar => tar::respond(gateway, request, &resolved, source).await,
        format => match resolved.cid.codec() {
            DAG_PB | RAW => match format {
                Format::DagJson | Format::DagCbor => Err(GatewayError::Format {
                    cid: resolved.cid,
                    wanted: format.media_type(),
                }),
                _ => unixfs(gateway, request, &resolved, source).await,
            },
            DAG_JSON | DAG_CBOR if request.wants_page() => {
                document::respond(request, &resolved, &source).await
            }
            DAG_JSON | DAG_CBOR | JSON | CBOR => codec::respond(request, &resolved, &source).await,
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
        UnixFs::Directory(node) => dir::plain(gateway, request, resolved, source, &node).await,
        UnixFs::Shard(_) => dir::sharded(gateway, request, resolved, source).await,
    }
}
