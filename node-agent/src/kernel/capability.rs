//! The capabilities that tracing uses, and which of them this process has.

/// A capability, with what it is for here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Its name in `capabilities(7)`.
    pub name: &'static str,
    /// Its bit (`include/uapi/linux/capability.h`).
    pub bit: u8,
    /// What goes without it.
    pub purpose: &'static str,
    /// Tracing does not start without it.
    pub required: bool,
}

impl Capability {
    /// Loads programs and makes maps.
    pub const BPF: Self =
        Self { name: "CAP_BPF", bit: 39, purpose: "load eBPF programs and make their maps", required: true };
    /// Attaches to tracepoints and reads kernel memory.
    pub const PERFMON: Self = Self {
        name: "CAP_PERFMON",
        bit: 38,
        purpose: "attach to the tracepoint and read kernel structures",
        required: true,
    };
    /// Opens cgroups by id, and what is not readable for others.
    pub const DAC_READ_SEARCH: Self = Self {
        name: "CAP_DAC_READ_SEARCH",
        bit: 2,
        purpose: "find a cgroup by its id (containers that were missed as they came), read tracefs for the classic hook",
        required: false,
    };
    /// Looks at other users' processes.
    pub const SYS_PTRACE: Self = Self {
        name: "CAP_SYS_PTRACE",
        bit: 19,
        purpose: "read /proc/<pid>/ns/net of other users' processes (where the cgroup does not name the owner: v1, hybrid)",
        required: false,
    };
    /// Everything, before 5.8 and where a runtime grants nothing finer.
    pub const SYS_ADMIN: Self = Self {
        name: "CAP_SYS_ADMIN",
        bit: 21,
        purpose: "stand in for CAP_BPF and CAP_PERFMON",
        required: false,
    };
    /// Raises RLIMIT_MEMLOCK.
    pub const SYS_RESOURCE: Self = Self {
        name: "CAP_SYS_RESOURCE",
        bit: 24,
        purpose: "raise RLIMIT_MEMLOCK, which bounds eBPF maps before 5.11",
        required: false,
    };

    /// Every capability that is looked at, the required ones first.
    pub const ALL: [Self; 6] = [
        Self::BPF,
        Self::PERFMON,
        Self::DAC_READ_SEARCH,
        Self::SYS_PTRACE,
        Self::SYS_RESOURCE,
        Self::SYS_ADMIN,
    ];

    /// Whether a set of effective capabilities has it, or what stands in for it.
    pub const fn is_in(self, effective: u64) -> bool {
        let admin = self.required && effective >> Self::SYS_ADMIN.bit & 1 == 1;
        effective >> self.bit & 1 == 1 || admin
    }
}

/// This process's effective capabilities, a bit each; all of them when they cannot be read, so that nobody is told
/// to add what may be there.
pub fn effective_capabilities() -> u64 {
    procfs::process::Process::myself()
        .and_then(|process| process.status())
        .map_or(u64::MAX, |status| status.capeff)
}

/// The required capabilities that are missing, each with what it is for.
pub fn missing_capabilities() -> Vec<String> {
    let effective = effective_capabilities();
    Capability::ALL
        .into_iter()
        .filter(|capability| capability.required && !capability.is_in(effective))
        .map(|capability| format!("{}, to {}", capability.name, capability.purpose))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::Capability;

    #[test]
    fn sys_admin_stands_in_for_the_required_ones_only() {
        let admin = 1 << Capability::SYS_ADMIN.bit;
        assert!(Capability::BPF.is_in(admin));
        assert!(Capability::PERFMON.is_in(admin));
        assert!(!Capability::DAC_READ_SEARCH.is_in(admin));
        assert!(!Capability::BPF.is_in(1 << Capability::PERFMON.bit));
    }
}
