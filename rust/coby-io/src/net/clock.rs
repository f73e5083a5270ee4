//! Receive times: UTC that never runs backwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use coby_core::record::Nanos;

/// A difference beyond this is a step of the wall clock, not drift.
const STEP: Nanos = 500_000_000;
/// Drift is followed by at most so many parts per million.
const SLEW_PPM: i64 = 500;

/// A monotonic clock that follows UTC.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Instant,
    /// UTC at `start`, as corrected so far.
    base: Arc<AtomicI64>,
    /// How far behind this one the wall clock was at the last look, if it has stepped back; else 0.
    known: Arc<AtomicI64>,
}

fn utc() -> Nanos {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

impl Clock {
    /// A clock that shows UTC now.
    pub fn start() -> Self {
        Self { start: Instant::now(), base: Arc::new(AtomicI64::new(utc())), known: Arc::default() }
    }

    /// Nanoseconds UTC.
    #[inline]
    pub fn now(&self) -> Nanos {
        self.base.load(Ordering::Relaxed) + self.start.elapsed().as_nanos() as i64
    }

    /// Follows the wall clock after `elapsed` nanoseconds since the last call; returns the size of a step, once.
    /// A step ahead is taken at once; after a step back this clock goes on and is only slewed.
    pub fn follow(&self, elapsed: Nanos) -> Option<Nanos> {
        let error = utc() - self.now();
        let slew = elapsed.max(0) / 1_000_000 * SLEW_PPM;
        let step = error.abs() > STEP;
        let correction = if step && error > 0 { error } else { error.clamp(-slew, slew) };
        self.base.fetch_add(correction, Ordering::Relaxed);
        // What is left after this call, to be slewed, is no new step at the next.
        let known = self.known.swap(if step && error < 0 { error } else { 0 }, Ordering::Relaxed);
        (step && (error - known).abs() > STEP).then_some(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_slewed_and_steps_are_told() {
        let clock = Clock::start();
        assert_eq!(clock.follow(100_000_000), None);
        // Our clock is 10 ms ahead: it loses at most 50 us in 100 ms.
        clock.base.fetch_add(10_000_000, Ordering::Relaxed);
        let before = clock.base.load(Ordering::Relaxed);
        assert_eq!(clock.follow(100_000_000), None);
        assert_eq!(before - clock.base.load(Ordering::Relaxed), 50_000);
        // The wall clock jumps ahead by an hour: told and followed.
        clock.base.fetch_sub(3_600_000_000_000, Ordering::Relaxed);
        assert!(clock.follow(100_000_000).is_some_and(|step| step > 3_599_000_000_000));
        assert_eq!(clock.follow(100_000_000), None);
        // It jumps back by an hour: told, and our time goes on.
        clock.base.fetch_add(3_600_000_000_000, Ordering::Relaxed);
        let before = clock.now();
        assert!(clock.follow(100_000_000).is_some_and(|step| step < 0));
        assert!(clock.now() >= before - 50_000);
        // It is told once, and another step is told again.
        assert_eq!(clock.follow(100_000_000), None);
        clock.base.fetch_add(3_600_000_000_000, Ordering::Relaxed);
        assert!(clock.follow(100_000_000).is_some_and(|step| step < -7_000_000_000_000));
        assert_eq!(clock.follow(100_000_000), None);
    }
}
