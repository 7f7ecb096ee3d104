//! Captures: the raw datagrams of sweeps in a small file, and the same file as a [`Source`].
//!
//! # Format, version 2
//! A header of 16 bytes: `SOCKEYE\0`, the version (u16, little endian), the byte order of the datagrams (u16 0x0102 as the
//! capturing machine stores it), 4 zero bytes. Then frames: kind (u8), 3 zero bytes, payload length (u32, little endian), CRC-32
//! of those 8 bytes and the payload (u32, little endian), the payload. Kinds: 1 a request as it was sent, 2 a datagram that
//! answered the request before it, 3 the end of a sweep with whatever its caller needs beside the datagrams (opaque here),
//! 4 the end of the file with the number of frames before it (u64, little endian), 5 a destroy event: when it was read (u64,
//! little endian, the caller's clock) and the event's `inet_diag_msg` with its attributes, 6 lost destroy events: when that was
//! noticed (u64) and how many (u32, all ones where the kernel does not say). A file without the last frame was cut.
//!
//! Events stand in the sweep in which they were read; a sweep without requests holds events alone.
//!
//! Versions: 1 had kinds 1 to 4 and is read as before. A reader refuses versions above its own, for it would not know their
//! frames; a new kind therefore takes a new version.

mod replay;
mod writer;

use std::io::{self, Read};

pub use replay::Replay;
pub use writer::{CaptureWriter, Recording};

const MAGIC: &[u8; 8] = b"SOCKEYE\0";
const VERSION: u16 = 2;
const BYTE_ORDER: u16 = 0x0102;
const HEADER_LENGTH: u64 = 16;
const FRAME_HEADER_LENGTH: usize = 12;
/// Larger frames are damage: a datagram has 32 KiB; a context grows with reserved ports and cgroups, a few MiB at the most.
const FRAME_LIMIT: usize = 16 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FrameKind {
    Request = 1,
    Datagram = 2,
    SweepEnd = 3,
    End = 4,
    Event = 5,
    Lost = 6,
}

/// For lost events: the kernel does not say how many.
const UNCOUNTED: u32 = u32::MAX;

/// Why a capture cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// Reading failed.
    #[error("reading the capture: {0}")]
    Read(#[from] io::Error),
    /// It does not begin as a capture does.
    #[error("this is not a sockeye capture")]
    NotACapture,
    /// A newer sockeye wrote it.
    #[error(
        "the capture has format version {0}; this sockeye reads versions up to {VERSION}: use a newer one"
    )]
    Version(u16),
    /// It comes from a machine that stores numbers the other way round.
    #[error("the capture comes from a machine with another byte order")]
    ByteOrder,
    /// A checksum or length is wrong.
    #[error("the capture is damaged at byte {offset}: {what}")]
    Damaged {
        /// Where the frame begins.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The last frame is missing.
    #[error("the capture was cut at byte {offset}: it ends without its last frame")]
    Cut {
        /// Where a further frame should begin.
        offset: u64,
    },
}

fn checksum(header: &[u8; 8], parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

fn read_frame<R: Read>(input: &mut R, offset: u64, payload: &mut Vec<u8>) -> Result<FrameKind, CaptureError> {
    let mut header = [0; FRAME_HEADER_LENGTH];
    if read_up_to(input, &mut header)? < header.len() {
        return Err(CaptureError::Cut { offset });
    }
    let [kind, _, _, _, l0, l1, l2, l3, c0, c1, c2, c3] = header;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length > FRAME_LIMIT {
        return Err(CaptureError::Damaged { offset, what: "a frame of an impossible length" });
    }
    payload.resize(length, 0);
    if read_up_to(input, payload)? < length {
        return Err(CaptureError::Cut { offset });
    }
    let fixed = [kind, header[1], header[2], header[3], l0, l1, l2, l3];
    if checksum(&fixed, &[payload]) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(CaptureError::Damaged { offset, what: "a checksum does not fit" });
    }
    match kind {
        1 => Ok(FrameKind::Request),
        2 => Ok(FrameKind::Datagram),
        3 => Ok(FrameKind::SweepEnd),
        4 => Ok(FrameKind::End),
        5 => Ok(FrameKind::Event),
        6 => Ok(FrameKind::Lost),
        _ => Err(CaptureError::Damaged { offset, what: "a frame of an unknown kind" }),
    }
}

fn read_up_to<R: Read>(input: &mut R, mut into: &mut [u8]) -> io::Result<usize> {
    let mut total = 0;
    while !into.is_empty() {
        match input.read(into) {
            Ok(0) => break,
            Ok(n) => {
                total += n;
                into = &mut into[n..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}
