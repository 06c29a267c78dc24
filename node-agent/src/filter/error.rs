//! What can be wrong with one value of a filter.

use kube_tcpstates_crds::duration::DurationError;

/// A value that cannot be used, and where it stood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value:?}: {reason}")]
pub struct FilterError {
    /// The option or field as its user knows it, such as `--local-port` or `spec.peerCIDRs[2]`.
    pub field: String,
    /// The text that stood there; of a list, the item.
    pub value: String,
    /// What is wrong with it.
    pub reason: Reason,
}

/// Why a value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Nothing, or a list with nothing between two commas.
    #[error("is empty")]
    Empty,
    /// Not a port, nor two joined by `-`.
    #[error("is not a port (1 to 65535) or a range such as 8000-8100")]
    Port,
    /// A range whose end lies before its start.
    #[error("the range ends before it starts")]
    PortOrder,
    /// Not `address/length`.
    #[error("is not an address with a prefix length, such as 10.0.0.0/8 or 2001:db8::/32")]
    Cidr,
    /// The prefix is longer than the address.
    #[error("the prefix length is at most {0} here")]
    PrefixLength(u8),
    /// Bits are set behind the prefix.
    #[error("has bits set behind its prefix; did you mean {0}?")]
    HostBits(String),
    /// Not `OLD>NEW`.
    #[error("is not a transition such as SYN_SENT>CLOSE, SYN_SENT:CLOSE or *>CLOSE")]
    Transition,
    /// Both sides accept everything.
    #[error("accepts every transition; leave it out instead")]
    AnyToAny,
    /// No state of that name.
    #[error(
        "{0:?} is not a TCP state of Linux (ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, CLOSE, \
             CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING)"
    )]
    UnknownState(String),
    /// A state that no full socket ever has.
    #[error("{0} never appears in a transition: {1}")]
    NeverSeen(&'static str, &'static str),
    /// Both sides are one and the same state.
    #[error(
        "the old and the new state are the same, which is no transition; only the table and CSV show it, as BCC's tool does"
    )]
    SameState,
    /// All prefixes are of the family that the trace leaves out.
    #[error("is all {kept_out}, which {flag} leaves out")]
    OtherFamily {
        /// The family of the prefixes.
        kept_out: &'static str,
        /// The option that asks for the other.
        flag: &'static str,
    },
    /// What an inode number that could not be read looks like.
    #[error("is no network namespace's number; `stat -Lc %i /proc/PID/ns/net` tells one")]
    Namespace,
    /// Not a duration, or one that cannot be counted.
    #[error(transparent)]
    Duration(#[from] DurationError),
}

impl Reason {
    /// The error of a value in a field.
    pub fn of(self, field: &str, value: &str) -> FilterError {
        FilterError { field: field.to_owned(), value: value.to_owned(), reason: self }
    }
}

/// Reads a comma-separated list; spaces around items do not count, empty items are refused.
pub(super) fn list<T>(
    field: &str,
    text: &str,
    item: impl Fn(&str) -> Result<T, Reason>,
) -> Result<Vec<T>, FilterError> {
    text.split(',')
        .map(str::trim)
        .map(|part| {
            if part.is_empty() {
                Err(Reason::Empty.of(field, text))
            } else {
                item(part).map_err(|e| e.of(field, part))
            }
        })
        .collect()
}
