//! Debian 12's packages and source packages, downloaded and unpacked without touching the machine's own apt.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::step;

/// The release whose Kubernetes has a kubelet's whole source; later ones hold kubectl alone.
const RELEASE: &str = "bookworm";
const USUAL_MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An apt of its own: its lists and caches are in one directory.
pub(super) struct Archive {
    directory: PathBuf,
}

impl Archive {
    /// Reads the lists of the mirror that this machine's apt uses.
    pub(super) fn open(work: &Path) -> Result<Self> {
        let directory = work.join("apt");
        for empty in ["lists/partial", "cache/archives/partial", "packages", "unpacked"] {
            fs::create_dir_all(directory.join(empty)).context("create apt's directories")?;
        }
        let mirror = mirror().unwrap_or_else(|| USUAL_MIRROR.to_owned());
        let source = format!("[signed-by={KEYRING}] {mirror} {RELEASE} main");
        write(&directory.join("sources.list"), &format!("deb {source}\ndeb-src {source}\n"))?;
        let place = directory.display();
        write(
            &directory.join("apt.conf"),
            &format!(
                "Dir::Etc::SourceList \"{place}/sources.list\";\nDir::Etc::SourceParts \"/dev/null\";\n\
                 Dir::Etc::Preferences \"/dev/null\";\nDir::Etc::PreferencesParts \"/dev/null\";\n\
                 Dir::State::Lists \"{place}/lists\";\nDir::Cache \"{place}/cache\";\n\
                 Acquire::Languages \"none\";\nAPT::Sandbox::User \"root\";\n"
            ),
        )?;
        let archive = Self { directory };
        step::output(archive.apt().arg("update"))
            .with_context(|| format!("read the package lists of {mirror}"))?;
        Ok(archive)
    }

    /// Downloads binary packages and unpacks them over each other; the directory they are in.
    pub(super) fn unpack(&self, packages: &[&str]) -> Result<PathBuf> {
        let downloads = self.directory.join("packages");
        step::output(self.apt().current_dir(&downloads).arg("download").args(packages))?;
        let unpacked = self.directory.join("unpacked");
        for entry in fs::read_dir(&downloads).context("list what was downloaded")? {
            let package = entry.context("list what was downloaded")?.path();
            step::run(Command::new("dpkg").arg("--extract").arg(&package).arg(&unpacked))?;
            fs::remove_file(&package).context("remove a package that is unpacked")?;
        }
        Ok(unpacked)
    }

    /// Downloads a source package and unpacks the upstream part of it; Debian's own changes are left out.
    pub(super) fn unpack_source(&self, package: &str, into: &Path) -> Result<()> {
        let downloads = self.directory.join("packages");
        let mut apt = self.apt();
        apt.current_dir(&downloads).args(["source", "--download-only", package]);
        step::output(&mut apt)?;
        let upstream = fs::read_dir(&downloads)
            .context("list what was downloaded")?
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().contains(".orig.tar."))
            .with_context(|| format!("the source package {package} has no upstream archive"))?;
        fs::create_dir_all(into).with_context(|| format!("create {}", into.display()))?;
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--strip-components=1", "--file"])
            .arg(upstream.path())
            .arg("--directory")
            .arg(into);
        step::run(&mut tar)
    }

    fn apt(&self) -> Command {
        let mut apt = Command::new("apt-get");
        apt.arg("-qq").env("APT_CONFIG", self.directory.join("apt.conf")).env("LC_ALL", "C");
        apt
    }
}

/// Where this machine's apt takes the release from, if it does.
fn mirror() -> Option<String> {
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"]);
    let targets = step::output(&mut apt).ok()?;
    let ours = format!("{RELEASE} main ");
    targets.lines().find_map(|target| Some(target.strip_prefix(&ours)?.trim_end_matches('/').to_owned()))
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}
