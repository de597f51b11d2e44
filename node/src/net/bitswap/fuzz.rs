//! What fuzzing calls.

use bytes::Bytes;

use super::message::{Message, OutgoingMessage, Presence, ProtocolVersion, WantEntry, WantKind};
use crate::block::{Block, DAG_PB, RAW};

/// What a message held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Wanted blocks.
    pub wants: usize,
    /// Of those, that are taken back.
    pub cancels: usize,
    /// Blocks whose hash function is known.
    pub blocks: usize,
}

/// Decodes a message and hashes its blocks; `None` when it is malformed. What was decoded is encoded
/// and decoded again, and must be the same.
pub fn decode_message(bytes: &Bytes) -> Option<Counts> {
    let message = Message::decode(bytes).ok()?;
    let wants: Vec<WantEntry> = message
        .wants
        .iter()
        .copied()
        .filter(|want| !want.cancel)
        .collect();
    let mut outgoing = OutgoingMessage::wantlist(&wants, message.full, ProtocolVersion::V1_2);
    for presence in &message.presences {
        outgoing.push_presence(*presence);
    }
    let again = Message::decode(&bytes_of(&outgoing)).expect("what was encoded decodes");
    assert_eq!(again.wants, wants);
    assert_eq!(again.full, message.full);
    assert_eq!(again.presences, message.presences);
    let blocks = message.blocks.iter().filter(|block| block.hash().is_some());
    Some(Counts {
        wants: message.wants.len(),
        cancels: message.wants.len() - wants.len(),
        blocks: blocks.count(),
    })
}

/// Messages with each kind of content.
pub fn example_messages() -> Vec<Bytes> {
    let small = Block::of(RAW, Bytes::from_static(b"a block"));
    let node = Block::of(DAG_PB, Bytes::from_static(b"\x0a\x02\x08\x01"));
    let want = WantEntry::want(*small.cid(), WantKind::Block);
    let cancel = WantEntry {
        cancel: true,
        ..WantEntry::want(*node.cid(), WantKind::Have)
    };
    let mut presence = OutgoingMessage::default();
    presence.push_presence(Presence {
        cid: *small.cid(),
        have: true,
    });
    let mut blocks = OutgoingMessage::default();
    blocks.push_block(small.cid(), small.data().clone(), ProtocolVersion::V1_2);
    blocks.push_block(node.cid(), node.data().clone(), ProtocolVersion::V1_0);
    let messages = [
        OutgoingMessage::wantlist(&[want], true, ProtocolVersion::V1_2),
        OutgoingMessage::wantlist(&[cancel], false, ProtocolVersion::V1_2),
        presence,
        blocks,
    ];
    messages.iter().map(bytes_of).collect()
}

/// A message without its length prefix.
fn bytes_of(message: &OutgoingMessage) -> Bytes {
    let bytes: Vec<u8> = message.pieces().flatten().collect();
    let start = bytes.len() - message.len();
    Bytes::from(bytes).slice(start..)
}
