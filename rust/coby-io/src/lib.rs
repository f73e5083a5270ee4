//! Everything that touches files, threads and sockets: recordings, the tape, the engine.
#![forbid(unsafe_code)]

pub mod checker;
pub mod checkpoint;
pub mod decode;
pub mod disk;
pub mod engine;
pub mod import;
pub mod net;
pub mod recording;
pub mod tape;
