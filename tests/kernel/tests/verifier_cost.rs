//! How many instructions the kernel's verifier walks for each program: no more than the committed figure for that
//! kernel and a tenth of it. The limit is a million; a program that comes near it on one kernel fails on the next.

use std::collections::BTreeMap;
use std::fs;

use kube_tcpstates_kernel_tests::programs;
use kube_tcpstates_kernel_tests::requirements::{hooks, require};
use kube_tcpstates_kernel_tests::tracer::Setup;

/// `KERNEL PROGRAM INSTRUCTIONS`, one a line.
const FIGURES: &str = include_str!("../verified_instructions.txt");

#[test]
fn no_program_has_grown_beyond_its_committed_figure() {
    require(&[]);
    let kernel = kernel_series();
    let figures = figures(&kernel);
    if figures.is_empty() {
        println!("no committed figures for kernel {kernel}: what follows is for verified_instructions.txt");
    }
    let mut grown = Vec::new();
    for (program, verified) in measured() {
        println!("{kernel} {program} {verified}");
        match figures.get(program.as_str()) {
            Some(figure) if verified * 10 > figure * 11 => {
                grown.push(format!("{program}: {verified}, committed {figure}"));
            }
            None if !figures.is_empty() => grown.push(format!("{program}: {verified}, no committed figure")),
            _ => {}
        }
    }
    assert!(grown.is_empty(), "kernel {kernel}: {grown:?}; see tests/kernel/verified_instructions.txt");
}

/// By program, of every hook there is. Nothing before 5.16, which does not tell.
fn measured() -> BTreeMap<String, u32> {
    let mut measured = BTreeMap::new();
    for hook in hooks() {
        let tracer = Setup::json(["--hook", hook]).with_tracefs().start_ready();
        for program in programs::of_process(tracer.pid()).into_values() {
            measured.extend(program.verified.map(|verified| (program.name, verified)));
        }
    }
    measured
}

fn figures(kernel: &str) -> BTreeMap<&'static str, u32> {
    let lines = FIGURES.lines().filter(|line| !line.starts_with('#'));
    let of_this_kernel = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        if words.next()? != kernel {
            return None;
        }
        Some((words.next()?, words.next()?.parse().ok()?))
    });
    of_this_kernel.collect()
}

/// `6.12` of `6.12.107+deb13-cloud-amd64`.
fn kernel_series() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    release.trim().splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}
