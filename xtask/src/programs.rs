//! Programs that are run and not built here. `./x` installs them on Debian; elsewhere their absence is told by the name
//! of Debian's package.

use std::path::Path;

use anyhow::{Result, ensure};

/// Where a program may be, and the package that brings it.
pub(crate) type Program = (&'static [&'static str], &'static str);

/// Whoever makes network namespaces needs it.
pub(crate) const IP: Program = (&["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"], "iproute2");
/// Other programs in namespaces of their own.
pub(crate) const UNSHARE: Program = (&["/usr/bin/unshare"], "util-linux");
/// The tracer that ours is compared with.
pub(crate) const TCPSTATES: Program = (&["/usr/sbin/tcpstates", "/usr/bin/tcpstates"], "libbpf-tools");
/// Rules of firewalls and of NAT.
pub(crate) const NFT: Program = (&["/usr/sbin/nft"], "nftables");
/// What others say of sockets.
pub(crate) const SS: Program = (&["/usr/bin/ss", "/bin/ss"], "iproute2");
/// Takes symbols from a program.
pub(crate) const STRIP: Program = (&["/usr/bin/strip"], "binutils");
/// Debian's archives are compressed with it, and its newer kernels' modules.
pub(crate) const XZ: Program = (&["/usr/bin/xz"], "xz-utils");

/// A shipper of logs, with its module for Elasticsearch's bulk API.
pub(crate) const RSYSLOG: Program = (&["/usr/sbin/rsyslogd"], "rsyslog");
/// That module.
pub(crate) const RSYSLOG_ELASTICSEARCH: Program = (
    &["/usr/lib/x86_64-linux-gnu/rsyslog/omelasticsearch.so", "/usr/lib64/rsyslog/omelasticsearch.so"],
    "rsyslog-elasticsearch",
);
/// Compares files, for `kubectl diff`.
pub(crate) const DIFF: Program = (&["/usr/bin/diff"], "diffutils");
/// The browser that pages are looked at in.
pub(crate) const CHROMIUM: Program = (&["/usr/bin/chromium"], "chromium");

/// Names the first one that is missing.
pub(crate) fn are_there(programs: &[Program]) -> Result<()> {
    for (places, package) in programs {
        ensure!(
            places.iter().any(|place| Path::new(place).exists()),
            "{} is missing: install {package}",
            places[0]
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_programs_places_is_enough_and_what_is_missing_is_told_by_its_package() {
        assert!(are_there(&[(&["/nowhere/sh", "/bin/sh"], "dash")]).is_ok());
        let error = are_there(&[(&["/bin/sh"], "dash"), (&["/nowhere/ip"], "iproute2")]).unwrap_err();
        assert_eq!(error.to_string(), "/nowhere/ip is missing: install iproute2");
    }
}
