//! The tape: the log of every input, before anything derived from it reaches a store.
//!
//! A tape is a directory of append-only segments, `<first position as 16 hex digits>.tape`, each of
//! checksummed, compressed blocks of records. A sealed segment has a manifest beside it. [`mod@format`]
//! fixes the bytes.
//!
//! ```text
//! let recovery = recover(&*disk, dir)?;             // cut the torn tail, seal what a crash left open
//! let run = claim_run(&*disk, dir)?;                // never the same twice
//! let mut tape = TapeWriter::start(disk, dir, recovery.last_pos, TapeOptions::default(), wake)?;
//! tape.append(&record)?;                            // the hot thread; about 100 ns
//! if tape.seal_due() { tape.seal(rows) }            // row hashes cover exactly the segment's records
//! let durable = tape.durable_pos();                 // an atomic: everything up to it is fsynced
//! ```
//!
//! *Holes.* Every block names the position before its first one, so reading finds every missing record,
//! wherever bytes, blocks or whole segments were lost between two that are there, and says so as
//! [`Item::Hole`]. The manifest does the same for the end of the last segment.

mod ahead;
mod directory;
mod error;
pub mod format;
mod ledger;
mod manifest;
mod reader;
mod recover;
mod repair;
mod segment;
mod sink;
mod survey;
#[cfg(test)]
mod tests;
mod writer;

pub use ahead::ReadAhead;
pub use directory::{claim_run, lock, next_run};
pub use error::{Damage, TapeError};
pub use format::TapeRecord;
pub use manifest::{Manifest, manifests};
pub use reader::{Hole, Item, TapeReader};
pub use recover::{Cut, Recovery, recover};
pub use repair::{
    ManifestState, RepairReport, Repaired, SegmentInfo, SegmentReport, TapeInfo, VerifyReport, info, repair, verify,
};
pub use survey::DamagedBytes;
pub use writer::{Codec, TapeOptions, TapeStats, TapeStatus, TapeWriter, Wake};
