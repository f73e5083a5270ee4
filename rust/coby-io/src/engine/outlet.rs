//! What the engine thread and its user share: cuts, status, the wish to stop.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use coby_core::pipeline::Pipeline;
use coby_core::rows::Cut;
use tokio::sync::mpsc;

use super::Status;
use super::view::Moment;
use crate::net::{Command, External};
use crate::tape::Wake;

/// Cuts that may wait; a source that can wait then does.
const CUTS: usize = 16;
/// Cuts of a source that cannot wait that may; later ones are dropped, to be derived again from the tape.
const LIVE_CUTS: usize = 64;
/// How long a question may wait for its answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Something to be done between two records.
type Question = Box<dyn FnOnce(&Moment<'_>) + Send>;
/// Makes an engine that waits for records look at its questions.
type Nudge = Box<dyn Fn() + Send + Sync>;
/// The driver's commands, without keeping the driver from its end.
type Plug = mpsc::WeakSender<Command>;

#[derive(Default)]
struct Inside {
    cuts: VecDeque<Cut>,
    /// Whether a live source was told that its user is busy, and may hold rows back.
    busy: bool,
    status: Status,
    questions: Vec<Question>,
}

/// The shared state of an engine.
pub(super) struct Outlet {
    inside: Mutex<Inside>,
    /// Signalled when cuts come, go, or the engine ends.
    moved: Condvar,
    stopping: AtomicBool,
    asked: AtomicBool,
    /// Whether the source cannot wait.
    live: AtomicBool,
    nudge: OnceLock<Nudge>,
    /// Where connections whose frames are pushed are opened, once that is possible.
    plug: OnceLock<Plug>,
    pub durable: Arc<AtomicU64>,
    pub wake: Wake,
}

impl Outlet {
    pub fn new(wake: Wake) -> Self {
        Self {
            inside: Mutex::default(),
            moved: Condvar::new(),
            stopping: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            live: AtomicBool::new(false),
            nudge: OnceLock::new(),
            plug: OnceLock::new(),
            durable: Arc::default(),
            wake,
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.moved.notify_all();
        (self.wake)();
    }

    /// Whether the user wants the engine to end.
    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        // The lock makes sure that a thread about to wait sees the flag.
        drop(self.inside());
        self.moved.notify_all();
        self.nudge();
    }

    /// From now on the source does not wait for the user; `nudge` wakes it.
    pub fn go_live(&self, nudge: Nudge) {
        // Told once, by the engine's own thread.
        drop(self.nudge.set(nudge));
        self.live.store(true, Ordering::Relaxed);
    }

    /// From now on connections whose frames are pushed can be opened.
    pub fn plug_in(&self, plug: Plug) {
        // Told once, by the engine's own thread.
        drop(self.plug.set(plug));
        // The lock makes sure that a thread about to wait sees it.
        drop(self.inside());
        self.moved.notify_all();
    }

    /// A connection whose frames are pushed, as soon as one can be opened; `None` if the engine ends before.
    pub fn external(&self, exchange: String) -> Option<External> {
        let mut inside = self.inside();
        while self.plug.get().is_none() {
            if inside.status.ended || inside.status.failed.is_some() || self.stopping() {
                return None;
            }
            inside = self.moved.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
        drop(inside);
        let (reply, answer) = sync_channel(1);
        let commands = self.plug.get()?.upgrade()?;
        commands.blocking_send(Command::Feed { exchange, reply }).ok()?;
        drop(commands);
        answer.recv().ok()
    }

    fn nudge(&self) {
        if let Some(nudge) = self.nudge.get() {
            nudge();
        }
    }

    /// Has `question` answered between two records; `None` if the engine is too busy, has ended, or is not asked in
    /// time.
    pub fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Moment<'_>) -> T + Send + 'static) -> Option<T> {
        let (reply, answer) = sync_channel(1);
        let question: Question = Box::new(move |moment| drop(reply.try_send(question(moment))));
        let mut inside = self.inside();
        if inside.status.ended || inside.status.failed.is_some() {
            return None;
        }
        inside.questions.push(question);
        drop(inside);
        self.asked.store(true, Ordering::Release);
        self.nudge();
        answer.recv_timeout(PATIENCE).ok()
    }

    /// Answers what has been asked.
    #[inline]
    pub fn answer(&self, pipeline: &Pipeline, pos: u64, recv: i64) {
        if self.asked.load(Ordering::Relaxed) && self.asked.swap(false, Ordering::Acquire) {
            let questions = std::mem::take(&mut self.inside().questions);
            let moment = Moment { pipeline, pos, recv };
            for question in questions {
                question(&moment);
            }
        }
    }

    /// Hands on a cut; waits while the user is far behind, or, if the source cannot wait, drops it.
    pub fn push(&self, cut: Cut) {
        let mut inside = self.inside();
        if self.live.load(Ordering::Relaxed) {
            if inside.cuts.len() >= LIVE_CUTS {
                inside.status.dropped_cuts += 1;
                return;
            }
        } else {
            while inside.cuts.len() >= CUTS && !self.stopping() {
                inside = self.moved.wait(inside).unwrap_or_else(PoisonError::into_inner);
            }
        }
        inside.status.rows += cut.len() as u64;
        inside.cuts.push_back(cut);
        drop(inside);
        self.notify();
    }

    /// Whether the user has nothing to do. A live source that is told `false` is nudged once the user has taken all.
    pub fn idle(&self) -> bool {
        let mut inside = self.inside();
        inside.busy = !inside.cuts.is_empty();
        !inside.busy
    }

    pub fn drain(&self) -> Vec<Cut> {
        self.hand_over(self.inside())
    }

    pub fn wait(&self) -> Vec<Cut> {
        let mut inside = self.inside();
        while inside.cuts.is_empty() && !inside.status.ended && inside.status.failed.is_none() {
            inside = self.moved.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
        self.hand_over(inside)
    }

    fn hand_over(&self, mut inside: MutexGuard<'_, Inside>) -> Vec<Cut> {
        let cuts = inside.cuts.drain(..).collect();
        let held = std::mem::take(&mut inside.busy);
        drop(inside);
        self.moved.notify_all();
        // What was held back, because this user was busy, may be handed on now.
        if held {
            self.nudge();
        }
        cuts
    }

    /// Waits for the engine's end.
    pub fn wait_end(&self) {
        let mut inside = self.inside();
        while !inside.status.ended && inside.status.failed.is_none() {
            inside = self.moved.wait(inside).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn finished(&self) -> bool {
        let inside = self.inside();
        (inside.status.ended || inside.status.failed.is_some()) && inside.cuts.is_empty()
    }

    pub fn status(&self) -> Status {
        let mut status = self.inside().status.clone();
        status.durable_pos = self.durable.load(Ordering::Acquire);
        status
    }

    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.inside().status);
    }

    /// The engine has ended.
    pub fn end(&self, failed: Option<String>) {
        self.update(|status| {
            status.ended = failed.is_none();
            status.failed = failed;
        });
        // Whoever waits for an answer gets none.
        self.inside().questions.clear();
        self.notify();
    }
}
