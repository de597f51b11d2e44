//! `/routing/v1/providers/CID`: this node, if it has the block. `/routing/v1/ipns/NAME`: the newest record of a name that this node has or finds (Delegated Routing V1,
//! specs.ipfs.tech/routing/http-routing-v1).

use duka_node::keys::Name;
use duka_node::name::NameError;
use duka_node::source::BlockSource;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{Answer, CACHE, Problem, json, with_body};
use serde::Serialize;

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

/// The peers of an answer, as the specification has them.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Providers {
    providers: Vec<Provider>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Provider {
    schema: &'static str,
    #[serde(rename = "ID")]
    id: String,
    addrs: Vec<String>,
    protocols: [&'static str; 1],
}

/// This node, if it serves the block. It knows of no others by heart.
pub(super) async fn providers<B: Backend>(backend: &B, cid: &str) -> Answer {
    let cid = cid.parse().map_err(|_| Problem {
        status: StatusCode::BAD_REQUEST,
        detail: format!("{cid:?} is no CID"),
    })?;
    let mut providers = Vec::new();
    if backend.local().fetch(&cid).await.is_ok()
        && let Some((id, addrs)) = backend.peer().await
    {
        providers.push(Provider {
            schema: "peer",
            id,
            addrs,
            protocols: ["transport-bitswap"],
        });
    }
    let mut response = with_body("application/json", json(&Providers { providers }));
    response.headers_mut().insert(header::CACHE_CONTROL, CACHE);
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
