//! Checksums of mutated files: without them no mutation would get further than the first checksum.
//! Layouts are those of `node/DESIGN.md`.

/// Where commits end.
const PAGE: usize = 4096;

/// Whether checksums are mended: what has an odd length stays as it is.
fn is_mended(bytes: &[u8]) -> bool {
    bytes.len().is_multiple_of(2)
}

/// The footers of a pack.
pub(super) fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if !is_mended(&bytes) {
        return bytes;
    }
    for end in (PAGE..=bytes.len()).step_by(PAGE) {
        let Some(section) = u64_at(&bytes, end - 16) else {
            continue;
        };
        let section = usize::try_from(section).unwrap_or(usize::MAX);
        let varint = bytes.get(section..end).unwrap_or_default();
        let Some(last) = varint.iter().position(|byte| byte & 0x80 == 0) else {
            continue;
        };
        // CIDv1, raw, SHA-256.
        let body = section + last + 1 + 36;
        if let Some(body) = bytes.get(body..end - 20) {
            let crc = crc32fast::hash(body);
            put_u32(&mut bytes, end - 20, crc);
        }
    }
    bytes
}

/// The buckets and the head of an index.
pub(super) fn index(bytes: &[u8]) -> Vec<u8> {
    const TABLE: usize = 128;
    const BUCKETS: usize = 256;
    let mut bytes = bytes.to_vec();
    let fields = (u32_at(&bytes, 48), u32_at(&bytes, 52));
    let (true, (Some(key_len), Some(fingerprints))) = (is_mended(&bytes), fields) else {
        return bytes;
    };
    let head = (fingerprints as usize).saturating_mul(2);
    let head = head.saturating_add(TABLE + BUCKETS * 8);
    let stride = (key_len as usize).saturating_add(17);
    let mut first = 0;
    for bucket in 0..BUCKETS {
        let at = TABLE + bucket * 8;
        let end = u32_at(&bytes, at).unwrap_or_default() as usize;
        let place = |entry: usize| head.saturating_add(entry.saturating_mul(stride));
        if let Some(entries) = bytes.get(place(first)..place(end)) {
            let crc = crc32fast::hash(entries);
            put_u32(&mut bytes, at + 4, crc);
        }
        first = end;
    }
    if let Some(rest) = bytes.get(TABLE..head) {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..TABLE - 4]);
        crc.update(rest);
        put_u32(&mut bytes, TABLE - 4, crc.finalize());
    }
    bytes
}

/// The header and the entries of a journal.
pub(super) fn journal(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() < 32 || !is_mended(&bytes) {
        return bytes;
    }
    let crc = crc32fast::hash(&bytes[..28]);
    put_u32(&mut bytes, 28, crc);
    let mut at = 32;
    while let Some(len) = u32_at(&bytes, at) {
        let payload = at + 16;
        let end = payload.saturating_add(len as usize);
        let Some(rest) = bytes.get(at + 8..end) else {
            break;
        };
        let mut crc = crc32fast::Hasher::new();
        crc.update(&len.to_le_bytes());
        crc.update(rest);
        put_u32(&mut bytes, at + 4, crc.finalize());
        at = end;
    }
    bytes
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(four.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let eight = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(eight.try_into().ok()?))
}

fn put_u32(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}
