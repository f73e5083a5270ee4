//! The book and its buckets, per level change, beside a ceiling: a plain sorted vector of (price, size), best last,
//! that knows neither scales nor digits nor buckets.
//!
//! Changes come in frames of eight, as venues send them: bids before asks, best first. All structures of a group get the
//! same frames and give their best levels after each. Compare inside one group only; `cargo bench -p coby-benches --bench book`.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::hint::black_box;

use coby_core::aggregate::bucket::Buckets;
use coby_core::book::Book;
use coby_core::level::{Digits, Level, Side};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};

const CHANGES: usize = 1 << 16;
/// Changes a frame, half of them bids.
const FRAME: usize = 8;

/// Ticks below the bids and above the asks.
const MID: i64 = 6_000_000;

/// Ten dollars of a price with two decimals.
const BUCKET: i64 = 1_000;

struct Change {
    side: Side,
    level: Level,
}

/// A generator with a fixed seed (xorshift64*, Vigna 2016): every run measures the same changes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: i64) -> i64 {
        (self.next() >> 1) as i64 % end
    }

    /// How far from the touch a change is: halves every 8 ticks for near changes, which is what venues send.
    fn near(&mut self) -> i64 {
        i64::from(self.next().trailing_zeros()) * 8 + self.below(8)
    }
}

#[derive(Clone, Copy)]
enum Where {
    NearTouch,
    Uniform,
}

/// The levels to begin with, and changes that keep their number near `depth` a side: four of five set a level of a
/// grid with `depth * 5 / 4` prices, one removes it.
fn workload(depth: i64, place: Where) -> (Vec<Change>, Vec<Change>) {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let grid = depth * 5 / 4;
    let change = |side, offset: i64, random: &mut Random| {
        let price = match side {
            Side::Bid => MID - 1 - offset,
            Side::Ask => MID + 1 + offset,
        };
        let size = if random.below(5) < 4 { 1 + random.below(1_000_000) } else { 0 };
        Change { side, level: Level { price, size, digits: Digits::default() } }
    };
    let mut start = Vec::new();
    for offset in 0..grid {
        start.push(change(Side::Bid, offset, &mut random));
        start.push(change(Side::Ask, offset, &mut random));
    }
    let mut changes = Vec::new();
    while changes.len() < CHANGES {
        for side in [Side::Bid, Side::Ask] {
            let mut offsets = [0; FRAME / 2];
            for offset in &mut offsets {
                *offset = match place {
                    Where::NearTouch => random.near().min(grid - 1),
                    Where::Uniform => random.below(grid),
                };
            }
            offsets.sort_unstable();
            changes.extend(offsets.map(|offset| change(side, offset, &mut random)));
        }
    }
    (start, changes)
}

/// What a structure must do to take part.
trait Subject {
    fn set(&mut self, side: Side, level: Level) -> i64;
    fn best(&self, side: Side) -> Option<(i64, i64)>;
}

impl Subject for Book {
    fn set(&mut self, side: Side, level: Level) -> i64 {
        Self::set(self, side, level)
    }

    fn best(&self, side: Side) -> Option<(i64, i64)> {
        Self::best(self, side).map(|level| (level.price, level.size))
    }
}

struct Bucketed {
    book: Book,
    buckets: Buckets,
}

impl Subject for Bucketed {
    fn set(&mut self, side: Side, level: Level) -> i64 {
        let old = self.book.set(side, level);
        self.buckets.change(side, level.price, old, level.size);
        old
    }

    fn best(&self, side: Side) -> Option<(i64, i64)> {
        Subject::best(&self.book, side)
    }
}

/// The ceiling. Asks are negated, so that the best is last on both sides.
#[derive(Default)]
struct Plain([Vec<(i64, i64)>; 2]);

impl Subject for Plain {
    fn set(&mut self, side: Side, level: Level) -> i64 {
        let key = if side == Side::Bid { level.price } else { -level.price };
        let levels = &mut self.0[side as usize];
        match levels.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) if level.size == 0 => levels.remove(at).1,
            Ok(at) => std::mem::replace(&mut levels[at].1, level.size),
            Err(at) => {
                if level.size != 0 {
                    levels.insert(at, (key, level.size));
                }
                0
            }
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
    fn set(&mut self, side: Side, level: Level) -> i64 {
        let key = if side == Side::Bid { level.price } else { -level.price };
        let levels = &mut self.0[side as usize];
        let old = if level.size == 0 { levels.remove(&key) } else { levels.insert(key, level.size) };
        old.unwrap_or(0)
    }

    fn best(&self, side: Side) -> Option<(i64, i64)> {
        self.0[side as usize].last_key_value().map(|(key, size)| (*key, *size))
    }
}

fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut subject: impl Subject,
    (start, changes): &(Vec<Change>, Vec<Change>),
) {
    for change in start {
        subject.set(change.side, change.level);
    }
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            for frame in changes.chunks(FRAME) {
                for change in frame {
                    black_box(subject.set(change.side, change.level));
                }
                black_box((subject.best(Side::Bid), subject.best(Side::Ask)));
            }
        });
    });
}

fn book(criterion: &mut Criterion) {
    let cases = [
        ("1000 near touch", 1_000, Where::NearTouch),
        ("5000 near touch", 5_000, Where::NearTouch),
        ("20000 uniform", 20_000, Where::Uniform),
    ];
    for (name, depth, place) in cases {
        let workload = workload(depth, place);
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(CHANGES as u64));
        measure(&mut group, "ceiling: plain sorted vector", Plain::default(), &workload);
        measure(&mut group, "BTreeMap", Tree::default(), &workload);
        measure(&mut group, "book", Book::new(2, 8, false), &workload);
        let bucketed = Bucketed { book: Book::new(2, 8, false), buckets: Buckets::new(BUCKET) };
        measure(&mut group, "book and buckets", bucketed, &workload);
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = book
}
criterion_main!(benches);
