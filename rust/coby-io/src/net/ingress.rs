//! The way from the driver to the engine: one queue, taken whole.
//!
//! A channel would wake the engine once per frame; here a burst of a socket is one lock and at most one wake-up, a
//! busy engine is not woken at all, and one that rests is woken by what cannot wait: a wake-up costs as much as a dozen
//! frames.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Frames, Input};

/// So many inputs, each frame counted, end the engine's rest.
const MANY: usize = 256;

/// So many emptied buffers are kept, none larger than a burst is.
const SPARES: usize = 64;
const SPARE_BYTES: usize = 128 << 10;

/// What wakes the engine.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Sleep {
    /// Nothing: it is awake.
    #[default]
    Awake,
    /// Any input.
    Waiting,
    /// Only what cannot wait.
    Resting,
}

#[derive(Default)]
struct Queue {
    inputs: VecDeque<Input>,
    /// How many they are, each frame counted.
    waiting: usize,
    /// How the engine sleeps.
    sleep: Sleep,
    /// Whether the engine is wanted at once: it was nudged, or there is what cannot wait.
    wanted: bool,
    /// Whether the engine has ended.
    gone: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
    limit: usize,
    /// Emptied buffers of frames.
    spares: Mutex<Vec<Frames>>,
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

/// A queue that takes no more while `limit` inputs wait, each frame counted. What is pushed at once is taken whole, so
/// a burst may stand above it.
pub fn ingress(limit: usize) -> (Ingress, Inbox) {
    let shared = Arc::new(Shared { queue: Mutex::default(), ready: Condvar::new(), limit, spares: Mutex::default() });
    (Ingress { shared: Arc::clone(&shared) }, Inbox { shared })
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spares(&self) -> MutexGuard<'_, Vec<Frames>> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ingress {
    /// Puts all of `inputs` in, in order, or none of them. Frames leave a resting engine its rest until many wait.
    pub fn push(&self, inputs: &mut Vec<Input>) -> Result<(), Refused> {
        let mut queue = self.shared.queue();
        if queue.gone {
            return Err(Refused::Gone);
        }
        if queue.waiting >= self.shared.limit {
            return Err(Refused::Full);
        }
        for input in inputs.drain(..) {
            if let Input::Frames { frames, .. } = &input {
                queue.waiting += frames.len();
            } else {
                queue.waiting += 1;
                queue.wanted = true;
            }
            queue.inputs.push_back(input);
        }
        queue.wanted |= queue.waiting >= MANY.min(self.shared.limit);
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

    /// A buffer for frames.
    pub fn spare(&self) -> Frames {
        self.shared.spares().pop().unwrap_or_default()
    }

    /// Makes the engine look around: now if it sleeps, else before it next would.
    pub fn nudge(&self) {
        let mut queue = self.shared.queue();
        queue.wanted = true;
        self.wake(queue);
    }

    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        if queue.sleep == Sleep::Waiting || queue.sleep == Sleep::Resting && queue.wanted {
            queue.sleep = Sleep::Awake;
            drop(queue);
            self.shared.ready.notify_one();
        }
    }
}

impl Inbox {
    /// Takes what waits into the empty `inputs`. First it rests: until `rest` has passed, a nudge, something else than a
    /// frame, or many inputs. Then it waits for an input, or a nudge, or until `timeout` has passed since the call.
    pub fn take(&self, inputs: &mut VecDeque<Input>, rest: Duration, timeout: Duration) {
        let rest = rest.min(timeout);
        let mut queue = self.shared.queue();
        if !queue.wanted {
            queue = self.sleep(queue, Sleep::Resting, rest);
        }
        if queue.inputs.is_empty() && !queue.wanted {
            queue = self.sleep(queue, Sleep::Waiting, timeout.saturating_sub(rest));
        }
        queue.wanted = false;
        queue.waiting = 0;
        std::mem::swap(&mut queue.inputs, inputs);
    }

    /// Gives back the buffer of frames that are done with.
    pub fn give_back(&self, mut frames: Frames) {
        frames.clear();
        let mut spares = self.shared.spares();
        if spares.len() < SPARES && frames.capacity() <= SPARE_BYTES {
            spares.push(frames);
        }
    }

    /// Sleeps until it is woken, or `time` has passed.
    fn sleep<'q>(&self, mut queue: MutexGuard<'q, Queue>, sleep: Sleep, time: Duration) -> MutexGuard<'q, Queue> {
        if time.is_zero() {
            return queue;
        }
        queue.sleep = sleep;
        let woken = self.shared.ready.wait_timeout_while(queue, time, |queue| queue.sleep != Sleep::Awake);
        let mut queue = woken.unwrap_or_else(PoisonError::into_inner).0;
        queue.sleep = Sleep::Awake;
        queue
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
    use std::time::Instant;

    use coby_core::record::Cause;
    use tokio::sync::Semaphore;

    use super::*;

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
        inbox.take(&mut taken, Duration::ZERO, Duration::ZERO);
        assert_eq!(conns(&taken), [1, 2, 3, 4]);
        ingress.push(&mut more).unwrap();
        drop(inbox);
        assert_eq!(ingress.push(&mut more), Err(Refused::Gone));
    }

    #[test]
    fn buffers_come_back_empty_and_huge_ones_do_not() {
        let (ingress, inbox) = ingress(3);
        for (size, kept) in [(SPARE_BYTES, true), (SPARE_BYTES + 1, false)] {
            let mut frames = Frames::default();
            frames.push(true, &vec![0; size]);
            inbox.give_back(frames);
            let spare = ingress.spare();
            assert_eq!((spare.len(), spare.size(), spare.capacity() > 0), (0, 0, kept));
        }
    }

    #[test]
    fn a_nudge_waits_for_one_who_is_about_to_sleep() {
        let (ingress, inbox) = ingress(3);
        ingress.nudge();
        // Lost, it would make this wait for an hour.
        inbox.take(&mut VecDeque::new(), Duration::from_hours(1), Duration::from_hours(1));
        assert!(!inbox.shared.queue().wanted);
    }

    fn frame(conn: u32, places: &Arc<Semaphore>) -> Input {
        let mut frames = Frames::default();
        frames.push(true, b"{}");
        Input::Frames { conn, frames, recv: 0, places: Arc::clone(places).try_acquire_owned().unwrap() }
    }

    #[test]
    fn frames_leave_a_rest_and_all_else_ends_it() {
        let places = Arc::new(Semaphore::new(2 * MANY));
        let long = Duration::from_hours(1);
        let taken = |ingress: Ingress, inbox: &Inbox, rest: Duration, push: &mut dyn FnMut(&Ingress)| {
            std::thread::scope(|scope| {
                let taker = scope.spawn(move || {
                    let mut taken = VecDeque::new();
                    inbox.take(&mut taken, rest, long);
                    taken.len()
                });
                // Both orders are right: it sleeps already, or is about to.
                push(&ingress);
                taker.join().unwrap()
            })
        };
        let (ingress, inbox) = ingress(2 * MANY);
        let one = |ingress: &Ingress| ingress.push(&mut vec![frame(1, &places)]).unwrap();
        // A frame is taken once the rest is over, and not before.
        let begun = Instant::now();
        let rest = Duration::from_millis(50);
        assert_eq!(taken(ingress.clone(), &inbox, rest, &mut |ingress| one(ingress)), 1);
        assert!(begun.elapsed() >= rest);
        // Any of these would be waited for for an hour if they left the rest.
        let mut closes = |ingress: &Ingress| {
            one(ingress);
            ingress.push(&mut vec![close(1)]).unwrap();
        };
        assert!(taken(ingress.clone(), &inbox, long, &mut closes) >= 1);
        let mut nudges = |ingress: &Ingress| {
            one(ingress);
            ingress.nudge();
        };
        // What a nudge came too late for is still there.
        inbox.take(&mut VecDeque::new(), Duration::ZERO, Duration::ZERO);
        assert_eq!(taken(ingress.clone(), &inbox, long, &mut nudges), 1);
        let mut many = |ingress: &Ingress| (0..MANY).for_each(|_| one(ingress));
        assert_eq!(taken(ingress, &inbox, long, &mut many), MANY);
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
            inbox.take(&mut taken, Duration::ZERO, Duration::from_hours(1));
            seen.extend(conns(&taken));
            taken.clear();
        }
        assert_eq!(seen, (1..=1_000).collect::<Vec<_>>());
        pusher.join().unwrap();
    }
}
