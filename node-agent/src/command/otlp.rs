//! Where OpenTelemetry logs go, which `trace` and `agent` have in common: the options, checked.

use super::{args::OtlpArguments, tuning::size};
use crate::outlet::{OtlpTarget, from_environment};

/// Less than this holds no burst.
const QUEUE_AT_LEAST: u64 = 64 << 10;

/// Checks the arguments. `None`: neither they nor the environment name an endpoint.
pub(super) fn check(raw: &OtlpArguments) -> Result<Option<OtlpTarget>, String> {
    let queue = size("--otlp-queue", &raw.otlp_queue)?;
    let queue = usize::try_from(queue).ok().filter(|_| queue >= QUEUE_AT_LEAST);
    let queue = queue.ok_or_else(|| format!("--otlp-queue {:?}: give at least 64KiB", raw.otlp_queue))?;
    let headers = raw.otlp_headers_file.as_ref().map(|path| {
        std::fs::read_to_string(path)
            .map_err(|error| format!("--otlp-headers-file {}: {error}", path.display()))
    });
    let headers = headers.transpose()?;
    let endpoint = raw.otlp_endpoint.as_deref();
    from_environment(endpoint, headers.as_deref(), queue, |name| std::env::var(name).ok())
}
