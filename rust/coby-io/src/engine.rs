//! The engine: one thread that owns all sessions, books and aggregates of a tape.
//!
//! It steps records through the pipeline and hands rows on as cuts. It never waits for Python: whoever
//! wants cuts is woken and drains them.

mod import;
mod live;
mod outlet;
mod planner;
mod replay;
mod runner;
pub mod view;

pub(crate) use replay::step;
pub(crate) use runner::{ROWS, named};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use coby_core::feed::Lookup;
use coby_core::pipeline::PipelineError;
use coby_core::record::{Pos, RecordError};
use coby_core::rows::Cut;
use coby_core::settings::{PipelineSettings, SettingsError};
use coby_venues::external::is_exchange;
use serde::Serialize;
use thiserror::Error;

use crate::checker::Report;
use crate::checkpoint::CheckpointError;
use crate::disk::Disk;
use crate::net::External;
use crate::recording::RecordingError;
use crate::tape::{TapeError, TapeOptions, Wake};
pub use live::LiveConfig;
use outlet::Outlet;
pub use planner::{BookStatus, LiveStatus, Unresolved, VenueStatus};
use view::Moment;

/// Version and code hash, as a run's `Start` and checkpoints carry them.
pub const CODE: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("COBY_CODE"));

/// An engine cannot go on.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The tape.
    #[error(transparent)]
    Tape(#[from] TapeError),
    /// A recording.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The pipeline.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// Settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A record that this version cannot read.
    #[error("position {pos}: {error}")]
    Record {
        /// Where.
        pos: Pos,
        /// What was wrong.
        error: RecordError,
    },
    /// A checkpoint could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The tape holds something else than this import would write.
    #[error("{tape} holds another run (they part at position {pos}): give this import a directory of its own")]
    Other {
        /// The tape.
        tape: PathBuf,
        /// Where the records part.
        pos: Pos,
    },
    /// No such venue.
    #[error("unknown venue {0:?}")]
    Venue(String),
    /// No connector may be called so.
    #[error("a connector is called {0:?}: it must be 1 to 40 of a-z, 0-9, '_', '-' and '.'")]
    Exchange(String),
    /// Only a live engine can be given frames.
    #[error("the engine has ended, or is not a live one")]
    NotLive,
    /// The engine thread died.
    #[error("the engine stopped unexpectedly: {0}")]
    Panic(String),
    /// The thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// An import of recordings.
pub struct ImportConfig {
    /// Venue id.
    pub venue: String,
    /// Recordings.
    pub files: Vec<PathBuf>,
    /// Tape directory.
    pub tape: PathBuf,
    /// Settings of the run.
    pub settings: PipelineSettings,
    /// Sizes and times of the tape.
    pub options: TapeOptions,
    /// Whether a background replay of sealed segments compares row hashes and writes checkpoints.
    pub check: bool,
}

/// A replay of a tape.
pub struct ReplayConfig {
    /// Tape directory.
    pub tape: PathBuf,
    /// Rows up to this position are derived, from the last checkpoint before it, and not handed out.
    pub after: Pos,
    /// The replay ends behind this position; `None` at the tape's end.
    pub until: Option<Pos>,
    /// Other settings than the taped ones.
    pub settings: Option<PipelineSettings>,
    /// Whether rows are hashed.
    pub hash: bool,
}

/// What an engine is doing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// Source frames taken.
    pub frames: u64,
    /// Records stepped.
    pub records: u64,
    /// Last position stepped.
    pub pos: Pos,
    /// Last position that survives a power cut.
    pub durable_pos: Pos,
    /// Rows handed out.
    pub rows: u64,
    /// Frames refused by their session.
    pub errors: u64,
    /// Frames, or parts of them, of an unknown kind.
    pub unknown: u64,
    /// Trades dropped because their id had been seen.
    pub duplicates: u64,
    /// Holes found in the tape.
    pub holes: u64,
    /// Cuts that a live engine dropped because too many waited; they can be derived from the tape.
    pub dropped_cuts: u64,
    /// Sealed segments whose rows a background replay has found equal.
    pub checked: u64,
    /// Segments whose rows differ on replay: the law is broken.
    pub broken: Vec<String>,
    /// Why the background replay could not go on when it last tried.
    pub unchecked: Option<String>,
    /// Hash of the rows of each kind behind the position asked for, once the source has ended.
    pub row_hashes: BTreeMap<String, String>,
    /// The source has ended.
    pub ended: bool,
    /// Why the engine stopped before its source ended.
    pub failed: Option<String>,
    /// What only a live engine has.
    pub live: Option<LiveStatus>,
}

impl Status {
    /// What the background replay has found.
    fn take(&mut self, report: Report) {
        self.checked = report.checked;
        self.broken = report.broken;
        self.unchecked = report.failed;
    }
}

/// A running engine.
pub struct Engine {
    outlet: Arc<Outlet>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Imports recordings into a tape; one that was killed goes on where its tape ends. `wake` is called when
    /// cuts wait, when the durable position moves and when the engine ends.
    pub fn importing(
        lookup: Lookup,
        disk: Arc<dyn Disk>,
        config: ImportConfig,
        wake: Wake,
    ) -> Result<Self, EngineError> {
        lookup(&config.venue).ok_or_else(|| EngineError::Venue(config.venue.clone()))?;
        Self::spawn(wake, move |outlet| import::run(lookup, &disk, &config, outlet))
    }

    /// Replays a tape.
    pub fn replaying(
        lookup: Lookup,
        disk: Arc<dyn Disk>,
        config: ReplayConfig,
        wake: Wake,
    ) -> Result<Self, EngineError> {
        Self::spawn(wake, move |outlet| replay::run(lookup, &disk, &config, outlet))
    }

    /// Connects to venues, tapes what they send, and keeps their books, until it is stopped.
    pub fn live(lookup: Lookup, disk: Arc<dyn Disk>, config: LiveConfig, wake: Wake) -> Result<Self, EngineError> {
        for venue in &config.venues {
            lookup(venue).ok_or_else(|| EngineError::Venue(venue.clone()))?;
        }
        Self::spawn(wake, move |outlet| live::run(lookup, &disk, &config, outlet))
    }

    fn spawn(
        wake: Wake,
        work: impl FnOnce(&Arc<Outlet>) -> Result<(), EngineError> + Send + 'static,
    ) -> Result<Self, EngineError> {
        let outlet = Arc::new(Outlet::new(wake));
        let inside = Arc::clone(&outlet);
        let body = move || {
            // A panic is contained here: it becomes an error that the status shows.
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&inside)));
            let result = caught.unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into()));
                Err(EngineError::Panic(text.unwrap_or_default()))
            });
            inside.end(result.err().map(|error| error.to_string()));
        };
        let thread = std::thread::Builder::new().name("coby-engine".into()).spawn(body).map_err(EngineError::Thread)?;
        Ok(Self { outlet, thread: Some(thread) })
    }

    /// The cuts that wait.
    pub fn drain(&self) -> Vec<Cut> {
        self.outlet.drain()
    }

    /// Waits until cuts wait or the engine has ended, and takes them.
    pub fn wait(&self) -> Vec<Cut> {
        self.outlet.wait()
    }

    /// Last position that survives a power cut.
    pub fn durable_pos(&self) -> Pos {
        self.outlet.durable.load(Ordering::Acquire)
    }

    /// Whether the source has ended (or the engine failed) and every cut was drained.
    pub fn finished(&self) -> bool {
        self.outlet.finished()
    }

    /// What it is doing.
    pub fn status(&self) -> Status {
        self.outlet.status()
    }

    /// Has `question` answered between two records; `None` if the engine has ended or does not answer within a second.
    pub fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Moment<'_>) -> T + Send + 'static) -> Option<T> {
        self.asking().ask(question)
    }

    /// What can ask the engine, and bring it frames, without holding on to it.
    pub fn asking(&self) -> Asking {
        Asking { outlet: Arc::clone(&self.outlet) }
    }

    /// As [`Asking::external`].
    pub fn external(&self, exchange: &str) -> Result<External, EngineError> {
        self.asking().external(exchange)
    }

    /// Asks the engine to flush and end, and waits for it. Cuts that wait stay.
    pub fn stop(&mut self) {
        self.outlet.stop();
        if let Some(thread) = self.thread.take() {
            // A panic was caught inside the thread.
            drop(thread.join());
        }
    }
}

/// What other threads may do with an engine.
#[derive(Clone)]
pub struct Asking {
    outlet: Arc<Outlet>,
}

impl Asking {
    /// As [`Engine::ask`].
    pub fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Moment<'_>) -> T + Send + 'static) -> Option<T> {
        self.outlet.ask(question)
    }

    /// Asks the engine to flush and end, and waits for it, while other threads go on using it.
    pub fn stop(&self) {
        self.outlet.stop();
        self.outlet.wait_end();
    }

    /// Opens a connection of the venue `external`, whose frames the caller pushes in the place of `exchange`.
    ///
    /// Waits until the engine is live; not to be called from a thread that drives asynchronous tasks.
    pub fn external(&self, exchange: &str) -> Result<External, EngineError> {
        if !is_exchange(exchange) {
            return Err(EngineError::Exchange(exchange.into()));
        }
        self.outlet.external(exchange.into()).ok_or(EngineError::NotLive)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}
