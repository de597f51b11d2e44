//! The one route table.

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, header};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::body::Body;
use crate::error::GatewayError;
use crate::health;
use crate::ipfs::{Backend, Gateway, Peer, accepts_html, allow_every_origin};
use crate::metrics::{self, GatewayMetrics};
use crate::server::Readiness;

/// Everything that a request can reach.
#[derive(Debug)]
pub(crate) struct Routes<B: Backend> {
    gateway: Gateway<B>,
    readiness: Readiness,
    prometheus: Option<PrometheusHandle>,
    metrics: GatewayMetrics,
}

impl<B: Backend> Routes<B> {
    pub(crate) fn new(
        gateway: Gateway<B>,
        readiness: Readiness,
        prometheus: Option<PrometheusHandle>,
    ) -> Self {
        Self {
            gateway,
            readiness,
            prometheus,
            metrics: GatewayMetrics::new(),
        }
    }

    /// Answers a request. Its body is not read: nothing here takes one.
    pub(crate) async fn answer<T>(&self, request: Request<T>, peer: IpAddr) -> Response<Body> {
        let in_progress = self.metrics.request();
        let (parts, _) = request.into_parts();
        let mut response = self.route(parts, peer).await;
        allow_every_origin(response.headers_mut());
        in_progress.answered(response.status());
        response
    }

    /// Answers a `CONNECT`: the gateway is at the end of every tunnel itself.
    pub(crate) fn connect(&self) -> Response<Body> {
        let in_progress = self.metrics.request();
        let mut response = Response::new(Body::empty());
        allow_every_origin(response.headers_mut());
        in_progress.answered(response.status());
        response
    }

    async fn route(&self, mut parts: Parts, peer: IpAddr) -> Response<Body> {
        match parts.method {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => return options(),
            _ => return refuse(GatewayError::Method, &parts),
        }
        let site = self.gateway.site(&parts, peer);
        parts.extensions.insert(Peer(peer));
        match parts.uri.path() {
            path if is_content(path) || site.is_one_root() => {
                self.gateway.answer(parts, site).await
            }
            "/healthz" => health::alive(),
            "/readyz" => health::ready(&self.readiness),
            "/metrics" => match &self.prometheus {
                Some(handle) => metrics::page(handle),
                None => refuse(GatewayError::NoRoute, &parts),
            },
            _ => refuse(GatewayError::NoRoute, &parts),
        }
    }
}

fn is_content(path: &str) -> bool {
    let rest = path
        .strip_prefix("/ipfs")
        .or_else(|| path.strip_prefix("/ipns"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn options() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(
        header::ALLOW,
        HeaderValue::from_static("GET, HEAD, OPTIONS"),
    );
    response
}

fn refuse(error: GatewayError, parts: &Parts) -> Response<Body> {
    let head = parts.method == Method::HEAD;
    error.into_response(parts.uri.path(), accepts_html(&parts.headers), head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_namespaces_are_content() {
        assert!(is_content("/ipfs/x"));
        assert!(is_content("/ipns"));
        assert!(!is_content("/ipfsx"));
        assert!(!is_content("/api/v0/cat"));
        assert!(!is_content("/"));
    }
}
