//! Takes the cluster down when the test program that started this ends: its end of the pipe on stdin closes.

fn main() -> anyhow::Result<()> {
    kube_tcpstates_e2e_tests::cluster::guard::stand()
}
