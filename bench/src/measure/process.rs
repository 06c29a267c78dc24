//! The process itself: how long until it traces, how much memory it takes, how big it is.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube_tcpstates_kernel_tests::cgroup::CgroupTree;

use super::stage::Stage;
use crate::kernel::number;
use crate::report::{Promise, Report};
use crate::subject::Subject;

const GROUP: &str = "the process";
const STARTS: usize = 20;
const CONTAINERS: usize = 1_000;
/// The memory allocator gives back late what the start took.
const SETTLE: Duration = Duration::from_secs(2);
/// `BPF_MAP_TYPE_RINGBUF` (`include/uapi/linux/bpf.h`).
const RING: u64 = 27;
const MEBIBYTE: f64 = 1024.0 * 1024.0;

pub(super) fn measure(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(start(&stage.built.agent)?.as_secs_f64() * 1e3);
    }
    report.add(GROUP, "start to first line", "ms", starts);
    let idle = memory(stage)?;
    let tree = CgroupTree::new();
    let _containers: Vec<_> = (0..CONTAINERS).map(|_| tree.container()).collect();
    let full = memory(stage)?;
    drop(tree);
    report.add(GROUP, "private memory, idle", "MiB", vec![idle.private]);
    report.add(GROUP, "map memory without the ring, idle", "MiB", vec![idle.maps]);
    report.add(GROUP, "ring", "MiB", vec![idle.ring]);
    report.add(
        GROUP,
        "private and map memory that 1,000 containers add",
        "MiB",
        vec![full.sum() - idle.sum()],
    );
    let size = stripped_size(&stage.built.agent)?;
    report.add(GROUP, "binary, stripped", "MiB", vec![size]);
    let start = report.median(GROUP, "start to first line").unwrap_or(f64::NAN);
    report.promises.extend([
        Promise::at_most("private and map memory without the ring, idle, MiB", idle.sum(), 24.0, Some(12.0)),
        Promise::at_most("what 1,000 containers add, MiB", full.sum() - idle.sum(), 2.0, None),
        Promise::at_most("start of the process to attached, ms", start, 150.0, Some(60.0)),
        Promise::at_most("binary, stripped, MB", size * MEBIBYTE / 1e6, 15.0, None),
    ]);
    Ok(())
}

/// Until the first line, which it writes when everything is attached.
fn start(agent: &Path) -> Result<Duration> {
    let begun = Instant::now();
    let mut child = Command::new(agent)
        .args(["trace", "-o", "json", "--count", "1", "--netns", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("start {}", agent.display()))?;
    let stdout = child.stdout.take().context("its stdout")?;
    let mut line = String::new();
    let read = BufReader::new(stdout).read_line(&mut line).context("read its first line");
    let lasted = begun.elapsed();
    drop(child.kill());
    drop(child.wait());
    read?;
    ensure!(line.contains("start"), "its first line is {line:?}");
    Ok(lasted)
}

/// MiB.
struct Memory {
    private: f64,
    maps: f64,
    ring: f64,
}

impl Memory {
    fn sum(&self) -> f64 {
        self.private + self.maps
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn memory(stage: &Stage<'_>) -> Result<Memory> {
    let running = stage.start(&Subject::agent())?;
    std::thread::sleep(SETTLE);
    let process = format!("/proc/{}", running.pid());
    let rollup = fs::read_to_string(format!("{process}/smaps_rollup")).context("read smaps_rollup")?;
    let private = (number(&rollup, "Private_Clean") + number(&rollup, "Private_Dirty")) * 1024;
    let (mut maps, mut ring) = (0, 0);
    let mut seen = Vec::new();
    for entry in fs::read_dir(format!("{process}/fdinfo")).context("read fdinfo")?.flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let id = number(&text, "map_id");
        if id == 0 || seen.contains(&id) {
            continue;
        }
        seen.push(id);
        let bytes = number(&text, "memlock");
        if number(&text, "map_type") == RING { ring += bytes } else { maps += bytes }
    }
    running.stop()?;
    let mebibytes = |bytes: u64| bytes as f64 / MEBIBYTE;
    Ok(Memory { private: mebibytes(private), maps: mebibytes(maps), ring: mebibytes(ring) })
}

/// MiB.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn stripped_size(program: &Path) -> Result<f64> {
    let place = program.with_extension("stripped");
    let status = Command::new("strip").arg("-o").arg(&place).arg(program).status().context("run strip")?;
    ensure!(status.success(), "strip failed: {status}");
    let size = fs::metadata(&place).with_context(|| format!("look at {}", place.display()))?.len();
    drop(fs::remove_file(&place));
    Ok(size as f64 / MEBIBYTE)
}
