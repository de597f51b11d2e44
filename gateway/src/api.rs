//! `/api/v1/`: what the node knows, as JSON for programs. Errors are problem details (RFC 9457).

mod search;

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde::Serialize;

use crate::body::Body;
use crate::ipfs::Backend;

pub use search::{Hit, SearchPage};

/// Where everything of the API is.
const PREFIX: &str = "/api/v1/";
/// What is known changes with the next head.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=10");

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

/// The answer, if the path is one of the API.
pub(crate) async fn answer<B: Backend>(backend: &B, parts: &Parts) -> Option<Response<Body>> {
    let what = parts.uri.path().strip_prefix(PREFIX)?;
    let answer = match what {
        "search" => search::search(backend, parts.uri.query().unwrap_or_default()).await,
        _ => Err(Problem {
            status: StatusCode::NOT_FOUND,
            detail: format!("there is no {}; there is {PREFIX}search", parts.uri.path()),
        }),
    };
    let is_head = parts.method == Method::HEAD;
    Some(match answer {
        Ok(page) => {
            let mut response = json(StatusCode::OK, "application/json", &page, is_head);
            response.headers_mut().insert(header::CACHE_CONTROL, CACHE);
            response
        }
        Err(Problem { status, detail }) => {
            let details = Details {
                title: status.canonical_reason().unwrap_or_default(),
                status: status.as_u16(),
                detail: &detail,
            };
            json(status, "application/problem+json", &details, is_head)
        }
    })
}

fn json(
    status: StatusCode,
    content_type: &'static str,
    value: &impl Serialize,
    is_head: bool,
) -> Response<Body> {
    let text = serde_json::to_vec(value).expect("texts and numbers have a JSON form");
    let len = text.len();
    let body = if is_head {
        Body::empty()
    } else {
        Body::bytes(text)
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}
