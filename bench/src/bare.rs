//! `bench bare`: one of the programs in bench/ebpf on the hook, until it is interrupted.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::RingBuf;
use aya::programs::BtfTracePoint;
use aya::{Btf, Ebpf};

/// Between two looks into the ring, as the agent's reader rests.
const REST: Duration = Duration::from_millis(3);

/// Attaches `program` of the object and empties its ring for ever.
pub fn run(object: &Path, program: &str) -> Result<()> {
    let mut ebpf = Ebpf::load_file(object).with_context(|| format!("load {}", object.display()))?;
    let btf = Btf::from_sys_fs().context("read the kernel's types")?;
    let ring = ebpf.take_map("RESERVED").context("the object has no map RESERVED")?;
    let mut ring: RingBuf<_> = ring.try_into().context("RESERVED is no ring buffer")?;
    let program: &mut BtfTracePoint = ebpf
        .program_mut(program)
        .with_context(|| format!("the object has no program {program}"))?
        .try_into()
        .context("it is for another hook")?;
    program.load("inet_sock_set_state", &btf).context("load it")?;
    program.attach().context("attach it")?;
    drop(btf);
    loop {
        while ring.next().is_some() {}
        thread::sleep(REST);
    }
}
