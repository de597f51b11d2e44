//! A small video that any browser plays: WebM (<https://www.matroska.org/technical/elements.html>)
//! with one VP8 key frame a tenth of a second.

/// A key frame of one black pixel, as in a lossy WebP of that picture.
const FRAME: [u8; 22] = [
    0x30, 0x01, 0x00, 0x9d, 0x01, 0x2a, 0x01, 0x00, 0x01, 0x00, 0x0e, 0xc0, 0xfe, 0x25, 0xa4, 0x00,
    0x03, 0x70, 0x00, 0x00, 0x00, 0x00,
];
/// Milliseconds of a frame.
const STEP: u32 = 100;

/// A video of `frames` frames, each with `padding` bytes behind it that a player skips.
pub fn video(frames: u32, padding: usize) -> Vec<u8> {
    let header = element(
        &[0x1a, 0x45, 0xdf, 0xa3],
        &[
            element(&[0x42, 0x82], b"webm"),
            number(&[0x42, 0x87], 4),
            number(&[0x42, 0x85], 2),
        ]
        .concat(),
    );
    let duration = f64::from(frames * STEP).to_be_bytes();
    let info = element(
        &[0x15, 0x49, 0xa9, 0x66],
        &[
            number(&[0x2a, 0xd7, 0xb1], 1_000_000),
            element(&[0x44, 0x89], &duration),
            element(&[0x4d, 0x80], b"duka"),
            element(&[0x57, 0x41], b"duka"),
        ]
        .concat(),
    );
    let size = [number(&[0xb0], 1), number(&[0xba], 1)].concat();
    let track = [
        number(&[0xd7], 1),
        number(&[0x73, 0xc5], 1),
        number(&[0x83], 1),
        element(&[0x86], b"V_VP8"),
        element(&[0xe0], &size),
    ]
    .concat();
    let tracks = element(&[0x16, 0x54, 0xae, 0x6b], &element(&[0xae], &track));
    let cues_of = |first: usize, each: usize| {
        let cue = |frame: u32| {
            let at = first + each * usize::try_from(frame).expect("32 bits fit");
            let position = element(
                &[0xf1],
                &u64::try_from(at).expect("64 bits fit").to_be_bytes(),
            );
            let track = element(&[0xb7], &[number(&[0xf7], 1), position].concat());
            let time = element(&[0xb3], &(frame * STEP).to_be_bytes());
            element(&[0xbb], &[time, track].concat())
        };
        element(
            &[0x1c, 0x53, 0xbb, 0x6b],
            &(0..frames).flat_map(cue).collect::<Vec<_>>(),
        )
    };
    let cluster = |frame: u32| {
        let block = [&[0x81, 0, 0, 0x80], FRAME.as_slice()].concat();
        let time = element(&[0xe7], &(frame * STEP).to_be_bytes());
        let body = [
            time,
            element(&[0xa3], &block),
            element(&[0xec], &vec![0; padding]),
        ];
        element(&[0x1f, 0x43, 0xb6, 0x75], &body.concat())
    };
    let before = info.len() + tracks.len();
    let first = before + cues_of(0, 0).len();
    let cues = cues_of(first, cluster(0).len());
    let clusters = (0..frames).flat_map(cluster).collect();
    let segment = element(
        &[0x18, 0x53, 0x80, 0x67],
        &[info, tracks, cues, clusters].concat(),
    );
    [header, segment].concat()
}

/// An element: id, length in eight bytes, content.
fn element(id: &[u8], content: &[u8]) -> Vec<u8> {
    let mut length = u64::try_from(content.len())
        .expect("64 bits fit")
        .to_be_bytes();
    length[0] = 0x01;
    [id, &length, content].concat()
}

fn number(id: &[u8], value: u32) -> Vec<u8> {
    element(id, &value.to_be_bytes())
}
