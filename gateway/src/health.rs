//! `/healthz` and `/readyz`.

use http::{HeaderValue, Response, StatusCode, header};

use crate::body::Body;
use crate::server::{Phase, Readiness};

/// The process answers.
pub(crate) fn alive() -> Response<Body> {
    text(StatusCode::OK, "ok\n")
}

/// Requests are welcome: 200, else 503 with the reason.
pub(crate) fn ready(readiness: &Readiness) -> Response<Body> {
    match readiness.phase() {
        Phase::Ready => text(StatusCode::OK, "ready\n"),
        Phase::Starting => text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::bytes(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
