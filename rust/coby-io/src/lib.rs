//! Everything that touches files, threads and sockets: recordings, the tape, the engine.
#![forbid(unsafe_code)]

pub mod decode;
pub mod disk;
pub mod import;
pub mod recording;
pub mod tape;
