//! The one route table.

use duka_node::rate::Rate;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Version, header};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::api;
use crate::body::Body;
use crate::error::GatewayError;
use crate::health;
use crate::ipfs::{Backend, Gateway, Site, accepts_html, allow_every_origin};
use crate::metrics::{self, GatewayMetrics, InProgress};
use crate::server::{Peer, Readiness};

/// Everything that a request to one listener can reach.
#[derive(Debug)]
pub(crate) struct Routes<B: Backend> {
    gateway: Option<Gateway<B>>,
    admin: Option<Admin>,
    metrics: GatewayMetrics,
    /// How fast answers leave, all together.
    rate: Option<Rate>,
}

/// What `/healthz`, `/readyz` and `/metrics` show.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Option<PrometheusHandle>,
}

impl<B: Backend> Routes<B> {
    /// Those of the gateway, and the others where they have no listener of their own.
    pub(crate) fn public(gateway: Gateway<B>, admin: Option<Admin>) -> Self {
        let rate = gateway.backend().rate();
        Self {
            gateway: Some(gateway),
            admin,
            metrics: GatewayMetrics::new(),
            rate,
        }
    }

    /// Only those of the operator.
    pub(crate) fn admin(admin: Admin) -> Self {
        Self {
            gateway: None,
            admin: Some(admin),
            metrics: GatewayMetrics::new(),
            rate: None,
        }
    }

    /// Answers a request. Its body is not read: nothing here takes one.
    pub(crate) async fn answer<T>(&self, request: Request<T>, peer: Peer) -> Response<Body> {
        let in_progress = self.metrics.request();
        let (parts, _) = request.into_parts();
        let answer = finish(self.route(parts, peer).await, in_progress);
        match &self.rate {
            Some(rate) => answer.map(|body| body.paced(rate)),
            None => answer,
        }
    }

    /// Refuses a request whose header is over the limit.
    pub(crate) fn too_large<T>(&self, request: Request<T>) -> Response<Body> {
        let in_progress = self.metrics.request();
        let refusal = refuse(GatewayError::HeaderSize, &request.into_parts().0);
        finish(refusal, in_progress)
    }

    /// Answers a `CONNECT`: the gateway is at the end of every tunnel itself.
    pub(crate) fn connect(&self) -> Response<Body> {
        let in_progress = self.metrics.request();
        finish(Response::new(Body::empty()), in_progress)
    }

    async fn route(&self, mut parts: Parts, peer: Peer) -> Response<Body> {
        if !names_one_host(&parts) {
            return refuse(GatewayError::Host, &parts);
        }
        match parts.method {
            Method::GET | Method::HEAD => {}
            Method::OPTIONS => return options(),
            _ => return refuse(GatewayError::Method, &parts),
        }
        let mut refusal = GatewayError::NoRoute;
        if let Some(gateway) = &self.gateway {
            let site = gateway.site(&parts, peer).await;
            parts.extensions.insert(peer);
            if is_content(parts.uri.path()) || site.is_one_root() {
                return gateway.answer(parts, site).await;
            }
            if let Some(answer) = api::answer(gateway.backend(), &parts).await {
                return answer;
            }
            if let Site::Unknown { domain, tried } = site {
                refusal = GatewayError::DnsSilent { domain, tried };
            }
        }
        let page = self.admin.as_ref().and_then(|admin| admin.page(&parts));
        page.unwrap_or_else(|| refuse(refusal, &parts))
    }
}

impl Admin {
    fn page(&self, parts: &Parts) -> Option<Response<Body>> {
        match parts.uri.path() {
            "/healthz" => Some(health::alive()),
            "/readyz" => Some(health::ready(&self.readiness)),
            "/metrics" => self.metrics.as_ref().map(metrics::page),
            _ => None,
        }
    }
}

/// What every answer gets, whatever it is.
fn finish(mut response: Response<Body>, in_progress: InProgress<'_>) -> Response<Body> {
    allow_every_origin(response.headers_mut());
    in_progress.answered(response.status());
    response
}

fn is_content(path: &str) -> bool {
    let rest = path
        .strip_prefix("/ipfs")
        .or_else(|| path.strip_prefix("/ipns"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether there is no doubt about the host: a proxy before the gateway may take the other one of two.
fn names_one_host(parts: &Parts) -> bool {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => parts.version != Version::HTTP_11,
        (Some(host), None) => host.as_bytes().iter().copied().all(is_host_byte),
        (Some(_), Some(_)) => false,
    }
}

/// A byte of a name or address with a port (RFC 3986, without user names).
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(&byte)
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
