//! One page of HTML from the JSON lines of kube-tcpstates, of any number of them, in bounded memory.
//!
//! ```text
//!  bytes ─► line ─► Report ─┬─► runs      what is missing
//!                           ├─► timeline  when connections ended, and how
//!                           ├─► pairs     who talks to whom
//!                           └─► open      what was open at the last look
//!                                │
//!                                └─► page: HTML, no script, nothing fetched
//! ```
//!
//! ```
//! use kube_tcpstates_report::{Options, Report};
//!
//! let mut report = Report::new(Options::default());
//! report.read(&br#"{"time":"2026-11-27T11:56:05Z","tcpstates":{"type":"connection","#[..])?;
//! let page = report.page();
//! assert!(page.starts_with("<!DOCTYPE html>") && page.contains("cut"));
//! # std::io::Result::Ok(())
//! ```

mod accounts;
mod figures;
mod foreign;
mod from_api;
mod histogram;
mod line;
mod losses;
mod open;
mod outcome;
mod page;
mod pairs;
mod read;
mod runs;
mod take;
mod timeline;
mod who;

pub use take::{Options, Report};
