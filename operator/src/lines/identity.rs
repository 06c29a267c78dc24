//! Who asks: kube-apiserver, and for whom. Pure.
//!
//! kube-apiserver has found out who the caller is and tells it in headers. Whoever else could send those would be
//! anybody, so they are believed only over a connection with a certificate of the authority that is kept for this.

use std::collections::BTreeMap;

use http::HeaderMap;

/// How kube-apiserver shows itself and tells whom it speaks for: what it keeps in the `ConfigMap`
/// `kube-system/extension-apiserver-authentication`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrontProxy {
    /// Who signs its certificate, PEM.
    pub(crate) authority: String,
    /// The names that its certificate may have; none: any.
    names: Vec<String>,
    user_headers: Vec<String>,
    group_headers: Vec<String>,
    uid_headers: Vec<String>,
    extra_prefixes: Vec<String>,
}

/// Somebody whom kube-apiserver speaks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Caller {
    /// The name.
    pub(crate) user: String,
    /// Not told by old servers.
    pub(crate) uid: Option<String>,
    /// The groups.
    pub(crate) groups: Vec<String>,
    /// What an authenticator told besides.
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

/// Why a connection or a request is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stranger {
    /// No certificate: 401.
    #[error(
        "a client certificate of the API server's front proxy is required; ask the API server, not the operator"
    )]
    NoCertificate,
    /// Of the right authority, with another name: 403.
    #[error("the client certificate's name {0:?} is none of the API server's (requestheader-allowed-names)")]
    Name(String),
    /// Not told for whom: 401.
    #[error("the request does not say whom it is for")]
    NoUser,
}

impl FrontProxy {
    /// From the `ConfigMap`'s data; the error says what is wrong with it.
    pub(crate) fn read(data: &BTreeMap<String, String>) -> Result<Self, String> {
        let list = |key: &str| -> Result<Vec<String>, String> {
            let text = data.get(key).map_or("[]", String::as_str);
            serde_json::from_str(text).map_err(|error| format!("{key}: {error}"))
        };
        let file = "requestheader-client-ca-file";
        let authority = data.get(file).filter(|text| !text.trim().is_empty());
        let authority = authority.ok_or_else(|| {
            format!("{file} is absent: the API server runs without --requestheader-client-ca-file")
        })?;
        let names = list("requestheader-allowed-names")?;
        let clients = data.get("client-ca-file");
        if names.is_empty() && clients.is_some_and(|clients| clients.trim() == authority.trim()) {
            return Err("requestheader-client-ca-file signs the certificates of users too, and \
                        requestheader-allowed-names is empty: every user could pass for any other"
                .to_owned());
        }
        let user_headers = list("requestheader-username-headers")?;
        if user_headers.is_empty() {
            return Err("requestheader-username-headers is empty".to_owned());
        }
        Ok(Self {
            authority: authority.clone(),
            names,
            user_headers,
            group_headers: list("requestheader-group-headers")?,
            uid_headers: list("requestheader-uid-headers")?,
            extra_prefixes: list("requestheader-extra-headers-prefix")?,
        })
    }

    /// Whether a connection is kube-apiserver's: `name` is that of its certificate, which was found to be the authority's.
    pub(crate) fn admit(&self, name: Option<&str>) -> Result<(), Stranger> {
        let name = name.ok_or(Stranger::NoCertificate)?;
        if self.names.is_empty() || self.names.iter().any(|allowed| allowed == name) {
            return Ok(());
        }
        Err(Stranger::Name(name.to_owned()))
    }

    /// Whom a request is for.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Result<Caller, Stranger> {
        let all = |names: &[String]| -> Vec<String> {
            let values = names.iter().flat_map(|name| headers.get_all(name.as_str()));
            let texts = values.filter_map(|value| value.to_str().ok());
            texts.filter(|text| !text.is_empty()).map(str::to_owned).collect()
        };
        let user = all(&self.user_headers).into_iter().next().ok_or(Stranger::NoUser)?;
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            let key = self.extra_prefixes.iter().find_map(|prefix| {
                let prefix = prefix.to_ascii_lowercase();
                name.as_str().strip_prefix(&prefix).filter(|key| !key.is_empty())
            });
            if let (Some(key), Ok(value)) = (key, value.to_str()) {
                extra.entry(unescaped(key)).or_default().push(value.to_owned());
            }
        }
        let uid = all(&self.uid_headers).into_iter().next();
        Ok(Caller { user, uid, groups: all(&self.group_headers), extra })
    }
}

/// A key of an extra may hold what a header's name may not: `authentication.kubernetes.io%2fpod-name`.
fn unescaped(key: &str) -> String {
    let bytes = key.as_bytes();
    let mut text = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while let Some(&byte) = bytes.get(place) {
        let digits = key.get(place + 1..place + 3).filter(|_| byte == b'%');
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        text.push(escaped.unwrap_or(byte));
        place += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(changes: &[(&str, &str)]) -> BTreeMap<String, String> {
        let all = [
            ("client-ca-file", "CLIENTS"),
            ("requestheader-client-ca-file", "PROXY\n"),
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ];
        let all = all.iter().chain(changes);
        all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn the_api_server_alone_is_admitted() {
        let proxy = FrontProxy::read(&data(&[])).unwrap();
        assert_eq!(proxy.admit(Some("front-proxy-client")), Ok(()));
        assert_eq!(proxy.admit(None), Err(Stranger::NoCertificate));
        assert_eq!(proxy.admit(Some("tenant")), Err(Stranger::Name("tenant".to_owned())));
        let any = FrontProxy::read(&data(&[("requestheader-allowed-names", "[]")])).unwrap();
        assert_eq!(any.admit(Some("anybody")), Ok(()));
        assert_eq!(any.admit(None), Err(Stranger::NoCertificate));
    }

    #[test]
    fn the_caller_is_who_the_headers_say() {
        let proxy = FrontProxy::read(&data(&[])).unwrap();
        let caller = proxy.caller(&headers(&[
            ("x-remote-user", "tenant"),
            ("x-remote-group", "shop"),
            ("x-remote-group", "system:authenticated"),
            ("x-remote-extra-authentication.kubernetes.io%2fpod-name", "p"),
            ("x-remote-uid", "u"),
        ]));
        let caller = caller.unwrap();
        assert_eq!((caller.user.as_str(), caller.uid), ("tenant", None));
        assert_eq!(caller.groups, ["shop", "system:authenticated"]);
        assert_eq!(caller.extra["authentication.kubernetes.io/pod-name"], ["p"]);
        assert_eq!(proxy.caller(&headers(&[("x-remote-group", "g")])), Err(Stranger::NoUser));
        assert_eq!(proxy.caller(&headers(&[("x-remote-user", "")])), Err(Stranger::NoUser));
    }

    #[test]
    fn what_would_let_anybody_pass_for_another_is_refused() {
        let same = [("client-ca-file", "PROXY"), ("requestheader-allowed-names", "[]")];
        assert!(FrontProxy::read(&data(&same)).unwrap_err().contains("pass for any other"));
        assert!(FrontProxy::read(&data(&same[..1])).is_ok(), "the names tell users and API server apart");
        for (key, value, reason) in [
            ("requestheader-client-ca-file", "", "is absent"),
            ("requestheader-username-headers", "[]", "is empty"),
            ("requestheader-allowed-names", "x", "requestheader-allowed-names: "),
        ] {
            assert!(FrontProxy::read(&data(&[(key, value)])).unwrap_err().contains(reason), "{key}");
        }
    }
}
