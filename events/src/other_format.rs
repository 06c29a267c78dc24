//! What whoever reads these lines meets where the agent was told to write something else.

/// The `--output` of a line of kube-tcpstates in another format than `json`, by how it begins; `None` for any other text.
pub fn other_format(line: &str) -> Option<&'static str> {
    if line.starts_with(r#"{"@timestamp":""#) && line.contains(r#""tcpstates":{"#) {
        Some("ecs")
    } else if line.starts_with(r#"{"resourceLogs":["#) && line.contains(r#""tcpstates."#) {
        Some("otlp-json")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::other_format;

    #[test]
    fn only_what_is_ours_is_known() {
        for (line, format) in [
            (
                r#"{"@timestamp":"2026-11-27T01:23:30Z","ecs":{"version":"9.4.0"},"tcpstates":{"seq":1}}"#,
                Some("ecs"),
            ),
            (
                r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"eventName":"tcpstates.start"}]}]}]}"#,
                Some("otlp-json"),
            ),
            (r#"{"time":"2026-11-27T01:23:30Z","tcpstates":{"type":"start"}}"#, None),
            (r#"{"@timestamp":"2026-11-27T01:23:30Z","message":"another's"}"#, None),
            ("", None),
        ] {
            assert_eq!(other_format(line), format, "{line}");
        }
    }
}
