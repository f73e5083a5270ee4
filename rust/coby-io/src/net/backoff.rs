//! Waiting between attempts.

use std::time::Duration;

/// The longest wait.
const CAP: Duration = Duration::from_secs(30);
/// The first wait after a failure.
const FIRST: Duration = Duration::from_millis(500);

/// Waits that double up to 30 s, each drawn between half and the whole: many clients must not return at
/// once. The first attempt does not wait.
#[derive(Clone, Debug)]
pub struct Backoff {
    failures: u32,
    random: u64,
}

impl Backoff {
    /// A backoff whose jitter follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { failures: 0, random: seed | 1 }
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The wait before the next attempt, after a failure.
    pub fn failed(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(10)).min(CAP);
        self.failures = self.failures.saturating_add(1);
        // xorshift64: quality does not matter here.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        whole.mul_f64(0.5 + (self.random >> 11) as f64 / (1_u64 << 54) as f64)
    }

    /// The connection held: the next failure starts from the beginning.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_differ() {
        let mut backoff = Backoff::new(7);
        let waits: Vec<Duration> = (0..20).map(|_| backoff.failed()).collect();
        assert!(waits.iter().all(|wait| *wait <= CAP));
        assert!(waits[0] >= FIRST / 2 && waits[0] <= FIRST);
        assert!(waits[10..].iter().all(|wait| *wait >= CAP / 2));
        assert_ne!(waits[18], waits[19]);
        backoff.succeeded();
        assert!(backoff.failed() <= FIRST);
    }
}
