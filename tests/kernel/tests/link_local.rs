//! A link-local address says nothing without its interface, and so has it on every line.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use kube_tcpstates_kernel_tests::line::{Event, Line};
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::tracer::{Finished, Setup};
use kube_tcpstates_kernel_tests::tuple::Tuple;

const HERE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77);
/// As the namespace numbers it.
const INTERFACE: u32 = 77;

#[test]
fn link_local_addresses_carry_their_interface() {
    require(&[]);
    for hook in ["tp_btf", "raw_tp"] {
        let finished = converse(|namespace| Setup::json(["--hook", hook, "--netns", &namespace]));
        let lines = finished.transitions();
        let scoped = |line: &&Event| line.number("tcpstates.interface.index") == Some(INTERFACE.into());
        let unscoped: Vec<_> = lines.iter().filter(|line| !scoped(line)).map(Event::tuple).collect();
        // The listener takes any address. Its child may get its own interface right after its first transition.
        let is_early = |tuple: &Tuple| tuple.old == "LISTEN" || tuple.new == "LISTEN";
        assert!(unscoped.iter().all(is_early), "{hook}: {unscoped:#?}");
        assert!(lines.len() - unscoped.len() >= 5 + 4, "{hook}: {lines:#?}");
        println!("{hook}: without {unscoped:?}");
    }
}

#[test]
fn columns_show_it_as_a_zone() {
    require(&[]);
    for format in ["table", "csv"] {
        let finished = converse(|namespace| Setup::trace(["-o", format, "--netns", &namespace]));
        let zoned = finished.lines.iter().map(Line::text).filter(|line| line.contains("fe80::77%77")).count();
        assert!(zoned >= 9, "{format}: {:#?}", finished.lines);
    }
}

/// A conversation over a link-local address; the listener begins after the tracer.
fn converse(setup: impl Fn(String) -> Setup) -> Finished {
    let namespace = Netns::new();
    namespace.ip(&format!(
        "link add name here index {INTERFACE} type veth peer name end\nlink set here up\nlink set end up\naddr add {HERE}/64 dev here nodad"
    ));
    let mut puppet = Puppet::start(&Place::default().netns(&namespace));
    let tracer = setup(namespace.inode().to_string()).start_ready();
    let listener = puppet.listen("listener", (Ipv6Addr::UNSPECIFIED, 0).into());
    let to = SocketAddr::from(SocketAddrV6::new(HERE, listener.port(), 0, INTERFACE));
    puppet.connect("client", to).expect("it listens");
    puppet.accept("server", "listener");
    puppet.close("client");
    puppet.close("server");
    tracer.settle(Duration::from_millis(300));
    let finished = tracer.stop();
    finished.assert_clean();
    finished
}
