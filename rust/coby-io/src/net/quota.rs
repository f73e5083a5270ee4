//! Quotas: at most so many units in any window of time.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How much longer a window is held than the venue says.
const MARGIN: Duration = Duration::from_millis(250);

/// A sliding window.
#[derive(Debug)]
pub struct Quota {
    limit: u32,
    window: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When units were taken, and how many.
    taken: VecDeque<(Instant, u32)>,
    /// Nothing before this: the venue has asked for a pause.
    pause: Option<Instant>,
}

impl Quota {
    /// At most `limit` units in any `seconds`; a limit of 0 is none.
    pub fn new((limit, seconds): (u32, u32)) -> Self {
        let window = Duration::from_secs(seconds.into());
        // Messages take different times to arrive: the venue may see them closer together than they were sent.
        Self { limit, window: window + MARGIN.min(window / 2), state: Mutex::default() }
    }

    /// Waits until `units` may be taken, and takes them.
    pub async fn take(&self, units: u32) {
        while let Some(wait) = self.try_take(units) {
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes nothing until `wait` has passed.
    pub fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.pause = Some(state.pause.map_or(until, |pause| pause.max(until)));
    }

    /// Takes `units`, or says how long to wait before the next try.
    fn try_take(&self, units: u32) -> Option<Duration> {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pause) = state.pause.filter(|pause| *pause > now) {
            return Some(pause - now);
        }
        if self.limit == 0 {
            return None;
        }
        while state.taken.front().is_some_and(|(at, _)| *at + self.window <= now) {
            state.taken.pop_front();
        }
        // A request heavier than the whole quota goes when nothing else is under way.
        let units = units.min(self.limit);
        let used: u32 = state.taken.iter().map(|(_, units)| units).sum();
        if used + units <= self.limit {
            state.taken.push_back((now, units));
            return None;
        }
        state.taken.front().map(|(at, _)| *at + self.window - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_window_holds_more_than_the_limit() {
        let quota = Quota::new((3, 10));
        let start = Instant::now();
        let mut times = Vec::new();
        for _ in 0..12 {
            quota.take(1).await;
            times.push(start.elapsed());
        }
        for four in times.windows(4) {
            assert!(four[3] >= four[0] + Duration::from_secs(10), "{times:?}");
        }
        assert!(times[11] <= Duration::from_secs(31) + 3 * MARGIN, "{times:?}");
        quota.pause(Duration::from_mins(1));
        quota.take(1).await;
        assert!(start.elapsed() >= times[11] + Duration::from_mins(1));
    }
}
