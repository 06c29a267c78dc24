//! Which containers the command line asks for.

use crate::identity::Identity;

/// `--container` and `--pod-uid`. Both given, both must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// A container id, or the beginning of one.
    pub container: Option<String>,
    /// A pod's UID; of a static pod its config hash.
    pub pod_uid: Option<String>,
}

impl Selection {
    /// Whether anything is asked for.
    pub const fn is_active(&self) -> bool {
        self.container.is_some() || self.pod_uid.is_some()
    }

    /// Whether the owner is one asked for. With nothing asked for, everybody is. What runs in a container inside the
    /// one asked for belongs to it too: a container must not get out of sight by making cgroups of its own.
    pub fn takes(&self, identity: &Identity) -> bool {
        let container = self.container.as_deref().is_none_or(|wanted| {
            identity.containers.iter().any(|container| container.id.starts_with(wanted))
        });
        let pod = self
            .pod_uid
            .as_deref()
            .is_none_or(|wanted| identity.pods.iter().any(|pod| pod.uid.eq_ignore_ascii_case(wanted)));
        container && pod
    }
}

#[cfg(test)]
mod tests {
    use super::Selection;
    use crate::identity::Identity;

    const UID: &str = "6f9d1c2e-0b1a-4c3d-8e5f-0123456789ab";

    fn identity() -> Identity {
        Identity::from_path(&format!("/kubepods/burstable/pod{UID}/{}", "ab12".repeat(16)))
    }

    fn takes(container: Option<&str>, pod_uid: Option<&str>) -> bool {
        let text = |text: Option<&str>| text.map(str::to_owned);
        Selection { container: text(container), pod_uid: text(pod_uid) }.takes(&identity())
    }

    #[test]
    fn what_runs_inside_the_container_asked_for_is_taken() {
        let inner = format!("/kubepods/pod{UID}/{}/docker/{}", "ab".repeat(32), "cd".repeat(32));
        let inner = Identity::from_path(&inner);
        for container in ["ab", "cd"] {
            let selection =
                Selection { container: Some(container.repeat(32)), pod_uid: Some(UID.to_owned()) };
            assert!(selection.takes(&inner), "{container}");
        }
    }

    #[test]
    fn both_conditions_must_fit_and_none_takes_all() {
        assert!(takes(None, None));
        assert!(takes(Some("ab12ab12"), Some(UID)));
        assert!(!takes(Some("b12"), None));
        assert!(!takes(Some("ab12"), Some("other")));
        assert!(
            !Selection { container: Some("ab".into()), pod_uid: None }
                .takes(&Identity::from_path("/system.slice/a.service"))
        );
    }
}
