//! The dag-pb codec (ipld.io/specs/codecs/dag-pb): links and data, as strict as Kubo reads it.

use bytes::Bytes;
use cid::Cid;

use super::unixfs::Link;

/// A dag-pb node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PbNode {
    /// Links in stored order.
    pub(crate) links: Vec<Link>,
    /// The `Data` field, absent or present.
    pub(crate) data: Option<Bytes>,
}

const LENGTH_DELIMITED: u64 = 2;
const VARINT: u64 = 0;

/// Decodes `bytes`; `Data` may stand before or after the links (old blocks have it in front), but
/// unknown fields, repeated fields and split link lists are refused, as Kubo does.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn decode(bytes: &Bytes) -> Result<PbNode, &'static str> {
    let mut node = PbNode::default();
    let mut links_ended = false;
    let mut rest: &[u8] = bytes;
    while !rest.is_empty() {
        match read_tag(&mut rest)? {
            (1, LENGTH_DELIMITED) => {
                if node.data.is_some() {
                    return Err("Data appears twice");
                }
                node.data = Some(bytes.slice_ref(read_bytes(&mut rest)?));
                links_ended = !node.links.is_empty();
            }
            (2, LENGTH_DELIMITED) => {
                if links_ended {
                    return Err("the links are not together");
                }
                node.links.push(decode_link(read_bytes(&mut rest)?)?);
            }
            (1 | 2, _) => return Err("a field has the wrong wire type"),
            _ => return Err("there is a field that dag-pb does not have"),
        }
    }
    Ok(node)
}

/// Encodes in the canonical order: links, then data. The caller sorts the links.
pub(crate) fn encode(links: &[Link], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(encoded_len(links, data.len()));
    for link in links {
        put_tag(&mut out, 2, LENGTH_DELIMITED);
        put_varint(&mut out, link_len(link) as u64);
        put_tag(&mut out, 1, LENGTH_DELIMITED);
        put_varint(&mut out, link.cid.encoded_len() as u64);
        link.cid
            .write_bytes(&mut out)
            .expect("writing to a Vec does not fail");
        put_tag(&mut out, 2, LENGTH_DELIMITED);
        put_varint(&mut out, link.name.len() as u64);
        out.extend_from_slice(&link.name);
        put_tag(&mut out, 3, VARINT);
        put_varint(&mut out, link.tsize);
    }
    put_tag(&mut out, 1, LENGTH_DELIMITED);
    put_varint(&mut out, data.len() as u64);
    out.extend_from_slice(data);
    out
}

/// Length in bytes of [`encode`]'s result for `links` and `data_len` bytes of data.
pub(crate) fn encoded_len(links: &[Link], data_len: usize) -> usize {
    let links: usize = links
        .iter()
        .map(link_len)
        .map(|len| 1 + varint_len(len as u64) + len)
        .sum();
    links + 1 + varint_len(data_len as u64) + data_len
}

fn link_len(link: &Link) -> usize {
    let cid = link.cid.encoded_len();
    let name = link.name.len();
    3 + varint_len(cid as u64) + cid + varint_len(name as u64) + name + varint_len(link.tsize)
}

fn decode_link(mut rest: &[u8]) -> Result<Link, &'static str> {
    let mut cid = None;
    let mut name = None;
    let mut tsize = None;
    while !rest.is_empty() {
        match read_tag(&mut rest)? {
            (1, LENGTH_DELIMITED) if cid.is_none() && name.is_none() && tsize.is_none() => {
                let bytes = read_bytes(&mut rest)?;
                cid = Some(Cid::try_from(bytes).map_err(|_| "a link has an invalid CID")?);
            }
            (2, LENGTH_DELIMITED) if name.is_none() && tsize.is_none() => {
                name = Some(read_bytes(&mut rest)?.to_vec());
            }
            (3, VARINT) if tsize.is_none() => tsize = Some(read_varint(&mut rest)?),
            _ => return Err("a link has unknown, repeated or disordered fields"),
        }
    }
    Ok(Link {
        cid: cid.ok_or("a link has no CID")?,
        name: name.unwrap_or_default(),
        tsize: tsize.unwrap_or_default(),
    })
}

fn read_tag(rest: &mut &[u8]) -> Result<(u64, u64), &'static str> {
    let tag = read_varint(rest)?;
    Ok((tag >> 3, tag & 7))
}

fn read_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], &'static str> {
    let len = usize::try_from(read_varint(rest)?).map_err(|_| "a length is too large")?;
    let (head, tail) = rest
        .split_at_checked(len)
        .ok_or("a field is longer than the block")?;
    *rest = tail;
    Ok(head)
}

/// A protobuf varint: unlike a multiformats varint it may be padded.
fn read_varint(rest: &mut &[u8]) -> Result<u64, &'static str> {
    prost::encoding::decode_varint(rest).map_err(|_| "a varint is damaged")
}

fn put_tag(out: &mut Vec<u8>, field: u64, wire_type: u64) {
    put_varint(out, field << 3 | wire_type);
}

fn put_varint(out: &mut Vec<u8>, value: u64) {
    prost::encoding::encode_varint(value, out);
}

fn varint_len(value: u64) -> usize {
    prost::encoding::encoded_len_varint(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::block::{RAW, cid_of};

    fn link(name: &[u8], tsize: u64) -> Link {
        Link {
            cid: cid_of(RAW, name),
            name: name.to_vec(),
            tsize,
        }
    }

    /// `field` as a length-delimited protobuf field.
    fn field(number: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        put_varint(&mut out, body.len() as u64);
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn data_before_links_is_accepted() {
        let cid = cid_of(RAW, b"x").to_bytes();
        let bytes = [field(1, b"data"), field(2, &field(1, &cid))].concat();
        let node = decode(&bytes.into()).unwrap();
        assert_eq!(node.data.unwrap(), "data");
        assert_eq!(node.links.len(), 1);
    }

    #[test]
    fn link_without_a_name_has_the_empty_name() {
        let cid = cid_of(RAW, b"x").to_bytes();
        let node = decode(&field(2, &field(1, &cid)).into()).unwrap();
        assert_eq!((node.links[0].name.len(), node.links[0].tsize), (0, 0));
        assert_eq!(node.data, None);
    }

    #[test]
    fn what_kubo_refuses_is_refused() {
        let cid = field(1, &cid_of(RAW, b"x").to_bytes());
        let link = field(2, &cid);
        let refused = [
            ("two Data", [field(1, b"a"), field(1, b"b")].concat()),
            (
                "links split by Data",
                [link.clone(), field(1, b""), link.clone()].concat(),
            ),
            ("unknown field", field(3, b"")),
            ("wrong wire type", vec![0x08, 1]),
            ("link without CID", field(2, &field(2, b"name"))),
            (
                "name before CID",
                field(2, &[field(2, b"n"), cid.clone()].concat()),
            ),
            ("two CIDs", field(2, &[cid.clone(), cid].concat())),
            ("cut off", link[..link.len() - 1].to_vec()),
            (
                "length of 2^63",
                vec![0x0a, 255, 255, 255, 255, 255, 255, 255, 255, 127],
            ),
            (
                "varint without end",
                vec![0x0a, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
            ),
        ];
        for (what, bytes) in refused {
            assert!(decode(&bytes.into()).is_err(), "{what} was accepted");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_without_panic(bytes: Vec<u8>) {
            let _ignored = decode(&bytes.into());
        }

        #[test]
        fn what_is_encoded_decodes_to_itself(
            names in proptest::collection::vec((any::<Vec<u8>>(), any::<u64>()), 0..20),
            data: Vec<u8>,
        ) {
            let links: Vec<_> = names.iter().map(|(name, tsize)| link(name, *tsize)).collect();
            let bytes = encode(&links, &data);
            prop_assert_eq!(bytes.len(), encoded_len(&links, data.len()));
            let node = decode(&bytes.into()).unwrap();
            prop_assert_eq!(node, PbNode { links, data: Some(data.into()) });
        }
    }
}
