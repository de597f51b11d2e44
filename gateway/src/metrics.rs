//! Figures of the gateway, and `/metrics`.

use std::time::Instant;

use http::{HeaderValue, Response, StatusCode, header};
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::body::Body;

/// Handles that are looked up once.
pub(crate) struct GatewayMetrics {
    by_class: [Counter; 6],
    in_progress: Gauge,
    header_seconds: Histogram,
}

impl std::fmt::Debug for GatewayMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewayMetrics").finish_non_exhaustive()
    }
}

impl GatewayMetrics {
    pub(crate) fn new() -> Self {
        describe_counter!(
            "duka_gateway_requests_total",
            "Requests answered, by status class"
        );
        describe_gauge!(
            "duka_gateway_requests_in_progress",
            "Requests whose header is not sent"
        );
        describe_histogram!(
            "duka_gateway_header_seconds",
            metrics::Unit::Seconds,
            "Time from a request to the header of its response"
        );
        let class = |class| counter!("duka_gateway_requests_total", "status" => class);
        Self {
            by_class: ["other", "1xx", "2xx", "3xx", "4xx", "5xx"].map(class),
            in_progress: gauge!("duka_gateway_requests_in_progress"),
            header_seconds: histogram!("duka_gateway_header_seconds"),
        }
    }

    /// A request began. The guard takes its end, or that the client left.
    pub(crate) fn request(&self) -> InProgress<'_> {
        self.in_progress.increment(1);
        InProgress {
            metrics: self,
            since: Instant::now(),
        }
    }
}

/// A request whose response has no header yet.
pub(crate) struct InProgress<'a> {
    metrics: &'a GatewayMetrics,
    since: Instant,
}

impl InProgress<'_> {
    pub(crate) fn answered(self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        let [other, ..] = &self.metrics.by_class;
        self.metrics
            .by_class
            .get(class)
            .unwrap_or(other)
            .increment(1);
        self.metrics.header_seconds.record(self.since.elapsed());
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.metrics.in_progress.decrement(1);
    }
}

/// All figures of the process, in the Prometheus text format.
pub(crate) fn page(handle: &PrometheusHandle) -> Response<Body> {
    let mut response = Response::new(Body::bytes(handle.render()));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}
