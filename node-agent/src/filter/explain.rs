//! A filter as one line of text, for the `start` line and for a person who asks what is being traced.

use std::fmt;

use kube_tcpstates_crds::duration;

use super::{CgroupChoice, Mode, TraceFilter};
use crate::decode::{NetworkType, Role};

/// Items joined by commas.
struct Joined<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Joined<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for TraceFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            mode,
            cgroups,
            family,
            role,
            local_ports,
            peer_ports,
            peer_cidrs,
            transitions,
            netns,
            min_duration: _,
        } = self;
        let netns = netns.as_ref().map(|set| set.iter().copied().collect::<Vec<_>>());
        let family = family.map(|family| match family {
            NetworkType::Ipv4 => "IPv4",
            NetworkType::Ipv6 => "IPv6",
        });
        let role = role.map(Role::as_str);
        let least = match mode {
            Mode::Transitions => self.minimum(),
            Mode::Connections | Mode::Summary => self.min_duration,
        };
        let parts = [
            match mode {
                Mode::Transitions => None,
                Mode::Connections => Some("connections".to_owned()),
                Mode::Summary => Some("summary".to_owned()),
            },
            (*cgroups == CgroupChoice::Selected).then(|| "cgroups=selected".to_owned()),
            family.map(|family| format!("family={family}")),
            role.map(|role| format!("role={role}")),
            (!local_ports.is_empty()).then(|| format!("local-ports={}", Joined(local_ports))),
            (!peer_ports.is_empty()).then(|| format!("peer-ports={}", Joined(peer_ports))),
            (!peer_cidrs.is_empty()).then(|| format!("peers={}", Joined(peer_cidrs))),
            (!transitions.is_empty()).then(|| format!("transitions={}", Joined(transitions))),
            netns.map(|inodes| {
                format!(
                    "netns={}",
                    if inodes.is_empty() { "none".to_owned() } else { Joined(&inodes).to_string() }
                )
            }),
            least.map(|minimum| format!("min-duration={}", duration::format(minimum))),
        ];
        let mut separator = "";
        for part in parts.iter().flatten() {
            write!(f, "{separator}{part}")?;
            separator = " ";
        }
        if separator.is_empty() { f.write_str("every transition") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use crate::decode::{NetworkType, Role};
    use crate::filter::cidr::parse_cidrs;
    use crate::filter::ports::parse_ports;
    use crate::filter::states::parse_transitions;
    use crate::filter::{CgroupChoice, Mode, TraceFilter};
    use std::time::Duration;

    #[test]
    fn a_filter_is_told_in_one_line() {
        assert_eq!(TraceFilter::default().to_string(), "every transition");
        let trace = TraceFilter {
            mode: Mode::Transitions,
            cgroups: CgroupChoice::Selected,
            family: Some(NetworkType::Ipv4),
            role: Some(Role::Client),
            local_ports: parse_ports("f", "80,8000-8100").unwrap(),
            peer_ports: parse_ports("f", "443").unwrap(),
            peer_cidrs: parse_cidrs("f", "10.0.0.0/8").unwrap(),
            transitions: parse_transitions("f", "SYN_SENT:CLOSE,*>LISTEN").unwrap(),
            netns: Some([4_026_531_840].into()),
            min_duration: Some(Duration::from_millis(1500)),
        };
        assert_eq!(
            trace.to_string(),
            "cgroups=selected family=IPv4 role=client local-ports=80,8000-8100 peer-ports=443 peers=10.0.0.0/8 \
             transitions=SYN_SENT>CLOSE,*>LISTEN netns=4026531840 min-duration=1s500ms"
        );
    }
}
