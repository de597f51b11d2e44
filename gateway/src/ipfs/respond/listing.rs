//! The page that lists a directory. Children are not fetched: sizes are those of the links.
//!
//! Up to [`SORTED`] entries are gathered and sorted, and a failure among them is an error with a
//! status. A larger directory is streamed in the order it is stored in, so that memory is bounded.

use askama::Template;
use bytes::Bytes;
use cid::Cid;
use duka_node::dag::read;
use duka_node::dag::unixfs::Link;
use duka_node::human::human_size;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use http::Response;

use super::entity;
use super::page::{self, CidLinks, Crumb, crumbs};
use crate::body::{Body, BodyError};
use crate::error::GatewayError;
use crate::ipfs::path::encode_segment;
use crate::ipfs::request::ContentRequest;
use crate::ipfs::resolve::Resolved;
use crate::ipfs::source::RequestSource;
use crate::ipfs::{Backend, Gateway};

/// Entries of a page that is sorted.
const SORTED: usize = 10_000;
/// Rows of one chunk of a streamed page.
const ROWS_PER_CHUNK: usize = 256;
/// Of the templates' text: another page has another `ETag`.
const PAGE_VERSION: u64 = entity::fnv1a(concat!(
    include_str!("../../../templates/listing_head.html"),
    include_str!("../../../templates/listing_row.html"),
    include_str!("../../../templates/listing_foot.html"),
    include_str!("../../../templates/page_head.html"),
    include_str!("../../../templates/page_foot.html"),
));

type Entries = BoxStream<'static, Result<Link, BodyError>>;

/// Lists a directory of one node, or of many if it `is_sharded`.
pub(super) async fn respond<B: Backend>(
    gateway: &Gateway<B>,
    request: &ContentRequest,
    resolved: &Resolved,
    source: RequestSource<B>,
    is_sharded: bool,
) -> Result<Response<Body>, GatewayError> {
    let etag = entity::etag(format!(
        "\"DirIndex-{PAGE_VERSION:x}_CID-{}\"",
        resolved.cid
    ));
    let body = async {
        if request.head && is_sharded {
            return Ok(None);
        }
        let permit = gateway.walk_permit()?;
        let entries = read::list(&source, resolved.cid)
            .map_err(BodyError::from)
            .boxed();
        Ok(Some(render(request, resolved, entries, permit).await?))
    };
    page::answer(request, resolved, etag, body).await
}

async fn render<G: Send + 'static>(
    request: &ContentRequest,
    resolved: &Resolved,
    mut entries: Entries,
    guard: G,
) -> Result<Body, GatewayError> {
    let links = Links::of(request);
    let mut known = Vec::new();
    while known.len() < SORTED {
        match entries.next().await.transpose()? {
            Some(link) => known.push(link),
            None => {
                known.sort_unstable_by(|a, b| a.name.cmp(&b.name));
                let mut html = head(request, resolved, Some(known.len()))?;
                rows(&mut html, &links, known)?;
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
        .and_then(move |entries| {
            // The permit lives as long as the stream that owns this closure.
            let _walking = &guard;
            let mut html = String::new();
            let rendered = rows(&mut html, &links, entries).map(|()| Bytes::from(html));
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
    let crumbs = crumbs(request);
    let directory = request.url_directory();
    ListingHead {
        title: crumbs.last().map_or("", |crumb| crumb.name),
        namespace: request.path.segments.first().map_or("", String::as_str),
        cid: &resolved.cid,
        parent: (crumbs.len() > 1).then(|| format!("{directory}..")),
        crumbs,
        count,
    }
    .render()
}

/// Where the links of rows lead.
struct Links {
    /// The directory's own path, escaped, with a slash at the end.
    directory: String,
    cids: CidLinks,
}

impl Links {
    fn of(request: &ContentRequest) -> Self {
        Self {
            directory: request.url_directory(),
            cids: CidLinks::of(request),
        }
    }
}

fn rows(html: &mut String, links: &Links, entries: Vec<Link>) -> askama::Result<()> {
    for link in entries {
        let name = String::from_utf8_lossy(&link.name);
        let escaped = encode_segment(&name).to_string();
        let row = ListingRow {
            href: format!("{}{escaped}", links.directory),
            cid_href: links.cids.href(&link.cid, Some(&escaped)),
            outside: links.cids.outside(),
            short: short_cid(&link.cid.to_string()),
            size: human_size(link.tsize),
            bytes: link.tsize,
            name: &name,
        };
        row.render_into(html)?;
    }
    Ok(())
}

/// The two ends of a CID, which is what people compare.
fn short_cid(cid: &str) -> String {
    match (cid.get(..8), cid.get(cid.len().saturating_sub(6)..)) {
        (Some(start), Some(end)) if cid.len() > 16 => format!("{start}…{end}"),
        _ => cid.to_owned(),
    }
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
    /// The link leaves the site.
    outside: bool,
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
        let links = Links {
            directory: "/ipfs/cid/%C4%85/".to_owned(),
            cids: CidLinks {
                gateway: Some(String::new()),
            },
        };
        rows(&mut html, &links, vec![link]).unwrap();
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
}
