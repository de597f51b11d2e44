//! What the node knows, for programs: `/api/v1/` and `/routing/v1/`. Errors are problem details (RFC 9457).

mod routing;
mod search;

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde::Serialize;

use crate::body::Body;
use crate::ipfs::Backend;

pub use search::{Hit, SearchPage};

/// Seconds after which who is refused for now may ask again.
const RETRY: HeaderValue = HeaderValue::from_static("2");
/// What is known changes with the next head.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=10");

type Answer = Result<Response<Body>, Problem>;

/// What went wrong, and with what.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    detail: String,
}

/// Problem details; the `type` is `about:blank`, so the title is that of the status.
#[derive(Serialize)]
struct Details<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
}

/// The answer, if the path is one of these.
pub(crate) async fn answer<B: Backend>(backend: &B, parts: &Parts) -> Option<Response<Body>> {
    let path = parts.uri.path();
    let answer = if path == "/api/v1/search" {
        let query = parts.uri.query().unwrap_or_default();
        search::search(backend, query).await
    } else if let Some(name) = path.strip_prefix("/routing/v1/ipns/") {
        routing::record(backend, name, parts).await
    } else if let Some(cid) = path.strip_prefix("/routing/v1/providers/") {
        routing::providers(backend, cid).await
    } else if path.starts_with("/api/v1/") || path.starts_with("/routing/v1/") {
        Err(Problem {
            status: StatusCode::NOT_FOUND,
            detail: format!(
                "there is no {path}; there are /api/v1/search, /routing/v1/ipns/NAME and \
                 /routing/v1/providers/CID"
            ),
        })
    } else {
        return None;
    };
    let mut response = answer.unwrap_or_else(Problem::into_response);
    let nosniff = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    if parts.method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    Some(response)
}

impl Problem {
    fn into_response(self) -> Response<Body> {
        let details = Details {
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: &self.detail,
        };
        let mut response = with_body("application/problem+json", json(&details));
        *response.status_mut() = self.status;
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY);
        }
        response
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers have a JSON form")
}

fn with_body(content_type: &'static str, bytes: Vec<u8>) -> Response<Body> {
    let len = bytes.len();
    let mut response = Response::new(Body::bytes(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    response
}
