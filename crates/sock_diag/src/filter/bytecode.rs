//! Programs for the kernel's socket filter, `inet_diag_bc_run` of `net/ipv4/inet_diag.c`.
//!
//! An operation is four bytes, `struct inet_diag_bc_op { u8 code; u8 yes; u16 no }`, and its data. The kernel
//! goes on `yes` or `no` bytes later; arriving exactly at the end accepts the socket, arriving four bytes
//! beyond it rejects it. The kernel's audit walks the `yes` steps and wants every `no` to land on one of them,
//! so `yes` is always an operation's own length here and only `no` branches. All numbers are in host order.

use std::net::IpAddr;

use super::expr::{Prefix, Side};

/// A program the kernel's audit accepts: the payload of attribute INET_DIAG_REQ_BYTECODE.
///
/// Since: Linux 4.16 (5.9 with a `cgroup` predicate); an older kernel answers EINVAL.
#[derive(Clone, PartialEq, Eq, Debug)]
#[doc(alias = "inet_diag_bc_op")]
pub struct Bytecode {
    bytes: Vec<u8>,
    needs_net_admin: bool,
}

impl Bytecode {
    /// The attribute's payload: a multiple of 4 bytes, at least one operation, at most 31 KiB, so that the
    /// whole request stays within 32 KiB.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the kernel refuses this program (EPERM) without CAP_NET_ADMIN: it reads the socket's mark.
    pub fn needs_net_admin(&self) -> bool {
        self.needs_net_admin
    }
}

/// Most bytes a program may have.
pub(super) const MAX_BYTES: usize = 31 * 1024;

/// One condition the kernel can test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    PortEqual(Side, u16),
    PortAtLeast(Side, u16),
    PortAtMost(Side, u16),
    /// The address, and the port if there is one.
    Host(Side, Prefix, Option<u16>),
    /// The socket's family is AF_INET6.
    Inet6,
    /// The bound interface; 0 for none.
    Device(u32),
    Mark {
        value: u32,
        mask: u32,
    },
    Cgroup(u64),
    /// The port was not chosen by an explicit bind().
    Auto,
}

/// `enum` of `include/uapi/linux/inet_diag.h`.
mod code {
    pub(super) const JMP: u8 = 1;
    pub(super) const S_GE: u8 = 2;
    pub(super) const S_LE: u8 = 3;
    pub(super) const D_GE: u8 = 4;
    pub(super) const D_LE: u8 = 5;
    pub(super) const AUTO: u8 = 6;
    pub(super) const S_COND: u8 = 7;
    pub(super) const D_COND: u8 = 8;
    pub(super) const DEV_COND: u8 = 9;
    pub(super) const MARK_COND: u8 = 10;
    pub(super) const S_EQ: u8 = 11;
    pub(super) const D_EQ: u8 = 12;
    pub(super) const CGROUP_COND: u8 = 13;
}

/// A place in the program, perhaps not reached yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Label(usize);

/// A program being written.
#[derive(Default)]
pub(super) struct Assembler {
    bytes: Vec<u8>,
    /// Where each label is; None until bound. A label never bound is the end that rejects.
    labels: Vec<Option<usize>>,
    /// Operations whose `no` leads to a label.
    jumps: Vec<(usize, Label)>,
    needs_net_admin: bool,
}

impl Assembler {
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Makes `label` mean here.
    pub(super) fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.bytes.len());
    }

    /// Goes on when `op` holds, to `otherwise` when not.
    pub(super) fn test(&mut self, op: Op, otherwise: Label) {
        let side = |side, local, remote| if side == Side::Local { local } else { remote };
        match op {
            Op::PortEqual(at, port) => self.port_op(side(at, code::S_EQ, code::D_EQ), port, otherwise),
            Op::PortAtLeast(at, port) => self.port_op(side(at, code::S_GE, code::D_GE), port, otherwise),
            Op::PortAtMost(at, port) => self.port_op(side(at, code::S_LE, code::D_LE), port, otherwise),
            Op::Host(at, prefix, port) => {
                let code = side(at, code::S_COND, code::D_COND);
                match prefix.address {
                    IpAddr::V4(v4) => {
                        self.host_op(code, libc::AF_INET, prefix.bits, port, &v4.octets(), otherwise)
                    }
                    IpAddr::V6(v6) => {
                        self.host_op(code, libc::AF_INET6, prefix.bits, port, &v6.octets(), otherwise)
                    }
                }
            }
            Op::Inet6 => self.host_op(code::S_COND, libc::AF_INET6, 0, None, &[0; 16], otherwise),
            Op::Device(index) => self.op(code::DEV_COND, &[&index.to_ne_bytes()], otherwise),
            Op::Mark { value, mask } => {
                self.needs_net_admin = true;
                self.op(code::MARK_COND, &[&value.to_ne_bytes(), &mask.to_ne_bytes()], otherwise);
            }
            Op::Cgroup(id) => self.op(code::CGROUP_COND, &[&id.to_ne_bytes()], otherwise),
            Op::Auto => self.op(code::AUTO, &[], otherwise),
        }
    }

    /// Goes to `target`.
    pub(super) fn jump(&mut self, target: Label) {
        self.op(code::JMP, &[], target);
    }

    /// The port is the `no` of a second, otherwise empty operation.
    fn port_op(&mut self, code: u8, port: u16, otherwise: Label) {
        self.op(code, &[&[0, 0], &port.to_ne_bytes()], otherwise);
    }

    /// `struct inet_diag_hostcond { u8 family; u8 prefix_len; int port; be32 addr[] }`.
    fn host_op(
        &mut self,
        code: u8,
        family: i32,
        bits: u8,
        port: Option<u16>,
        address: &[u8],
        otherwise: Label,
    ) {
        let port = port.map_or(-1, i32::from);
        self.op(code, &[&[family as u8, bits, 0, 0], &port.to_ne_bytes(), address], otherwise);
    }

    fn op(&mut self, code: u8, data: &[&[u8]], otherwise: Label) {
        let at = self.bytes.len();
        self.jumps.push((at, otherwise));
        self.bytes.extend_from_slice(&[code, 0, 0, 0]);
        data.iter().for_each(|data| self.bytes.extend_from_slice(data));
        self.bytes[at + 1] = (self.bytes.len() - at) as u8;
    }

    /// Bytes written so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The program; None when it has no operation, which the kernel does not take and which accepts all.
    pub(super) fn finish(mut self) -> Option<Bytecode> {
        let end = self.bytes.len();
        for (at, label) in self.jumps {
            let target = self.labels[label.0].unwrap_or(end + 4);
            let no = (target - at) as u16;
            self.bytes[at + 2..at + 4].copy_from_slice(&no.to_ne_bytes());
        }
        (end > 0).then_some(Bytecode { bytes: self.bytes, needs_net_admin: self.needs_net_admin })
    }
}
