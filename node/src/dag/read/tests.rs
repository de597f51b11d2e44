use futures::TryStreamExt;
use proptest::prelude::*;

use super::*;
use crate::block::{DAG_PB, RAW};
use crate::dag::hamt::{Entry, build_directory};
use crate::dag::import::Profile;
use crate::dag::unixfs::{Metadata, encode_file, encode_leaf};
use crate::source::memory::MemorySource;

fn link(cid: Cid) -> Link {
    Link {
        cid,
        name: Vec::new(),
        tsize: 0,
    }
}

fn file(source: &MemorySource, children: &[(Cid, u64)]) -> Cid {
    let links: Vec<Link> = children.iter().map(|(cid, _)| link(*cid)).collect();
    let sizes = children.iter().map(|(_, size)| *size).collect();
    let bytes = encode_file(&links, sizes, Metadata::default());
    source.put(Block::of(DAG_PB, bytes.into()))
}

fn leaf(source: &MemorySource, data: &[u8], raw: bool) -> (Cid, u64) {
    let bytes = Bytes::copy_from_slice(data);
    let block = if raw {
        Block::of(RAW, bytes)
    } else {
        Block::of(DAG_PB, encode_leaf(bytes, Metadata::default()).into())
    };
    (source.put(block), data.len() as u64)
}

async fn read(source: &MemorySource, cid: Cid, range: Range<u64>) -> Result<Vec<u8>, DagError> {
    let pieces: Vec<Bytes> = read_range(source, cid, range).try_collect().await?;
    Ok(pieces.concat())
}

/// A file of `chunks` (raw or dag-pb), grouped by `width` per node, and its bytes.
fn build(source: &MemorySource, chunks: &[(Vec<u8>, bool)], width: usize) -> (Cid, Vec<u8>) {
    let bytes = chunks.iter().flat_map(|(data, _)| data.clone()).collect();
    let mut level: Vec<_> = chunks
        .iter()
        .map(|(data, raw)| leaf(source, data, *raw))
        .collect();
    while level.len() > 1 {
        level = level
            .chunks(width)
            .map(|group| {
                (
                    file(source, group),
                    group.iter().map(|(_, size)| size).sum(),
                )
            })
            .collect();
    }
    let root = level.pop().unwrap_or_else(|| leaf(source, b"", true));
    (root.0, bytes)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_range_of_any_file_is_the_slice(
        chunks in proptest::collection::vec((any::<Vec<u8>>(), any::<bool>()), 0..40),
        width in 2_usize..6,
        cut: (u16, u16),
    ) {
        let source = MemorySource::default();
        let (root, bytes) = build(&source, &chunks, width);
        let mut ends = [cut.0, cut.1].map(|at| usize::from(at) % (bytes.len() + 1));
        ends.sort_unstable();
        let [from, to] = ends;
        let got = block_on(read(&source, root, from as u64..to as u64)).unwrap();
        prop_assert_eq!(&got, &bytes[from..to]);
        let all = block_on(read(&source, root, 0..bytes.len() as u64)).unwrap();
        prop_assert_eq!(all, bytes);
    }
}

#[tokio::test]
async fn only_blocks_of_the_range_are_fetched() {
    let source = MemorySource::default();
    let chunks: Vec<_> = (0..100_u8).map(|i| (vec![i; 10], true)).collect();
    let (root, _) = build(&source, &chunks, 200);
    assert_eq!(
        read(&source, root, 515..525).await.unwrap(),
        [[51; 5], [52; 5]].concat()
    );
    assert_eq!(source.take_asked().len(), 3);
}

#[tokio::test]
async fn read_ahead_is_bounded() {
    let source = MemorySource::default();
    let chunks: Vec<_> = (0..100_u8).map(|i| (vec![i; 10], true)).collect();
    let (root, bytes) = build(&source, &chunks, 200);
    let mut stream = Box::pin(read_range(&source, root, 0..bytes.len() as u64));
    stream.try_next().await.unwrap();
    assert!(source.take_asked().len() <= 1 + READ_AHEAD);
}

#[tokio::test]
async fn false_block_size_is_an_error() {
    let source = MemorySource::default();
    let (chunk, _) = leaf(&source, b"12345", true);
    for claimed in [4, 6, u64::MAX] {
        let root = file(&source, &[(chunk, claimed)]);
        let err = read(&source, root, 0..10).await.unwrap_err();
        assert!(matches!(err, DagError::Malformed { .. }), "{err}");
    }
}

#[tokio::test]
async fn endless_depth_is_an_error() {
    let source = MemorySource::default();
    let mut at = leaf(&source, b"x", true);
    for _ in 0..1100 {
        at.0 = file(&source, &[at]);
    }
    let err = read(&source, at.0, 0..1).await.unwrap_err();
    assert!(matches!(err, DagError::Limit { .. }), "{err}");
}

#[tokio::test]
async fn directory_is_no_file_and_file_is_no_directory() {
    let source = MemorySource::default();
    let built = build_directory(vec![], Metadata::default(), Profile::default()).unwrap();
    source.extend(built.blocks);
    let err = read(&source, built.root, 0..1).await.unwrap_err();
    assert!(matches!(err, DagError::WrongKind { .. }));
    let (chunk, _) = leaf(&source, b"x", true);
    let listed: Result<Vec<_>, _> = list(&source, chunk).try_collect().await;
    let err = listed.unwrap_err();
    assert!(matches!(err, DagError::WrongKind { .. }));
}

#[tokio::test]
async fn listing_gives_every_name_of_plain_and_hamt_directories() {
    for count in [0, 10, 6000] {
        let source = MemorySource::default();
        let mut names: Vec<String> = (0..count).map(|i| format!("entry {i}")).collect();
        let entries = names.iter().map(|name| Entry {
            name: name.clone(),
            cid: leaf(&source, name.as_bytes(), true).0,
            tsize: 1,
        });
        let built =
            build_directory(entries.collect(), Metadata::default(), Profile::default()).unwrap();
        source.extend(built.blocks);
        let links: Vec<Link> = list(&source, built.root).try_collect().await.unwrap();
        let mut listed: Vec<String> = links
            .into_iter()
            .map(|link| String::from_utf8(link.name).unwrap())
            .collect();
        listed.sort_unstable();
        names.sort_unstable();
        assert_eq!(listed, names);
    }
}
