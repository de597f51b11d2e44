//! `If-None-Match` and `If-Range` (RFC 9110, section 13).

use http::{HeaderMap, HeaderValue, header};

/// Whether the client already has what carries `etag`: weak comparison, lists and `*`.
pub(crate) fn not_modified(request: &HeaderMap, etag: &HeaderValue) -> bool {
    request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .any(|value| matches_any(value.as_bytes(), etag.as_bytes()))
}

/// Whether a `Range` of this request counts: no `If-Range`, or one that is strongly equal.
pub(crate) fn range_applies(request: &HeaderMap, etag: &HeaderValue) -> bool {
    match request.get(header::IF_RANGE) {
        None => true,
        Some(value) => value == etag && !etag.as_bytes().starts_with(b"W/"),
    }
}

fn matches_any(mut list: &[u8], etag: &[u8]) -> bool {
    let wanted = opaque(etag);
    loop {
        list = list.trim_ascii_start();
        while let Some(rest) = list.strip_prefix(b",") {
            list = rest.trim_ascii_start();
        }
        match list.first() {
            None => return false,
            Some(b'*') => return true,
            Some(_) => {}
        }
        list = opaque(list);
        // An entity tag is quoted and holds no quote, but may hold a comma.
        let Some(inner) = list.strip_prefix(b"\"") else {
            return false;
        };
        let Some(end) = inner.iter().position(|byte| *byte == b'"') else {
            return false;
        };
        let (tag, rest) = list.split_at(end + 2);
        if tag == wanted {
            return true;
        }
        list = rest;
    }
}

fn opaque(etag: &[u8]) -> &[u8] {
    etag.strip_prefix(b"W/").unwrap_or(etag)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asks(if_none_match: &str, etag: &'static str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, if_none_match.parse().unwrap());
        not_modified(&headers, &HeaderValue::from_static(etag))
    }

    #[test]
    fn comparison_is_weak_on_both_sides() {
        assert!(asks("\"a\"", "\"a\""));
        assert!(asks("W/\"a\"", "\"a\""));
        assert!(asks("\"a\"", "W/\"a\""));
        assert!(!asks("\"b\"", "\"a\""));
    }

    #[test]
    fn lists_and_star_match() {
        assert!(asks("\"x,y\", W/\"z\" ,\"a\"", "\"a\""));
        assert!(asks("*", "\"a\""));
        assert!(!asks("\"x\",\"y\"", "\"a\""));
    }

    #[test]
    fn bare_cid_does_not_match_the_etag_of_another_format() {
        assert!(!asks("\"bafy\"", "\"bafy.raw\""));
        assert!(!asks("bafy", "\"bafy\""));
    }

    #[test]
    fn if_range_is_a_strong_comparison() {
        let mut headers = HeaderMap::new();
        assert!(range_applies(&headers, &HeaderValue::from_static("\"a\"")));
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"a\""));
        assert!(range_applies(&headers, &HeaderValue::from_static("\"a\"")));
        assert!(!range_applies(&headers, &HeaderValue::from_static("\"b\"")));
        headers.insert(header::IF_RANGE, HeaderValue::from_static("W/\"a\""));
        assert!(!range_applies(
            &headers,
            &HeaderValue::from_static("W/\"a\"")
        ));
        assert!(!range_applies(&headers, &HeaderValue::from_static("\"a\"")));
    }

    proptest! {
        #[test]
        fn any_list_is_read_without_panic(list in "[\"W/,* a\\x80-\\xff]{0,40}") {
            let _found = matches_any(list.as_bytes(), b"\"a\"");
        }
    }
}
