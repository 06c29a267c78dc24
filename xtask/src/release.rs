//! `./x release`: everything that a release consists of in one directory, with its sums, signed by whoever has a key.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::image::{self, Profile};
use crate::workspace::Workspace;
use crate::{deploy, plugin, sbom, step};

/// A private key in PEM, by which openssl signs the sums.
const KEY: &str = "KUBE_TCPSTATES_SIGNING_KEY";
const SUMS: &str = "SHA256SUMS";

/// Leaves `target/shipped/VERSION/`.
pub(crate) fn make(workspace: &Workspace) -> Result<()> {
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    let place = workspace.target.join("shipped").join(version);
    drop(fs::remove_dir_all(&place));
    fs::create_dir_all(&place).with_context(|| format!("create {}", place.display()))?;
    let image = image::agent(workspace, Profile::Dist)?;
    let plugin = plugin::with_profile(workspace, Profile::Dist)?;
    let take = |from: PathBuf, name: &str| {
        fs::copy(&from, place.join(name)).with_context(|| format!("take {}", from.display())).map(drop)
    };
    take(image, "kube-tcpstates-image.tar")?;
    take(plugin, "kubectl-tcpstates")?;
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

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

/// As `sha256sum --check` reads them.
fn sums(directory: &Path) -> Result<String> {
    let mut lines = Vec::new();
    for file in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let file = file.with_context(|| format!("list {}", directory.display()))?;
        let bytes = fs::read(file.path()).with_context(|| format!("read {}", file.path().display()))?;
        let sum = Sha256::digest(bytes).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        lines.push(format!("{sum}  {}\n", file.file_name().display()));
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
}
