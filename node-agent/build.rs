//! Brings the kernel side into the agent.
//!
//! `./x build` (or `cargo xtask bpf`) builds the object and leaves it at `bpf/kube-tcpstates.bpf.o` under cargo's target
//! directory; `KUBE_TCPSTATES_BPF_OBJECT` names another one. It is copied to `OUT_DIR`, and the source includes it by
//! `env!("KUBE_TCPSTATES_BPF_OBJECT")`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::exit;

const OBJECT: &str = "KUBE_TCPSTATES_BPF_OBJECT";

fn main() {
    println!("cargo::rerun-if-env-changed={OBJECT}");
    println!("cargo::rerun-if-changed=build.rs");
    let out_dir = PathBuf::from(variable("OUT_DIR"));
    let object = match env::var_os(OBJECT) {
        Some(path) => PathBuf::from(path),
        None => below_target(&out_dir),
    };
    println!("cargo::rerun-if-changed={}", object.display());
    let copy = out_dir.join("kube-tcpstates.bpf.o");
    if let Err(error) = fs::copy(&object, &copy) {
        fail(&format!("no kernel side at {} ({error}): run ./x build", object.display()));
    }
    println!("cargo::rustc-env={OBJECT}={}", copy.display());
}

/// The nearest directory above `OUT_DIR` that holds the object: cargo tells a build script of no target directory.
/// `OUT_DIR` is TARGET/PROFILE/build/PACKAGE/out, with the target triple before the profile when there is one.
fn below_target(out_dir: &Path) -> PathBuf {
    let candidates =
        || out_dir.ancestors().skip(4).take(2).map(|target| target.join("bpf/kube-tcpstates.bpf.o"));
    let found = candidates().find(|object| object.exists());
    found.or_else(|| candidates().next()).unwrap_or_default()
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| fail(&format!("{name}: {error}")))
}

fn fail(reason: &str) -> ! {
    println!("cargo::error={reason}");
    exit(1);
}
