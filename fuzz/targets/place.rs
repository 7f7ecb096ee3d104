//! Arbitrary bytes as the path of a cgroup: what it tells is a part of it, and harmless.

use sockeye_host::owners::Place;

pub(super) fn run(bytes: &[u8]) {
    let place = Place::of(bytes);
    let ids = place.container.as_ref().map(|container| &container.id);
    for name in [place.unit.as_ref(), place.slice.as_ref(), ids].into_iter().flatten() {
        assert!(!name.is_empty() && !name.as_bytes().contains(&b'/'), "{name}");
        super::assert_harmless(&name.to_string());
    }
    if let Some(container) = &place.container {
        super::assert_harmless(&container.to_string());
    }
    if let Some(pod) = &place.pod_uid {
        assert!(pod.len() >= 8 && pod.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{pod}");
    }
    // A slash at the end names the same folder.
    let below = [bytes.strip_suffix(b" (deleted)").unwrap_or(bytes), b"/"].concat();
    assert_eq!(Place::of(&below), place);
}
