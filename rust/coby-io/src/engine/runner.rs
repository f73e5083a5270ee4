//! Steps records and hands on their rows: what import and replay share.

use std::collections::BTreeMap;
use std::sync::Arc;

use coby_core::feed::Action;
use coby_core::pipeline::Pipeline;
use coby_core::record::{Nanos, Pos, Record};
use coby_core::rows::RowHashes;

use super::EngineError;
use super::outlet::Outlet;

/// A cut leaves at the latest with so many rows.
pub(crate) const ROWS: usize = 4_096;
/// How often, in records, an idle user is looked for.
const GLANCE: u64 = 64;

pub(super) struct Runner {
    pub pipeline: Pipeline,
    outlet: Arc<Outlet>,
    /// Rows up to here are not handed out.
    after: Pos,
    passed: bool,
    /// The last position that was handed out, or lies before all that will be.
    pub follows: Pos,
    /// Whether what is stepped is on no tape.
    pub untaped: bool,
    /// Whether the owner decides when a cut leaves that is not full.
    pub paced: bool,
    records: u64,
    at: (Pos, Nanos),
    /// Hashes of what is handed out, and of the open segment.
    total: Option<RowHashes>,
    segment: Option<RowHashes>,
}

impl Runner {
    pub fn new(pipeline: Pipeline, outlet: &Arc<Outlet>, after: Pos, total: bool, segment: bool) -> Self {
        Self {
            pipeline,
            outlet: Arc::clone(outlet),
            after,
            passed: false,
            follows: after,
            untaped: false,
            paced: false,
            records: 0,
            at: (after, 0),
            total: total.then(RowHashes::default),
            segment: segment.then(RowHashes::default),
        }
    }

    /// Steps one record.
    #[inline]
    pub fn step(&mut self, record: &Record<'_>, actions: &mut Vec<Action>) -> Result<(), EngineError> {
        if !self.passed && record.pos > self.after {
            // Rows up to `after` must not share a cut with later ones.
            self.cut(record.source);
            self.passed = true;
        }
        self.pipeline.step(record, actions)?;
        self.records += 1;
        self.at = (record.pos, record.recv);
        let waiting = self.pipeline.waiting();
        if waiting >= ROWS {
            self.cut(record.source);
        } else if !self.paced && self.records.is_multiple_of(GLANCE) {
            if waiting > 0 && self.outlet.idle() {
                self.cut(record.source);
            }
            self.answer();
        }
        Ok(())
    }

    /// Goes on with another pipeline: what follows is a new run behind `before`.
    pub fn begin(&mut self, pipeline: Pipeline, before: Pos) {
        self.pipeline = pipeline;
        self.follows = before;
        self.untaped = false;
        self.segment = self.segment.take().map(|_| RowHashes::default());
    }

    /// Answers what users have asked.
    #[inline]
    pub fn answer(&self) {
        self.outlet.answer(&self.pipeline, self.at.0, self.at.1);
    }

    /// Hands on the rows that wait.
    pub fn cut(&mut self, frames: u64) {
        let Some(mut cut) = self.pipeline.cut() else { return };
        let new = cut.last_pos > self.after;
        cut.untaped = self.untaped;
        if new {
            cut.follows = std::mem::replace(&mut self.follows, cut.last_pos);
        }
        for hashes in [self.total.as_mut().filter(|_| new), self.segment.as_mut()].into_iter().flatten() {
            hashes.update(&cut);
        }
        let feed = self.pipeline.feed();
        let counts: Vec<_> = (0..feed.venues().count()).map(|venue| feed.counts(venue)).collect();
        let (pos, records) = (cut.last_pos, self.records);
        self.outlet.update(|status| {
            status.pos = pos;
            status.records = records;
            status.frames = status.frames.max(frames);
            status.errors = counts.iter().map(|counts| counts.errors).sum();
            status.unknown = counts.iter().map(|counts| counts.unknown).sum();
            status.duplicates = counts.iter().map(|counts| counts.duplicates).sum();
        });
        if new {
            self.outlet.push(cut);
        }
    }

    /// Hands on what waits and begins the hashes of a new segment; the old one's are returned.
    pub fn seal(&mut self, frames: u64) -> BTreeMap<String, String> {
        self.cut(frames);
        self.segment.as_mut().map(|hashes| named(&std::mem::take(hashes))).unwrap_or_default()
    }

    /// The source has ended.
    pub fn end(&mut self, frames: u64) {
        self.cut(frames);
        if let Some(total) = &self.total {
            let row_hashes = named(total);
            self.outlet.update(|status| status.row_hashes = row_hashes);
        }
    }
}

/// Hashes by the name of their kind.
pub(crate) fn named(hashes: &RowHashes) -> BTreeMap<String, String> {
    hashes.digest().into_iter().map(|(kind, hash)| (kind.into(), hash)).collect()
}
