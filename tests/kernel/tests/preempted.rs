//! Where programs are preempted (since 7.0) the kernel skips the first of the two for every hit of its CPU until its task goes
//! on. The second takes those.
//!
//! Small enough for an emulated machine: `./x test kernels` runs it on each of its kernels, on one processor, where the tasks
//! of both ends and the tracer take turns.

use std::time::Duration;

use kube_tcpstates_kernel_tests::requirements::require;
use kube_tcpstates_kernel_tests::scene::Scene;
use kube_tcpstates_kernel_tests::tracer::Setup;
use kube_tcpstates_kernel_tests::workload::Ending;

/// Of a thousand hits as many may be lost, where both programs are preempted at once.
const LOST_PER_MILLE: u64 = 1;

#[test]
fn what_the_first_program_is_not_run_for_the_second_takes() {
    require(&[]);
    let mut scene = Scene::new(Ending::ClientFirst);
    let mut options = vec!["--hook".to_owned(), "tp_btf".to_owned()];
    options.extend(scene.only_this());
    let tracer = Setup::json(options).start_ready();
    let churn = scene.churn(500);
    scene.run(&churn);
    tracer.settle(Duration::from_millis(500));
    let finished = tracer.stop();
    let counts = finished.assert_clean();
    let [hit, rescued, skipped] = ["hit", "rescued", "recursion"].map(|name| counts.get(name));
    println!("of {hit} hits the second program took {rescued}, and {skipped} were lost");
    assert!(skipped * 1_000 <= hit * LOST_PER_MILLE, "{counts:?}");
    let lines = finished.transitions().len() as u64;
    assert_eq!(lines + skipped, scene.transitions(), "{counts:?}");
}
