//! Documents: blocks of the codecs DAG-CBOR and DAG-JSON, decoded.

use ipld_core::ipld::Ipld;

use super::DagError;
use crate::block::{Block, DAG_CBOR, DAG_JSON};

/// Decodes a DAG-CBOR or DAG-JSON block. Nesting is limited by the decoders, to 256 and 128 levels.
///
/// # Errors
/// [`DagError::Malformed`] when the bytes are not valid for the codec, [`DagError::WrongKind`] for
/// other codecs.
pub fn decode(block: &Block) -> Result<Ipld, DagError> {
    let malformed = |what, reason: String| DagError::Malformed {
        cid: *block.cid(),
        what,
        reason,
    };
    match block.cid().codec() {
        DAG_CBOR => serde_ipld_dagcbor::from_slice(block.data())
            .map_err(|err| malformed("dag-cbor", err.to_string())),
        DAG_JSON => serde_ipld_dagjson::from_slice(block.data())
            .map_err(|err| malformed("dag-json", err.to_string())),
        _ => Err(DagError::WrongKind {
            cid: *block.cid(),
            found: "of another codec",
            wanted: "a DAG-CBOR or DAG-JSON document",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_nesting_is_an_error_and_no_stack_overflow() {
        for (codec, byte) in [(DAG_CBOR, 0x81), (DAG_JSON, b'[')] {
            let block = Block::of(codec, vec![byte; 1 << 20].into());
            assert!(matches!(decode(&block), Err(DagError::Malformed { .. })));
        }
    }

    #[test]
    fn claimed_lengths_are_not_allocated() {
        for head in [0x9b_u8, 0xbb, 0x5b, 0x7b] {
            let mut bytes = vec![head];
            bytes.extend_from_slice(&(1_u64 << 62).to_be_bytes());
            let block = Block::of(DAG_CBOR, bytes.into());
            assert!(matches!(decode(&block), Err(DagError::Malformed { .. })));
        }
    }
}
