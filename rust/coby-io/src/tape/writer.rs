//! The writer: the hot thread's side, and the thread that serves it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use coby_core::record::{Body, ConnId, Nanos, Pos, Record};

use super::error::TapeError;
use super::format::{MAX_PAYLOAD, RECORD_HEADER, TapeRecord, encode_record};
use super::sink::{RawBlock, Sink};
use crate::disk::{Disk, ensure_dir};

/// Called on the tape thread whenever `durable_pos` has advanced or the writer has failed. It must not block.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// zstd at this level. Measured: level 3 is slower than level 1 and rarely smaller.
    Zstd(i32),
}

/// Sizes and times of a tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapeOptions {
    /// A block closes when it would exceed this many raw bytes; at most [`MAX_PAYLOAD`].
    pub block_bytes: usize,
    /// A block closes at the first record or tick this long after its first record, in nanoseconds.
    pub block_time: Nanos,
    /// A segment is due for sealing at this many bytes on disk.
    pub segment_bytes: u64,
    /// A segment is due for sealing this long after its first record, in nanoseconds.
    pub segment_time: Nanos,
    /// How many closed blocks may wait for the tape thread; then appending waits.
    pub queue_blocks: usize,
    /// At most this many blocks share one sync.
    pub sync_blocks: usize,
    /// Compression.
    pub codec: Codec,
}

impl Default for TapeOptions {
    fn default() -> Self {
        Self {
            block_bytes: 256 << 10,
            block_time: 100_000_000,
            segment_bytes: 64 << 20,
            segment_time: 600_000_000_000,
            queue_blocks: 64,
            sync_blocks: 32,
            codec: Codec::Zstd(1),
        }
    }
}

/// Whether the writer writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TapeStatus {
    /// It does.
    Ok,
    /// It stopped for good at this error; `durable_pos` stands, later records are dropped.
    Failed(String),
}

/// Counters since the writer started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct TapeStats {
    /// Records appended.
    pub records: u64,
    /// Records dropped because the writer had failed.
    pub dropped: u64,
    /// How often appending had to wait for the tape thread.
    pub stalls: u64,
    /// Blocks written.
    pub blocks: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Syncs.
    pub syncs: u64,
}

/// Writes one run of a tape.
///
/// The owner appends records, calls [`tick`](Self::tick) when time passes without any, and
/// [`seal`](Self::seal) when [`seal_due`](Self::seal_due) says so. Dropping the writer without
/// [`close`](Self::close) loses the open block, as a crash would.
///
/// Failures (a full disk, an I/O error) are state, not errors of `append`: see [`status`](Self::status).
/// A failed writer never works again; its owner starts a new run with a new one, after
/// [`recover`](super::recover), when the disk works.
pub struct TapeWriter {
    options: TapeOptions,
    line: Line,
    shared: Arc<Shared>,
    block: RawBlock,
    last_pos: Pos,
    last_recv: Nanos,
    segment_start: Option<Nanos>,
    records: u64,
    dropped: u64,
    stalls: u64,
}

/// How jobs reach the sink.
enum Line {
    Inline(Box<Pump>),
    Thread { jobs: SyncSender<Job>, buffers: Receiver<Vec<u8>>, thread: JoinHandle<()> },
}

enum Job {
    Block(RawBlock),
    Sync,
    Seal(BTreeMap<String, String>),
}

/// What both sides see.
struct Shared {
    durable: Arc<AtomicU64>,
    failed: AtomicBool,
    error: Mutex<Option<String>>,
    blocks: AtomicU64,
    raw_bytes: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
    seals: Arc<AtomicU64>,
    wake: Wake,
}

impl TapeWriter {
    /// Starts a writer with its tape thread. `last_pos` is the last position on the tape
    /// ([`Recovery::last_pos`](super::Recovery)); every record lies behind it.
    pub fn start(
        disk: Arc<dyn Disk>,
        dir: &Path,
        last_pos: Pos,
        options: TapeOptions,
        wake: Wake,
    ) -> Result<Self, TapeError> {
        let (mut pump, shared) = Pump::new(disk, dir, last_pos, options, wake)?;
        let (jobs, inbox) = sync_channel(options.queue_blocks.max(1));
        // As many buffers as can be under way: one at each end and the queue between.
        let (empties, buffers) = sync_channel(options.queue_blocks.max(1) + 2);
        let work = move || {
            while let Ok(job) = inbox.recv() {
                pump.handle(job, Some(&empties));
                while let Ok(job) = inbox.try_recv() {
                    pump.handle(job, Some(&empties));
                }
                pump.sync();
            }
        };
        let thread = std::thread::Builder::new()
            .name("coby-tape".into())
            .spawn(work)
            .map_err(TapeError::io("start a thread for", dir))?;
        Ok(Self::with(options, Line::Thread { jobs, buffers, thread }, shared, last_pos))
    }

    /// Starts a writer that works on the caller's thread: blocks are written as they close and synced by
    /// [`flush`](Self::flush), every `sync_blocks` blocks, at a seal and at the close.
    pub fn inline(
        disk: Arc<dyn Disk>,
        dir: &Path,
        last_pos: Pos,
        options: TapeOptions,
        wake: Wake,
    ) -> Result<Self, TapeError> {
        let (pump, shared) = Pump::new(disk, dir, last_pos, options, wake)?;
        Ok(Self::with(options, Line::Inline(Box::new(pump)), shared, last_pos))
    }

    fn with(options: TapeOptions, line: Line, shared: Arc<Shared>, last_pos: Pos) -> Self {
        let options = TapeOptions { block_bytes: options.block_bytes.min(MAX_PAYLOAD), ..options };
        let block = RawBlock { bytes: Vec::with_capacity(options.block_bytes), ..RawBlock::default() };
        Self {
            options,
            line,
            shared,
            block,
            last_pos,
            last_recv: Nanos::MIN,
            segment_start: None,
            records: 0,
            dropped: 0,
            stalls: 0,
        }
    }

    /// Copies a record into the open block. Waits only when the tape thread is `queue_blocks` behind; after
    /// a failure it drops the record and returns at once.
    ///
    /// Errors are the caller's faults: a position that does not grow, a payload over [`MAX_PAYLOAD`].
    pub fn append(&mut self, record: &Record<'_>) -> Result<(), TapeError> {
        let head = (record.pos, record.recv, record.conn, record.source);
        self.push(head, size_hint(&record.body), |out| record.body.encode(out))
    }

    /// [`append`](Self::append) for a record that is already encoded.
    pub fn append_raw(&mut self, record: &TapeRecord<'_>) -> Result<(), TapeError> {
        let head = (record.pos, record.recv, record.conn, record.source);
        self.push(head, record.payload.len(), |out| {
            out.extend_from_slice(record.payload);
            record.kind
        })
    }

    fn push(
        &mut self,
        head: (Pos, Nanos, ConnId, u64),
        size: usize,
        write: impl FnOnce(&mut Vec<u8>) -> u8,
    ) -> Result<(), TapeError> {
        let (pos, recv, ..) = head;
        if pos <= self.last_pos {
            return Err(TapeError::Order { pos, last: self.last_pos });
        }
        if size > MAX_PAYLOAD {
            return Err(TapeError::TooLong { bytes: size, limit: MAX_PAYLOAD });
        }
        if self.failed() {
            self.last_pos = pos;
            self.dropped += 1;
            return Ok(());
        }
        if self.block.bytes.len() + RECORD_HEADER + size > self.options.block_bytes {
            self.close_block();
        }
        self.tick(recv);
        let start = self.block.bytes.len();
        encode_record(&mut self.block.bytes, head, write);
        let payload = self.block.bytes.len().saturating_sub(start + RECORD_HEADER);
        if payload > MAX_PAYLOAD {
            self.block.bytes.truncate(start);
            return Err(TapeError::TooLong { bytes: payload, limit: MAX_PAYLOAD });
        }
        if self.block.records == 0 {
            self.block.first_pos = pos;
            self.block.first_recv = recv;
        }
        self.block.records += 1;
        self.block.last_pos = pos;
        self.block.last_recv = recv;
        self.last_pos = pos;
        self.last_recv = recv;
        self.segment_start.get_or_insert(recv);
        self.records += 1;
        if self.block.bytes.len() >= self.options.block_bytes {
            self.close_block();
        }
        Ok(())
    }

    /// Time has come to `now`: closes the open block if it is `block_time` old. Costs nothing otherwise.
    pub fn tick(&mut self, now: Nanos) {
        if self.block.records > 0 && now.saturating_sub(self.block.first_recv) >= self.options.block_time {
            self.close_block();
        }
    }

    /// Closes the open block and has everything synced; does not wait for the tape thread.
    pub fn flush(&mut self) {
        self.close_block();
        self.send(Job::Sync);
    }

    /// Whether the segment has reached its size or age: the owner should [`seal`](Self::seal) it.
    pub fn seal_due(&self) -> bool {
        self.segment_start.is_some_and(|start| {
            self.block.segment_bytes.load(Ordering::Relaxed) >= self.options.segment_bytes
                || self.last_recv.saturating_sub(start) >= self.options.segment_time
        })
    }

    /// Ends the segment with the last record appended: its manifest gets `rows`, the hash of each kind's
    /// rows as hex. Does nothing if the segment has no records. Does not wait.
    pub fn seal(&mut self, rows: BTreeMap<String, String>) {
        self.close_block();
        if self.segment_start.take().is_some() {
            self.block.segment_bytes = Arc::default();
            self.send(Job::Seal(rows));
        }
    }

    /// Writes and syncs everything, ends the tape thread and returns the last durable position. The
    /// segment stays unsealed; [`recover`](super::recover) seals it.
    pub fn close(mut self) -> Result<Pos, TapeError> {
        self.flush();
        let panicked = match self.line {
            Line::Inline(_) => false,
            Line::Thread { jobs, thread, .. } => {
                drop(jobs);
                thread.join().is_err()
            }
        };
        if panicked {
            self.shared.fail("the tape thread panicked".into());
        }
        match self.shared.status() {
            TapeStatus::Ok => Ok(self.shared.durable.load(Ordering::Acquire)),
            TapeStatus::Failed(text) => Err(TapeError::Failed { text }),
        }
    }

    /// The last durable position, shared: every record up to it survives a power cut.
    pub fn durable_pos(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.durable)
    }

    /// How many segments were sealed, shared.
    pub fn seals(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.seals)
    }

    /// Whether the writer works.
    pub fn status(&self) -> TapeStatus {
        self.shared.status()
    }

    /// Counters.
    pub fn stats(&self) -> TapeStats {
        TapeStats {
            records: self.records,
            dropped: self.dropped,
            stalls: self.stalls,
            blocks: self.shared.blocks.load(Ordering::Relaxed),
            raw_bytes: self.shared.raw_bytes.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            syncs: self.shared.syncs.load(Ordering::Relaxed),
        }
    }

    fn failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }

    fn close_block(&mut self) {
        if self.block.records == 0 {
            return;
        }
        let bytes = match &mut self.line {
            Line::Inline(pump) => pump.spare.take(),
            Line::Thread { buffers, .. } => buffers.try_recv().ok(),
        };
        let bytes = bytes.unwrap_or_else(|| Vec::with_capacity(self.options.block_bytes));
        let segment_bytes = Arc::clone(&self.block.segment_bytes);
        let next = RawBlock { bytes, segment_bytes, ..RawBlock::default() };
        let block = std::mem::replace(&mut self.block, next);
        self.send(Job::Block(block));
    }

    fn send(&mut self, job: Job) {
        match &mut self.line {
            Line::Inline(pump) => pump.handle(job, None),
            Line::Thread { jobs, .. } => {
                let sent = match jobs.try_send(job) {
                    Err(TrySendError::Full(job)) => {
                        self.stalls += 1;
                        jobs.send(job).is_ok()
                    }
                    Err(TrySendError::Disconnected(_)) => false,
                    Ok(()) => true,
                };
                if !sent {
                    self.shared.fail("the tape thread has ended".into());
                }
            }
        }
    }
}

impl Shared {
    fn fail(&self, text: String) {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
        self.failed.store(true, Ordering::Release);
        (self.wake)();
    }

    fn status(&self) -> TapeStatus {
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        error.clone().map_or(TapeStatus::Ok, TapeStatus::Failed)
    }
}

/// Carries out jobs until the first failure, and then only takes them.
struct Pump {
    sink: Sink,
    shared: Arc<Shared>,
    sync_blocks: usize,
    block_bytes: usize,
    unsynced: usize,
    failed: bool,
    /// An emptied buffer, when there is no thread to send it back to.
    spare: Option<Vec<u8>>,
}

impl Pump {
    fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        last_pos: Pos,
        options: TapeOptions,
        wake: Wake,
    ) -> Result<(Self, Arc<Shared>), TapeError> {
        ensure_dir(&*disk, dir).map_err(TapeError::io("create", dir))?;
        let shared = Arc::new(Shared {
            durable: Arc::new(AtomicU64::new(last_pos)),
            failed: AtomicBool::new(false),
            error: Mutex::new(None),
            blocks: AtomicU64::new(0),
            raw_bytes: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            seals: Arc::default(),
            wake,
        });
        let pump = Self {
            sink: Sink::new(disk, dir.to_path_buf(), last_pos, options.codec)?,
            shared: Arc::clone(&shared),
            sync_blocks: options.sync_blocks.max(1),
            block_bytes: options.block_bytes,
            unsynced: 0,
            failed: false,
            spare: None,
        };
        Ok((pump, shared))
    }

    fn handle(&mut self, job: Job, empties: Option<&SyncSender<Vec<u8>>>) {
        match job {
            Job::Block(block) => {
                if !self.failed {
                    self.write(&block);
                }
                self.recycle(block.bytes, empties);
                if self.unsynced >= self.sync_blocks {
                    self.sync();
                }
            }
            Job::Sync => self.sync(),
            Job::Seal(rows) => {
                if !self.failed {
                    let sealed = self.sink.seal(rows);
                    if sealed.is_ok() {
                        self.shared.seals.fetch_add(1, Ordering::AcqRel);
                    }
                    self.durable(sealed);
                }
            }
        }
    }

    fn write(&mut self, block: &RawBlock) {
        match self.sink.write(block) {
            Ok(bytes) => {
                self.unsynced += 1;
                self.shared.blocks.fetch_add(1, Ordering::Relaxed);
                self.shared.raw_bytes.fetch_add(block.bytes.len() as u64, Ordering::Relaxed);
                self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Err(error) => self.fail(&error),
        }
    }

    fn sync(&mut self) {
        if !self.failed && self.unsynced > 0 {
            let synced = self.sink.sync();
            self.durable(synced);
        }
    }

    fn durable(&mut self, synced: Result<Pos, TapeError>) {
        match synced {
            Ok(pos) => {
                self.unsynced = 0;
                self.shared.syncs.fetch_add(1, Ordering::Relaxed);
                self.shared.durable.store(pos, Ordering::Release);
                (self.shared.wake)();
            }
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &TapeError) {
        self.failed = true;
        self.sink.abandon();
        self.shared.fail(error.to_string());
    }

    /// One huge frame must not leave every buffer huge.
    fn recycle(&mut self, mut bytes: Vec<u8>, empties: Option<&SyncSender<Vec<u8>>>) {
        if bytes.capacity() <= 2 * self.block_bytes {
            bytes.clear();
            match empties {
                Some(empties) => drop(empties.try_send(bytes)),
                None => self.spare = Some(bytes),
            }
        }
    }
}

/// About how many bytes a body takes: exact for frames, a little too small for the rest.
fn size_hint(body: &Body<'_>) -> usize {
    match body {
        Body::Text(bytes) | Body::Binary(bytes) | Body::Sent(bytes) => bytes.len(),
        Body::Start { code, origin, settings, .. } => code.len() + origin.len() + settings.len(),
        Body::Config(text) => text.len(),
        Body::Open { venue, plan, url, .. } => venue.len() + plan.map_or(0, <[u8]>::len) + url.len(),
        Body::Http { venue, method, host, path, request, body, .. } => {
            venue.len() + method.len() + host.len() + path.len() + request.len() + body.len()
        }
        Body::Timer(_) | Body::Close { .. } | Body::Overflow { .. } | Body::Clock(_) => 0,
    }
}
