//! What a tracer that is killed leaves in the ring for the next, or for one of another build.

use std::time::Duration;

use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::restarts::{ONE_WRITE, Restarts, assert_told_once};
use rustix::process::Signal;

/// More than a tracer lets wait for stdout where a record in the ring would outlive it: 256 KiB of lines, and as many more
/// as it takes records at a time.
const WAITING: u64 = 1_000;

/// Their lines take less room than the tracer's queue has, their records less than half of the ring.
#[test]
fn what_would_wait_for_a_slow_reader_is_told_after_a_kill() {
    require(&[]);
    let mut restarts = Restarts::new(&["--ring-size", "8MiB"]);
    let mut runs = vec![restarts.first()];
    let tracer = restarts.start();
    tracer.pause_reading();
    let churn = restarts.scene.churn(500);
    restarts.scene.run(&churn);
    tracer.settle(Duration::from_millis(300));
    tracer.signal(Signal::KILL);
    tracer.resume_reading();
    runs.push(tracer.wait_end(Duration::from_mins(1)));
    runs.push(restarts.last());
    let happened = restarts.scene.transitions();
    assert!(happened > 4 * WAITING, "{happened} transitions");
    let doubt = assert_told_once(&runs, happened);
    assert!(doubt <= ONE_WRITE, "{doubt} lines are told and counted as lost");
    let lost = runs[2].counts().lost();
    assert!(lost < WAITING, "{lost} are lost");
}
