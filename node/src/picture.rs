//! The kinds of pictures that browsers show, by how their files begin.

/// Bytes in which an SVG begins, after what may stand before it.
const PROLOGUE: usize = 4 << 10;

/// Extensions of the names that pictures of this kind have, the usual one first; `None` when it is no picture that
/// browsers show.
pub(crate) fn extensions(file: &[u8]) -> Option<&'static [&'static str]> {
    let brands = file.get(4..32.min(file.len())).unwrap_or_default();
    match file {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(&["png", "apng"]),
        [0xff, 0xd8, 0xff, ..] => Some(&["jpg", "jpeg", "jpe", "jfif"]),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(&["gif"]),
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => Some(&["webp"]),
        _ if brands.starts_with(b"ftyp") && has(brands, b"avif") => Some(&["avif"]),
        _ if is_svg(file) => Some(&["svg"]),
        _ => None,
    }
}

/// XML whose first element is an `svg`.
fn is_svg(file: &[u8]) -> bool {
    let begin = &file[..file.len().min(PROLOGUE)];
    let text = begin.strip_prefix(b"\xef\xbb\xbf").unwrap_or(begin);
    let text = text.trim_ascii_start();
    let before = [&b"<?xml"[..], b"<!--", b"<!DOCTYPE svg"];
    text.starts_with(b"<svg")
        || (before.iter().any(|before| text.starts_with(before)) && has(text, b"<svg"))
}

fn has(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|found| found == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_of_browsers_are_told_from_all_else() {
        for (file, extension) in [
            (&b"\x89PNG\r\n\x1a\n...."[..], "png"),
            (b"\xff\xd8\xff\xe0", "jpg"),
            (b"GIF89a", "gif"),
            (b"RIFF\x10\0\0\0WEBPVP8 ", "webp"),
            (b"\0\0\0\x1cftypavif\0\0\0\0", "avif"),
            (b"\0\0\0\x20ftypmif1\0\0\0\0mif1avif", "avif"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "svg"),
            (
                b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- of a boat --><svg/>",
                "svg",
            ),
        ] {
            assert_eq!(
                extensions(file).map(|all| all[0]),
                Some(extension),
                "{file:?}"
            );
        }
        for file in [
            &b""[..],
            b"GIF",
            b"RIFF\x10\0\0\0WAVE",
            b"\0\0\0\x1cftypisom\0\0\0\0",
            b"<html><svg/></html>",
            b"<?xml version='1.0'?><rss/>",
            b"%PDF-1.7",
        ] {
            assert_eq!(extensions(file), None, "{file:?}");
        }
    }
}
