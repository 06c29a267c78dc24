//! Lines of a trace for whoever may read that trace.
mod account;
mod answer;
mod bundle;
mod der;
mod filter;
mod identity;
mod merge;
mod notice;
mod query;
mod readers;
