//! The classic tracepoint's record: its layout is not fixed, so it is read from the `format` file.

use std::path::{Path, PathBuf};

use kube_tcpstates_common::offsets::ClassicOffsets;

/// Where tracefs may be mounted.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Why the layout is not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum FormatError {
    /// No readable file.
    #[error(
        "reading {path}: {source}; the classic tracepoint needs tracefs mounted and readable \
         (it is mode 0700: root, or CAP_DAC_READ_SEARCH)"
    )]
    Read {
        /// Which file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A field the program needs is not described.
    #[error("the tracepoint's format file has no field `{0}`")]
    Field(&'static str),
}

/// Reads the format file of `sock:inet_sock_set_state`.
pub(super) fn read() -> Result<ClassicOffsets, FormatError> {
    let candidates = TRACEFS.map(|root| Path::new(root).join("events/sock/inet_sock_set_state/format"));
    let path: PathBuf =
        candidates.iter().find(|path| std::fs::metadata(path).is_ok()).unwrap_or(&candidates[0]).clone();
    let text = std::fs::read_to_string(&path)
        .map_err(|source| FormatError::Read { path: path.display().to_string(), source })?;
    parse(&text)
}

/// Takes the offsets out of a format file's text.
pub(super) fn parse(text: &str) -> Result<ClassicOffsets, FormatError> {
    let at = |name| field(text, name).map(|(offset, _)| offset).ok_or(FormatError::Field(name));
    let (protocol, protocol_size) = field(text, "protocol").ok_or(FormatError::Field("protocol"))?;
    Ok(ClassicOffsets {
        socket: at("skaddr")?,
        old_state: at("oldstate")?,
        new_state: at("newstate")?,
        local_port: at("sport")?,
        peer_port: at("dport")?,
        family: at("family")?,
        protocol,
        protocol_size,
        local_v4: at("saddr")?,
        peer_v4: at("daddr")?,
        local_v6: at("saddr_v6")?,
        peer_v6: at("daddr_v6")?,
    })
}

/// Offset and size from a line like `field:__u16 sport; offset:24; size:2; signed:0;`.
fn field(text: &str, name: &str) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut parts = line.trim().strip_prefix("field:")?.split(';');
        let declared = parts.next()?.split_whitespace().last()?;
        let declared = declared.trim_start_matches('*').split('[').next()?;
        if declared != name {
            return None;
        }
        let mut number = |key: &str| parts.next()?.trim().strip_prefix(key)?.parse::<u32>().ok();
        Some((number("offset:")?, number("size:")?))
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    const NEW: &str = "name: inet_sock_set_state\nID: 1\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
        \tfield:const void * skaddr;\toffset:8;\tsize:8;\tsigned:0;\n\
        \tfield:int oldstate;\toffset:16;\tsize:4;\tsigned:1;\n\
        \tfield:int newstate;\toffset:20;\tsize:4;\tsigned:1;\n\
        \tfield:__u16 sport;\toffset:24;\tsize:2;\tsigned:0;\n\
        \tfield:__u16 dport;\toffset:26;\tsize:2;\tsigned:0;\n\
        \tfield:__u16 family;\toffset:28;\tsize:2;\tsigned:0;\n\
        \tfield:__u16 protocol;\toffset:30;\tsize:2;\tsigned:0;\n\
        \tfield:__u8 saddr[4];\toffset:32;\tsize:4;\tsigned:0;\n\
        \tfield:__u8 daddr[4];\toffset:36;\tsize:4;\tsigned:0;\n\
        \tfield:__u8 saddr_v6[16];\toffset:40;\tsize:16;\tsigned:0;\n\
        \tfield:__u8 daddr_v6[16];\toffset:56;\tsize:16;\tsigned:0;\n";

    #[test]
    fn offsets_and_the_protocols_size_come_from_the_text() {
        let found = parse(NEW).unwrap();
        assert_eq!((found.socket, found.local_port, found.peer_v6), (8, 24, 56));
        assert_eq!((found.protocol, found.protocol_size), (30, 2));
    }

    #[test]
    fn a_padded_record_with_a_narrow_protocol_is_read_as_it_is() {
        let padded =
            NEW.replace("offset:30;\tsize:2", "offset:34;\tsize:1").replace("offset:8;", "offset:16;");
        let found = parse(&padded).unwrap();
        assert_eq!((found.socket, found.protocol, found.protocol_size), (16, 34, 1));
    }

    #[test]
    fn a_missing_field_is_named() {
        let error = parse(&NEW.replace("dport", "other")).unwrap_err();
        assert!(error.to_string().contains("dport"), "{error}");
    }
}
