//! kubectl of two releases, without any settings of a user's own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{program, root};

/// kubectl of today.
pub const SID: &str = "sid";
/// kubectl of the stable release of Debian.
pub const TRIXIE: &str = "trixie";
/// Whoever has either gets the same.
pub const BOTH: [&str; 2] = [SID, TRIXIE];

/// One kubectl that asks one server.
#[derive(Clone, Debug)]
pub struct Kubectl {
    release: String,
    server: String,
    cache: PathBuf,
}

/// What a kubectl said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// `diff` ends with 1 where there is a difference.
    pub code: Option<i32>,
    /// On stdout.
    pub text: String,
    /// On stderr, warnings among it.
    pub against: String,
}

impl Kubectl {
    pub(crate) fn new(release: &str, server: &str, folder: &Path) -> Result<Self> {
        // Not there is an error of its own.
        program(&format!("kubectl-{release}"))?;
        let cache = folder.join(format!("kubectl-{release}"));
        Ok(Self { release: release.to_owned(), server: server.to_owned(), cache })
    }

    /// Runs it, with documents on its stdin if there are any.
    pub fn run(&self, arguments: &[&str], documents: &str) -> Result<Said> {
        let mut kubectl = program(&format!("kubectl-{}", self.release))?;
        kubectl.args(arguments).arg(format!("--server={}", self.server));
        kubectl.arg(format!("--cache-dir={}", self.cache.display())).current_dir(root());
        kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut kubectl = kubectl.spawn().context("start kubectl")?;
        let mut input = kubectl.stdin.take().context("kubectl's stdin")?;
        // One that ends before it has read all says why.
        drop(input.write_all(documents.as_bytes()));
        drop(input);
        let Output { status, stdout, stderr } = kubectl.wait_with_output().context("wait for kubectl")?;
        let text = |bytes| String::from_utf8(bytes).context("kubectl: not UTF-8");
        Ok(Said { code: status.code(), text: text(stdout)?, against: text(stderr)? })
    }

    /// What it prints, if it ends well and has nothing to say against it: no warning either.
    pub fn well(&self, arguments: &[&str]) -> Result<String> {
        self.well_with(arguments, "")
    }

    /// The same, of documents on its stdin.
    pub fn well_with(&self, arguments: &[&str], documents: &str) -> Result<String> {
        let Said { code, text, against } = self.run(arguments, documents)?;
        let shown = format!("kubectl {} of {}", arguments.join(" "), self.release);
        ensure!(code == Some(0) && against.is_empty(), "{shown}: {code:?}: {against}{text}");
        Ok(text)
    }

    /// What it prints as JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.well(&[arguments, &["--output=json"]].concat())?;
        serde_json::from_str(&text).context("kubectl: not JSON")
    }

    /// What a `diff` shows: nothing, if the server has the same.
    pub fn diff(&self, arguments: &[&str], documents: &str) -> Result<String> {
        let Said { code, text, against } = self.run(&[&["diff"], arguments].concat(), documents)?;
        ensure!(against.is_empty(), "kubectl diff of {}: {against}", self.release);
        let expected = i32::from(!text.is_empty());
        ensure!(code == Some(expected), "kubectl diff of {} ended with {code:?}: {text}", self.release);
        Ok(text)
    }
}
