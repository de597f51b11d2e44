//! Sections of a CAR, from a reader. Nothing here trusts a length that the file claims.

use std::io::{self, Read};

use bytes::Bytes;
use cid::Cid;
use serde::Deserialize;

use super::CarError;
use crate::dag::DagLimits;

/// Longest header accepted, in bytes.
const MAX_HEADER_LEN: u64 = 1 << 20;
/// Length of the fixed header that follows the pragma of a CARv2.
const V2_HEADER_LEN: usize = 40;
/// Length of the pragma, which is a CAR header of version 2.
const V2_PRAGMA_LEN: u64 = 11;

/// The dag-cbor map at the start of a CAR.
#[derive(Deserialize)]
struct Header {
    version: u64,
    #[serde(default)]
    roots: Vec<Cid>,
}

/// A CAR that is being read.
pub(super) struct Sections<'a> {
    reader: io::BufReader<&'a mut (dyn Read + Send)>,
    /// Bytes that are left of a CARv2's payload.
    left: u64,
    read: u64,
    /// Roots named in the header.
    pub(super) roots: Vec<Cid>,
}

/// One section: bytes under the CID that they claim to have.
pub(super) struct Section {
    /// Number of the section, from 0.
    pub(super) index: u64,
    pub(super) cid: Cid,
    pub(super) data: Bytes,
}

impl<'a> Sections<'a> {
    /// Reads the header of a CARv1, or both headers of a CARv2.
    pub(super) fn open(reader: &'a mut (dyn Read + Send)) -> Result<Self, CarError> {
        let mut sections = Self {
            reader: io::BufReader::with_capacity(256 << 10, reader),
            left: u64::MAX,
            read: 0,
            roots: Vec::new(),
        };
        let mut header = sections.header()?;
        if header.version == 2 {
            sections.enter_payload()?;
            header = sections.header()?;
        }
        if header.version != 1 {
            return Err(not_car(format!("it has version {}", header.version)));
        }
        sections.roots = header.roots;
        Ok(sections)
    }

    /// The next section; `None` at a clean end. Whether the data matches is not checked.
    pub(super) fn next(&mut self) -> Result<Option<Section>, CarError> {
        let index = self.read;
        let bad = |reason: String| CarError::Section { index, reason };
        let truncated = || CarError::Truncated { blocks: index };
        let len = match self.varint().map_err(CarError::Io)? {
            Varint::Value(len) => len,
            Varint::End => return Ok(None),
            Varint::Cut => return Err(truncated()),
            Varint::TooLong => return Err(bad("its length is not a varint".to_owned())),
        };
        if len > DagLimits::current().car_section {
            return Err(bad(format!(
                "it claims {len} bytes, more than a section may have"
            )));
        }
        let bytes: Bytes = match self.bytes(len).map_err(CarError::Io)? {
            Some(bytes) => bytes.into(),
            None => return Err(truncated()),
        };
        let mut rest: &[u8] = &bytes;
        let cid = Cid::read_bytes(&mut rest).map_err(|err| bad(format!("its CID: {err}")))?;
        self.read += 1;
        Ok(Some(Section {
            index,
            cid,
            data: bytes.slice_ref(rest),
        }))
    }

    fn header(&mut self) -> Result<Header, CarError> {
        let len = match self.varint().map_err(CarError::Io)? {
            Varint::Value(len @ 1..=MAX_HEADER_LEN) => len,
            Varint::Value(len) => return Err(not_car(format!("its header claims {len} bytes"))),
            Varint::End | Varint::Cut => return Err(not_car("it ends in its header".to_owned())),
            Varint::TooLong => return Err(not_car("it does not begin with a length".to_owned())),
        };
        let bytes = self
            .bytes(len)
            .map_err(CarError::Io)?
            .ok_or_else(|| not_car("it ends in its header".to_owned()))?;
        serde_ipld_dagcbor::from_slice(&bytes)
            .map_err(|_| not_car("it does not begin with the header of one".to_owned()))
    }

    /// Skips from behind the pragma of a CARv2 to its payload, and forgets what follows that.
    fn enter_payload(&mut self) -> Result<(), CarError> {
        let cut = || not_car("it ends in its header".to_owned());
        let fixed = self
            .bytes(V2_HEADER_LEN as u64)
            .map_err(CarError::Io)?
            .ok_or_else(cut)?;
        // 16 bytes of characteristics, then little-endian offset and size of the payload.
        let number = |at: usize| {
            let bytes = fixed.get(at..at + 8).and_then(|b| b.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let (offset, size) = (number(16), number(24));
        let gap = offset
            .checked_sub(V2_PRAGMA_LEN + V2_HEADER_LEN as u64)
            .ok_or_else(|| not_car("its payload begins inside its header".to_owned()))?;
        let skipped = io::copy(&mut self.reader.by_ref().take(gap), &mut io::sink());
        if skipped.map_err(CarError::Io)? < gap {
            return Err(cut());
        }
        self.left = size;
        Ok(())
    }

    /// Reads `len` bytes, checked by the caller against a limit. `None` when the input ends first.
    fn bytes(&mut self, len: u64) -> io::Result<Option<Vec<u8>>> {
        if len > self.left {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
        let read = self.reader.by_ref().take(len).read_to_end(&mut bytes)?;
        self.left -= read as u64;
        Ok((read as u64 == len).then_some(bytes))
    }

    /// Reads one byte. `None` when the input ends before it.
    fn byte(&mut self) -> io::Result<Option<u8>> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut byte = [0];
        match self.reader.read_exact(&mut byte) {
            Ok(()) => {
                self.left -= 1;
                Ok(Some(byte[0]))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn varint(&mut self) -> io::Result<Varint> {
        let mut value = 0_u64;
        for shift in (0..63).step_by(7) {
            let Some(byte) = self.byte()? else {
                return Ok(if shift == 0 { Varint::End } else { Varint::Cut });
            };
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(Varint::Value(value));
            }
        }
        Ok(Varint::TooLong)
    }
}

enum Varint {
    Value(u64),
    /// The input ended before it.
    End,
    /// The input ended inside it.
    Cut,
    TooLong,
}

fn not_car(reason: String) -> CarError {
    CarError::NotCar { reason }
}
