use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::block::{Block, DAG_PB, RAW};

/// The message as other implementations generate it from the specification.
#[derive(Clone, PartialEq, prost::Message)]
struct Reference {
    #[prost(message, optional, tag = "1")]
    wantlist: Option<ReferenceWantlist>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    blocks: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "3")]
    payload: Vec<ReferenceBlock>,
    #[prost(message, repeated, tag = "4")]
    presences: Vec<ReferencePresence>,
    #[prost(int32, tag = "5")]
    pending_bytes: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReferenceWantlist {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<ReferenceEntry>,
    #[prost(bool, tag = "2")]
    full: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReferenceEntry {
    #[prost(bytes = "vec", tag = "1")]
    block: Vec<u8>,
    #[prost(int32, tag = "2")]
    priority: i32,
    #[prost(bool, tag = "3")]
    cancel: bool,
    #[prost(int32, tag = "4")]
    want_type: i32,
    #[prost(bool, tag = "5")]
    send_dont_have: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReferenceBlock {
    #[prost(bytes = "vec", tag = "1")]
    prefix: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReferencePresence {
    #[prost(bytes = "vec", tag = "1")]
    cid: Vec<u8>,
    #[prost(int32, tag = "2")]
    kind: i32,
}

fn cid(codec: u64, n: u32) -> Cid {
    *Block::of(codec, Bytes::copy_from_slice(&n.to_be_bytes())).cid()
}

/// What the message looks like on the wire, without the length prefix, which is checked.
fn written(message: &OutgoingMessage) -> Vec<u8> {
    let all: Vec<u8> = message.pieces().flatten().collect();
    let (len, body) = decode::usize(&all).unwrap();
    assert_eq!(len, body.len());
    body.to_vec()
}

#[test]
fn written_wantlist_is_read_by_a_generated_decoder() {
    let entries = [
        WantEntry::want(cid(RAW, 1), WantKind::Block),
        WantEntry::want(cid(DAG_PB, 2), WantKind::Have),
        WantEntry {
            cancel: true,
            send_dont_have: false,
            ..WantEntry::want(cid(RAW, 3), WantKind::Block)
        },
    ];
    let message = OutgoingMessage::wantlist(&entries, true, ProtocolVersion::V1_2);
    let wantlist = Reference::decode(&written(&message)[..])
        .unwrap()
        .wantlist
        .unwrap();
    assert!(wantlist.full);
    let got: Vec<_> = wantlist
        .entries
        .iter()
        .map(|entry| {
            let flags = (entry.want_type, entry.cancel, entry.send_dont_have);
            (Cid::try_from(&entry.block[..]).unwrap(), flags)
        })
        .collect();
    assert_eq!(
        got,
        [
            (cid(RAW, 1), (0, false, true)),
            (cid(DAG_PB, 2), (1, false, true)),
            (cid(RAW, 3), (0, true, false)),
        ]
    );
    assert!(wantlist.entries[0].priority > wantlist.entries[1].priority);
}

#[test]
fn want_have_becomes_want_block_for_peers_before_1_2() {
    let entries = [WantEntry::want(cid(RAW, 1), WantKind::Have)];
    let message = OutgoingMessage::wantlist(&entries, false, ProtocolVersion::V1_1);
    let wantlist = Reference::decode(&written(&message)[..]).unwrap().wantlist;
    let entry = wantlist.unwrap().entries.remove(0);
    assert_eq!((entry.want_type, entry.send_dont_have), (0, false));
}

#[test]
fn blocks_and_presences_are_read_by_a_generated_decoder() {
    let block = Block::of(RAW, Bytes::from(vec![7; 300_000]));
    let mut message = OutgoingMessage::default();
    message.push_presence(Presence {
        cid: cid(RAW, 1),
        have: false,
    });
    message.push_block(block.cid(), block.data().clone(), ProtocolVersion::V1_2);
    assert_eq!(message.len(), written(&message).len());
    let reference = Reference::decode(&written(&message)[..]).unwrap();
    assert_eq!(reference.payload[0].data[..], block.data()[..]);
    assert_eq!(reference.payload[0].prefix, [1, 0x55, 0x12, 32]);
    assert_eq!(reference.presences[0].kind, 1);
}

#[test]
fn block_for_1_0_has_no_prefix() {
    let data = Bytes::from_static(b"hello");
    let mut message = OutgoingMessage::default();
    message.push_block(&cid(RAW, 1), data.clone(), ProtocolVersion::V1_0);
    let reference = Reference::decode(&written(&message)[..]).unwrap();
    assert_eq!(reference.blocks, [data.to_vec()]);
    assert!(reference.payload.is_empty());
}

#[test]
fn block_of_2_mib_fits_a_message() {
    let block = Block::of(RAW, Bytes::from(vec![0; MAX_BLOCK_LEN]));
    let mut message = OutgoingMessage::default();
    message.push_block(block.cid(), block.data().clone(), ProtocolVersion::V1_2);
    assert!(message.len() < MAX_MESSAGE_LEN);
    let read = Message::decode(&Bytes::from(written(&message))).unwrap();
    assert_eq!(read.blocks[0].hash(), Some(*block.cid().hash()));
}

#[test]
fn entries_of_one_message_are_bounded() {
    let entry = ReferenceEntry {
        block: cid(RAW, 1).to_bytes(),
        ..ReferenceEntry::default()
    };
    let message = Reference {
        wantlist: Some(ReferenceWantlist {
            entries: vec![entry; MAX_ENTRIES + 10],
            full: false,
        }),
        payload: vec![
            ReferenceBlock {
                prefix: vec![1, 0x55, 0x12, 32],
                data: vec![]
            };
            MAX_ENTRIES + 10
        ],
        ..Reference::default()
    };
    let read = Message::decode(&Bytes::from(message.encode_to_vec())).unwrap();
    assert_eq!(
        (read.wants.len(), read.blocks.len()),
        (MAX_ENTRIES, MAX_ENTRIES)
    );
}

#[test]
fn length_past_the_end_is_malformed() {
    for bytes in [&b"\x0a\x05\x00"[..], b"\x0a", b"\x0f\x00", b"\xff"] {
        assert_eq!(
            Message::decode(&Bytes::copy_from_slice(bytes)),
            Err(MalformedMessage),
            "{bytes:?}"
        );
    }
}

#[test]
fn entry_with_unreadable_cid_is_left_out() {
    let message = Reference {
        presences: vec![
            ReferencePresence {
                cid: vec![9, 9],
                kind: 0,
            },
            ReferencePresence {
                cid: cid(RAW, 1).to_bytes(),
                kind: 0,
            },
        ],
        ..Reference::default()
    };
    let read = Message::decode(&Bytes::from(message.encode_to_vec())).unwrap();
    assert_eq!(read.presences.len(), 1);
}

prop_compose! {
    fn any_entry()(n: u32, priority: i32, cancel: bool, want_type in 0..2_i32, dont_have: bool)
        -> ReferenceEntry {
        ReferenceEntry {
            block: cid(RAW, n).to_bytes(),
            priority,
            cancel,
            want_type,
            send_dont_have: dont_have,
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        drop(Message::decode(&Bytes::from(bytes)));
    }

    #[test]
    fn damaged_message_never_panics(
        entries in prop::collection::vec(any_entry(), 0..5),
        data: Vec<u8>,
        at: prop::sample::Index,
        byte: u8,
    ) {
        let message = Reference {
            wantlist: Some(ReferenceWantlist { entries, full: true }),
            payload: vec![ReferenceBlock { prefix: vec![1, 0x55, 0x12, 32], data }],
            ..Reference::default()
        };
        let mut bytes = message.encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        drop(Message::decode(&Bytes::from(bytes)));
    }

    #[test]
    fn generated_encoding_is_read(
        entries in prop::collection::vec(any_entry(), 0..20),
        full: bool,
        datas in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..5),
        pending_bytes: i32,
    ) {
        let message = Reference {
            wantlist: Some(ReferenceWantlist { entries: entries.clone(), full }),
            payload: datas.iter().map(|data| ReferenceBlock {
                prefix: vec![1, 0x55, 0x12, 32],
                data: data.clone(),
            }).collect(),
            pending_bytes,
            ..Reference::default()
        };
        let read = Message::decode(&Bytes::from(message.encode_to_vec())).unwrap();
        prop_assert_eq!(read.full, full);
        prop_assert_eq!(read.wants.len(), entries.len());
        for (want, entry) in read.wants.iter().zip(&entries) {
            prop_assert_eq!(want.cid.to_bytes(), entry.block.clone());
            prop_assert_eq!(want.cancel, entry.cancel);
            prop_assert_eq!(want.kind == WantKind::Have, entry.want_type == 1);
            prop_assert_eq!(want.send_dont_have, entry.send_dont_have);
        }
        let blocks: Vec<_> = read.blocks.iter().map(|block| block.data.to_vec()).collect();
        prop_assert_eq!(blocks, datas);
    }
}
