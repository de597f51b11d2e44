//! One block, as it is (`application/vnd.ipld.raw`).

use duka_node::source::BlockSource;
use http::{HeaderValue, Response};

use super::entity::{self, Entity};
use super::file::slice;
use crate::body::Body;
use crate::error::GatewayError;
use crate::ipfs::Backend;
use crate::ipfs::headers::{Disposition, content_disposition};
use crate::ipfs::negotiate::Format;
use crate::ipfs::request::ContentRequest;
use crate::ipfs::resolve::Resolved;
use crate::ipfs::source::RequestSource;

pub(super) async fn respond<B: Backend>(
    request: &ContentRequest,
    resolved: &Resolved,
    source: &RequestSource<B>,
) -> Result<Response<Body>, GatewayError> {
    let block = source.fetch(&resolved.cid).await?;
    let entity = Entity {
        etag: entity::etag(format!("\"{}.raw\"", resolved.cid)),
        len: block.data().len() as u64,
    };
    if entity.not_modified(request) {
        return Ok(entity::not_modified(request, resolved, entity.etag));
    }
    let part = entity.part(request)?;
    let body = Body::bytes(slice(block.data(), &part.range)?);
    let content_type = HeaderValue::from_static(Format::Raw.media_type());
    let mut response = entity.response(request, resolved, &part, content_type, body);
    let name = format!("{}.bin", resolved.cid);
    let disposition = content_disposition(request, Some((Disposition::Attachment, &name)));
    entity::as_opaque(response.headers_mut(), disposition);
    Ok(response)
}
