//! `/routing/v1/ipns/NAME`: the newest record of a name that this node has or finds (Delegated Routing V1,
//! specs.ipfs.tech/routing/http-routing-v1).

use duka_node::keys::Name;
use duka_node::name::NameError;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{Answer, Problem, with_body};
use crate::ipfs::Backend;

const RECORD: &str = "application/vnd.ipfs.ipns-record";

pub(super) async fn record<B: Backend>(backend: &B, name: &str, parts: &Parts) -> Answer {
    let name: Name = name.parse().map_err(|_| Problem {
        status: StatusCode::BAD_REQUEST,
        detail: format!("{name:?} is no IPNS name"),
    })?;
    if !takes_records(&parts.headers) {
        return Err(Problem {
            status: StatusCode::NOT_ACCEPTABLE,
            detail: format!("a record comes as {RECORD} only"),
        });
    }
    let resolved = backend.resolve_name(&name).await.map_err(refused)?;
    let mut response = with_body(RECORD, resolved.record.bytes);
    let headers = response.headers_mut();
    let cache = format!("public, max-age={}", resolved.max_age);
    let cache = HeaderValue::try_from(cache).expect("digits are a header value");
    headers.insert(header::CACHE_CONTROL, cache);
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

fn takes_records(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT);
    let accept = accept
        .and_then(|value| value.to_str().ok())
        .unwrap_or("*/*");
    let mut kinds = accept.split(',').map(|kind| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim().to_ascii_lowercase()
    });
    kinds.any(|kind| matches!(kind.as_str(), RECORD | "application/*" | "*/*"))
}

fn refused(error: NameError) -> Problem {
    let status = match &error {
        NameError::NotFound { .. } => StatusCode::NOT_FOUND,
        NameError::Silent { .. } => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    Problem {
        status,
        detail: error.to_string(),
    }
}
