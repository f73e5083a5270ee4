//! Interleaved rounds, medians and spread.

use std::time::Instant;

use serde::Serialize;

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// What was measured together, in the same rounds.
    pub group: String,
    /// What was measured.
    pub name: String,
    /// Of the figures.
    pub unit: &'static str,
    /// Items of a round.
    pub items: u64,
    /// Median over the rounds.
    pub median: f64,
    /// First and third quartile.
    pub quartiles: [f64; 2],
    /// The least: what is left when nothing else runs.
    pub least: f64,
    /// Name of the line of the same group that this one is compared with.
    pub against: Option<String>,
    /// That line's figure divided by this one's, round by round: 1 is as good, more is better. Median.
    pub ratio: Option<f64>,
    /// First and third quartile of the ratio.
    pub ratio_quartiles: Option<[f64; 2]>,
}

/// One thing to measure.
pub struct Contestant<'c> {
    name: &'static str,
    against: Option<&'static str>,
    work: Box<dyn FnMut() -> Sample + 'c>,
}

/// What one round did and how long the part that counts took.
pub struct Sample {
    /// How many items were done.
    pub items: u64,
    /// How long they took together.
    pub nanos: u128,
}

impl<'c> Contestant<'c> {
    /// Each call of `work` does the same work once.
    pub fn new(name: &'static str, work: impl FnMut() -> Sample + 'c) -> Self {
        Self { name, against: None, work: Box::new(work) }
    }

    /// Compares it with another of its group.
    pub fn against(self, other: &'static str) -> Self {
        Self { against: Some(other), ..self }
    }
}

/// Times the part that counts. Never inlined, so that `valgrind --toggle-collect` can count exactly this part.
#[inline(never)]
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, u128) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed().as_nanos())
}

/// What to measure and how often.
pub struct Plan {
    /// Rounds that count.
    pub rounds: usize,
    /// Only lines whose `group: name` contains this.
    pub only: Option<String>,
}

impl Plan {
    /// Runs all contestants in turn, round after round, after two rounds that do not count.
    pub fn run(&self, group: &str, unit: &'static str, mut contestants: Vec<Contestant<'_>>) -> Vec<Line> {
        if let Some(only) = &self.only {
            contestants.retain(|contestant| format!("{group}: {}", contestant.name).contains(only));
        }
        let mut samples = vec![Vec::with_capacity(self.rounds); contestants.len()];
        let mut counts = vec![0; contestants.len()];
        for round in 0..self.rounds + 2 {
            for ((samples, count), contestant) in samples.iter_mut().zip(&mut counts).zip(&mut contestants) {
                let Sample { items, nanos } = (contestant.work)();
                *count = items;
                if round >= 2 {
                    samples.push(nanos as f64 / items.max(1) as f64);
                }
            }
        }
        let line = |(at, contestant): (usize, &Contestant<'_>)| {
            let other = contestants.iter().position(|other| Some(other.name) == contestant.against);
            let ratios = other.map(|other| {
                spread(samples[other].iter().zip(&samples[at]).map(|(other, this)| other / this).collect())
            });
            let [first, median, third] = spread(samples[at].clone());
            Line {
                group: group.into(),
                name: contestant.name.into(),
                unit,
                items: counts[at],
                median,
                quartiles: [first, third],
                least: samples[at].iter().copied().fold(f64::INFINITY, f64::min),
                against: contestant.against.filter(|_| other.is_some()).map(Into::into),
                ratio: ratios.map(|[_, median, _]| median),
                ratio_quartiles: ratios.map(|[first, _, third]| [first, third]),
            }
        };
        contestants.iter().enumerate().map(line).collect()
    }
}

/// The quartiles.
fn spread(mut samples: Vec<f64>) -> [f64; 3] {
    samples.sort_by(f64::total_cmp);
    let last = samples.len().saturating_sub(1) as f64;
    [0.25, 0.5, 0.75].map(|part| samples.get((last * part).round() as usize).copied().unwrap_or(f64::NAN))
}
