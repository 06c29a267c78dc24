//! A container that ends, and whose cgroup is removed, while no tracer is there: the next tracer names it all the same,
//! whether it takes over what is pinned or begins anew beside it.

use std::net::Ipv4Addr;
use std::time::Duration;

use kube_tcpstates_kernel_tests::cgroup::{CgroupTree, Container};
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::pinned::BpfFs;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::tracer::Setup;
use rustix::process::Signal;

/// What a puppet's connection did by its end.
const DONE: [&str; 5] = [
    "CLOSE -> SYN_SENT",
    "SYN_SENT -> ESTABLISHED",
    "ESTABLISHED -> FIN_WAIT1",
    "FIN_WAIT1 -> FIN_WAIT2",
    "FIN_WAIT2 -> CLOSE",
];

#[test]
fn whoever_ended_while_the_tracer_was_killed_is_named() {
    ended_between(Signal::KILL, &[]);
}

#[test]
fn whoever_ended_while_the_tracer_was_away_is_named() {
    ended_between(Signal::TERM, &[]);
}

#[test]
fn whoever_ended_before_a_tracer_with_other_options_came_is_named() {
    ended_between(Signal::TERM, &["--heartbeat", "61s"]);
}

/// One container was there before the first tracer, another came later; both end while nobody reads.
fn ended_between(signal: Signal, other: &[&str]) {
    require(&[]);
    let (tree, namespace, bpf) = (CgroupTree::new(), Netns::new(), BpfFs::mount());
    let inside = |container: &Container| Puppet::start(&Place::container(container).netns(&namespace));
    let mut server = inside(&tree.container());
    let at = server.listen("listener", (Ipv4Addr::new(127, 77, 8, 1), 0).into());
    let early = tree.container();
    let mut first = inside(&early);

    let (place, netns) = (bpf.place().display().to_string(), namespace.inode().to_string());
    let options = ["--pin", &place, "--netns", &netns];
    let tracer = Setup::json(options).start_ready();
    let late = tree.container();
    let mut second = inside(&late);
    for client in [&mut first, &mut second] {
        client.connect("client", at).expect("it listens");
    }
    tracer.settle(Duration::from_millis(300));
    tracer.signal(signal);
    let before = tracer.wait_end(Duration::from_mins(1));

    for mut client in [first, second] {
        server.accept("server", "listener");
        client.close("client");
        server.receive_to_end("server").expect("a FIN came");
        server.close("server");
        client.exit();
    }
    let ended = [early, late];
    for container in &ended {
        container.remove();
    }

    let next = Setup::json(options.into_iter().chain(other.iter().copied())).start_ready();
    next.settle(Duration::from_millis(500));
    let after = next.stop();
    let counts = after.assert_clean();
    assert_eq!(counts.lost() - counts.get("recursion"), 0, "{counts:?}");
    for container in &ended {
        let lines = before.transitions().into_iter().chain(after.transitions());
        let named: Vec<String> = lines
            .filter(|event| event.text("container.id") == Some(&container.id))
            .map(|event| {
                assert_eq!(event.text("k8s.pod.uid"), Some(container.pod_uid.as_str()), "{}", event.0);
                assert_eq!(event.text("tcpstates.attribution.source"), Some("socket_cgroup"), "{}", event.0);
                let [old, new] = ["tcpstates.old_state", "tcpstates.new_state"].map(|path| event.must(path));
                format!("{old} -> {new}")
            })
            .collect();
        assert_eq!(named, DONE, "{counts:?}");
    }
    assert_eq!(bpf.sets(), 0, "something is still pinned");
}
