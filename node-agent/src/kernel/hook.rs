//! The hooks by name.

use std::{fmt, str::FromStr};

/// Where the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `tp_btf/inet_sock_set_state`: the first choice, from 5.5 with BTF.
    TpBtf,
    /// `raw_tracepoint/inet_sock_set_state`: only when asked for.
    RawTp,
    /// `sock:inet_sock_set_state`: for kernels without BTF.
    Tracepoint,
    /// `kprobe:tcp_set_state`: only when asked for.
    Kprobe,
}

impl Hook {
    /// Every hook.
    pub const ALL: [Self; 4] = [Self::TpBtf, Self::Tracepoint, Self::Kprobe, Self::RawTp];

    /// The name on the command line and in lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::RawTp => "raw_tp",
            Self::Tracepoint => "tracepoint",
            Self::Kprobe => "kprobe",
        }
    }

    /// Whether the kernel tells how often it skipped the program. A classic tracepoint or kprobe is skipped in
    /// silence when another program already runs on that CPU (`trace_call_bpf`, `kernel/trace/bpf_trace.c`).
    pub const fn counts_exactly(self) -> bool {
        matches!(self, Self::TpBtf | Self::RawTp)
    }

    /// What the hook cannot see, for people.
    pub const fn blind_spots(self) -> Option<&'static str> {
        match self {
            Self::Kprobe => Some(
                "the kprobe hook never sees CLOSE -> LISTEN, a failed LISTEN -> CLOSE, or LISTEN -> SYN_RECV",
            ),
            Self::Tracepoint => {
                Some("the classic tracepoint may be skipped without a trace: loss is not exact")
            }
            Self::TpBtf | Self::RawTp => None,
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Hook {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|hook| hook.name() == text)
            .ok_or_else(|| format!("no hook {text:?}: one of tp_btf, raw_tp, tracepoint, kprobe"))
    }
}

/// Where socket records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageKind {
    /// With the socket.
    SocketStorage,
    /// In a hash of a bounded size.
    Hash,
}

impl StorageKind {
    /// The name in lines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SocketStorage => "socket_storage",
            Self::Hash => "hash",
        }
    }
}
