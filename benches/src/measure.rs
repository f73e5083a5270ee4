//! Interleaved rounds, medians and spread.

use std::time::Instant;

use serde::Serialize;

/// A measured quantity in nanoseconds per item.
#[derive(Clone, Debug, Serialize)]
pub struct Measure {
    /// What.
    pub name: String,
    /// Median over the rounds.
    pub median: f64,
    /// First and third quartile.
    pub quartiles: (f64, f64),
}

/// One thing to measure: each call does the work once and returns how many items it did and how long the
/// part that counts took.
pub struct Contestant<'c> {
    /// Name.
    pub name: String,
    /// The work.
    pub work: Box<dyn FnMut() -> (u64, u128) + 'c>,
}

impl<'c> Contestant<'c> {
    /// Names some work.
    pub fn new(name: &str, work: impl FnMut() -> (u64, u128) + 'c) -> Self {
        Self { name: name.into(), work: Box::new(work) }
    }
}

/// Times the part that counts. Never inlined, so that `valgrind --toggle-collect` can count exactly this part.
#[inline(never)]
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, u128) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed().as_nanos())
}

/// Runs all contestants in turn, `rounds` times, after two rounds that do not count.
pub fn interleaved(rounds: usize, contestants: &mut [Contestant<'_>]) -> Vec<Measure> {
    let mut samples = vec![Vec::with_capacity(rounds); contestants.len()];
    for round in 0..rounds + 2 {
        for (samples, contestant) in samples.iter_mut().zip(contestants.iter_mut()) {
            let (items, nanos) = (contestant.work)();
            if round >= 2 {
                samples.push(nanos as f64 / items.max(1) as f64);
            }
        }
    }
    let named = contestants.iter().zip(samples);
    named
        .map(|(contestant, mut samples)| {
            samples.sort_by(f64::total_cmp);
            let at = |part: f64| samples[((samples.len() - 1) as f64 * part).round() as usize];
            Measure { name: contestant.name.clone(), median: at(0.5), quartiles: (at(0.25), at(0.75)) }
        })
        .collect()
}
