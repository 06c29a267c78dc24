//! The order of the agent's folders: each may import from those before it, and from no other. So none stands in a circle,
//! and whoever changes one knows who may feel it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::lint::rust_files;

/// From the lowest to the highest.
const ORDER: [&str; 22] = [
    "names",
    "decode",
    "connection",
    "summary",
    "identity",
    "filter",
    "open",
    "workloads",
    "top",
    "roster",
    "peers",
    "plan",
    "limit",
    "cgroupfs",
    "kernel",
    "render",
    "outlet",
    "pipeline",
    "preflight",
    "cluster",
    "telemetry",
    "command",
];
const SOURCE: &str = "node-agent/src";

/// No file imports from its own height or above, other folders that is, and every folder has a place.
pub(crate) fn check(root: &Path) -> Result<()> {
    let source = root.join(SOURCE);
    let mut files = Vec::new();
    rust_files(&source, &mut files)?;
    let mut wrong = Vec::new();
    for file in &files {
        let within = file.strip_prefix(&source)?;
        let Some(folder) = within.parent().and_then(|parent| parent.iter().next()?.to_str()) else {
            continue;
        };
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        for imported in imports(&text) {
            if !may_import(folder, &imported) {
                wrong.push(format!("{}: {imported}", within.display()));
            }
        }
    }
    ensure!(
        wrong.is_empty(),
        "imports against the order of folders ({}): {}",
        ORDER.join(" < "),
        wrong.join(", ")
    );
    Ok(())
}

fn may_import(folder: &str, imported: &str) -> bool {
    let height = |name: &str| ORDER.iter().position(|folder| *folder == name);
    match (height(folder), height(imported)) {
        (Some(own), Some(other)) => own == other && folder == imported || other < own,
        // A folder without a place has none to import from; what is imported may be an item of the crate's root.
        (own, _) => own.is_some() && imported.starts_with(char::is_uppercase),
    }
}

/// First names behind `crate::`, in paths and in lists of a `use`. Comments may speak of what they like.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => found.extend(heads(list)),
            None => found.extend(head(rest)),
        }
    }
    found
}

/// The name at the beginning.
fn head(text: &str) -> Option<String> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    // A macro of the crate's root is in no folder.
    (end > 0 && !text[end..].starts_with('!')).then(|| text[..end].to_owned())
}

/// The first name of each item of a list, up to the brace that closes it.
fn heads(list: &str) -> Vec<String> {
    let (mut depth, mut start, mut found) = (0_usize, 0, Vec::new());
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                found.extend(head(&list[start..at]));
                break;
            }
            ',' if depth == 0 => {
                found.extend(head(&list[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_folder_is_seen() {
        let text = "use crate::{\n    plan::{View, Plan},\n    kernel,\n};\nuse crate::decode::Role;\n\
                    // crate::cluster is spoken of\nfn f() { crate::outlet::say(crate::version!()); other_crate::command::run() }\n";
        assert_eq!(imports(text).into_iter().collect::<Vec<_>>(), ["decode", "kernel", "outlet", "plan"]);
    }

    #[test]
    fn only_lower_folders_may_be_imported() {
        assert!(may_import("command", "names") && may_import("plan", "plan"));
        assert!(!may_import("names", "plan") && !may_import("kernel", "preflight"));
        assert!(!may_import("news", "plan") && !may_import("plan", "news"));
    }

    #[test]
    fn the_agents_folders_keep_the_order() {
        check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap();
    }

    #[test]
    fn a_file_that_imports_from_above_is_named() {
        let root = std::env::temp_dir().join(format!("xtask-layers-{}", std::process::id()));
        fs::create_dir_all(root.join(SOURCE).join("decode")).unwrap();
        fs::write(root.join(SOURCE).join("decode/record.rs"), "use crate::render::Event;\n").unwrap();
        let error = check(&root).unwrap_err().to_string();
        fs::remove_dir_all(&root).unwrap();
        assert!(error.ends_with("decode/record.rs: render"), "{error}");
    }
}
