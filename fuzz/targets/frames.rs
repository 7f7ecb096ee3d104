//! Frames of a recording's journal: bytes that a crash, a disk or another version left.

use sockeye_recording::{Framer, Frames, Rows, sealed};

pub(super) fn run(bytes: &[u8]) {
    // As they are, and as what a whole frame holds.
    rows_of(bytes);
    if bytes.is_empty() {
        // No recorder writes such a frame.
        return;
    }
    let framed = sealed(bytes, 7, 0);
    let (rows, damaged) = rows_of(&framed);
    assert_eq!(rows.len() as u64 + damaged, 1, "a whole frame is read, or told as damaged");
    // What was read is written and read the same. Numbers that are none differ from themselves: their bytes do not.
    let mut framer = Framer::new().expect("memory");
    for rows in rows {
        let frame = framer.frame(&rows, 7, 0).expect("it came from a frame").to_vec();
        let (again, _) = rows_of(&frame);
        assert_eq!(framer.frame(&again[0], 7, 0).expect("it came from a frame"), frame);
    }
}

fn rows_of(bytes: &[u8]) -> (Vec<Rows>, u64) {
    let mut frames = Frames::new(bytes, 7, 0, bytes.len() as u64);
    let mut all = Vec::new();
    while let Some(rows) = frames.next_rows().expect("memory can be read") {
        all.push(rows);
    }
    assert_eq!(frames.offset() + frames.torn().tail_bytes, bytes.len() as u64, "every byte is accounted for");
    (all, frames.torn().frames)
}
