//! Events on the wire: one JSON line each; a line `{"type":"data","len":N}` is followed by N raw
//! bytes.

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::event::Event;

/// Longest line, in bytes: an event holds a few names, none longer than 4 KiB.
pub(super) const MAX_LINE: usize = 1 << 20;
/// Most bytes of one data event.
const MAX_DATA: usize = 4 << 20;

/// Longest line before raw bytes: `{"type":"data","len":…}` with up to 20 digits.
const MAX_DATA_HEADER: usize = 48;

/// The line before raw bytes.
#[derive(Debug, Serialize, Deserialize)]
struct DataHeader {
    r#type: String,
    len: usize,
}

/// Why bytes are not events.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum FrameError {
    /// A line is not an event.
    #[error("the node's answer is not understood")]
    Line(#[source] serde_json::Error),
    /// A line or its data is too long.
    #[error("the node's answer is over its limit")]
    TooLong,
}

/// The event as it travels; data is not copied.
pub(super) fn encode(event: &Event) -> (Bytes, Option<Bytes>) {
    let (line, data) = match event {
        Event::Data(data) => {
            let header = DataHeader {
                r#type: "data".to_owned(),
                len: data.len(),
            };
            (serde_json::to_vec(&header), Some(data.clone()))
        }
        other => (serde_json::to_vec(other), None),
    };
    let mut line = line.expect("events have string keys and no failing serializers");
    line.push(b'\n');
    (line.into(), data)
}

/// Takes the next whole event out of `buffer`; `None` when more bytes are needed.
pub(super) fn decode(buffer: &mut BytesMut) -> Result<Option<Event>, FrameError> {
    let Some(end) = buffer.iter().take(MAX_LINE).position(|b| *b == b'\n') else {
        return if buffer.len() >= MAX_LINE {
            Err(FrameError::TooLong)
        } else {
            Ok(None)
        };
    };
    let line = buffer.get(..end).unwrap_or_default();
    if line.len() <= MAX_DATA_HEADER
        && let Ok(DataHeader { r#type, len }) = serde_json::from_slice(line)
        && r#type == "data"
    {
        if len > MAX_DATA {
            return Err(FrameError::TooLong);
        }
        if buffer.len() < end + 1 + len {
            return Ok(None);
        }
        buffer.advance(end + 1);
        return Ok(Some(Event::Data(buffer.split_to(len).freeze())));
    }
    let event = serde_json::from_slice(line).map_err(FrameError::Line)?;
    buffer.advance(end + 1);
    Ok(Some(event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::event::{Givers, Item, Outcome, PinSize, Progress};
    use crate::control::failure::{Code, Failure};
    use proptest::prelude::*;

    fn events() -> Vec<Event> {
        vec![
            Event::Progress(Progress::new(5, None)),
            Event::Progress(Progress {
                bytes: 5,
                total: Some(10),
                givers: Some(Givers {
                    gateways: 2,
                    peers: 1,
                }),
            }),
            Event::Data(Bytes::from_static(b"{\"type\":\"data\"}\n\n")),
            Event::Data(Bytes::new()),
            Event::Item(Item::Pin {
                cid: "bafk".into(),
                recursive: true,
                name: Some("a\nb".into()),
                size: None,
            }),
            Event::Item(Item::Pin {
                cid: "bafk".into(),
                recursive: false,
                name: None,
                size: Some(PinSize {
                    blocks: 1,
                    bytes: 2,
                    missing_blocks: 3,
                }),
            }),
            Event::Warning {
                message: "careful".into(),
            },
            Event::Error(Failure::new(Code::NotFound, "gone").hint("look elsewhere")),
            Event::Result(Outcome::List { count: 1 }),
        ]
    }

    proptest! {
        #[test]
        fn events_survive_any_cut_of_the_stream(step in 1usize..64) {
            let mut wire = Vec::new();
            for event in events() {
                let (line, data) = encode(&event);
                wire.extend_from_slice(&line);
                wire.extend_from_slice(&data.unwrap_or_default());
            }
            let (mut buffer, mut decoded) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(event) = decode(&mut buffer).unwrap() {
                    decoded.push(event);
                }
            }
            prop_assert_eq!(decoded, events());
        }

        #[test]
        fn any_bytes_are_refused_without_panic(bytes: Vec<u8>) {
            let mut buffer = BytesMut::from(bytes.as_slice());
            while let Ok(Some(_)) = decode(&mut buffer) {}
        }
    }

    #[test]
    fn result_line_has_its_type_beside_the_fields() {
        let outcome = Outcome::Add {
            cid: "bafk".into(),
            files: 1,
            bytes: 2,
            new_bytes: 3,
        };
        let (line, _) = encode(&Event::Result(outcome));
        assert_eq!(
            line,
            "{\"type\":\"result\",\"op\":\"add\",\"cid\":\"bafk\",\"files\":1,\"bytes\":2,\
             \"new_bytes\":3}\n"
        );
    }
}
