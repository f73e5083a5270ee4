//! The Rust side of `make bench`: the hot path and its parts, each beside a ceiling measured in the same rounds.
//!
//! `coby-benches [--captures DIR] [--scratch DIR] [--rounds N] [--only TEXT]` writes JSON to standard output; what it is
//! doing goes to standard error. `benches/run.py` runs it pinned to a core and makes the table.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench that cannot go on stops")]

mod book;
mod ceiling;
mod measure;
mod socket;
mod synthetic;
mod tape;
mod venue;
mod workload;

use std::path::PathBuf;

use measure::{Line, Plan};
use serde::Serialize;
use workload::Workload;

/// The venues of the captures.
const VENUES: [&str; 4] = ["binance_futures", "coinbase", "kucoin", "bitstamp"];

#[derive(Serialize)]
struct Report {
    /// Whether the recordings are captures of real traffic.
    captured: bool,
    lines: Vec<Line>,
}

fn main() {
    let mut plan = Plan { rounds: 60, only: None };
    let (mut captures, mut scratch) = (PathBuf::from("no captures"), PathBuf::from("target/bench-scratch"));
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if_eq(socket::SERVE).is_some() {
        return socket::serve();
    }
    while let (Some(flag), Some(value)) = (arguments.next(), arguments.next()) {
        match flag.as_str() {
            "--captures" => captures = value.into(),
            "--scratch" => scratch = value.into(),
            "--rounds" => plan.rounds = value.parse().expect("a number of rounds"),
            "--only" => plan.only = Some(value),
            other => panic!("unknown flag {other}"),
        }
    }
    let mut lines = Vec::new();
    for venue in VENUES {
        eprintln!("bench: {venue}");
        let work = Workload::new(venue, &captures);
        lines.extend(venue::run(&plan, &work));
        if venue == VENUES[0] {
            eprintln!("bench: tape");
            lines.extend(tape::run(&plan, &work, &scratch));
        }
    }
    eprintln!("bench: socket");
    lines.extend(socket::run(&plan, &scratch));
    eprintln!("bench: book");
    lines.extend(book::run(&plan));
    // Nobody needs the tapes any more.
    drop(std::fs::remove_dir_all(&scratch));
    let captured = captures.join(format!("{}.jsonl.gz", VENUES[0])).exists();
    println!("{}", serde_json::to_string_pretty(&Report { captured, lines }).expect("plain data"));
}
