//! What an error says, for a person.

use std::error::Error;

/// The error with its causes, in one line. What the server says stands for itself.
pub fn reason_of(error: &(dyn Error + 'static)) -> String {
    let api = |error: &(dyn Error + 'static)| match error.downcast_ref() {
        Some(kube::Error::Api(status)) if !status.message.is_empty() => Some(status.message.clone()),
        _ => None,
    };
    if let Some(message) = api(error).or_else(|| error.source().and_then(api)) {
        return message;
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use kube::core::Status;

    use super::reason_of;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Outer<E: std::error::Error + 'static> {
        text: &'static str,
        source: E,
    }

    #[test]
    fn causes_follow_each_other_once() {
        let refused = Outer { text: "connect", source: io::Error::other("connection refused") };
        let error = Outer { text: "cannot list", source: refused };
        assert_eq!(reason_of(&error), "cannot list: connect: connection refused");
        let told = Outer { text: "no answer: refused", source: io::Error::other("refused") };
        assert_eq!(reason_of(&told), "no answer: refused");
    }

    #[test]
    fn what_the_server_says_stands_for_itself() {
        let refusal = || kube::Error::Api(Box::new(Status::failure("pods is forbidden", "Forbidden")));
        assert_eq!(reason_of(&refusal()), "pods is forbidden");
        assert_eq!(reason_of(&Outer { text: "initial list failed", source: refusal() }), "pods is forbidden");
    }
}
