//! Bytes to decoded messages, to books, to rows: each venue beside a reader made for its format alone.

use std::hint::black_box;

use coby_core::event::Silent;
use coby_core::feed::Feed;
use coby_core::pipeline::Pipeline;
use coby_venues::registry::find;

use crate::ceiling::Ceiling;
use crate::measure::{Contestant, Line, Plan, Sample, timed};
use crate::workload::{Change, Workload};

/// Rows that a cut takes, as in the engine.
const ROWS: usize = 4_096;

/// Books that the records before the frames have made live; without `sync`, what only decodes.
pub fn warmed(work: &Workload, sync: bool) -> Feed {
    let (mut feed, mut actions) = (Feed::new(find, sync), Vec::new());
    for at in 0..work.warm {
        feed.step(&work.record(at), &mut Silent, &mut actions).expect("a step");
    }
    feed
}

/// The path itself.
pub fn fed(feed: &mut Feed, frames: &[Change<'_>]) {
    let mut actions = Vec::new();
    for frame in frames {
        feed.step(&frame.record(), &mut Silent, &mut actions).expect("a step");
    }
}

/// The lines of one recording.
pub fn run(plan: &Plan, name: &str, work: &Workload) -> Vec<Line> {
    let frames = work.changes();
    let texts = || frames.iter().map(|frame| frame.text);
    let items = frames.len() as u64;
    let mut ceiling = Ceiling::new(work.venue, &work.market);
    black_box(ceiling.apply(texts()));
    work.check(&ceiling);
    let fed = |sync: bool| {
        let mut feed = warmed(work, sync);
        work.touch();
        let ((), nanos) = timed(|| fed(&mut feed, &frames));
        Sample { items, nanos }
    };
    let levels = work.levels as f64 / items as f64;
    let group = format!("{name}, {} B and {levels:.1} levels a frame", work.frame_bytes());
    let name = "ceiling: own format, sorted Vec";
    plan.run(
        &group,
        "ns/frame",
        vec![
            Contestant::new(name, || {
                let mut ceiling = Ceiling::new(work.venue, &work.market);
                work.touch();
                let (best, nanos) = timed(|| ceiling.apply(texts()));
                black_box(best);
                Sample { items, nanos }
            }),
            Contestant::new("bytes -> decoded", || fed(false)).against(name),
            Contestant::new("bytes -> book", || fed(true)).against(name),
            Contestant::new("bytes -> rows", || {
                let mut pipeline = Pipeline::load(find, &work.saved).expect("a checkpoint");
                let mut actions = Vec::new();
                work.touch();
                let ((), nanos) = timed(|| {
                    for frame in &frames {
                        pipeline.step(&frame.record(), &mut actions).expect("a step");
                        if pipeline.waiting() >= ROWS {
                            black_box(pipeline.cut());
                        }
                    }
                });
                black_box(pipeline.cut());
                Sample { items, nanos }
            })
            .against(name),
        ],
    )
}
