//! A frame of a journal: the rows of one tick, checked from end to end.
//!
//! `length` (u32), `crc of the payload` (u32), `crc of the header` (u32), then the payload: postcard in a zstd frame. The
//! header's check covers where the frame stands, and a number that its journal was dealt by chance: behind damage the next frame can
//! be looked for, and nothing else, such as a name that somebody chose for his process, is taken for one.

use std::io::{self, Read};

use crate::rows::Rows;

/// Bytes before the payload.
const HEADER_BYTES: usize = 12;
/// A payload is no longer than that, and no longer than this when unpacked: what claims to be is damaged.
const MOST_PAYLOAD_BYTES: usize = 1 << 26;
const MOST_UNPACKED_BYTES: usize = 1 << 28;
/// The journal is read once: speed counts for more than size.
const LEVEL: i32 = 1;

/// Makes frames; keeps its buffers.
pub struct Framer {
    packer: zstd::bulk::Compressor<'static>,
    plain: Vec<u8>,
    frame: Vec<u8>,
}

impl Framer {
    /// One without buffers yet.
    ///
    /// # Errors
    /// The codec's word: no memory.
    pub fn new() -> Result<Framer, String> {
        let packer = zstd::bulk::Compressor::new(LEVEL).map_err(|error| error.to_string())?;
        Ok(Framer { packer, plain: Vec::new(), frame: Vec::new() })
    }

    /// The frame that stands at `offset` of the journal with this `salt`.
    ///
    /// # Errors
    /// More rows than a frame can hold.
    pub fn frame(&mut self, rows: &Rows, salt: u64, offset: u64) -> Result<&[u8], String> {
        self.plain.clear();
        self.plain = postcard::to_extend(rows, std::mem::take(&mut self.plain)).map_err(|e| e.to_string())?;
        let packed = self.packer.compress(&self.plain).map_err(|error| error.to_string())?;
        if packed.len() > MOST_PAYLOAD_BYTES || self.plain.len() > MOST_UNPACKED_BYTES {
            return Err(format!("{} bytes are too many for a frame", self.plain.len()));
        }
        self.frame.clear();
        seal(&mut self.frame, &packed, salt, offset);
        Ok(&self.frame)
    }
}

/// The frame around any payload but an empty one, at its place: for who tests readers.
pub fn sealed(payload: &[u8], salt: u64, offset: u64) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES + payload.len());
    seal(&mut frame, payload, salt, offset);
    frame
}

fn seal(frame: &mut Vec<u8>, payload: &[u8], salt: u64, offset: u64) {
    let length = (payload.len() as u32).to_le_bytes();
    let check = crc32fast::hash(payload).to_le_bytes();
    frame.extend_from_slice(&length);
    frame.extend_from_slice(&check);
    frame.extend_from_slice(&header_check(length, check, salt, offset));
    frame.extend_from_slice(payload);
}

fn header_check(length: [u8; 4], check: [u8; 4], salt: u64, offset: u64) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    for part in [&length[..], &check, &salt.to_le_bytes(), &offset.to_le_bytes()] {
        hasher.update(part);
    }
    hasher.finalize().to_le_bytes()
}

/// What of a journal is no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Torn {
    /// Places where frames are damaged, with whole ones behind them: a frame each, at least.
    pub frames: u64,
    /// Bytes behind the last frame that can be read: the rest of one that was being written, or anything.
    pub tail_bytes: u64,
}

/// The frames of a journal, one after another, in the memory of the largest. What is damaged is no error: it is counted.
pub struct Frames<R> {
    from: R,
    salt: u64,
    offset: u64,
    end: u64,
    payload: Vec<u8>,
    torn: Torn,
}

impl<R: Read> Frames<R> {
    /// Of a journal that ends at `end`; `from` stands at the frame at `offset`.
    pub fn new(from: R, salt: u64, offset: u64, end: u64) -> Frames<R> {
        Frames { from, salt, offset, end, payload: Vec::new(), torn: Torn::default() }
    }

    /// None of a journal that is not known as one: all of its bytes are told as unread.
    pub(crate) fn none(from: R, bytes: u64) -> Frames<R> {
        let torn = Torn { frames: 0, tail_bytes: bytes };
        Frames { from, salt: 0, offset: 0, end: 0, payload: Vec::new(), torn }
    }

    /// What could not be read up to here; final when [`next_rows`](Self::next_rows) has answered None.
    pub const fn torn(&self) -> Torn {
        self.torn
    }

    /// Where the frames read so far end.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The rows of the next frame that is whole; None when there is none.
    ///
    /// # Errors
    /// What reading answers. A file that is shorter than it was said to be ends where it ends.
    pub fn next_rows(&mut self) -> io::Result<Option<Rows>> {
        loop {
            let is_whole = match self.read_payload() {
                Ok(Some(is_whole)) => is_whole,
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            };
            match is_whole.then(|| unpack(&self.payload)).flatten() {
                Some(rows) => return Ok(Some(rows)),
                None => self.torn.frames += 1,
            }
        }
        self.torn.tail_bytes += self.end.saturating_sub(self.offset);
        // Whatever comes after is not asked again.
        self.end = self.offset;
        Ok(None)
    }

    /// Reads the next payload; whether it is whole. None where no frame stands from here on.
    fn read_payload(&mut self) -> io::Result<Option<bool>> {
        let Some((offset, bytes, check)) = self.find_header()? else { return Ok(None) };
        self.torn.frames += u64::from(offset != self.offset);
        self.payload.resize(bytes, 0);
        self.from.read_exact(&mut self.payload)?;
        self.offset = offset + (HEADER_BYTES + bytes) as u64;
        Ok(Some(crc32fast::hash(&self.payload).to_le_bytes() == check))
    }

    /// Where the next header stands, how long its payload is, and that payload's check. Behind damage it is looked for as far
    /// as a frame reaches.
    fn find_header(&mut self) -> io::Result<Option<(u64, usize, [u8; 4])>> {
        if self.end.saturating_sub(self.offset) < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let mut window = [0; HEADER_BYTES];
        self.from.read_exact(&mut window)?;
        for offset in self.offset..=self.offset.saturating_add(MOST_PAYLOAD_BYTES as u64) {
            let [length, check, header] = [0, 4, 8].map(|at| [0, 1, 2, 3].map(|byte| window[at + byte]));
            let bytes = u32::from_le_bytes(length) as usize;
            let left = self.end.saturating_sub(offset);
            if (1..=MOST_PAYLOAD_BYTES).contains(&bytes)
                && (HEADER_BYTES + bytes) as u64 <= left
                && header == header_check(length, check, self.salt, offset)
            {
                return Ok(Some((offset, bytes, check)));
            }
            if left <= HEADER_BYTES as u64 {
                break;
            }
            window.rotate_left(1);
            self.from.read_exact(&mut window[HEADER_BYTES - 1..])?;
        }
        Ok(None)
    }
}

fn unpack(payload: &[u8]) -> Option<Rows> {
    let plain = zstd::zstd_safe::get_frame_content_size(payload).ok()??;
    let capacity = usize::try_from(plain).ok().filter(|bytes| *bytes <= MOST_UNPACKED_BYTES)?;
    let plain = zstd::bulk::decompress(payload, capacity).ok()?;
    postcard::from_bytes(&plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::example;

    fn read(bytes: &[u8], salt: u64, offset: usize) -> (Vec<Rows>, Torn) {
        let mut frames = Frames::new(&bytes[offset..], salt, offset as u64, bytes.len() as u64);
        let rows = std::iter::from_fn(|| frames.next_rows().unwrap()).collect();
        (rows, frames.torn())
    }

    #[test]
    fn a_frame_is_one_at_its_own_place_only() {
        let rows = example::rows(3);
        let frame = Framer::new().unwrap().frame(&rows, 7, 24).unwrap().to_vec();
        let mut bytes = vec![0; 24];
        bytes.extend_from_slice(&frame);
        assert_eq!(read(&bytes, 7, 24), (vec![rows], Torn::default()));
        let none = (Vec::new(), Torn { frames: 0, tail_bytes: frame.len() as u64 });
        assert_eq!(read(&bytes, 8, 24), none, "of another journal");
        bytes.insert(0, 0);
        assert_eq!(read(&bytes, 7, 25), none, "at another place");
    }

    #[test]
    fn a_damaged_byte_costs_one_frame() {
        let rows = example::rows(3);
        let mut framer = Framer::new().unwrap();
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for _ in 0..3 {
            let frame = framer.frame(&rows, 1, bytes.len() as u64).unwrap().to_vec();
            bytes.extend_from_slice(&frame);
            ends.push(bytes.len());
        }
        for at in ends[1]..ends[2] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let (read, told) = read(&damaged, 1, 0);
            assert_eq!(read, [rows.clone(), rows.clone()], "byte {at}");
            let torn = Torn { frames: 1, tail_bytes: 0 };
            assert_eq!(told, torn, "byte {at}");
        }
    }
}
