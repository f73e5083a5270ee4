//! The book and its buckets, per level change, beside a plain sorted vector of (price, size), best last, that knows
//! neither scales nor digits nor buckets.
//!
//! Changes come in frames of eight, as venues send them: bids before asks, best first. All structures of a group get the
//! same frames and give their best levels after each.

use std::collections::BTreeMap;
use std::hint::black_box;

use coby_core::aggregate::bucket::Buckets;
use coby_core::book::Book;
use coby_core::level::{Digits, Level, Side};

use crate::measure::{Contestant, Line, Plan, Sample, timed};
use crate::synthetic::Random;

const CHANGES: usize = 1 << 14;
/// Changes a frame, half of them bids.
const FRAME: usize = 8;

/// Ticks below the bids and above the asks.
const MID: i64 = 6_000_000;

/// Ten dollars of a price with two decimals.
const BUCKET: i64 = 1_000;

#[derive(Clone, Copy)]
enum Where {
    NearTouch,
    Uniform,
}

struct Workload {
    start: Vec<(Side, Level)>,
    /// One side's changes after the other's.
    changes: Vec<(Side, Vec<Level>)>,
}

impl Workload {
    /// The levels to begin with, and changes that keep their number near `depth` a side: four of five set a level of a
    /// grid with `depth * 5 / 4` prices, one removes it.
    fn new(depth: i64, place: Where) -> Self {
        let mut random = Random::default();
        let grid = depth * 5 / 4;
        let level = |side, offset: i64, random: &mut Random| {
            let price = match side {
                Side::Bid => MID - 1 - offset,
                Side::Ask => MID + 1 + offset,
            };
            let size = if random.below(5) < 4 { 1 + random.below(1_000_000) } else { 0 };
            Level { price, size, digits: Digits::default() }
        };
        let mut start = Vec::new();
        for offset in 0..grid {
            for side in [Side::Bid, Side::Ask] {
                start.push((side, level(side, offset, &mut random)));
            }
        }
        let mut changes = Vec::new();
        while changes.len() < CHANGES / (FRAME / 2) {
            for side in [Side::Bid, Side::Ask] {
                let mut offsets = [0; FRAME / 2];
                for offset in &mut offsets {
                    *offset = match place {
                        Where::NearTouch => random.near().min(grid - 1),
                        Where::Uniform => random.below(grid),
                    };
                }
                offsets.sort_unstable();
                changes.push((side, offsets.map(|offset| level(side, offset, &mut random)).to_vec()));
            }
        }
        Self { start, changes }
    }

    fn contestant<'w, S: Subject + 'w>(&'w self, name: &'static str, mut subject: S) -> Contestant<'w> {
        for (side, level) in &self.start {
            subject.change(*side, std::slice::from_ref(level));
        }
        Contestant::new(name, move || {
            let ((), nanos) = timed(|| {
                for (side, levels) in &self.changes {
                    subject.change(*side, levels);
                    if *side == Side::Ask {
                        black_box((subject.best(Side::Bid), subject.best(Side::Ask)));
                    }
                }
            });
            Sample { items: CHANGES as u64, nanos }
        })
    }
}

/// What a structure must do to take part.
trait Subject {
    fn change(&mut self, side: Side, levels: &[Level]);
    fn best(&self, side: Side) -> Option<(i64, i64)>;
}

impl Subject for Book {
    fn change(&mut self, side: Side, levels: &[Level]) {
        black_box(self.set_all(side, levels));
    }

    fn best(&self, side: Side) -> Option<(i64, i64)> {
        Self::best(self, side).map(|level| (level.price, level.size))
    }
}

struct Bucketed(Book, Buckets);

impl Subject for Bucketed {
    fn change(&mut self, side: Side, levels: &[Level]) {
        let old = self.0.set_all(side, levels);
        self.1.change_all(side, levels, old);
    }

    fn best(&self, side: Side) -> Option<(i64, i64)> {
        Subject::best(&self.0, side)
    }
}

/// The ceiling. Asks are negated, so that the best is last on both sides.
#[derive(Default)]
struct Plain([Vec<(i64, i64)>; 2]);

fn key(side: Side, level: &Level) -> i64 {
    if side == Side::Bid { level.price } else { -level.price }
}

impl Subject for Plain {
    fn change(&mut self, side: Side, levels: &[Level]) {
        let sorted = &mut self.0[side as usize];
        for level in levels {
            let key = key(side, level);
            black_box(match sorted.binary_search_by_key(&key, |(key, _)| *key) {
                Ok(at) if level.size == 0 => sorted.remove(at).1,
                Ok(at) => std::mem::replace(&mut sorted[at].1, level.size),
                Err(at) => {
                    if level.size != 0 {
                        sorted.insert(at, (key, level.size));
                    }
                    0
                }
            });
        }
    }

    fn best(&self, side: Side) -> Option<(i64, i64)> {
        self.0[side as usize].last().copied()
    }
}

/// What one would reach for first.
#[derive(Default)]
struct Tree([BTreeMap<i64, i64>; 2]);

impl Subject for Tree {
    fn change(&mut self, side: Side, levels: &[Level]) {
        let map = &mut self.0[side as usize];
        for level in levels {
            let key = key(side, level);
            black_box(if level.size == 0 { map.remove(&key) } else { map.insert(key, level.size) });
        }
    }

    fn best(&self, side: Side) -> Option<(i64, i64)> {
        self.0[side as usize].last_key_value().map(|(key, size)| (*key, *size))
    }
}

/// The lines of the books.
pub fn run(plan: &Plan) -> Vec<Line> {
    let cases = [
        ("book, 1,000 levels, changes near the touch", 1_000, Where::NearTouch),
        ("book, 5,000 levels, changes near the touch", 5_000, Where::NearTouch),
        ("book, 20,000 levels, uniform changes", 20_000, Where::Uniform),
    ];
    let name = "ceiling: plain sorted Vec";
    let mut lines = Vec::new();
    for (group, depth, place) in cases {
        let work = Workload::new(depth, place);
        let book = || Book::new(2, 8, false);
        lines.extend(plan.run(
            group,
            "ns/change",
            vec![
                work.contestant(name, Plain::default()),
                work.contestant("BTreeMap", Tree::default()).against(name),
                work.contestant("book", book()).against(name),
                work.contestant("book and one bucket size", Bucketed(book(), Buckets::new(BUCKET))).against(name),
            ],
        ));
    }
    lines
}
