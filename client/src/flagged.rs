//! kubectl's flags that name the server and the caller themselves. They become a cluster, a user and a context of the
//! kubeconfig, made of those that count otherwise.

use std::{fmt, path::PathBuf};

use kube::config::{
    AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};

/// What they are called in the kubeconfig; nobody sees it.
const NAME: &str = "kube-tcpstates-flags";

/// The flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Direct {
    /// `--server`
    pub server: Option<String>,
    /// `--certificate-authority`
    pub certificate_authority: Option<PathBuf>,
    /// `--tls-server-name`
    pub tls_server_name: Option<String>,
    /// `--insecure-skip-tls-verify`
    pub insecure_skip_tls_verify: bool,
    /// `--token`
    pub token: Option<Token>,
}

/// A bearer token; it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}

impl From<String> for Token {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Direct {
    /// Whether none is there.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The kubeconfig with these flags, and how to get at them. `options` are the flags that choose in it.
    pub(crate) fn apply(
        &self,
        mut kubeconfig: Kubeconfig,
        options: &KubeConfigOptions,
    ) -> (Kubeconfig, KubeConfigOptions) {
        let chosen = options.context.as_ref().or(kubeconfig.current_context.as_ref());
        let context = chosen.and_then(|chosen| {
            kubeconfig.contexts.iter().find(|named| named.name == *chosen)?.context.clone()
        });
        // A context that was named and is not there is an error, whatever else is said.
        if context.is_none() && options.context.is_some() {
            return (kubeconfig, options.clone());
        }
        let context = context.unwrap_or_default();
        let cluster = options.cluster.as_ref().unwrap_or(&context.cluster);
        let cluster = kubeconfig.clusters.iter().find(|named| named.name == *cluster);
        let user = options.user.as_ref().or(context.user.as_ref());
        let user = user.and_then(|user| kubeconfig.auth_infos.iter().find(|named| named.name == *user));
        let cluster = self.cluster(cluster.and_then(|named| named.cluster.clone()).unwrap_or_default());
        let user = self.user(user.and_then(|named| named.auth_info.clone()).unwrap_or_default());
        let name = || NAME.to_owned();
        let context = Context { cluster: name(), user: Some(name()), ..context };
        kubeconfig.clusters.push(NamedCluster {
            name: name(),
            cluster: Some(cluster),
            ..NamedCluster::default()
        });
        kubeconfig.auth_infos.push(NamedAuthInfo {
            name: name(),
            auth_info: Some(user),
            ..NamedAuthInfo::default()
        });
        kubeconfig.contexts.push(NamedContext {
            name: name(),
            context: Some(context),
            ..NamedContext::default()
        });
        (kubeconfig, KubeConfigOptions { context: Some(name()), cluster: None, user: None })
    }

    fn cluster(&self, mut cluster: Cluster) -> Cluster {
        if let Some(server) = &self.server {
            cluster.server = Some(server.clone());
            // It was the other server's.
            cluster.tls_server_name = None;
        }
        if let Some(file) = &self.certificate_authority {
            cluster.certificate_authority = Some(file.display().to_string());
            cluster.certificate_authority_data = None;
        }
        if let Some(name) = &self.tls_server_name {
            cluster.tls_server_name = Some(name.clone());
        }
        if self.insecure_skip_tls_verify {
            cluster.insecure_skip_tls_verify = Some(true);
            cluster.certificate_authority = None;
            cluster.certificate_authority_data = None;
        }
        cluster
    }

    fn user(&self, user: AuthInfo) -> AuthInfo {
        match &self.token {
            Some(token) => AuthInfo {
                token: Some(token.0.clone().into()),
                impersonate: user.impersonate,
                impersonate_groups: user.impersonate_groups,
                ..AuthInfo::default()
            },
            None => user,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::config::{Config, KubeConfigOptions, Kubeconfig};

    use super::{Direct, Token};

    const FILE: &str = "apiVersion: v1\nkind: Config\ncurrent-context: one\n\
        clusters: [{name: c, cluster: {server: 'https://10.0.0.1:6443', tls-server-name: api, \
            insecure-skip-tls-verify: true}}]\n\
        users: [{name: u, user: {username: anna, password: secret}}]\n\
        contexts: [{name: one, context: {cluster: c, user: u, namespace: shop}}]\n";

    async fn config(file: &str, direct: Direct, context: Option<&str>) -> Result<Config, String> {
        let options =
            KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
        let (kubeconfig, options) = direct.apply(Kubeconfig::from_yaml(file).unwrap(), &options);
        Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| error.to_string())
    }

    fn token(text: &str) -> Token {
        text.to_owned().into()
    }

    #[tokio::test]
    async fn what_is_not_said_is_as_the_context_has_it() {
        let direct = Direct { token: Some(token("t0")), ..Direct::default() };
        let found = config(FILE, direct, None).await.unwrap();
        assert_eq!(found.cluster_url.host(), Some("10.0.0.1"));
        assert_eq!(
            (found.default_namespace.as_str(), found.tls_server_name.as_deref()),
            ("shop", Some("api"))
        );
        assert!(found.auth_info.token.is_some() && found.auth_info.username.is_none());

        let direct = Direct { server: Some("https://10.0.0.2:1".to_owned()), ..Direct::default() };
        let found = config(FILE, direct, None).await.unwrap();
        assert_eq!((found.cluster_url.host(), found.tls_server_name), (Some("10.0.0.2"), None));
        assert_eq!(found.auth_info.username.as_deref(), Some("anna"));
    }

    #[tokio::test]
    async fn a_server_and_a_token_are_enough() {
        let direct = Direct {
            server: Some("https://10.0.0.2:1".to_owned()),
            tls_server_name: Some("kubernetes".to_owned()),
            insecure_skip_tls_verify: true,
            token: Some(token("t0")),
            ..Direct::default()
        };
        let found = config("{}", direct.clone(), None).await.unwrap();
        assert_eq!((found.cluster_url.port_u16(), found.default_namespace.as_str()), (Some(1), "default"));
        assert!(found.accept_invalid_certs && found.tls_server_name.as_deref() == Some("kubernetes"));
        let error = config(FILE, direct, Some("two")).await.unwrap_err();
        assert!(error.contains("two"), "a context that is named must be there: {error}");
    }

    #[tokio::test]
    async fn a_certificate_that_cannot_be_read_is_named() {
        let direct = Direct { certificate_authority: Some("/there/is/no.crt".into()), ..Direct::default() };
        let error = config(FILE, direct, None).await.map(drop);
        assert!(error.is_err_and(|error| error.contains("/there/is/no.crt")));
    }

    #[test]
    fn a_token_is_not_shown() {
        let direct = Direct { token: Some(token("geheim")), ..Direct::default() };
        assert!(!format!("{direct:?}").contains("geheim"));
    }
}
