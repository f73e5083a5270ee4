//! A live engine: what the driver brings becomes records, on the tape and through the pipeline.
//!
//! The state at the tape's end is rebuilt first, from the last checkpoint and the records behind it; then a new run
//! begins. While the tape cannot be written the pipeline goes on and its cuts are marked; when it can be again, a new
//! run begins in the same way.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use coby_core::feed::{Action, Lookup};
use coby_core::pipeline::Pipeline;
use coby_core::record::{Body, Cause, ConnId, HttpRequest, Nanos, Pos, Record, position};
use coby_core::settings::PipelineSettings;
use serde::Serialize;
use tokio::sync::mpsc;

use super::outlet::Outlet;
use super::planner::{LiveStatus, Planned, Planner};
use super::replay;
use super::runner::Runner;
use super::{CODE, EngineError};
use crate::checker::Checker;
use crate::disk::{Disk, remove_if_there};
use crate::import::{GRID, masked};
use crate::net::{Clock, Command, Driver, DriverConfig, Endpoints, Inbox, Ingress, Input, Network, ingress};
use crate::tape::{TapeError, TapeOptions, TapeStatus, TapeWriter, claim_run, lock, recover};

/// Inputs of all connections that may wait.
const INGRESS: usize = 16_384;
/// Commands that may wait for the driver.
const COMMANDS: usize = 1_024;
/// After so many records the time and the users are looked at.
const BURST: u64 = 256;
/// Rows that wait leave at the latest after this,
const LATEST: Nanos = 50_000_000;
/// and, to a user that is idle, at the earliest: a wake-up per frame would cost more than the frame.
const EARLIEST: Nanos = 20_000_000;
/// After frames were taken, more gather until their rows could leave, and for this at least. What they ask of the venue,
/// such as a snapshot behind a gap, waits as long; receive times are the sockets'. Stepped a few at a time, frames find
/// the caches cold and cost twice as much.
const REST: Nanos = 5_000_000;
/// Ticks of the grid between two looks at the venues.
const LOOK: u32 = 2;
/// How long connections may take to end.
const LEAVE: Nanos = 4_000_000_000;
/// A tape that cannot be written is tried again after this, doubling up to ten seconds.
const RETRY: Nanos = 1_000_000_000;
const LONGEST_RETRY: Nanos = 10_000_000_000;
/// Bytes that a disk must take before a tape is tried on it again.
const PROBE: usize = 1 << 20;

/// A live engine's task.
pub struct LiveConfig {
    /// Venue ids.
    pub venues: Vec<String>,
    /// Symbols in any spelling, wanted of every venue.
    pub symbols: Vec<String>,
    /// Tape directory.
    pub tape: PathBuf,
    /// Settings of the run.
    pub settings: PipelineSettings,
    /// Sizes and times of the tape.
    pub options: TapeOptions,
    /// Whether a background replay of sealed segments compares row hashes and writes checkpoints.
    pub check: bool,
    /// Frames of one connection that may wait.
    pub places: usize,
    /// Where the venues' hosts are.
    pub endpoints: Endpoints,
    /// How they are reached.
    pub network: Arc<dyn Network>,
    /// The time.
    pub clock: Clock,
}

/// What a run's `Config` record says.
#[derive(Serialize)]
struct Subscribed<'p> {
    venue: &'p str,
    subscriptions: &'p [coby_core::venue::Subscription],
}

/// The driver, on a thread of its own.
struct DriverThread {
    driver: Driver,
    thread: JoinHandle<()>,
}

/// A tape that is being written.
struct Taping {
    writer: TapeWriter,
    checker: Option<Checker>,
}

/// A tape that can be written again.
struct Reopened {
    run: u64,
    before: Pos,
    pipeline: Pipeline,
    taping: Taping,
}

/// Since when, why, and until when the tape is left alone.
struct Untaped {
    error: String,
    next_try: Nanos,
    wait: Nanos,
}

struct Live<'c> {
    lookup: Lookup,
    disk: &'c Arc<dyn Disk>,
    config: &'c LiveConfig,
    outlet: &'c Arc<Outlet>,
    runner: Runner,
    planner: Planner,
    taping: Taping,
    untaped: Option<Untaped>,
    commands: Option<mpsc::Sender<Command>>,
    run: u64,
    count: u64,
    before: Pos,
    started: Nanos,
    recv: Nanos,
    next_tick: Nanos,
    ticks: u32,
    followed: Nanos,
    last_cut: Nanos,
    /// Until when frames that come may wait.
    rested: Nanos,
    frames: u64,
    actions: Vec<Action>,
}

pub(super) fn run(
    lookup: Lookup,
    disk: &Arc<dyn Disk>,
    config: &LiveConfig,
    outlet: &Arc<Outlet>,
) -> Result<(), EngineError> {
    let _held = lock(&**disk, &config.tape)?;
    let before = recover(disk, &config.tape)?.last_pos;
    outlet.durable.store(before, Ordering::Release);
    let pipeline = replay::state(lookup, disk, &config.tape)?;
    let (ingress, inbox) = ingress(INGRESS);
    let nudged = ingress.clone();
    outlet.go_live(Box::new(move || nudged.nudge()));
    let (driver, commands) = start_driver(lookup, config, &pipeline, ingress)?;
    let mut live = Live::begin(lookup, disk, config, outlet, pipeline, before)?;
    outlet.plug_in(commands.downgrade());
    live.commands = Some(commands);
    live.serve(&inbox, &driver)?;
    // Without commands the driver ends all connections, and then itself.
    live.commands = None;
    live.leave(&inbox, &driver)?;
    live.end()
}

fn start_driver(
    lookup: Lookup,
    config: &LiveConfig,
    pipeline: &Pipeline,
    ingress: Ingress,
) -> Result<(DriverThread, mpsc::Sender<Command>), EngineError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(EngineError::Thread)?;
    let settings = DriverConfig {
        lookup,
        endpoints: config.endpoints.clone(),
        network: Arc::clone(&config.network),
        clock: config.clock.clone(),
        places: config.places,
        first_conn: pipeline.feed().last_conn(),
    };
    let driver = Driver::new(settings, ingress);
    let (commands, orders) = mpsc::channel(COMMANDS);
    let running = driver.clone();
    let thread = std::thread::Builder::new()
        .name("coby-net".into())
        .spawn(move || runtime.block_on(running.run(orders)))
        .map_err(EngineError::Thread)?;
    Ok((DriverThread { driver, thread }, commands))
}

/// Starts writing behind `last_pos`.
fn start_tape(
    lookup: Lookup,
    disk: &Arc<dyn Disk>,
    config: &LiveConfig,
    outlet: &Arc<Outlet>,
    last_pos: Pos,
) -> Result<Taping, EngineError> {
    let durable: Arc<OnceLock<Arc<AtomicU64>>> = Arc::default();
    let wake = {
        let (outlet, durable) = (Arc::clone(outlet), Arc::clone(&durable));
        Arc::new(move || {
            if let Some(durable) = durable.get() {
                outlet.durable.fetch_max(durable.load(Ordering::Acquire), Ordering::AcqRel);
            }
            (outlet.wake)();
        })
    };
    let writer = TapeWriter::start(Arc::clone(disk), &config.tape, last_pos, config.options, wake)?;
    drop(durable.set(writer.durable_pos()));
    let seals = writer.seals();
    let checker = config.check.then(|| Checker::resume(lookup, disk, &config.tape, &seals)).transpose()?;
    Ok(Taping { writer, checker })
}

/// Whether the disk takes bytes again.
fn probe(disk: &dyn Disk, tape: &Path) -> std::io::Result<()> {
    let path = tape.join("probe.tmp");
    remove_if_there(disk, &path)?;
    let mut file = disk.create(&path)?;
    let written = file.write_all(&vec![0x5a; PROBE]).and_then(|()| file.sync());
    drop(file);
    disk.remove(&path)?;
    written
}

impl<'c> Live<'c> {
    /// Begins the first run.
    fn begin(
        lookup: Lookup,
        disk: &'c Arc<dyn Disk>,
        config: &'c LiveConfig,
        outlet: &'c Arc<Outlet>,
        pipeline: Pipeline,
        before: Pos,
    ) -> Result<Self, EngineError> {
        let run = claim_run(&**disk, &config.tape)?;
        let taping = start_tape(lookup, disk, config, outlet, before)?;
        let mut runner = Runner::new(pipeline, outlet, 0, false, true);
        runner.paced = true;
        runner.follows = before;
        let now = config.clock.now();
        let mut live = Self {
            lookup,
            disk,
            config,
            outlet,
            runner,
            planner: Planner::new(lookup, &config.venues, &config.symbols),
            taping,
            untaped: None,
            commands: None,
            run,
            count: 0,
            before,
            started: now,
            recv: now,
            next_tick: (now.div_euclid(GRID) + 1) * GRID,
            ticks: 0,
            followed: now,
            last_cut: now,
            rested: now,
            frames: 0,
            actions: Vec::new(),
        };
        live.start()?;
        Ok(live)
    }

    /// The first record of a run.
    fn start(&mut self) -> Result<(), EngineError> {
        let settings = self.config.settings.to_json();
        let origin = if self.config.endpoints.is_simulated() { "simulate" } else { "live" };
        let body = Body::Start { code: CODE, origin, settings: &settings, anchor: self.started };
        self.emit(0, self.started, &body)
    }

    /// Takes what comes until the user wants an end.
    fn serve(&mut self, inbox: &Inbox, driver: &DriverThread) -> Result<(), EngineError> {
        for venue in self.planner.listed_venues().collect::<Vec<_>>() {
            self.order(Command::List(venue));
        }
        for planned in self.planner.known(self.runner.pipeline.feed()) {
            self.subscribe(planned)?;
        }
        let mut inputs = VecDeque::new();
        while !self.outlet.stopping() {
            if driver.thread.is_finished() {
                return Err(EngineError::Panic("the driver ended".into()));
            }
            let now = self.config.clock.now();
            let (rest, wait) = (self.rested - now, self.wait(now));
            let [rest, wait] = [rest, wait].map(|time| Duration::from_nanos(time.max(0).cast_unsigned()));
            inbox.take(&mut inputs, rest, wait);
            let (any, mut looked) = (!inputs.is_empty(), self.count);
            for input in inputs.drain(..) {
                self.take(input, inbox)?;
                if self.count - looked >= BURST {
                    self.look_up(driver)?;
                    looked = self.count;
                }
            }
            let now = self.look_up(driver)?;
            if any {
                self.rested = (now + REST).max(self.last_cut + EARLIEST);
            }
        }
        Ok(())
    }

    /// How long to wait for an input.
    fn wait(&self, now: Nanos) -> Nanos {
        let cut = if self.runner.pipeline.waiting() > 0 { self.cut_due() } else { self.next_tick };
        (self.next_tick.min(cut) - now).clamp(0, GRID)
    }

    /// When the rows that wait leave.
    fn cut_due(&self) -> Nanos {
        self.last_cut + if self.outlet.idle() { EARLIEST } else { LATEST }
    }

    /// Between two bursts: the time, which is returned, the tape, the users.
    fn look_up(&mut self, driver: &DriverThread) -> Result<Nanos, EngineError> {
        let now = self.config.clock.now();
        if now >= self.next_tick {
            self.tick(now)?;
            self.ticks += 1;
            if self.ticks.is_multiple_of(LOOK) {
                self.tell(&driver.driver, now);
            }
        }
        self.taping.writer.tick(now);
        self.runner.answer();
        if self.runner.pipeline.waiting() > 0 && now >= self.last_cut + EARLIEST && now >= self.cut_due() {
            self.runner.cut(self.frames);
            self.last_cut = now;
        }
        Ok(now)
    }

    /// A tick of the grid; a late one is one record.
    fn tick(&mut self, now: Nanos) -> Result<(), EngineError> {
        if let Some(step) = self.config.clock.follow(now - self.followed) {
            self.emit(0, now, &Body::Clock(step))?;
        }
        // The step that was just followed is no time that has passed.
        self.followed = self.config.clock.now();
        let now = self.followed.max(now);
        let tick = now.div_euclid(GRID) * GRID;
        self.next_tick = tick + GRID;
        self.emit(0, now, &Body::Timer(tick))?;
        match &self.untaped {
            None => {
                if let TapeStatus::Failed(error) = self.taping.writer.status() {
                    self.lose_tape(error, now);
                } else if self.taping.writer.seal_due() {
                    let rows = self.runner.seal(self.frames);
                    self.taping.writer.seal(rows);
                }
                Ok(())
            }
            Some(untaped) if now >= untaped.next_try => self.try_tape(now),
            Some(_) => Ok(()),
        }
    }

    fn take(&mut self, input: Input, inbox: &Inbox) -> Result<(), EngineError> {
        match input {
            Input::Frames { conn, frames, recv, places } => {
                for (text, frame) in frames.iter() {
                    self.frames += 1;
                    let body = if text { Body::Text(frame) } else { Body::Binary(frame) };
                    self.emit(conn, recv, &body)?;
                }
                drop(places);
                inbox.give_back(frames);
                Ok(())
            }
            Input::Open { conn, venue, plan, url, ping, recv } => {
                if plan.is_none() {
                    self.planner.fed(self.lookup, venue);
                }
                self.planner.opened(conn, venue);
                // Plain data into a growing vector: this cannot fail.
                let plan = plan.map(|plan| postcard::to_extend(&*plan, Vec::new()).unwrap_or_default());
                let body = Body::Open { venue, plan: plan.as_deref(), url: &masked(&url), ping };
                self.emit(conn, recv, &body)
            }
            Input::Http { venue, conn, request, status, body, recv } => {
                self.answer(venue, conn, &request, status, &body, recv)
            }
            Input::List { venue, request, status, body, recv, heard } => {
                self.answer(venue, 0, &request, status, &body, recv)?;
                let feed = self.runner.pipeline.feed();
                // A driver that has ended does not want to know.
                drop(heard.send(feed.last_list(venue)));
                match self.planner.answered(venue, &request, status, feed) {
                    Some(planned) => self.subscribe(planned),
                    None => Ok(()),
                }
            }
            Input::Close { conn, cause, code, recv } => {
                self.emit(conn, recv, &Body::Close { cause, code })?;
                self.planner.closed(conn);
                Ok(())
            }
            Input::Overflow { conn, recv } => self.emit(conn, recv, &Body::Overflow { frames: 1 }),
        }
    }

    /// An HTTP answer; the tape does not get to see secrets.
    fn answer(
        &mut self,
        venue: &str,
        conn: ConnId,
        request: &HttpRequest,
        status: u16,
        body: &[u8],
        recv: Nanos,
    ) -> Result<(), EngineError> {
        let HttpRequest { method, host, body: asked, .. } = request;
        let path = masked(&request.path);
        let record = Body::Http { venue, method, host, path: &path, request: asked, status, body };
        self.emit(conn, recv, &record)
    }

    /// Has plans dialled; the tape says what they carry.
    fn subscribe(&mut self, planned: Planned) -> Result<(), EngineError> {
        let Planned { venue, subscriptions, plans } = planned;
        let config = Subscribed { venue, subscriptions: &subscriptions };
        // Plain data: this cannot fail.
        let config = serde_json::to_string(&config).unwrap_or_default();
        self.emit(0, self.recv, &Body::Config(&config))?;
        self.order(Command::Dial { venue, plans });
        Ok(())
    }

    /// One record: on the tape, through the pipeline; what it asks for goes to the driver.
    fn emit(&mut self, conn: ConnId, recv: Nanos, body: &Body<'_>) -> Result<(), EngineError> {
        self.step(conn, recv, body)?;
        if self.actions.is_empty() {
            return Ok(());
        }
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Send { conn, text } => {
                    self.step(conn, recv, &Body::Sent(text.as_bytes()))?;
                    self.order(Command::Send { conn, text });
                }
                Action::Get { venue, conn, request } => self.order(Command::Get { venue, conn, request }),
                Action::Reconnect { conn, why, .. } => {
                    self.planner.given_up(conn, &why);
                    self.order(Command::Reconnect(conn));
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn step(&mut self, conn: ConnId, recv: Nanos, body: &Body<'_>) -> Result<(), EngineError> {
        self.recv = self.recv.max(recv);
        self.count += 1;
        let record =
            Record { pos: position(self.run, self.count), recv: self.recv, conn, source: 0, body: body.clone() };
        if self.untaped.is_none() {
            self.taping.writer.append(&record)?;
        }
        self.runner.step(&record, &mut self.actions)
    }

    /// The driver takes commands whatever else it does, so this hardly ever waits.
    fn order(&mut self, command: Command) {
        if let Some(commands) = &self.commands {
            // A driver that has ended is noticed by `serve`.
            drop(commands.blocking_send(command));
        }
    }

    /// The tape cannot be written: the pipeline goes on, marked.
    fn lose_tape(&mut self, error: String, now: Nanos) {
        // What was handed out behind this position is on no tape either, though it does not say so.
        self.runner.follows = self.outlet.durable.load(Ordering::Acquire);
        self.runner.untaped = true;
        self.runner.cut(self.frames);
        self.untaped = Some(Untaped { error, next_try: now + RETRY, wait: RETRY });
    }

    /// Tries to begin a new run on a tape that could not be written; what fails is tried again later.
    fn try_tape(&mut self, now: Nanos) -> Result<(), EngineError> {
        let Reopened { run, before, pipeline, taping } = match self.reopen() {
            Ok(reopened) => reopened,
            Err(error) => {
                if let Some(untaped) = &mut self.untaped {
                    untaped.error = error.to_string();
                    untaped.wait = (untaped.wait * 2).min(LONGEST_RETRY);
                    untaped.next_try = self.config.clock.now().max(now) + untaped.wait;
                }
                return Ok(());
            }
        };
        self.order(Command::ReconnectAll);
        self.runner.cut(self.frames);
        self.taping = taping;
        self.runner.begin(pipeline, before);
        self.untaped = None;
        (self.run, self.count, self.before) = (run, 0, before);
        self.started = self.config.clock.now();
        self.close_all(Cause::Tape)?;
        self.start()
    }

    /// Connections that nothing else ends.
    fn close_all(&mut self, cause: Cause) -> Result<(), EngineError> {
        let open: Vec<ConnId> = self.runner.pipeline.feed().connections().collect();
        let now = self.config.clock.now();
        open.into_iter().try_for_each(|conn| self.emit(conn, now, &Body::Close { cause, code: 0 }))
    }

    /// Makes the tape ready for another run, with the state at its end.
    fn reopen(&mut self) -> Result<Reopened, EngineError> {
        let tape = &self.config.tape;
        probe(&**self.disk, tape).map_err(TapeError::io("write to", tape))?;
        // It would write checkpoints where the recovery tidies up.
        if let Some(checker) = self.taping.checker.take() {
            checker.stop();
        }
        let before = recover(self.disk, tape)?.last_pos;
        let pipeline = replay::state(self.lookup, self.disk, tape)?;
        let run = claim_run(&**self.disk, tape)?;
        let taping = start_tape(self.lookup, self.disk, self.config, self.outlet, before)?;
        Ok(Reopened { run, before, pipeline, taping })
    }

    /// Shows how it is.
    fn tell(&mut self, driver: &Driver, now: Nanos) {
        let feed = self.runner.pipeline.feed();
        let status = LiveStatus {
            run: self.run,
            started: self.started,
            before: self.before,
            untaped: self.untaped.as_ref().map(|untaped| untaped.error.clone()),
            tape: self.taping.writer.stats(),
            venues: self.planner.status(feed, &driver.status(), &driver.lists(), now),
        };
        let report = self.taping.checker.as_ref().map(Checker::report);
        self.outlet.update(|shown| {
            shown.live = Some(status);
            if let Some(report) = report {
                shown.take(report);
            }
        });
    }

    /// Takes the ends of all connections.
    fn leave(&mut self, inbox: &Inbox, driver: &DriverThread) -> Result<(), EngineError> {
        let until = self.config.clock.now() + LEAVE;
        let mut inputs = VecDeque::new();
        while self.config.clock.now() < until {
            // Seen before what it brought last is taken.
            let ended = driver.thread.is_finished();
            inbox.take(&mut inputs, Duration::ZERO, if ended { Duration::ZERO } else { Duration::from_millis(10) });
            for input in inputs.drain(..) {
                self.take(input, inbox)?;
            }
            if ended {
                break;
            }
        }
        self.close_all(Cause::Restart)
    }

    /// Seals the tape.
    fn end(mut self) -> Result<(), EngineError> {
        let rows = self.runner.seal(self.frames);
        if self.untaped.is_none() {
            self.taping.writer.seal(rows);
        }
        self.runner.end(self.frames);
        let report = self.taping.checker.take().map(Checker::stop);
        self.outlet.update(|status| {
            if let Some(live) = &mut status.live {
                live.venues.clear();
            }
            if let Some(report) = report {
                status.take(report);
            }
        });
        if self.untaped.is_none() {
            let last = self.taping.writer.close()?;
            self.outlet.durable.fetch_max(last, Ordering::AcqRel);
        }
        Ok(())
    }
}
