//! A bearer token in a file, which is replaced from time to time: the kubelet renews that of a pod.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

/// It is read again so often.
const READ_EVERY: Duration = Duration::from_mins(1);

/// The token's file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("token file {path}: {why}", path = path.display())]
pub struct TokenError {
    path: PathBuf,
    why: String,
}

/// The file and what was last read of it.
#[derive(Debug)]
pub(crate) struct TokenFile {
    path: PathBuf,
    read: Mutex<(HeaderValue, Instant)>,
}

impl TokenFile {
    /// Reads it for the first time.
    pub(crate) fn open(path: impl Into<PathBuf>) -> Result<Self, TokenError> {
        let path = path.into();
        match header(&path) {
            Ok(header) => Ok(Self { path, read: Mutex::new((header, Instant::now())) }),
            Err(why) => Err(TokenError { path, why }),
        }
    }

    /// The value of a request's `Authorization`. While the file cannot be read, the last one: whoever renews it may take it
    /// away for a moment.
    pub(crate) fn header(&self) -> HeaderValue {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, at) = &mut *read;
        if at.elapsed() >= READ_EVERY {
            *at = Instant::now();
            if let Ok(header) = header(&self.path) {
                *known = header;
            }
        }
        known.clone()
    }
}

/// A newline at the end is whoever wrote the file's, and no part of the token.
fn header(path: &Path) -> Result<HeaderValue, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let token = text.trim();
    if token.is_empty() {
        return Err("it is empty".to_owned());
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "it has characters that no token has".to_owned())?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::TokenFile;

    #[tokio::test(start_paused = true)]
    async fn a_newline_at_the_end_is_no_part_of_the_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["abc", "abc\n", " abc\r\n"] {
            fs::write(file.path(), text).unwrap();
            let header = TokenFile::open(file.path()).unwrap().header();
            assert_eq!((header.to_str().unwrap(), header.is_sensitive()), ("Bearer abc", true), "{text:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_token_is_used_within_a_minute_and_the_last_one_while_the_file_is_away() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "one\n").unwrap();
        let token = TokenFile::open(file.path()).unwrap();
        fs::write(file.path(), "two\n").unwrap();
        assert_eq!(token.header(), "Bearer one");
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(token.header(), "Bearer two");
        fs::write(file.path(), "").unwrap();
        tokio::time::advance(Duration::from_mins(2)).await;
        assert_eq!(token.header(), "Bearer two");
    }

    #[test]
    fn a_file_without_a_token_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        for (text, why) in [("\n", "it is empty"), ("a\nb", "it has characters that no token has")] {
            fs::write(file.path(), text).unwrap();
            let error = TokenFile::open(file.path()).unwrap_err().to_string();
            assert_eq!(error, format!("token file {path}: {why}"));
        }
    }
}
