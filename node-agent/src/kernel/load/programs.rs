//! The programs of a hook, and having the kernel take them.

use aya::{Btf as AyaBtf, Ebpf, programs::Program};
use kube_tcpstates_events::{Hook, Storage};

use super::{NO_TYPES, hint};
use crate::kernel::{
    error::{BoxError, LoadError, told},
    records,
    together::load_together,
};

/// The tracepoint at a transition (since 4.16).
const TRANSITIONS: &str = "inet_sock_set_state";
/// The tracepoint at a socket's end (since 4.16).
const ENDS: &str = "tcp_destroy_sock";
/// The tracepoint at a reset of the peer (since 4.16).
const RESETS: &str = "tcp_receive_reset";

/// Programs that work together, by their names in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Programs {
    /// Runs at every transition.
    pub(super) first: &'static str,
    /// Takes the hits for which the kernel skips the first.
    pub(super) second: Option<&'static str>,
    /// Looks at ended sockets for what the first was not run for.
    pub(super) ends: Option<&'static str>,
    /// Notes resets for the first.
    pub(super) resets: Option<&'static str>,
    /// Where their records are.
    pub(super) storage: Storage,
}

impl Programs {
    const IN_STORAGE: Self = Self {
        first: "tp_btf_storage",
        second: Some("tp_btf_storage_2"),
        ends: Some("ended_storage"),
        resets: Some("reset_storage"),
        storage: Storage::SocketStorage,
    };
    const IN_HASH: Self = Self {
        first: "tp_btf_hash",
        second: Some("tp_btf_hash_2"),
        ends: Some("ended_hash"),
        resets: Some("reset_hash"),
        storage: Storage::Hash,
    };
    const RAW: Self = Self {
        first: "raw_tp",
        second: Some("raw_tp_2"),
        ends: Some("ended_raw"),
        resets: Some("reset_raw"),
        storage: Storage::Hash,
    };

    const fn alone(first: &'static str) -> Self {
        Self { first, second: None, ends: None, resets: None, storage: Storage::Hash }
    }
}

/// The tracepoint of a program.
pub(super) fn tracepoint(program: &str) -> &'static str {
    if program.starts_with("ended_") {
        ENDS
    } else if program.starts_with("reset_") {
        RESETS
    } else {
        TRANSITIONS
    }
}

/// What the kernel took of a hook's programs: the first, and of the others each that it did not refuse.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) programs: Programs,
    pub(super) second: Option<&'static str>,
    /// Whether a close that no program got shows at the socket's end, or why not.
    pub(super) ends: Result<(), String>,
    /// Whether the kernel tells of the peers' resets, or why not.
    pub(super) resets: Result<(), String>,
}

/// Loads the programs of a hook. `tp_btf` falls back to the hash where socket storage is refused (before 5.11).
pub(super) fn load_hook(ebpf: &mut Ebpf, hook: Hook, btf: Option<&AyaBtf>) -> Result<Taken, LoadError> {
    let programs = match hook {
        Hook::TpBtf => match load_in_storage(ebpf, btf) {
            Ok(taken) => return Ok(taken),
            Err(refused) => {
                // Before 5.11 this is the ordinary case.
                tracing::warn!("socket records go into a hash: {}", told(&refused));
                Programs::IN_HASH
            }
        },
        Hook::RawTp => Programs::RAW,
        Hook::Tracepoint => Programs::alone("classic"),
        Hook::Kprobe => Programs::alone("kprobe_tcp_set_state"),
    };
    load_programs(ebpf, programs, btf).map_err(|reason| LoadError::Program {
        program: programs.first,
        hint: hint(hook),
        reason,
    })
}

/// No records in socket storage without the program that forgets them: see [`super::Loaded::detach`].
fn load_in_storage(ebpf: &mut Ebpf, btf: Option<&AyaBtf>) -> Result<Taken, BoxError> {
    let taken = load_programs(ebpf, Programs::IN_STORAGE, btf)?;
    records::load_forget(ebpf, btf.ok_or(NO_TYPES)?)?;
    Ok(taken)
}

fn load_programs(ebpf: &mut Ebpf, programs: Programs, btf: Option<&AyaBtf>) -> Result<Taken, BoxError> {
    let Programs { first, second, ends, resets, .. } = programs;
    let names: Vec<&str> = [Some(first), second, ends, resets].into_iter().flatten().collect();
    let results = load_together(ebpf, &names, |name, program| load(program, tracepoint(name), btf));
    let mut results = names.into_iter().zip(results);
    let mut result_of = |name: Option<&str>| {
        let name = name.ok_or("the hook has no program for it")?;
        results
            .find(|(of, _)| *of == name)
            .map_or_else(|| Err("not in the object".into()), |(_, result)| result)
    };
    result_of(Some(first))?;
    Ok(Taken {
        programs,
        second: second.filter(|second| result_of(Some(*second)).inspect_err(warn_of_recursion).is_ok()),
        ends: result_of(ends).map_err(|error: BoxError| told(&error)),
        resets: result_of(resets).map_err(|error| told(&error)),
    })
}

fn load(program: &mut Program, tracepoint: &str, btf: Option<&AyaBtf>) -> Result<(), BoxError> {
    match program {
        Program::BtfTracePoint(program) => program.load(tracepoint, btf.ok_or(NO_TYPES)?)?,
        Program::RawTracePoint(program) => program.load()?,
        Program::TracePoint(program) => program.load()?,
        Program::KProbe(program) => program.load()?,
        _ => return Err("of a kind this does not know".into()),
    }
    Ok(())
}

/// Loads the programs that tell of cgroups as they come and go.
pub(super) fn load_cgroup_programs(ebpf: &mut Ebpf, btf: &AyaBtf) -> Result<(), BoxError> {
    load_together(ebpf, &super::CGROUP_PROGRAMS, |name, program| load(program, name, Some(btf)))
        .into_iter()
        .collect()
}

pub(super) fn warn_of_recursion(reason: &BoxError) {
    tracing::warn!("hits that interrupt the program itself are lost (and counted): {}", told(reason));
}
