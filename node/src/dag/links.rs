//! The links of any block, by its codec.

use cid::Cid;
use ipld_core::codec::Links;
use serde_ipld_dagcbor::codec::DagCborCodec;
use serde_ipld_dagjson::codec::DagJsonCodec;

use super::{DagError, dagpb};
use crate::block::{Block, DAG_CBOR, DAG_JSON, DAG_PB};

/// The CIDs that a block links to, in order, duplicates kept. A codec without links gives none.
///
/// # Errors
/// [`DagError::Malformed`] when the block is not valid for its codec.
pub fn links(block: &Block) -> Result<Vec<Cid>, DagError> {
    let malformed = |what, reason: String| DagError::Malformed {
        cid: *block.cid(),
        what,
        reason,
    };
    match block.cid().codec() {
        DAG_PB => {
            let node = dagpb::decode(block.data())
                .map_err(|reason| malformed("dag-pb", reason.to_owned()))?;
            Ok(node.links.into_iter().map(|link| link.cid).collect())
        }
        DAG_CBOR => DagCborCodec::links(block.data())
            .map(Iterator::collect)
            .map_err(|err| malformed("dag-cbor", err.to_string())),
        DAG_JSON => DagJsonCodec::links(block.data())
            .map(Iterator::collect)
            .map_err(|err| malformed("dag-json", err.to_string())),
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use ipld_core::ipld::Ipld;
    use proptest::prelude::*;

    use super::*;
    use crate::block::{CBOR, JSON, RAW, cid_of};

    fn nested(cids: &[Cid]) -> Ipld {
        let list = cids.iter().copied().map(Ipld::Link).collect();
        Ipld::Map(BTreeMap::from([(
            "a".to_owned(),
            Ipld::List(vec![Ipld::Null, Ipld::List(list)]),
        )]))
    }

    #[test]
    fn links_of_each_codec_come_in_order_with_duplicates() {
        let [a, b] = [cid_of(RAW, b"a"), cid_of(DAG_PB, b"b")];
        let wanted = vec![b, a, b];
        let cbor = serde_ipld_dagcbor::to_vec(&nested(&wanted)).unwrap();
        let json = serde_ipld_dagjson::to_vec(&nested(&wanted)).unwrap();
        assert_eq!(links(&Block::of(DAG_CBOR, cbor.into())).unwrap(), wanted);
        assert_eq!(links(&Block::of(DAG_JSON, json.into())).unwrap(), wanted);
    }

    #[test]
    fn codecs_without_links_have_none_whatever_the_bytes() {
        for codec in [RAW, CBOR, JSON, 0x1234] {
            let block = Block::of(codec, Bytes::from_static(b"\xff{"));
            assert_eq!(links(&block).unwrap(), vec![]);
        }
    }

    #[test]
    fn claimed_lengths_are_not_allocated() {
        // An array, a map and a byte string that each claim 2^62 items: the go-ipld-prime defect.
        for head in [0x9b_u8, 0xbb, 0x5b] {
            let mut bytes = vec![head];
            bytes.extend_from_slice(&(1_u64 << 62).to_be_bytes());
            let block = Block::of(DAG_CBOR, bytes.into());
            assert!(matches!(links(&block), Err(DagError::Malformed { .. })));
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_stack_overflow() {
        let cbor = Block::of(DAG_CBOR, vec![0x81; 1 << 20].into());
        assert!(links(&cbor).is_err());
        let json = Block::of(DAG_JSON, vec![b'['; 1 << 20].into());
        assert!(links(&json).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_links_or_an_error(bytes: Vec<u8>) {
            for codec in [DAG_PB, DAG_CBOR, DAG_JSON] {
                let _ignored = links(&Block::of(codec, bytes.clone().into()));
            }
        }
    }
}
