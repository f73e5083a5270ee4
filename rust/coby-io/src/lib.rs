//! Everything that touches files, threads and sockets: recordings, the tape, the engine.
#![forbid(unsafe_code)]

pub mod decode;
pub mod import;
pub mod recording;
