//! Reads a tape on a thread of its own, so that whoever steps the records need not decompress and check them.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use coby_core::record::{ConnId, Nanos, Pos};

use super::error::TapeError;
use super::format::TapeRecord;
use super::reader::{Hole, Item, TapeReader};

/// A batch is handed over with so many bytes of payload, as a block has, ...
const BYTES: usize = 256 << 10;
/// ... or so many items.
const ITEMS: usize = 4_096;
/// Batches that wait to be stepped.
const QUEUE: usize = 4;

/// Items of the tape in order, payloads side by side.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    payloads: Vec<u8>,
    /// The end of the tape, and whether it could be read that far.
    end: Option<Result<(), TapeError>>,
}

enum Entry {
    /// Its payload ends at `end`.
    Record {
        pos: Pos,
        recv: Nanos,
        conn: ConnId,
        source: u64,
        kind: u8,
        end: usize,
    },
    Hole(Hole),
}

impl Batch {
    fn is_full(&self) -> bool {
        self.end.is_some() || self.payloads.len() >= BYTES || self.entries.len() >= ITEMS
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.payloads.clear();
        // One huge record must not leave every batch huge.
        self.payloads.shrink_to(2 * BYTES);
    }

    fn fill(&mut self, reader: &mut TapeReader) {
        while !self.is_full() {
            match reader.next() {
                Ok(Some(Item::Record(TapeRecord { pos, recv, conn, source, kind, payload }))) => {
                    self.payloads.extend_from_slice(payload);
                    self.entries.push(Entry::Record { pos, recv, conn, source, kind, end: self.payloads.len() });
                }
                Ok(Some(Item::Hole(hole))) => self.entries.push(Entry::Hole(hole)),
                Ok(None) => self.end = Some(Ok(())),
                Err(error) => self.end = Some(Err(error)),
            }
        }
    }
}

/// Yields what a [`TapeReader`] yields up to the first time that it has nothing more: unlike it, this does not go on
/// with what is written later.
pub struct ReadAhead {
    /// `None` only while it is dropped.
    batches: Option<Receiver<Batch>>,
    empties: SyncSender<Batch>,
    thread: Option<JoinHandle<()>>,
    batch: Batch,
    /// The next entry of `batch`, and where its payload begins.
    next: usize,
    start: usize,
}

impl ReadAhead {
    /// Begins to read.
    pub fn start(mut reader: TapeReader) -> std::io::Result<Self> {
        let (full, batches) = sync_channel(QUEUE);
        // As many as can be under way: one at each end and the queue between.
        let (empties, spare) = sync_channel::<Batch>(QUEUE + 2);
        let work = move || {
            loop {
                let mut batch = spare.try_recv().unwrap_or_default();
                batch.fill(&mut reader);
                let last = batch.end.is_some();
                if full.send(batch).is_err() || last {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("coby-read".into()).spawn(work)?;
        let batch = Batch::default();
        Ok(Self { batches: Some(batches), empties, thread: Some(thread), batch, next: 0, start: 0 })
    }

    /// The next record or hole; behind the end, or an error, nothing.
    #[expect(clippy::should_implement_trait, reason = "it lends the record from its own buffer")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, TapeError> {
        while self.next == self.batch.entries.len() {
            if !self.turn()? {
                return Ok(None);
            }
        }
        let entry = &self.batch.entries[self.next];
        self.next += 1;
        Ok(Some(match *entry {
            Entry::Hole(hole) => Item::Hole(hole),
            Entry::Record { pos, recv, conn, source, kind, end } => {
                let payload = &self.batch.payloads[self.start..end];
                self.start = end;
                Item::Record(TapeRecord { pos, recv, conn, source, kind, payload })
            }
        }))
    }

    /// Takes the next batch; `false` at the end of the tape.
    fn turn(&mut self) -> Result<bool, TapeError> {
        if let Some(end) = &mut self.batch.end {
            return std::mem::replace(end, Ok(())).map(|()| false);
        }
        let next = self.batches.as_ref().and_then(|batches| batches.recv().ok());
        let Some(next) = next else {
            return Err(TapeError::Failed { text: "the reading thread panicked".into() });
        };
        let mut done = std::mem::replace(&mut self.batch, next);
        (self.next, self.start) = (0, 0);
        done.clear();
        // The thread may have read everything and ended.
        drop(self.empties.try_send(done));
        Ok(true)
    }
}

impl Drop for ReadAhead {
    /// Waits for the batch that is being read.
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // If it has panicked, whoever read was told.
            drop(thread.join());
        }
    }
}
