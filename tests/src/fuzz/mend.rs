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

/// The pages and the head of an index.
pub(super) fn index(bytes: &[u8]) -> Vec<u8> {
    const HEADER_LEN: usize = 128;
    const FENCE_LEN: usize = 12;
    let mut bytes = bytes.to_vec();
    let fields = (u64_at(&bytes, 32), u32_at(&bytes, 48));
    let (true, (Some(count), Some(key_len))) = (is_mended(&bytes), fields) else {
        return bytes;
    };
    let stride = (key_len as usize).saturating_add(17);
    let entries_len = usize::try_from(count).unwrap_or(usize::MAX);
    let entries_len = entries_len.saturating_mul(stride);
    let entries_at = bytes.len().checked_sub(entries_len);
    let (Some(entries_at), page_len @ 1..) = (entries_at, PAGE / stride * stride) else {
        return bytes;
    };
    let pages: Vec<u32> = bytes[entries_at..]
        .chunks(page_len)
        .map(crc32fast::hash)
        .collect();
    if HEADER_LEN + pages.len() * FENCE_LEN > entries_at {
        return bytes;
    }
    for (page, crc) in pages.into_iter().enumerate() {
        put_u32(&mut bytes, HEADER_LEN + page * FENCE_LEN + 8, crc);
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..HEADER_LEN - 4]);
    crc.update(&bytes[HEADER_LEN..entries_at]);
    put_u32(&mut bytes, HEADER_LEN - 4, crc.finalize());
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

#[cfg(test)]
mod tests {
    use super::super::stored;

    #[test]
    fn a_mended_index_is_as_duka_writes_it() {
        for whole in stored::indexes() {
            let mut broken = whole.clone();
            for checksum in [124, 128 + 8] {
                broken[checksum] ^= 1;
            }
            assert_eq!(super::index(&broken), whole);
        }
    }
}
