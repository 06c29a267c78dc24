//! What a tracer has pinned is taken over by the next, on every kernel.

use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::restarts::{
    ONE_WRITE, Restarts, again_and_again, assert_ids_and_durations_hold, assert_told_once,
};
use rustix::process::Signal;

#[test]
fn what_is_pinned_is_taken_over() {
    require(&[]);
    let mut restarts = Restarts::new(&[]);
    let options = restarts.options.clone();
    let mut runs = vec![restarts.first()];
    runs.extend(restarts.meanwhile(20, || {
        [Signal::KILL, Signal::TERM]
            .into_iter()
            .flat_map(|signal| again_and_again(&options, signal, 2))
            .collect::<Vec<_>>()
    }));
    runs.push(restarts.last());
    let doubt = assert_told_once(&runs, restarts.scene.transitions());
    assert!(doubt <= ONE_WRITE * 2, "{doubt} lines are told and counted as lost");
    assert_ids_and_durations_hold(&runs);
    assert_eq!(restarts.bpf.sets(), 0, "something is still pinned");
}
