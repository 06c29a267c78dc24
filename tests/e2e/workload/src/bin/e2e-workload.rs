//! Makes connections in the pods of the e2e tests, and logs each as a JSON line.

use anyhow::Result;
use clap::Parser;
use kube_tcpstates_e2e_workload::{client, leak, server, trouble};

#[derive(Parser)]
enum Role {
    /// Accepts connections until it is stopped.
    Server(server::Options),
    /// Makes connections.
    Client(client::Options),
    /// Keeps connections that their peers have closed.
    Leak(leak::Options),
    /// Makes connections that may fail.
    Visit(trouble::Visit),
    /// Holds connections open.
    Hold(trouble::Hold),
    /// Listens and accepts nothing.
    Deaf(trouble::Deaf),
}

fn main() -> Result<()> {
    match Role::parse() {
        Role::Server(options) => server::run(&options),
        Role::Client(options) => client::run(&options),
        Role::Leak(options) => leak::run(&options),
        Role::Visit(options) => trouble::visit(&options),
        Role::Hold(options) => trouble::hold(&options),
        Role::Deaf(options) => trouble::deaf(&options),
    }
}
