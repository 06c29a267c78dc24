//! What keeps a program attached.

use aya::programs::links::{FdLink, PinnedLink};

/// Whatever link a program has. It detaches when it is dropped, unless it is pinned.
pub(super) enum Link {
    Fd(FdLink),
    Pinned(PinnedLink),
    /// Of a kind that cannot be pinned.
    Other(Box<dyn std::any::Any + Send>),
}

impl Link {
    /// As what can be pinned.
    pub(super) fn into_fd(self) -> Option<FdLink> {
        match self {
            Self::Fd(link) => Some(link),
            Self::Pinned(link) => Some(link.into()),
            Self::Other(link) => {
                drop(link);
                None
            }
        }
    }
}
