//! Reads a tape in order, from any position, past damage and while it is being written.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coby_core::record::Pos;
use serde::Serialize;

use super::directory::{SegmentFile, segments};
use super::error::{Damage, TapeError};
use super::format::{BlockHeader, TapeRecord, decode_record};
use super::ledger::{Ledger, Verdict};
use super::manifest::Manifest;
use super::segment::{Found, SegmentReader};
use crate::disk::Disk;

/// No record with a position from `from_pos` to `to_pos`, both included, can be read, though the tape had
/// some; a span that reaches into a later run holds far fewer records than positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Hole {
    /// First position lost.
    pub from_pos: Pos,
    /// Last position lost.
    pub to_pos: Pos,
    /// Why.
    pub reason: Damage,
}

/// What a tape yields, in the order of positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A record as it was written, borrowed from the decompressed block.
    Record(TapeRecord<'a>),
    /// Records are missing here.
    Hole(Hole),
}

/// Reads a tape.
///
/// At the end of what is readable [`next`](Self::next) returns `None`; asked again later it goes on with what
/// a writer has added since. A torn tail of the last segment is not a hole: the writer may be in the middle
/// of it, and [`recover`](super::recover) cuts it.
pub struct TapeReader {
    disk: Arc<dyn Disk>,
    /// `None` while a single file is read.
    dir: Option<PathBuf>,
    ahead: VecDeque<SegmentFile>,
    current: Option<(SegmentFile, SegmentReader)>,
    /// Whether a later segment exists, so that the current one can grow no more.
    followed: bool,
    last_opened: Option<Pos>,
    ledger: Ledger,
    holes: VecDeque<Hole>,
    /// Where the next record begins in the current block.
    cursor: usize,
    from: Pos,
    until: Pos,
}

impl TapeReader {
    /// Reads the tape in `dir` from its first record. Records before it, deleted by retention, are no hole.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, TapeError> {
        Self::open_at(disk, dir, 0)
    }

    /// Reads the tape in `dir` from the first record at or after `pos`. If the tape no longer reaches back to
    /// `pos`, what is missing is a hole (except for position 0, which means the beginning).
    pub fn open_at(disk: Arc<dyn Disk>, dir: &Path, pos: Pos) -> Result<Self, TapeError> {
        let mut reader = Self::idle(disk, Some(dir.to_path_buf()));
        reader.seek(pos)?;
        Ok(reader)
    }

    /// Reads a single segment.
    pub fn open_file(disk: Arc<dyn Disk>, path: &Path) -> Result<Self, TapeError> {
        let mut file = SegmentFile { first_pos: 0, path: path.to_path_buf() };
        let mut segment = SegmentReader::open(&disk, &file)?;
        let first_block = loop {
            match segment.next(|_| true)? {
                Found::Passed { header } => break header.first_pos,
                Found::Tail { bytes, .. } if bytes > 0 && !segment.intact() => {
                    return Err(TapeError::Foreign { path: path.to_path_buf() });
                }
                Found::Tail { .. } => break 1,
                Found::Block { .. } | Found::Damage { .. } => {}
            }
        };
        file.first_pos = SegmentFile::first_pos_of(path).unwrap_or(first_block);
        let mut reader = Self::idle(disk, None);
        reader.ledger = Ledger::new(file.first_pos);
        reader.ahead.push_back(file);
        Ok(reader)
    }

    fn idle(disk: Arc<dyn Disk>, dir: Option<PathBuf>) -> Self {
        Self {
            disk,
            dir,
            ahead: VecDeque::new(),
            current: None,
            followed: false,
            last_opened: None,
            ledger: Ledger::new(1),
            holes: VecDeque::new(),
            cursor: 0,
            from: 0,
            until: Pos::MAX,
        }
    }

    /// Goes to the first record at or after `pos`: by the segments' names, then by block headers. Damage in
    /// blocks that end before `pos` is not looked for. A single file is not sought in.
    pub fn seek(&mut self, pos: Pos) -> Result<(), TapeError> {
        let Some(dir) = &self.dir else {
            self.from = pos;
            return Ok(());
        };
        let mut files = VecDeque::from(segments(&*self.disk, dir)?);
        let before = files.partition_point(|file| file.first_pos <= pos).saturating_sub(1);
        files.drain(..before);
        let expected = match files.front() {
            Some(file) if file.first_pos <= pos || pos == 0 => file.first_pos,
            _ => pos.max(1),
        };
        let fresh = Self::idle(Arc::clone(&self.disk), Some(dir.clone()));
        *self = Self { ahead: files, ledger: Ledger::new(expected), from: pos, until: self.until, ..fresh };
        Ok(())
    }

    /// Yields nothing behind `last_pos` until told otherwise: a reader beside a live writer passes its
    /// `durable_pos`.
    pub fn until(&mut self, last_pos: Pos) {
        self.until = last_pos;
    }

    /// The next record or hole.
    #[expect(clippy::should_implement_trait, reason = "it lends the record from its own buffer")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, TapeError> {
        loop {
            if let Some(hole) = self.holes.front().copied() {
                if hole.from_pos > self.until {
                    return Ok(None);
                }
                self.holes.pop_front();
                if hole.to_pos >= self.from {
                    return Ok(Some(Item::Hole(Hole { from_pos: hole.from_pos.max(self.from), ..hole })));
                }
                continue;
            }
            if let Some((pos, length)) = self.record(self.cursor).map(|(record, length)| (record.pos, length)) {
                if pos > self.until {
                    return Ok(None);
                }
                let start = self.cursor;
                self.cursor += length;
                if pos < self.from {
                    continue;
                }
                return Ok(self.record(start).map(|(record, _)| Item::Record(record)));
            }
            if self.ledger.expected() > self.until || !self.advance()? {
                return Ok(None);
            }
        }
    }

    fn record(&self, start: usize) -> Option<(TapeRecord<'_>, usize)> {
        let (_, segment) = self.current.as_ref()?;
        decode_record(segment.raw().get(start..)?)
    }

    /// Takes one step; `false` at the end of what there is.
    fn advance(&mut self) -> Result<bool, TapeError> {
        let Some((file, segment)) = self.current.as_mut() else { return self.open_next() };
        let from = self.from;
        let found = segment.next(|block| block.last_pos < from)?;
        self.cursor = usize::MAX;
        match found {
            Found::Block { header, .. } => match self.ledger.block(&header) {
                Verdict::Repeated => {}
                Verdict::Next => self.cursor = 0,
                Verdict::After(hole) => {
                    self.cursor = 0;
                    self.holes.push_back(hole);
                }
            },
            Found::Passed { header } => {
                self.ledger.block(&header);
            }
            Found::Damage { reason, block, .. } => self.holes.extend(self.ledger.damage(reason, block.as_ref())),
            Found::Tail { bytes, reason, block, .. } => {
                let damage = (bytes > 0).then_some(reason);
                let (first_pos, manifest) = (file.first_pos, file.manifest());
                return self.tail(first_pos, &manifest, damage, block.as_ref());
            }
        }
        Ok(true)
    }

    /// At the end of a segment, or at damage that nothing follows.
    fn tail(
        &mut self,
        first_pos: Pos,
        manifest: &Path,
        damage: Option<Damage>,
        block: Option<&BlockHeader>,
    ) -> Result<bool, TapeError> {
        if !self.followed {
            self.look_ahead(first_pos)?;
            if self.followed {
                // The segment may have grown before the next one began: once more.
                return Ok(true);
            }
        }
        let manifest = Manifest::read(&*self.disk, manifest)?;
        if self.followed || manifest.is_some() {
            self.holes.extend(damage.and_then(|damage| self.ledger.damage(damage, block)));
            self.holes.extend(self.ledger.end(manifest.map_or(0, |manifest| manifest.last_pos)));
        }
        if self.followed {
            self.current = None;
            return Ok(true);
        }
        Ok(!self.holes.is_empty())
    }

    fn open_next(&mut self) -> Result<bool, TapeError> {
        if self.ahead.is_empty() && self.dir.is_some() {
            self.look_ahead(self.last_opened.unwrap_or(0))?;
        }
        let Some(file) = self.ahead.pop_front() else { return Ok(false) };
        self.last_opened = Some(file.first_pos);
        self.followed = !self.ahead.is_empty();
        match SegmentReader::open(&self.disk, &file) {
            Ok(segment) => self.current = Some((file, segment)),
            // Retention has deleted it since the directory was read; the next block's chain tells.
            Err(TapeError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Looks for segments behind the one that begins at `first_pos`.
    fn look_ahead(&mut self, first_pos: Pos) -> Result<(), TapeError> {
        if let Some(dir) = &self.dir {
            self.ahead = segments(&*self.disk, dir)?.into();
            self.ahead.retain(|file| file.first_pos > first_pos);
            self.followed = !self.ahead.is_empty();
        }
        Ok(())
    }
}
