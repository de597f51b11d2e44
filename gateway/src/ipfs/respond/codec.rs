//! Documents of the IPLD codecs (JSON, CBOR, DAG-JSON, DAG-CBOR): the block's bytes as they are.
//!
//! A document is never converted: asked for as another family, or as the DAG form of a plain codec,
//! the answer is 406 (IPIP-524).

use cid::Cid;
use duka_node::block::{CBOR, DAG_CBOR, DAG_JSON, JSON};
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
    let asked = request.chosen.format;
    let served = served_as(resolved.cid.codec(), asked).ok_or(GatewayError::Format {
        cid: resolved.cid,
        wanted: asked.media_type(),
    })?;
    let block = source.fetch(&resolved.cid).await?;
    let entity = Entity {
        etag: etag(&resolved.cid, asked),
        len: block.data().len() as u64,
    };
    if entity.not_modified(request) {
        return Ok(entity::not_modified(request, resolved, entity.etag));
    }
    let part = entity.part(request)?;
    let body = Body::bytes(slice(block.data(), &part.range)?);
    let content_type = HeaderValue::from_static(served.media_type());
    let mut response = entity.response(request, resolved, &part, content_type, body);
    let (kind, extension) = match served {
        Format::Json | Format::DagJson => (Disposition::Inline, "json"),
        _ => (Disposition::Attachment, "cbor"),
    };
    let name = format!("{}.{extension}", resolved.cid);
    let disposition = content_disposition(request, Some((kind, &name)));
    entity::as_opaque(response.headers_mut(), disposition);
    Ok(response)
}

/// The format that a document of `codec` is served as; `None` when it would have to be converted.
fn served_as(codec: u64, asked: Format) -> Option<Format> {
    match (codec, asked) {
        (JSON, Format::Default | Format::Json) | (DAG_JSON, Format::Json) => Some(Format::Json),
        (DAG_JSON, Format::Default | Format::DagJson) => Some(Format::DagJson),
        (CBOR, Format::Default | Format::Cbor) | (DAG_CBOR, Format::Cbor) => Some(Format::Cbor),
        (DAG_CBOR, Format::Default | Format::DagCbor) => Some(Format::DagCbor),
        _ => None,
    }
}

fn etag(cid: &Cid, asked: Format) -> HeaderValue {
    entity::etag(match asked {
        Format::Default => format!("\"{cid}\""),
        format => format!("\"{cid}.{}\"", format.word()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_family_is_served_and_conversion_is_not() {
        assert_eq!(served_as(DAG_JSON, Format::Default), Some(Format::DagJson));
        assert_eq!(served_as(DAG_JSON, Format::Json), Some(Format::Json));
        assert_eq!(served_as(DAG_CBOR, Format::Cbor), Some(Format::Cbor));
        assert_eq!(served_as(DAG_CBOR, Format::Json), None);
        assert_eq!(served_as(DAG_JSON, Format::DagCbor), None);
        assert_eq!(served_as(JSON, Format::DagJson), None);
        assert_eq!(served_as(CBOR, Format::DagCbor), None);
    }
}
