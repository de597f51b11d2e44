//! Errors of the gateway: one status for each, and what the client is told.
//!
//! A message says what was tried; [`GatewayError::advice`] says what to do about it. Nothing here is
//! cacheable: no `ETag`, no `Cache-Control: immutable`.

use std::sync::Arc;

use askama::Template;
use cid::Cid;
use duka_node::dag::DagError;
use duka_node::denylist::{Denied, Status};
use duka_node::manifest::ManifestError;
use duka_node::name::NameError;
use duka_node::source::FetchError;
use duka_node::source::trustless::Silence;
use http::{HeaderValue, StatusCode, header};

use crate::body::{Body, BodyError};
use crate::ipfs::RedirectsError;

/// Seconds after which a client that was turned away may ask again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("60");

/// What can be done about a denylist.
const DENIED: &str =
    "The operator of this gateway decided so. Ask them if you think that it is a mistake.";

/// Why a request is not answered with what it asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum GatewayError {
    #[error("the request does not name exactly one host")]
    Host,
    #[error("invalid path {path:?}: {reason}")]
    InvalidPath { path: String, reason: String },
    #[error("{name:?} is not a name that this gateway can resolve")]
    UnknownName { name: String },
    #[error("the domain {domain:?} has no DNSLink")]
    NoDnslink { domain: String },
    #[error("no DNS server answered for the domain {domain:?}: {tried}")]
    DnsSilent { domain: String, tried: Arc<str> },
    #[error("the format {media_type} does not exist")]
    UnknownFormat { media_type: String },
    #[error("the parameter {name}={value:?} is not valid: {reason}")]
    BadParameter {
        name: &'static str,
        value: String,
        reason: &'static str,
    },
    #[error("CID incompatible with DNS label length limit of 63: {cid}")]
    LabelTooLong { cid: Cid },
    #[error("this host serves only what clients verify themselves")]
    TrustlessOnly,
    #[error("the name leads through more than 32 names")]
    NameLoop,
    #[error("a service worker must not control a whole /ipfs/ or /ipns/ root")]
    ServiceWorker,
    #[error("only /ipns/<name>, without a path behind it, has an IPNS record")]
    NoRecordHere,
    #[error("{cid} cannot be shown as {wanted}")]
    Format { cid: Cid, wanted: &'static str },
    #[error("{remainder:?} under {cid} is a value, not a link")]
    NotALink { cid: Cid, remainder: String },
    #[error("the name points to {value:?}, which is not a content path")]
    BadValue { value: String },
    #[error("index.html in {directory} is not a file")]
    IndexNotFile { directory: Cid },
    #[error("could not parse _redirects: {0}")]
    Redirects(#[from] RedirectsError),
    #[error("the content is not cached here, and the request forbids to fetch it")]
    NotCached,
    #[error("{path} is not served here")]
    Denied {
        path: String,
        #[source]
        source: Denied,
    },
    #[error("the range is outside the content, which has {len} bytes")]
    Range { len: u64 },
    #[error("too many requests are waiting for the network")]
    Busy,
    #[error("nothing is served at this address")]
    NoRoute,
    #[error("a gateway is only read from")]
    Method,
    #[error("the request's header is too large")]
    HeaderSize,
    #[error(transparent)]
    Dag(#[from] DagError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("rendering the page failed")]
    Render(#[from] askama::Error),
    #[error("the content ended before it began")]
    Body(#[source] BodyError),
}

impl From<FetchError> for GatewayError {
    fn from(error: FetchError) -> Self {
        Self::Dag(error.into())
    }
}

impl From<BodyError> for GatewayError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Dag(error) => Self::Dag(error),
            error => Self::Body(error),
        }
    }
}

impl GatewayError {
    /// The one place that decides a status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Host
            | Self::InvalidPath { .. }
            | Self::UnknownFormat { .. }
            | Self::BadParameter { .. }
            | Self::LabelTooLong { .. }
            | Self::NameLoop
            | Self::Name(NameError::Loop { .. })
            | Self::ServiceWorker
            | Self::NoRecordHere => StatusCode::BAD_REQUEST,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::HeaderSize => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Format { .. } | Self::TrustlessOnly => StatusCode::NOT_ACCEPTABLE,
            Self::NotCached => StatusCode::PRECONDITION_FAILED,
            Self::Denied { source, .. } => denied_status(source),
            Self::Range { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::IndexNotFile { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::NotALink { .. } => StatusCode::NOT_IMPLEMENTED,
            Self::Name(NameError::Silent { silence, .. }) => match silence {
                Silence::TimedOut => StatusCode::GATEWAY_TIMEOUT,
                Silence::Failed => StatusCode::BAD_GATEWAY,
            },
            Self::DnsSilent { .. } => StatusCode::GATEWAY_TIMEOUT,
            // Another process has the manifest, or will have.
            Self::Name(NameError::Manifest(ManifestError::Closed)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::UnknownName { .. }
            | Self::NoDnslink { .. }
            | Self::BadValue { .. }
            | Self::Redirects(_)
            | Self::Name(_)
            | Self::Render(_)
            | Self::Body(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Dag(error) => dag_status(error),
        }
    }

    /// What the person in front of the browser can do.
    fn advice(&self) -> &'static str {
        match self {
            Self::Host => "Send one Host header, with a name or an address and a port.",
            Self::InvalidPath { .. } => {
                "Check that the link was copied whole: it should begin with /ipfs/ and a CID, or /ipns/ and a name."
            }
            Self::UnknownName { .. } => {
                "Use the key form of the name, which begins with k51 or 12D3."
            }
            Self::NoDnslink { .. } => {
                "Check how the domain is written; a new DNSLink is seen within a minute."
            }
            Self::DnsSilent { .. } => "Try again in a minute.",
            Self::UnknownFormat { .. } => {
                "Ask for raw, car, tar, meta4, ipns-record, dag-json, dag-cbor, json or cbor with ?format=."
            }
            Self::BadParameter { name: "uri", .. } => "Ask for /ipfs/<cid> or /ipns/<name>.",
            Self::BadParameter { .. } => {
                "See the trustless gateway specification for the parameters of a CAR."
            }
            Self::LabelTooLong { .. } => {
                "Use a gateway by path, /ipfs/<cid>: the CID is too long for a host name."
            }
            Self::TrustlessOnly => {
                "Ask for a block with ?format=raw, or for a DAG with ?format=car."
            }
            Self::ServiceWorker => "Register the service worker from a path below the root.",
            Self::NoRecordHere => "Ask for /ipns/<name>?format=ipns-record.",
            Self::Format { .. } => {
                "Fetch the block itself with ?format=raw, or the DAG with ?format=car, and convert it yourself."
            }
            Self::NotALink { .. } => "Ask for the document that holds the value.",
            Self::Name(NameError::Silent { .. }) => "Try again in a minute.",
            Self::BadValue { .. } | Self::NameLoop | Self::Name(_) => {
                "Ask whoever published the name, or try again later."
            }
            Self::IndexNotFile { .. } => "Ask for a file inside it by its full path.",
            Self::Redirects(_) => "Tell whoever made the site: its _redirects file has a mistake.",
            Self::NotCached => "Leave out Cache-Control: only-if-cached.",
            Self::Denied { .. } => DENIED,
            Self::Range { .. } => "Ask for bytes inside the content.",
            Self::Busy => "Try again in a minute.",
            Self::NoRoute => "Content is under /ipfs/ and /ipns/.",
            Self::Method => "Use GET, HEAD or OPTIONS.",
            Self::HeaderSize => "Send fewer or shorter headers.",
            Self::Dag(error) => dag_advice(error),
            Self::Render(_) | Self::Body(_) => "Please report this.",
        }
    }

    /// The response: plain text, or a page when the client takes `text/html`.
    pub(crate) fn into_response(self, path: &str, html: bool, head: bool) -> http::Response<Body> {
        let status = self.status();
        log(&self, status, path);
        let message = told(&self);
        let (content_type, text) = if html {
            let page = ErrorPage {
                status,
                message: &message,
                advice: self.advice(),
            };
            (
                "text/html; charset=utf-8",
                page.render().unwrap_or_else(|_| message.clone()),
            )
        } else {
            (
                "text/plain; charset=utf-8",
                format!("{message}\n{}\n", self.advice()),
            )
        };
        let mut response = http::Response::new(Body::empty());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        match &self {
            Self::Range { len } => {
                let range = HeaderValue::try_from(format!("bytes */{len}"));
                headers.insert(
                    header::CONTENT_RANGE,
                    range.expect("digits are a header value"),
                );
            }
            Self::Method => {
                headers.insert(
                    header::ALLOW,
                    HeaderValue::from_static("GET, HEAD, OPTIONS"),
                );
            }
            _ => {}
        }
        if matches!(status.as_u16(), 429 | 502 | 503 | 504) {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if !head {
            *response.body_mut() = Body::bytes(text);
        }
        response
    }
}

fn denied_status(denied: &Denied) -> StatusCode {
    match denied.status {
        Status::Gone => StatusCode::GONE,
        Status::Legal => StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS,
    }
}

fn dag_status(error: &DagError) -> StatusCode {
    match error {
        DagError::NoLink { .. } | DagError::WrongKind { .. } => StatusCode::NOT_FOUND,
        DagError::Limit { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        DagError::Fetch(FetchError::NotFound { .. }) => StatusCode::NOT_FOUND,
        DagError::Fetch(FetchError::TimedOut { .. }) => StatusCode::GATEWAY_TIMEOUT,
        DagError::Fetch(FetchError::Lied { .. } | FetchError::Failed { .. }) => {
            StatusCode::BAD_GATEWAY
        }
        DagError::Fetch(FetchError::Busy { .. }) => StatusCode::TOO_MANY_REQUESTS,
        DagError::Fetch(FetchError::OverBudget { .. }) => StatusCode::UNPROCESSABLE_ENTITY,
        DagError::Fetch(FetchError::Denied { source, .. }) => denied_status(source),
        DagError::Fetch(FetchError::Block(_)) => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn dag_advice(error: &DagError) -> &'static str {
    match error {
        DagError::NoLink { .. } | DagError::WrongKind { .. } => {
            "Check the spelling of the path, or look at the folder above it."
        }
        DagError::Limit { .. } => "Fetch the blocks themselves with ?format=raw.",
        DagError::Fetch(FetchError::NotFound { .. }) => {
            "Try another gateway, or ask whoever gave you the link whether a node still has it."
        }
        DagError::Fetch(
            FetchError::TimedOut { .. } | FetchError::Failed { .. } | FetchError::Busy { .. },
        ) => "Try again in a minute.",
        DagError::Fetch(FetchError::Lied { .. }) => {
            "Nothing wrong was passed on. Try again: another source may have the content."
        }
        DagError::Fetch(FetchError::OverBudget { .. }) => {
            "Ask for a part of it: a file inside, or a range of bytes."
        }
        DagError::Fetch(FetchError::Denied { .. }) => DENIED,
        DagError::Fetch(FetchError::Block(_)) => {
            "Its CID uses a hash or a size that IPFS gateways do not accept."
        }
        DagError::Malformed { .. } => {
            "The content was published damaged: its bytes are what the CID says, but not readable."
        }
        _ => "The operator finds the cause in the log. Try again later.",
    }
}

/// What a client is told: what is wrong with this machine is for its operator, in the log.
fn told(error: &GatewayError) -> String {
    match error {
        GatewayError::Dag(DagError::Fetch(FetchError::Store(error))) => match error.is_damage() {
            true => "this gateway's copy of the content is damaged".to_owned(),
            false => "this gateway cannot read its copy of the content".to_owned(),
        },
        error => message(error),
    }
}

/// The error and its causes, in one line.
fn message(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn log(error: &GatewayError, status: StatusCode, path: &str) {
    let status = status.as_u16();
    let error: &dyn std::error::Error = error;
    if matches!(status, 500 | 502) {
        tracing::warn!(status, path, error, "request failed");
    } else {
        tracing::info!(status, path, error, "request refused");
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    status: StatusCode,
    message: &'a str,
    advice: &'a str,
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use duka_node::store::StoreError;

    use super::*;

    fn missing() -> GatewayError {
        FetchError::NotFound {
            cid: "bafkqaaa".parse().unwrap(),
            tried: "3 peers".to_owned(),
        }
        .into()
    }

    async fn text(response: http::Response<Body>) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn page_says_what_was_tried_and_escapes_what_the_client_sent() {
        let error = GatewayError::InvalidPath {
            path: "/ipfs/<script>alert(1)</script>".to_owned(),
            reason: "no".to_owned(),
        };
        let page = text(error.into_response("/", true, false)).await;
        assert!(
            page.contains("&#60;script&#62;") || page.contains("&lt;script&gt;"),
            "{page}"
        );
        assert!(!page.contains("<script>alert"));
        assert!(
            text(missing().into_response("/", true, false))
                .await
                .contains("3 peers")
        );
    }

    #[tokio::test]
    async fn clients_are_not_told_where_files_are() {
        let damaged = StoreError::Corrupt {
            cid: "bafkqaaa".parse().unwrap(),
            pack: "/srv/shop/kept-1.car".into(),
            offset: 7,
        };
        let error = GatewayError::from(FetchError::Store(damaged));
        let said = text(error.into_response("/", false, false)).await;
        assert!(said.contains("damaged") && !said.contains("/srv"), "{said}");
    }

    #[test]
    fn errors_are_not_cacheable() {
        let response = missing().into_response("/", false, false);
        assert_eq!(response.status(), 404);
        assert!(!response.headers().contains_key(header::ETAG));
        assert!(!response.headers().contains_key(header::CACHE_CONTROL));
    }

    #[tokio::test]
    async fn head_carries_the_headers_of_get_and_no_body() {
        let get = missing().into_response("/", false, false);
        let head = missing().into_response("/", false, true);
        assert_eq!(get.headers(), head.headers());
        assert_eq!(text(head).await, "");
    }

    #[test]
    fn too_many_requests_say_when_to_come_back() {
        let busy = FetchError::Busy {
            cid: "bafkqaaa".parse().unwrap(),
        };
        let response = GatewayError::from(busy).into_response("/", false, false);
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[header::RETRY_AFTER], "60");
    }

    #[test]
    fn a_name_that_a_silent_gateway_may_know_is_worth_another_try() {
        for (silence, status) in [(Silence::TimedOut, 504), (Silence::Failed, 502)] {
            let name = "k51qzi5uqu5din1fzgppghdhrbw1ijlkaj8n70ld7z4uh6erh9l2a2e1lg6j64";
            let silent = NameError::Silent {
                name: name.parse().unwrap(),
                gateway: "http://gateway.example".parse().unwrap(),
                silence,
            };
            let response = GatewayError::from(silent).into_response("/", false, false);
            assert_eq!(response.status(), status);
            assert!(response.headers().contains_key(header::RETRY_AFTER));
        }
    }
}
