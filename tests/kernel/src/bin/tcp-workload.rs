//! Makes TCP traffic for the kernel tests, in the cgroup and network namespace it is told, and says on stdout
//! what it did.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use kube_tcpstates_kernel_tests::workload::{churn, enter, puppet, serve};

/// Traffic for the kernel tests.
#[derive(Debug, Parser)]
enum Arguments {
    /// Enter a cgroup and a network namespace, then become another program.
    In {
        /// Folder of the cgroup.
        #[arg(long)]
        cgroup: Option<PathBuf>,
        /// Name of the namespace, as `ip netns` knows it.
        #[arg(long)]
        netns: Option<String>,
        /// Program and its arguments.
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
    /// Make one socket call per line of stdin.
    Puppet,
    /// Answer connections until stdin ends.
    Serve(serve::Options),
    /// Make connections.
    Churn(churn::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse() {
        Arguments::In { cgroup, netns, program } => enter::enter(cgroup.as_deref(), netns.as_deref())
            .and_then(|()| Err(enter::become_program(&program))),
        Arguments::Puppet => puppet::run(),
        Arguments::Serve(options) => serve::run(options),
        Arguments::Churn(options) => {
            churn::run(&options);
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tcp-workload: {error}");
            ExitCode::FAILURE
        }
    }
}
