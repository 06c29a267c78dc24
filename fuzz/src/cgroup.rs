//! Paths of cgroups, whose names anybody chooses who may make a directory.

use kube_tcpstates::identity::Identity;

pub use crate::seed::none as seeds;

/// A path. True: it names a container, a pod or a part of the host.
pub fn read(bytes: &[u8]) -> bool {
    let path = String::from_utf8_lossy(bytes);
    let identity = Identity::from_path(&path);
    assert_eq!(identity.path, path);
    for container in &identity.containers {
        // A path segment, or one of its parts.
        assert!(!container.id.is_empty() && !container.id.contains('/'), "{container:?}");
        assert!(path.contains(&*container.id), "{container:?}");
    }
    for pod in &identity.pods {
        assert!(!pod.uid.is_empty() && !pod.uid.contains('/'), "{pod:?}");
    }
    assert_eq!(identity.pod_uid.as_ref(), identity.pods.first().map(|pod| &pod.uid));
    let named = identity.container_id.as_ref();
    assert!(named.is_none_or(|id| identity.containers.iter().any(|container| container.id == *id)));
    let is_contained = !identity.containers.is_empty() || !identity.pods.is_empty();
    assert_eq!(identity.is_contained(), is_contained);
    assert!(!(is_contained && identity.host.is_some()));
    // What stands above the root of a cgroup namespace, and doubled slashes, say nothing.
    let longer = Identity::from_path(&format!("/..//{path}"));
    assert_eq!((longer.containers, longer.pods), (identity.containers, identity.pods));
    is_contained || identity.host.is_some()
}
