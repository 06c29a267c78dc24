//! `lines`: shows the lines of a trace that exists.

use jiff::Timestamp;
use kube_tcpstates_crds::GROUP;
use serde_json::Value;

use crate::args::LinesArguments;
use crate::edge::api::Cluster;
use crate::edge::screen::{Reader, Screen};
use crate::edge::signals::Signals;
use crate::edge::source::{Source, Wanted};
use crate::heard::{Ear, End, Said};
use crate::name::TraceName;
use crate::spec::time;
use crate::trouble::{Failure, Trouble};

/// Runs it to its end.
pub(super) async fn run(cluster: &Cluster, arguments: &LinesArguments) -> Result<(), Trouble> {
    let since = arguments.since.as_deref().map(|text| time("--since", text)).transpose()?;
    let (name, made) = existing(cluster, &arguments.trace).await?;
    let source = Source::find(cluster, &name).await?;
    let mut screen = Screen::new(arguments.output.output);
    screen.say(source.sentence());
    let mut signals = Signals::new()?;
    let mut ear = Ear::new(name.clone(), source.from());
    let wanted = Wanted { trace: name.clone(), follow: arguments.follow, since, exists_since: Some(made) };
    let mut stream = source.open(cluster, wanted);
    loop {
        let line = tokio::select! {
            () = signals.next() => return Ok(()),
            line = stream.line(&screen) => line,
        };
        let Some((node, text)) = line else { break };
        for said in ear.hear(&node, &text) {
            match said {
                Said::Event(line) => {
                    if screen.line(&text, &line)? == Reader::Gone {
                        return Ok(());
                    }
                }
                Said::Missing(text) => screen.warn(&text),
                Said::End(End::Complete) => {}
                Said::End(End::Deleted) => {
                    screen.say(&format!("the trace {name} is deleted"));
                    return Ok(());
                }
                Said::End(End::Broken(text)) => return Err(Trouble::new(text)),
            }
        }
    }
    if screen.shown == 0 {
        screen.say(&format!("no lines; kubectl tcpstates explain {} says why", arguments.trace));
    }
    Ok(())
}

/// The trace of this name, if there is one, and since when.
pub(super) async fn existing(cluster: &Cluster, text: &str) -> Result<(TraceName, Timestamp), Trouble> {
    let name = text.parse::<TraceName>()?.within(&cluster.namespace);
    match cluster.get::<Value>(&name.path()).await {
        Ok(trace) => {
            let made = trace["metadata"]["creationTimestamp"].as_str().and_then(|time| time.parse().ok());
            Ok((name, made.unwrap_or(Timestamp::MIN)))
        }
        // Who may read the lines may not be who may read the trace.
        Err(Failure::Forbidden(_)) => Ok((name, Timestamp::MIN)),
        Err(failure) => Err(missing(failure, &name)),
    }
}

/// Why a trace cannot be looked at.
pub(super) fn missing(failure: Failure, name: &TraceName) -> Trouble {
    let what = format!("look at the trace {name}");
    match &name.namespace {
        Some(namespace) => failure.trouble(&what, &format!("get tcpstatetraces.{GROUP} -n {namespace}")),
        None => failure.trouble(&what, &format!("get clustertcpstatetraces.{GROUP}")),
    }
}
