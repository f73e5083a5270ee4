//! I/O: the tape, the engine and the importers.
