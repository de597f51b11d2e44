//! What a JPEG says of its size, before anything is decoded.

/// Bytes that decoding takes; `None` when this is no JPEG. Of a progressive one all coefficients are kept until
/// the last scan, two bytes each.
pub(super) fn needed(file: &[u8]) -> Option<u64> {
    let mut rest = file.strip_prefix(&[0xff, 0xd8])?;
    loop {
        rest = rest.strip_prefix(&[0xff])?;
        let (&marker, segment) = rest.split_first()?;
        let len = segment.first_chunk::<2>();
        match marker {
            // Before a marker there may be several.
            0xff => continue,
            // Tables that have numbers among those of frames.
            0xc4 | 0xc8 | 0xcc => {}
            0xc0..=0xcf => return of_frame(segment, marker & 3 == 2),
            // The picture itself, or its end.
            0xd9 | 0xda => return None,
            _ => {}
        }
        rest = segment.get(usize::from(u16::from_be_bytes(*len?))..)?;
    }
}

/// Length, precision, height, width, number of components; three bytes for each of them.
fn of_frame(segment: &[u8], is_progressive: bool) -> Option<u64> {
    let (&[_, _, _, h0, h1, w0, w1, count], components) = segment.split_first_chunk::<8>()?;
    let side = |bytes| u64::from(u16::from_be_bytes(bytes));
    let pixels = side([h0, h1]) * side([w0, w1]);
    let decoded = pixels * u64::from(count.min(3));
    if !is_progressive {
        return Some(decoded);
    }
    let components = components.get(..usize::from(count) * 3)?;
    let sampling = || components.chunks_exact(3).map(|component| component[1]);
    let horizontal = sampling().map(|both| u64::from(both >> 4)).max()?;
    let vertical = sampling().map(|both| u64::from(both & 15)).max()?;
    let samples = sampling().map(|both| u64::from(both >> 4) * u64::from(both & 15));
    let coefficients = 2 * pixels * samples.sum::<u64>() / (horizontal * vertical).max(1);
    Some(decoded + coefficients)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JPEG up to its frame: 4000 by 3000 pixels, with this sampling of its components.
    fn jpeg(marker: u8, sampling: &[u8]) -> Vec<u8> {
        let mut file = vec![0xff, 0xd8];
        file.extend([0xff, 0xe0, 0, 4, 1, 2]);
        file.extend([0xff, 0xc4, 0, 3, 0]);
        file.extend([0xff, 0xff, marker, 0, 0, 8]);
        file.extend([3000_u16.to_be_bytes(), 4000_u16.to_be_bytes()].concat());
        let count = u8::try_from(sampling.len()).unwrap();
        file.push(count);
        file.extend((0..).zip(sampling).flat_map(|(id, both)| [id, *both, 0]));
        file
    }

    #[test]
    fn a_progressive_one_takes_its_coefficients_besides() {
        let pixels = 12_000_000;
        assert_eq!(needed(&jpeg(0xc0, &[0x11])), Some(pixels));
        assert_eq!(needed(&jpeg(0xc0, &[0x22, 0x11, 0x11])), Some(3 * pixels));
        assert_eq!(needed(&jpeg(0xc2, &[0x22, 0x11, 0x11])), Some(6 * pixels));
        assert_eq!(needed(&jpeg(0xc2, &[0x11, 0x11, 0x11])), Some(9 * pixels));
        assert_eq!(needed(&jpeg(0xc2, &[0, 0, 0])), Some(3 * pixels));
    }

    #[test]
    fn what_ends_before_its_frame_has_no_size() {
        let file = jpeg(0xc2, &[0x22, 0x11, 0x11]);
        for len in 0..file.len() {
            assert_eq!(needed(&file[..len]), None, "{len}");
        }
        assert_eq!(needed(b"\x89PNG\r\n\x1a\n"), None);
        assert_eq!(needed(&[0xff, 0xd8, 0xff, 0xda, 0, 2]), None);
        assert_eq!(needed(&[0xff, 0xd8, 0xff, 0xe0, 0, 0, 0xff, 0xe0]), None);
    }
}
