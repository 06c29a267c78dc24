//! A task that lives no longer than whoever started it.

use tokio::task::AbortHandle;

/// Ends a task when it is dropped.
pub struct AbortOnDrop(AbortHandle);

impl AbortOnDrop {
    /// Starts it.
    pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task).abort_handle())
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
