//! Values as typed, with their place; numbers, near misses, and the values without a grammar of their own:
//! interfaces, marks, cgroups. Ends of sockets are read in `endpoint`, states in `states`.

use std::num::NonZeroU32;
use std::ops::Range;

use super::error::{FilterError, quoted};
use super::expr::{Expr, Holder, Ports, Test};
use super::names::Names;

/// A value as typed, and where.
#[derive(Clone)]
pub(super) struct Value<'t> {
    pub(super) text: &'t str,
    pub(super) span: Range<usize>,
}

impl<'t> Value<'t> {
    /// A part of this value; `text` must be a slice of its text.
    pub(super) fn part(&self, text: &'t str) -> Value<'t> {
        let start = self.span.start + (text.as_ptr() as usize - self.text.as_ptr() as usize);
        Value { text, span: start..start + text.len() }
    }

    pub(super) fn wrong(&self, message: impl Into<String>) -> FilterError {
        FilterError::new(self.span.clone(), message)
    }
}

pub(super) type Read<T> = Result<T, FilterError>;

/// An interface by name, by `id:INDEX`, or by a bare index; index 0 is "bound to none".
pub(super) fn device(value: Value<'_>, names: &dyn Names) -> Read<Test> {
    let index = match value.text.strip_prefix("id:") {
        Some(id) => id.parse().ok(),
        None => names.interface(value.text).map(NonZeroU32::get).or_else(|| value.text.parse().ok()),
    };
    match index {
        Some(index) => Ok(Test::Device(NonZeroU32::new(index))),
        None => Err(value.wrong(format!("no interface is known as {}", quoted(value.text)))),
    }
}

/// `VALUE[/MASK]`.
pub(super) fn mark(value: Value<'_>, _names: &dyn Names) -> Read<Test> {
    let read = |text| {
        let part = value.part(text);
        number(text).map_err(|what| match what {
            NotANumber::Octal => part
                .wrong(format!("{} may be octal or decimal", quoted(text)))
                .help("leave the zeros in front out, or write 0x for hexadecimal"),
            NotANumber::Other => part.wrong(format!("{} is not a 32-bit number", quoted(text))),
        })
    };
    let (mark, mask) = split_at(value.text, '/');
    Ok(Test::Mark { value: read(mark)?, mask: mask.map_or(Ok(u32::MAX), read)? })
}

/// A cgroup by path, by `id:ID` or a bare number; with `/*` behind the path, all below it as well. The expression, and how many
/// cgroups it names.
pub(super) fn cgroup(value: Value<'_>, names: &dyn Names) -> Read<(Expr, usize)> {
    let number = value.text.strip_prefix("id:").unwrap_or(value.text);
    let ids = match value.text.strip_suffix("/*") {
        _ if number.bytes().all(|b| b.is_ascii_digit()) => number.parse().ok().map(|id| vec![id]),
        Some("") => names.cgroups_below("/"),
        Some(path) => names.cgroups_below(path),
        None => names.cgroup(value.text).map(|id| vec![id]),
    };
    match ids {
        Some(ids) if !ids.is_empty() => {
            let count = ids.len();
            Ok((Expr::any(ids.into_iter().map(|id| Expr::Test(Test::Cgroup(id))).collect()), count))
        }
        _ => Err(value
            .wrong(format!("no cgroup is known as {}", quoted(value.text)))
            .help("write a path below the cgroup2 mount, such as `/system.slice/nginx.service`")),
    }
}

/// A user by name or number.
pub(super) fn user(value: Value<'_>, names: &dyn Names) -> Read<Test> {
    let uid = names.user(value.text).or_else(|| value.text.parse().ok());
    uid.map(Test::User).ok_or_else(|| value.wrong(format!("no user is known as {}", quoted(value.text))))
}

/// A process by its number.
pub(super) fn pid(value: Value<'_>, names: &dyn Names) -> Read<Test> {
    let Some(pid) = value.text.parse().ok().filter(|pid| *pid != 0) else {
        return Err(value
            .wrong(format!("{} is not the number of a process", quoted(value.text)))
            .help("to find one by name write `comm = NAME`"));
    };
    match names.sockets_of_pid(pid) {
        Some(inodes) => Ok(held_by(Holder::Pid(pid), inodes)),
        None => Err(value.wrong(format!("no process {pid} is known here, or it may not be looked into"))),
    }
}

/// Processes by name.
pub(super) fn comm(value: Value<'_>, names: &dyn Names) -> Read<Test> {
    match names.sockets_of_name(value.text) {
        Some(inodes) => Ok(held_by(Holder::Named(value.text.into()), inodes)),
        None => {
            let name = quoted(value.text);
            Err(value.wrong(format!("no process is known as {name} here, or it may not be looked into")))
        }
    }
}

fn held_by(holder: Holder, mut inodes: Vec<u32>) -> Test {
    inodes.sort_unstable();
    inodes.dedup();
    Test::HeldBy { holder, inodes: inodes.into() }
}

/// The ports `autobound` may be about.
pub(super) fn autobound(first: u16, last: u16) -> Test {
    Test::Autobound(Ports { first: first.min(last), last: last.max(first) })
}

/// What is before a separator, and what is after it where there is one.
pub(super) fn split_at(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// Why a number was not read.
pub(super) enum NotANumber {
    /// ss reads a leading zero as octal, people do not.
    Octal,
    Other,
}

/// Whether a word can only be meant as a number; there are services such as `9pfs`.
pub(super) fn is_number(text: &str) -> bool {
    text.starts_with("0x")
        || text.starts_with("0X")
        || !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A decimal or, after `0x`, hexadecimal number.
pub(super) fn number(text: &str) -> Result<u32, NotANumber> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hexadecimal) => (hexadecimal, 16),
        None => (text, 10),
    };
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(NotANumber::Other);
    }
    if radix == 10 && digits.len() > 1 && digits.starts_with('0') {
        return Err(NotANumber::Octal);
    }
    u32::from_str_radix(digits, radix).map_err(|_| NotANumber::Other)
}

/// The candidate a typing error or two away from `word`.
pub(super) fn closest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    if word.len() > 20 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let allowed = if word.len() > 4 { 2 } else { 1 };
    candidates
        .iter()
        .map(|candidate| (distance(&word, candidate), *candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and replacements of bytes between two words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
