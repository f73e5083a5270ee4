//! What a later run, or a lost frame, must not spoil.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod toy;

use coby_core::pipeline::Pipeline;
use coby_core::record::{Body, Record, position};
use coby_core::rows::{Cut, Table};
use coby_core::time::SECOND;

use toy::find;

struct Run {
    pipeline: Pipeline,
    run: u64,
    count: u64,
    now: i64,
}

impl Run {
    fn step(&mut self, conn: u32, body: Body<'_>) -> Cut {
        self.count += 1;
        let record = Record { pos: position(self.run, self.count), recv: self.now, conn, source: 0, body };
        self.pipeline.step(&record, &mut Vec::new()).unwrap();
        self.pipeline.cut().unwrap()
    }

    /// Begins a run at a time, with connection `conn`.
    fn begin(&mut self, venue: &str, now: i64, conn: u32) {
        (self.run, self.count, self.now) = (self.run + 1, 0, now);
        self.step(0, Body::Start { code: "", origin: "live", settings: "{}", anchor: now });
        self.step(conn, Body::Open { venue, plan: None, url: "wss://toy", ping: 0 });
    }
}

fn start() -> Run {
    Run { pipeline: Pipeline::new(find, None), run: 0, count: 0, now: 0 }
}

#[test]
fn a_run_whose_clock_is_behind_that_of_the_run_before_has_candles() {
    let mut run = start();
    let year = 31_536_000 * SECOND;
    let mut closed = Vec::new();
    // The machine's clock was a year ahead, and was set right while nothing ran.
    for (conn, now) in [(1, 2 * year), (2, year)] {
        run.begin("none_socket", now, conn);
        run.step(conn, Body::Text(format!("- trade X id{conn} 100 1 buy {now}").as_bytes()));
        let mut candles = 0;
        for _ in 0..100 {
            run.now += SECOND;
            candles += run.step(0, Body::Timer(run.now)).candles.len();
        }
        closed.push(candles);
    }
    assert_eq!(closed, [2, 2]);
}
