//! `cargo xtask dist`: what people install: a tarball and a Debian package of the release build, made so that the same
//! commit gives the same bytes, and tried out before they are called done.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::generate::generate;
use crate::workspace::{Workspace, cargo};

/// A package must name one; there is no address to write to.
const MAINTAINER: &str = "The sockeye authors <sockeye@localhost.localdomain>";

/// What lintian says of that.
const NO_ADDRESS: &str = "bogus-mail-host,bogus-mail-host-in-debian-changelog";

/// Build a tarball and a Debian package into target/dist
#[derive(clap::Args)]
pub(crate) struct Dist {
    /// For this target; without it musl (a static binary) if its standard library is installed, else the host's
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
}

impl Dist {
    pub(crate) fn run(&self) -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent")?;
        let target = match &self.target {
            Some(target) => target.clone(),
            None => best_target()?,
        };
        let release = Release {
            version: version(root)?,
            epoch: epoch(root)?,
            folder: root.join("target/dist"),
            target,
            root: root.to_owned(),
        };
        release.build()
    }
}

/// One version for one target, in the making.
struct Release {
    root: PathBuf,
    /// Where everything goes.
    folder: PathBuf,
    version: String,
    target: String,
    /// Seconds since 1970 that every file is dated with.
    epoch: String,
}

/// A file below the root of a package, and what is in it.
struct Item {
    path: String,
    content: Vec<u8>,
    mode: u32,
}

impl Item {
    fn new(path: impl Into<String>, content: Vec<u8>) -> Item {
        Item { path: path.into(), content, mode: 0o644 }
    }
}

impl Release {
    fn build(&self) -> Result<()> {
        fs::create_dir_all(&self.folder).with_context(|| self.folder.display().to_string())?;
        let binary = self.program()?;
        let generated = self.folder.join("generated");
        generate(&self.root, &generated)?;
        let tarball = self.tarball(&binary, &generated)?;
        let package = self.debian_package(&binary, &generated)?;
        self.try_out(&tarball, &package)?;
        let sums = run_in(
            &self.folder,
            "sha256sum",
            [tarball.file_name(), package.file_name()].into_iter().flatten(),
        )?;
        fs::write(self.folder.join("SHA256SUMS"), &sums)?;
        eprint!("{sums}");
        Ok(())
    }

    /// The release build, without the builder's paths in it.
    fn program(&self) -> Result<Vec<u8>> {
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home =
            home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo"))).context("no CARGO_HOME")?;
        let flags = [(&self.root, "sockeye"), (&home, "cargo")]
            .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
        let target_folder = self.folder.join("build");
        run(Command::new(cargo())
            .args(["build", "--release", "--locked", "--package", "sockeye", "--target", &self.target])
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &target_folder)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("SOURCE_DATE_EPOCH", &self.epoch))?;
        let built = target_folder.join(&self.target).join("release/sockeye");
        let path = self.folder.join("sockeye");
        // The names of functions are half a megabyte that no package carries.
        run(Command::new("strip").arg("--strip-unneeded").arg("-o").args([&path, &built]))?;
        fs::read(&path).with_context(|| path.display().to_string())
    }

    fn tarball(&self, binary: &[u8], generated: &Path) -> Result<PathBuf> {
        let name = format!("sockeye-{}-{}", self.version, self.target);
        let mut items =
            vec![Item { path: "bin/sockeye".to_owned(), content: binary.to_owned(), mode: 0o755 }];
        items.extend(
            man_pages(generated)?
                .into_iter()
                .map(|(page, text)| Item::new(format!("share/man/man1/{page}"), text)),
        );
        items.extend(completions(generated, "share", "site-functions")?);
        for name in ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "CHANGELOG.md"] {
            items.push(Item::new(name, self.read(name)?));
        }
        items.extend(self.docs("docs")?);
        let stage = self.folder.join("stage");
        lay_out(&stage.join(&name), &items)?;
        let tar = self.folder.join(format!("{name}.tar"));
        run(Command::new("tar")
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=ustar"])
            .arg(format!("--mtime=@{}", self.epoch))
            .arg("--create")
            .arg(format!("--file={}", tar.display()))
            .arg(format!("--directory={}", stage.display()))
            .arg(&name))?;
        run(Command::new("gzip").args(["--no-name", "--best", "--force"]).arg(&tar))?;
        Ok(tar.with_extension("tar.gz"))
    }

    fn debian_package(&self, binary: &[u8], generated: &Path) -> Result<PathBuf> {
        let architecture = debian_architecture(&self.target)?;
        let mut items =
            vec![Item { path: "usr/bin/sockeye".to_owned(), content: binary.to_owned(), mode: 0o755 }];
        for (page, text) in man_pages(generated)? {
            items.push(Item::new(format!("usr/share/man/man1/{page}.gz"), gzip(&text)?));
        }
        items.extend(completions(generated, "usr/share", "vendor-completions")?);
        let doc = "usr/share/doc/sockeye";
        items.push(Item::new(format!("{doc}/copyright"), self.copyright()?));
        items.push(Item::new(format!("{doc}/changelog.gz"), gzip(&self.read("CHANGELOG.md")?)?));
        items.push(Item::new(
            format!("{doc}/changelog.Debian.gz"),
            gzip(self.packaging_changes()?.as_bytes())?,
        ));
        items.push(Item::new(format!("{doc}/README.md"), self.read("README.md")?));
        items.extend(self.docs(doc)?);
        let installed_kib = items.iter().map(|item| item.content.len().div_ceil(1024)).sum::<usize>();
        let stage = self.folder.join("debian");
        lay_out(&stage, &items)?;
        let mut paths: Vec<&str> = items.iter().map(|item| item.path.as_str()).collect();
        paths.sort_unstable();
        let sums = run_in(&stage, "md5sum", &paths)?;
        let control =
            control(&self.debian_version(), architecture, installed_kib, libc_needed(binary).as_deref());
        let control = [Item::new("control", control.into_bytes()), Item::new("md5sums", sums.into_bytes())];
        lay_out(&stage.join("DEBIAN"), &control)?;
        let package = self.folder.join(format!("sockeye_{}_{architecture}.deb", self.debian_version()));
        run(Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Zxz", "--build"])
            .args([&stage, &package])
            .stdout(Stdio::null())
            .env("SOURCE_DATE_EPOCH", &self.epoch))?;
        Ok(package)
    }

    /// Unpacks both, and runs what is in them.
    fn try_out(&self, tarball: &Path, package: &Path) -> Result<()> {
        let trial = self.folder.join("trial");
        empty(&trial)?;
        run(Command::new("tar").args(["--extract", "--file"]).arg(tarball).arg("--directory").arg(&trial))?;
        let debian = trial.join("debian");
        run(Command::new("dpkg-deb").arg("--extract").args([package, &debian]))?;
        let unpacked = trial.join(format!("sockeye-{}-{}", self.version, self.target));
        for (root, man) in
            [(unpacked, "share/man/man1/sockeye.1"), (debian.join("usr"), "share/man/man1/sockeye.1.gz")]
        {
            let said = output(Command::new(root.join("bin/sockeye")).arg("--version"))?;
            ensure!(said.trim() == format!("sockeye {}", self.version), "--version says {said:?}");
            if found("man") {
                let page = output(
                    Command::new("man")
                        .arg("--warnings")
                        .arg("-l")
                        .arg(root.join(man))
                        .env("MANWIDTH", "100"),
                )?;
                ensure!(page.contains("NAME") && page.contains("sockeye-snapshot"), "man shows {page}");
            }
            if found("bash") {
                run(Command::new("bash")
                    .arg("-n")
                    .arg(root.join("share/bash-completion/completions/sockeye")))?;
            }
        }
        if found("lintian") {
            run(Command::new("lintian")
                .args(["--fail-on", "error", "--suppress-tags", NO_ADDRESS])
                .arg(package))?;
        }
        Ok(())
    }

    /// Of the program, and of how it is packaged.
    fn debian_version(&self) -> String {
        format!("{}-1", self.version)
    }

    fn packaging_changes(&self) -> Result<String> {
        let date =
            output(Command::new("date").args(["--utc", "--rfc-email", &format!("--date=@{}", self.epoch)]))?;
        Ok(format!(
            "sockeye ({}) unstable; urgency=medium\n\n  * Version {} as it was released.\n\n -- {MAINTAINER}  {}\n",
            self.debian_version(),
            self.version,
            date.trim()
        ))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        fs::read(self.root.join(name)).with_context(|| name.to_owned())
    }

    /// Everything under docs/.
    fn docs(&self, below: &str) -> Result<Vec<Item>> {
        let docs = self.root.join("docs");
        let mut items = Vec::new();
        for path in crate::tidy::files_under(&docs)? {
            let content = fs::read(&path).with_context(|| path.display().to_string())?;
            let name = path.strip_prefix(&docs)?.display().to_string();
            items.push(Item::new(format!("{below}/{name}"), content));
        }
        Ok(items)
    }

    fn copyright(&self) -> Result<Vec<u8>> {
        let mit = String::from_utf8(self.read("LICENSE-MIT")?)?;
        let holder = mit
            .lines()
            .find_map(|line| line.strip_prefix("Copyright (c) "))
            .context("LICENSE-MIT: no holder")?;
        let (_, mit) = mit.split_once("\n\n").context("LICENSE-MIT has one paragraph")?;
        let (_, permission) = mit.split_once("\n\n").context("LICENSE-MIT has two paragraphs")?;
        let indented: Vec<String> = permission
            .lines()
            .map(|line| if line.is_empty() { " .".to_owned() } else { format!(" {line}") })
            .collect();
        Ok(format!(
            "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n\
             Files: *\nCopyright: {holder}\nLicense: MIT or Apache-2.0\n\n\
             License: MIT\n{}\n\n\
             License: Apache-2.0\n On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n",
            indented.join("\n")
        )
        .into_bytes())
    }
}

fn control(version: &str, architecture: &str, installed_kib: usize, libc: Option<&str>) -> String {
    let depends = libc.map(|libc| format!("Depends: libc6 (>= {libc}), libgcc-s1\n")).unwrap_or_default();
    format!(
        "Package: sockeye\nVersion: {version}\nArchitecture: {architecture}\n\
         Maintainer: {MAINTAINER}\nInstalled-Size: {installed_kib}\n{depends}\
         Section: net\nPriority: optional\n\
         Description: ephemeral ports, connection churn and lifetimes of a host\n \
         Reads the sockets of a Linux host from the kernel and tells towards which\n \
         destinations its ephemeral ports run out and when, who opens and closes\n \
         connections and how fast, and how long they live. Needs no privilege.\n"
    )
}

/// The newest version of the GNU C library whose symbols the program asks for; None for a static one.
fn libc_needed(binary: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"GLIBC_2.";
    let minors =
        binary.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK).filter_map(|(at, _)| {
            let digits: String = binary[at + MARK.len()..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .map(|byte| char::from(*byte))
                .collect();
            digits.parse::<u32>().ok()
        });
    minors.max().map(|minor| format!("2.{minor}"))
}

fn debian_architecture(target: &str) -> Result<&'static str> {
    Ok(match target.split('-').next() {
        Some("x86_64") => "amd64",
        Some("aarch64") => "arm64",
        Some("riscv64gc") => "riscv64",
        Some("powerpc64le") => "ppc64el",
        Some("s390x") => "s390x",
        _ => bail!("what does Debian call {target}?"),
    })
}

/// Static where the standard library for it is installed.
fn best_target() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host =
        version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    let musl = host.replace("-gnu", "-musl");
    let libraries = output(Command::new("rustc").args(["--print", "target-libdir", "--target", &musl]))?;
    let has_std = fs::read_dir(libraries.trim()).is_ok_and(|files| {
        files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
    });
    if has_std {
        return Ok(musl);
    }
    eprintln!(
        "no standard library for {musl} (rustup target add {musl}): the program will need the host's C library"
    );
    Ok(host.to_owned())
}

fn version(root: &Path) -> Result<String> {
    let workspace = Workspace::open(root)?;
    let package = workspace
        .packages()
        .iter()
        .find(|package| package.name == "sockeye")
        .context("no package sockeye")?;
    Ok(package.version.clone())
}

/// SOURCE_DATE_EPOCH, or when the commit was made.
fn epoch(root: &Path) -> Result<String> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(epoch) => Ok(epoch),
        Err(_) => Ok(output(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root))?
            .trim()
            .to_owned()),
    }
}

fn man_pages(generated: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = generated.join("man");
    let mut pages = Vec::new();
    for page in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let page = page?;
        pages.push((page.file_name().to_string_lossy().into_owned(), fs::read(page.path())?));
    }
    pages.sort();
    Ok(pages)
}

fn completions(generated: &Path, share: &str, zsh: &str) -> Result<Vec<Item>> {
    let places = [
        ("sockeye.bash", "bash-completion/completions/sockeye".to_owned()),
        ("_sockeye", format!("zsh/{zsh}/_sockeye")),
        ("sockeye.fish", "fish/vendor_completions.d/sockeye.fish".to_owned()),
    ];
    let mut items = Vec::new();
    for (name, place) in places {
        let content = fs::read(generated.join("completions").join(name)).with_context(|| name.to_owned())?;
        items.push(Item::new(format!("{share}/{place}"), content));
    }
    Ok(items)
}

fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())
}

/// The items and nothing else, with permissions that do not depend on the builder's umask.
fn lay_out(folder: &Path, items: &[Item]) -> Result<()> {
    empty(folder)?;
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    allow(folder, 0o755)?;
    for item in items {
        let path = folder.join(&item.path);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(&path, &item.content).with_context(|| path.display().to_string())?;
        allow(&path, item.mode)?;
        for parent in path.ancestors().skip(1).take_while(|parent| *parent != folder) {
            allow(parent, 0o755)?;
        }
    }
    Ok(())
}

fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut file = tempfile::tempfile()?;
    std::io::Write::write_all(&mut file, content)?;
    std::io::Seek::rewind(&mut file)?;
    let done = Command::new("gzip")
        .args(["--no-name", "--best", "--stdout"])
        .stdin(file)
        .output()
        .context("gzip")?;
    ensure!(done.status.success(), "gzip: {}", done.status);
    Ok(done.stdout)
}

fn found(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

fn output(command: &mut Command) -> Result<String> {
    let done =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(done.status.success(), "{command:?}: {}", done.status);
    Ok(String::from_utf8(done.stdout)?)
}

fn run_in(
    folder: &Path,
    program: &str,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<String> {
    output(Command::new(program).args(arguments).current_dir(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libc_asked_for_is_the_newest() {
        assert_eq!(libc_needed(b"\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.17\0").as_deref(), Some("2.34"));
        assert_eq!(libc_needed(b"static GLIBC_PRIVATE"), None);
    }

    #[test]
    fn the_control_file_names_what_it_needs() {
        let dynamic = control("1.2.3", "amd64", 42, Some("2.34"));
        assert!(dynamic.contains("\nDepends: libc6 (>= 2.34), libgcc-s1\nSection"), "{dynamic}");
        let alone = control("1.2.3", "arm64", 42, None);
        assert!(
            !alone.contains("Depends") && alone.contains("\nInstalled-Size: 42\nSection: net\n"),
            "{alone}"
        );
        // A line of the long description begins with a space; a field does not.
        assert!(alone.lines().all(|line| line.starts_with(' ') || line.contains(": ")), "{alone}");
    }
}
