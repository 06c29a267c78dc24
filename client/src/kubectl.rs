//! Who a person is to the API server, by kubectl's own rules: its flags, the list of files in KUBECONFIG, the file in the
//! home directory, and in a pod its service account.
//!
//! No gate: a person makes few requests, waits for each answer, and says himself how long.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderValue, header::USER_AGENT};
use kube::client::{Client, ClientBuilder};
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};

use crate::connection::{ClientError, require_address, require_ca_certificates};
use crate::flagged::Direct;

/// A server may be at the other end of the world.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// kubectl's flags that say where the server is and who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubectlFlags {
    /// `--kubeconfig`
    pub kubeconfig: Option<PathBuf>,
    /// `--context`
    pub context: Option<String>,
    /// `--cluster`
    pub cluster: Option<String>,
    /// `--user`
    pub user: Option<String>,
    /// `--namespace`
    pub namespace: Option<String>,
    /// `--as`
    pub as_user: Option<String>,
    /// `--as-group`
    pub as_groups: Vec<String>,
    /// Those that name server and caller themselves.
    pub direct: Direct,
}

/// A connection that is not made yet, and where its user is.
#[derive(Clone)]
pub struct Person {
    /// To the API server.
    pub client: Client,
    /// What is spoken of when no other is named.
    pub namespace: String,
    /// The server.
    pub url: String,
}

/// Where the configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// These files, the first of which counts most.
    Files(Vec<PathBuf>),
    /// There is none.
    Pod,
}

impl KubectlFlags {
    /// Who these flags say.
    pub async fn person(&self, user_agent: &'static str) -> Result<Person, ClientError> {
        let home = std::env::home_dir().map(|home| home.join(".kube/config"));
        let origin = origin(
            self.kubeconfig.as_deref(),
            std::env::var_os("KUBECONFIG").as_deref(),
            home,
            &Path::exists,
        );
        let (mut config, from) = match &origin {
            Origin::Files(files) => (self.read(files).await?, shown(files)),
            Origin::Pod if self.direct.server.is_some() => (self.read(&[]).await?, "the flags".to_owned()),
            Origin::Pod if !self.direct.is_empty() => return Err(ClientError::NoKubeconfig),
            Origin::Pod => (
                Config::incluster().map_err(|_| ClientError::NoKubeconfig)?,
                "the pod's service account".to_owned(),
            ),
        };
        require_address(&mut config, &from)?;
        require_ca_certificates(&config, &from)?;
        config.connect_timeout = Some(CONNECT_WITHIN);
        // A stream of lines may be silent for as long as nothing happens.
        config.read_timeout = None;
        config.default_retry = false;
        config.headers.push((USER_AGENT, HeaderValue::from_static(user_agent)));
        if self.as_user.is_some() {
            config.auth_info.impersonate.clone_from(&self.as_user);
            config.auth_info.impersonate_groups =
                Some(self.as_groups.clone()).filter(|groups| !groups.is_empty());
        }
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let url = config.cluster_url.to_string();
        let client = ClientBuilder::try_from(config);
        let client = client.map_err(|error| ClientError::build(url.clone(), &error))?.build();
        Ok(Person { client, namespace, url })
    }

    async fn read(&self, files: &[PathBuf]) -> Result<Config, ClientError> {
        let wrong = |error| ClientError::kubeconfig(shown(files), &error);
        let options = KubeConfigOptions {
            context: self.context.clone(),
            cluster: self.cluster.clone(),
            user: self.user.clone(),
        };
        let kubeconfig = merged(files).map_err(wrong)?;
        let (kubeconfig, options) = if self.direct.is_empty() {
            (kubeconfig, options)
        } else {
            self.direct.apply(kubeconfig, &options)
        };
        Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(wrong)
    }
}

/// The flag alone, else every file of the variable that is there, else the file in the home directory if that is there.
fn origin(
    flag: Option<&Path>,
    variable: Option<&OsStr>,
    home: Option<PathBuf>,
    exists: &dyn Fn(&Path) -> bool,
) -> Origin {
    if let Some(flag) = flag {
        return Origin::Files(vec![flag.to_owned()]);
    }
    let listed: Vec<PathBuf> = variable.into_iter().flat_map(std::env::split_paths).collect();
    let mut files = if listed.iter().all(|path| path.as_os_str().is_empty()) {
        home.into_iter().collect()
    } else {
        listed
    };
    files.retain(|path| !path.as_os_str().is_empty() && exists(path));
    if files.is_empty() { Origin::Pod } else { Origin::Files(files) }
}

fn merged(files: &[PathBuf]) -> Result<Kubeconfig, KubeconfigError> {
    files.iter().try_fold(Kubeconfig::default(), |before, path| before.merge(Kubeconfig::read_from(path)?))
}

fn shown(files: &[PathBuf]) -> String {
    files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(flag: Option<&str>, variable: Option<&str>) -> Origin {
        origin(flag.map(Path::new), variable.map(OsStr::new), Some("/home/config".into()), &|path| {
            path != "/missing"
        })
    }

    #[test]
    fn the_flag_counts_before_the_variable_and_that_before_the_home_directory() {
        let files = |paths: &[&str]| Origin::Files(paths.iter().map(PathBuf::from).collect());
        assert_eq!(of(Some("/missing"), Some("/a:/b")), files(&["/missing"]));
        assert_eq!(of(None, Some("/a:/missing::/b")), files(&["/a", "/b"]));
        assert_eq!(of(None, Some("")), files(&["/home/config"]));
        assert_eq!(of(None, None), files(&["/home/config"]));
        assert_eq!(of(None, Some("/missing")), Origin::Pod);
    }

    const FIRST: &str = "apiVersion: v1\nkind: Config\ncurrent-context: one\n\
        contexts: [{name: one, context: {cluster: c, user: u, namespace: shop}}]\n";
    const SECOND: &str = "apiVersion: v1\nkind: Config\ncurrent-context: two\n\
        clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\nusers: [{name: u, user: {}}]\n\
        contexts: [{name: two, context: {cluster: c, user: u}}]\n";

    #[tokio::test]
    async fn files_add_to_each_other_and_the_first_says_which_context() {
        let directory = tempfile::tempdir().unwrap();
        let files = [("first", FIRST), ("second", SECOND)].map(|(name, text)| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        });
        let flags = KubectlFlags::default();
        let config = flags.read(&files).await.unwrap();
        assert_eq!((config.default_namespace.as_str(), config.cluster_url.port_u16()), ("shop", Some(1)));
        let flags = KubectlFlags { context: Some("two".to_owned()), ..flags };
        assert_eq!(flags.read(&files).await.unwrap().default_namespace, "default");
        let flags = KubectlFlags { context: Some("three".to_owned()), ..flags };
        let error = flags.read(&files[..1]).await.unwrap_err().to_string();
        assert!(error.contains("first") && error.contains("three"), "{error}");
    }

    #[tokio::test]
    async fn the_namespace_of_the_flags_counts_before_that_of_the_context() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), SECOND).unwrap();
        let flags = KubectlFlags {
            kubeconfig: Some(file.path().to_owned()),
            namespace: Some("till".to_owned()),
            ..KubectlFlags::default()
        };
        let person = flags.person("test").await.unwrap();
        assert_eq!((person.namespace.as_str(), person.url.as_str()), ("till", "http://127.0.0.1:1/"));
    }
}
