//! `--pin`: where tracing goes on when this process ends, and waiting until another lets go of it.

use std::{path::PathBuf, time::Duration};

use super::args::PinArguments;
use crate::{
    filter::duration::parse_duration,
    kernel::{Directory, DirectoryError, Pinning},
};

/// Between two looks whether the lock is free.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the command line asks.
#[derive(Clone, Debug)]
pub(super) struct Pin {
    directory: PathBuf,
    lease: Duration,
}

impl Pin {
    /// Checks the arguments.
    pub(super) fn check(raw: &PinArguments) -> Result<Option<Self>, String> {
        let lease = parse_duration("--pin-for", &raw.pin_for).map_err(|error| error.to_string())?;
        if !(Duration::from_secs(1)..=Duration::from_hours(24)).contains(&lease) {
            return Err("--pin-for: from 1s to 24h".to_owned());
        }
        Ok(raw.pin.clone().map(|directory| Self { directory, lease }))
    }

    /// Waits until no other process works with the directory. `purpose` says what is traced: only a process that would
    /// trace the same takes over.
    pub(super) async fn locked(&self, purpose: String) -> Result<Pinning, DirectoryError> {
        let mut told = false;
        loop {
            if let Some(directory) = Directory::try_lock(&self.directory)? {
                return Ok(Pinning { directory, lease: self.lease, purpose });
            }
            if !std::mem::replace(&mut told, true) {
                tracing::warn!("waiting for another process to let go of {}", self.directory.display());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
