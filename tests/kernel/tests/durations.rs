//! The durations of a connection's lines add up to its age, also where the kernel sets a state a second time.

use std::net::Ipv4Addr;
use std::time::Duration;

use kube_tcpstates_kernel_tests::age::assert_durations_add_up;
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::tracer::Setup;

/// From the FIN to the `close`, which sets `FIN_WAIT2` again and then ends the socket.
const PAUSE: Duration = Duration::from_millis(300);

#[test]
fn a_state_that_is_set_again_goes_on_and_has_no_line() {
    require(&[]);
    for hook in ["tp_btf", "raw_tp"] {
        let namespace = Netns::new();
        let start = || Puppet::start(&Place::default().netns(&namespace));
        let (mut client, mut server) = (start(), start());
        let netns = namespace.inode().to_string();
        let options = ["--hook", hook, "--netns", &netns, "--role", "client"];
        let tracers = [Setup::json(options), Setup::trace(["-s"].into_iter().chain(options))];
        let [lines, table] = tracers.map(Setup::start_ready);
        let to = server.listen("listener", (Ipv4Addr::LOCALHOST, 0).into());
        client.connect("socket", to).expect("it listens");
        server.accept("accepted", "listener");
        client.shut_down("socket");
        std::thread::sleep(PAUSE);
        client.close("socket");
        server.close("accepted");
        let [lines, table] = [lines, table].map(|tracer| {
            tracer.settle(Duration::from_millis(300));
            let finished = tracer.stop();
            finished.assert_clean();
            finished
        });

        // What every scene is held to applies here at all.
        assert_eq!(assert_durations_add_up(&lines.lines), 4, "{hook}");
        let lines = lines.transitions();
        let states: Vec<String> = lines.iter().map(|line| line.tuple().new).collect();
        assert_eq!(states, ["SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"], "{hook}");
        let lasted =
            lines[4].number("tcpstates.state_duration_us").map(Duration::from_micros).expect("a duration");
        assert!(lasted > PAUSE / 2, "{hook}: FIN_WAIT2 lasted {lasted:?}");
        // BCC's tool shows every hit.
        let again = |text: &str| text.matches("FIN_WAIT2").count() == 2;
        assert_eq!(table.lines.iter().filter(|line| again(line.text())).count(), 1, "{hook}: {table:?}");
    }
}
