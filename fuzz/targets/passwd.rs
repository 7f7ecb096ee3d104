//! Arbitrary bytes as `/etc/passwd`: of every user that has a name, number and name lead to each other.

use sockeye_host::owners::Users;

pub(super) fn run(bytes: &[u8]) {
    let users = Users::parse(bytes);
    for line in bytes.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().and_then(|name| std::str::from_utf8(name).ok());
        let number = fields.nth(1).and_then(|number| std::str::from_utf8(number).ok()?.parse::<u32>().ok());
        if let Some(known) = name.and_then(|name| users.uid(name)) {
            assert!(users.name(known).is_some(), "{known} is the number of a name");
        }
        let Some(known) = number.and_then(|number| users.name(number)) else { continue };
        super::assert_harmless(&known.to_string());
        if let Ok(text) = std::str::from_utf8(known.as_bytes()) {
            assert!(users.uid(text).is_some(), "{text:?} is the name of a number");
        }
    }
}
