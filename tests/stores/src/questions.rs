//! The questions of docs/pipelines.md, as they stand there: a heading, and the first block of `LogsQL` below it.

/// The page.
const PAGE: &str = include_str!("../../../docs/pipelines.md");

/// The query below the heading `### title`.
#[track_caller]
pub fn query(title: &str) -> String {
    let heading = format!("### {title}\n");
    let (_, below) =
        PAGE.split_once(&heading).unwrap_or_else(|| panic!("docs/pipelines.md has no `### {title}`"));
    let (_, block) = below.split_once("```logsql\n").unwrap_or_else(|| panic!("`{title}` has no LogsQL"));
    let (query, _) = block.split_once("```").expect("a block ends");
    query.trim().to_owned()
}
