//! One dump: the walks it takes, the checks on every answer, and what is told of it at the end.
//!
//! The hot path of the crate. No allocation, no system call but the receiving one, and no panic on any bytes.

use std::ops::ControlFlow;

use netlink_packet_core::{NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN};

use crate::error::{Errno, Error, Result};
use crate::filter::{Bytecode, Filter, Unanswerable};
use crate::record::{Family, Protocol};
use crate::request::{Extensions, SOCK_DIAG_BY_FAMILY, TCPDIAG_GETSOCK, Walk};
use crate::source::{Exchange, RecvBuffer, Source};
use crate::state::StateSet;
use crate::wire::{Attributes, DiagMsg, NlMsg, NlMsgs, leading};

/// What a dump asks for.
#[derive(Clone, Debug)]
pub struct DumpRequest<'f> {
    /// Whose sockets.
    pub protocol: Protocol,
    /// One family, or both.
    pub family: Option<Family>,
    /// Sockets in these states; of none, nothing is asked. [`StateSet::BOUND_INACTIVE`] costs a walk of its own.
    pub states: StateSet,
    /// What records carry beyond the usual.
    pub extensions: Extensions,
    /// Only sockets this matches. Its own `state` terms narrow [`states`](Self::states) no further than they say;
    /// the caller decides how both combine.
    pub filter: Option<&'f Filter>,
}

impl<'f> DumpRequest<'f> {
    /// All sockets of a protocol, both families, nothing but the usual attributes.
    pub fn all(protocol: Protocol) -> DumpRequest<'f> {
        DumpRequest {
            protocol,
            family: None,
            states: StateSet::ALL,
            extensions: Extensions::NONE,
            filter: None,
        }
    }

    /// The same request for these states.
    pub fn states(self, states: StateSet) -> DumpRequest<'f> {
        DumpRequest { states, ..self }
    }

    /// The same request for one family.
    pub fn family(self, family: Family) -> DumpRequest<'f> {
        DumpRequest { family: Some(family), ..self }
    }

    /// The same request with more attributes.
    pub fn extensions(self, extensions: Extensions) -> DumpRequest<'f> {
        DumpRequest { extensions, ..self }
    }

    /// The same request through a filter.
    pub fn filter(self, filter: &'f Filter) -> DumpRequest<'f> {
        DumpRequest { filter: Some(filter), ..self }
    }
}

/// What a dump was like, beyond its records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DumpSummary {
    /// Walks of the kernel's tables that were answered: 1, or 2 where both families took one each.
    pub walks: u32,
    /// Datagrams received.
    pub datagrams: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Records handed on.
    pub records: u64,
    /// The kernel said that the table changed under the dump (NLM_F_DUMP_INTR). inet_diag never says it, though it
    /// happens: false is no promise.
    pub interrupted: bool,
    /// Messages that were for someone else or of another request, and were passed over.
    pub foreign: u64,
    /// Messages shorter than a record, or of an unknown kind, passed over.
    pub malformed: u64,
    /// The kernel refused the filter program and records were filtered here instead.
    pub filtered_in_user_space: bool,
}

impl DumpSummary {
    /// Adds another dump's counts to this one.
    pub fn add(&mut self, other: &DumpSummary) {
        self.walks += other.walks;
        self.datagrams += other.datagrams;
        self.bytes += other.bytes;
        self.records += other.records;
        self.interrupted |= other.interrupted;
        self.foreign += other.foreign;
        self.malformed += other.malformed;
        self.filtered_in_user_space |= other.filtered_in_user_space;
    }
}

/// Dumps sockets: `each` sees every matching one in place, in the kernel's order.
///
/// Under churn the kernel may repeat or miss a socket; deduplicate by cookie. TCP of both families takes one walk
/// (the v1 request), other protocols one per family. [`ControlFlow::Break`] stops `each`; the rest of the answer is
/// still read, so that `source` stays usable.
///
/// # Errors
/// [`Error::Refused`]: ENOENT means the protocol's diag module is missing. After any other error open a new source.
///
/// # Cost
/// About 0.7 µs a socket, and a visit of every hash bucket even in an empty namespace; nearly all in the kernel.
pub fn dump(
    source: &mut dyn Source,
    request: &DumpRequest<'_>,
    buffer: &mut RecvBuffer,
    mut each: impl FnMut(&DiagMsg<'_>) -> ControlFlow<()>,
) -> Result<DumpSummary> {
    if request.states.is_empty() {
        return Ok(DumpSummary::default());
    }
    let compiled = match request.filter {
        Some(filter) if source.runs_filters() => Some(filter.compile()?),
        _ => None,
    };
    // With a source that runs no programs, or a kernel that refuses this one, the whole filter is evaluated here.
    let mut plan = Plan {
        request,
        bytecode: compiled.as_ref().and_then(|c| c.bytecode.as_ref()),
        here: match &compiled {
            Some(compiled) => compiled.residual.as_ref(),
            None => request.filter,
        },
        checks_request: !source.runs_filters(),
    };
    match plan.walk_families(source, buffer, &mut each) {
        Err(Failed { error, before_any_record: true })
            if plan.bytecode.is_some() && error.refusal() == Some(Errno(libc::EINVAL)) =>
        {
            plan.bytecode = None;
            plan.here = request.filter;
            let mut summary = plan.walk_families(source, buffer, &mut each).map_err(|failed| failed.error)?;
            summary.filtered_in_user_space = true;
            Ok(summary)
        }
        result => result.map_err(|failed| failed.error),
    }
}

/// How a request is carried out.
struct Plan<'a, 'f> {
    request: &'a DumpRequest<'f>,
    bytecode: Option<&'a Bytecode>,
    /// What must be evaluated per record in user space.
    here: Option<&'a Filter>,
    /// The source may hold more than was asked for.
    checks_request: bool,
}

struct Failed {
    error: Error,
    /// Nothing has reached the caller yet: another way may still be tried.
    before_any_record: bool,
}

impl Plan<'_, '_> {
    fn walk_families(
        &self,
        source: &mut dyn Source,
        buffer: &mut RecvBuffer,
        each: &mut impl FnMut(&DiagMsg<'_>) -> ControlFlow<()>,
    ) -> Result<DumpSummary, Failed> {
        let mut summary = DumpSummary::default();
        let mut stopped = false;
        match self.request.family {
            Some(family) => self.walk(source, Some(family), buffer, each, &mut summary, &mut stopped)?,
            None => {
                let mut both_at_once = false;
                if self.request.protocol == Protocol::Tcp {
                    match self.walk(source, None, buffer, each, &mut summary, &mut stopped) {
                        Ok(()) => both_at_once = true,
                        // EINVAL may also be the filter program's: the walks per family will tell.
                        Err(failed) if failed.before_any_record && failed.error.refusal().is_some() => {}
                        Err(failed) => return Err(failed),
                    }
                }
                if !both_at_once {
                    for family in [Family::Inet, Family::Inet6] {
                        if !stopped {
                            self.walk(source, Some(family), buffer, each, &mut summary, &mut stopped)?;
                        }
                    }
                }
            }
        }
        Ok(summary)
    }

    fn walk(
        &self,
        source: &mut dyn Source,
        family: Option<Family>,
        buffer: &mut RecvBuffer,
        each: &mut impl FnMut(&DiagMsg<'_>) -> ControlFlow<()>,
        summary: &mut DumpSummary,
        stopped: &mut bool,
    ) -> Result<(), Failed> {
        let request = self.request;
        let walk = Walk {
            protocol: request.protocol,
            family,
            states: request.states,
            extensions: request.extensions,
            bytecode: self.bytecode,
        };
        let mut ask = || -> Result<()> {
            let mut exchange = source.send(&mut walk.encode())?;
            loop {
                let mut unanswerable = None;
                let end = answer(source, exchange, buffer, summary, |message, summary| {
                    let Some(diag) = DiagMsg::parse(message.payload, request.protocol) else {
                        summary.malformed += 1;
                        return;
                    };
                    if *stopped {
                        return;
                    }
                    match self.wants(&diag) {
                        Ok(true) => {
                            summary.records += 1;
                            *stopped = each(&diag).is_break();
                        }
                        Ok(false) => {}
                        Err(error) => {
                            unanswerable = Some(error);
                            *stopped = true;
                        }
                    }
                });
                end?;
                if let Some(error) = unanswerable {
                    return Err(error.into());
                }
                match source.next_answer()? {
                    Some(next) => exchange = next,
                    None => {
                        summary.walks += 1;
                        return Ok(());
                    }
                }
            }
        };
        ask().map_err(|error| Failed { error, before_any_record: summary.records == 0 })
    }

    #[inline]
    fn wants(&self, diag: &DiagMsg<'_>) -> Result<bool, Unanswerable> {
        if !self.checks_request && self.here.is_none() {
            return Ok(true);
        }
        let record = diag.to_record();
        if self.checks_request
            && !(record.is_in(self.request.states)
                && self.request.family.is_none_or(|family| family == record.family))
        {
            return Ok(false);
        }
        self.here.map_or(Ok(true), |filter| filter.matches(&record))
    }
}

/// Reads one answer up to its NLMSG_DONE; `record` sees every message that is neither control nor foreign.
fn answer(
    source: &mut dyn Source,
    exchange: Exchange,
    buffer: &mut RecvBuffer,
    summary: &mut DumpSummary,
    mut record: impl FnMut(&NlMsg<'_>, &mut DumpSummary),
) -> Result<()> {
    let operation = "dumping sockets";
    loop {
        let length = source.receive(buffer)?;
        let room = buffer.bytes().len();
        if length > room {
            return Err(Error::Truncated { operation, length, room });
        }
        summary.datagrams += 1;
        summary.bytes += length as u64;
        for message in NlMsgs::new(&buffer.bytes()[..length]) {
            let message = message.map_err(|what| Error::Malformed { operation, what })?;
            if message.sequence != exchange.sequence || message.port_id != exchange.port_id {
                summary.foreign += 1;
                continue;
            }
            summary.interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
            match message.kind {
                SOCK_DIAG_BY_FAMILY | TCPDIAG_GETSOCK => record(&message, summary),
                NLMSG_DONE => return verdict(operation, &message, Verdict::Done),
                NLMSG_ERROR => return verdict(operation, &message, Verdict::Error),
                NLMSG_OVERRUN => return Err(Error::Overrun { operation }),
                NLMSG_NOOP => {}
                _ => summary.malformed += 1,
            }
        }
    }
}

/// Reads an answer nobody wants the records of.
pub(crate) fn read_answer(
    source: &mut dyn Source,
    exchange: Exchange,
    buffer: &mut RecvBuffer,
) -> Result<()> {
    answer(source, exchange, buffer, &mut DumpSummary::default(), |_, _| {})
}

/// Which control message a verdict stands in: the offset of the kernel's own words differs.
#[derive(Clone, Copy)]
pub(crate) enum Verdict {
    Done,
    Error,
}

const NLM_F_CAPPED: u16 = netlink_packet_core::NLM_F_CAPPED;
const NLM_F_ACK_TLVS: u16 = netlink_packet_core::NLM_F_ACK_TLVS;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// What an NLMSG_ERROR or NLMSG_DONE says: 0 is success, a negative number an errno.
pub(crate) fn verdict(operation: &'static str, message: &NlMsg<'_>, kind: Verdict) -> Result<()> {
    let code = match (leading(message.payload).map(i32::from_ne_bytes), kind) {
        (Some(code), _) => code,
        // Old kernels end a dump with an empty NLMSG_DONE.
        (None, Verdict::Done) => 0,
        (None, Verdict::Error) => {
            return Err(Error::Malformed { operation, what: "an error message is cut" });
        }
    };
    match code {
        0 => return Ok(()),
        1.. => return Err(Error::Malformed { operation, what: "an error number that is positive" }),
        _ => {}
    }
    let words = match kind {
        Verdict::Done => message.payload.get(4..),
        // The failed request stands between: its header, and unless capped its payload.
        Verdict::Error if message.flags & NLM_F_CAPPED != 0 => message.payload.get(20..),
        Verdict::Error => {
            let request = message.payload.get(4..).and_then(leading).map(u32::from_ne_bytes);
            let end =
                request.and_then(|length| (length as usize).checked_next_multiple_of(4)?.checked_add(4));
            end.and_then(|end| message.payload.get(end..))
        }
    };
    let text = words
        .filter(|_| message.flags & NLM_F_ACK_TLVS != 0)
        .and_then(|words| Attributes::new(words).find(|a| a.kind == NLMSGERR_ATTR_MSG))
        .map(|a| String::from_utf8_lossy(a.payload).trim_end_matches('\0').escape_debug().to_string());
    Err(Error::Refused { operation, errno: Errno(code.saturating_neg()), message: text })
}
