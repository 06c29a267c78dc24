//! Looks at a page in Chromium, as wide as it is told, in light or dark, and says what a person would see.
//!
//! The page stands in a frame of a page of ours, whose script measures it: the page itself has none.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// What there is of a page at one width.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// How wide its content is, CSS pixels: more than the frame is what one must scroll for.
    pub content_width: f64,
    /// The height of the lowest line of text that is shown, CSS pixels.
    pub lowest_text: f64,
    /// That text.
    pub lowest_text_is: String,
    /// How often it asked anybody for anything.
    pub requests: usize,
    /// Contrast of its text with its ground, as WCAG 2 counts it.
    pub contrast: f64,
    /// Its text, as shown.
    pub text: String,
    /// What the browser said against it.
    #[serde(default)]
    pub complaints: Vec<String>,
}

/// Light or dark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Dark text on light.
    Light,
    /// Light text on dark.
    Dark,
}

const MEASURE: &str = include_str!("measure.js");

/// Opens the page in a frame of this width and measures it.
pub fn look(page: &str, width: u32, scheme: Scheme) -> Result<Seen> {
    let directory = tempfile::tempdir().context("make a directory")?;
    let harness = directory.path().join("harness.html");
    let framed = page.replace('&', "&amp;").replace('"', "&quot;");
    let html = format!(
        "<!DOCTYPE html><meta charset=utf-8><body style=margin:0>\
         <iframe id=page width={width} height=4000 style=border:0 srcdoc=\"{framed}\"></iframe>\
         <pre id=seen></pre><script>{MEASURE}</script>"
    );
    fs::write(&harness, html).context("write the harness")?;
    let (dom, log) = chromium(&harness, directory.path(), scheme)?;
    let seen = dom.split_once("<pre id=\"seen\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let (seen, _) = seen.with_context(|| format!("nothing was measured: {log}"))?;
    let seen = seen.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let mut seen: Seen = serde_json::from_str(&seen).with_context(|| format!("read {seen}"))?;
    seen.complaints = log.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    Ok(seen)
}

/// Takes a picture of the upper part of a page.
pub fn picture(page: &str, size: (u32, u32), scheme: Scheme, to: &Path) -> Result<()> {
    let directory = tempfile::tempdir().context("make a directory")?;
    let file = directory.path().join("page.html");
    fs::write(&file, page).context("write the page")?;
    let options = [
        format!("--window-size={},{}", size.0, size.1),
        "--force-device-scale-factor=1".to_owned(),
        "--hide-scrollbars".to_owned(),
        format!("--screenshot={}", to.display()),
    ];
    run(&file, directory.path(), scheme, &options)?;
    let taken = size_of_picture(&fs::read(to).with_context(|| format!("read {}", to.display()))?);
    ensure!(taken == Some(size), "{} is of {taken:?}, not of {size:?}", to.display());
    Ok(())
}

/// Width and height of a PNG: the first chunk of each has them (ISO/IEC 15948, 11.2.1).
pub fn size_of_picture(png: &[u8]) -> Option<(u32, u32)> {
    let header = png.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR")?;
    let (width, rest) = header.split_first_chunk()?;
    let (height, _) = rest.split_first_chunk()?;
    Some((u32::from_be_bytes(*width), u32::from_be_bytes(*height)))
}

fn chromium(page: &Path, home: &Path, scheme: Scheme) -> Result<(String, String)> {
    let options =
        ["--window-size=1400,1200", "--virtual-time-budget=4000", "--enable-logging=stderr", "--dump-dom"];
    run(page, home, scheme, &options.map(str::to_owned))
}

fn run(page: &Path, home: &Path, scheme: Scheme, options: &[String]) -> Result<(String, String)> {
    let dark = i32::from(scheme == Scheme::Light);
    let output = Command::new("chromium")
        // In a container without user namespaces Chromium's own sandbox does not start. The page is ours.
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(options)
        .arg(format!("--blink-settings=preferredColorScheme={dark}"))
        .arg(format!("--user-data-dir={}", home.join("profile").display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .context("run chromium: `apt-get install chromium`")?;
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "chromium: {}: {log}", output.status);
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), log))
}
