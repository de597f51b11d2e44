//! Bitswap messages on the wire: decoding over shared buffers, encoding without copying blocks.
//!
//! Both directions are written by hand: one message of 4 MiB may claim two million entries, which a
//! generated decoder would turn into more than 100 MiB before anybody could look at it, and block
//! data goes to the stream from where it lies. The tests compare with a generated decoder.

use bytes::Bytes;
use cid::{Cid, Version};
use libp2p::StreamProtocol;
use multihash_codetable::{Code, MultihashDigest};
use sha2::{Digest, Sha256};
use unsigned_varint::{decode, encode};

use crate::block::{IDENTITY, MAX_BLOCK_LEN, Multihash, SHA2_256};

/// Largest message that is read, in bytes without the length prefix (as Kubo).
pub(super) const MAX_MESSAGE_LEN: usize = 4 << 20;
/// Entries of each kind that are taken from one message; the rest is ignored.
const MAX_ENTRIES: usize = 16 << 10;
/// Blocks up to this length are copied out of their message, so that one small block that is kept
/// does not keep a whole message in memory.
const COPIED_BLOCK_LEN: usize = 16 << 10;

/// Protocol versions, oldest first: each can say more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProtocolVersion {
    /// 1.0.0 and the id without version: blocks without CID prefix, so SHA-256 CIDv0 only.
    V1_0,
    /// 1.1.0: blocks with CID prefix.
    V1_1,
    /// 1.2.0: HAVE and DONT_HAVE.
    V1_2,
}

impl ProtocolVersion {}

/// Protocol ids, the preferred one first.
pub(super) static PROTOCOLS: [(StreamProtocol, ProtocolVersion); 4] = [
    (
        StreamProtocol::new("/ipfs/bitswap/1.2.0"),
        ProtocolVersion::V1_2,
    ),
    (
        StreamProtocol::new("/ipfs/bitswap/1.1.0"),
        ProtocolVersion::V1_1,
    ),
    (
        StreamProtocol::new("/ipfs/bitswap/1.0.0"),
        ProtocolVersion::V1_0,
    ),
    (StreamProtocol::new("/ipfs/bitswap"), ProtocolVersion::V1_0),
];

/// What a peer wants to know or have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WantKind {
    /// Send the block.
    Block,
    /// Say whether you have it.
    Have,
}

/// One entry of a wantlist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WantEntry {
    pub(super) cid: Cid,
    pub(super) kind: WantKind,
    /// Takes an earlier entry back.
    pub(super) cancel: bool,
    /// Say so at once when you do not have it.
    pub(super) send_dont_have: bool,
}

impl WantEntry {
    /// Wants a block, or to know about it; DONT_HAVE is welcome.
    pub(super) fn want(cid: Cid, kind: WantKind) -> Self {
        Self {
            cid,
            kind,
            cancel: false,
            send_dont_have: true,
        }
    }
}

/// Whether the sender has a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Presence {
    pub(super) cid: Cid,
    pub(super) have: bool,
}

/// A block as it came: not verified, its CID is what the bytes make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReceivedBlock {
    hash_code: u64,
    pub(super) data: Bytes,
}

impl ReceivedBlock {
    /// Hashes the data. `None` when the hash function is not supported or the block is too long:
    /// nobody here asked for such a block.
    pub(super) fn hash(&self) -> Option<Multihash> {
        if self.data.len() > MAX_BLOCK_LEN {
            return None;
        }
        match self.hash_code {
            SHA2_256 => Multihash::wrap(SHA2_256, &Sha256::digest(&self.data)).ok(),
            IDENTITY => None,
            code => Some(Code::try_from(code).ok()?.digest(&self.data)),
        }
    }
}

/// One message, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) wants: Vec<WantEntry>,
    /// The wants replace all earlier ones.
    pub(super) full: bool,
    pub(super) blocks: Vec<ReceivedBlock>,
    pub(super) presences: Vec<Presence>,
}

/// The bytes are not a bitswap message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a bitswap message")]
pub(super) struct MalformedMessage;

impl Message {
    /// Decodes one message without its length prefix. Entries whose CID is not understood are left
    /// out: they may be valid for others.
    pub(super) fn decode(bytes: &Bytes) -> Result<Self, MalformedMessage> {
        let mut message = Self::default();
        for field in Fields::new(bytes) {
            match field? {
                (1, Value::Bytes(wantlist)) => message.decode_wantlist(&wantlist)?,
                (2, Value::Bytes(data)) => message.push_block(SHA2_256, &data),
                (3, Value::Bytes(block)) => message.decode_block(&block)?,
                (4, Value::Bytes(presence)) => message.decode_presence(&presence)?,
                _ => {}
            }
        }
        Ok(message)
    }

    fn decode_wantlist(&mut self, bytes: &Bytes) -> Result<(), MalformedMessage> {
        for field in Fields::new(bytes) {
            match field? {
                (1, Value::Bytes(entry)) => self.decode_want(&entry)?,
                (2, Value::Varint(full)) => self.full = full != 0,
                _ => {}
            }
        }
        Ok(())
    }

    fn decode_want(&mut self, bytes: &Bytes) -> Result<(), MalformedMessage> {
        let mut cid = None;
        let mut kind = WantKind::Block;
        let (mut cancel, mut send_dont_have) = (false, false);
        for field in Fields::new(bytes) {
            match field? {
                (1, Value::Bytes(bytes)) => cid = Cid::try_from(&bytes[..]).ok(),
                (3, Value::Varint(value)) => cancel = value != 0,
                (4, Value::Varint(0)) => kind = WantKind::Block,
                (4, Value::Varint(_)) => kind = WantKind::Have,
                (5, Value::Varint(value)) => send_dont_have = value != 0,
                _ => {}
            }
        }
        if let Some(cid) = cid
            && self.wants.len() < MAX_ENTRIES
        {
            self.wants.push(WantEntry {
                cid,
                kind,
                cancel,
                send_dont_have,
            });
        }
        Ok(())
    }

    fn decode_block(&mut self, bytes: &Bytes) -> Result<(), MalformedMessage> {
        let (mut prefix, mut data) = (Bytes::new(), Bytes::new());
        for field in Fields::new(bytes) {
            match field? {
                (1, Value::Bytes(value)) => prefix = value,
                (2, Value::Bytes(value)) => data = value,
                _ => {}
            }
        }
        let hash_code = hash_code_of_prefix(&prefix).ok_or(MalformedMessage)?;
        self.push_block(hash_code, &data);
        Ok(())
    }

    fn push_block(&mut self, hash_code: u64, data: &Bytes) {
        if self.blocks.len() < MAX_ENTRIES {
            let data = if data.len() <= COPIED_BLOCK_LEN {
                Bytes::copy_from_slice(data)
            } else {
                data.clone()
            };
            self.blocks.push(ReceivedBlock { hash_code, data });
        }
    }

    fn decode_presence(&mut self, bytes: &Bytes) -> Result<(), MalformedMessage> {
        let (mut cid, mut have) = (None, true);
        for field in Fields::new(bytes) {
            match field? {
                (1, Value::Bytes(bytes)) => cid = Cid::try_from(&bytes[..]).ok(),
                (2, Value::Varint(value)) => have = value == 0,
                _ => {}
            }
        }
        if let Some(cid) = cid
            && self.presences.len() < MAX_ENTRIES
        {
            self.presences.push(Presence { cid, have });
        }
        Ok(())
    }
}

/// The hash function in a CID prefix: version, codec, hash function, digest length.
fn hash_code_of_prefix(prefix: &[u8]) -> Option<u64> {
    let (_version, rest) = decode::u64(prefix).ok()?;
    let (_codec, rest) = decode::u64(rest).ok()?;
    let (code, _) = decode::u64(rest).ok()?;
    Some(code)
}

/// Value of one protobuf field.
enum Value {
    Varint(u64),
    Bytes(Bytes),
    Fixed,
}

/// Fields of one protobuf message, in order.
struct Fields<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    fn varint(&mut self) -> Option<u64> {
        let rest = self.bytes.get(self.at..)?;
        // Unlike a multiformats varint, a protobuf one may be padded, and negative `int32` take
        // ten bytes.
        let mut value = 0_u64;
        for (position, byte) in rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(position * 7).ok()?)?;
            if byte & 0x80 == 0 {
                self.at += position + 1;
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<Bytes> {
        let end = self.at.checked_add(len)?;
        if end > self.bytes.len() {
            return None;
        }
        let taken = self.bytes.slice(self.at..end);
        self.at = end;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u64, Value)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

impl Iterator for Fields<'_> {
    type Item = Result<(u64, Value), MalformedMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.bytes.len() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.at = self.bytes.len();
        }
        Some(field.ok_or(MalformedMessage))
    }
}

/// A message to send: small fields encoded, blocks by reference.
#[derive(Debug, Default)]
pub(super) struct OutgoingMessage {
    head: Vec<u8>,
    blocks: Vec<(Vec<u8>, Bytes)>,
    len: usize,
}

impl OutgoingMessage {
    /// A message with this wantlist. Peers before 1.2 know neither WANT-HAVE nor DONT_HAVE: there
    /// every entry wants the block.
    pub(super) fn wantlist(entries: &[WantEntry], full: bool, version: ProtocolVersion) -> Self {
        let mut list = Vec::with_capacity(entries.len() * 48);
        let mut entry_bytes = Vec::with_capacity(64);
        // Everybody's entries are equally urgent; earlier ones go first.
        for (entry, priority) in entries.iter().zip((1..=i32::MAX).rev()) {
            entry_bytes.clear();
            put_bytes(&mut entry_bytes, 1, &entry.cid.to_bytes());
            put_varint(&mut entry_bytes, 2, u64::from(priority.unsigned_abs()));
            if entry.cancel {
                put_varint(&mut entry_bytes, 3, 1);
            } else if version == ProtocolVersion::V1_2 {
                if entry.kind == WantKind::Have {
                    put_varint(&mut entry_bytes, 4, 1);
                }
                if entry.send_dont_have {
                    put_varint(&mut entry_bytes, 5, 1);
                }
            }
            put_bytes(&mut list, 1, &entry_bytes);
        }
        if full {
            put_varint(&mut list, 2, 1);
        }
        let mut head = Vec::with_capacity(list.len() + 8);
        put_bytes(&mut head, 1, &list);
        Self {
            len: head.len(),
            head,
            blocks: Vec::new(),
        }
    }

    /// Adds a presence. Only for peers that speak 1.2.
    pub(super) fn push_presence(&mut self, presence: Presence) {
        let mut bytes = Vec::with_capacity(48);
        put_bytes(&mut bytes, 1, &presence.cid.to_bytes());
        if !presence.have {
            put_varint(&mut bytes, 2, 1);
        }
        let before = self.head.len();
        put_bytes(&mut self.head, 4, &bytes);
        self.len += self.head.len() - before;
    }

    /// Adds a block.
    pub(super) fn push_block(&mut self, cid: &Cid, data: Bytes, version: ProtocolVersion) {
        let mut header = Vec::with_capacity(32);
        if version == ProtocolVersion::V1_0 {
            put_key(&mut header, 2, data.len());
        } else {
            let prefix = prefix_of(cid);
            let mut inner = Vec::with_capacity(16);
            put_bytes(&mut inner, 1, &prefix);
            put_key(&mut inner, 2, data.len());
            put_key(&mut header, 3, inner.len() + data.len());
            header.extend_from_slice(&inner);
        }
        self.len += header.len() + data.len();
        self.blocks.push((header, data));
    }

    /// Whether there is nothing to send.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Length in bytes without the length prefix.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Blocks in the message.
    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Bytes of block data in the message.
    pub(super) fn block_bytes(&self) -> usize {
        self.blocks.iter().map(|(_, data)| data.len()).sum()
    }

    /// The pieces to write, in order: length prefix and small fields, then header and data of each
    /// block.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Bytes> {
        let mut buffer = encode::usize_buffer();
        let mut start = encode::usize(self.len, &mut buffer).to_vec();
        start.extend_from_slice(&self.head);
        std::iter::once(Bytes::from(start)).chain(
            self.blocks
                .iter()
                .flat_map(|(header, data)| [Bytes::copy_from_slice(header), data.clone()]),
        )
    }
}

/// CID prefix of a block: version, codec, hash function, digest length.
fn prefix_of(cid: &Cid) -> Vec<u8> {
    let version = match cid.version() {
        Version::V0 => 0,
        Version::V1 => 1,
    };
    let mut prefix = Vec::with_capacity(8);
    for number in [
        version,
        cid.codec(),
        cid.hash().code(),
        u64::from(cid.hash().size()),
    ] {
        put_number(&mut prefix, number);
    }
    prefix
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(encode::u64(number, &mut encode::u64_buffer()));
}

fn put_varint(out: &mut Vec<u8>, field: u64, value: u64) {
    put_number(out, field << 3);
    put_number(out, value);
}

/// Key and length of a field whose bytes follow.
fn put_key(out: &mut Vec<u8>, field: u64, len: usize) {
    put_number(out, field << 3 | 2);
    out.extend_from_slice(encode::usize(len, &mut encode::usize_buffer()));
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_key(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests;
