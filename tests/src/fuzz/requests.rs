//! What clients ask for, and what sites want done with it.

use duka_gateway::fuzz::{
    Obeyed, accepted, decode_path, encode_path, obey_redirects, redirect_of, select_range,
};

/// Most segments of a path.
const MAX_SEGMENTS: usize = 1024;
/// Longest target of a rule, before it is escaped and has a query.
const MAX_TARGET_LEN: usize = 32 << 10;

/// The bytes are a request's target. Its segments stay what they are, and no redirect leads to
/// another host.
pub(super) fn path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Some((segments, trailing_slash)) = decode_path(text) {
        assert_are_segments(&segments);
        let again = decode_path(&encode_path(&segments, trailing_slash));
        let trailing_slash = trailing_slash && !segments.is_empty();
        assert_eq!(again, Some((segments, trailing_slash)));
    }
    if let Some(location) = redirect_of(text) {
        let is_own = location.starts_with('/') && !location.starts_with("//");
        assert!(is_own, "{location:?}");
        assert_is_header(&location);
    }
}

/// The bytes are the length of some content, and a `Range` header. What it chooses is in the content.
pub(super) fn range(bytes: &[u8]) {
    let Some((len, header)) = bytes.split_first_chunk() else {
        return;
    };
    let len = u64::from_le_bytes(*len);
    let header = std::str::from_utf8(header).ok();
    if let Some(part) = header.and_then(|header| select_range(header, len)) {
        assert!(part.start < part.end && part.end <= len, "{part:?}");
    }
}

/// The first line is the value of `?format=`, the others are `Accept` headers. A format in the URL wins.
pub(super) fn accept(bytes: &[u8]) {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let Some((word, accept)) = lines.split_first() else {
        return;
    };
    let word = std::str::from_utf8(word).ok();
    let by_url = accepted(word, &[]).map_or("", |(format, _)| format);
    let Some((format, params)) = accepted(word, accept) else {
        assert_eq!(by_url, "", "a format in the URL is refused");
        return;
    };
    assert!(by_url.is_empty() || by_url == format, "{by_url}, {format}");
    for (key, _) in params {
        assert!(key != "q" && key == key.to_ascii_lowercase(), "{key:?}");
    }
}

/// The bytes are a `_redirects` file and, behind a 0, a path with its query. What is served is below the
/// root, and what the client is sent to is a header that is not too long.
pub(super) fn redirects(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let (Some(file), Some(target)) = (parts.next(), parts.next()) else {
        return;
    };
    let Ok(target) = std::str::from_utf8(target) else {
        return;
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let Some((segments, _)) = decode_path(path) else {
        return;
    };
    match obey_redirects(file, &segments, query) {
        Some(Obeyed::Location(location)) => {
            assert_is_header(&location);
            let unescaped = MAX_TARGET_LEN + query.map_or(0, str::len) + 1;
            assert!(location.len() <= 3 * unescaped, "{}", location.len());
        }
        Some(Obeyed::Segments(segments)) => assert_are_segments(&segments),
        None => {}
    }
}

fn assert_are_segments(segments: &[String]) {
    assert!(segments.len() <= MAX_SEGMENTS, "{}", segments.len());
    for segment in segments {
        let leads = matches!(segment.as_str(), "" | "." | "..");
        assert!(!leads && !segment.contains('/'), "{segments:?}");
    }
}

fn assert_is_header(location: &str) {
    let breaks_out = |c: char| c.is_control() || c == ' ';
    assert!(!location.contains(breaks_out), "{location:?}");
}

/// Targets of every kind.
pub(super) fn paths() -> Vec<Vec<u8>> {
    let targets = [
        "/ipfs/bafkqaaa/a%20b/%C4%85/../c//./d/?format=raw&filename=x",
        "/ipns/k51qzi5uqu5dhmzyv3zac033i7rl9hkgczxyl81lwoukda2htteop7d3x0y1mf/",
        "/ipfs/ipfs/bafkqaaa?x=%0d%0a",
        "/ipfs/..//evil.example/",
        "/ipfs/?uri=ipfs%3A%2F%2Fbafkqaaa%2Fa%3Fb",
        "http://a.example:80/ipfs/bafkqaaa/%252e%2f",
    ];
    targets.map(|target| target.as_bytes().to_vec()).into()
}

/// Ranges of 1,000 bytes, of nothing, and of more than there can be.
pub(super) fn ranges() -> Vec<Vec<u8>> {
    let examples = [
        (1_000, "bytes=0-499"),
        (1_000, "bytes=-5, 2000-, 10-20"),
        (0, "bytes=0-"),
        (
            u64::MAX,
            "Bytes = 18446744073709551614-99999999999999999999",
        ),
    ];
    let example = |(len, header): (u64, &str)| [&len.to_le_bytes(), header.as_bytes()].concat();
    examples.map(example).into()
}

/// Formats by name, by header, and by both.
pub(super) fn accepts() -> Vec<Vec<u8>> {
    let examples = [
        "car\napplication/vnd.ipld.car; version=1; Order=dfs; dups=\"y\"; q=0.5",
        "\ntext/html,application/vnd.ipld.raw;q=0.8,*/*\napplication/json",
        "nonsense\napplication/vnd.ipld.nonsense",
        "tar\napplication/vnd.ipfs.ipns-record",
    ];
    examples.map(|example| example.as_bytes().to_vec()).into()
}

/// A file with every kind of rule, and paths for it.
pub(super) fn redirect_files() -> Vec<Vec<u8>> {
    let file = "# comment\n/one /two.html\n/a/:year/:name/* /b/:name/:year/:splat?y=:year#f 302\n\
                /gone/* /410.html 410\n/x%20y https://a.example/:splat 308\n/* /index.html 200\n";
    let targets = [
        "/one?q=1",
        "/a/2020/n%20m/c/d?y=3",
        "/gone/x",
        "/x%20y",
        "/z/../w",
    ];
    targets
        .map(|target| format!("{file}\0{target}").into_bytes())
        .into()
}
