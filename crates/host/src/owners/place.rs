//! What the path of a cgroup tells: systemd unit and slice, container, Kubernetes pod. A pure reading of the path.
//!
//! Leaves to others: which cgroup a process or socket is in, and the names that only a runtime's own socket knows (of
//! images, pods, container names). A path is what a runtime's conventions say, not proof: who may make cgroups may also
//! name one like a container's.

use std::fmt;

use super::name::Name;

/// Where in a host's hierarchy of services and containers a cgroup lies. Nested ones are told by the innermost.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Place {
    /// The systemd unit whose processes these are, `nginx.service`, `session-3.scope`; of a container too, where systemd
    /// started it (`docker-….scope`). None outside any.
    pub unit: Option<Name>,
    /// The systemd slice it is in, `system.slice`. None outside any.
    pub slice: Option<Name>,
    /// The container. None outside any, as is a container's own monitor process.
    pub container: Option<Container>,
    /// `metadata.uid` of the Kubernetes pod, with dashes; a static pod's is 32 hexadecimal digits without. None outside any.
    pub pod_uid: Option<String>,
}

/// A container as the path tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Container {
    /// Who made it; None where the path has only its id, as Kubernetes with the cgroupfs driver writes it.
    pub runtime: Option<Runtime>,
    /// Its full id (64 hexadecimal digits, or what Fargate gives); for LXC and machines its name.
    pub id: Name,
}

/// Maker of a container.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Runtime {
    /// Docker, with either cgroup driver.
    Docker,
    /// containerd: by Kubernetes (CRI) or nerdctl.
    Containerd,
    /// CRI-O.
    CriO,
    /// Podman (libpod).
    Podman,
    /// LXC, LXD, Incus.
    Lxc,
    /// Registered with systemd-machined: nspawn containers and libvirt's machines.
    Machine,
}

impl Runtime {
    /// As its users write it.
    pub const fn name(self) -> &'static str {
        match self {
            Runtime::Docker => "docker",
            Runtime::Containerd => "containerd",
            Runtime::CriO => "cri-o",
            Runtime::Podman => "podman",
            Runtime::Lxc => "lxc",
            Runtime::Machine => "machine",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Container {
    /// `docker:9ec39b91f3d7`: an id of 64 digits cut to the twelve that runtimes show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runtime = self.runtime.map_or("container", Runtime::name);
        match self.id.as_bytes() {
            id if is_id(id) => write!(f, "{runtime}:{}", Name::from(&id[..SHORT_ID])),
            _ => write!(f, "{runtime}:{}", self.id),
        }
    }
}

/// Names of cgroups of containers: what stands before the id, whether systemd (`docker-<id>.scope`), runc without it
/// (`<slice>:docker:<id>`) or cgroupfs (`libpod-<id>`) made the name.
const PREFIXES: &[(&[u8], Runtime)] = &[
    (b"docker", Runtime::Docker),
    (b"cri-containerd", Runtime::Containerd),
    (b"nerdctl", Runtime::Containerd),
    (b"crio", Runtime::CriO),
    (b"libpod", Runtime::Podman),
];

/// Endings of systemd's units that can have processes.
const UNITS: &[&[u8]] = &[b".service", b".scope", b".socket", b".mount", b".swap"];

const ID: usize = 64;
const SHORT_ID: usize = 12;

impl Place {
    /// From a path as `/proc/<pid>/cgroup` writes it, or below the mount of the hierarchy. Never fails.
    pub fn of(path: &[u8]) -> Place {
        let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
        let mut place = Place::default();
        let mut parent: &[u8] = b"";
        let mut below_kubepods = false;
        for segment in path.split(|byte| *byte == b'/').filter(|s| !matches!(*s, b"" | b"." | b"..")) {
            place.enter(segment, parent, below_kubepods);
            below_kubepods |= contains(segment, b"kubepods");
            parent = segment;
        }
        place
    }

    fn enter(&mut self, segment: &[u8], parent: &[u8], below_kubepods: bool) {
        // runc's name for a systemd scope, used as a folder where systemd is not asked: slice:prefix:id.
        let mut parts = segment.rsplitn(3, |byte| *byte == b':');
        if let (Some(id), Some(prefix), Some(slice)) = (parts.next(), parts.next(), parts.next()) {
            self.pod_uid = pod_uid(slice, true).or(self.pod_uid.take());
            self.container = prefixed(prefix, id).or(self.container.take());
            return;
        }
        self.pod_uid = pod_uid(segment, below_kubepods).or(self.pod_uid.take());
        self.container = container(segment, parent).or(self.container.take());
        let unit = unescape_unit(segment);
        if is_named(unit, b".slice") {
            self.slice = Some(unit.into());
        } else if UNITS.iter().any(|ending| is_named(unit, ending)) {
            self.unit = Some(unit.into());
        }
    }

    /// Whether this is where systemd itself lives: pid 1, or the manager of a user's services. It holds the sockets of the
    /// services it starts on demand.
    pub fn is_service_manager(&self) -> bool {
        self.unit.as_ref().is_some_and(|unit| unit.as_bytes() == b"init.scope")
    }
}

fn container(segment: &[u8], parent: &[u8]) -> Option<Container> {
    let bare = segment.strip_suffix(b".scope").unwrap_or(segment);
    let lxc = |id: &[u8]| (!id.is_empty()).then(|| Container { runtime: Some(Runtime::Lxc), id: id.into() });
    let machine =
        |id: &[u8]| (!id.is_empty()).then(|| Container { runtime: Some(Runtime::Machine), id: id.into() });
    if let Some(name) = segment.strip_prefix(b"lxc.payload.") {
        return lxc(name);
    }
    if matches!(parent, b"lxc" | b"lxc.payload") {
        return lxc(segment);
    }
    if let Some(name) = bare.strip_prefix(b"machine-")
        && bare.len() < segment.len()
    {
        return machine(name);
    }
    if let Some(name) = segment.strip_prefix(b"systemd-nspawn@") {
        return machine(name.strip_suffix(b".service")?);
    }
    if is_id(segment) || is_fargate_id(segment) {
        let runtime = (parent == b"docker").then_some(Runtime::Docker);
        return Some(Container { runtime, id: segment.into() });
    }
    let (prefix, id) = bare.split_at_checked(bare.iter().rposition(|byte| *byte == b'-')?)?;
    prefixed(prefix, &id[1..])
}

fn prefixed(prefix: &[u8], id: &[u8]) -> Option<Container> {
    let (_, runtime) = PREFIXES.iter().find(|(known, _)| *known == prefix)?;
    is_id(id).then(|| Container { runtime: Some(*runtime), id: id.into() })
}

fn is_id(id: &[u8]) -> bool {
    id.len() == ID && id.iter().all(u8::is_ascii_hexdigit)
}

/// 32 hexadecimal digits, a dash and a number.
fn is_fargate_id(id: &[u8]) -> bool {
    id.split_at_checked(32).is_some_and(|(task, number)| {
        task.iter().all(u8::is_ascii_hexdigit)
            && number.len() > 1
            && number[0] == b'-'
            && number[1..].iter().all(u8::is_ascii_digit)
    })
}

/// `pod<uid>` below `kubepods`, or `kubepods-…-pod<uid>.slice`, where systemd's rules made each dash an underscore.
fn pod_uid(segment: &[u8], below_kubepods: bool) -> Option<String> {
    let uid = match segment.strip_suffix(b".slice") {
        Some(slice) if contains(slice, b"kubepods") => {
            let at = slice.windows(4).rposition(|window| window == b"-pod")?;
            &slice[at + 4..]
        }
        Some(_) => return None,
        None if below_kubepods => segment.strip_prefix(b"pod")?,
        None => return None,
    };
    let sound =
        uid.len() >= 8 && uid.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    sound.then(|| uid.iter().map(|byte| if *byte == b'_' { '-' } else { char::from(*byte) }).collect())
}

/// systemd puts an underscore before names that the kernel could mean something else by.
fn unescape_unit(segment: &[u8]) -> &[u8] {
    segment.strip_prefix(b"_").unwrap_or(segment)
}

/// Whether it has the ending, and something before it.
fn is_named(segment: &[u8], ending: &[u8]) -> bool {
    segment.len() > ending.len() && segment.ends_with(ending)
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID_A: &str = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d";
    const ID_B: &str = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970";
    const POD: &str = "2fc932ce-fdcc-454b-97bd-aadfdeb4c340";
    const POD_OF_SYSTEMD: &str = "2fc932ce_fdcc_454b_97bd_aadfdeb4c340";

    /// `unit|slice|container|pod`, each empty where it is not told.
    fn told(path: &str) -> String {
        let place = Place::of(path.replace("ID_A", ID_A).replace("ID_B", ID_B).as_bytes());
        let container = place.container.map(|c| {
            format!("{}:{}", c.runtime.map_or("?", Runtime::name), c.id)
                .replace(ID_A, "ID_A")
                .replace(ID_B, "ID_B")
        });
        let name = |name: Option<Name>| name.map(|n| n.to_string().replace(ID_A, "ID_A")).unwrap_or_default();
        format!(
            "{}|{}|{}|{}",
            name(place.unit),
            name(place.slice),
            container.unwrap_or_default(),
            place.pod_uid.unwrap_or_default()
        )
    }

    #[test]
    fn units_of_systemd() {
        for (path, expected) in [
            ("/", "|||"),
            ("", "|||"),
            ("/init.scope", "init.scope|||"),
            ("/system.slice/nginx.service", "nginx.service|system.slice||"),
            ("/system.slice/nginx.service (deleted)", "nginx.service|system.slice||"),
            (
                "/system.slice/system-getty.slice/getty@tty1.service",
                "getty@tty1.service|system-getty.slice||",
            ),
            ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope|user-1000.slice||"),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service/worker",
                "foo.service|app.slice||",
            ),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope", "init.scope|user-1000.slice||"),
            ("/system.slice/_cpu.service", "cpu.service|system.slice||"),
            ("/../../system.slice/a.socket", "a.socket|system.slice||"),
            ("/.service/.slice", "|||"),
        ] {
            assert_eq!(told(path), expected, "{path}");
        }
    }

    #[test]
    fn containers_by_whom_and_how_they_were_made() {
        for (path, expected) in [
            ("/system.slice/docker-ID_A.scope", "docker-ID_A.scope|system.slice|docker:ID_A|"),
            ("/docker/ID_A", "||docker:ID_A|"),
            ("/docker/ID_A/docker/ID_B", "||docker:ID_B|"),
            ("/docker/ID_A/system.slice/nginx.service", "nginx.service|system.slice|docker:ID_A|"),
            ("/ID_A", "||?:ID_A|"),
            ("/machine.slice/libpod-ID_A.scope/container", "libpod-ID_A.scope|machine.slice|podman:ID_A|"),
            ("/machine.slice/libpod-conmon-ID_A.scope", "libpod-conmon-ID_A.scope|machine.slice||"),
            ("/libpod_parent/libpod-ID_A", "||podman:ID_A|"),
            ("/system.slice/nerdctl-ID_A.scope", "nerdctl-ID_A.scope|system.slice|containerd:ID_A|"),
            ("/default/ID_A", "||?:ID_A|"),
            ("/lxc/web/system.slice/ssh.service", "ssh.service|system.slice|lxc:web|"),
            ("/lxc.payload.web-7/init.scope", "init.scope||lxc:web-7|"),
            ("/lxc.payload/web", "||lxc:web|"),
            ("/lxc.monitor.web", "|||"),
            ("/machine.slice/machine-deb.scope/payload", "machine-deb.scope|machine.slice|machine:deb|"),
            (
                "/machine.slice/systemd-nspawn@deb.service/payload",
                "systemd-nspawn@deb.service|machine.slice|machine:deb|",
            ),
            ("/ecs/55091c13-b8cf-4801-b527-f4601742204d/ID_A", "||?:ID_A|"),
            (
                "/ecs/a1b2c3d4e5f60718293a4b5c6d7e8f90/a1b2c3d4e5f60718293a4b5c6d7e8f90-2574839563",
                "||?:a1b2c3d4e5f60718293a4b5c6d7e8f90-2574839563|",
            ),
            ("/system.slice/docker-cleanup.scope", "docker-cleanup.scope|system.slice||"),
            ("/system.slice/docker.service", "docker.service|system.slice||"),
        ] {
            assert_eq!(told(path), expected, "{path}");
        }
    }

    #[test]
    fn pods_of_kubernetes() {
        for (path, expected) in [
            (format!("/kubepods/burstable/pod{POD}/ID_A"), format!("||?:ID_A|{POD}")),
            (format!("/kubepods/pod{POD}"), format!("|||{POD}")),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD_OF_SYSTEMD}.slice/cri-containerd-ID_A.scope"
                ),
                format!(
                    "cri-containerd-ID_A.scope|kubepods-burstable-pod{POD_OF_SYSTEMD}.slice|containerd:ID_A|{POD}"
                ),
            ),
            (
                format!("/kubepods.slice/kubepods-pod{POD_OF_SYSTEMD}.slice/crio-ID_A.scope/container"),
                format!("crio-ID_A.scope|kubepods-pod{POD_OF_SYSTEMD}.slice|cri-o:ID_A|{POD}"),
            ),
            (
                format!("/kubepods.slice/kubepods-pod{POD_OF_SYSTEMD}.slice/crio-conmon-ID_A.scope"),
                format!("crio-conmon-ID_A.scope|kubepods-pod{POD_OF_SYSTEMD}.slice||{POD}"),
            ),
            (
                format!(
                    "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort-pod{POD_OF_SYSTEMD}.slice/docker-ID_A.scope"
                ),
                format!(
                    "docker-ID_A.scope|kubelet-kubepods-besteffort-pod{POD_OF_SYSTEMD}.slice|docker:ID_A|{POD}"
                ),
            ),
            (
                format!(
                    "/system.slice/containerd.service/kubepods-burstable-pod{POD_OF_SYSTEMD}.slice:cri-containerd:ID_A"
                ),
                format!("containerd.service|system.slice|containerd:ID_A|{POD}"),
            ),
            // A static pod: the hash of its configuration.
            (
                "/kubepods/burstable/pod36b6d6be73b1065af369b3985edafa09/ID_B".to_owned(),
                "||?:ID_B|36b6d6be73b1065af369b3985edafa09".to_owned(),
            ),
            ("/podcasts/pod12345678".to_owned(), "|||".to_owned()),
        ] {
            assert_eq!(told(&path), expected, "{path}");
        }
    }

    #[test]
    fn shown_short() {
        let place = Place::of(format!("/system.slice/docker-{ID_A}.scope").as_bytes());
        assert_eq!(place.container.unwrap().to_string(), "docker:9ec39b91f3d7");
        let place = Place::of(b"/lxc.payload.we\x1bb");
        assert_eq!(place.container.unwrap().to_string(), "lxc:we\\u{1b}b");
    }

    proptest! {
        #[test]
        fn any_path_is_read(path in proptest::collection::vec(any::<u8>(), 0..80)) {
            Place::of(&path);
        }

        #[test]
        fn what_is_told_stands_in_the_path(segments in proptest::collection::vec(
            prop_oneof![
                "(_|lxc.payload.|machine-|systemd-nspawn@|pod|kubepods|docker-|a:){0,3}[a-f0-9_:.-]{0,12}(.slice|.service|.scope){0,2}",
                Just(format!("docker-{ID_A}.scope")), Just(ID_B.to_owned()), Just("kubepods".to_owned()), Just("lxc".to_owned()),
            ], 0..6)
        ) {
            let path = format!("/{}", segments.join("/"));
            let place = Place::of(path.as_bytes());
            for name in place.unit.iter().chain(&place.slice).chain(place.container.as_ref().map(|c| &c.id)) {
                prop_assert!(!name.is_empty() && contains(path.as_bytes(), name.as_bytes()), "{path} {name:?}");
                prop_assert!(!name.as_bytes().contains(&b'/'));
            }
            if let Some(pod) = &place.pod_uid {
                prop_assert!(contains(path.replace('_', "-").as_bytes(), pod.as_bytes()), "{path} {pod}");
            }
        }

        /// Innermost counts: whatever lies above a container or unit does not matter.
        #[test]
        fn the_innermost_is_told(above in "(/[a-z]{1,4}(.slice|.service|.scope)?){0,4}") {
            let place = Place::of(format!("{above}/x.slice/docker-{ID_A}.scope/y.service").as_bytes());
            prop_assert_eq!(place.unit, Some(Name::from("y.service")));
            prop_assert_eq!(place.slice, Some(Name::from("x.slice")));
            prop_assert_eq!(place.container, Some(Container { runtime: Some(Runtime::Docker), id: ID_A.into() }));
        }
    }
}
