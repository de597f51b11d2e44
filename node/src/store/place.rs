//! Where a block lies in its pack: one form in footers, indexes and memory.

use super::layout::Fields;

/// Bits of the length of a block; the length of a record takes the others.
const LEN_BITS: u32 = 22;
/// Records have a multiple of this many bytes.
pub(super) const RECORD_UNIT: usize = 8;
/// Longest record.
pub(super) const MAX_RECORD: usize = ((1 << (32 - LEN_BITS)) - 1) * RECORD_UNIT;

/// Where a block lies in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Of the block's bytes, or of the record that stands for them, from the start of the file.
    pub(super) offset: u64,
    /// Length of the block.
    pub(super) len: u32,
    /// CRC32 of what lies there.
    pub(super) crc: u32,
    /// Length of the record that says in which file the bytes are; 0 where they are here.
    pub(super) record: u16,
}

impl Place {
    /// Encoded bytes.
    pub(super) const LEN: usize = 16;

    /// Whether the block's bytes are in another file.
    pub(super) fn is_in_place(&self) -> bool {
        self.record > 0
    }

    /// Bytes that the block takes in the pack.
    pub(super) fn stored(&self) -> u32 {
        if self.is_in_place() {
            self.record.into()
        } else {
            self.len
        }
    }

    /// Where what lies there ends.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.stored().into())
    }

    pub(super) fn encode_to(&self, out: &mut Vec<u8>) {
        let units = u32::from(self.record) / 8;
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&(self.len | units << LEN_BITS).to_le_bytes());
        out.extend_from_slice(&self.crc.to_le_bytes());
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let offset = fields.u64()?;
        let lengths = fields.u32()?;
        let crc = fields.u32()?;
        Some(Self {
            offset,
            len: lengths & ((1 << LEN_BITS) - 1),
            crc,
            record: u16::try_from((lengths >> LEN_BITS) * 8).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::MAX_BLOCK_LEN;

    #[test]
    fn the_longest_block_and_the_longest_record_read_back() {
        for record in [0, 8, u16::try_from(MAX_RECORD).unwrap()] {
            let place = Place {
                offset: u64::MAX,
                len: u32::try_from(MAX_BLOCK_LEN).unwrap(),
                crc: 7,
                record,
            };
            let mut bytes = Vec::new();
            place.encode_to(&mut bytes);
            assert_eq!(bytes.len(), Place::LEN);
            assert_eq!(Place::decode(&mut Fields(&bytes)), Some(place));
        }
    }
}
