//! The Rust side of `make bench`: the hot path and its parts, each beside a ceiling measured in the same rounds.
//!
//! `coby-benches [--captures DIR] [--simulated DIR] [--scratch DIR] [--rounds N] [--venue ID] [--only TEXT]` writes JSON to
//! standard output; what it is doing goes to standard error. `benches/run.py` runs it pinned to a core and makes the table. With `--serve` as
//! its only argument it takes the same rounds one by one from another program (`benches/peers/run.py`).

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench that cannot go on stops")]

mod book;
mod ceiling;
mod measure;
mod serve;
mod socket;
mod synthetic;
mod tape;
mod venue;
mod workload;

use std::path::PathBuf;

use measure::{Line, Plan};
use serde::Serialize;
use workload::Workload;

/// Those of the captures first.
const VENUES: [&str; 19] = [
    "binance_futures",
    "coinbase",
    "kucoin",
    "bitstamp",
    "binance",
    "bybit",
    "okx",
    "kraken",
    "gateio",
    "bitfinex",
    "htx",
    "mexc",
    "bitget",
    "cryptocom",
    "gemini",
    "deribit",
    "hyperliquid",
    "dydx",
    "upbit",
];

#[derive(Serialize)]
struct Report {
    /// Whether the recordings are captures of real traffic.
    captured: bool,
    lines: Vec<Line>,
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("--serve") {
        return serve::run();
    }
    let mut plan = Plan { rounds: 60, only: None };
    let (mut captures, mut scratch) = (PathBuf::from("no captures"), PathBuf::from("target/bench-scratch"));
    let mut simulated = PathBuf::from("no simulated recordings");
    let mut only_venue = None;
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if_eq(socket::SERVE).is_some() {
        return socket::serve();
    }
    while let (Some(flag), Some(value)) = (arguments.next(), arguments.next()) {
        match flag.as_str() {
            "--captures" => captures = value.into(),
            "--simulated" => simulated = value.into(),
            "--scratch" => scratch = value.into(),
            "--rounds" => plan.rounds = value.parse().expect("a number of rounds"),
            "--venue" => only_venue = Some(value),
            "--only" => plan.only = Some(value),
            other => panic!("unknown flag {other}"),
        }
    }
    let mut lines = Vec::new();
    for venue in VENUES.into_iter().filter(|venue| only_venue.as_deref().is_none_or(|only| only == *venue)) {
        eprintln!("bench: {venue}");
        let Some(recorded) = workload::recorded(venue, &captures, &simulated) else {
            eprintln!("bench: there is no recording of {venue}");
            continue;
        };
        if let Some(plain) = workload::inflated(&recorded) {
            lines.extend(venue::run(&plan, &format!("{venue}, inflated"), &Workload::of(venue, plain)));
        }
        let work = Workload::of(venue, recorded);
        lines.extend(venue::run(&plan, venue, &work));
        if venue == VENUES[0] {
            eprintln!("bench: tape");
            lines.extend(tape::run(&plan, &work, &scratch));
        }
    }
    if only_venue.is_none() {
        eprintln!("bench: socket");
        lines.extend(socket::run(&plan, &scratch));
        eprintln!("bench: book");
        lines.extend(book::run(&plan));
    }
    // Nobody needs the tapes any more.
    drop(std::fs::remove_dir_all(&scratch));
    let captured = captures.join(format!("{}.jsonl.gz", VENUES[0])).exists();
    println!("{}", serde_json::to_string_pretty(&Report { captured, lines }).expect("plain data"));
}
