//! Bytes to books, one round at a time: another program times other software in turn with it, on the same frames.
//!
//! Each line of standard input is a request and is answered by a line of JSON. `{"op": "load", "venue", "path"}` prepares
//! a recording and tells which of its lines are which; `{"op": "round"}` feeds the frames once.

use std::collections::BTreeMap;
use std::io::{BufRead, stdin};
use std::path::{Path, PathBuf};

use coby_core::book::Book;
use coby_core::decimal::Decimal;
use coby_core::level::{Level, Side};
use coby_venues::registry::find;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::venue::{fed, warmed};
use crate::workload::{Workload, frames_of};

/// Levels a side that are told of each book.
const LEVELS: usize = 10;
/// A round is passes over the frames until they took this long (ns): short passes would find everything cold.
const ENOUGH: u64 = 50_000_000;

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Request {
    Load { venue: String, path: PathBuf },
    Round,
}

/// What was made of a recording.
#[derive(Serialize)]
struct Loaded {
    /// So many lines come before all books are live.
    warm: usize,
    /// Lines of the frames behind those.
    frames: Vec<usize>,
    /// Bytes a frame.
    bytes: u64,
    /// Level changes a frame.
    levels: f64,
    /// The best levels behind those, best first, by the venue's symbols: bids and asks.
    books: BTreeMap<String, [Vec<(String, String)>; 2]>,
}

#[derive(Serialize)]
struct Round {
    /// Processor time of one pass over the frames.
    nanos: f64,
}

fn best(book: &Book, side: Side) -> Vec<(String, String)> {
    let text = |mantissa, scale| Decimal::new(mantissa, scale).to_string();
    let level = |level: Level| (text(level.price, book.price_scale()), text(level.size, book.size_scale()));
    book.levels(side).take(LEVELS).map(level).collect()
}

fn prepared(venue: &str, path: &Path) -> Workload {
    let venue = find(venue).expect("a venue").spec().id;
    Workload::of(venue, frames_of(path))
}

fn loaded(work: &Workload) -> Loaded {
    Loaded {
        warm: work.warm.checked_sub(1).map_or(0, |last| work.lines[last] + 1),
        frames: work.frames.iter().map(|at| work.lines[*at]).collect(),
        bytes: work.frame_bytes(),
        levels: work.levels as f64 / work.frames.len().max(1) as f64,
        books: work
            .after
            .iter()
            .map(|(symbol, book)| (symbol.clone(), [Side::Bid, Side::Ask].map(|side| best(book, side))))
            .collect(),
    }
}

/// Nanoseconds that this process has run: others run on this machine too.
fn cpu() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn round(work: &Workload) -> Round {
    let frames = work.changes();
    let (mut spent, mut passes) = (0, 0);
    while spent < ENOUGH {
        let mut feed = warmed(work, true);
        work.touch();
        let begin = cpu();
        fed(&mut feed, &frames);
        spent += cpu() - begin;
        passes += 1;
    }
    Round { nanos: spent as f64 / f64::from(passes) }
}

/// Answers until standard input ends.
pub fn run() {
    let mut work = None;
    for line in stdin().lock().lines() {
        let request = serde_json::from_str(&line.expect("standard input")).expect("a request");
        let answer = match request {
            Request::Load { venue, path } => {
                let work: &Workload = work.insert(prepared(&venue, &path));
                serde_json::to_string(&loaded(work))
            }
            Request::Round => {
                let work: &Workload = work.as_ref().expect("loaded before");
                serde_json::to_string(&round(work))
            }
        };
        println!("{}", answer.expect("plain data"));
    }
}
