//! Writing a status that one program alone has a say in.

use std::fmt::Debug;

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Makes the status of `name` what `object` says, by server-side apply under the name `manager`. Lists that are empty must
/// be said to be.
///
/// A server before 1.22 may leave null where the last entry of a list is taken away, and refuse what it has made itself
/// (422). Then the status is put there whole: a list has no entry that could be taken away.
///
/// # Errors
/// What the server answers, or that it does not.
pub async fn write_status<K>(api: &Api<K>, name: &str, manager: &str, object: &Value) -> kube::Result<()>
where
    K: Clone + Debug + DeserializeOwned,
{
    let apply = PatchParams::apply(manager).force();
    match api.patch_status(name, &apply, &Patch::Apply(object)).await {
        Err(kube::Error::Api(refusal)) if refusal.code == 422 => {
            let merge = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
            api.patch_status(name, &merge, &Patch::Merge(object)).await.map(drop)
        }
        other => other.map(drop),
    }
}
