//! The law, checked in production: a background replay of every sealed segment.
//!
//! It compares the hashes of the rows it derives with those that the live engine put into the segment's
//! manifest, and leaves a checkpoint at the segment's end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use coby_core::feed::Lookup;
use coby_core::pipeline::Pipeline;
use coby_core::record::Pos;
use coby_core::rows::RowHashes;

use crate::checkpoint;
use crate::disk::Disk;
use crate::engine::EngineError;
use crate::engine::named;
use crate::tape::{Item, Manifest, TapeReader, manifests};

/// What a checker has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments whose rows are the same.
    pub checked: u64,
    /// Segments whose rows differ.
    pub broken: Vec<String>,
    /// Segments without hashes to compare: sealed by a recovery.
    pub unhashed: u64,
}

/// A background replay of a tape's sealed segments.
pub struct Checker {
    thread: JoinHandle<Result<Report, EngineError>>,
    stop: Arc<AtomicBool>,
}

/// How often a checker looks for a new sealed segment.
const PAUSE: Duration = Duration::from_millis(50);

impl Checker {
    /// Starts at the tape's beginning and follows the seals.
    pub fn start(
        lookup: Lookup,
        disk: &Arc<dyn Disk>,
        tape: &Path,
        durable: &Arc<AtomicU64>,
    ) -> Result<Self, EngineError> {
        let stop = Arc::new(AtomicBool::new(false));
        let (disk, tape) = (Arc::clone(disk), tape.to_path_buf());
        let (stopped, durable) = (Arc::clone(&stop), Arc::clone(durable));
        let work = move || {
            let mut replay = SegmentReplay::new(lookup, &disk, &tape)?;
            let mut seen = 0;
            loop {
                // Sealed segments change only when the durable position does.
                let last = stopped.load(Ordering::Acquire);
                let now = durable.load(Ordering::Acquire);
                if now != seen || last {
                    seen = now;
                    replay.follow()?;
                }
                if last {
                    return Ok(replay.report);
                }
                std::thread::park_timeout(PAUSE);
            }
        };
        let thread =
            std::thread::Builder::new().name("coby-checker".into()).spawn(work).map_err(EngineError::Thread)?;
        Ok(Self { thread, stop })
    }

    /// Checks what is sealed by now and ends.
    pub fn finish(self) -> Result<Report, EngineError> {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or_else(|_| Err(EngineError::Panic("the background replay panicked".into())))
    }
}

/// Checks every sealed segment of a tape that no one writes.
pub fn check(lookup: Lookup, disk: &Arc<dyn Disk>, tape: &Path) -> Result<Report, EngineError> {
    let mut replay = SegmentReplay::new(lookup, disk, tape)?;
    replay.follow()?;
    Ok(replay.report)
}

struct SegmentReplay {
    disk: Arc<dyn Disk>,
    tape: PathBuf,
    pipeline: Pipeline,
    reader: TapeReader,
    last: Pos,
    recv: i64,
    report: Report,
}

impl SegmentReplay {
    fn new(lookup: Lookup, disk: &Arc<dyn Disk>, tape: &Path) -> Result<Self, EngineError> {
        Ok(Self {
            disk: Arc::clone(disk),
            tape: tape.into(),
            pipeline: Pipeline::new(lookup, None),
            reader: TapeReader::open(Arc::clone(disk), tape)?,
            last: 0,
            recv: 0,
            report: Report::default(),
        })
    }

    /// Replays the segments sealed since the last call.
    fn follow(&mut self) -> Result<(), EngineError> {
        for (name, manifest) in manifests(&*self.disk, &self.tape)? {
            if manifest.first_pos > self.last {
                self.segment(&name, &manifest)?;
            }
        }
        Ok(())
    }

    fn segment(&mut self, name: &str, manifest: &Manifest) -> Result<(), EngineError> {
        let mut hashes = RowHashes::default();
        let mut actions = Vec::new();
        self.reader.until(manifest.last_pos);
        while let Some(item) = self.reader.next()? {
            match item {
                Item::Record(record) => {
                    let pos = record.pos;
                    let record = record.decode().map_err(|error| EngineError::Record { pos, error })?;
                    self.recv = record.recv;
                    actions.clear();
                    self.pipeline.step(&record, &mut actions)?;
                }
                Item::Hole(hole) => {
                    let evidence = format!("positions {} to {} cannot be read", hole.from_pos, hole.to_pos);
                    self.pipeline.hole(hole.to_pos, self.recv, &evidence);
                }
            }
            if self.pipeline.waiting() >= 4_096
                && let Some(cut) = self.pipeline.cut()
            {
                hashes.update(&cut);
            }
        }
        if let Some(cut) = self.pipeline.cut() {
            hashes.update(&cut);
        }
        self.last = manifest.last_pos;
        if manifest.rows.is_empty() {
            self.report.unhashed += 1;
        } else if manifest.rows == named(&hashes) {
            self.report.checked += 1;
        } else {
            self.report.broken.push(name.into());
        }
        checkpoint::write(&*self.disk, &self.tape, manifest.first_pos, manifest.last_pos, &self.pipeline)?;
        Ok(())
    }
}
