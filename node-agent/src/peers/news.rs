//! What is kept of Services and slices, and how it is told.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServiceSpec, ServiceStatus};

/// Both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// `CLOCK_BOOTTIME`, ns.
    pub boot_ns: u64,
    /// Wall clock, s since the Unix epoch.
    pub unix_s: i64,
}

impl Moment {
    /// The boot time of a second of the wall clock; now at the latest.
    pub(super) fn boot_ns_of(self, unix_s: i64) -> u64 {
        let ago_s = u64::try_from(self.unix_s.saturating_sub(unix_s)).unwrap_or(0);
        self.boot_ns.saturating_sub(ago_s.saturating_mul(1_000_000_000))
    }
}

/// What is new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Of Services.
    Services(Update<ServiceInfo>),
    /// Of slices.
    Slices(Update<SliceInfo>),
}

/// What became of the objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update<T> {
    /// These are all. What is not among them does not exist any more.
    All(Vec<T>),
    /// It was added or changed.
    Is(T),
    /// It was deleted.
    Gone(T),
}

/// What is kept of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceInfo {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `metadata.creationTimestamp`, s since the Unix epoch.
    pub created_s: Option<i64>,
    /// Addresses of its own, at every port.
    pub own: Vec<IpAddr>,
    /// Addresses that it may share with others: external ones, a load balancer's.
    pub shared: Vec<IpAddr>,
    /// The ports at which it has those.
    pub ports: Vec<u16>,
}

impl ServiceInfo {
    /// What is kept of it. `None` for an object without a name or a namespace, which no API server hands out. A headless
    /// Service has no address, but what is not told of it could not be forgotten.
    pub fn from_api(service: &Service) -> Option<Self> {
        let metadata = &service.metadata;
        let spec = service.spec.as_ref();
        let ports = spec.into_iter().flat_map(|spec| spec.ports.iter().flatten());
        Some(Self {
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
            created_s: metadata.creation_timestamp.as_ref().map(|at| at.0.as_second()),
            own: spec.map(cluster_ips).unwrap_or_default(),
            shared: shared(spec, service.status.as_ref()),
            ports: ports.filter_map(|port| u16::try_from(port.port).ok()).collect(),
        })
    }
}

/// `clusterIP` is the first of `clusterIPs`, and all there is from servers before 1.20. `None` is no address.
fn cluster_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    let mut own: Vec<IpAddr> =
        spec.cluster_ips.iter().flatten().filter_map(|text| text.parse().ok()).collect();
    if own.is_empty() {
        own.extend(spec.cluster_ip.as_ref().and_then(|text| text.parse::<IpAddr>().ok()));
    }
    own
}

fn shared(spec: Option<&ServiceSpec>, status: Option<&ServiceStatus>) -> Vec<IpAddr> {
    let external = spec.into_iter().flat_map(|spec| spec.external_ips.iter().flatten());
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.into_iter().flat_map(|balancer| balancer.ingress.iter().flatten());
    let texts = external.chain(ingress.filter_map(|ingress| ingress.ip.as_ref()));
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// What is kept of an `EndpointSlice`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SliceInfo {
    /// Its namespace, which is the pods' too.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The Service that it is of.
    pub service: Option<String>,
    /// When what it says last became so, s since the Unix epoch; `None` where nothing tells.
    pub changed_s: Option<i64>,
    /// Ports at which its pods serve; empty where it does not say.
    pub ports: Vec<u16>,
    /// Its pods.
    pub endpoints: Vec<Endpoint>,
}

/// A pod at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The pod's name.
    pub pod: String,
    /// Its UID.
    pub uid: String,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Moment, ServiceInfo};

    fn service(object: Value) -> Option<ServiceInfo> {
        ServiceInfo::from_api(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_service_keeps_its_addresses_and_whether_they_are_its_own() {
        let full = service(json!({
            "metadata": {"namespace": "shop", "name": "cart", "creationTimestamp": "2026-11-22T15:25:00Z"},
            "spec": {
                "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"], "externalIPs": ["192.0.2.7"],
                "ports": [{"port": 80, "nodePort": 30080}, {"port": 443}],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}, {"hostname": "lb.example.com"}]}},
        }));
        let of = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let expected = ServiceInfo {
            namespace: "shop".to_owned(),
            name: "cart".to_owned(),
            created_s: Some(1_795_361_100),
            own: of(&["10.96.0.7", "fd00::7"]),
            shared: of(&["192.0.2.7", "198.51.100.7"]),
            ports: vec![80, 443],
        };
        assert_eq!(full, Some(expected));
    }

    #[test]
    fn a_service_without_an_address_has_none_and_one_of_an_old_server_has_its_one() {
        for (spec, own) in [
            (json!({"clusterIP": "None", "clusterIPs": ["None"]}), 0),
            (json!({"type": "ExternalName", "externalName": "example.com"}), 0),
            (json!({"clusterIP": ""}), 0),
            (json!({"clusterIP": "10.96.0.7"}), 1),
        ] {
            let service =
                service(json!({"metadata": {"namespace": "a", "name": "b"}, "spec": spec})).unwrap();
            assert_eq!(service.own.len(), own, "{spec}");
        }
        assert_eq!(service(json!({"metadata": {"name": "b"}})), None);
    }

    #[test]
    fn a_time_of_the_wall_clock_is_no_later_than_now() {
        let now = Moment { boot_ns: 100_000_000_000, unix_s: 1_000 };
        for (unix_s, boot_s) in [(1_000, 100), (990, 90), (1_005, 100), (0, 0), (i64::MIN, 0)] {
            assert_eq!(now.boot_ns_of(unix_s), boot_s * 1_000_000_000, "{unix_s}");
        }
    }
}
