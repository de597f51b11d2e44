//! Response headers that several formats share.

use std::fmt::Write as _;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_LOCATION, HeaderName,
};
use http::{HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::negotiate::Format;
use super::request::{ContentRequest, Place};
use super::resolve::{Freshness, Resolved};

const X_IPFS_PATH: HeaderName = HeaderName::from_static("x-ipfs-path");
const X_IPFS_ROOTS: HeaderName = HeaderName::from_static("x-ipfs-roots");

const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=29030400, immutable");

/// Every origin may read every response.
pub(crate) fn allow_every_origin(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD, OPTIONS"),
    );
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Content-Type, Range, User-Agent, X-Requested-With"),
    );
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(
            "Content-Length, Content-Range, X-Chunked-Output, X-Ipfs-Path, X-Ipfs-Roots, \
             X-Stream-Output",
        ),
    );
}

/// Where the content is and how long that stays true.
pub(crate) fn describe(headers: &mut HeaderMap, request: &ContentRequest, resolved: &Resolved) {
    name_path(headers, request);
    let roots = match resolved.roots.as_slice() {
        [only] => only.to_string(),
        roots => {
            let mut list = String::with_capacity(roots.len() * 60);
            for root in roots {
                let comma = if list.is_empty() { "" } else { "," };
                write!(list, "{comma}{root}").expect("a String takes everything");
            }
            list
        }
    };
    insert(headers, X_IPFS_ROOTS, roots);
    match resolved.freshness {
        Freshness::Immutable => {
            headers.insert(CACHE_CONTROL, IMMUTABLE);
        }
        Freshness::Seconds(seconds) => {
            insert(headers, CACHE_CONTROL, format!("public, max-age={seconds}"));
        }
        Freshness::Unknown => {}
    }
    if let Some(location) = content_location(request) {
        insert(headers, CONTENT_LOCATION, location);
    }
}

/// The path as it was asked for, unescaped unless that would not be a header.
pub(crate) fn name_path(headers: &mut HeaderMap, request: &ContentRequest) {
    let raw = request.raw_path();
    let value = if raw.contains('%') || request.place != Place::Path {
        let slash = if request.path.trailing_slash { "/" } else { "" };
        let decoded = format!("/{}{slash}", request.path.segments.join("/"));
        HeaderValue::from_bytes(decoded.as_bytes()).or_else(|_| HeaderValue::from_str(raw))
    } else {
        HeaderValue::from_bytes(raw.as_bytes())
    };
    if let Ok(value) = value {
        headers.insert(X_IPFS_PATH, value);
    }
}

/// The URL that names the format, when only `Accept` did.
fn content_location(request: &ContentRequest) -> Option<String> {
    let chosen = &request.chosen;
    if chosen.format == Format::Default || chosen.from_url {
        return None;
    }
    let mut location = request.raw_path().to_owned();
    let kept = request.raw_query().unwrap_or_default();
    let kept = kept
        .split('&')
        .filter(|pair| !pair.is_empty() && *pair != "format" && !pair.starts_with("format="));
    let mut mark = '?';
    let mut add = |pair: &str| {
        location.push(mark);
        location.push_str(pair);
        mark = '&';
    };
    kept.for_each(&mut add);
    add(&format!("format={}", chosen.format.word()));
    for (key, value) in &chosen.params {
        let in_url = request
            .query
            .car
            .iter()
            .any(|(name, _)| name.strip_prefix("car-") == Some(key));
        if matches!(key.as_str(), "version" | "order" | "dups") && !in_url {
            add(&format!(
                "car-{key}={}",
                utf8_percent_encode(value, ATTRIBUTE)
            ));
        }
    }
    Some(location)
}

/// How a browser should treat the content, and under which name it is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    Inline,
    Attachment,
}

/// `Content-Disposition`: what `?filename=` and `?download=true` ask for, else `default` under
/// `default_name`, else nothing.
pub(crate) fn content_disposition(
    request: &ContentRequest,
    default: Option<(Disposition, &str)>,
) -> Option<HeaderValue> {
    let query = &request.query;
    let kind = match default {
        _ if query.download => Disposition::Attachment,
        Some((kind, _)) => kind,
        None => Disposition::Inline,
    };
    let kind = match kind {
        Disposition::Inline => "inline",
        Disposition::Attachment => "attachment",
    };
    let name = query.filename.as_deref().or(default.map(|(_, name)| name));
    let value = match name {
        Some(name) => format!(
            "{kind}; filename=\"{}\"; filename*=UTF-8''{}",
            ascii_file_name(name),
            utf8_percent_encode(name, ATTRIBUTE)
        ),
        None if query.download => kind.to_owned(),
        None => return None,
    };
    HeaderValue::try_from(value).ok()
}

/// Characters that RFC 8187 allows in `filename*` as they are.
const ATTRIBUTE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The name for clients that know only quoted strings: other characters become `_`.
fn ascii_file_name(name: &str) -> String {
    let mut ascii = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '"' | '\\' => ascii.extend(['\\', c]),
            ' '..='~' => ascii.push(c),
            _ => ascii.push('_'),
        }
    }
    ascii
}

/// Adds a value made here; one that is no valid header value is left out.
pub(crate) fn append(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.append(name, value);
    }
}

/// Inserts a value made here; one that is no valid header value is left out.
pub(crate) fn insert(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::host::Site;
    use super::super::request::{Parsed, parse};
    use super::*;

    fn request(query: &str) -> ContentRequest {
        request_accepting(query, "*/*")
    }

    fn request_accepting(query: &str, accept: &str) -> ContentRequest {
        let uri = format!("/ipfs/bafkqaaa/%C4%85{query}");
        let request = http::Request::get(uri)
            .header("accept", accept)
            .body(())
            .unwrap();
        match parse(request.into_parts().0, Site::Anywhere).unwrap() {
            Parsed::Content(request) => *request,
            Parsed::Redirect { .. } => panic!("redirected"),
        }
    }

    fn disposition(query: &str) -> Option<String> {
        content_disposition(&request(query), None).map(|v| v.to_str().unwrap().to_owned())
    }

    #[test]
    fn each_character_that_is_not_ascii_becomes_one_underscore() {
        assert_eq!(
            disposition("?filename=test%D1%82%D0%B5%D1%81%D1%82.pdf").unwrap(),
            "inline; filename=\"test____.pdf\"; \
             filename*=UTF-8''test%D1%82%D0%B5%D1%81%D1%82.pdf"
        );
    }

    #[test]
    fn file_name_cannot_break_out_of_the_header() {
        assert_eq!(
            disposition("?filename=a%22%0D%0AX:%20y%5C&download=true").unwrap(),
            "attachment; filename=\"a\\\"__X: y\\\\\"; filename*=UTF-8''a%22%0D%0AX%3A%20y%5C"
        );
    }

    #[test]
    fn download_alone_is_an_attachment_and_nothing_is_nothing() {
        assert_eq!(disposition("?download=true").unwrap(), "attachment");
        assert_eq!(disposition(""), None);
    }

    #[test]
    fn path_header_is_unescaped() {
        let mut headers = HeaderMap::new();
        name_path(&mut headers, &request(""));
        assert_eq!(
            headers[X_IPFS_PATH].as_bytes(),
            "/ipfs/bafkqaaa/ą".as_bytes()
        );
    }

    #[test]
    fn path_that_is_no_header_value_stays_escaped() {
        let request = http::Request::get("/ipfs/bafkqaaa/a%0d%0aX:%20y")
            .body(())
            .unwrap();
        let Parsed::Content(request) = parse(request.into_parts().0, Site::Anywhere).unwrap()
        else {
            panic!("redirected")
        };
        let mut headers = HeaderMap::new();
        name_path(&mut headers, &request);
        assert_eq!(headers[X_IPFS_PATH], "/ipfs/bafkqaaa/a%0d%0aX:%20y");
    }

    #[test]
    fn content_location_names_the_format_that_accept_chose() {
        let car = "application/vnd.ipld.car; version=1; order=dfs; dups=y";
        assert_eq!(
            content_location(&request_accepting("?dag-scope=block&car-dups=n", car)).unwrap(),
            "/ipfs/bafkqaaa/%C4%85?dag-scope=block&car-dups=n&format=car&car-version=1&car-order=dfs"
        );
        assert_eq!(
            content_location(&request_accepting("?format=car", car)),
            None
        );
        assert_eq!(content_location(&request("")), None);
    }
}
