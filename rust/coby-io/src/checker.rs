//! The law, checked in production: a background replay of every sealed segment.
//!
//! It compares the hashes of the rows it derives with those that the live engine put into the segment's
//! manifest, and leaves a checkpoint at the segment's end.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use coby_core::feed::Lookup;
use coby_core::pipeline::Pipeline;
use coby_core::record::{Body, Pos, Record};
use coby_core::rows::RowHashes;

use crate::checkpoint;
use crate::disk::Disk;
use crate::engine::{CODE, EngineError, ROWS, named, step};
use crate::tape::{Item, Manifest, TapeReader, manifests};

/// What a checker has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments whose rows are the same.
    pub checked: u64,
    /// Segments whose rows differ.
    pub broken: Vec<String>,
    /// Segments without hashes to compare: sealed by a recovery, or written by another code.
    pub unhashed: u64,
}

/// A background replay of a tape's sealed segments.
pub struct Checker {
    thread: Option<JoinHandle<Result<(), EngineError>>>,
    shared: Arc<Shared>,
}

impl Drop for Checker {
    /// Whoever forgets it, because of an error, leaves no thread behind that works on for ever.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

#[derive(Default)]
struct Shared {
    report: Mutex<Report>,
    /// Check what is sealed, and end.
    finish: AtomicBool,
    /// End at once.
    stop: AtomicBool,
}

/// How often a checker looks for a new sealed segment.
const PAUSE: Duration = Duration::from_millis(50);
/// How often, in records, it looks whether it has to end.
const GLANCE: u32 = 1_024;

impl Checker {
    /// Starts at the tape's beginning and follows the seals, of which `seals` is the number.
    pub fn start(
        lookup: Lookup,
        disk: &Arc<dyn Disk>,
        tape: &Path,
        seals: &Arc<AtomicU64>,
    ) -> Result<Self, EngineError> {
        Self::spawn(lookup, disk, tape, seals, false)
    }

    /// Starts behind the last checkpoint: everything before it was checked when it was written.
    pub fn resume(
        lookup: Lookup,
        disk: &Arc<dyn Disk>,
        tape: &Path,
        seals: &Arc<AtomicU64>,
    ) -> Result<Self, EngineError> {
        Self::spawn(lookup, disk, tape, seals, true)
    }

    fn spawn(
        lookup: Lookup,
        disk: &Arc<dyn Disk>,
        tape: &Path,
        seals: &Arc<AtomicU64>,
        resume: bool,
    ) -> Result<Self, EngineError> {
        let shared = Arc::new(Shared::default());
        let (disk, tape, seals) = (Arc::clone(disk), tape.to_path_buf(), Arc::clone(seals));
        let told = Arc::clone(&shared);
        let work = move || {
            let mut replay = if resume {
                SegmentReplay::resume(lookup, &disk, &tape, &told)?
            } else {
                SegmentReplay::new(lookup, &disk, &tape, &told)?
            };
            let mut seen = None;
            loop {
                let last = told.finish.load(Ordering::Acquire);
                let now = Some(seals.load(Ordering::Acquire));
                if now != seen || last {
                    seen = now;
                    replay.follow()?;
                }
                if last || told.stop.load(Ordering::Acquire) {
                    return Ok(());
                }
                std::thread::park_timeout(PAUSE);
            }
        };
        let thread =
            std::thread::Builder::new().name("coby-checker".into()).spawn(work).map_err(EngineError::Thread)?;
        Ok(Self { thread: Some(thread), shared })
    }

    /// What it has found so far.
    pub fn report(&self) -> Report {
        self.shared.report()
    }

    /// Checks what is sealed by now and ends.
    pub fn finish(mut self) -> Result<Report, EngineError> {
        self.shared.finish.store(true, Ordering::Release);
        self.join()?;
        Ok(self.shared.report())
    }

    /// Ends at once; the rest is checked another time.
    pub fn stop(mut self) -> Report {
        self.shared.stop.store(true, Ordering::Release);
        // What it could not read is met again by whoever reads it next.
        drop(self.join());
        self.shared.report()
    }

    fn join(&mut self) -> Result<(), EngineError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.thread().unpark();
        thread.join().unwrap_or_else(|_| Err(EngineError::Panic("the background replay panicked".into())))
    }
}

impl Shared {
    fn report(&self) -> Report {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Checks every sealed segment of a tape that no one writes.
pub fn check(lookup: Lookup, disk: &Arc<dyn Disk>, tape: &Path) -> Result<Report, EngineError> {
    let shared = Arc::default();
    SegmentReplay::new(lookup, disk, tape, &shared)?.follow()?;
    Ok(shared.report())
}

struct SegmentReplay {
    disk: Arc<dyn Disk>,
    tape: PathBuf,
    pipeline: Pipeline,
    reader: TapeReader,
    last: Pos,
    recv: i64,
    /// Whether the run that is replayed was written by this code; another one may derive other rows.
    ours: bool,
    shared: Arc<Shared>,
}

impl SegmentReplay {
    fn new(lookup: Lookup, disk: &Arc<dyn Disk>, tape: &Path, shared: &Arc<Shared>) -> Result<Self, EngineError> {
        Self::behind(disk, tape, 0, Pipeline::new(lookup, None), shared)
    }

    fn resume(lookup: Lookup, disk: &Arc<dyn Disk>, tape: &Path, shared: &Arc<Shared>) -> Result<Self, EngineError> {
        match checkpoint::latest(lookup, &**disk, tape, Pos::MAX)? {
            Some((pos, pipeline)) => Self::behind(disk, tape, pos, pipeline, shared),
            None => Self::new(lookup, disk, tape, shared),
        }
    }

    fn behind(
        disk: &Arc<dyn Disk>,
        tape: &Path,
        last: Pos,
        pipeline: Pipeline,
        shared: &Arc<Shared>,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            disk: Arc::clone(disk),
            tape: tape.into(),
            pipeline,
            reader: TapeReader::open_at(Arc::clone(disk), tape, if last == 0 { 0 } else { last + 1 })?,
            last,
            recv: 0,
            // A checkpoint that this code takes is one that it wrote.
            ours: true,
            shared: Arc::clone(shared),
        })
    }

    /// Replays the segments sealed since the last call.
    fn follow(&mut self) -> Result<(), EngineError> {
        for (name, manifest) in manifests(&*self.disk, &self.tape, self.last)? {
            if manifest.first_pos > self.last && !self.segment(&name, &manifest)? {
                break;
            }
        }
        Ok(())
    }

    /// `false` when it had to end before the segment did.
    fn segment(&mut self, name: &str, manifest: &Manifest) -> Result<bool, EngineError> {
        let mut hashes = RowHashes::default();
        let mut count = 0_u32;
        self.reader.until(manifest.last_pos);
        while let Some(item) = self.reader.next()? {
            if let Item::Record(record) = &item
                && record.kind == coby_core::record::KIND_OTHER
                && let Ok(Record { body: Body::Start { code, .. }, .. }) = record.decode()
            {
                self.ours = code == CODE;
            }
            self.recv = step(&mut self.pipeline, &item, self.recv)?;
            if self.pipeline.waiting() >= ROWS
                && let Some(cut) = self.pipeline.cut()
            {
                hashes.update(&cut);
            }
            count = count.wrapping_add(1);
            if count.is_multiple_of(GLANCE) && self.shared.stop.load(Ordering::Acquire) {
                return Ok(false);
            }
        }
        if let Some(cut) = self.pipeline.cut() {
            hashes.update(&cut);
        }
        self.last = manifest.last_pos;
        let same = manifest.rows == named(&hashes);
        self.shared.tell(|report| {
            if manifest.rows.is_empty() || !self.ours {
                report.unhashed += 1;
            } else if same {
                report.checked += 1;
            } else {
                report.broken.push(name.into());
            }
        });
        checkpoint::write(&*self.disk, &self.tape, manifest.first_pos, manifest.last_pos, &self.pipeline)?;
        Ok(true)
    }
}
