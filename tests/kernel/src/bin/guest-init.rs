//! The first process of an emulated machine: runs test programs of this crate on its kernel, then powers it off.
//!
//! `./x test kernels` puts it, and what it runs, into an initramfs. What the tests say goes to the console; their
//! closing lines are what the other side counts.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use kube_tcpstates_kernel_tests::kernel_log::KernelLog;
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};

/// What is mounted: where, and of which type.
const MOUNTS: [(&str, &str); 8] = [
    ("/proc", "proc"),
    ("/sys", "sysfs"),
    ("/dev", "devtmpfs"),
    ("/dev/pts", "devpts"),
    ("/tmp", "tmpfs"),
    ("/run", "tmpfs"),
    ("/sys/fs/cgroup", "cgroup2"),
    ("/sys/kernel/tracing", "tracefs"),
];
/// Kernel modules in the order in which they are wanted, one a line.
const MODULES: &str = "/guest/modules";
/// The program under test.
const TRACER: &str = "/guest/kube-tcpstates";
/// Where the programs are that the tests run.
const PATH: &str = "/usr/sbin:/usr/bin";
/// Test programs with their arguments, one a line.
const TESTS: &str = "/guest/tests";

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("guest-init is the first process of an emulated machine, and powers it off at its end");
        return ExitCode::FAILURE;
    }
    if let Err(error) = set_up().and_then(|()| run_tests()) {
        println!("guest: {error}");
    }
    println!("guest: done");
    // Without this the kernel would panic for the end of its first process.
    let refused = reboot(RebootCommand::PowerOff);
    println!("guest: cannot power off: {refused:?}");
    ExitCode::FAILURE
}

fn set_up() -> io::Result<()> {
    for (place, kind) in MOUNTS {
        fs::create_dir_all(place)?;
        mount(kind, place, kind, MountFlags::empty(), None)
            .map_err(|error| told(&format!("mount {place}"), error.into()))?;
    }
    for module in fs::read_to_string(MODULES)?.lines() {
        let file = File::open(module)?;
        finit_module(&file, c"", 0).map_err(|error| told(&format!("load {module}"), error.into()))?;
    }
    let up = Command::new("/usr/sbin/ip").args(["link", "set", "lo", "up"]).status()?;
    if up.success() { Ok(()) } else { Err(io::Error::other("the loopback interface does not come up")) }
}

fn run_tests() -> io::Result<()> {
    println!("guest: kernel {}", rustix::system::uname().release().to_string_lossy());
    let mut kernel_log = KernelLog::from_now();
    for line in fs::read_to_string(TESTS)?.lines() {
        let mut words = line.split_whitespace();
        let program = words.next().unwrap_or_default();
        let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
        println!("guest: {name}");
        let start = Instant::now();
        let mut test = Command::new(program);
        test.args(words)
            .env("PATH", PATH)
            .env("KUBE_TCPSTATES_BIN", TRACER)
            .env("KUBE_TCPSTATES_EMULATED", "yes");
        let status = test.status().map_err(|error| told(program, error))?;
        println!("guest: {name}: {status} after {:.1} s", start.elapsed().as_secs_f64());
        for complaint in kernel_log.complaints() {
            println!("guest: the kernel complains: {complaint}");
        }
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn told(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
