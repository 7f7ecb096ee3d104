//! Captures being read: every frame checked once, then dumps, lookups and events answered from the file.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use zerocopy::FromBytes;

use super::{
    BYTE_ORDER, CaptureError, FRAME_HEADER_LENGTH, FrameKind, HEADER_LENGTH, MAGIC, UNCOUNTED, VERSION,
    read_frame, read_up_to,
};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::record::{Family, Protocol};
use crate::request::Asked;
use crate::source::{Exchange, RecvBuffer, Source};
use crate::state::{SocketState, StateSet};
use crate::wire::{DiagMsg, InetDiagMsg, NlHeader};

/// A recorded dump and where its answers are.
#[derive(Debug)]
struct Answered {
    asked: Asked,
    exchange: Exchange,
    /// Offset of the first datagram's frame.
    offset: u64,
    datagrams: u64,
}

/// One sweep of a capture. Its lookups and events stay in the file and are looked for there.
#[derive(Debug, Default)]
struct Sweep {
    /// Offsets of its first frame, of its first request and of its last frame; without requests the last two are equal.
    frames: [u64; 3],
    /// Where the context stands, and its length.
    context: (u64, usize),
    answered: Vec<Answered>,
}

/// A capture as a [`Source`]: it answers dumps and lookups of its current sweep from what was recorded.
///
/// Opening reads the file once and checks every frame; the datagrams stay in the file. Memory: some bytes per dump.
#[derive(Debug)]
pub struct Replay<R: Read + Seek> {
    input: BufReader<R>,
    sweeps: Vec<Sweep>,
    current: usize,
    /// Indices into the current sweep that still have to answer the request.
    queue: Vec<usize>,
    datagrams_left: u64,
    /// Where to begin to look for the next lookup: they are asked again in the order they were recorded in.
    lookups_at: u64,
}

impl<R: Read + Seek> Replay<R> {
    /// Opens a capture, at its first sweep.
    ///
    /// # Errors
    /// [`CaptureError`]; a capture that was cut or damaged anywhere is refused whole.
    pub fn open(input: R) -> Result<Replay<R>, CaptureError> {
        let mut input = BufReader::with_capacity(64 * 1024, input);
        let mut header = [0; HEADER_LENGTH as usize];
        if read_up_to(&mut input, &mut header)? < header.len() || header[..8] != *MAGIC {
            return Err(CaptureError::NotACapture);
        }
        let version = u16::from_le_bytes([header[8], header[9]]);
        if version == 0 || version > VERSION {
            return Err(CaptureError::Version(version));
        }
        if u16::from_ne_bytes([header[10], header[11]]) != BYTE_ORDER {
            return Err(CaptureError::ByteOrder);
        }
        if header[12..] != [0; 4] {
            return Err(CaptureError::Damaged { offset: 12, what: "bytes that must be zero are not" });
        }
        let sweeps = index(&mut input)?;
        Ok(Replay { input, sweeps, current: 0, queue: Vec::new(), datagrams_left: 0, lookups_at: 0 })
    }

    /// How many sweeps it holds.
    pub fn sweeps(&self) -> usize {
        self.sweeps.len()
    }

    /// What the capturing program kept beside the current sweep; empty if the capture holds no sweep.
    ///
    /// # Errors
    /// [`Error::System`] when reading fails.
    pub fn context(&mut self) -> Result<Vec<u8>> {
        let Some((offset, length)) = self.sweeps.get(self.current).map(|sweep| sweep.context) else {
            return Ok(Vec::new());
        };
        let mut read = || -> io::Result<Vec<u8>> {
            // An answer may be half read: it goes on where it was.
            let position = self.input.stream_position()?;
            let mut context = vec![0; length];
            self.input.seek(SeekFrom::Start(offset))?;
            self.input.read_exact(&mut context)?;
            self.input.seek(SeekFrom::Start(position))?;
            Ok(context)
        };
        read().map_err(|source| Error::System { operation: READING, source })
    }

    /// Goes to the next sweep; false when there is none.
    pub fn next_sweep(&mut self) -> bool {
        let more = self.current + 1 < self.sweeps.len();
        self.current += usize::from(more);
        self.queue.clear();
        self.datagrams_left = 0;
        more
    }

    /// The destroy events of the current sweep that were kept before its first dump, each with its time.
    ///
    /// # Errors
    /// [`Error::System`] when reading fails.
    pub fn events_before_dumps(&mut self, each: impl FnMut(u64, Event<'_>)) -> Result<()> {
        let [first, request, _] = self.frames();
        self.events(first, request, each).map_err(|source| Error::System { operation: READING, source })
    }

    /// Those that were kept after it.
    ///
    /// # Errors
    /// [`Error::System`] when reading fails.
    pub fn events_after_dumps(&mut self, each: impl FnMut(u64, Event<'_>)) -> Result<()> {
        let [_, request, last] = self.frames();
        self.events(request, last, each).map_err(|source| Error::System { operation: READING, source })
    }

    fn frames(&self) -> [u64; 3] {
        self.sweeps.get(self.current).map_or([0; 3], |sweep| sweep.frames)
    }

    fn events(&mut self, from: u64, to: u64, mut each: impl FnMut(u64, Event<'_>)) -> io::Result<()> {
        let mut payload = Vec::new();
        let mut offset = from;
        while offset < to {
            let (kind, length) = self.frame_at(offset)?;
            offset += (FRAME_HEADER_LENGTH + length) as u64;
            if kind != FrameKind::Event as u8 && kind != FrameKind::Lost as u8 {
                continue;
            }
            payload.resize(length, 0);
            self.input.read_exact(&mut payload)?;
            let Some((at, rest)) = payload.split_first_chunk() else { continue };
            let event = match kind == FrameKind::Lost as u8 {
                true => rest.try_into().ok().map(|lost| {
                    let lost = u32::from_le_bytes(lost);
                    Event::Lost((lost != UNCOUNTED).then_some(lost))
                }),
                // Events carry their protocol as an attribute.
                false => DiagMsg::parse(rest, Protocol::Tcp).map(Event::Destroyed),
            };
            if let Some(event) = event {
                each(u64::from_le_bytes(*at), event);
            }
        }
        Ok(())
    }

    /// Kind and payload length of the frame at this offset; its payload is what is read next.
    fn frame_at(&mut self, offset: u64) -> io::Result<(u8, usize)> {
        // Relative, to keep what is buffered.
        let here = self.input.stream_position()?;
        self.input.seek_relative(offset.wrapping_sub(here) as i64)?;
        let mut header = [0; FRAME_HEADER_LENGTH];
        self.input.read_exact(&mut header)?;
        Ok((header[0], u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize))
    }

    /// The recorded lookup with the same question, and where its answer begins; the reader stands there then.
    fn recorded_lookup(&mut self, request: &[u8]) -> io::Result<Option<Exchange>> {
        let question = |bytes: &[u8]| {
            let (header, body) = NlHeader::ref_from_prefix(bytes).ok()?;
            Some((header.kind.get(), header.flags.get(), body.to_vec()))
        };
        let wanted = question(request);
        let [_, first, last] = self.frames();
        let start = if (first..last).contains(&self.lookups_at) { self.lookups_at } else { first };
        let mut payload = Vec::new();
        for (from, to) in [(start, last), (first, start)] {
            let mut offset = from;
            while offset < to {
                let (kind, length) = self.frame_at(offset)?;
                offset += (FRAME_HEADER_LENGTH + length) as u64;
                if kind != FrameKind::Request as u8 {
                    continue;
                }
                payload.resize(length, 0);
                self.input.read_exact(&mut payload)?;
                if wanted.is_some()
                    && question(&payload) == wanted
                    && let Ok((header, _)) = NlHeader::ref_from_prefix(&payload)
                {
                    self.lookups_at = offset;
                    let exchange =
                        Exchange { sequence: header.sequence.get(), port_id: header.port_id.get() };
                    return Ok(Some(exchange));
                }
            }
        }
        Ok(None)
    }

    /// The recorded answers that together serve `asked`, the last recorded first.
    ///
    /// A later answer stands for an earlier one to the same question, which was refused, overrun or simply repeated.
    fn serving(&self, asked: Asked) -> Result<Vec<usize>> {
        // No dump returns these: a closed TCP socket is in no table, and request sockets come as SYN_RECV.
        let never = match asked.protocol.is_datagram() {
            true => StateSet::EMPTY,
            false => StateSet::of(&[SocketState::Close, SocketState::NewSynRecv]),
        };
        let wanted = asked.states.intersection(StateSet::ALL).minus(never);
        let mut missing = [Family::Inet, Family::Inet6].map(|family| {
            let is_asked = asked.family.is_none_or(|asked| asked == family);
            (family, if is_asked { wanted } else { StateSet::EMPTY })
        });
        let mut serving = Vec::new();
        for (index, answered) in self.answered().iter().enumerate().rev() {
            let held = answered.asked;
            if held.protocol != asked.protocol {
                continue;
            }
            let mut serves = false;
            for (family, missing) in &mut missing {
                if held.family.is_none_or(|held| held == *family) {
                    serves |= !missing.intersection(held.states).is_empty();
                    *missing = missing.minus(held.states);
                }
            }
            if serves {
                serving.push(index);
            }
        }
        let none_at_all = !self.answered().iter().any(|answered| answered.asked.protocol == asked.protocol);
        if none_at_all {
            return Err(Error::NotCaptured { what: format!("{} sockets", asked.protocol) });
        }
        match missing.iter().find(|(_, missing)| !missing.is_empty()) {
            Some((family, missing)) => Err(Error::NotCaptured {
                what: format!("{} {} sockets in {missing}", family.name(), asked.protocol),
            }),
            None if serving.is_empty() => {
                Err(Error::NotCaptured { what: format!("{} sockets in no state at all", asked.protocol) })
            }
            None => Ok(serving),
        }
    }

    fn answered(&self) -> &[Answered] {
        self.sweeps.get(self.current).map_or(&[], |sweep| &sweep.answered)
    }

    fn begin_next_answer(&mut self) -> Result<Option<Exchange>> {
        let Some(index) = self.queue.pop() else { return Ok(None) };
        let Some(&Answered { exchange, offset, datagrams, .. }) = self.answered().get(index) else {
            return Ok(None);
        };
        self.input
            .seek(SeekFrom::Start(offset))
            .map_err(|source| Error::System { operation: READING, source })?;
        self.datagrams_left = datagrams;
        Ok(Some(exchange))
    }
}

/// What the datagrams that follow answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LastRequest {
    None,
    Dump,
    Lookup,
    /// An event came after its answer, so nothing belongs to it any more.
    Answered,
}

/// The least an event has: its time and a `struct inet_diag_msg`.
const EVENT_LENGTH: usize = 8 + size_of::<InetDiagMsg>();
const LOST_LENGTH: usize = 8 + size_of::<u32>();

/// Reads every frame once: sums are checked here, so that replay need not.
fn index<R: Read>(input: &mut R) -> Result<Vec<Sweep>, CaptureError> {
    let mut sweeps = Vec::new();
    let mut sweep = Sweep { frames: [HEADER_LENGTH; 3], ..Sweep::default() };
    let mut asked = LastRequest::None;
    let mut offset = HEADER_LENGTH;
    let mut frames: u64 = 0;
    let mut payload = Vec::new();
    loop {
        let kind = read_frame(input, offset, &mut payload)?;
        let damaged = |what| CaptureError::Damaged { offset, what };
        match kind {
            FrameKind::Request => {
                let (header, _) = NlHeader::ref_from_prefix(&payload)
                    .map_err(|_| damaged("a request that cannot be read"))?;
                if asked == LastRequest::None {
                    sweep.frames[1] = offset;
                }
                asked = match Asked::decode(&payload) {
                    None => LastRequest::Lookup,
                    Some(asked) => {
                        sweep.answered.push(Answered {
                            asked,
                            exchange: Exchange {
                                sequence: header.sequence.get(),
                                port_id: header.port_id.get(),
                            },
                            offset: offset + (FRAME_HEADER_LENGTH + payload.len()) as u64,
                            datagrams: 0,
                        });
                        LastRequest::Dump
                    }
                };
            }
            FrameKind::Datagram => match asked {
                LastRequest::None | LastRequest::Answered => {
                    return Err(damaged("a datagram before any request"));
                }
                LastRequest::Lookup => {}
                LastRequest::Dump => {
                    sweep.answered.iter_mut().next_back().into_iter().for_each(|last| last.datagrams += 1);
                }
            },
            FrameKind::Event if payload.len() < EVENT_LENGTH => return Err(damaged("an event that is cut")),
            FrameKind::Lost if payload.len() != LOST_LENGTH => {
                return Err(damaged("a loss of another length"));
            }
            FrameKind::Event | FrameKind::Lost => {
                if asked != LastRequest::None {
                    asked = LastRequest::Answered;
                }
            }
            FrameKind::SweepEnd => {
                sweep.frames[2] = offset;
                if asked == LastRequest::None {
                    sweep.frames[1] = offset;
                }
                sweep.context = (offset + FRAME_HEADER_LENGTH as u64, payload.len());
                let next = offset + (FRAME_HEADER_LENGTH + payload.len()) as u64;
                sweeps.push(std::mem::replace(&mut sweep, Sweep { frames: [next; 3], ..Sweep::default() }));
                asked = LastRequest::None;
            }
            FrameKind::End => {
                if payload != frames.to_le_bytes() {
                    return Err(damaged("frames are missing"));
                }
                if sweep.frames[0] != offset {
                    return Err(damaged("a sweep has no end"));
                }
                if read_up_to(input, &mut [0])? != 0 {
                    return Err(damaged("bytes follow the last frame"));
                }
                return Ok(sweeps);
            }
        }
        offset += (FRAME_HEADER_LENGTH + payload.len()) as u64;
        frames += 1;
    }
}

const READING: &str = "reading the capture";

impl<R: Read + Seek> Source for Replay<R> {
    fn send(&mut self, request: &mut [u8]) -> Result<Exchange> {
        let Some(asked) = Asked::decode(request) else {
            self.queue.clear();
            let found = self.recorded_lookup(request);
            let found = found.map_err(|source| Error::System { operation: READING, source })?;
            // The answer to a lookup is one datagram.
            self.datagrams_left = 1;
            return found.ok_or_else(|| Error::NotCaptured { what: "answer to this lookup".to_owned() });
        };
        self.queue = self.serving(asked)?;
        self.begin_next_answer()?.ok_or(Error::Ended { operation: READING })
    }

    fn receive(&mut self, buffer: &mut RecvBuffer) -> Result<usize> {
        if self.datagrams_left == 0 {
            return Err(Error::Ended { operation: READING });
        }
        self.datagrams_left -= 1;
        let failed = |source| Error::System { operation: READING, source };
        let mut header = [0; FRAME_HEADER_LENGTH];
        self.input.read_exact(&mut header).map_err(failed)?;
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let room = length.min(buffer.bytes().len());
        self.input.read_exact(&mut buffer.bytes_mut()[..room]).map_err(failed)?;
        self.input.seek_relative((length - room) as i64).map_err(failed)?;
        Ok(length)
    }

    fn runs_filters(&self) -> bool {
        false
    }

    fn next_answer(&mut self) -> Result<Option<Exchange>> {
        self.begin_next_answer()
    }
}
