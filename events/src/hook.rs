//! The hooks: where in the kernel transitions are observed. Their names stand here and nowhere else.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where in the kernel transitions are observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// BTF-enabled raw tracepoint `inet_sock_set_state`.
    #[default]
    TpBtf,
    /// Raw tracepoint `inet_sock_set_state`.
    RawTp,
    /// Classic tracepoint `sock:inet_sock_set_state`: addresses, ports and states only, loss not exact.
    Tracepoint,
    /// Kprobe on `tcp_set_state`, which a listener does not always pass.
    Kprobe,
}

impl Hook {
    /// Every hook.
    pub const ALL: [Self; 4] = [Self::TpBtf, Self::RawTp, Self::Tracepoint, Self::Kprobe];

    /// The names of [`Self::ALL`], as the help of a command shows a choice.
    pub const CHOICES: &str = "tp_btf|raw_tp|tracepoint|kprobe";

    /// As it stands on a line and on the command line.
    pub const fn as_str(self) -> &'static str {
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
        f.write_str(self.as_str())
    }
}

impl FromStr for Hook {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|hook| hook.as_str() == text);
        named.ok_or_else(|| format!("no hook {text:?}: one of {}", Self::CHOICES.replace('|', ", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::Hook;

    #[test]
    fn a_hook_has_one_name_on_lines_on_the_command_line_and_in_its_help() {
        assert_eq!(Hook::ALL.map(Hook::as_str).join("|"), Hook::CHOICES);
        for hook in Hook::ALL {
            assert_eq!(serde_json::to_value(hook).unwrap(), hook.as_str());
            assert_eq!(hook.as_str().parse(), Ok(hook));
        }
        let refused = "no hook \"fentry\": one of tp_btf, raw_tp, tracepoint, kprobe".to_owned();
        assert_eq!("fentry".parse::<Hook>(), Err(refused));
    }
}
