//! What the tests over recorded traffic share.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(missing_docs, reason = "fields of test helpers say it by their names")]

pub mod exact;
#[allow(clippy::unwrap_used, reason = "what it says is its own")]
pub mod exchange;
pub mod kraken;
pub mod naive;
pub mod replay;
pub mod rows;

use std::path::{Path, PathBuf};

use coby_io::recording::{RecordedFrame, Recording};

/// The frames of a venue's capture; `None`, with a word on it, where captures are not at hand.
pub fn capture(venue: &str) -> Option<Vec<RecordedFrame>> {
    let folder = std::env::var_os("COBY_CAPTURES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/captures"), PathBuf::from);
    let path = folder.join(format!("{venue}.jsonl.gz"));
    if !path.exists() {
        println!("skipped: no captures at {}", folder.display());
        return None;
    }
    let mut recording = Recording::open(&path).expect("the capture opens");
    let mut frames = Vec::new();
    while let Some(frame) = recording.next_frame().expect("the capture is readable") {
        frames.push(frame);
    }
    Some(frames)
}

/// Random numbers from a fixed seed (Vigna, "splitmix64").
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
