//! COBY's core: everything between a frame and a row, free of I/O, clocks and threads.
//!
//! The same inputs always give the same outputs: time, frames and HTTP answers enter as
//! [`record::Record`]s and nothing else may influence a row.
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod book;
pub mod decimal;
pub mod event;
pub mod feed;
pub mod instrument;
pub mod keeper;
pub mod level;
pub mod pipeline;
pub mod record;
pub mod rows;
pub mod scan;
pub mod settings;
pub mod sink;
mod stream;
mod swar;
pub mod symbol;
mod table;
pub mod time;
pub mod venue;
