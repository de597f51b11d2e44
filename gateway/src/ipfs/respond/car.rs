//! A CAR: the blocks of the path, then those of the scope, in depth-first order
//! (`application/vnd.ipld.car`, CARv1).

mod scope;

use bytes::{BufMut, Bytes, BytesMut};
use cid::Cid;
use duka_node::block::{Block, IDENTITY};
use duka_node::dag::DagError;
use duka_node::source::BlockSource;
use futures::future;
use futures::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use http::{HeaderValue, Response, header};
use serde::Serialize;

use self::scope::{ByteSpan, Scope};
use super::entity;
use crate::body::Body;
use crate::error::GatewayError;
use crate::ipfs::conditional;
use crate::ipfs::headers::{self, Disposition, content_disposition, describe};
use crate::ipfs::request::ContentRequest;
use crate::ipfs::resolve::Resolved;
use crate::ipfs::source::RequestSource;
use crate::ipfs::{Backend, Gateway};

/// Blocks up to this many bytes are copied behind their section header; larger ones are not copied.
const COPY_BELOW: usize = 8 << 10;

/// Most blocks of one CAR: an end to DAGs that link to the same blocks again and again. Before it the
/// client's pace counts, whose connection waits for each block to be taken.
const MAX_BLOCKS: usize = 1 << 25;

/// What a CAR holds, as its parameters say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CarOptions {
    /// `dups=y`: a block is repeated at each visit.
    duplicates: bool,
    scope: Scope,
}

impl CarOptions {
    fn of(request: &ContentRequest) -> Result<Self, GatewayError> {
        let bad = |name, value: &str, reason| {
            Err(GatewayError::BadParameter {
                name,
                value: value.to_owned(),
                reason,
            })
        };
        match request.car_param("car-version") {
            None | Some("1") => {}
            Some(other) => return bad("car-version", other, "only version 1 is made"),
        }
        match request.car_param("car-order") {
            None | Some("dfs" | "unk") => {}
            Some(other) => return bad("car-order", other, "it is dfs or unk"),
        }
        let duplicates = match request.car_param("car-dups") {
            None | Some("n") => false,
            Some("y") => true,
            Some(other) => return bad("car-dups", other, "it is y or n"),
        };
        let span = match request.car_param("entity-bytes") {
            None => None,
            Some(text) => match ByteSpan::parse(text) {
                Some(span) => Some(span),
                None => return bad("entity-bytes", text, "it is from:to, to may be *"),
            },
        };
        let scope = match (request.car_param("dag-scope"), span) {
            (None | Some("all" | "entity"), Some(span)) => Scope::Entity(Some(span)),
            (None | Some("all"), None) => Scope::All,
            (Some("entity"), None) => Scope::Entity(None),
            (Some("block"), _) => Scope::Block,
            (Some(other), _) => return bad("dag-scope", other, "it is block, entity or all"),
        };
        Ok(Self { duplicates, scope })
    }

    fn duplicates(self) -> &'static str {
        if self.duplicates { "y" } else { "n" }
    }

    /// Weak: the same blocks in the same order, by path and parameters.
    fn etag(self, request: &ContentRequest, resolved: &Resolved) -> HeaderValue {
        let path = entity::fnv1a(&request.segments().join("/"));
        let root = resolved.roots.first().unwrap_or(&resolved.cid);
        let (scope, duplicates) = (self.scope, self.duplicates());
        entity::etag(format!("W/\"{root}.car.{path:x}.{scope}.{duplicates}\""))
    }
}

pub(super) async fn respond<B: Backend>(
    gateway: &Gateway<B>,
    request: &ContentRequest,
    resolved: &Resolved,
    source: RequestSource<B>,
) -> Result<Response<Body>, GatewayError> {
    let options = CarOptions::of(request)?;
    let etag = options.etag(request, resolved);
    if conditional::not_modified(request.headers(), &etag) {
        return Ok(entity::not_modified(request, resolved, etag));
    }
    // Whether the node is there decides between an error with a status and a stream.
    source.fetch(&resolved.cid).await?;
    let body = if request.head {
        Body::empty()
    } else {
        let permit = gateway.walk_permit()?;
        let blocks = blocks(&source, resolved, options);
        let sections = at_most(MAX_BLOCKS, resolved.cid, blocks).flat_map(|block| {
            stream::iter(match block {
                Ok(block) => section(&block).map(|part| part.map(Ok)),
                Err(error) => [Some(Err(error)), None],
            })
            .filter_map(future::ready)
        });
        let car = stream::iter([Ok(car_header(resolved.cid))])
            .chain(sections)
            .inspect(move |_| {
                // The permit lives as long as the stream that owns this closure.
                let _walking = &permit;
            });
        Body::stream(car, None)
    };
    let mut response = Response::new(body);
    let map = response.headers_mut();
    describe(map, request, resolved);
    let duplicates = options.duplicates();
    headers::insert(
        map,
        header::CONTENT_TYPE,
        format!("application/vnd.ipld.car; version=1; order=dfs; dups={duplicates}"),
    );
    map.insert(header::ETAG, etag);
    map.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    let root = resolved.roots.first().unwrap_or(&resolved.cid);
    let name = match request.segments().last() {
        Some(last) => format!("{root}_{last}.car"),
        None => format!("{root}.car"),
    };
    let disposition = content_disposition(request, Some((Disposition::Attachment, &name)));
    entity::as_opaque(map, disposition);
    Ok(response)
}

/// The blocks of the path, then those of the scope. Identity CIDs carry their own bytes and are
/// never sections.
fn blocks<B: Backend>(
    source: &RequestSource<B>,
    resolved: &Resolved,
    options: CarOptions,
) -> BoxStream<'static, Result<Block, DagError>> {
    let on_the_way: Vec<Cid> = resolved
        .visited
        .iter()
        .copied()
        .filter(|cid| *cid != resolved.cid)
        .collect();
    let path = stream::iter(on_the_way).then({
        let source = source.clone();
        move |cid| {
            let source = source.clone();
            async move { Ok(source.fetch(&cid).await?) }
        }
    });
    let below = scope::blocks(source, resolved.cid, options.scope, options.duplicates);
    path.chain(below)
        .try_filter(|block| future::ready(block.cid().hash().code() != IDENTITY))
        .boxed()
}

/// The blocks below `root` as they are; instead of the first one beyond `most` there is an error.
fn at_most(
    most: usize,
    root: Cid,
    blocks: impl Stream<Item = Result<Block, DagError>>,
) -> impl Stream<Item = Result<Block, DagError>> {
    let limited = blocks.enumerate().map(move |(number, block)| match block {
        Ok(_) if number >= most => Err(DagError::Limit {
            cid: root,
            limit: format!("{most} blocks of a CAR"),
        }),
        block => block,
    });
    limited.take(most.saturating_add(1))
}

#[derive(Serialize)]
struct CarHeader {
    roots: Vec<Cid>,
    version: u64,
}

fn car_header(root: Cid) -> Bytes {
    let header = serde_ipld_dagcbor::to_vec(&CarHeader {
        roots: vec![root],
        version: 1,
    })
    .expect("a CID and a number are valid DAG-CBOR");
    let mut bytes = BytesMut::with_capacity(header.len() + 2);
    put_varint(&mut bytes, header.len());
    bytes.put_slice(&header);
    bytes.freeze()
}

/// A section: length, CID, bytes of the block. Large blocks are passed on as they are.
fn section(block: &Block) -> [Option<Bytes>; 2] {
    let cid = block.cid().to_bytes();
    let data = block.data();
    let copied = if data.len() < COPY_BELOW {
        data.len()
    } else {
        0
    };
    let mut head = BytesMut::with_capacity(10 + cid.len() + copied);
    put_varint(&mut head, cid.len() + data.len());
    head.put_slice(&cid);
    if copied == data.len() {
        head.put_slice(data);
        [Some(head.freeze()), None]
    } else {
        [Some(head.freeze()), Some(data.clone())]
    }
}

fn put_varint(bytes: &mut BytesMut, value: usize) {
    let mut buffer = unsigned_varint::encode::usize_buffer();
    bytes.put_slice(unsigned_varint::encode::usize(value, &mut buffer));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfs::host::Site;
    use crate::ipfs::request::{Parsed, parse};

    fn options(query: &str) -> Result<CarOptions, GatewayError> {
        let uri = format!("/ipfs/bafkqaaa?format=car{query}");
        let (parts, ()) = http::Request::get(uri).body(()).unwrap().into_parts();
        match parse(parts, Site::Anywhere).unwrap() {
            Parsed::Content(request) => CarOptions::of(&request),
            Parsed::Redirect { .. } => panic!("redirected"),
        }
    }

    #[test]
    fn default_is_everything_once() {
        assert_eq!(
            options("").unwrap(),
            CarOptions {
                duplicates: false,
                scope: Scope::All
            }
        );
    }

    #[test]
    fn entity_bytes_implies_entity() {
        let span = ByteSpan::parse("0:*");
        assert_eq!(
            options("&entity-bytes=0:*").unwrap().scope,
            Scope::Entity(span)
        );
        assert_eq!(options("&dag-scope=block").unwrap().scope, Scope::Block);
    }

    #[tokio::test]
    async fn car_ends_after_so_many_blocks() {
        let block = Block::of(duka_node::block::RAW, Bytes::from_static(b"x"));
        let root = *block.cid();
        let endless = || stream::repeat_with(|| Ok(block.clone()));
        let blocks: Vec<_> = at_most(3, root, endless()).collect().await;
        assert!(blocks[..3].iter().all(Result::is_ok));
        assert!(matches!(blocks[3..], [Err(DagError::Limit { .. })]));
        let whole: Vec<_> = at_most(3, root, endless().take(3)).collect().await;
        assert!(whole.len() == 3 && whole.iter().all(Result::is_ok));
    }

    #[test]
    fn parameters_that_do_not_exist_are_refused() {
        for query in [
            "&car-version=2",
            "&car-order=bfs",
            "&car-dups=maybe",
            "&dag-scope=everything",
            "&entity-bytes=5",
            "&entity-bytes=9:5",
        ] {
            assert_eq!(options(query).unwrap_err().status(), 400, "{query}");
        }
    }

    #[test]
    fn header_of_a_car_is_the_one_of_the_specification() {
        // `ipfs dag export bafkqaaa | xxd` (Kubo 0.43).
        let header = car_header("bafkqaaa".parse().unwrap());
        assert_eq!(
            hex(&header),
            "19a265726f6f747381d82a450001550000677665727369 6f6e01".replace(' ', "")
        );
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
