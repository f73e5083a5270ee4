//! Steps records and hands on their rows: what import and replay share.

use std::collections::BTreeMap;
use std::sync::Arc;

use coby_core::feed::Action;
use coby_core::pipeline::Pipeline;
use coby_core::record::{Body, Pos, Record};
use coby_core::rows::RowHashes;

use super::EngineError;
use super::outlet::Outlet;

/// A cut leaves at the latest with so many rows.
const ROWS: usize = 4_096;
/// How often, in records, an idle user is looked for.
const GLANCE: u64 = 64;

pub(super) struct Runner {
    pub pipeline: Pipeline,
    outlet: Arc<Outlet>,
    /// Rows up to here are not handed out.
    after: Pos,
    passed: bool,
    records: u64,
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
            records: 0,
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
        if matches!(record.body, Body::Timer(_)) {
            self.outlet.publish(&self.pipeline, record.pos, record.recv);
        }
        let waiting = self.pipeline.waiting();
        if waiting >= ROWS || waiting > 0 && self.records.is_multiple_of(GLANCE) && self.outlet.idle() {
            self.cut(record.source);
        }
        Ok(())
    }

    /// Hands on the rows that wait.
    pub fn cut(&mut self, frames: u64) {
        let Some(cut) = self.pipeline.cut() else { return };
        let new = cut.last_pos > self.after;
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
