//! What `/proc` tells of a thread that lives. None of one that has ended, or may not be looked into.

use std::fs;

use crate::book::Alive;

pub(crate) struct Proc;

impl Alive for Proc {
    fn netns(&mut self, task: u32) -> Option<u64> {
        let link = fs::read_link(format!("/proc/{task}/ns/net")).ok()?;
        link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
    }

    fn name(&mut self, task: u32) -> Option<[u8; 16]> {
        // As it is, with a line's end.
        let comm = fs::read(format!("/proc/{task}/comm")).ok()?;
        let mut name = [0; 16];
        name.iter_mut().zip(comm.strip_suffix(b"\n")?).for_each(|(to, from)| *to = *from);
        Some(name)
    }
}

/// Whether its numbers are those of our pid namespace.
pub(crate) fn is_ours() -> bool {
    fs::read_link("/proc/self").is_ok_and(|own| own.as_os_str() == std::process::id().to_string().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_tells_its_name_and_namespace() {
        let (name, netns) = std::thread::Builder::new()
            .name("odd\nname".into())
            .spawn(|| {
                let own = fs::read_link("/proc/thread-self").unwrap();
                let task = own.file_name().unwrap().to_str().unwrap().parse().unwrap();
                (Proc.name(task), Proc.netns(task))
            })
            .unwrap()
            .join()
            .unwrap();
        assert_eq!(name, Some(*b"odd\nname\0\0\0\0\0\0\0\0"));
        assert!(netns.is_some() && is_ours());
        assert_eq!((Proc.name(u32::MAX), Proc.netns(u32::MAX)), (None, None));
    }
}
