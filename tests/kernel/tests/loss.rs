//! A reader that is stopped loses lines; how many can be computed exactly, from stderr and from stdout alone.

use std::time::Duration;

use kube_tcpstates_kernel_tests::counts::Counts;
use kube_tcpstates_kernel_tests::line::Event;
use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::scene::Scene;
use kube_tcpstates_kernel_tests::tracer::Setup;
use kube_tcpstates_kernel_tests::workload::Ending;
use rustix::process::Signal;

#[test]
fn what_a_stopped_reader_lost_is_counted_exactly() {
    require(&[]);
    let mut scene = Scene::new(Ending::ClientFirst);
    let mut options = vec!["--ring-size".to_owned(), "64KiB".to_owned()];
    options.extend(scene.only_this());
    let tracer = Setup::json(options).start_ready();
    let churn = scene.churn(500);
    scene.run(&churn);
    tracer.signal(Signal::STOP);
    let churn = scene.churn(10_000);
    scene.run(&churn);
    tracer.signal(Signal::CONT);
    tracer.settle(Duration::from_secs(1));
    // Traced again after the loss.
    let churn = scene.churn(500);
    scene.run(&churn);
    tracer.settle(Duration::from_secs(1));
    let finished = tracer.stop();

    let counts = finished.assert_clean();
    println!("{counts:?}");
    assert!(counts.get("ring_full") > 0, "a ring of 64 KiB held everything: nothing was tested");
    let events = finished.events();
    assert_accounts_for(&events, scene.transitions(), counts.get("recursion"));
    assert_last_line_tells_the_same(&events, &counts);
    let lines = events.iter().filter(|event| event.kind() == "transition").count();
    assert_eq!(Ok(counts.get("written")), u64::try_from(lines), "lines on stdout");
    assert_sequence_has_no_gap(&events);
}

#[test]
fn nothing_is_lost_when_nothing_stops_the_reader() {
    require(&[]);
    let mut scene = Scene::new(Ending::ClientFirst);
    let tracer = Setup::json(scene.only_this()).start_ready();
    let churn = scene.churn(2_000);
    scene.run(&churn);
    tracer.settle(Duration::from_secs(1));
    let finished = tracer.stop();
    let counts = finished.assert_clean();
    assert_eq!(counts.lost() - counts.get("recursion"), 0, "{counts:?}");
    assert_accounts_for(&finished.events(), scene.transitions(), counts.get("recursion"));
}

/// What happened = lines of transitions + what the last line of type `lost` says. Transitions that the kernel
/// skipped (`recursion`) may be other programs': nobody can tell whose they were.
fn assert_accounts_for(events: &[Event], happened: u64, recursion: u64) {
    let lines = events.iter().filter(|event| event.kind() == "transition").count();
    let lines = u64::try_from(lines).expect("it fits");
    let telling = events.iter().rfind(|event| event.kind() == "lost");
    let lost = telling.map_or(0, |event| event.number("tcpstates.lost.total").expect("a total"));
    println!(
        "{happened} transitions happened: {lines} lines, {lost} lost by stdout, {recursion} of them skipped"
    );
    let accounted = (lines + lost - recursion)..=(lines + lost);
    assert!(accounted.contains(&happened), "{happened} happened, {lines} lines and {lost} lost are told");
}

/// The totals of the final heartbeat are those of stderr.
fn assert_last_line_tells_the_same(events: &[Event], counts: &Counts) {
    let last = events.last().expect("there are lines");
    assert_eq!(last.get("tcpstates.final"), Some(&true.into()), "the last line is not final: {:?}", last.0);
    let kernel = ["seen", "other_protocol", "filtered", "pending", "ring_full", "emitted"];
    for name in kernel.into_iter().chain(["written", "filtered_user", "held"]) {
        assert_eq!(
            last.number(&format!("tcpstates.totals.{name}")),
            Some(counts.get(name)),
            "{name}: {:?}",
            last.0
        );
    }
    assert_eq!(last.number("tcpstates.totals.lost"), Some(counts.lost()), "{:?}", last.0);
    let telling = events.iter().rfind(|event| event.kind() == "lost").expect("a line that tells the loss");
    assert_eq!(telling.number("tcpstates.lost.total"), Some(counts.lost()), "{:?}", telling.0);
    assert_eq!(telling.get("tcpstates.exact"), Some(&(counts.get("exact") == 1).into()), "{:?}", telling.0);
}

/// `seq` counts the event lines of a run without a gap.
fn assert_sequence_has_no_gap(events: &[Event]) {
    let numbers = events.iter().filter_map(|event| event.number("tcpstates.seq"));
    let steps: Vec<u64> = numbers.collect();
    let broken = steps.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert_eq!(broken, None, "seq is not counted up by one");
}
