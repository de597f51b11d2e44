use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::block::RAW;
use crate::dag::hamt::{Entry, build_directory};
use crate::dag::import::Profile;
use crate::dag::unixfs::Metadata;
use crate::source::memory::MemorySource;

const CID: &str = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

fn segments(path: &str) -> Vec<String> {
    path.split('/').map(str::to_owned).collect()
}

fn directory(source: &MemorySource, entries: &[(&str, Cid)]) -> Cid {
    let entries = entries.iter().map(|(name, cid)| Entry {
        name: (*name).to_owned(),
        cid: *cid,
        tsize: 0,
    });
    let built = build_directory(entries.collect(), Metadata::default(), Profile::default());
    let built = built.unwrap();
    source.extend(built.blocks);
    built.root
}

fn raw(source: &MemorySource, data: &'static [u8]) -> Cid {
    source.put(Block::of(RAW, Bytes::from_static(data)))
}

#[test]
fn every_spelling_of_a_path_is_read() {
    let plain = ContentPath::parse(&format!("/ipfs/{CID}/a b/%41")).unwrap();
    assert_eq!(plain.root, Root::Cid(CID.parse().unwrap()));
    assert_eq!(plain.segments, ["a b", "%41"]);
    for same in [
        format!("{CID}/a b/%41"),
        format!("ipfs://{CID}/a b/%41"),
        format!("/ipfs/{CID}//a b/%41/"),
    ] {
        assert_eq!(ContentPath::parse(&same).unwrap(), plain);
    }
}

#[test]
fn a_bare_word_that_can_only_be_a_name_is_one() {
    let name: Name = "k51qzi5uqu5din1fzgppghdhrbw1ijlkaj8n70ld7z4uh6erh9l2a2e1lg6j64"
        .parse()
        .unwrap();
    let peer = libp2p::PeerId::from_bytes(&name.to_bytes()).unwrap();
    for word in [name.to_string(), name.cid().to_string(), peer.to_string()] {
        let path = ContentPath::parse(&format!("{word}/p/album")).unwrap();
        assert_eq!(path.root, Root::Name(name.clone()), "{word}");
        assert_eq!(path.segments, ["p", "album"]);
    }
    // An old peer id has the shape of a CID of content.
    let old = ContentPath::parse("QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN").unwrap();
    assert!(matches!(old.root, Root::Cid(_)));
    let said = ContentPath::parse(&format!("/ipfs/{name}")).unwrap();
    assert!(matches!(said.root, Root::Cid(_)), "a path says what it is");
}

#[test]
fn names_with_a_dot_are_domains() {
    let domain = ContentPath::parse("/ipns/example.org/x").unwrap();
    assert_eq!(domain.root, Root::Domain("example.org".to_owned()));
    assert_eq!(domain.to_string(), "/ipns/example.org/x");
}

#[test]
fn what_is_no_path_is_refused() {
    for text in [
        "",
        "/",
        "/ipfs/",
        "/ipns//",
        "/ipfs/nonsense",
        "/other/x",
        "hello",
        "/ipns/x y.z",
    ] {
        assert!(ContentPath::parse(text).is_err(), "{text}");
    }
    let long = format!("{CID}{}", "/x".repeat(1025));
    assert!(ContentPath::parse(&long).is_err());
}

proptest! {
    #[test]
    fn printing_and_parsing_agree(path: String) {
        let path = format!("{CID}/{path}");
        if let Ok(parsed) = ContentPath::parse(&path) {
            prop_assert_eq!(ContentPath::parse(&parsed.to_string()).unwrap(), parsed);
        }
    }
}

#[tokio::test]
async fn directories_are_followed_by_exact_names() {
    let source = MemorySource::default();
    let file = raw(&source, b"x");
    let composed = raw(&source, b"composed");
    let inner = directory(&source, &[("f", file), ("\u{e9}", composed)]);
    let root = directory(&source, &[("a b", inner)]);
    let found = resolve(&source, root, &segments("a b/f")).await.unwrap();
    assert_eq!(found.cid, file);
    assert_eq!(found.roots, [root, inner, file]);
    assert_eq!(found.visited, [root, inner]);
    assert!(found.remainder.is_empty());

    let decomposed = resolve(&source, root, &segments("a b/e\u{301}")).await;
    assert!(matches!(decomposed, Err(DagError::NoLink { segment, .. }) if segment == "e\u{301}"));
    let below_file = resolve(&source, root, &segments("a b/f/x")).await;
    assert!(matches!(below_file, Err(DagError::NoLink { parent, .. }) if parent == file));
}

#[tokio::test]
async fn root_alone_needs_no_block() {
    let source = MemorySource::default();
    let cid = CID.parse().unwrap();
    let found = resolve(&source, cid, &[]).await.unwrap();
    assert_eq!(
        (found.cid, found.roots, found.visited),
        (cid, vec![cid], vec![])
    );
}

#[tokio::test]
async fn hamt_shards_are_visited_but_are_no_roots() {
    let source = MemorySource::default();
    let file = raw(&source, b"x");
    let names: Vec<String> = (0..6000).map(|i| format!("entry {i}")).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), file)).collect();
    let root = directory(&source, &entries);
    let found = resolve(&source, root, &segments("entry 77")).await.unwrap();
    assert_eq!(found.roots, [root, file]);
    assert!(found.visited.len() >= 2);
    assert_eq!(found.visited[0], root);
    let missing = resolve(&source, root, &segments("entry 6000")).await;
    assert!(matches!(missing, Err(DagError::NoLink { parent, .. }) if parent == root));
}

#[tokio::test]
async fn ipld_is_followed_through_maps_and_lists() {
    let source = MemorySource::default();
    let file = raw(&source, b"x");
    let directory = directory(&source, &[("f", file)]);
    let list = Ipld::List(vec![Ipld::Integer(7), Ipld::Link(directory)]);
    let node = Ipld::Map(BTreeMap::from([("a".to_owned(), list)]));
    let cbor = serde_ipld_dagcbor::to_vec(&node).unwrap();
    let json = serde_ipld_dagjson::to_vec(&node).unwrap();
    for (codec, bytes) in [(DAG_CBOR, cbor), (DAG_JSON, json)] {
        let root = source.put(Block::of(codec, bytes.into()));
        let found = resolve(&source, root, &segments("a/1/f")).await.unwrap();
        assert_eq!(found.cid, file);
        assert_eq!(found.roots, [root, root, directory, file]);

        let value = resolve(&source, root, &segments("a/0")).await.unwrap();
        assert_eq!(value.cid, root);
        assert_eq!(value.remainder, ["a", "0"]);
        for missing in ["b", "a/2", "a/01", "a/-1", "a/0/x"] {
            let err = resolve(&source, root, &segments(missing)).await;
            assert!(matches!(err, Err(DagError::NoLink { .. })), "{missing}");
        }
    }
}
