//! Arbitrary bytes as the files of a process: an owner whose names are its own and harmless, or nobody.

use sockeye_host::owners::{Name, Owner, Place, ProcessTexts, Users};

/// Input: stat, status, cgroup and cmdline, each after its length.
pub(super) fn run(bytes: &[u8]) {
    let mut texts = super::datagrams(bytes).into_iter();
    let mut next = || texts.next().unwrap_or_default();
    let texts = ProcessTexts { stat: next(), status: next(), cgroup: next(), cmdline: next() };
    let users = Users::parse(b"root:x:0:0::/:\nwww-data:x:33:33::/:\n");
    let Some(owner) = Owner::parse(7, 33, &texts, &users) else { return };
    let name = owner.name.as_bytes();
    assert!(name.is_empty() || texts.stat.windows(name.len()).any(|window| window == name));
    assert!(owner.command.as_bytes().len() <= texts.cmdline.len());
    assert_eq!(owner.user.as_ref(), users.name(owner.uid));
    let place = owner.cgroup.as_ref().map(|path| Place::of(path.as_bytes()));
    assert_eq!(owner.place, place.unwrap_or_default());
    for name in [Some(&owner.name), Some(&owner.command), owner.cgroup.as_ref()].into_iter().flatten() {
        super::assert_harmless(&name.to_string());
        assert_eq!(Name::from(name.as_bytes()), *name);
    }
}
