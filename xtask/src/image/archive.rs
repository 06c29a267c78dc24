//! A container image with one layer and nothing under it, written as the archive that `docker save` writes.
//!
//! Owns the format alone: `docker load`, `podman load` and `ctr images import` read it without a registry. What an image
//! holds is its caller's affair. The same input gives the same bytes: nothing in the archive tells a time, a user or an
//! order of directories.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use sha2::{Digest as _, Sha256};

const EXECUTABLE: u32 = 0o755;
const READABLE: u32 = 0o644;
/// A user of each name that programs look up. The names are all there is: no password, no shell.
const PASSWD: &str = "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnobody:x:65534:\n";

/// What the image is made of. Paths in the image are written without the leading slash or with it.
#[derive(Default)]
pub(crate) struct Image {
    reference: String,
    /// Content and mode by path in the image, in the order of paths.
    files: BTreeMap<String, (Vec<u8>, u32)>,
    entrypoint: Vec<String>,
    labels: BTreeMap<String, String>,
    user: String,
    architecture: String,
}

impl Image {
    /// An image with `/etc/passwd` and `/etc/group`, to be known as `reference` where it is loaded. It runs as root.
    pub(crate) fn new(reference: &str) -> Self {
        let image = Self {
            reference: reference.to_owned(),
            user: "0:0".to_owned(),
            architecture: architecture(std::env::consts::ARCH).to_owned(),
            ..Self::default()
        };
        image.file("/etc/passwd", PASSWD, READABLE).file("/etc/group", GROUP, READABLE)
    }

    /// A program of this machine, to be found at `place` in the image.
    pub(crate) fn program(self, source: &Path, place: &str) -> Result<Self> {
        let content = fs::read(source).with_context(|| format!("read {}", source.display()))?;
        Ok(self.file(place, content, EXECUTABLE))
    }

    /// A file with the content given.
    pub(crate) fn file(mut self, place: &str, content: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.files.insert(place.trim_start_matches('/').to_owned(), (content.into(), mode));
        self
    }

    /// Another than this machine's, by the name that images have for it.
    pub(crate) fn architecture(mut self, name: &str) -> Self {
        name.clone_into(&mut self.architecture);
        self
    }

    /// What a container runs; its arguments follow.
    pub(crate) fn entrypoint(mut self, words: &[&str]) -> Self {
        self.entrypoint = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// One label, a name of <https://specs.opencontainers.org/image-spec/annotations/> where there is one.
    pub(crate) fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The user a container runs as unless its pod says otherwise: a number, so that nothing need be looked up.
    #[cfg_attr(not(test), expect(dead_code, reason = "for images of the end-to-end tests"))]
    pub(crate) fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    /// Writes the archive, whole or not at all.
    pub(crate) fn write(&self, archive: &Path) -> Result<()> {
        let directory = archive.parent().with_context(|| format!("{} names no file", archive.display()))?;
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        let beside = archive.with_extension(format!("{}.new", std::process::id()));
        let file = File::create(&beside).with_context(|| format!("create {}", beside.display()))?;
        self.write_to(file).with_context(|| format!("write {}", beside.display()))?;
        fs::rename(&beside, archive).with_context(|| format!("rename to {}", archive.display()))
    }

    fn write_to(&self, archive: impl Write) -> Result<()> {
        ensure!(
            has_tag(&self.reference),
            "`{}` names no tag: a runtime would look for `latest`",
            self.reference
        );
        let layer = self.layer().context("put the layer together")?;
        let layer_digest = digest(&layer);
        let config = serde_json::to_vec(&self.config(&layer_digest))?;
        let (config_name, layer_name) = (format!("{}.json", digest(&config)), format!("{layer_digest}.tar"));
        let manifest =
            json!([{ "Config": config_name, "RepoTags": [self.reference], "Layers": [layer_name] }]);

        let mut tar = tar::Builder::new(archive);
        append(&mut tar, &config_name, &config, READABLE)?;
        append(&mut tar, &layer_name, &layer, READABLE)?;
        append(&mut tar, "manifest.json", &serde_json::to_vec(&manifest)?, READABLE)?;
        tar.into_inner()?.flush()?;
        Ok(())
    }

    /// The one layer: every file, and before it each directory on the way to it.
    fn layer(&self) -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut made = Vec::new();
        for (place, (content, mode)) in &self.files {
            for (slash, _) in place.match_indices('/') {
                let directory = &place[..=slash];
                if !made.contains(&directory) {
                    append_directory(&mut tar, directory)?;
                    made.push(directory);
                }
            }
            append(&mut tar, place, content, *mode)?;
        }
        Ok(tar.into_inner()?)
    }

    /// The image's configuration, which with its digest is the image's identity.
    fn config(&self, layer_digest: &str) -> serde_json::Value {
        json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Entrypoint": self.entrypoint,
                "Labels": self.labels,
                "User": self.user,
                "WorkingDir": "/",
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
            "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "./x image" }],
        })
    }
}

/// An archive of these files and nothing else: where each is, what it is called there, and whether it is a program.
pub(crate) fn pack(archive: &Path, files: &[(&Path, &str, bool)]) -> Result<()> {
    let file = File::create(archive).with_context(|| format!("create {}", archive.display()))?;
    let mut tar = tar::Builder::new(file);
    for (source, name, is_program) in files {
        let content = fs::read(source).with_context(|| format!("read {}", source.display()))?;
        append(&mut tar, name, &content, if *is_program { EXECUTABLE } else { READABLE })?;
    }
    tar.into_inner()?.flush().with_context(|| format!("write {}", archive.display()))
}

fn append(tar: &mut tar::Builder<impl Write>, place: &str, content: &[u8], mode: u32) -> Result<()> {
    let mut header = header(tar::EntryType::Regular, mode);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, place, content).with_context(|| format!("append {place}"))
}

fn append_directory(tar: &mut tar::Builder<impl Write>, place: &str) -> Result<()> {
    let mut header = header(tar::EntryType::Directory, EXECUTABLE);
    tar.append_data(&mut header, place, std::io::empty()).with_context(|| format!("append {place}"))
}

/// Owned by root and of no time.
fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// Whether the last part of a reference has a tag; the colon of a registry's port stands before a slash.
fn has_tag(reference: &str) -> bool {
    reference.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

/// The name that images have for an architecture.
fn architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    const REFERENCE: &str = "example.org:5000/probe:v1";

    fn image() -> Image {
        Image::new(REFERENCE)
            .file("/opt/probe/probe", "a program", EXECUTABLE)
            .file("/opt/probe/notes", "a text", READABLE)
            .entrypoint(&["/opt/probe/probe", "--wait"])
            .label("org.opencontainers.image.title", "probe")
            .user("65534:65534")
    }

    fn written(image: &Image) -> Vec<u8> {
        let mut archive = Vec::new();
        image.write_to(&mut archive).unwrap();
        archive
    }

    /// Name, mode and content of each entry, in order.
    fn entries(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let (uid, mtime) = (entry.header().uid().unwrap(), entry.header().mtime().unwrap());
            assert_eq!((uid, mtime), (0, 0));
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            (name, entry.header().mode().unwrap(), content)
        });
        entries.collect()
    }

    fn content(archive: &[u8], wanted: &str) -> Vec<u8> {
        entries(archive).into_iter().find(|(name, ..)| name == wanted).unwrap().2
    }

    fn json(archive: &[u8], name: &str) -> serde_json::Value {
        serde_json::from_slice(&content(archive, name)).unwrap()
    }

    #[test]
    fn the_manifest_names_the_reference_and_files_of_the_archive_by_their_digests() {
        let archive = written(&image());
        let manifest = json(&archive, "manifest.json");
        assert_eq!(manifest[0]["RepoTags"], json!([REFERENCE]));
        let (config, layer) =
            (manifest[0]["Config"].as_str().unwrap(), manifest[0]["Layers"][0].as_str().unwrap());
        assert_eq!(config, format!("{}.json", digest(&content(&archive, config))));
        assert_eq!(layer, format!("{}.tar", digest(&content(&archive, layer))));
        let diff_ids = &json(&archive, config)["rootfs"]["diff_ids"];
        assert_eq!(*diff_ids, json!([format!("sha256:{}", layer.trim_end_matches(".tar"))]));
    }

    #[test]
    fn the_configuration_says_what_runs_and_as_whom() {
        let archive = written(&image());
        let name = json(&archive, "manifest.json")[0]["Config"].as_str().unwrap().to_owned();
        let config = json(&archive, &name);
        assert_eq!(config["config"]["Entrypoint"], json!(["/opt/probe/probe", "--wait"]));
        assert_eq!(config["config"]["User"], "65534:65534");
        assert_eq!(config["architecture"], architecture(std::env::consts::ARCH));
        assert_eq!(image().architecture("arm64").config("")["architecture"], "arm64");
        assert_eq!(config["config"]["Labels"], json!({ "org.opencontainers.image.title": "probe" }));
    }

    #[test]
    fn a_directory_stands_once_and_before_what_is_in_it() {
        let layer = image().layer().unwrap();
        let names: Vec<_> = entries(&layer).into_iter().map(|(name, mode, _)| (name, mode)).collect();
        let expected = [
            ("etc/", 0o755),
            ("etc/group", 0o644),
            ("etc/passwd", 0o644),
            ("opt/", 0o755),
            ("opt/probe/", 0o755),
            ("opt/probe/notes", 0o644),
            ("opt/probe/probe", 0o755),
        ];
        assert_eq!(names, expected.map(|(name, mode)| (name.to_owned(), mode)));
    }

    #[test]
    fn the_same_image_has_the_same_bytes() {
        assert_eq!(written(&image()), written(&image()));
    }

    #[test]
    fn a_reference_without_a_tag_is_refused() {
        let error = Image::new("example.org:5000/probe").write_to(Vec::new()).unwrap_err().to_string();
        assert!(error.contains("names no tag"), "{error}");
    }
}
