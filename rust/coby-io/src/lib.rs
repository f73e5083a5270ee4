//! I/O: the tape, the engine and the importers.
#![forbid(unsafe_code)]

pub mod disk;
pub mod tape;
