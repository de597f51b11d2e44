//! What the pages of the gateway share: where their links lead, and how long they stay true.

use std::fmt::Write as _;

use cid::Cid;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Body as _;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::entity;
use crate::body::Body;
use crate::error::GatewayError;
use crate::ipfs::conditional;
use crate::ipfs::headers::describe;
use crate::ipfs::path::encode_segment;
use crate::ipfs::request::{ContentRequest, Place};
use crate::ipfs::resolve::{Freshness, Resolved};

/// A page may change with the gateway's version, so caches keep it for a week only.
const CACHE_CONTROL: HeaderValue =
    HeaderValue::from_static("public, max-age=604800, stale-while-revalidate=2678400");

/// The page that explains a CID, where the host is no gateway for it.
const EXPLORER: &str = "https://cid.ipfs.tech/#";

/// Escapes everything that means something in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A page about the content; `body` is made only for a client that does not have it. Where a `HEAD`
/// would cost too much there is none, and no length is told.
pub(super) async fn answer(
    request: &ContentRequest,
    resolved: &Resolved,
    etag: HeaderValue,
    body: impl Future<Output = Result<Option<Body>, GatewayError>>,
) -> Result<Response<Body>, GatewayError> {
    let mut response = if conditional::not_modified(request.headers(), &etag) {
        entity::not_modified(request, resolved, etag)
    } else {
        let body = body.await?;
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        if let Some(len) = body.as_ref().and_then(|body| body.size_hint().exact()) {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
        }
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, html);
        headers.insert(header::ETAG, etag);
        describe(headers, request, resolved);
        if let Some(body) = body.filter(|_| !request.head) {
            *response.body_mut() = body;
        }
        response
    };
    limit_freshness(response.headers_mut(), resolved);
    Ok(response)
}

/// What does not change may still be shown in another way one day.
pub(super) fn limit_freshness(headers: &mut HeaderMap, resolved: &Resolved) {
    if resolved.freshness == Freshness::Immutable {
        headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    }
}

/// A segment of the content path.
pub(super) struct Crumb<'a> {
    pub(super) name: &'a str,
    pub(super) href: String,
}

/// The content path with a link for each segment but the first. Where the host names the root, other
/// roots are on the gateway's host; a domain has no gateway.
pub(super) fn crumbs(request: &ContentRequest) -> Vec<Crumb<'_>> {
    let segments = request.path.segments.iter().enumerate();
    let mut href = match &request.place {
        Place::Path => String::new(),
        Place::Subdomain(gateway) => format!("//{gateway}"),
        Place::Domain(host) => format!("//{host}"),
    };
    let is_domain = matches!(request.place, Place::Domain(_));
    let mut crumbs = Vec::with_capacity(segments.len());
    for (at, segment) in segments {
        match at {
            0 | 1 if is_domain => {}
            _ => write!(href, "/{}", encode_segment(segment)).expect("a String takes everything"),
        }
        match at {
            0 => {}
            1 if is_domain => crumbs.push(Crumb {
                name: segment,
                href: format!("{href}/"),
            }),
            _ => crumbs.push(Crumb {
                name: segment,
                href: href.clone(),
            }),
        }
    }
    crumbs
}

/// Where links to other CIDs lead.
pub(super) struct CidLinks {
    /// What goes before `/ipfs/<cid>`; `None` where no gateway is known.
    pub(super) gateway: Option<String>,
}

impl CidLinks {
    pub(super) fn of(request: &ContentRequest) -> Self {
        Self {
            gateway: match &request.place {
                Place::Path => Some(String::new()),
                Place::Subdomain(gateway) => Some(format!("//{gateway}")),
                Place::Domain(_) => None,
            },
        }
    }

    /// Whether the links leave the site.
    pub(super) fn outside(&self) -> bool {
        self.gateway.is_none()
    }

    /// The URL of `cid`; a gateway saves it as `file_name`.
    pub(super) fn href(&self, cid: &Cid, file_name: Option<&str>) -> String {
        match (&self.gateway, file_name) {
            (Some(gateway), Some(name)) => {
                let name = utf8_percent_encode(name, QUERY);
                format!("{gateway}/ipfs/{cid}?filename={name}")
            }
            (Some(gateway), None) => format!("{gateway}/ipfs/{cid}"),
            (None, _) => format!("{EXPLORER}{cid}"),
        }
    }
}
