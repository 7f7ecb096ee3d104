//! Names of users, from a file in the form of `/etc/passwd`.
//!
//! The name service (LDAP, SSSD) is not asked: a name for a number is worth no network request, and a monitor must not wait
//! for one. Users it alone knows stay numbers.

use std::collections::HashMap;
use std::path::Path;

use super::name::Name;

/// Users by number and by name. Of lines that say the same number, or the same name, the first counts, as in getpwuid().
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Users {
    names: HashMap<u32, Name>,
    numbers: HashMap<Name, u32>,
}

impl Users {
    /// Reads `path`; no users where it cannot be read. Cost: one small file.
    pub fn read(path: &Path) -> Users {
        std::fs::read(path).map(|text| Users::parse(&text)).unwrap_or_default()
    }

    /// From lines `name:password:uid:…`; others are passed over. Never fails.
    pub fn parse(text: &[u8]) -> Users {
        let mut users = Users::default();
        for line in text.split(|byte| *byte == b'\n') {
            let mut fields = line.split(|byte| *byte == b':');
            let (Some(name), Some(_), Some(number)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let number = std::str::from_utf8(number).ok().and_then(|digits| digits.parse::<u32>().ok());
            // A line of NIS begins with + or -.
            let (Some(number), false) = (number, matches!(name, [] | [b'+' | b'-' | b'#', ..])) else {
                continue;
            };
            users.names.entry(number).or_insert_with(|| name.into());
            users.numbers.entry(name.into()).or_insert(number);
        }
        users
    }

    /// Name of a user; None when the file has none.
    pub fn name(&self, uid: u32) -> Option<&Name> {
        self.names.get(&uid)
    }

    /// Number of the user of that name; None when the file has none.
    pub fn uid(&self, name: &str) -> Option<u32> {
        self.numbers.get(&Name::from(name)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn users_by_number_and_name() {
        let users = Users::parse(
            b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\nwww-data:x:33:33::/:/bin/false\nroot:x:7:7::/:\n\
              +nis:x:5:5:::\n#off:x:6:6:::\n:x:8:8:::\nbroken\nbroken:x\nbroken:x:-1:\nbroken:x:4294967296:\n\
              \xff\x1b[31m:x:1000:1000::/:\nlast:x:4294967294:0",
        );
        assert_eq!(users.name(0), Some(&Name::from("root")));
        assert_eq!(users.name(33), Some(&Name::from("www-data")));
        assert_eq!(users.name(1000).unwrap().to_string(), "\\xff\\u{1b}[31m");
        assert_eq!(users.name(4_294_967_294), Some(&Name::from("last")));
        for unknown in [1, 4, 5, 6, 8] {
            assert_eq!(users.name(unknown), None);
        }
        assert_eq!((users.uid("root"), users.uid("toor"), users.uid("broken")), (Some(0), Some(0), None));
    }

    #[test]
    fn without_the_file_there_are_no_users() {
        assert_eq!(Users::read(Path::new("/nonexistent/passwd")), Users::default());
    }

    proptest! {
        #[test]
        fn every_name_of_the_file_has_its_first_number(lines in proptest::collection::vec(("[a-c]{1,2}", 0u32..6), 0..12)) {
            let text: String = lines.iter().map(|(name, uid)| format!("{name}:x:{uid}:0::/:\n")).collect();
            let users = Users::parse(text.as_bytes());
            for (name, uid) in &lines {
                let first = lines.iter().find(|(other, _)| other == name).map(|(_, uid)| *uid);
                prop_assert_eq!(users.uid(name), first);
                let first = lines.iter().find(|(_, other)| other == uid).map(|(name, _)| Name::from(name.as_str()));
                prop_assert_eq!(users.name(*uid), first.as_ref());
            }
        }
    }
}
