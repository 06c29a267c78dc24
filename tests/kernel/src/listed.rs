//! What `kube-tcpstates list` says.

use std::time::Duration;

use crate::line::Event;
use crate::netns::Netns;
use crate::tracer::Setup;

const LIMIT: Duration = Duration::from_mins(2);

/// Everything that it says with these options, of these namespaces.
#[track_caller]
pub fn listed<'a>(options: &[&str], namespaces: impl IntoIterator<Item = &'a Netns>) -> Vec<Event> {
    let mut arguments: Vec<String> = ["list", "-o", "json"].map(str::to_owned).into();
    arguments.extend(options.iter().map(|option| (*option).to_owned()));
    for netns in namespaces {
        arguments.extend(["--netns".to_owned(), netns.inode().to_string()]);
    }
    let finished = Setup::run(arguments).start().wait_end(LIMIT);
    assert!(finished.status.success(), "{}", finished.stderr);
    let lines = finished.events();
    for (seq, line) in (1..).zip(&lines) {
        assert_eq!(line.number("tcpstates.seq"), Some(seq), "{line:?}");
    }
    lines
}
