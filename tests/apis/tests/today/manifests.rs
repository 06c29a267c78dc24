//! Everything that is installed, read as the types of this Kubernetes, strictly: a field that it does not have is an error, and so is
//! a version of an API that it has given up, or will.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_apis_tests::kubectl::{BOTH, SID};
use kube_tcpstates_apis_tests::{documents, program, root};

/// Kinds that are not among Kubernetes' own types. The first is its own, and its types are in no library of Debian's.
const OF_OTHERS: [&str; 4] =
    ["APIService", "SecurityContextConstraints", "TcpStateTrace", "ClusterTcpStateTrace"];

/// What each document is, or what is wrong with it.
fn read_strictly(objects: &str) -> Result<Vec<String>> {
    let mut reader = program("crd-server")?;
    let mut reader = reader.arg("--types").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    reader.stdin.take().context("its stdin")?.write_all(objects.as_bytes())?;
    let output = reader.wait_with_output()?;
    ensure!(output.status.success(), "it reads all of it");
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}

fn ensure_known(what: &str, objects: &str) -> Result<()> {
    let said = read_strictly(objects)?;
    let expected = documents(objects)?.into_iter().map(|object| {
        let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
        (text("apiVersion"), text("kind"))
    });
    let expected: Vec<_> = expected.collect();
    ensure!(!expected.is_empty() && said.len() == expected.len(), "{what}: {said:?}");
    for (said, (version, kind)) in said.iter().zip(&expected) {
        let is_of_others = OF_OTHERS.contains(&kind.as_str()) && said.starts_with("no kind ");
        ensure!(is_of_others || *said == format!("{version} {kind}"), "{what}: {said}");
    }
    Ok(())
}

#[test]
fn every_manifest_is_of_types_that_this_kubernetes_has() -> Result<()> {
    for directory in ["", "base", "examples", "policies", "sidecar"] {
        for entry in std::fs::read_dir(root().join("manifests").join(directory))? {
            let file = entry?.path();
            let is_read = file.extension().is_some_and(|kind| kind == "yaml")
                && file.file_name().is_some_and(|name| name != "kustomization.yaml");
            if is_read {
                ensure_known(&file.display().to_string(), &std::fs::read_to_string(&file)?)?;
            }
        }
    }
    Ok(())
}

#[test]
fn every_overlay_is_made_by_either_kubectl_and_is_of_types_that_this_kubernetes_has() -> Result<()> {
    for entry in std::fs::read_dir(root().join("manifests/overlays"))? {
        let overlay = entry?.path();
        let made = BOTH.map(|release| kustomized(release, &overlay));
        let [today, before] = made;
        let (today, before) = (today?, before?);
        ensure!(documents(&today)? == documents(&before)?, "{}: differs from {SID}'s", overlay.display());
        ensure_known(&overlay.display().to_string(), &today)?;
    }
    Ok(())
}

fn kustomized(release: &str, overlay: &std::path::Path) -> Result<String> {
    let output = program(&format!("kubectl-{release}"))?.arg("kustomize").arg(overlay).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && errors.is_empty(), "{release}: {}: {errors}", overlay.display());
    Ok(String::from_utf8(output.stdout)?)
}
