//! The resources as the world sees them: the published YAML, and which objects it, its CEL rules and the agent take.

#![expect(clippy::unwrap_used, reason = "a test panics, so that the backtrace survives")]

mod documentation;
mod examples;
mod judges;
mod property;
mod published;
mod table;
mod tables;
