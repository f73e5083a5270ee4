//! What a later run, or a lost frame, must not spoil.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod toy;

use coby_core::event::Key;
use coby_core::instrument::InstrumentId;
use coby_core::keeper::State;
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

    fn state(&self) -> State {
        self.pipeline.feed().keeper(Key { venue: 0, id: InstrumentId(0) }).unwrap().state()
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

#[test]
fn an_overflow_puts_a_book_in_a_gap_that_only_an_answer_has_made() {
    let mut run = start();
    let venue = "none_request";
    run.begin(venue, 1_000 * SECOND, 1);
    let answer = |body| {
        let (method, host, path) = ("GET", "https://toy", "/book?X");
        Body::Http { venue, method, host, path, request: "", status: 200, body }
    };
    run.step(1, answer(b"- snapshot X - - - 1 b100:5 a101:5"));
    assert_eq!(run.state(), State::Live);
    let cut = run.step(1, Body::Overflow { frames: 3 });
    assert_eq!((run.state(), cut.gaps.len()), (State::Gap, 1));
    // The connection takes it over, and it starts again.
    run.step(1, Body::Text(b"- delta X - - - 2 b100:6"));
    run.step(1, Body::Text(b"- delta X - - - 3 b100:7"));
    let cut = run.step(1, answer(b"- snapshot X - - - 3 b100:7 a101:5"));
    assert_eq!((run.state(), cut.gaps.len()), (State::Live, 1));
}

#[test]
fn what_a_list_no_longer_has_is_delisted() {
    let mut run = start();
    let venue = "none_socket";
    run.begin(venue, 1_000 * SECOND, 1);
    let mut rows = Vec::new();
    for body in ["A B C D", "A C D", "", "A", "A C D", "A B C D"] {
        let (method, host, path, body) = ("GET", "https://toy", "/list", body.as_bytes());
        let cut = run.step(0, Body::Http { venue, method, host, path, request: "", status: 200, body });
        rows.push(cut.instruments.len());
        run.pipeline = Pipeline::load(find, &run.pipeline.save().unwrap()).unwrap();
    }
    // All, one less, and what can only be part of a list; then it is back.
    assert_eq!(rows, [4, 1, 0, 0, 0, 1]);
}

#[test]
fn a_trade_that_only_the_replaced_connection_brings_is_kept_once() {
    let mut run = start();
    run.begin("none_socket", 1_000 * SECOND, 1);
    run.step(2, Body::Open { venue: "none_socket", plan: None, url: "wss://toy", ping: 0 });
    let trade = |run: &mut Run, conn, id: &str| {
        let now = run.now;
        run.step(conn, Body::Text(format!("- trade X {id} 100 1 buy {now}").as_bytes())).trades.len()
    };
    assert_eq!(trade(&mut run, 1, "a"), 1);
    // The newer one begins with `c`: it was not there yet for `b`, which the older one tells late.
    assert_eq!(["c", "d"].map(|id| trade(&mut run, 2, id)), [1, 1]);
    assert_eq!(["b", "c", "d"].map(|id| trade(&mut run, 1, id)), [1, 0, 0]);
    assert_eq!(["b", "e"].map(|id| trade(&mut run, 2, id)), [0, 1]);
    // One that goes on for long is of no more use: of what it repeats, ids may be forgotten.
    run.now += 11 * SECOND;
    assert_eq!(trade(&mut run, 1, "f"), 0);
}
