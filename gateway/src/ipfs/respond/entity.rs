//! Bytes of known length under an `ETag`: conditions, ranges and the headers that go with them.

use std::ops::Range;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::body::Body;
use crate::error::GatewayError;
use crate::ipfs::headers::describe;
use crate::ipfs::range::{self, Selection};
use crate::ipfs::request::ContentRequest;
use crate::ipfs::resolve::Resolved;
use crate::ipfs::{conditional, headers};

/// A representation, before anybody looked at its bytes.
#[derive(Debug)]
pub(super) struct Entity {
    /// Quoted.
    pub(super) etag: HeaderValue,
    /// Length in bytes.
    pub(super) len: u64,
}

/// What of an entity is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The bytes, end-exclusive.
    pub(super) range: Range<u64>,
    /// 206 with `Content-Range`, not 200.
    pub(super) partial: bool,
}

impl Entity {
    /// Whether the client has it already.
    pub(super) fn not_modified(&self, request: &ContentRequest) -> bool {
        conditional::not_modified(request.headers(), &self.etag)
    }

    /// What the request wants of it.
    ///
    /// # Errors
    /// 416 when that is not there.
    pub(super) fn part(&self, request: &ContentRequest) -> Result<Part, GatewayError> {
        let asked = request
            .headers()
            .get(header::RANGE)
            .and_then(|value| value.to_str().ok());
        let selection = match asked {
            Some(asked) if conditional::range_applies(request.headers(), &self.etag) => {
                range::select(asked, self.len)
            }
            _ => Selection::Full,
        };
        match selection {
            Selection::Full => Ok(Part {
                range: 0..self.len,
                partial: false,
            }),
            Selection::Part(range) => Ok(Part {
                range,
                partial: true,
            }),
            Selection::Unsatisfiable => Err(GatewayError::Range { len: self.len }),
        }
    }

    /// 200 or 206 with `body`, which is exactly the part.
    pub(super) fn response(
        self,
        request: &ContentRequest,
        resolved: &Resolved,
        part: &Part,
        content_type: HeaderValue,
        body: Body,
    ) -> Response<Body> {
        let mut response = Response::new(if request.head { Body::empty() } else { body });
        let len = part.range.end.saturating_sub(part.range.start);
        if part.partial {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        let map = response.headers_mut();
        map.reserve(18);
        map.insert(header::CONTENT_TYPE, content_type);
        map.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
        map.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        map.insert(header::ETAG, self.etag);
        if part.partial {
            let last = part.range.end.saturating_sub(1);
            let value = format!("bytes {}-{last}/{}", part.range.start, self.len);
            headers::insert(map, header::CONTENT_RANGE, value);
        }
        describe(map, request, resolved);
        response
    }
}

/// 304: the validators and nothing else.
pub(super) fn not_modified(
    request: &ContentRequest,
    resolved: &Resolved,
    etag: HeaderValue,
) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    describe(response.headers_mut(), request, resolved);
    response.headers_mut().insert(header::ETAG, etag);
    response
}

/// A header value of text made of CIDs and fixed words.
pub(super) fn etag(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("a CID in quotes is a header value")
}

/// A hash that tells versions apart, nothing more (FNV-1a).
pub(super) const fn fnv1a(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

/// What blocks themselves are sent with: never to be guessed at, saved under `disposition`.
pub(super) fn as_opaque(headers: &mut HeaderMap, disposition: Option<HeaderValue>) {
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if let Some(disposition) = disposition {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
}
