use futures::executor::block_on;
use futures::future;
use proptest::prelude::*;

use super::*;
use crate::block::{DAG_PB, RAW};
use crate::dag::hamt::{Entry, build_directory};
use crate::dag::import::Profile;
use crate::dag::unixfs::Metadata;
use crate::source::memory::MemorySource;

fn car(blocks: &[Block]) -> Vec<u8> {
    let root = blocks
        .first()
        .map_or_else(|| "bafkqaaa".parse().unwrap(), |b| *b.cid());
    let stream = encode(root, stream::iter(blocks.iter().cloned().map(Ok)));
    let pieces: Vec<Bytes> = block_on(stream.try_collect()).unwrap();
    pieces.concat()
}

fn read(mut bytes: &[u8]) -> Result<CarSummary, CarError> {
    import_into(&Sink::Discard, &mut bytes)
}

fn leaves(count: u8) -> Vec<Block> {
    (0..count)
        .map(|i| Block::of(RAW, vec![i; 100 + usize::from(i)].into()))
        .collect()
}

/// What `car` looks like inside a CARv2: pragma, fixed header, `gap` bytes, payload, index.
fn v2(car: &[u8], gap: usize) -> Vec<u8> {
    let pragma = [
        0x0a, 0xa1, 0x67, b'v', b'e', b'r', b's', b'i', b'o', b'n', 0x02,
    ];
    let mut out = pragma.to_vec();
    out.extend_from_slice(&[0; 16]);
    for number in [51 + gap, car.len(), 51 + gap + car.len()] {
        out.extend_from_slice(&(number as u64).to_le_bytes());
    }
    out.extend(std::iter::repeat_n(0xee, gap));
    out.extend_from_slice(car);
    out.extend_from_slice(b"an index that is no section");
    out
}

#[test]
fn what_is_written_is_read_back() {
    let blocks = leaves(50);
    let summary = read(&car(&blocks)).unwrap();
    assert_eq!(summary.roots, [*blocks[0].cid()]);
    assert_eq!(summary.blocks, 50);
    let bytes: usize = blocks.iter().map(|block| block.data().len()).sum();
    assert_eq!(summary.bytes, bytes as u64);
}

#[test]
fn payload_of_a_carv2_is_read_and_its_index_is_not() {
    for gap in [0, 1, 4096] {
        assert_eq!(read(&v2(&car(&leaves(3)), gap)).unwrap().blocks, 3);
    }
}

#[test]
fn cidv0_and_identity_sections_are_read() {
    let v0 = Profile::UnixfsV0_2015.dag_pb(vec![]);
    assert_eq!(read(&car(std::slice::from_ref(&v0))).unwrap().blocks, 1);
    // `bafkqaaik` is the identity CID of "\n": a section of its CID and that byte.
    let identity: Cid = "bafkqaaik".parse().unwrap();
    let mut bytes = car(&[]);
    put_varint(&mut bytes, identity.encoded_len() + 1);
    identity.write_bytes(&mut bytes).unwrap();
    bytes.push(b'\n');
    assert_eq!(read(&bytes).unwrap().blocks, 1);
}

#[test]
fn identity_blocks_are_not_written() {
    let inline = Block::inlined(&"bafkqaaik".parse().unwrap())
        .unwrap()
        .unwrap();
    let leaf = leaves(1).remove(0);
    assert_eq!(car(&[leaf.clone(), inline]), car(&[leaf]));
}

#[test]
fn every_truncation_is_noticed_unless_it_is_between_sections() {
    let blocks = leaves(3);
    let whole = car(&blocks);
    // A section is a varint of two bytes, a CID of 36, and the block.
    let sections: usize = blocks.iter().map(|block| 2 + 36 + block.data().len()).sum();
    let header = whole.len() - sections;
    let mut boundaries = vec![header];
    for n in 1..=3 {
        boundaries.push(car(&blocks[..n]).len());
    }
    for cut in 0..whole.len() {
        match read(&whole[..cut]) {
            Ok(summary) => {
                let read = usize::try_from(summary.blocks).unwrap();
                assert_eq!(boundaries[read], cut);
            }
            Err(CarError::NotCar { .. }) => assert!(cut < header),
            Err(CarError::Truncated { blocks }) => {
                let read = usize::try_from(blocks).unwrap();
                assert!(boundaries[read] < cut && cut < boundaries[read + 1]);
            }
            Err(other) => panic!("cut at {cut}: {other}"),
        }
    }
}

#[test]
fn wrong_bytes_name_the_section() {
    let blocks = leaves(30);
    let mut bytes = car(&blocks);
    let before = car(&blocks[..17]).len();
    bytes[before + 50] ^= 1;
    assert!(matches!(
        read(&bytes),
        Err(CarError::Section { index: 17, .. })
    ));
}

#[test]
fn first_of_many_bad_sections_is_named() {
    let mut blocks = leaves(150);
    let bad = Block::trusted(*blocks[0].cid(), vec![7; 2 << 20].into());
    blocks.extend(std::iter::repeat_n(bad, 20));
    let err = read(&car(&blocks)).unwrap_err();
    assert!(matches!(err, CarError::Section { index: 150, .. }), "{err}");
}

#[test]
fn giant_lengths_are_refused_before_anything_is_allocated() {
    let mut section = car(&leaves(1));
    section.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert!(matches!(
        read(&section),
        Err(CarError::Section { index: 1, .. })
    ));
    let header = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(matches!(read(&header), Err(CarError::NotCar { .. })));
    let endless = [0xff; 32];
    assert!(matches!(read(&endless), Err(CarError::NotCar { .. })));
}

#[test]
fn block_of_two_mib_passes_and_one_byte_more_does_not() {
    let block = |len| Block::of(RAW, vec![1; len].into());
    assert_eq!(read(&car(&[block(2 << 20)])).unwrap().blocks, 1);
    let err = read(&car(&[block((2 << 20) + 1)])).unwrap_err();
    assert!(matches!(err, CarError::Section { index: 0, .. }));
}

#[test]
fn other_files_are_not_cars() {
    for bytes in [&b""[..], b"PK\x03\x04", b"hello world, this is text"] {
        assert!(matches!(read(bytes), Err(CarError::NotCar { .. })));
    }
    let mut version_three = car(&leaves(1));
    let at = version_three
        .windows(7)
        .position(|w| w == b"version")
        .unwrap()
        + 7;
    version_three[at] = 3;
    assert!(matches!(read(&version_three), Err(CarError::NotCar { .. })));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, flip: (u16, u8)) {
        let _ignored = read(&bytes);
        let mut damaged = car(&leaves(3));
        let at = usize::from(flip.0) % damaged.len();
        damaged[at] ^= flip.1;
        let _ignored = read(&damaged);
        let mut both = v2(&damaged, 0);
        both[at % 51] ^= flip.1;
        let _ignored = read(&both);
    }
}

fn tree(source: &MemorySource) -> Cid {
    let entries = leaves(40).into_iter().map(|leaf| Entry {
        // 300 bytes are more than a file system takes, and no problem in a CAR.
        name: format!("{}{}", "ü".repeat(148), leaf.data().len()),
        cid: source.put(leaf),
        tsize: 1,
    });
    let built = build_directory(entries.collect(), Metadata::default(), Profile::default());
    let built = built.unwrap();
    source.extend(built.blocks);
    built.root
}

#[tokio::test]
async fn exported_file_holds_the_dag_in_depth_first_order() {
    let source = MemorySource::default();
    let root = tree(&source);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tree.car");
    let summary = export(&source, root, &path).await.unwrap();
    assert_eq!(
        (summary.blocks, summary.roots.as_slice()),
        (41, &[root][..])
    );
    let bytes = std::fs::read(&path).unwrap();
    let blocks: Vec<Block> = walk(&source, root, WalkOptions::default())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(blocks[0].cid().codec(), DAG_PB);
    assert_eq!(bytes, car(&blocks));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn failed_export_leaves_no_file() {
    let source = MemorySource::default();
    let root = tree(&source);
    source.remove(leaves(40)[39].cid());
    let dir = tempfile::tempdir().unwrap();
    let err = export(&source, root, &dir.path().join("tree.car"))
        .await
        .unwrap_err();
    assert!(matches!(err, CarError::Dag(_)));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

    let absent = dir.path().join("no such folder/tree.car");
    let err = export(&source, root, &absent).await.unwrap_err();
    assert!(matches!(err, CarError::Write { .. }));
}

#[tokio::test]
async fn error_in_the_blocks_ends_the_stream() {
    let cid: Cid = "bafkqaaa".parse().unwrap();
    let failing = stream::once(future::ready(Err(DagError::NoLink {
        parent: cid,
        segment: "x".to_owned(),
    })));
    let results: Vec<_> = encode(cid, failing).collect().await;
    assert!(results[0].is_ok() && results[1].is_err());
}

#[test]
fn blocks_before_a_bad_section_stay_in_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let options = crate::store::StoreOptions {
        reserve: 0,
        ..crate::store::StoreOptions::default()
    };
    let (store, _) = Store::open(dir.path(), options).unwrap();
    let blocks = leaves(10);
    let mut bytes = car(&blocks);
    let before = car(&blocks[..7]).len();
    bytes[before + 60] ^= 1;
    let err = import(&store, PackKind::Kept, &mut bytes.as_slice()).unwrap_err();
    assert!(matches!(err, CarError::Section { index: 7, .. }), "{err}");
    for (index, block) in blocks.iter().enumerate() {
        assert_eq!(store.has(block.cid()).unwrap(), index < 7);
    }
}
