//! The way from the driver to the engine: one queue, taken whole.
//!
//! A channel would wake the engine once per frame; here a burst of a socket is one lock and at most one wake-up, and
//! a busy engine is not woken at all.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Input;

#[derive(Default)]
struct Queue {
    inputs: VecDeque<Input>,
    /// Whether the engine sleeps.
    sleeping: bool,
    /// Whether the engine is wanted for something else than inputs.
    nudged: bool,
    /// Whether the engine has ended.
    gone: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
    limit: usize,
}

/// Where inputs go in.
#[derive(Clone)]
pub struct Ingress {
    shared: Arc<Shared>,
}

/// Where the engine takes them.
pub struct Inbox {
    shared: Arc<Shared>,
}

/// Why inputs were not taken; they are still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many wait as may.
    Full,
    /// The engine has ended.
    Gone,
}

/// A queue that takes no more while `limit` inputs wait. What is pushed at once is taken whole, so a burst may stand
/// above it.
pub fn ingress(limit: usize) -> (Ingress, Inbox) {
    let shared = Arc::new(Shared { queue: Mutex::default(), ready: Condvar::new(), limit });
    (Ingress { shared: Arc::clone(&shared) }, Inbox { shared })
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ingress {
    /// Puts all of `inputs` in, in order, or none of them.
    pub fn push(&self, inputs: &mut Vec<Input>) -> Result<(), Refused> {
        let mut queue = self.shared.queue();
        if queue.gone {
            return Err(Refused::Gone);
        }
        if queue.inputs.len() >= self.shared.limit {
            return Err(Refused::Full);
        }
        queue.inputs.extend(inputs.drain(..));
        self.wake(queue);
        Ok(())
    }

    /// Puts inputs in as soon as there is room; `false` when the engine has ended.
    pub async fn deliver(&self, inputs: &mut Vec<Input>) -> bool {
        loop {
            match self.push(inputs) {
                Ok(()) => return true,
                Err(Refused::Gone) => return false,
                Err(Refused::Full) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }

    /// Makes the engine look around: now if it sleeps, else before it next would.
    pub fn nudge(&self) {
        let mut queue = self.shared.queue();
        queue.nudged = true;
        self.wake(queue);
    }

    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        if std::mem::take(&mut queue.sleeping) {
            drop(queue);
            self.shared.ready.notify_one();
        }
    }
}

impl Inbox {
    /// Takes what waits into the empty `inputs`; waits for the first, or a nudge, or until `timeout` has passed.
    pub fn take(&self, inputs: &mut VecDeque<Input>, timeout: Duration) {
        let mut queue = self.shared.queue();
        if queue.inputs.is_empty() && !std::mem::take(&mut queue.nudged) && !timeout.is_zero() {
            queue.sleeping = true;
            let waited = self.shared.ready.wait_timeout_while(queue, timeout, |queue| queue.sleeping);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            queue.sleeping = false;
            queue.nudged = false;
        }
        std::mem::swap(&mut queue.inputs, inputs);
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.gone = true;
        // Places in ingress become free again.
        queue.inputs.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coby_core::record::Cause;

    fn close(conn: u32) -> Input {
        Input::Close { conn, cause: Cause::Closed, code: 0, recv: 0 }
    }

    fn conns(inputs: &VecDeque<Input>) -> Vec<u32> {
        inputs
            .iter()
            .filter_map(|input| if let Input::Close { conn, .. } = input { Some(*conn) } else { None })
            .collect()
    }

    #[test]
    fn order_bound_and_end() {
        let (ingress, inbox) = ingress(3);
        ingress.push(&mut vec![close(1), close(2)]).unwrap();
        ingress.push(&mut vec![close(3), close(4)]).unwrap();
        let mut more = vec![close(5)];
        assert_eq!(ingress.push(&mut more), Err(Refused::Full));
        assert_eq!(more.len(), 1);
        let mut taken = VecDeque::new();
        inbox.take(&mut taken, Duration::ZERO);
        assert_eq!(conns(&taken), [1, 2, 3, 4]);
        ingress.push(&mut more).unwrap();
        drop(inbox);
        assert_eq!(ingress.push(&mut more), Err(Refused::Gone));
    }

    #[test]
    fn a_nudge_waits_for_one_who_is_about_to_sleep() {
        let (ingress, inbox) = ingress(3);
        ingress.nudge();
        // Lost, it would make this wait for an hour.
        inbox.take(&mut VecDeque::new(), Duration::from_hours(1));
        assert!(!inbox.shared.queue().nudged);
    }

    #[test]
    fn one_who_sleeps_is_woken() {
        let (ingress, inbox) = ingress(3);
        let pusher = std::thread::spawn(move || {
            for conn in 1..=1_000 {
                while ingress.push(&mut vec![close(conn)]) == Err(Refused::Full) {
                    std::thread::yield_now();
                }
            }
            ingress.nudge();
        });
        let (mut taken, mut seen) = (VecDeque::new(), Vec::new());
        while seen.len() < 1_000 {
            // A lost wake-up would make this wait for an hour.
            inbox.take(&mut taken, Duration::from_hours(1));
            seen.extend(conns(&taken));
            taken.clear();
        }
        assert_eq!(seen, (1..=1_000).collect::<Vec<_>>());
        pusher.join().unwrap();
    }
}
