//! CAR files of trees that are large to read and small to store: one leaf, linked many times.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use cid::{Cid, multihash::Multihash};
use sha2::{Digest, Sha256};

/// Codec of a leaf, and of a node with links.
const RAW: u64 = 0x55;
const DAG_PB: u64 = 0x70;
const SHA2_256: u64 = 0x12;
/// Links of a node, as duka and Kubo make it.
const FANOUT: usize = 1024;

/// Writes a CAR of a file that repeats `leaf` so many times, and gives the file's CID.
///
/// # Errors
/// If the file cannot be written.
pub fn write_repeated(path: &Path, leaf: &[u8], times: usize) -> Result<String> {
    let mut blocks = vec![(cid(RAW, leaf)?, leaf.to_vec())];
    let mut level = vec![(blocks[0].0, leaf.len() as u64); times];
    while level.len() > 1 {
        let nodes = level.chunks(FANOUT).map(|children| {
            let node = file_node(children);
            let size = children.iter().map(|(_, size)| size).sum();
            Ok((cid(DAG_PB, &node)?, node, size))
        });
        let nodes = nodes.collect::<Result<Vec<(Cid, Vec<u8>, u64)>>>()?;
        level = nodes.iter().map(|(cid, _, size)| (*cid, *size)).collect();
        for (cid, node, _) in nodes {
            if blocks.iter().all(|(known, _)| *known != cid) {
                blocks.push((cid, node));
            }
        }
    }
    let root = level[0].0;
    let mut car = BufWriter::new(File::create(path)?);
    // { "roots": [root], "version": 1 } in CBOR.
    let mut header = b"\xa2\x65roots\x81\xd8\x2a\x58\x25\x00".to_vec();
    header.extend(root.to_bytes());
    header.extend(b"\x67version\x01");
    section(&mut car, &[&header])?;
    for (cid, bytes) in &blocks {
        section(&mut car, &[&cid.to_bytes(), bytes])?;
    }
    car.flush()?;
    Ok(root.to_string())
}

/// The CIDs of a CAR's blocks, in their order.
///
/// # Errors
/// If it is not a CARv1, or breaks off.
pub fn cids(car: &[u8]) -> Result<Vec<Cid>> {
    let (_header, mut rest) = take_section(car)?;
    let mut cids = Vec::new();
    while !rest.is_empty() {
        let (mut block, after) = take_section(rest)?;
        cids.push(Cid::read_bytes(&mut block)?);
        rest = after;
    }
    Ok(cids)
}

/// A CAR without one of its blocks.
///
/// # Errors
/// If it is not a CARv1, or breaks off.
pub fn without(car: &[u8], missing: &Cid) -> Result<Vec<u8>> {
    let (_header, mut rest) = take_section(car)?;
    let mut kept = car[..car.len() - rest.len()].to_vec();
    while !rest.is_empty() {
        let (mut block, after) = take_section(rest)?;
        if Cid::read_bytes(&mut block)? != *missing {
            kept.extend(&rest[..rest.len() - after.len()]);
        }
        rest = after;
    }
    Ok(kept)
}

fn take_section(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0);
    let digits = end.filter(|end| *end < 8).context("no length")? + 1;
    let length = bytes[..digits]
        .iter()
        .rev()
        .fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
    bytes[digits..]
        .split_at_checked(length)
        .context("the CAR breaks off")
}

fn section(car: &mut impl Write, parts: &[&[u8]]) -> Result<()> {
    car.write_all(&varint(parts.iter().map(|part| part.len() as u64).sum()))?;
    for part in parts {
        car.write_all(part)?;
    }
    Ok(())
}

/// A dag-pb node with the UnixFS data of a file.
fn file_node(children: &[(Cid, u64)]) -> Vec<u8> {
    let mut node = Vec::new();
    let mut data = vec![0x08, 2, 0x18];
    data.extend(varint(children.iter().map(|(_, size)| size).sum()));
    for (cid, size) in children {
        let size = varint(*size);
        let mut link = field(0x0a, &cid.to_bytes());
        link.extend([0x12, 0, 0x18]);
        link.extend(&size);
        node.extend(field(0x12, &link));
        data.push(0x20);
        data.extend(&size);
    }
    node.extend(field(0x0a, &data));
    node
}

fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    [&[tag][..], &varint(bytes.len() as u64), bytes].concat()
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn cid(codec: u64, bytes: &[u8]) -> Result<Cid> {
    Ok(Cid::new_v1(
        codec,
        Multihash::wrap(SHA2_256, &Sha256::digest(bytes))?,
    ))
}
