//! The page that lists a directory. Children are not fetched: sizes are those of the links.
//!
//! Up to [`SORTED`] entries are gathered and sorted, and a failure among them is an error with a
//! status. A larger directory is streamed in the order it is stored in, so that memory is bounded.

use std::fmt::Write as _;

use askama::Template;
use bytes::Bytes;
use cid::Cid;
use duka_node::dag::read;
use duka_node::dag::unixfs::Link;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use http::{HeaderValue, Response, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::entity;
use crate::body::{Body, BodyError};
use crate::error::GatewayError;
use crate::ipfs::headers::describe;
use crate::ipfs::path::encode_segment;
use crate::ipfs::request::ContentRequest;
use crate::ipfs::resolve::{Freshness, Resolved};
use crate::ipfs::source::RequestSource;
use crate::ipfs::{Backend, Gateway, conditional};

/// Entries of a page that is sorted.
const SORTED: usize = 10_000;
/// Rows of one chunk of a streamed page.
const ROWS_PER_CHUNK: usize = 256;
/// The listing may change with the gateway's version, so caches keep it for a week only.
const CACHE_CONTROL: HeaderValue =
    HeaderValue::from_static("public, max-age=604800, stale-while-revalidate=2678400");
/// Of the templates' text: another page has another `ETag`.
const PAGE_VERSION: u64 = entity::fnv1a(concat!(
    include_str!("../../../templates/listing_head.html"),
    include_str!("../../../templates/listing_row.html"),
    include_str!("../../../templates/listing_foot.html"),
));

/// Escapes everything that means something in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

type Entries = BoxStream<'static, Result<Link, BodyError>>;

pub(super) async fn respond<B: Backend>(
    gateway: &Gateway<B>,
    request: &ContentRequest,
    resolved: &Resolved,
    source: RequestSource<B>,
) -> Result<Response<Body>, GatewayError> {
    let etag = entity::etag(format!(
        "\"DirIndex-{PAGE_VERSION:x}_CID-{}\"",
        resolved.cid
    ));
    let mut response = if conditional::not_modified(request.headers(), &etag) {
        entity::not_modified(request, resolved, etag)
    } else {
        let body = if request.head {
            Body::empty()
        } else {
            let permit = gateway.walk_permit()?;
            let entries = read::list(&source, resolved.cid)
                .map_err(BodyError::from)
                .boxed();
            page(request, resolved, entries, permit).await?
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, html);
        headers.insert(header::ETAG, etag);
        describe(headers, request, resolved);
        response
    };
    if resolved.freshness == Freshness::Immutable {
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, CACHE_CONTROL);
    }
    Ok(response)
}

async fn page<G: Send + 'static>(
    request: &ContentRequest,
    resolved: &Resolved,
    mut entries: Entries,
    guard: G,
) -> Result<Body, GatewayError> {
    let base = request.raw_directory();
    let mut known = Vec::new();
    while known.len() < SORTED {
        match entries.next().await.transpose()? {
            Some(link) => known.push(link),
            None => {
                known.sort_unstable_by(|a, b| a.name.cmp(&b.name));
                let mut html = head(request, resolved, Some(known.len()))?;
                rows(&mut html, &base, known)?;
                html.push_str(&ListingFoot.render()?);
                return Ok(Body::bytes(html));
            }
        }
    }
    let head = head(request, resolved, None)?;
    let rest = stream::iter(known.into_iter().map(Ok))
        .chain(entries)
        .try_chunks(ROWS_PER_CHUNK)
        .map_err(|error| error.1)
        .and_then(move |links| {
            // The permit lives as long as the stream that owns this closure.
            let _walking = &guard;
            let mut html = String::new();
            let rendered = rows(&mut html, &base, links).map(|()| Bytes::from(html));
            futures::future::ready(rendered.map_err(BodyError::Render))
        });
    let foot = ListingFoot.render()?;
    let whole = stream::iter([Ok(Bytes::from(head))])
        .chain(rest)
        .chain(stream::iter([Ok::<_, BodyError>(Bytes::from(foot))]));
    Ok(Body::stream(whole, None))
}

fn head(
    request: &ContentRequest,
    resolved: &Resolved,
    count: Option<usize>,
) -> askama::Result<String> {
    let segments = &request.path.segments;
    let mut crumbs = Vec::with_capacity(segments.len());
    let mut href = String::new();
    for (at, segment) in segments.iter().enumerate() {
        write!(href, "/{}", encode_segment(segment)).expect("a String takes everything");
        if at > 0 {
            crumbs.push(Crumb {
                name: segment,
                href: href.clone(),
            });
        }
    }
    ListingHead {
        title: crumbs.last().map_or("", |crumb| crumb.name),
        namespace: segments.first().map_or("", String::as_str),
        cid: &resolved.cid,
        parent: (crumbs.len() > 1).then(|| format!("{href}/..")),
        crumbs,
        count,
    }
    .render()
}

fn rows(html: &mut String, base: &str, links: Vec<Link>) -> askama::Result<()> {
    for link in links {
        let name = String::from_utf8_lossy(&link.name);
        let escaped = encode_segment(&name).to_string();
        let row = ListingRow {
            href: format!("{base}{escaped}"),
            cid_href: format!(
                "/ipfs/{}?filename={}",
                link.cid,
                utf8_percent_encode(&escaped, QUERY)
            ),
            short: short_cid(&link.cid.to_string()),
            size: human_size(link.tsize),
            bytes: link.tsize,
            name: &name,
        };
        row.render_into(html)?;
    }
    Ok(())
}

impl ContentRequest {
    /// The escaped path of the directory itself, with its slash.
    fn raw_directory(&self) -> String {
        crate::ipfs::path::encode(self.path.segments.iter().map(String::as_str), true)
    }
}

/// The two ends of a CID, which is what people compare.
fn short_cid(cid: &str) -> String {
    match (cid.get(..8), cid.get(cid.len().saturating_sub(6)..)) {
        (Some(start), Some(end)) if cid.len() > 16 => format!("{start}…{end}"),
        _ => cid.to_owned(),
    }
}

/// A size as people read it: at most four digits and a binary unit.
fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut scaled = bytes as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1000.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(scaled < 99.95);
    format!("{scaled:.digits$} {}", UNITS[unit])
}

struct Crumb<'a> {
    name: &'a str,
    href: String,
}

#[derive(Template)]
#[template(path = "listing_head.html")]
struct ListingHead<'a> {
    title: &'a str,
    namespace: &'a str,
    cid: &'a Cid,
    crumbs: Vec<Crumb<'a>>,
    parent: Option<String>,
    count: Option<usize>,
}

#[derive(Template)]
#[template(path = "listing_row.html")]
struct ListingRow<'a> {
    name: &'a str,
    href: String,
    short: String,
    cid_href: String,
    size: String,
    bytes: u64,
}

#[derive(Template)]
#[template(path = "listing_foot.html")]
struct ListingFoot;

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> String {
        let cid = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
            .parse()
            .unwrap();
        let mut html = String::new();
        let link = Link {
            cid,
            name: name.as_bytes().to_vec(),
            tsize: 1536,
        };
        rows(&mut html, "/ipfs/cid/%C4%85/", vec![link]).unwrap();
        html
    }

    #[test]
    fn links_are_escaped_in_upper_case_and_the_file_name_twice() {
        let html = row("file-źł.txt");
        assert!(
            html.contains("<a href=\"/ipfs/cid/%C4%85/file-%C5%BA%C5%82.txt\">file-źł.txt</a>"),
            "{html}"
        );
        assert!(
            html.contains(
                "<a class=\"ipfs-hash\" translate=\"no\" href=\"/ipfs/\
             bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e\
             ?filename=file-%25C5%25BA%25C5%2582.txt\">"
            ),
            "{html}"
        );
        assert!(html.contains("1.5 KiB"));
    }

    #[test]
    fn names_cannot_break_out_of_the_page() {
        let html = row("\"><script>alert(1)</script>'&");
        assert!(!html.contains("<script>"), "{html}");
        assert!(!html.contains("\"><s"), "{html}");
    }

    #[test]
    fn sizes_have_at_most_four_digits() {
        assert_eq!(human_size(0), "0 B");
        assert_eq!(human_size(1023), "1023 B");
        assert_eq!(human_size(1024), "1.0 KiB");
        assert_eq!(human_size(1 << 20), "1.0 MiB");
        assert_eq!(human_size(1_048_575), "1.0 MiB");
        assert_eq!(human_size(150 << 20), "150 MiB");
        assert_eq!(human_size(u64::MAX), "16.0 EiB");
    }
}
