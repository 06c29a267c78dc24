//! Debian's packages and source packages, of any release, downloaded and unpacked without touching the machine's own apt.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::step;

const USUAL_MIRROR: &str = "http://deb.debian.org/debian";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An apt of its own: its lists and caches are in one directory.
pub(crate) struct Archive {
    directory: PathBuf,
}

impl Archive {
    /// Reads a release's lists from the mirror that this machine's apt uses.
    pub(crate) fn open(work: &Path, release: &str) -> Result<Self> {
        let directory = work.join("apt");
        for empty in ["lists/partial", "cache/archives/partial", "packages", "unpacked"] {
            fs::create_dir_all(directory.join(empty)).context("create apt's directories")?;
        }
        let mirror = mirror().unwrap_or_else(|| USUAL_MIRROR.to_owned());
        let source = format!("[signed-by={KEYRING}] {mirror} {release} main");
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

    /// The packages that `package` depends on, and theirs, as far as `wanted` says. A package of which nothing is
    /// wanted stands at the end of its branch.
    pub(crate) fn dependencies(&self, package: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let mut apt = Command::new("apt-cache");
        apt.env("APT_CONFIG", self.directory.join("apt.conf")).env("LC_ALL", "C");
        apt.args(["depends", "--recurse", "--important", package]);
        let text = step::output(&mut apt)?;
        let mut found: Vec<String> = text.lines().filter(|line| wanted(line)).map(str::to_owned).collect();
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Downloads binary packages and unpacks them over each other; the directory they are in.
    pub(crate) fn unpack(&self, packages: &[&str]) -> Result<PathBuf> {
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
    pub(crate) fn unpack_source(&self, package: &str, into: &Path) -> Result<()> {
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

/// Where this machine's apt takes Debian from, if it does.
fn mirror() -> Option<String> {
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"]);
    let targets = step::output(&mut apt).ok()?;
    // Debian's own archive has every release; the machine's may be another than the one asked for.
    targets.lines().find_map(|target| {
        let (_, address) = target.split_once(" main ")?;
        address.trim_end_matches('/').ends_with("/debian").then(|| address.trim_end_matches('/').to_owned())
    })
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}
