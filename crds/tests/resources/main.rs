//! The resources as the world sees them: the published YAML, and which objects it, its CEL rules and the agent take.

mod documentation;
mod judges;
mod property;
mod published;
mod tables;
