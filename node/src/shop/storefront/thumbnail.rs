//! Small pictures of covers for lists: a page of a hundred products would load hundreds of megabytes of
//! covers else.

mod jpeg;

use std::io::Cursor;
use std::panic::catch_unwind;

use cid::Cid;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

use super::stored;
use crate::dag::hamt::Entry;
use crate::store::{Store, StoreError};

/// Covers up to this length, in bytes, are shown in lists as they are.
const SMALL: u64 = 128 << 10;
/// Longest cover, in bytes.
pub(crate) const MAX_COVER_LEN: u64 = 16 << 20;
/// Longest side of a small picture: twice that of a card, for dense screens.
const SIDE: u32 = 480;
/// Memory that decoding a cover may take, in bytes: that of 4000 × 4000 pixels of three bytes, or of 3000 × 3000 in
/// a progressive JPEG.
const MEMORY: u64 = 52 << 20;
const QUALITY: u8 = 80;
/// Names in the product's directory. Pictures that are made in another way need other ones: those of the head
/// before are used again.
const JPEG: &str = "cover-small.jpg";
const WEBP: &str = "cover-small.webp";

/// A made picture.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Thumbnail {
    /// Its name in the product's directory.
    pub(in super::super) name: &'static str,
    pub(in super::super) bytes: Vec<u8>,
}

/// What lists show of a product.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Listed {
    /// Its cover, which is small.
    Cover,
    /// A small picture of its cover.
    Small(Thumbnail),
    /// The one of the head before.
    Kept(Entry),
    /// A drawing: there is no cover, or none of which a small picture can be made here, such as a large SVG.
    Art,
}

/// The small picture in the product's directory of the head before, if that has the same cover: to make it again
/// takes a quarter of a second, and all products are built again when the shop has another title.
pub(in super::super) fn kept(
    store: &Store,
    before: &Cid,
    cover: &Entry,
) -> Result<Option<Listed>, StoreError> {
    let links = stored::folder(store, before)?;
    let named = |name: &str| links.iter().find(|link| link.name == name.as_bytes());
    if named(&cover.name).is_none_or(|link| link.cid != cover.cid) {
        return Ok(None);
    }
    for name in [JPEG, WEBP] {
        // One that is gone from here is made again.
        if let Some(link) = named(name)
            && store.block_len(&link.cid)?.is_some()
        {
            return Ok(Some(Listed::Kept(Entry {
                name: name.to_owned(),
                cid: link.cid,
                tsize: link.tsize,
            })));
        }
    }
    Ok(None)
}

/// What lists show of a product with a stored cover of this length.
pub(in super::super) fn of_cover(
    store: &Store,
    cover: &Cid,
    len: u64,
) -> Result<Listed, StoreError> {
    if len < SMALL {
        return Ok(Listed::Cover);
    }
    if len > MAX_COVER_LEN {
        return Ok(Listed::Art);
    }
    let most = usize::try_from(len).unwrap_or(usize::MAX);
    let Some(cover) = stored::beginning(store, cover, most)? else {
        return Ok(Listed::Art);
    };
    // A picture at which a decoder panics must not keep the shop from its next head.
    let made = catch_unwind(|| of_picture(&cover)).ok().flatten();
    Ok(match made {
        Some(made) if made.bytes.len() < cover.len() => Listed::Small(made),
        Some(_) => Listed::Cover,
        None => Listed::Art,
    })
}

/// Whether the file is a picture that takes too much memory to be decoded.
pub(crate) fn is_too_large_a_cover(file: &[u8]) -> bool {
    // A picture at which a decoder panics is none that can be read here.
    let needed = catch_unwind(|| needed(file)).ok().flatten();
    needed.is_some_and(|bytes| bytes > MEMORY)
}

/// Bytes that decoding takes; `None` when it is no picture that can be read here.
fn needed(file: &[u8]) -> Option<u64> {
    jpeg::needed(file).or_else(|| Some(decoder(file)?.total_bytes()))
}

fn decoder(file: &[u8]) -> Option<impl ImageDecoder> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MEMORY);
    let reader = ImageReader::new(Cursor::new(file));
    let mut reader = reader.with_guessed_format().ok()?;
    reader.limits(limits);
    reader.into_decoder().ok()
}

/// The first picture of the file, upright.
fn of_picture(file: &[u8]) -> Option<Thumbnail> {
    if needed(file)? > MEMORY {
        return None;
    }
    let mut decoder = decoder(file)?;
    let upright = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let picture = DynamicImage::from_decoder(decoder).ok()?;
    let mut small = match picture.width().max(picture.height()) {
        // Whole numbers only, so that every machine makes the same.
        SIDE.. => picture.thumbnail(SIDE, SIDE),
        _ => picture,
    };
    small.apply_orientation(upright);
    encode(&small)
}

/// JPEG, or WebP where something shows through.
fn encode(picture: &DynamicImage) -> Option<Thumbnail> {
    let mut bytes = Vec::new();
    let pixels = picture.to_rgba8();
    let is_opaque = pixels.pixels().all(|pixel| pixel.0[3] == u8::MAX);
    let name = match is_opaque {
        true => {
            let encoder = JpegEncoder::new_with_quality(&mut bytes, QUALITY);
            picture.to_rgb8().write_with_encoder(encoder).ok()?;
            JPEG
        }
        false => {
            let encoder = WebPEncoder::new_lossless(&mut bytes);
            pixels.write_with_encoder(encoder).ok()?;
            WEBP
        }
    };
    Some(Thumbnail { name, bytes })
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, Rgba, RgbaImage};

    use super::*;

    /// A picture that does not compress well.
    fn noise(width: u32, height: u32, alpha: u8) -> DynamicImage {
        let mut state = 1_u32;
        DynamicImage::ImageRgba8(RgbaImage::from_fn(width, height, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [r, g, b, _] = state.to_be_bytes();
            Rgba([r, g, b, alpha])
        }))
    }

    fn file(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        match format {
            ImageFormat::Jpeg => picture.to_rgb8().write_to(&mut file, format),
            _ => picture.write_to(&mut file, format),
        }
        .unwrap();
        file.into_inner()
    }

    #[test]
    fn pictures_of_all_formats_become_small_and_keep_their_shape() {
        for format in [
            ImageFormat::Jpeg,
            ImageFormat::Png,
            ImageFormat::WebP,
            ImageFormat::Gif,
        ] {
            let cover = file(&noise(1200, 800, 255), format);
            let made = of_picture(&cover).unwrap();
            assert_eq!(made.name, "cover-small.jpg");
            assert!(
                made.bytes.len() < 200_000,
                "{format:?}: {}",
                made.bytes.len()
            );
            let small = image::load_from_memory(&made.bytes).unwrap();
            assert_eq!((small.width(), small.height()), (480, 320), "{format:?}");
            assert_eq!(of_picture(&cover).unwrap(), made);
        }
    }

    #[test]
    fn what_shows_through_still_does() {
        let made = of_picture(&file(&noise(600, 600, 128), ImageFormat::Png)).unwrap();
        assert_eq!(made.name, "cover-small.webp");
        let small = image::load_from_memory(&made.bytes).unwrap();
        assert_eq!(small.to_rgba8().get_pixel(9, 9).0[3], 128);
    }

    #[test]
    fn what_is_no_picture_or_too_large_a_one_has_none() {
        assert_eq!(
            of_picture(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
            None
        );
        assert_eq!(of_picture(b""), None);
        let whole = file(&noise(300, 300, 255), ImageFormat::Png);
        for len in (0..whole.len() / 2).step_by(977) {
            assert_eq!(of_picture(&whole[..len]), None, "{len}");
        }
        // One that says it is 60,000 pixels wide and high.
        let bomb = png(60_000, 60_000, 8, 6);
        assert_eq!(of_picture(&bomb), None);
        assert!(is_too_large_a_cover(&bomb));
        let vector = b"<svg xmlns='http://www.w3.org/2000/svg'/>";
        assert!(!is_too_large_a_cover(vector));
    }

    /// A PNG up to its pixels, with so many bits of each of its channels.
    fn png(width: u32, height: u32, depth: u8, color: u8) -> Vec<u8> {
        let sides = [width.to_be_bytes(), height.to_be_bytes()].concat();
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        let chunks = [
            (b"IHDR", [&sides[..], &[depth, color, 0, 0, 0]].concat()),
            (b"IDAT", vec![0; 100]),
        ];
        for (name, data) in chunks {
            let len = u32::try_from(data.len()).unwrap();
            let named = [&name[..], &data].concat();
            file.extend(len.to_be_bytes());
            file.extend(&named);
            file.extend(crc32fast::hash(&named).to_be_bytes());
        }
        file
    }

    #[test]
    fn covers_of_up_to_52_mib_are_decoded() {
        const GREY: u8 = 0;
        const RGBA: u8 = 6;
        for (height, depth, color) in [(13_312, 8, GREY), (3328, 8, RGBA), (1664, 16, RGBA)] {
            assert!(!is_too_large_a_cover(&png(4096, height, depth, color)));
            assert!(is_too_large_a_cover(&png(4096, height + 1, depth, color)));
        }
    }
}
