//! Logs each trouble with the API server once, and its end.

use std::collections::BTreeMap;
use std::time::Instant;

use kube_tcpstates_crds::TraceKind;

use super::change::Change;
use super::patience::Trouble;
use super::resource::Resource;

/// Remembers what it has said.
#[derive(Debug, Default)]
pub(super) struct Teller {
    troubles: BTreeMap<Resource, (Trouble, Instant)>,
}

impl Teller {
    /// Says what is new about a change.
    pub(super) fn note(&mut self, change: &Change) {
        match change {
            // Whether it matters shows at the next start.
            Change::Broken(_, Trouble::Cut | Trouble::Gone, _) => {}
            Change::Broken(resource, trouble, reason) => self.broken(*resource, *trouble, reason),
            Change::Works(resource) => self.works(*resource),
            Change::Pods(_) => self.works(Resource::Pods),
            Change::Nodes(_) => self.works(Resource::Nodes),
            Change::Namespaces(_) => self.works(Resource::Namespaces),
            Change::Traces(TraceKind::Namespaced, _) => self.works(Resource::Traces),
            Change::Traces(TraceKind::Cluster, _) => self.works(Resource::ClusterTraces),
        }
    }

    fn works(&mut self, resource: Resource) {
        if let Some((_, since)) = self.troubles.remove(&resource) {
            tracing::info!("{}: in step again after {} s", resource.plural(), since.elapsed().as_secs());
        }
    }

    fn broken(&mut self, resource: Resource, trouble: Trouble, reason: &str) {
        let (told, since) = match self.troubles.get(&resource) {
            Some((told, since)) => (*told == trouble, *since),
            None => (false, Instant::now()),
        };
        self.troubles.insert(resource, (trouble, since));
        if told {
            return;
        }
        let resource = resource.plural();
        match trouble {
            Trouble::NotInstalled => {
                tracing::warn!("{resource}: the resource definition is not installed; asking for it again");
            }
            Trouble::Forbidden => {
                tracing::warn!("{resource}: the agent may not list and watch them; asking again: {reason}");
            }
            Trouble::Unauthorized => tracing::warn!(
                "{resource}: the API server does not accept the agent's token; what is known stays in force"
            ),
            Trouble::Failing | Trouble::Cut | Trouble::Gone => {
                tracing::warn!("{resource}: {reason}; what is known stays in force");
            }
        }
    }
}
