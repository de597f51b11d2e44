//! Paths of requests: raw bytes in, segments out, and back again.
//!
//! Percent escapes are undone exactly once, `+` is a plus, and what cannot be a content path
//! (`..`, empty segments) is either cleaned by a redirect or refused, before anything looks at it.

use std::fmt::Write as _;

use duka_node::dag::DagLimits;
use percent_encoding::{
    AsciiSet, NON_ALPHANUMERIC, PercentEncode, percent_decode, utf8_percent_encode,
};

/// Bytes that stay as they are in one segment of a path (RFC 3986, `pchar` without `&`, `'`, `(`,
/// `)`, `*`, which HTML and shells give a meaning).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// Escapes `segment` for use between two slashes of a URL, with upper-case hex.
pub(crate) fn encode_segment(segment: &str) -> PercentEncode<'_> {
    utf8_percent_encode(segment, SEGMENT)
}

/// A request's path, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DecodedPath {
    /// Segments in order, none empty, none `.` or `..`.
    pub(crate) segments: Vec<String>,
    /// Whether the path ended with a slash after a segment.
    pub(crate) trailing_slash: bool,
    /// Whether the path had empty, `.` or `..` segments that are gone now.
    pub(crate) cleaned: bool,
}

/// Why a path is not a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathError {
    /// Not UTF-8 once unescaped.
    NotUtf8,
    /// More than [`DagLimits::path_segments`].
    TooDeep,
}

impl PathError {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::NotUtf8 => "it is not UTF-8",
            Self::TooDeep => "it has too many segments",
        }
    }
}

/// Unescapes and splits the part of a path behind its leading slash.
///
/// An escaped slash separates segments like a plain one: no UnixFS name holds one.
pub(crate) fn decode(path: &str) -> Result<DecodedPath, PathError> {
    let decoded = percent_decode(path.as_bytes())
        .decode_utf8()
        .map_err(|_| PathError::NotUtf8)?;
    let decoded = decoded.strip_prefix('/').unwrap_or(&decoded);
    let (decoded, trailing_slash) = match decoded.strip_suffix('/') {
        Some(rest) => (rest, true),
        None => (decoded, false),
    };
    let most = DagLimits::current().path_segments;
    let mut segments = Vec::with_capacity(4);
    let mut cleaned = false;
    for segment in decoded.split('/') {
        match segment {
            "" | "." => cleaned |= !decoded.is_empty(),
            ".." => {
                segments.pop();
                cleaned = true;
            }
            name if segments.len() < most => segments.push(name.to_owned()),
            _ => return Err(PathError::TooDeep),
        }
    }
    Ok(DecodedPath {
        segments,
        trailing_slash,
        cleaned,
    })
}

/// Writes segments as an absolute, escaped path.
pub(crate) fn encode<'a>(
    segments: impl IntoIterator<Item = &'a str>,
    trailing_slash: bool,
) -> String {
    let mut path = String::new();
    for segment in segments {
        write!(path, "/{}", encode_segment(segment)).expect("a String takes everything");
    }
    if trailing_slash || path.is_empty() {
        path.push('/');
    }
    path
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segments(path: &str) -> Vec<String> {
        decode(path).unwrap().segments
    }

    #[test]
    fn escapes_are_undone_exactly_once() {
        assert_eq!(segments("/ipfs/a%2520b/%25"), ["ipfs", "a%20b", "%"]);
    }

    #[test]
    fn plus_is_a_plus_and_raw_utf8_is_accepted() {
        assert_eq!(segments("/a+b/ą/%c4%85"), ["a+b", "ą", "ą"]);
    }

    #[test]
    fn dot_segments_never_leave_the_root() {
        let path = decode("/ipfs/../../x//y/./z").unwrap();
        assert_eq!(path.segments, ["x", "y", "z"]);
        assert!(path.cleaned);
        assert_eq!(segments("/a/%2e%2e/%2E%2e/etc"), ["etc"]);
        assert_eq!(segments("/a/..%2f..%2fetc"), ["etc"]);
    }

    #[test]
    fn trailing_slash_is_kept_and_is_no_empty_segment() {
        let path = decode("/ipfs/a/").unwrap();
        assert!(path.trailing_slash && !path.cleaned);
        assert!(decode("/ipfs/a//").unwrap().cleaned);
        assert!(!decode("/ipfs/").unwrap().cleaned);
        assert!(!decode("/").unwrap().cleaned);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        assert_eq!(decode("/ipfs/%ff"), Err(PathError::NotUtf8));
    }

    proptest! {
        #[test]
        fn encoded_segments_decode_to_themselves(
            names in proptest::collection::vec("[^/\0]{1,12}", 1..6), slash: bool,
        ) {
            prop_assume!(names.iter().all(|name| name != "." && name != ".."));
            let path = encode(names.iter().map(String::as_str), slash);
            prop_assert!(path.is_ascii());
            let back = decode(&path).unwrap();
            prop_assert_eq!(back.segments, names);
            prop_assert_eq!(back.trailing_slash, slash);
            prop_assert!(!back.cleaned);
        }

        #[test]
        fn any_path_decodes_to_plain_segments_or_an_error(path in "(/|\\.|%2e|%2F|%|[a-z]|é){0,40}") {
            if let Ok(path) = decode(&path) {
                for segment in path.segments {
                    prop_assert!(!segment.is_empty() && segment != "." && segment != "..");
                    prop_assert!(!segment.contains('/'));
                }
            }
        }
    }
}
