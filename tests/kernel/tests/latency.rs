//! From the transition to the line: fast when something happens now and then, asleep when nothing does, and few
//! wake-ups when much happens.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use kube_tcpstates_kernel_tests::endings::connections;
use kube_tcpstates_kernel_tests::netns::Netns;
use kube_tcpstates_kernel_tests::place::Place;
use kube_tcpstates_kernel_tests::procfs::Process;
use kube_tcpstates_kernel_tests::puppet::Puppet;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::scene::Scene;
use kube_tcpstates_kernel_tests::statistics::Sorted;
use kube_tcpstates_kernel_tests::tracer::Setup;
use kube_tcpstates_kernel_tests::traffic::Churn;
use kube_tcpstates_kernel_tests::workload::Ending;

/// The product's promise is 10 ms; a machine that builds at the same time is given ten times that.
const ASSERTED: Duration = Duration::from_millis(100);

#[test]
fn a_line_comes_within_milliseconds_of_its_transition() {
    require(&[]);
    let mut scene = Scene::new(Ending::ClientFirst);
    let tracer = Setup::json(scene.only_this()).start_ready();
    // 10 connections a second, 10 transitions each.
    let churn = Churn::new(&[scene.address()], 50).pause(Duration::from_millis(100));
    let wakeups = tracer.counts_now().get("wakeups");
    scene.run(&churn);
    let wakeups = tracer.counts_now().get("wakeups") - wakeups;
    tracer.settle(Duration::from_millis(500));
    let finished = tracer.stop();
    finished.assert_clean();
    let mut delays = Vec::new();
    for line in &finished.lines {
        let event = line.json();
        if event.kind() == "transition" {
            delays.push(line.arrived.duration_since(parse_time(event.must("time"))).unwrap_or_default());
        }
    }
    assert_eq!(delays.len(), 500, "lines of 50 connections");
    let delays = Sorted::new(delays);
    println!("transition to line at 100 events/s: {}; {wakeups} wake-ups", delays.summary());
    assert!(delays.percentile(99) < ASSERTED, "{}", delays.summary());
}

/// By the clock that the program itself would read, around its calls.
#[test]
fn a_connection_begins_and_ends_when_its_program_says() {
    require(&[]);
    let netns = Netns::new();
    let start = || Puppet::start(&Place::default().netns(&netns));
    let (mut client, mut server) = (start(), start());
    let inode = netns.inode().to_string();
    let options = ["--mode", "connections", "--role", "client", "--netns", &inode];
    let tracer = Setup::json(options).start_ready();
    let to = server.listen("listener", (Ipv4Addr::LOCALHOST, 0).into());
    let mut calls = Vec::new();
    for _ in 0..400 {
        let connects = SystemTime::now();
        client.connect("socket", to).expect("it listens");
        let connected = SystemTime::now();
        server.accept("accepted", "listener");
        let closes = SystemTime::now();
        client.reset("socket");
        calls.push([connects..=connected, closes..=SystemTime::now()]);
        server.close("accepted");
    }
    tracer.settle(Duration::from_millis(500));
    let finished = tracer.stop();
    finished.assert_clean();
    let lines = connections(&finished);
    assert_eq!(lines.len(), calls.len());
    let outside = lines.iter().zip(&calls).flat_map(|(line, calls)| {
        let (start, end) = (parse_time(line.must("tcpstates.start")), parse_time(line.must("time")));
        let lasted = Duration::from_micros(line.number("tcpstates.duration_us").expect("it is known"));
        assert!(end.duration_since(start).unwrap_or_default().abs_diff(lasted) < Duration::from_micros(2));
        [start, end].into_iter().zip(calls).map(|(time, call)| {
            let early = call.start().duration_since(time).unwrap_or_default();
            early.max(time.duration_since(*call.end()).unwrap_or_default())
        })
    });
    let outside = Sorted::new(outside.collect());
    println!("told before or after the program's call: {}", outside.summary());
    assert!(outside.percentile(99) < Duration::from_millis(1), "{}", outside.summary());
}

#[test]
fn nothing_wakes_an_idle_tracer() {
    require(&[]);
    let mut scene = Scene::new(Ending::ClientFirst);
    let options = ["--heartbeat", "0"].map(str::to_owned);
    let tracer = Setup::json(options.into_iter().chain(scene.only_this())).start_ready();
    let churn = scene.churn(100);
    scene.run(&churn);
    tracer.settle(Duration::from_secs(1));
    let wakeups = tracer.counts_now().get("wakeups");
    // What other programs of this machine do with cgroups wakes it as well, so one quiet window of several will do:
    // anything periodic would show in each.
    let quiet = (0..5).any(|_| {
        std::thread::sleep(Duration::from_millis(500));
        let sleeps = Process(tracer.pid()).sleeps();
        std::thread::sleep(Duration::from_millis(2_500));
        let slept = Process(tracer.pid()).sleeps() - sleeps;
        println!("2.5 idle seconds: {slept} voluntary context switches");
        slept == 0
    });
    assert!(quiet, "something wakes it without need");
    assert_eq!(tracer.counts_now().get("wakeups"), wakeups, "the reader of the ring was woken for nothing");
    tracer.stop().assert_clean();
}

#[test]
fn many_events_share_a_wake_up() {
    require(&[]);
    let mut scene = Scene::new(Ending::ClientFirst);
    let tracer = Setup::json(scene.only_this()).to_nowhere().start_ready();
    let before = tracer.counts_now();
    let churn = scene.churn(60_000).threads(4).seconds(20);
    let report = scene.run(&churn);
    let after = tracer.counts_now();
    let events = after.get("emitted") - before.get("emitted");
    let wakeups = (after.get("wakeups") - before.get("wakeups")).max(1);
    let rate = events * 1_000_000 / report.micros.max(1);
    println!("{events} events at {rate} a second: {wakeups} wake-ups, one for {} events", events / wakeups);
    // The promise is 100 above 50,000 events/s; a tenth of that is asserted at any rate that is not a trickle.
    if rate >= 5_000 {
        assert!(events / wakeups >= 10, "a wake-up for every {} events", events / wakeups);
    }
    tracer.stop().assert_clean();
}

/// `2026-11-22T15:25:01.123456789Z`.
fn parse_time(text: &str) -> SystemTime {
    let number = |range: std::ops::Range<usize>| -> u64 {
        let digits = text.get(range.clone()).and_then(|digits| digits.parse().ok());
        digits.unwrap_or_else(|| panic!("no number at {range:?} of the time {text}"))
    };
    assert!(text.len() == 30 && text.ends_with('Z'), "not a UTC time with nanoseconds: {text}");
    let days = days_since_epoch(number(0..4), number(5..7), number(8..10));
    let seconds = ((days * 24 + number(11..13)) * 60 + number(14..16)) * 60 + number(17..19);
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_nanos(number(20..29))
}

/// Days of the Gregorian calendar since 1970; a year begins in March, so that the leap day ends it.
fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before_year = 365 * year + year / 4 - year / 100 + year / 400;
    before_year + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[test]
fn a_time_is_read_as_the_calendar_has_it() {
    let known = [("1970-01-01T00:00:00.000000001Z", 0), ("2026-11-22T15:25:01.000000001Z", 1_795_361_101)];
    for (text, seconds) in known {
        let expected = SystemTime::UNIX_EPOCH + Duration::new(seconds, 1);
        assert_eq!(parse_time(text), expected, "{text}");
    }
}
