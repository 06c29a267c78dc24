//! A live view of who talks to whom: what came together since the last look becomes rows, and rows a screen or a table.
//! Pure: samples, keys and the size of the terminal are arguments.
//!
//! ```text
//!   Sample (pipeline) ─► rows ─► Model (sort, filter, pause ◄─ keys) ─┬─► screen (a frame of ratatui)
//!                                                                     └─► text (a plain table)
//! ```

mod model;
mod rows;
mod sample;
mod screen;
mod text;

pub use model::{Act, Key, Model, Sort};
pub use sample::{Ended, NOBODY, Open, Sample};
pub use screen::draw;
pub use text::plain;
