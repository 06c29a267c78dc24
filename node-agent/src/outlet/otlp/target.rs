//! Where logs go and how: options and the environment variables that OpenTelemetry has for exporters
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).

use std::path::PathBuf;
use std::time::Duration;

/// The path of logs behind a base URL.
const PATH: &str = "/v1/logs";
/// A request takes no longer, unless the environment says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct OtlpTarget {
    /// Where requests are posted.
    pub url: String,
    /// Sent with each.
    pub headers: Vec<(String, String)>,
    /// Bodies are compressed.
    pub gzip: bool,
    /// A request takes no longer.
    pub timeout: Duration,
    /// PEM file of the authorities to believe; `None` for those of Mozilla's list.
    pub certificate: Option<PathBuf>,
    /// PEM files of the certificate to show and of its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Bytes that may wait.
    pub queue_bytes: usize,
}

/// Headers hold secrets.
impl std::fmt::Debug for OtlpTarget {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("OtlpTarget").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Makes the target of the option (`endpoint`) and of variables, which `variable` reads. `None`: neither names an
/// endpoint. Headers of the file (`NAME: VALUE` lines) come after those of the variables, and win.
pub fn from_environment(
    endpoint: Option<&str>,
    headers_file: Option<&str>,
    queue_bytes: usize,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<OtlpTarget>, String> {
    // A variable that is set to nothing is as good as absent.
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let either = |name: &str| {
        set(&format!("OTEL_EXPORTER_OTLP_LOGS_{name}")).or_else(|| set(&format!("OTEL_EXPORTER_OTLP_{name}")))
    };
    let url = match endpoint {
        Some(base) => with_path(base),
        None => match (set("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"), set("OTEL_EXPORTER_OTLP_ENDPOINT")) {
            (Some(url), _) => url,
            (None, Some(base)) => with_path(&base),
            (None, None) => return Ok(None),
        },
    };
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(format!("--otlp-endpoint {url:?}: give a URL that begins with http:// or https://"));
    }
    if let Some(protocol) = either("PROTOCOL").filter(|protocol| protocol != "http/protobuf") {
        return Err(format!(
            "OTEL_EXPORTER_OTLP_PROTOCOL={protocol}: only http/protobuf is spoken here; collectors take it at port 4318"
        ));
    }
    let mut headers = either("HEADERS").map_or_else(|| Ok(Vec::new()), |text| of_variable(&text))?;
    headers.extend(of_file(headers_file.unwrap_or_default())?);
    let gzip = match either("COMPRESSION").as_deref() {
        None | Some("gzip") => true,
        Some("none") => false,
        Some(other) => {
            return Err(format!("OTEL_EXPORTER_OTLP_COMPRESSION={other}: known are gzip and none"));
        }
    };
    let timeout = match either("TIMEOUT") {
        None => TIMEOUT,
        Some(text) => text
            .parse()
            .map(Duration::from_millis)
            .ok()
            .filter(|timeout| !timeout.is_zero())
            .ok_or_else(|| format!("OTEL_EXPORTER_OTLP_TIMEOUT={text}: give milliseconds"))?,
    };
    let client = match (either("CLIENT_CERTIFICATE"), either("CLIENT_KEY")) {
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        (None, None) => None,
        _ => {
            return Err(
                "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and _CLIENT_KEY: set both or neither".to_owned()
            );
        }
    };
    let certificate = either("CERTIFICATE").map(PathBuf::from);
    Ok(Some(OtlpTarget { url, headers, gzip, timeout, certificate, client, queue_bytes }))
}

fn with_path(base: &str) -> String {
    if base.ends_with(PATH) { base.to_owned() } else { format!("{}{PATH}", base.trim_end_matches('/')) }
}

/// `name=value,name=value`, values percent-encoded.
fn of_variable(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        Some((name.trim().to_owned(), percent_decoded(value.trim())?))
    };
    text.split(',')
        .filter(|text| !text.trim().is_empty())
        .map(|text| {
            pair(text).ok_or_else(|| "OTEL_EXPORTER_OTLP_HEADERS: give NAME=VALUE,NAME=VALUE".to_owned())
        })
        .collect()
}

/// A header a line, `NAME: VALUE`.
fn of_file(text: &str) -> Result<Vec<(String, String)>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let pair =
                line.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
            // The line itself may be a secret.
            pair.ok_or_else(|| format!("--otlp-headers-file: line {}: give NAME: VALUE", number + 1))
        })
        .collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{OtlpTarget, from_environment};

    fn target(
        endpoint: Option<&str>,
        file: &str,
        set: &[(&str, &str)],
    ) -> Result<Option<OtlpTarget>, String> {
        let variable = |name: &str| {
            let (_, value) = set.iter().find(|(known, _)| *known == name)?;
            Some((*value).to_owned())
        };
        from_environment(endpoint, Some(file), 1, variable)
    }

    #[test]
    fn a_base_gets_the_path_of_logs_and_the_variable_for_logs_is_taken_as_it_is() {
        let url = |endpoint, set: &[_]| target(endpoint, "", set).unwrap().map(|target| target.url);
        let logs = "http://a:4318/v1/logs".to_owned();
        assert_eq!(url(Some("http://a:4318"), &[]), Some(logs.clone()));
        assert_eq!(url(Some("http://a:4318/"), &[]), Some(logs.clone()));
        assert_eq!(url(Some("http://a:4318/v1/logs"), &[]), Some(logs.clone()));
        assert_eq!(url(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318")]), Some(logs));
        let both = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://b/in"),
        ];
        assert_eq!(url(None, &both), Some("https://b/in".to_owned()));
        assert_eq!(url(None, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), None);
    }

    #[test]
    fn headers_of_variable_and_file_go_together() {
        let set = [("OTEL_EXPORTER_OTLP_HEADERS", "a=b%20c, d=e=f")];
        let target = target(Some("http://a"), "authorization: Bearer x:y\n\n", &set).unwrap().unwrap();
        let headers: Vec<_> = target.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(headers, [("a", "b c"), ("d", "e=f"), ("authorization", "Bearer x:y")]);
        assert!(!format!("{target:?}").contains("Bearer"), "a secret would stand in a log");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |endpoint, file, set: &[_]| target(Some(endpoint), file, set).unwrap_err();
        assert!(wrong("a:4318", "", &[]).contains("http://"));
        assert!(wrong("http://a", "", &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).contains("http/protobuf"));
        assert!(wrong("http://a", "", &[("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd")]).contains("gzip"));
        assert!(wrong("http://a", "", &[("OTEL_EXPORTER_OTLP_TIMEOUT", "10s")]).contains("milliseconds"));
        assert!(wrong("http://a", "", &[("OTEL_EXPORTER_OTLP_HEADERS", "a")]).contains("NAME=VALUE"));
        assert!(wrong("http://a", "", &[("OTEL_EXPORTER_OTLP_CLIENT_KEY", "k")]).contains("both"));
        let secret = wrong("http://a", "ok: 1\ntoken-without-a-name", &[]);
        assert!(secret.contains("line 2") && !secret.contains("token"), "{secret}");
    }

    #[test]
    fn the_variable_for_logs_comes_before_the_one_for_all() {
        let set = [
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
            ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "2500"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
        ];
        let target = target(Some("http://a"), "", &set).unwrap().unwrap();
        assert_eq!((target.timeout, target.gzip), (Duration::from_millis(2500), false));
    }
}
