//! Sockets that were open before the programs were attached.

use std::io::Read as _;

use aya::{Btf, Ebpf, programs::Iter};

use super::load::LoadError;

/// Walks every task's descriptors twice: listeners first, so that the second pass can tell servers from clients.
/// Leaves a record, marked as older than the tracer, with each TCP socket that has none.
pub(super) fn open_sockets(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), LoadError> {
    for program in ["dump_listeners", "dump_sockets"] {
        run(ebpf, btf, program)
            .map_err(|source| LoadError::Program { program, hint: "sockets open before the start", source })?;
    }
    Ok(())
}

fn run(ebpf: &mut Ebpf, btf: &Btf, name: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let program: &mut Iter = ebpf.program_mut(name).ok_or("not in the object")?.try_into()?;
    program.load("task_file", btf)?;
    let link = program.attach()?;
    let link = program.take_link(link)?;
    let mut nothing = Vec::new();
    // Reading is what makes the kernel walk; the programs print nothing.
    link.into_file()?.read_to_end(&mut nothing)?;
    program.unload()?;
    Ok(())
}
