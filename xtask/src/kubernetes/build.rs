//! Compiles kube-apiserver, its companions and the kubelet from Debian's source package, by Debian's Go.
//!
//! Kubernetes 1.20 is older than modules are usual: it is built in a GOPATH, from the vendored tree alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::debian::Archive;
use crate::step;

const VERSION: &str = "v1.20.2";
const PROGRAMS: [&str; 4] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"];
const GO: &str = "golang-1.19";
/// Cloud providers and the docker runtime, a third of the code, are not used here.
const TAGS: &str = "providerless,dockerless";

/// Leaves the programs and the pause container's in `bin`.
pub(super) fn build(archive: &Archive, work: &Path, bin: &Path) -> Result<()> {
    let compiler = [format!("{GO}-go"), format!("{GO}-src")];
    let reflect2 = "golang-github-modern-go-reflect2-dev";
    let unpacked = archive.unpack(&[&compiler[0], &compiler[1], reflect2])?;
    let go = Go { root: unpacked.join("usr/lib").join(GO.replace("lang", "")), work: work.to_path_buf() };
    archive.unpack_source("kubernetes", &go.kubernetes())?;
    renew_reflect2(&go, &unpacked.join("usr/share/gocode/src/github.com/modern-go/reflect2"))?;
    do_not_wait_for_docker(&go)?;
    generate_openapi(&go)?;
    for program in PROGRAMS {
        step::say(&format!("compiling {program}"));
        go.build(&format!("./cmd/{program}"), &bin.join(program))?;
    }
    let mut cc = Command::new("cc");
    cc.current_dir(go.kubernetes()).args(["-Os", "-static", "-s", "build/pause/linux/pause.c", "-o"]);
    step::run(cc.arg(bin.join("pause")))
}

/// Debian's Go, and the GOPATH that Kubernetes stands in.
struct Go {
    root: PathBuf,
    work: PathBuf,
}

impl Go {
    fn kubernetes(&self) -> PathBuf {
        self.work.join("gopath/src/k8s.io/kubernetes")
    }

    fn vendored(&self, package: &str) -> PathBuf {
        self.kubernetes().join("vendor").join(package)
    }

    fn build(&self, package: &str, program: &Path) -> Result<()> {
        let mut linker_flags = vec!["-s -w".to_owned()];
        for stamped in ["component-base/version", "client-go/pkg/version"] {
            for (name, value) in [("gitVersion", VERSION), ("gitMajor", "1"), ("gitMinor", "20")] {
                linker_flags.push(format!("-X k8s.io/kubernetes/vendor/k8s.io/{stamped}.{name}={value}"));
            }
        }
        let mut go = Command::new(self.root.join("bin/go"));
        go.current_dir(self.kubernetes()).args([
            "build",
            "-trimpath",
            "-tags",
            TAGS,
            "-ldflags",
            &linker_flags.join(" "),
            "-o",
        ]);
        go.arg(program).arg(package);
        step::run(self.within(&mut go))
    }

    /// Nothing of the user's own Go settings, and nothing from the network.
    fn within<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("GOROOT", &self.root)
            .env("GOPATH", self.work.join("gopath"))
            .env("GOCACHE", self.work.join("cache"));
        command.envs([
            ("GO111MODULE", "off"),
            ("CGO_ENABLED", "0"),
            ("GOPROXY", "off"),
            ("GOFLAGS", ""),
            ("GOENV", "off"),
        ])
    }
}

/// The vendored reflect2 1.0.1 reads out of bounds when it walks a map under Go 1.18 and later, and the API server
/// dies of the first custom resource. Debian's 1.0.2 does not.
fn renew_reflect2(go: &Go, newer: &Path) -> Result<()> {
    let vendored = go.vendored("github.com/modern-go/reflect2");
    for old in sources_in(&vendored)? {
        fs::remove_file(&old).with_context(|| format!("remove {}", old.display()))?;
    }
    for new in sources_in(newer)? {
        let place = vendored.join(new.file_name().context("a file has a name")?);
        fs::copy(&new, &place).with_context(|| format!("copy {}", new.display()))?;
    }
    Ok(())
}

/// Go and assembler files of one package.
fn sources_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    Ok(files.filter(|file| file.extension().is_some_and(|kind| kind == "go" || kind == "s")).collect())
}

/// The kubelet's cAdvisor asks five times, a second apart, for a docker that is not there.
fn do_not_wait_for_docker(go: &Go) -> Result<()> {
    let file = go.vendored("github.com/google/cadvisor/container/docker/factory.go");
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let changed = text.replace("rootDirRetries = 5", "rootDirRetries = 1");
    ensure!(changed != text, "{} does not say how often it looks for docker", file.display());
    fs::write(&file, changed).with_context(|| format!("write {}", file.display()))
}

/// The one generated file that the source package lacks: the API server's own description of its types.
fn generate_openapi(go: &Go) -> Result<()> {
    let generator = go.work.join("openapi-gen");
    go.build("./vendor/k8s.io/kube-openapi/cmd/openapi-gen", &generator)?;
    let mut packages = BTreeSet::new();
    for tree in ["vendor/k8s.io", "pkg"] {
        described_packages(&go.kubernetes(), Path::new(tree), &mut packages)?;
    }
    let packages: Vec<_> =
        packages.iter().map(|package| format!("k8s.io/kubernetes/{}", package.display())).collect();
    let mut run = Command::new(&generator);
    run.current_dir(go.kubernetes()).args(["--input-dirs", &packages.join(",")]);
    run.args([
        "--output-package",
        "k8s.io/kubernetes/pkg/generated/openapi",
        "--output-file-base",
        "zz_generated.openapi",
    ]);
    run.args([
        "--go-header-file",
        "vendor/k8s.io/code-generator/hack/boilerplate.go.txt",
        "--report-filename",
    ]);
    // It remarks on every type that breaks a rule of the API's style.
    step::output(go.within(run.arg(go.work.join("openapi-remarks")))).map(drop)
}

/// Packages below `directory` whose types ask to be described, by the mark in a comment.
fn described_packages(root: &Path, directory: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    const NOT_THE_SERVERS: [&str; 4] = ["testdata", "_examples", "code-generator", "sample-apiserver"];
    let entries =
        fs::read_dir(root.join(directory)).with_context(|| format!("list {}", directory.display()))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = directory.join(&name);
        // Kubernetes' own libraries are vendored as links.
        if root.join(&path).is_dir() {
            if !NOT_THE_SERVERS.contains(&name.as_str()) {
                described_packages(root, &path, found)?;
            }
        } else if is_compiled(&name) && !found.contains(directory) {
            let text =
                fs::read_to_string(root.join(&path)).with_context(|| format!("read {}", path.display()))?;
            if text.lines().any(asks_for_description) {
                found.insert(directory.to_path_buf());
            }
        }
    }
    Ok(())
}

/// Whether a file is part of its package, not of the package's tests.
fn is_compiled(name: &str) -> bool {
    name.strip_suffix(".go").is_some_and(|stem| !stem.ends_with("_test"))
}

fn asks_for_description(line: &str) -> bool {
    line.strip_prefix("//").is_some_and(|comment| comment.trim_start().starts_with("+k8s:openapi-gen="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_of_a_package_do_not_count() {
        assert!(is_compiled("types.go"));
        assert!(!is_compiled("types_test.go") && !is_compiled("doc.md"));
    }

    #[test]
    fn a_package_is_described_by_a_mark_at_the_start_of_a_comment() {
        assert!(asks_for_description("// +k8s:openapi-gen=true"));
        assert!(asks_for_description("//+k8s:openapi-gen=false"));
        assert!(!asks_for_description("\tx := \"// +k8s:openapi-gen=true\""));
        assert!(!asks_for_description("// see +k8s:openapi-gen=true"));
    }
}
