//! What is in a machine besides its kernel: the agent, the test programs, what those run, and all their libraries.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Kernel;
use super::initramfs::Initramfs;
use super::machine::{Machine, QEMU};
use super::store::Stored;
use crate::programs::{Program, STRIP, XZ};
use crate::workspace::{KERNEL_TESTS_PACKAGE, Workspace};
use crate::{agent, step};

/// What makes the machines and runs them.
pub(crate) const TOOLS: &[Program] = &[(&[QEMU], "qemu-system-x86"), STRIP, XZ];
/// Programs of this machine that the tests run.
pub(crate) const PROGRAMS: &[Program] = &[
    (&["/bin/sh"], "dash"),
    (&["/sbin/ip"], "iproute2"),
    (&["/bin/mount"], "mount"),
    (&["/bin/umount"], "mount"),
    (&["/bin/mountpoint"], "util-linux"),
    (&["/usr/bin/unshare"], "util-linux"),
    (&["/usr/bin/setpriv"], "util-linux"),
    (&["/usr/bin/stdbuf"], "coreutils"),
    (&["/usr/libexec/coreutils/libstdbuf.so"], "coreutils"),
    (&["/usr/sbin/tcpstates"], "libbpf-tools"),
];
/// Debian's directories stand in /usr; and `ip` keeps its namespaces below /var/run.
const LINKS: [(&str, &str); 5] = [
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("var/run", "/run"),
];
/// Test programs look for `tcp-workload` in the directory above their own.
const TEST_DIRECTORY: &str = "/guest/deps";

/// Everything but the kernel's modules.
pub(super) struct Guest {
    content: Initramfs,
    directory: PathBuf,
}

impl Guest {
    /// Builds what is ours and collects the rest.
    pub(super) fn build(workspace: &Workspace, tests: &[&str]) -> Result<Self> {
        let agent = agent::build(workspace)?;
        let built = build_tests(workspace, tests)?;
        let directory = workspace.target.join("kernels");
        fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
        let mut content = Initramfs::default();
        for (place, to) in LINKS {
            content.link(place, to);
        }
        for program in PROGRAMS.iter().flat_map(|(places, _)| *places) {
            add(&mut content, Path::new(program), None)?;
        }
        let mut ours = vec![
            (agent, "/guest/kube-tcpstates".to_owned()),
            (built.program("guest-init")?, "/init".to_owned()),
            (built.program("tcp-workload")?, "/guest/tcp-workload".to_owned()),
        ];
        for test in tests {
            ours.push((built.program(test)?, format!("{TEST_DIRECTORY}/{test}")));
        }
        for (program, place) in ours {
            add(&mut content, &stripped(&program, &directory)?, Some(&place))?;
        }
        Ok(Self { content, directory })
    }

    /// The machine of one kernel, which runs these tests; `filter` is passed to the test programs.
    pub(super) fn with_kernel(
        &self,
        kernel: &Kernel,
        stored: &Stored,
        tests: &[&str],
        filter: Option<&str>,
    ) -> Result<Machine> {
        let mut content = self.content.clone();
        let filter = filter.unwrap_or_default();
        let command = |test| format!("{TEST_DIRECTORY}/{test} --test-threads=1 --nocapture {filter}\n");
        content.file("/guest/tests", tests.iter().map(command).collect::<String>());
        let mut lines = String::new();
        for module in stored.modules() {
            let name = module.file_name().and_then(|name| name.to_str()).context("a module has a name")?;
            let place = format!("/guest/{name}");
            content.file(&place, read(&module)?);
            lines.extend([&place, "\n"]);
        }
        content.file("/guest/modules", lines);
        let initramfs = self.directory.join(format!("{}.cpio", kernel.name));
        let file = fs::File::create(&initramfs).with_context(|| format!("create {}", initramfs.display()))?;
        content
            .write(std::io::BufWriter::new(file))
            .with_context(|| format!("write {}", initramfs.display()))?;
        Ok(Machine {
            name: kernel.name,
            processor: kernel.processor,
            kernel: stored.image(),
            initramfs,
            programs: tests.len(),
        })
    }
}

/// Programs that cargo built, by name.
struct Built(BTreeMap<String, PathBuf>);

impl Built {
    fn program(&self, name: &str) -> Result<PathBuf> {
        self.0.get(name).cloned().with_context(|| format!("cargo built no program {name}"))
    }
}

fn build_tests(workspace: &Workspace, tests: &[&str]) -> Result<Built> {
    step::say("building the tests for the guests");
    let mut cargo = workspace.cargo("test");
    // The package's other programs come with its tests. Asked for by `--bins`, they would be test programs themselves.
    cargo.args(["--quiet", "--no-run", "--message-format=json", "--package", KERNEL_TESTS_PACKAGE]);
    for test in tests {
        cargo.args(["--test", test]);
    }
    let output = step::output(&mut cargo)?;
    Ok(Built(output.lines().filter_map(executable).collect()))
}

/// Name and path, of a message of cargo's that tells of a program.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let name = message["target"]["name"].as_str()?;
    Some((name.to_owned(), message["executable"].as_str()?.into()))
}

/// A program with the libraries it is linked to, at its own place or another.
fn add(content: &mut Initramfs, program: &Path, place: Option<&str>) -> Result<()> {
    let place = match place {
        Some(place) => place.to_owned(),
        None => real_place(program)?,
    };
    content.file(&place, read(program)?);
    // What is linked statically has none, and `ldd` says so by failing.
    let libraries = step::output(Command::new("ldd").arg(program)).unwrap_or_default();
    for library in libraries.lines().filter_map(library) {
        let place = real_place(library)?;
        if !content.has(&place) {
            content.file(&place, read(library)?);
        }
    }
    Ok(())
}

/// The program without what only a debugger needs: an emulated machine takes seconds to unpack that.
fn stripped(program: &Path, directory: &Path) -> Result<PathBuf> {
    let to = directory.join(program.file_name().context("a program has a name")?);
    step::run(Command::new("strip").arg("-o").arg(&to).arg(program))?;
    Ok(to)
}

/// The file of a line such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f0c32934000)`.
fn library(line: &str) -> Option<&Path> {
    let path = line.split_whitespace().find(|word| word.starts_with('/'))?;
    Some(Path::new(path))
}

/// The same file by a path whose directories are no links; the name of a library may be one, and must stay.
fn real_place(file: &Path) -> Result<String> {
    let directory = file.parent().with_context(|| format!("{} has no directory", file.display()))?;
    let directory = directory.canonicalize().with_context(|| format!("look up {}", directory.display()))?;
    let place = directory.join(file.file_name().context("a file has a name")?);
    place.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", place.display()))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_what_ldd_prints() {
        let lines = [
            ("\tlinux-vdso.so.1 (0x00007f0c32b49000)", None),
            (
                "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f0c32934000)",
                Some("/lib/x86_64-linux-gnu/libc.so.6"),
            ),
            ("\t/lib64/ld-linux-x86-64.so.2 (0x00007f0c32b4b000)", Some("/lib64/ld-linux-x86-64.so.2")),
        ];
        for (line, expected) in lines {
            assert_eq!(library(line), expected.map(Path::new), "{line}");
        }
    }

    #[test]
    fn a_program_is_known_by_cargos_message() {
        let message = r#"{"reason":"compiler-artifact","target":{"name":"portable"},"executable":"/t/deps/portable-1"}"#;
        assert_eq!(executable(message), Some(("portable".to_owned(), PathBuf::from("/t/deps/portable-1"))));
        let library = r#"{"reason":"compiler-artifact","target":{"name":"libc"},"executable":null}"#;
        assert_eq!(executable(library), None);
    }
}
