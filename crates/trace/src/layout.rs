//! Where a sample of the tracepoint has its fields, as the kernel's own description says: kernels may move them.

/// The tracepoint's number, and where its fields are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// For `perf_event_open`.
    pub id: u64,
    pub(crate) flags: usize,
    pub(crate) socket: usize,
    pub(crate) old_state: usize,
    pub(crate) new_state: usize,
    pub(crate) local_port: usize,
    pub(crate) remote_port: usize,
    /// As IPv6 addresses; those of IPv4 are mapped.
    pub(crate) local_address: usize,
    pub(crate) remote_address: usize,
}

impl Layout {
    /// Reads the file `format` of the tracepoint; None when a field is missing or has another size.
    pub fn parse(text: &str) -> Option<Layout> {
        let id = text.lines().find_map(|line| line.strip_prefix("ID:"))?.trim().parse().ok()?;
        let field = |name: &str, size: usize| {
            let line = text.lines().map(str::trim).find(|line| declares(line, name))?;
            (value(line, "size:")? == size).then(|| value(line, "offset:")).flatten()
        };
        Some(Layout {
            id,
            flags: field("common_flags", 1)?,
            socket: field("skaddr", 8)?,
            old_state: field("oldstate", 4)?,
            new_state: field("newstate", 4)?,
            local_port: field("sport", 2)?,
            remote_port: field("dport", 2)?,
            local_address: field("saddr_v6", 16)?,
            remote_address: field("daddr_v6", 16)?,
        })
    }
}

/// Whether a line like `field:__u8 saddr_v6[16]; offset:40; size:16; signed:0;` declares this name.
fn declares(line: &str, name: &str) -> bool {
    let declaration = line.strip_prefix("field:").and_then(|rest| rest.split(';').next());
    let last = declaration.and_then(|declaration| declaration.split_ascii_whitespace().last());
    last.and_then(|word| word.split('[').next()) == Some(name)
}

fn value(line: &str, key: &str) -> Option<usize> {
    line.split(';')
        .find_map(|part| part.trim().strip_prefix(key))?
        .parse()
        .ok()
        .filter(|value| *value < 4_096)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// As Linux 6.18 on x86_64 tells it.
    pub(crate) const FORMAT: &str = include_str!("../../../fuzz/corpus/tracepoint/format");

    #[test]
    fn fields_are_where_the_kernel_says() {
        let layout = Layout::parse(FORMAT).unwrap();
        assert_eq!((layout.id, layout.socket, layout.old_state, layout.new_state), (2287, 8, 16, 20));
        assert_eq!((layout.local_port, layout.remote_port), (24, 26));
        assert_eq!((layout.local_address, layout.remote_address), (40, 56));
    }

    #[test]
    fn what_is_not_understood_is_no_layout() {
        for (from, to) in [
            ("skaddr", "sk"),
            ("oldstate;\toffset:16;\tsize:4", "oldstate;\toffset:16;\tsize:8"),
            ("ID: 2287", "ID: x"),
            ("offset:40", "offset:99999999999999999999"),
            ("offset:40", "offset:40000"),
            ("saddr_v6[16];", "saddr_v6[16]"),
        ] {
            let text = FORMAT.replace(from, to);
            assert_ne!(text, FORMAT, "{from}");
            assert_eq!(Layout::parse(&text), None, "{from} → {to}");
        }
        assert_eq!(Layout::parse(""), None);
    }
}
