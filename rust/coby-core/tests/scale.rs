//! What thousands of listed instruments cost of which a few are looked at.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and shows what it has measured")]

mod toy;

use std::time::{Duration, Instant};

use coby_core::pipeline::Pipeline;
use coby_core::record::{Body, Record, position};

use toy::find;

const TICK: i64 = 100_000_000;
const TICKS: i64 = 200;

struct Run {
    pipeline: Pipeline,
    count: u64,
    now: i64,
}

impl Run {
    fn step(&mut self, conn: u32, body: Body<'_>) {
        self.count += 1;
        let record = Record { pos: position(1, self.count), recv: self.now, conn, source: 0, body };
        self.pipeline.step(&record, &mut Vec::new()).unwrap();
        drop(self.pipeline.cut());
    }

    /// A venue that lists so many instruments, and one of them that trades.
    fn new(listed: usize) -> Self {
        let mut run = Self { pipeline: Pipeline::new(find, None), count: 0, now: 1_000 * TICK };
        run.step(0, Body::Start { code: "", origin: "live", settings: "{}", anchor: run.now });
        let body: String = (0..listed).map(|number| format!("TOKEN{number:05}USDT ")).collect();
        let venue = "contiguous_socket";
        let host = "https://toy";
        let body = body.as_bytes();
        run.step(0, Body::Http { venue, method: "GET", host, path: "/list", request: "", status: 200, body });
        run.step(1, Body::Open { venue, plan: None, url: "wss://toy", ping: 0 });
        run
    }

    /// How long a tick takes.
    fn tick(&mut self) -> Duration {
        let began = Instant::now();
        for _ in 0..TICKS {
            self.now += TICK;
            self.step(0, Body::Timer(self.now));
        }
        began.elapsed() / TICKS as u32
    }
}

/// Memory of this process in use, bytes; 0 where the system does not tell.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4_096
}

#[test]
fn a_listed_instrument_costs_no_time_and_little_memory() {
    const LISTED: usize = 30_000;
    let few = Run::new(100).tick();
    let before = resident();
    let mut run = Run::new(LISTED);
    let bytes = resident().saturating_sub(before) / LISTED;
    let many = run.tick();
    let state = run.pipeline.save().unwrap().len() / LISTED;
    eprintln!("a tick: {few:?} with 100 listed, {many:?} with {LISTED}; bytes each: {bytes}, {state} of them saved");
    // A walk over all takes hundreds of times as long.
    assert!(many < few * 20 + Duration::from_micros(20), "{many:?} for {LISTED}, {few:?} for 100");
    assert!(bytes < 1_024, "{bytes}");
}
