//! Which resource a request is about.

/// A resource of the API. A program declares those it speaks of as constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    older: Option<&'static str>,
}

impl Resource {
    /// Of a group, "" for the core one, in a version, by its name in paths.
    pub const fn new(group: &'static str, version: &'static str, plural: &'static str) -> Self {
        Self { group, version, plural, older: None }
    }

    /// The same, which old servers have in another version.
    #[must_use]
    pub const fn or(self, older: &'static str) -> Self {
        Self { older: Some(older), ..self }
    }

    /// Its name in a path.
    pub const fn plural(self) -> &'static str {
        self.plural
    }

    /// The one of `declared` that a request is about, by its path: of one namespace or all, a list, an object or a part
    /// of one such as its status.
    pub fn of_path(path: &str, declared: &[Self]) -> Option<Self> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let group = match parts.next()? {
            "api" => "",
            "apis" => parts.next()?,
            _ => return None,
        };
        let version = parts.next()?;
        let plural = plural(parts)?;
        let same = |known: &&Self| {
            let has_version = known.version == version || known.older == Some(version);
            has_version && (known.group, known.plural) == (group, plural)
        };
        declared.iter().find(same).copied()
    }
}

/// What follows the version: `PLURAL`, `PLURAL/NAME`, or either behind `namespaces/NAMESPACE`.
fn plural<'a>(mut parts: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let first = parts.next()?;
    if first != "namespaces" {
        return Some(first);
    }
    // These two are parts of a Namespace itself.
    match parts.nth(1) {
        None | Some("status" | "finalize") => Some(first),
        Some(inside) => Some(inside),
    }
}

#[cfg(test)]
mod tests {
    use super::Resource;

    const PODS: Resource = Resource::new("", "v1", "pods");
    const NAMESPACES: Resource = Resource::new("", "v1", "namespaces");
    const LEASES: Resource = Resource::new("coordination.k8s.io", "v1", "leases");
    const REPORTS: Resource = Resource::new("tcpstates.dev", "v1alpha1", "tcpstatenodes");
    const SLICES: Resource = Resource::new("discovery.k8s.io", "v1", "endpointslices").or("v1beta1");

    #[test]
    fn a_path_tells_its_resource() {
        let cases = [
            ("/api/v1/pods", Some(PODS)),
            ("/api/v1/namespaces/shop/pods", Some(PODS)),
            ("/api/v1/namespaces/shop/pods/cart-0/log", Some(PODS)),
            ("/api/v1/namespaces/pods/pods/pods", Some(PODS)),
            ("/api/v1/namespaces", Some(NAMESPACES)),
            ("/api/v1/namespaces/pods", Some(NAMESPACES)),
            ("/api/v1/namespaces/shop/status", Some(NAMESPACES)),
            ("/api/v1/namespaces/shop/finalize", Some(NAMESPACES)),
            ("/apis/coordination.k8s.io/v1/namespaces/shop/leases/operator", Some(LEASES)),
            ("/apis/tcpstates.dev/v1alpha1/tcpstatenodes/node-a/status", Some(REPORTS)),
            ("/apis/discovery.k8s.io/v1/endpointslices", Some(SLICES)),
            ("/apis/discovery.k8s.io/v1beta1/endpointslices", Some(SLICES)),
            ("/apis/discovery.k8s.io/v1alpha1/endpointslices", None),
            ("/apis/tcpstates.dev/v2/tcpstatenodes", None),
            ("/apis/metrics.k8s.io/v1/pods", None),
            ("/api/v1/namespaces/shop/secrets", None),
            ("/api/v1", None),
            ("/version", None),
            ("/", None),
            ("", None),
        ];
        for (path, resource) in cases {
            assert_eq!(
                Resource::of_path(path, &[PODS, NAMESPACES, LEASES, REPORTS, SLICES]),
                resource,
                "{path}"
            );
        }
    }
}
