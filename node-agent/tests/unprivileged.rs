//! What is said to somebody who may not trace.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};

/// The program, without capabilities: it is refused before anything is attached. Root gives its own away and runs it
/// as the user nobody, by a descriptor, because a build below /root cannot be reached by its path then.
fn run(arguments: &[&str], stdout: impl Into<Stdio>) -> Output {
    let path = env!("CARGO_BIN_EXE_kube-tcpstates");
    let opened = File::open(path).unwrap();
    let mut command = if fs::metadata("/proc/self").unwrap().uid() == 0 {
        let mut command = Command::new(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        command.arg0(path).uid(65534).gid(65534);
        command
    } else {
        Command::new(path)
    };
    command.args(arguments).stdout(stdout).stderr(Stdio::piped());
    command.spawn().expect("running it without capabilities").wait_with_output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_is_missing_is_said_first_and_where_to_look_further_last() {
    for command in [&["trace", "--duration", "1s"][..], &["list"], &["top", "--once"]] {
        let refused = run(command, Stdio::piped());
        let said = stderr(&refused);
        let begins = "kube-tcpstates: needs root, or the capabilities that are missing (CAP_BPF, to ";
        assert!(said.lines().any(|line| line.starts_with(begins)), "{command:?}: {said}");
        assert!(said.contains("CAP_PERFMON, to "), "{command:?}: {said}");
        assert!(said.trim_end().ends_with("`kube-tcpstates check` says more"), "{command:?}: {said}");
        assert_eq!(refused.status.code(), Some(1), "{command:?}");
    }
}

#[test]
fn check_says_that_nobody_can_read_what_it_found() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = run(&["check"], full);
    let said = stderr(&output);
    assert!(said.contains("kube-tcpstates: writing to stdout: No space left on device"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn check_whose_reader_is_gone_has_nothing_to_complain_of() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = run(&["check"], writer);
    assert!(!stderr(&output).contains("stdout"), "{}", stderr(&output));
}
