//! A Metalink (RFC 5854): the gateways that have a file, and the hashes of the file and its pieces, so
//! that a download manager can use several gateways and trust none.

use askama::Template;
use cid::Cid;
use duka_node::dag::read;
use duka_node::dag::unixfs::{FileNode, UnixFs};
use duka_node::source::BlockSource;
use http::{HeaderMap, HeaderValue, Response, header};
use url::Url;

use super::{entity, page};
use crate::body::Body;
use crate::error::GatewayError;
use crate::ipfs::digest::{self, Digest};
use crate::ipfs::headers::{self, Disposition, content_disposition, describe};
use crate::ipfs::negotiate::Format;
use crate::ipfs::request::ContentRequest;
use crate::ipfs::resolve::Resolved;
use crate::ipfs::source::RequestSource;
use crate::ipfs::{Backend, Gateway, conditional};

/// Largest file that is read for its hash, in bytes. The pieces of a larger one have theirs.
const MAX_HASHED: u64 = 4 << 30;
/// Most pieces that are listed.
const MAX_PIECES: usize = 1 << 16;
const TEMPLATE: &str = include_str!("../../../templates/metalink.xml");

pub(super) async fn respond<B: Backend>(
    gateway: &Gateway<B>,
    request: &ContentRequest,
    resolved: &Resolved,
    source: &RequestSource<B>,
) -> Result<Response<Body>, GatewayError> {
    let cid = resolved.cid;
    let UnixFs::File(node) = read::load(source, &cid).await? else {
        return Err(GatewayError::Format {
            cid,
            wanted: "a Metalink, which is of one file",
        });
    };
    let name = file_name(request, &cid);
    let urls: Vec<String> = [gateway.own_url(request)]
        .into_iter()
        .flatten()
        .chain(mirrored(&gateway.mirrors, &cid, &name))
        .collect();
    // The hashes follow from the CID.
    let version = entity::fnv1a(&[TEMPLATE, &name, &urls.join("\n")].join("\n"));
    let etag = entity::etag(format!("\"{cid}.meta4.{version:x}\""));
    let mut response = if conditional::not_modified(request.headers(), &etag) {
        entity::not_modified(request, resolved, etag)
    } else {
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(Format::Metalink.media_type()),
        );
        headers.insert(header::ETAG, etag);
        describe(headers, request, resolved);
        let saved_as = format!("{name}.meta4");
        let disposition = content_disposition(request, Some((Disposition::Attachment, &saved_as)));
        entity::as_opaque(headers, disposition);
        // For its header alone the file is not read.
        if !request.head {
            let metalink = render(gateway, source, cid, &node, &name, urls).await?;
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(metalink.len()));
            *response.body_mut() = Body::bytes(metalink);
        }
        response
    };
    page::limit_freshness(response.headers_mut(), resolved);
    Ok(response)
}

/// The Metalink itself. The file is read for its hash, unless that is known.
async fn render<B: Backend>(
    gateway: &Gateway<B>,
    source: &RequestSource<B>,
    cid: Cid,
    node: &FileNode,
    name: &str,
    urls: Vec<String>,
) -> Result<String, GatewayError> {
    let _permit = gateway.walk_permit()?;
    let hash = match node.size {
        ..=MAX_HASHED => Some(gateway.digests.of(source, cid, node.size).await?),
        _ => None,
    };
    let metalink = Metalink {
        name,
        size: node.size,
        hash: hash.map(hex::encode),
        pieces: Pieces::of(source, node).await?,
        urls,
    };
    Ok(metalink.render()?)
}

/// Tells a client that downloads a file of several blocks where else it is, and of its Metalink
/// (RFC 6249).
pub(super) fn link(headers: &mut HeaderMap, request: &ContentRequest, mirrors: &[Url], cid: &Cid) {
    let name = file_name(request, cid);
    let duplicates = mirrored(mirrors, cid, &name).map(|url| format!("<{url}>; rel=duplicate"));
    let metalink = format!(
        "<{}?format=meta4>; rel=describedby; type=\"{}\"",
        request.raw_path(),
        Format::Metalink.media_type()
    );
    for link in duplicates.chain([metalink]) {
        headers::append(headers, header::LINK, link);
    }
}

/// The file's URLs on other gateways.
fn mirrored(mirrors: &[Url], cid: &Cid, name: &str) -> impl Iterator<Item = String> {
    mirrors.iter().map(move |mirror| {
        let mut url = mirror.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["ipfs", &cid.to_string()]);
        }
        url.query_pairs_mut().append_pair("filename", name);
        url.into()
    })
}

/// Under which name the file is saved: one segment of a path.
fn file_name(request: &ContentRequest, cid: &Cid) -> String {
    let asked = request.query.filename.as_deref();
    let name = asked.or(request.segments().last().map(String::as_str));
    let name = name.and_then(|name| name.rsplit(['/', '\\']).next());
    let fits = |name: &&str| !matches!(*name, "" | "." | "..") && !name.contains(char::is_control);
    name.filter(fits)
        .map_or_else(|| cid.to_string(), str::to_owned)
}

/// Pieces of one length, but for the last.
struct Pieces {
    length: u64,
    hashes: Vec<String>,
}

impl Pieces {
    /// The blocks of a file, where their CIDs are the hashes of pieces of one length.
    async fn of<S: BlockSource>(source: &S, file: &FileNode) -> Result<Option<Self>, GatewayError> {
        let Some((_, length)) = file.children.first() else {
            return Ok(None);
        };
        let mut pieces = Self {
            length: *length,
            hashes: Vec::new(),
        };
        let mut leaves: Vec<(Cid, u64)> = file.children.iter().rev().copied().collect();
        let mut ended = !file.data.is_empty();
        let mut is_first = true;
        while let Some((cid, len)) = leaves.pop() {
            if let Some(hash) = digest::of_raw(&cid) {
                if is_first {
                    pieces.length = len;
                    is_first = false;
                }
                if ended || len > pieces.length || pieces.hashes.len() == MAX_PIECES {
                    return Ok(None);
                }
                ended = len < pieces.length;
                pieces.hashes.push(hex::encode::<Digest>(hash));
                continue;
            }
            match read::load(source, &cid).await? {
                UnixFs::File(node) if node.data.is_empty() && !node.children.is_empty() => {
                    if leaves.len() + node.children.len() > MAX_PIECES {
                        return Ok(None);
                    }
                    leaves.extend(node.children.iter().rev());
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(pieces).filter(|pieces| pieces.length > 0))
    }
}

#[derive(Template)]
#[template(path = "metalink.xml")]
struct Metalink<'a> {
    name: &'a str,
    size: u64,
    /// SHA-256, hex.
    hash: Option<String>,
    pieces: Option<Pieces>,
    urls: Vec<String>,
}
