//! What is fuzzed: functions over bytes that must neither panic nor break the law they state.
//!
//! Built into libFuzzer by the package above, and run over the committed corpora by an ordinary test of the workspace. To add a
//! target: a file here, a row below, and at least one input in `corpus/<name>/`.

mod attributes;
mod capture;
mod datagram;
mod filter;
mod frames;
mod gate;
mod mounts;
mod oracle;
mod owner;
mod passwd;
mod place;
mod request;
mod texts;
mod tracepoint;

/// A name, which is also that of the corpus, and a body.
type Target = (&'static str, fn(&[u8]));

pub(crate) const TARGETS: &[Target] = &[
    ("attributes", attributes::run),
    ("capture", capture::run),
    ("datagram", datagram::run),
    ("filter", filter::run),
    ("frames", frames::run),
    ("gate", gate::run),
    ("mounts", mounts::run),
    ("oracle", oracle::run),
    ("owner", owner::run),
    ("passwd", passwd::run),
    ("place", place::run),
    ("request", request::run),
    ("texts", texts::run),
    ("tracepoint", tracepoint::run),
];

use sock_diag::fake::{Answer, FakeKernel};
use sock_diag::{
    DiagMsg, DumpRequest, DumpSummary, Error, Family, Protocol, RecvBuffer, SocketRecord, SocketState,
    Source, dump, lookup,
};

/// Input as datagrams: each begins with its length, two bytes, little endian; the last takes what is left.
fn datagrams(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut datagrams = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (datagram, rest) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*length))));
        datagrams.push(datagram);
        bytes = rest;
    }
    datagrams
}

/// A name may be any bytes; shown it is one line that no terminal obeys.
fn assert_harmless(shown: &str) {
    assert!(!shown.contains(char::is_control), "{shown:?}");
}

fn kernel_answering(bytes: &[u8]) -> FakeKernel {
    FakeKernel::new(datagrams(bytes).into_iter().map(|datagram| Answer::Raw(datagram.to_vec())))
}

/// A dump to its end: the records, and what was told of it.
fn dump_all(
    source: &mut dyn Source,
    request: &DumpRequest<'_>,
    mut see: impl FnMut(&DiagMsg<'_>),
) -> (Vec<SocketRecord>, Result<DumpSummary, Error>) {
    let mut records = Vec::new();
    let result = dump(source, request, &mut RecvBuffer::new(), |diag| {
        see(diag);
        records.push(diag.to_record());
        std::ops::ControlFlow::Continue(())
    });
    if let Ok(summary) = &result {
        assert_eq!(summary.records, records.len() as u64, "a dump counts what it hands on");
    }
    (records, result)
}

/// A lookup of one socket, whichever it is.
fn look_up_any(source: &mut dyn Source) -> Result<Option<SocketRecord>, Error> {
    let end = ([127, 0, 0, 1], 1).into();
    let id = sock_diag::fake::tcp_record(SocketState::Established, end, end).id;
    lookup(source, Protocol::Tcp, Family::Inet, &id, &mut RecvBuffer::new())
}
