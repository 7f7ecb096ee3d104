//! Captures being written: frames out, and a [`Source`] that keeps what passes through it.

use std::io::{self, Write};

use super::{BYTE_ORDER, FRAME_LIMIT, FrameKind, MAGIC, UNCOUNTED, VERSION, checksum};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::source::{Exchange, RecvBuffer, Source};

/// Writes a capture.
pub struct CaptureWriter<W: Write> {
    out: W,
    frames: u64,
}

impl<W: Write> CaptureWriter<W> {
    /// Begins a capture.
    ///
    /// # Errors
    /// What writing answers.
    pub fn new(mut out: W) -> io::Result<CaptureWriter<W>> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&BYTE_ORDER.to_ne_bytes())?;
        out.write_all(&[0; 4])?;
        Ok(CaptureWriter { out, frames: 0 })
    }

    /// Ends a sweep. `context` is what the caller will need on replay: settings, time, names.
    ///
    /// # Errors
    /// What writing answers; `context` beyond 16 MiB is refused.
    pub fn end_sweep(&mut self, context: &[u8]) -> io::Result<()> {
        self.frame(FrameKind::SweepEnd, &[context])
    }

    /// Keeps a destroy event, as part of the sweep that ends next. `at_ms`: when it was read, by the caller's clock.
    ///
    /// # Errors
    /// What writing answers.
    pub fn event(&mut self, at_ms: u64, event: &Event<'_>) -> io::Result<()> {
        let at = at_ms.to_le_bytes();
        match event {
            Event::Destroyed(diag) => {
                let [fixed, attributes] = diag.parts();
                self.frame(FrameKind::Event, &[&at, fixed, attributes])
            }
            Event::Lost(lost) => {
                self.frame(FrameKind::Lost, &[&at, &lost.unwrap_or(UNCOUNTED).to_le_bytes()])
            }
        }
    }

    /// Ends the capture and hands back what it was written to. Without this the file counts as cut.
    ///
    /// # Errors
    /// What writing answers.
    pub fn finish(mut self) -> io::Result<W> {
        let frames = self.frames.to_le_bytes();
        self.frame(FrameKind::End, &[&frames])?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// One frame; its payload is the parts one behind the other.
    fn frame(&mut self, kind: FrameKind, parts: &[&[u8]]) -> io::Result<()> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        if length > FRAME_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a frame of more than 16 MiB"));
        }
        let mut header = [0; 8];
        header[0] = kind as u8;
        header[4..].copy_from_slice(&(length as u32).to_le_bytes());
        self.out.write_all(&header)?;
        self.out.write_all(&checksum(&header, parts).to_le_bytes())?;
        for part in parts {
            self.out.write_all(part)?;
        }
        self.frames += 1;
        Ok(())
    }
}

/// A [`Source`] that passes everything through and writes it to a capture.
///
/// It sends no filter programs, so that the capture can answer other filters as well.
pub struct Recording<'a, W: Write> {
    source: &'a mut dyn Source,
    capture: &'a mut CaptureWriter<W>,
}

impl<'a, W: Write> Recording<'a, W> {
    /// Captures what `source` answers from now on.
    pub fn new(source: &'a mut dyn Source, capture: &'a mut CaptureWriter<W>) -> Recording<'a, W> {
        Recording { source, capture }
    }
}

const WRITING: &str = "writing the capture";

impl<W: Write> Source for Recording<'_, W> {
    fn send(&mut self, request: &mut [u8]) -> Result<Exchange> {
        let exchange = self.source.send(request)?;
        self.capture
            .frame(FrameKind::Request, &[request])
            .map_err(|source| Error::System { operation: WRITING, source })?;
        Ok(exchange)
    }

    fn receive(&mut self, buffer: &mut RecvBuffer) -> Result<usize> {
        let length = self.source.receive(buffer)?;
        if let Some(datagram) = buffer.bytes().get(..length) {
            self.capture
                .frame(FrameKind::Datagram, &[datagram])
                .map_err(|source| Error::System { operation: WRITING, source })?;
        }
        Ok(length)
    }

    fn runs_filters(&self) -> bool {
        false
    }

    fn next_answer(&mut self) -> Result<Option<Exchange>> {
        self.source.next_answer()
    }
}
