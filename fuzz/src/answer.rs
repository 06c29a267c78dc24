//! What an OpenTelemetry endpoint answers.

use http::{HeaderMap, HeaderValue, StatusCode};
use kube_tcpstates::outlet::{Verdict, verdict};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use prost::Message as _;

/// A status in two bytes, the text of `retry-after` up to a NUL, a body. True: it was an HTTP status.
pub fn read(bytes: &[u8]) -> bool {
    let Some((status, rest)) = bytes.split_at_checked(2) else { return false };
    let status = u16::from_le_bytes([status[0], status[1]]);
    let Ok(status) = StatusCode::from_u16(status) else { return false };
    let (after, body) = rest.split_at(rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len()));
    let mut headers = HeaderMap::new();
    if let Ok(after) = HeaderValue::from_bytes(after) {
        headers.insert("retry-after", after);
    }
    match verdict(status, &headers, body.get(1..).unwrap_or_default()) {
        Verdict::Arrived { .. } => assert!(status.is_success()),
        Verdict::Again { .. } => assert!(matches!(status.as_u16(), 429 | 502 | 503 | 504)),
        Verdict::Refused { why } => assert!(why.len() < 300 && !status.is_success()),
    }
    true
}

/// One that took all but three, one that is busy.
pub fn seeds() -> Vec<Vec<u8>> {
    let partial = ExportLogsPartialSuccess { rejected_log_records: 3, error_message: "no".to_owned() };
    let answer = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let seed = |status: u16, after: &[u8], body: &[u8]| [&status.to_le_bytes(), after, b"\0", body].concat();
    vec![seed(200, b"", &answer), seed(429, b"7", b"slow down"), seed(400, b"", b"bad\n")]
}
