//! A certificate authority for one cluster, and the kubeconfigs of those who talk to its API server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

/// Keys and certificates in one directory, and the address of the API server they are for.
#[derive(Clone, Debug)]
pub struct Pki {
    directory: PathBuf,
    server: String,
}

/// The authority whose certificates aggregated APIs know the API server by.
pub const FRONT_PROXY: &str = "front-proxy-ca";

/// What a certificate is for.
#[derive(Clone, Copy, Debug)]
pub enum Use<'a> {
    /// A client, known by the subject's CN (user) and O (group).
    Client,
    /// A server, reached under these names: `IP:10.0.0.1,DNS:kubernetes`.
    Server(&'a str),
}

impl Pki {
    /// A new authority, and the key that signs the tokens of service accounts.
    pub fn new(directory: PathBuf, server: &str) -> Result<Self> {
        fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
        let pki = Self { directory, server: server.to_owned() };
        pki.authority("ca", "/CN=kube-tcpstates e2e")?;
        // Signs for the API server as the one who speaks for others, and for nobody else.
        pki.authority(FRONT_PROXY, "/CN=kube-tcpstates e2e front proxy")?;
        pki.authority("tokens", "/CN=service accounts")?;
        Ok(pki)
    }

    /// A file of the directory: `ca.crt`, `NAME.crt`, `NAME.key`, `NAME.kubeconfig`, `tokens.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn authority(&self, name: &str, subject: &str) -> Result<()> {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        self.openssl(&["req", "-x509", "-subj", subject, "-keyout", &key, "-out", &certificate])
    }

    /// Leaves `NAME.key` and `NAME.crt`.
    pub fn issue(&self, name: &str, subject: &str, purpose: Use<'_>) -> Result<()> {
        self.issue_by("ca", name, subject, purpose)
    }

    /// The same, signed by another authority.
    pub fn issue_by(&self, authority: &str, name: &str, subject: &str, purpose: Use<'_>) -> Result<()> {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        let (by, by_key) = (format!("{authority}.crt"), format!("{authority}.key"));
        let mut arguments = vec!["req", "-x509", "-CA", &by, "-CAkey", &by_key, "-subj", subject];
        arguments.extend([
            "-keyout",
            &key,
            "-out",
            &certificate,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ]);
        let names;
        match purpose {
            Use::Client => arguments.extend(["-addext", "extendedKeyUsage=clientAuth"]),
            Use::Server(reached_as) => {
                names = format!("subjectAltName={reached_as}");
                arguments.extend(["-addext", "extendedKeyUsage=serverAuth", "-addext", &names]);
            }
        }
        self.openssl(&arguments)
    }

    /// A client certificate and, with it, `NAME.kubeconfig`.
    pub fn user(&self, name: &str, subject: &str) -> Result<PathBuf> {
        self.issue(name, subject, Use::Client)?;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "e2e", "cluster": {
                "server": self.server, "certificate-authority": self.file("ca.crt"),
            }}],
            "users": [{"name": name, "user": {
                "client-certificate": self.file(&format!("{name}.crt")), "client-key": self.file(&format!("{name}.key")),
            }}],
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": name}}],
            "current-context": "e2e",
        });
        let file = self.file(&format!("{name}.kubeconfig"));
        write(&file, &config.to_string())?;
        Ok(file)
    }

    /// Runs `openssl` in the directory: a new key on a curve, valid for a few days.
    fn openssl(&self, arguments: &[&str]) -> Result<()> {
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "7"];
        let mut openssl = Command::new("openssl");
        let output = openssl
            .current_dir(&self.directory)
            .args(arguments)
            .args(key)
            .output()
            .context("start openssl")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "openssl {}: {errors}", arguments.join(" "));
        Ok(())
    }
}

/// Writes a file that has to be there.
pub(super) fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}
