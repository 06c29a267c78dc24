//! The name of a trace, of a namespace or of the cluster. Pure.

use std::fmt;
use std::str::FromStr;

use kube_tcpstates_crds::{GROUP, VERSION};

/// Which trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TraceName {
    /// None: a `ClusterTcpStateTrace`.
    pub(crate) namespace: Option<String>,
    /// In its namespace, or in the cluster.
    pub(crate) name: String,
}

impl FromStr for TraceName {
    type Err = String;

    /// `NAME`, `tst/NAME` or `ctst/NAME`; the namespace is to be told.
    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once('/').unwrap_or(("tst", text));
        let namespace = match kind.to_ascii_lowercase().as_str() {
            "tst" | "tcpstatetrace" | "tcpstatetraces" => Some(String::new()),
            "ctst" | "clustertcpstatetrace" | "clustertcpstatetraces" => None,
            _ => return Err(format!("{text}: a trace is called NAME, or ctst/NAME if it is of the cluster")),
        };
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(format!("{text}: no trace can be called {name:?}"));
        }
        Ok(Self { namespace, name: name.to_owned() })
    }
}

impl TraceName {
    /// The same in this namespace, unless it is of the cluster.
    pub(crate) fn within(mut self, namespace: &str) -> Self {
        if let Some(mine) = &mut self.namespace {
            namespace.clone_into(mine);
        }
        self
    }

    /// Where it is in the API.
    pub(crate) fn path(&self) -> String {
        format!("/apis/{GROUP}/{VERSION}{}", self.tail())
    }

    /// Where its lines are, under one of their two names.
    pub(crate) fn lines_path(&self, subresource: &str) -> String {
        format!("/apis/lines.{GROUP}/{VERSION}{}/{subresource}", self.tail())
    }

    fn tail(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("/namespaces/{namespace}/tcpstatetraces/{}", self.name),
            None => format!("/clustertcpstatetraces/{}", self.name),
        }
    }
}

/// As it stands on lines.
impl fmt::Display for TraceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(formatter, "{namespace}/{}", self.name),
            None => formatter.write_str(&self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_of_the_namespace_unless_it_says_otherwise() {
        let of = |text: &str| text.parse::<TraceName>().map(|name| name.within("shop"));
        for (text, shown, path) in [
            ("a", "shop/a", "/apis/tcpstates.dev/v1alpha1/namespaces/shop/tcpstatetraces/a"),
            ("tst/a", "shop/a", "/apis/tcpstates.dev/v1alpha1/namespaces/shop/tcpstatetraces/a"),
            ("ctst/a", "a", "/apis/tcpstates.dev/v1alpha1/clustertcpstatetraces/a"),
        ] {
            let name = of(text).unwrap();
            assert_eq!((name.to_string().as_str(), name.path().as_str()), (shown, path));
        }
        assert_eq!(
            of("ctst/a").unwrap().lines_path("log"),
            "/apis/lines.tcpstates.dev/v1alpha1/clustertcpstatetraces/a/log"
        );
        for text in ["", "deploy/a", "shop/a", "tst/A", "../a"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
