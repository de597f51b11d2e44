//! The signed record of a name, as it is (`application/vnd.ipfs.ipns-record`).

use bytes::Bytes;
use duka_node::dag::path::Root;
use http::{HeaderValue, Response, header};

use super::entity::{self, Entity, Part};
use crate::body::Body;
use crate::error::GatewayError;
use crate::ipfs::headers::{Disposition, content_disposition};
use crate::ipfs::negotiate::Format;
use crate::ipfs::request::ContentRequest;
use crate::ipfs::resolve::Resolved;

pub(super) fn respond(
    request: &ContentRequest,
    resolved: &Resolved,
) -> Result<Response<Body>, GatewayError> {
    let (Some(record), Root::Name(name)) = (&resolved.record, &request.root) else {
        return Err(GatewayError::NoRecordHere);
    };
    let bytes = Bytes::copy_from_slice(&record.bytes);
    let entity = Entity {
        etag: entity::etag(format!(
            "\"{}.ipns-record\"",
            duka_node::block::cid_of(0x55, &bytes)
        )),
        len: bytes.len() as u64,
    };
    if entity.not_modified(request) {
        return Ok(entity::not_modified(request, resolved, entity.etag));
    }
    let whole = Part {
        range: 0..entity.len,
        partial: false,
    };
    let content_type = HeaderValue::from_static(Format::IpnsRecord.media_type());
    let body = Body::bytes(bytes);
    let mut response = entity.response(request, resolved, &whole, content_type, body);
    response.headers_mut().remove(header::ACCEPT_RANGES);
    let file_name = format!("{name}.ipns-record");
    let disposition = content_disposition(request, Some((Disposition::Attachment, &file_name)));
    entity::as_opaque(response.headers_mut(), disposition);
    Ok(response)
}
