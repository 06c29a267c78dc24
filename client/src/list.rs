//! One list, as the server's cache has it, taken apart while it comes: of each object is kept what is of use before the
//! next one is read.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt as _;
use kube::Client;
use kube::core::params::{ListParams, VersionMatch};
use kube::core::{Request as Requests, Status};
use serde::{Deserialize, de::DeserializeOwned};

use crate::items::{Items, Malformed};
use crate::layer::Streamed;

/// Between two pieces of an answer.
const PIECE_WITHIN: Duration = Duration::from_secs(10);
/// What a server says of an error is no longer.
const STATUS_MAX: usize = 1024 * 1024;
/// So many more objects, and those that are too many go.
const THIN_EVERY: usize = 256;

/// A list could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// The request failed, or the server refused it.
    #[error(transparent)]
    Request(#[from] kube::Error),
    /// It stopped in the middle.
    #[error("the list broke off: {0}")]
    Broken(String),
    /// It is none.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// An object, or what is around them, is not what it should be.
    #[error("reading a list: {0}")]
    Json(#[from] serde_json::Error),
}

/// Which objects, and what to keep of them.
pub(crate) struct Wanted<'a, K, T> {
    /// Path of the resource.
    pub(crate) path: &'a str,
    /// A field selector.
    pub(crate) fields: Option<&'a str>,
    /// See [`crate::Watch`].
    pub(crate) keep: fn(K) -> Option<T>,
    /// See [`crate::Watch`].
    pub(crate) thin: Option<fn(&mut Vec<T>)>,
}

/// The head of a list.
#[derive(Deserialize)]
struct Around {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    resource_version: String,
}

impl<K: kube::Resource + DeserializeOwned, T> Wanted<'_, K, T> {
    /// All of them, and the version they have.
    ///
    /// Any version that the server's cache has will do, in one page: a list of the newest is read from etcd in full, for
    /// each node, and so is each further page.
    pub(crate) async fn list(&self, client: &Client) -> Result<(Vec<T>, String), ListError> {
        let parameters = ListParams {
            field_selector: self.fields.map(str::to_owned),
            resource_version: Some("0".to_owned()),
            version_match: Some(VersionMatch::NotOlderThan),
            ..ListParams::default()
        };
        let requests = Requests::new(self.path);
        let request =
            if K::metadata_api() { requests.list_metadata(&parameters) } else { requests.list(&parameters) };
        let mut request: Request<Vec<u8>> = request.map_err(kube::Error::BuildRequest)?;
        request.extensions_mut().insert(Streamed);
        let (head, mut body) = client.send(request.map(Into::into)).await?.into_parts();
        let (mut items, mut kept, mut next) = (Items::default(), Vec::new(), THIN_EVERY);
        let mut refusal = Vec::new();
        while let Some(frame) = tokio::time::timeout(PIECE_WITHIN, body.frame())
            .await
            .map_err(|_| ListError::Broken(format!("nothing came for {} s", PIECE_WITHIN.as_secs())))?
        {
            let frame = frame.map_err(|error| ListError::Broken(crate::reason_of(&error)))?;
            let Some(piece) = frame.data_ref() else { continue };
            if !head.status.is_success() {
                refusal.extend_from_slice(&piece[..piece.len().min(STATUS_MAX - refusal.len())]);
                continue;
            }
            items.take(piece, |item| {
                kept.extend((self.keep)(serde_json::from_slice(item)?));
                Ok::<_, ListError>(())
            })?;
            if let Some(thin) = self.thin.filter(|_| kept.len() >= next) {
                thin(&mut kept);
                next = kept.len() + THIN_EVERY;
            }
        }
        if !head.status.is_success() {
            return Err(refused(head.status.as_u16(), &refusal).into());
        }
        if let Some(thin) = self.thin {
            thin(&mut kept);
        }
        let around: Around = serde_json::from_slice(&items.finish()?)?;
        Ok((kept, around.metadata.resource_version))
    }
}

/// What the server says of it, in its own words where it has any.
fn refused(code: u16, body: &[u8]) -> kube::Error {
    let told = serde_json::from_slice::<Status>(body).ok();
    let status = told.unwrap_or_else(|| {
        Status::failure(String::from_utf8_lossy(body).trim(), "Failed to parse error data").with_code(code)
    });
    kube::Error::Api(Box::new(status))
}
