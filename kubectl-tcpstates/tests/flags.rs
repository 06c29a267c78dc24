//! A flag that cannot be is told by its name, whether the API server is there or not.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::process::Command;

/// Runs the plugin against a server that nobody is. Returns what it says on stderr.
fn refusal(line: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-tcpstates"))
        .args(["--server", "http://127.0.0.1:1", "--token", "none"])
        .args(line.split(' '))
        .env_remove("KUBECONFIG")
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_bad_flag_is_told_before_the_server_is_asked() {
    for (line, told) in [
        ("list --limit 0", "error: --limit 0: "),
        ("list --state FOO", "error: --state FOO: "),
        ("list --state CLOSE_WAIT,FOO", "error: --state FOO: "),
        ("list --timeout 800h", "error: --timeout 800h: "),
        ("trace deploy/a --peer-port 70000", "error: --peer-port 70000: "),
        ("trace deploy/a --for 800h", "error: --for 800h: "),
        ("trace -l app=a --peer 10.0.0.1/8", "error: --peer 10.0.0.1/8: "),
        ("top --local-port 0", "error: --local-port 0: "),
    ] {
        let said = refusal(line);
        assert!(said.starts_with(told), "{line}: {said}");
    }
}

#[test]
fn flags_that_can_be_go_to_the_server() {
    for line in ["list --state CLOSE_WAIT,LAST_ACK", "trace deploy/a --for 5m", "top"] {
        let said = refusal(line);
        assert!(said.contains("the API server cannot be reached"), "{line}: {said}");
    }
}
