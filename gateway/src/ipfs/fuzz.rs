//! The parsers of what clients send and of what sites want, for fuzzing.

use std::ops::Range;

use http::{HeaderMap, HeaderValue, Request, header};

use super::host::Site;
use super::range::{self, Selection};
use super::redirects::{Outcome, Redirects};
use super::request::{self, Parsed};
use super::{negotiate, path};

/// The segments of a path, and whether it ends with a slash.
pub fn decode_path(text: &str) -> Option<(Vec<String>, bool)> {
    let path = path::decode(text).ok()?;
    Some((path.segments, path.trailing_slash))
}

/// The path of segments.
pub fn encode_path(segments: &[String], trailing_slash: bool) -> String {
    path::encode(segments.iter().map(String::as_str), trailing_slash)
}

/// Where a request for `target` is sent without being looked up, if it is.
pub fn redirect_of(target: &str) -> Option<String> {
    let (parts, ()) = Request::get(target).body(()).ok()?.into_parts();
    match request::parse(parts, Site::Anywhere) {
        Ok(Parsed::Redirect { location, .. }) => Some(location),
        _ => None,
    }
}

/// The part that a `Range` header chooses of `len` bytes.
pub fn select_range(header: &str, len: u64) -> Option<Range<u64>> {
    match range::select(header, len) {
        Selection::Part(part) => Some(part),
        Selection::Full | Selection::Unsatisfiable => None,
    }
}

/// The word of the format, and the parameters, that `?format=` and `Accept` choose.
pub fn accepted(
    word: Option<&str>,
    accept: &[&[u8]],
) -> Option<(&'static str, Vec<(String, String)>)> {
    let values = accept
        .iter()
        .filter_map(|value| HeaderValue::from_bytes(value).ok());
    let headers: HeaderMap = values.map(|value| (header::ACCEPT, value)).collect();
    let chosen = negotiate::negotiate(word, &headers).ok()?;
    Some((chosen.format.word(), chosen.params))
}

/// What a `_redirects` file wants.
#[derive(Debug)]
pub enum Obeyed {
    /// The client goes there.
    Location(String),
    /// What is below these segments is served.
    Segments(Vec<String>),
}

/// What a `_redirects` file wants with the path `segments`.
pub fn obey_redirects(file: &[u8], segments: &[String], query: Option<&str>) -> Option<Obeyed> {
    let outcome = Redirects::parse(file).ok()?.outcome(segments, query)?;
    Some(match outcome {
        Outcome::Redirect { location, .. } => Obeyed::Location(location),
        Outcome::Serve { segments, .. } => Obeyed::Segments(segments),
    })
}
