//! Whether the agent's `DaemonSet` is still there: if it is not, nobody comes to go on with what is pinned.

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::{Api, Client};

/// The kubelet waits for the agent's end.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Asks. What takes away the agent's rights takes away the agent, so a refusal says the same as that it is not found. Without
/// an answer it is taken to be there: the programs end by themselves when nobody comes.
pub(super) async fn is_removed(client: Client, namespace: &str, name: &str) -> bool {
    let api: Api<DaemonSet> = Api::namespaced(client, namespace);
    match tokio::time::timeout(ANSWER_WITHIN, api.get_metadata(name)).await {
        Ok(Ok(found)) => found.metadata.deletion_timestamp.is_some(),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => {
            tracing::warn!(
                "may not get daemonsets/{name} ({}): taken for uninstalled, so nothing stays pinned",
                status.code
            );
            true
        }
        Ok(Err(kube::Error::Api(status))) => status.code == 404,
        Ok(Err(_)) | Err(_) => false,
    }
}
