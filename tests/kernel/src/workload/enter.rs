//! Entering a cgroup and a network namespace before becoming the program proper.
//!
//! Done by the process itself after `exec`, and not between `fork` and `exec` by its parent: no `unsafe` is
//! needed, and the sockets are made by a process that has been a member all along.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where `ip netns add` keeps its namespaces.
pub const NETNS_FOLDER: &str = "/run/netns";

/// Moves the calling (single-threaded) process into `cgroup` and `netns`, as far as given.
pub fn enter(cgroup: Option<&Path>, netns: Option<&str>) -> io::Result<()> {
    if let Some(folder) = cgroup {
        fs::write(folder.join("cgroup.procs"), std::process::id().to_string())?;
    }
    if let Some(name) = netns {
        let namespace = File::open(Path::new(NETNS_FOLDER).join(name))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    }
    Ok(())
}

/// Replaces this process by `program`; returns only the reason why that failed.
pub fn become_program(program: &[OsString]) -> io::Error {
    let Some((name, arguments)) = program.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no program to run");
    };
    Command::new(name).args(arguments).exec()
}
