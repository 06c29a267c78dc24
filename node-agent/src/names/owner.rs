//! Who owns a socket, by all the names that are known of it.

use super::Workload;

/// What is known of the owner of a socket. Everything absent is left out of the line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Container id, 64 hex digits as a rule.
    pub container_id: Option<String>,
    /// Container runtime.
    pub runtime: Option<&'static str>,
    /// UID of the pod.
    pub pod_uid: Option<String>,
    /// Quality of service class: `guaranteed`, `burstable`, `besteffort`.
    pub qos: Option<&'static str>,
    /// Name of the pod.
    pub pod_name: Option<String>,
    /// Namespace of the pod.
    pub namespace: Option<String>,
    /// Name of the container in the pod.
    pub container_name: Option<String>,
    /// Name of the node.
    pub node: Option<String>,
    /// Name of the cluster.
    pub cluster: Option<String>,
    /// The workload that owns the pod.
    pub workload: Option<Workload>,
    /// Labels of the pod that the traces ask for, the important ones first.
    pub pod_labels: Vec<(String, String)>,
    /// systemd slice of a host process.
    pub host_slice: Option<String>,
    /// systemd unit of a host process.
    pub host_unit: Option<String>,
}

impl Owner {
    /// One short name: namespace and pod, else 12 digits of the container's id, else the pod's UID, else the unit or the
    /// slice of a process of the host. `None` where nothing is known.
    pub fn label(&self) -> Option<String> {
        let pod = self.pod_name.as_ref().map(|pod| match &self.namespace {
            Some(namespace) => format!("{namespace}/{pod}"),
            None => pod.clone(),
        });
        let container = || self.container_id.as_ref().map(|id| id.chars().take(12).collect());
        let host = || self.host_unit.clone().or_else(|| self.host_slice.clone());
        pod.or_else(container).or_else(|| self.pod_uid.clone()).or_else(host)
    }
}

#[cfg(test)]
mod tests {
    use super::Owner;

    #[test]
    fn the_label_is_the_best_name_that_is_known() {
        let some = |text: &str| Some(text.to_owned());
        let mut owner = Owner { host_slice: some("system.slice"), ..Owner::default() };
        let mut seen = vec![owner.label()];
        owner.host_unit = some("nginx.service");
        seen.push(owner.label());
        owner.pod_uid = some("uid");
        seen.push(owner.label());
        owner.container_id = some("4f1e0c9a7b21d6534f1e");
        seen.push(owner.label());
        (owner.namespace, owner.pod_name) = (some("shop"), some("web-0"));
        seen.push(owner.label());
        let expected = ["system.slice", "nginx.service", "uid", "4f1e0c9a7b21", "shop/web-0"];
        assert_eq!(seen, expected.map(some));
        assert_eq!(Owner::default().label(), None);
    }
}
