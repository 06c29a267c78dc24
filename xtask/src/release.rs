//! `./x release`: everything that a release consists of in one directory, with its sums, signed by whoever has a key.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::arch::Arch;
use crate::image::{self, Profile, archive};
use crate::workspace::{PLUGIN_PACKAGE, Workspace};
use crate::{deploy, plugin, sbom, step};

/// A private key in PEM, by which openssl signs the sums.
const KEY: &str = "KUBE_TCPSTATES_SIGNING_KEY";
const SUMS: &str = "SHA256SUMS";
const KREW: &str = "kubectl-tcpstates/krew/tcpstates.yaml";

/// Leaves `target/shipped/VERSION/`, for every architecture or for the one that is asked for.
pub(crate) fn make(workspace: &Workspace, options: &[&str]) -> Result<()> {
    let archs = match options {
        [] => Arch::ALL.to_vec(),
        ["--arch", name] => vec![Arch::named(name)?],
        other => bail!("release {}: there is --arch ARCHITECTURE", other.join(" ")),
    };
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    let place = workspace.target.join("shipped").join(version);
    drop(fs::remove_dir_all(&place));
    fs::create_dir_all(&place).with_context(|| format!("create {}", place.display()))?;
    let take = |from: PathBuf, name: &str| {
        fs::copy(&from, place.join(name)).with_context(|| format!("take {}", from.display())).map(drop)
    };
    let mut krew = fs::read_to_string(workspace.root.join(KREW)).with_context(|| format!("read {KREW}"))?;
    for arch in archs {
        let image = image::build(workspace, Profile::Dist, arch)?;
        take(image, &format!("kube-tcpstates-image-{}.tar", arch.name()))?;
        let archive = pack_plugin(workspace, arch, &place)?;
        krew = with_sum(&krew, &archive)?;
    }
    write(&place.join("tcpstates.yaml"), &krew)?;
    take(workspace.root.join("manifests/tcptrace.yaml"), "tcptrace.yaml")?;
    take(workspace.root.join("manifests/crds.yaml"), "crds.yaml")?;
    write(&place.join("sbom.cdx.json"), &sbom::written(workspace)?)?;
    let mut helm = Command::new(deploy::tools(workspace)?.join("bin/helm"));
    helm.arg("package").arg(workspace.root.join("charts/kube-tcpstates")).arg("--destination").arg(&place);
    step::output(&mut helm)?;
    write(&place.join(SUMS), &sums(&place)?)?;
    sign(&place)?;
    step::say(&format!("{} is complete", place.display()));
    Ok(())
}

/// The plugin as krew takes it.
fn pack_plugin(workspace: &Workspace, arch: Arch, place: &Path) -> Result<PathBuf> {
    let plugin = plugin::for_arch(workspace, Profile::Dist, arch)?;
    let archive = place.join(format!("kubectl-tcpstates-linux-{}.tar", arch.name()));
    let licence = workspace.root.join("LICENSE-APACHE");
    archive::pack(&archive, &[(&plugin, PLUGIN_PACKAGE, true), (&licence, "LICENSE-APACHE", false)])?;
    // Without a name and a time, so that the same plugin is the same archive.
    step::run(Command::new("gzip").args(["--no-name", "--best"]).arg(&archive))?;
    Ok(archive.with_extension("tar.gz"))
}

/// krew's manifest with the sum of an archive behind its address.
fn with_sum(manifest: &str, archive: &Path) -> Result<String> {
    let bytes = fs::read(archive).with_context(|| format!("read {}", archive.display()))?;
    let name = archive.file_name().and_then(OsStr::to_str).context("an archive has a name")?;
    let mut is_next = false;
    let mut lines = Vec::new();
    for line in manifest.lines() {
        is_next |= line.trim_start().starts_with("uri:") && line.ends_with(&format!("/{name}"));
        match line.split_once("sha256: ") {
            Some((before, _)) if is_next => {
                lines.push(format!("{before}sha256: \"{}\"", sum_of(&bytes)));
                is_next = false;
            }
            _ => lines.push(line.to_owned()),
        }
    }
    ensure!(!is_next && lines.concat().contains(&sum_of(&bytes)), "{KREW} has no sha256 behind {name}");
    Ok(lines.join("\n") + "\n")
}

fn sum_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

/// As `sha256sum --check` reads them.
fn sums(directory: &Path) -> Result<String> {
    let mut lines = Vec::new();
    for file in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let file = file.with_context(|| format!("list {}", directory.display()))?;
        let bytes = fs::read(file.path()).with_context(|| format!("read {}", file.path().display()))?;
        lines.push(format!("{}  {}\n", sum_of(&bytes), file.file_name().display()));
    }
    lines.sort_by_key(|line| line[64..].to_owned());
    Ok(lines.concat())
}

fn sign(place: &Path) -> Result<()> {
    let Some(key) = env::var_os(KEY) else {
        step::say(&format!("NOT SIGNED: {KEY} names no private key"));
        return Ok(());
    };
    let signature = place.join(SUMS).with_extension("sig");
    let mut openssl = Command::new("openssl");
    openssl.args(["dgst", "-sha256", "-sign"]).arg(key).arg("-out").arg(&signature).arg(place.join(SUMS));
    step::run(&mut openssl).context("sign the sums")?;
    step::say(&format!("{} is the signature of the sums", signature.display()));
    step::say("the image itself is signed where it is pushed to: `cosign sign` by digest; not done here");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_that_sha256sum_finds() {
        let place = env::temp_dir().join(format!("xtask-sums-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        for (name, text) in [("b", "two\n"), ("a", "one\n")] {
            fs::write(place.join(name), text).unwrap();
        }
        let text = sums(&place).unwrap();
        fs::write(place.join(SUMS), &text).unwrap();
        let mut check = Command::new("sha256sum");
        let told = step::output(check.current_dir(&place).args(["--check", SUMS])).unwrap();
        fs::remove_dir_all(&place).unwrap();
        assert_eq!(told, "a: OK\nb: OK\n");
    }

    #[test]
    fn krews_manifest_has_the_sum_of_each_architectures_archive() {
        let manifest = fs::read_to_string(Workspace::find().unwrap().root.join(KREW)).unwrap();
        let place = env::temp_dir().join(format!("xtask-krew-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        let filled = Arch::ALL.into_iter().fold(manifest, |manifest, arch| {
            let archive = place.join(format!("kubectl-tcpstates-linux-{}.tar.gz", arch.name()));
            fs::write(&archive, arch.name()).unwrap();
            with_sum(&manifest, &archive).unwrap()
        });
        let unknown = place.join("kubectl-tcpstates-linux-s390x.tar.gz");
        fs::write(&unknown, "").unwrap();
        let error = with_sum(&filled, &unknown).unwrap_err();
        fs::remove_dir_all(&place).unwrap();
        assert!(error.to_string().contains("no sha256 behind kubectl-tcpstates-linux-s390x"), "{error}");
        let filled: serde_json::Value = serde_saphyr::from_str(&filled).unwrap();
        for platform in filled["spec"]["platforms"].as_array().unwrap() {
            let arch = platform["selector"]["matchLabels"]["arch"].as_str().unwrap();
            assert_eq!(platform["sha256"], sum_of(arch.as_bytes()), "{arch}");
        }
    }
}
