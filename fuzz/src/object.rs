//! Pods, Services and slices, as an API server hands them out.

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::core::WatchEvent;
use kube_tcpstates::cluster::EndpointSlice;
use kube_tcpstates::peers::{Directory, Moment, News, ServiceInfo, Update};
use kube_tcpstates::roster::{PodInfo, Roster};
use serde::de::DeserializeOwned;

pub use crate::seed::none as seeds;

const NOW: Moment = Moment { boot_ns: 1_000_000_000_000, unix_s: 1_800_000_000 };

/// The object of a watch, or one alone. True: it was one of these, and something of it is kept.
pub fn read(bytes: &[u8]) -> bool {
    let pod = object(bytes).and_then(|pod: Pod| PodInfo::from_api(&pod));
    let service = object(bytes).and_then(|service: Service| ServiceInfo::from_api(&service));
    let slice = object(bytes).and_then(EndpointSlice::kept);
    let is_kept = pod.is_some() || service.is_some() || slice.is_some();
    let (mut roster, mut directory) = (Roster::default(), Directory::default());
    let mut asked = Vec::new();
    if let Some(pod) = pod {
        asked.extend(pod.network.addresses.first().copied());
        let uid = pod.uid.clone();
        roster.apply(pod);
        directory.look_at(&roster, NOW);
        roster.delete(&uid, NOW.boot_ns);
        assert!(roster.pod(&uid).is_some(), "a pod that has gone is known for a while");
    }
    if let Some(service) = service {
        asked.extend(service.own.first().copied());
        directory.take(News::Services(Update::Is(service.clone())), NOW);
        directory.take(News::Services(Update::Gone(service)), NOW);
    }
    if let Some(slice) = slice {
        asked.extend(slice.endpoints.first().map(|endpoint| endpoint.address));
        directory.take(News::Slices(Update::Is(slice.clone())), NOW);
        directory.take(News::Slices(Update::Is(slice)), NOW);
    }
    for address in asked {
        let _ = directory.name(address, 80, NOW.boot_ns);
    }
    is_kept
}

fn object<T: DeserializeOwned + Clone>(bytes: &[u8]) -> Option<T> {
    if let Ok(object) = serde_json::from_slice(bytes) {
        return Some(object);
    }
    match serde_json::from_slice(bytes).ok()? {
        WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
            Some(object)
        }
        WatchEvent::Bookmark(_) | WatchEvent::Error(_) => None,
    }
}
