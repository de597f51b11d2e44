//! How pages show sizes, dates, prices, paths, and products without a cover.

use std::fmt::Write as _;

use askama::filters::{Escaper as _, Html};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::ids::ProductId;

/// What stays as it is in a segment of a path and in a value of a query.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// `1 file`, `10,000 files`.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped} {}", if number == 1 { one } else { many })
}

/// A moment as a `<time>`: `21 Nov 2026`.
pub(super) fn date(time: Timestamp) -> String {
    let machine = time.strftime("%Y-%m-%dT%H:%M:%SZ");
    format!(
        "<time datetime=\"{machine}\">{}</time>",
        time.strftime("%-d %b %Y")
    )
}

/// A path of several segments for a link.
pub(super) fn path(path: &str) -> String {
    let segments: Vec<String> = path.split('/').map(word).collect();
    segments.join("/")
}

/// One segment of a path, or a value of a query, for a link.
pub(super) fn word(word: &str) -> String {
    utf8_percent_encode(word, SEGMENT).to_string()
}

/// Background, large and small circle of the pictures below. `search.js` has the same.
const PALETTES: [[&str; 3]; 8] = [
    ["#1f3a4d", "#d9805f", "#f2d9a6"],
    ["#5b2333", "#e0a458", "#f6e7d2"],
    ["#23403a", "#8fb08c", "#f0c987"],
    ["#3b3059", "#b0708f", "#f4c7a1"],
    ["#6b3e26", "#d9b08c", "#2f4b4f"],
    ["#1d4044", "#4f9a94", "#f3b562"],
    ["#45322e", "#c8553d", "#f2efe9"],
    ["#2b3a67", "#7c8fc4", "#e8a87c"],
];

/// A picture for a product without a cover: always the same for the same product. `search.js` draws
/// the same.
pub(super) fn art(id: &ProductId, title: &str) -> String {
    let hash = mixed(fnv1a(id.as_str()));
    let [ground, large, small] = PALETTES[(hash >> 29) as usize];
    let (x, y) = (hash % 70 + 15, (hash >> 8) % 70 + 15);
    let mut svg = format!(
        "<svg class=\"art\" viewBox=\"0 0 100 100\" preserveAspectRatio=\"xMidYMid slice\" \
         aria-hidden=\"true\"><rect width=\"100\" height=\"100\" fill=\"{ground}\"/>\
         <circle cx=\"{x}\" cy=\"{y}\" r=\"{}\" fill=\"{large}\"/>\
         <circle cx=\"{}\" cy=\"{}\" r=\"{}\" fill=\"{small}\"/><text x=\"50\" y=\"64\">",
        (hash >> 16) % 20 + 28,
        100 - x,
        100 - y,
        (hash >> 24) % 10 + 6,
    );
    let initial: String = title.chars().take(1).flat_map(char::to_uppercase).collect();
    Html.write_escaped_str(&mut svg, &initial)
        .and_then(|()| svg.write_str("</text></svg>"))
        .expect("a String takes everything");
    svg
}

/// Spreads every bit over all.
fn mixed(hash: u32) -> u32 {
    let hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash: u32, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_for_people() {
        assert_eq!(count(1, "file", "files"), "1 file");
        assert_eq!(count(1_234_567, "file", "files"), "1,234,567 files");
        assert_eq!(count(100, "file", "files"), "100 files");
    }

    #[test]
    fn paths_cannot_leave_their_link() {
        assert_eq!(path("a b/#c?/\"é"), "a%20b/%23c%3F/%22%C3%A9");
    }

    #[test]
    fn art_escapes_the_title() {
        assert!(art(&"a".parse().unwrap(), "<b").ends_with("&#60;</text></svg>"));
    }
}
