//! Arbitrary bytes as `/proc/<pid>/mountinfo`: what is mounted is told with the number and the place that the text has.

use std::os::unix::ffi::OsStrExt;

use sockeye_host::{Cgroups, FoundNamespace, NamespaceName};

pub(super) fn run(bytes: &[u8]) {
    for found in FoundNamespace::mounted_in(bytes) {
        let number = format!("net:[{}]", found.inode);
        // The number may be written with zeros before it.
        let digits = found.inode.to_string();
        assert!(
            contains(bytes, number.as_bytes()) || contains(bytes, digits.as_bytes()),
            "{number} is not in the text"
        );
        let [way] = &found.ways[..] else { panic!("one mount is one way") };
        match found.name {
            NamespaceName::Named(name) => assert_eq!(way.file_name(), Some(name.as_os_str())),
            NamespaceName::Mounted(path) => assert_eq!(&path, way),
            other => panic!("{other:?}"),
        }
        if !way.as_os_str().as_bytes().contains(&b'\\') && !bytes.contains(&b'\\') {
            assert!(contains(bytes, way.as_os_str().as_bytes()), "{way:?} is not in the text");
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(cgroups) = Cgroups::mounted_in(text) {
        assert!(text.contains("cgroup2"));
        let point = cgroups.mount().as_os_str().as_bytes();
        assert!(text.contains('\\') || contains(bytes, point), "{point:?} is not in the text");
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}
