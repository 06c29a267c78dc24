//! What is asked for: a path and its query become a request, or the reason why not. Pure.

use std::fmt;
use std::time::Duration;

/// The group of this API.
pub(crate) const GROUP: &str = "lines.tcpstates.dev";
/// Its version.
pub(crate) const VERSION: &str = "v1alpha1";
/// A month. No log of an agent goes back so far.
const SINCE_AT_MOST_S: u64 = 2_592_000;
const LIMIT_AT_MOST: u64 = 1_000_000;

/// A trace, by its name on the agents' lines.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Trace {
    /// None: a cluster trace.
    pub namespace: Option<String>,
    /// In its namespace, or in the cluster.
    pub name: String,
}

impl Trace {
    /// As kinds are called in paths and in rights.
    pub fn plural(&self) -> &'static str {
        if self.namespace.is_some() { "tcpstatetraces" } else { "clustertcpstatetraces" }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(formatter, "{namespace}/{}", self.name),
            None => formatter.write_str(&self.name),
        }
    }
}

/// Two names of the same lines. The API server ends each request after a minute (its --request-timeout), but for those
/// to a subresource called `log`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subresource {
    /// For a look at what there is.
    Lines,
    /// For as long as somebody reads.
    Log,
}

impl Subresource {
    /// In paths and in rights.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Log => "log",
        }
    }
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Whether this program works.
    Health,
    /// Every group.
    Groups,
    /// The group.
    Group,
    /// The resources of the version.
    Resources,
    /// The schema of the API, version 2.
    OpenApi2,
    /// The schema of the API, version 3.
    OpenApi3,
    /// Lines of a trace.
    Lines(Trace, Subresource),
}

impl Place {
    /// Where a path leads; None: nowhere.
    pub fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix('/')?.trim_end_matches('/').split('/').collect();
        let rest = match parts.as_slice() {
            ["healthz" | "livez" | "readyz"] => return Some(Self::Health),
            ["apis"] => return Some(Self::Groups),
            ["apis", GROUP] => return Some(Self::Group),
            ["apis", GROUP, VERSION] => return Some(Self::Resources),
            ["openapi", "v2"] => return Some(Self::OpenApi2),
            ["openapi", "v3"] => return Some(Self::OpenApi3),
            ["apis", GROUP, VERSION, rest @ ..] => rest,
            _ => return None,
        };
        let (namespace, name, subresource) = match rest {
            ["namespaces", namespace, "tcpstatetraces", name, subresource] => {
                (Some(*namespace), *name, *subresource)
            }
            ["clustertcpstatetraces", name, subresource] => (None, *name, *subresource),
            _ => return None,
        };
        let subresource = match subresource {
            "lines" => Subresource::Lines,
            "log" => Subresource::Log,
            _ => return None,
        };
        if !is_name(name) || !namespace.is_none_or(is_name) {
            return None;
        }
        Some(Self::Lines(
            Trace { namespace: namespace.map(str::to_owned), name: name.to_owned() },
            subresource,
        ))
    }
}

/// Whether an object may be called so. On a line such a name needs no escape, so its text can be looked for.
fn is_name(text: &str) -> bool {
    let may_stand =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(may_stand)
}

/// Which of a trace's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Those to come as well.
    pub follow: bool,
    /// None older than this.
    pub since: Option<Duration>,
    /// At most so many, the oldest.
    pub limit: Option<u64>,
}

impl Query {
    /// From the text behind the `?`; the error says which parameter is wrong and what it may be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut query = Self::default();
        let mut seen = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if seen.contains(&name) {
                return Err(format!("{}: given twice", shown(name)));
            }
            seen.push(name);
            match name {
                "follow" => query.follow = flag(name, value)?,
                "sinceSeconds" => {
                    query.since = Some(Duration::from_secs(number(name, value, SINCE_AT_MOST_S)?));
                }
                "limit" => query.limit = Some(number(name, value, LIMIT_AT_MOST)?),
                // kubectl's own --request-timeout, which it tells every server.
                "timeout" => {}
                _ => {
                    return Err(format!(
                        "{}: no such parameter; there are follow, sinceSeconds and limit",
                        shown(name)
                    ));
                }
            }
        }
        Ok(query)
    }
}

fn flag(name: &str, value: &str) -> Result<bool, String> {
    match value {
        // Named without a value is yes, as kubectl's own flags are.
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{name}: {}: it is true or false", shown(value))),
    }
}

fn number(name: &str, value: &str, most: u64) -> Result<u64, String> {
    let number = value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok()).flatten();
    number
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| format!("{name}: {}: it is a whole number from 1 to {most}", shown(value)))
}

/// As it may stand in an answer: quoted, and no longer than a line.
fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(64).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(namespace: Option<&str>, name: &str, subresource: Subresource) -> Place {
        Place::Lines(Trace { namespace: namespace.map(str::to_owned), name: name.to_owned() }, subresource)
    }

    #[test]
    fn a_path_leads_to_one_place_or_to_none() {
        let base = "/apis/lines.tcpstates.dev/v1alpha1";
        for (path, place) in [
            ("/healthz".to_owned(), Some(Place::Health)),
            ("/apis".to_owned(), Some(Place::Groups)),
            ("/apis/lines.tcpstates.dev/".to_owned(), Some(Place::Group)),
            (base.to_owned(), Some(Place::Resources)),
            (
                format!("{base}/namespaces/shop/tcpstatetraces/a.b-1/lines"),
                Some(lines(Some("shop"), "a.b-1", Subresource::Lines)),
            ),
            (
                format!("{base}/namespaces/shop/tcpstatetraces/a/log"),
                Some(lines(Some("shop"), "a", Subresource::Log)),
            ),
            (format!("{base}/clustertcpstatetraces/a/lines"), Some(lines(None, "a", Subresource::Lines))),
            (format!("{base}/namespaces/shop/tcpstatetraces/a"), None),
            (format!("{base}/namespaces/shop/tcpstatetraces/a/status"), None),
            (format!("{base}/namespaces/shop/clustertcpstatetraces/a/lines"), None),
            (format!("{base}/namespaces/sh%6fp/tcpstatetraces/a/lines"), None),
            (format!("{base}/namespaces//tcpstatetraces/a/lines"), None),
            (format!("{base}/namespaces/shop/tcpstatetraces/a\"b/lines"), None),
            ("/apis/tcpstates.dev/v1alpha1/tcpstatetraces".to_owned(), None),
            ("/".to_owned(), None),
        ] {
            assert_eq!(Place::of(&path), place, "{path}");
        }
    }

    #[test]
    fn parameters_are_read() {
        assert_eq!(Query::parse(""), Ok(Query::default()));
        let all = Query { follow: true, since: Some(Duration::from_mins(5)), limit: Some(5) };
        assert_eq!(Query::parse("follow=true&sinceSeconds=300&limit=5&timeout=3s"), Ok(all));
        assert_eq!(Query::parse("follow").map(|query| query.follow), Ok(true));
        assert_eq!(Query::parse("follow=0").map(|query| query.follow), Ok(false));
    }

    #[test]
    fn a_bad_parameter_is_named_with_what_it_may_be() {
        for (query, reason) in [
            ("follow=maybe", r#"follow: "maybe": it is true or false"#),
            ("sinceSeconds=0", r#"sinceSeconds: "0": it is a whole number from 1 to 2592000"#),
            ("sinceSeconds=5m", r#"sinceSeconds: "5m": it is a whole number from 1 to 2592000"#),
            ("limit=-1", r#"limit: "-1": it is a whole number from 1 to 1000000"#),
            ("limit=", r#"limit: "": it is a whole number from 1 to 1000000"#),
            (
                "limit=99999999999999999999",
                r#"limit: "99999999999999999999": it is a whole number from 1 to 1000000"#,
            ),
            ("limit=1&limit=2", r#""limit": given twice"#),
            ("tail=1", r#""tail": no such parameter; there are follow, sinceSeconds and limit"#),
        ] {
            assert_eq!(Query::parse(query).unwrap_err(), reason);
        }
    }
}
