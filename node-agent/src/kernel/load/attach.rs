//! Attaching what is loaded, again and again, and detaching it.

use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::{
    Btf as AyaBtf, Ebpf,
    programs::{FExit, Program, ProgramError},
};
use kube_tcpstates_common::counter::Counter;
use kube_tcpstates_events::Storage;

use super::{
    CGROUP_PROGRAMS, Link, Loaded, hint,
    programs::{Programs, tracepoint, warn_of_recursion},
};
use crate::{
    filter::compile,
    kernel::{
        clock::boot_ns,
        error::{BoxError, LoadError, told},
        hashes, heap, preexisting, records,
        rules::wait_for_programs,
    },
};

impl Loaded {
    /// Follows cgroups from here on. Before the walk over those that are there, so that none slips between.
    pub fn attach_cgroups(&mut self) {
        if !self.cgroup_events {
            return;
        }
        for name in CGROUP_PROGRAMS {
            match attach_program(&mut self.ebpf, name) {
                Ok(link) => self.links.push(link),
                Err(_) => self.cgroup_events = false,
            }
        }
    }

    /// Traces from here on, and then looks for the sockets that were open before. May be done again after
    /// [`Self::detach`].
    pub fn attach(&mut self) -> Result<(), LoadError> {
        let Programs { first: program, ends, resets, .. } = self.programs;
        // Before the program runs: it must not take what it recorded before the last detach for true.
        self.rules.control.store_attached(boot_ns());
        self.rules.control.renew();
        let hook = self.hook;
        let fail = |reason| LoadError::Program { program, hint: hint(hook), reason };
        self.forget_earlier().map_err(fail)?;
        self.count_by_own_program().map_err(fail)?;
        let link = attach_program(&mut self.ebpf, program).map_err(fail)?;
        self.links.push(link);
        if let Some(second) = self.second {
            match attach_program(&mut self.ebpf, second) {
                Ok(link) => self.links.push(link),
                Err(reason) => warn_of_recursion(&reason),
            }
        }
        self.ends = self.attach_beside(ends, self.ends.clone());
        self.resets = self.attach_beside(resets, self.resets.clone());
        self.load_looks();
        // It is only needed here.
        let btf = self.btf.take();
        self.look_back(btf.as_ref());
        drop(btf);
        heap::give_back();
        self.pin().map_err(fail)
    }

    /// Skipped hits are those of the program that is to be attached, and of those that were before.
    fn count_by_own_program(&mut self) -> Result<(), BoxError> {
        let program = self.ebpf.program(self.programs.first).ok_or("not in the object")?;
        self.counters.follow(program.fd()?.as_fd().as_raw_fd(), &self.page);
        Ok(())
    }

    /// Attaches a program that stands beside that of the hook, if it is loaded.
    fn attach_beside(&mut self, name: Option<&str>, loaded: Result<(), String>) -> Result<(), String> {
        loaded?;
        if let Some(name) = name {
            self.links.push(attach_program(&mut self.ebpf, name).map_err(|reason| told(&reason))?);
        }
        Ok(())
    }

    /// What is left of an earlier attachment, and no longer true.
    fn forget_earlier(&mut self) -> Result<(), BoxError> {
        hashes::LISTENERS.clear(&mut self.ebpf)?;
        if self.storage == Storage::Hash {
            self.cleared += hashes::CONNECTIONS.clear(&mut self.ebpf)?;
        }
        self.counters.give_up_pending(&self.page);
        Ok(())
    }

    /// Finds the sockets that were open before, and loads what needs types.
    fn look_back(&mut self, btf: Option<&AyaBtf>) {
        if let Some(btf) = btf
            && self.storage == Storage::SocketStorage
            && let Ok(link) = attach_accept(&mut self.ebpf, btf, self.accept_arguments)
        {
            self.links.push(link);
            self.accept_owner = true;
        }
        let taken_over = self.counters.snapshot().get(Counter::TakenOver);
        let found = match self.layout.clone() {
            Ok(layout) => {
                preexisting::find(&mut self.ebpf, layout, &self.rules).map_err(|error| told(&error))
            }
            Err(why) => Err(why),
        };
        self.found = taken_over + found.as_ref().unwrap_or(&0);
        self.open_sockets = found.map(drop);
    }

    /// Detaches every program and waits until none runs any more. The rings and counters stay, to be drained and
    /// read: from here on their sums are exact.
    pub fn detach(&mut self) {
        if self.is_attached()
            && self.storage == Storage::SocketStorage
            && let Err(error) = self.empty_storage()
        {
            tracing::warn!("records stay with sockets that nobody watches: {}", told(&error));
        }
        self.unpin();
        self.links.clear();
        wait_for_programs();
    }

    /// Takes its record from every socket, while the program still sees each that begins to listen, and under rules by
    /// which it makes none: so no listener comes to have storage (`docs/security.md`).
    fn empty_storage(&mut self) -> Result<(), BoxError> {
        self.rules.swap(&compile([])?)?;
        records::forget_records(&mut self.ebpf)
    }
}

/// Attaches a program. The link detaches when it is dropped.
fn attach_program(ebpf: &mut Ebpf, name: &str) -> Result<Link, BoxError> {
    Ok(match ebpf.program_mut(name).ok_or("not in the object")? {
        Program::BtfTracePoint(program) => {
            let link = program.attach()?;
            Link::Fd(program.take_link(link)?.into())
        }
        Program::RawTracePoint(program) => {
            let link = program.attach(tracepoint(name))?;
            Link::Fd(program.take_link(link)?.into())
        }
        Program::TracePoint(program) => {
            let link = program.attach("sock", "inet_sock_set_state")?;
            Link::Other(Box::new(program.take_link(link)?))
        }
        Program::KProbe(program) => {
            let link = program.attach("tcp_set_state", 0)?;
            Link::Other(Box::new(program.take_link(link)?))
        }
        _ => return Err("of a kind this does not know".into()),
    })
}

/// fexit on `inet_csk_accept`, where the kernel allows it: the accepting task becomes the owner. The function had
/// four arguments before 6.10 and has two since; the return value follows them.
fn attach_accept(ebpf: &mut Ebpf, btf: &AyaBtf, arguments: u32) -> Result<Link, BoxError> {
    let name = match arguments {
        2 => "accepted_2",
        4 => "accepted_4",
        _ => return Err("inet_csk_accept has another signature".into()),
    };
    let program: &mut FExit = ebpf.program_mut(name).ok_or("not in the object")?.try_into()?;
    match program.load("inet_csk_accept", btf) {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
        Err(error) => return Err(error.into()),
    }
    let link = program.attach()?;
    Ok(Link::Fd(program.take_link(link)?.into()))
}
