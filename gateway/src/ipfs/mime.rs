//! Content types: by file name, else by the first bytes.

use http::HeaderValue;
use serde::de::IgnoredAny;

/// How many leading bytes [`sniff`] looks at.
pub(crate) const SNIFF_LEN: u64 = 3072;

/// Anything, when nothing better is known.
pub(crate) const OCTET_STREAM: &str = "application/octet-stream";

/// A page says itself in which character set it is; a header would overrule it.
pub(crate) const HTML: &str = "text/html";

/// The content type that a file name's extension tells.
pub(crate) fn by_name(name: &str) -> Option<HeaderValue> {
    let (stem, extension) = name.rsplit_once('.')?;
    if stem.is_empty() && extension.is_empty() {
        return None;
    }
    let known = match extension {
        // The most frequent ones need no formatting.
        "html" | "htm" => HTML,
        "txt" => "text/plain; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "wasm" => "application/wasm",
        other => {
            let guessed = mime_guess::from_ext(other).first_raw()?;
            if guessed.starts_with("text/") {
                return HeaderValue::try_from(format!("{guessed}; charset=utf-8")).ok();
            }
            guessed
        }
    };
    Some(HeaderValue::from_static(known))
}

/// The content type that leading bytes tell (in the spirit of the WHATWG MIME sniffing standard).
/// `whole` tells whether `head` is all there is.
pub(crate) fn sniff(head: &[u8], whole: bool) -> &'static str {
    if let Some(media_type) = by_magic(head) {
        return media_type;
    }
    if !is_text(head, whole) {
        return OCTET_STREAM;
    }
    let text = head.trim_ascii_start();
    if is_html(text) {
        HTML
    } else if starts_with_ignore_case(text, b"<svg") {
        "image/svg+xml"
    } else if text.starts_with(b"<?xml") {
        "text/xml; charset=utf-8"
    } else if is_json(text, whole) {
        "application/json"
    } else {
        "text/plain; charset=utf-8"
    }
}

/// Signature at an offset, and what it means.
const MAGIC: &[(usize, &[u8], &str)] = &[
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBPVP", "image/webp"),
    (8, b"WAVE", "audio/wav"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypM4A", "audio/mp4"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
    (0, b"OggS\0", "application/ogg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"\x1f\x8b\x08", "application/gzip"),
    (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"Rar!\x1a\x07", "application/vnd.rar"),
    (257, b"ustar", "application/x-tar"),
    (0, b"\0asm", "application/wasm"),
    (0, b"wOFF", "font/woff"),
    (0, b"wOF2", "font/woff2"),
    (0, b"\0\0\x01\0", "image/x-icon"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
];

fn by_magic(head: &[u8]) -> Option<&'static str> {
    MAGIC
        .iter()
        .find(|(offset, magic, _)| head.get(*offset..).is_some_and(|at| at.starts_with(magic)))
        // "BM" begins many words; a bitmap has binary bytes in its header.
        .filter(|(_, magic, _)| *magic != b"BM" || head.iter().take(16).any(|b| *b == 0))
        .map(|(_, _, media_type)| *media_type)
}

fn is_text(head: &[u8], whole: bool) -> bool {
    let control = |b: &u8| matches!(b, 0..=8 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    if head.iter().any(control) {
        return false;
    }
    match std::str::from_utf8(head) {
        Ok(_) => true,
        // The window may cut the last character in two.
        Err(error) => !whole && error.error_len().is_none(),
    }
}

fn is_html(text: &[u8]) -> bool {
    const TAGS: &[&[u8]] = &[
        b"<!doctype html",
        b"<html",
        b"<head",
        b"<script",
        b"<iframe",
        b"<h1",
        b"<div",
        b"<font",
        b"<table",
        b"<a",
        b"<style",
        b"<title",
        b"<b",
        b"<body",
        b"<br",
        b"<p",
        b"<!--",
    ];
    TAGS.iter().any(|tag| {
        starts_with_ignore_case(text, tag)
            && (*tag == b"<!--" || matches!(text.get(tag.len()), Some(b' ' | b'>' | b'\n' | b'\t')))
    })
}

fn starts_with_ignore_case(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn is_json(text: &[u8], whole: bool) -> bool {
    if !matches!(text.first(), Some(b'{' | b'[')) {
        return false;
    }
    match serde_json::from_slice::<IgnoredAny>(text) {
        Ok(_) => true,
        Err(error) => !whole && error.is_eof(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_by_name_is_utf8() {
        assert_eq!(by_name("a.txt").unwrap(), "text/plain; charset=utf-8");
        assert_eq!(by_name("a.md").unwrap(), "text/markdown; charset=utf-8");
        assert_eq!(by_name("a.html").unwrap(), "text/html");
    }

    #[test]
    fn json_by_name_has_no_charset() {
        assert_eq!(by_name("a.json").unwrap(), "application/json");
    }

    #[test]
    fn names_without_a_known_extension_tell_nothing() {
        assert_eq!(by_name("README"), None);
        assert_eq!(by_name("a."), None);
        assert_eq!(by_name("."), None);
        assert_eq!(by_name("archive.zzzz"), None);
    }

    #[test]
    fn first_bytes_tell_the_type() {
        assert_eq!(sniff(b"", true), "text/plain; charset=utf-8");
        assert_eq!(sniff("hé".as_bytes(), true), "text/plain; charset=utf-8");
        assert_eq!(sniff(b"\x89PNG\r\n\x1a\n...", true), "image/png");
        assert_eq!(sniff(b"\0\0\0\x20ftypisom", true), "video/mp4");
        assert_eq!(sniff(b"  <!DOCTYPE HTML>\n<html>", true), "text/html");
        assert_eq!(sniff(b"\x01\x02", true), OCTET_STREAM);
        assert_eq!(sniff(b"BMW is a car", true), "text/plain; charset=utf-8");
    }

    #[test]
    fn json_is_told_by_parsing_it() {
        assert_eq!(sniff(b"{ \"test\": [1] }\n", true), "application/json");
        assert_eq!(sniff(b"{ \"test\": [1", false), "application/json");
        assert_eq!(sniff(b"{ \"test\": [1", true), "text/plain; charset=utf-8");
        assert_eq!(sniff(b"[1]: a footnote", true), "text/plain; charset=utf-8");
    }

    #[test]
    fn character_cut_by_the_window_is_still_text() {
        assert_eq!(
            sniff(&"é".as_bytes()[..1], false),
            "text/plain; charset=utf-8"
        );
        assert_eq!(sniff(&"é".as_bytes()[..1], true), OCTET_STREAM);
    }
}
