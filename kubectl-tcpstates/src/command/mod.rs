//! The commands, each from its arguments to its end.

mod explain;
mod lines;
mod list;
mod made;
mod progress;
mod report;
mod status;
mod top;
mod trace;
mod whose;
mod words;

use kube_tcpstates_client::KubectlFlags;

use crate::args::{Arguments, Command};
use crate::edge::api::Cluster;
use crate::trouble::Trouble;

/// Does what is asked for.
pub(crate) fn run(arguments: Arguments) -> Result<(), Trouble> {
    let flags = KubectlFlags::from(arguments.kubectl);
    match arguments.command {
        Command::Completion { shell } => words::completion(shell),
        Command::Man { directory } => words::manual(&directory),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| Trouble::new(format!("cannot start: {error}")))?;
            runtime.block_on(async {
                let cluster = Cluster::of(&flags, arguments.agents_namespace).await?;
                ask(&cluster, command).await
            })
        }
    }
}

async fn ask(cluster: &Cluster, command: Command) -> Result<(), Trouble> {
    match command {
        Command::Trace(arguments) => trace::run(cluster, &arguments).await,
        Command::Lines(arguments) => lines::run(cluster, &arguments).await,
        Command::List(arguments) => list::run(cluster, &arguments).await,
        Command::Top(arguments) => top::run(cluster, &arguments).await,
        Command::Status(arguments) => status::run(cluster, &arguments).await,
        Command::Explain(arguments) => explain::run(cluster, &arguments).await,
        Command::Report(arguments) => report::run(cluster, &arguments).await,
        // These need no cluster.
        Command::Completion { .. } | Command::Man { .. } => Ok(()),
    }
}
