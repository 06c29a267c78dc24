//! `report`: a page of HTML from lines that were kept.

use std::{
    fs::{File, Metadata},
    io::{self, BufRead, BufReader, Cursor, IsTerminal as _, Read as _, stdin, stdout},
    os::{fd::AsFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use flate2::bufread::MultiGzDecoder;
use kube_tcpstates_report::{Options, Report};

use super::args::ReportArguments;

/// What is read of a file at once.
const BUFFER: usize = 256 << 10;
/// What a file of gzip begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Stands for stdin.
const STDIN: &str = "-";

/// What is wrong with the options.
pub(super) fn check(raw: &ReportArguments) -> Result<(), String> {
    if raw.file.is_none() && stdout().is_terminal() {
        return Err("the page is HTML: give a file for it with --file, or redirect stdout".to_owned());
    }
    let output = match &raw.file {
        Some(path) => std::fs::metadata(path).ok(),
        None => open(stdout()),
    };
    let Some(output) = output else { return Ok(()) };
    for path in inputs(raw) {
        let input = if path == Path::new(STDIN) { open(stdin()) } else { std::fs::metadata(&path).ok() };
        if input.is_some_and(|input| is_same(&input, &output)) {
            return Err(format!(
                "the page would overwrite what it is made of ({}): give another file for it with --file",
                path.display()
            ));
        }
    }
    Ok(())
}

/// Reads all and writes the page. True: whatever goes wrong is an error.
pub(super) fn run(raw: &ReportArguments) -> anyhow::Result<bool> {
    let mut report = Report::new(Options { title: raw.title.clone(), trace: raw.trace.clone() });
    for path in inputs(raw) {
        let taken = if path == Path::new(STDIN) {
            read(&mut report, BufReader::with_capacity(BUFFER, stdin().lock()))
        } else {
            File::open(&path).and_then(|file| read(&mut report, BufReader::with_capacity(BUFFER, file)))
        };
        taken.with_context(|| format!("reading {}", path.display()))?;
    }
    if let Some(why) = report.nothing() {
        anyhow::bail!("{why}");
    }
    let page = report.page();
    if let Some(path) = &raw.file {
        std::fs::write(path, page).with_context(|| format!("writing {}", path.display()))?;
        return Ok(true);
    }
    super::print(page.as_bytes())?;
    Ok(true)
}

fn inputs(raw: &ReportArguments) -> Vec<PathBuf> {
    if raw.inputs.is_empty() { vec![STDIN.into()] } else { raw.inputs.clone() }
}

/// Takes in the lines of a stream, also where they are compressed.
fn read(report: &mut Report, mut stream: impl BufRead) -> io::Result<()> {
    let mut first = Vec::new();
    stream.by_ref().take(GZIP.len() as u64).read_to_end(&mut first)?;
    let is_gzip = first == GZIP;
    let whole = Cursor::new(first).chain(stream);
    if is_gzip {
        report.read(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(whole)))
    } else {
        report.read(whole)
    }
}

/// What is known of a file that is open.
fn open(file: impl AsFd) -> Option<Metadata> {
    File::from(file.as_fd().try_clone_to_owned().ok()?).metadata().ok()
}

/// Whether they are one file. What is no file, such as `/dev/null`, takes what is written and still is what it was.
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    one.is_file() && (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use clap::Parser as _;
    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::command::args::{Arguments, Command};

    const LINE: &str = "{\"time\":\"2026-11-27T11:56:05Z\",\"tcpstates\":{\"type\":\"connection\",\"schema\":\"tcpstates.dev/events/v1\",\"run\":\"a\",\"seq\":1,\"outcome\":\"refused\"}}\n";

    fn arguments(of: &[&Path]) -> ReportArguments {
        let command = ["kube-tcpstates", "report"].map(Path::new);
        let parsed =
            Arguments::try_parse_from(command.iter().chain(of).map(|part| part.as_os_str())).unwrap();
        let Command::Report(raw) = parsed.command else { panic!("another command") };
        raw
    }

    #[test]
    fn a_page_never_overwrites_what_it_is_made_of() {
        let directory = tempfile::tempdir().unwrap();
        let [lines, link, page] = ["lines", "link", "page"].map(|name| directory.path().join(name));
        std::fs::write(&lines, LINE).unwrap();
        std::fs::hard_link(&lines, &link).unwrap();
        for output in [&lines, &link, &directory.path().join(".").join("lines")] {
            let refused =
                check(&arguments(&[Path::new("other"), &lines, Path::new("-f"), output])).unwrap_err();
            assert!(refused.contains("would overwrite"), "{refused}");
        }
        let raw = arguments(&[&lines, Path::new("-f"), &page]);
        for _ in 0..2 {
            check(&raw).unwrap();
            assert!(run(&raw).unwrap());
        }
        assert_eq!(std::fs::read_to_string(&lines).unwrap(), LINE);
        // What is no file can be both.
        let null = Path::new("/dev/null");
        check(&arguments(&[null, Path::new("-f"), null])).unwrap();
    }

    #[test]
    fn compressed_lines_are_lines() {
        let gzip = |text: &str| {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(text.as_bytes()).unwrap();
            gzip.finish().unwrap()
        };
        // One file of two, as `cat` makes it.
        let two = [gzip(LINE), gzip(&LINE.replace("\"seq\":1", "\"seq\":2"))].concat();
        for (bytes, connections) in [(gzip(LINE), 1), (two, 2), (LINE.into(), 1)] {
            let mut report = Report::new(Options::default());
            // As a pipe may give it, byte by byte.
            read(&mut report, BufReader::with_capacity(1, &*bytes)).unwrap();
            let page = report.page();
            assert!(page.contains(&format!("<b>{connections}</b>connections ended")), "{page}");
        }
        let mut report = Report::new(Options::default());
        read(&mut report, &b""[..]).unwrap();
        assert!(report.nothing().is_some());
    }

    #[test]
    fn without_a_line_of_ours_there_is_an_error_and_no_page() {
        let directory = tempfile::tempdir().unwrap();
        let [lines, page] = ["lines", "page"].map(|name| directory.path().join(name));
        std::fs::write(&lines, "{\"resourceLogs\":[]}\n").unwrap();
        let failed = run(&arguments(&[&lines, Path::new("-f"), &page])).unwrap_err().to_string();
        assert!(failed.contains("report reads -o json") && !page.exists(), "{failed}");
    }
}
