//! An import: recordings to tape and rows.
//!
//! Records are a function of the recordings, so an import that died is done again from the start: records
//! that the tape already has are stepped and compared, not written; the first new one continues the tape.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use coby_core::feed::{Action, Lookup};
use coby_core::pipeline::Pipeline;
use coby_core::record::{Body, Pos, Record, run_of};

use super::outlet::Outlet;
use super::runner::Runner;
use super::{CODE, EngineError, ImportConfig};
use crate::checker::Checker;
use crate::disk::Disk;
use crate::import::Importer;
use crate::recording::Merged;
use crate::tape::{Item, TapeError, TapeReader, TapeWriter, lock, recover};

fn has_hole(disk: &Arc<dyn Disk>, tape: &Path) -> Result<bool, EngineError> {
    let mut reader = TapeReader::open(Arc::clone(disk), tape)?;
    while let Some(item) = reader.next()? {
        if matches!(item, Item::Hole(_)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Renames the segments, and drops what was derived from them.
fn put_aside(disk: &dyn Disk, tape: &Path) -> Result<(), EngineError> {
    let failed = TapeError::io("put aside the segments of", tape);
    let result = disk.list(tape).and_then(|entries| {
        for name in entries.into_iter().map(|entry| entry.name) {
            let path = tape.join(&name);
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("tape") => disk.rename(&path, &tape.join(format!("{name}.damaged")))?,
                Some("manifest" | "ckpt") => disk.remove(&path)?,
                _ => {}
            }
        }
        disk.sync_dir(tape)
    });
    result.map_err(failed).map_err(EngineError::from)
}

struct Import<'c> {
    runner: Runner,
    writer: TapeWriter,
    /// What the tape had before.
    taped: Option<TapeReader>,
    last_taped: Pos,
    config: &'c ImportConfig,
    checker: Option<Checker>,
    encoded: Vec<u8>,
}

pub(super) fn run(
    lookup: Lookup,
    disk: &Arc<dyn Disk>,
    config: &ImportConfig,
    outlet: &Arc<Outlet>,
) -> Result<(), EngineError> {
    let venue = lookup(&config.venue).ok_or_else(|| EngineError::Venue(config.venue.clone()))?;
    let mut source = Merged::open(&config.files)?;
    let _held = lock(&**disk, &config.tape)?;
    let mut last_taped = recover(disk, &config.tape)?.last_pos;
    if last_taped > 0 && has_hole(disk, &config.tape)? {
        // A power cut may keep a later block and lose an earlier one. Here both can be made again.
        put_aside(&**disk, &config.tape)?;
        last_taped = 0;
    }
    let (run, taped) = match last_taped {
        // The records of an import are always the same: one that died before its first block keeps its run.
        0 => (1, None),
        last => (run_of(last), Some(TapeReader::open(Arc::clone(disk), &config.tape)?)),
    };
    let wake = {
        let outlet = Arc::clone(outlet);
        Arc::new(move || (outlet.wake)())
    };
    let writer = TapeWriter::start(Arc::clone(disk), &config.tape, last_taped, config.options, wake)?;
    let durable = writer.durable_pos();
    let checker = config.check.then(|| Checker::start(lookup, disk, &config.tape, &writer.seals())).transpose()?;
    let mut importer = Importer::new(venue, run, CODE, &config.settings.to_json());
    let runner = Runner::new(Pipeline::new(lookup, None), outlet, 0, true, true);
    let encoded = Vec::new();
    let import = RefCell::new(Import { runner, writer, taped, last_taped, config, checker, encoded });
    let mut step = |record: &Record<'_>| {
        let mut import = import.borrow_mut();
        let result = import.step(record);
        outlet.durable.store(durable.load(std::sync::atomic::Ordering::Acquire), std::sync::atomic::Ordering::Release);
        result
    };
    while let Some((file, frame)) = source.next_frame()? {
        if outlet.stopping() {
            break;
        }
        importer.frame(file, &frame, &mut step)?;
    }
    if !outlet.stopping() {
        importer.end(&mut step)?;
    }
    let frames = importer.frames();
    let mut import = import.into_inner();
    let rows = import.runner.seal(frames);
    import.writer.seal(rows);
    import.runner.end(frames);
    let last = import.writer.close()?;
    outlet.durable.store(last, std::sync::atomic::Ordering::Release);
    if let Some(checker) = import.checker {
        let report = checker.finish()?;
        outlet.update(|status| status.take(report));
    }
    Ok(())
}

impl Import<'_> {
    fn step(&mut self, record: &Record<'_>) -> Result<Vec<Action>, EngineError> {
        let mut actions = Vec::new();
        if record.pos <= self.last_taped {
            self.compare(record)?;
            self.runner.step(record, &mut actions)?;
            if record.pos == self.last_taped {
                // What is hashed from here on belongs to a new segment.
                self.runner.seal(record.source);
                self.taped = None;
            }
            return Ok(actions);
        }
        self.writer.append(record)?;
        self.runner.step(record, &mut actions)?;
        if self.writer.seal_due() {
            let rows = self.runner.seal(record.source);
            self.writer.seal(rows);
        }
        Ok(actions)
    }

    /// The tape must hold the record that this import makes.
    fn compare(&mut self, record: &Record<'_>) -> Result<(), EngineError> {
        let parted = EngineError::Other { tape: self.config.tape.clone(), pos: record.pos };
        let Some(taped) = self.taped.as_mut() else { return Err(parted) };
        self.encoded.clear();
        let kind = record.body.encode(&mut self.encoded);
        match taped.next()? {
            Some(Item::Record(found)) if found.pos == record.pos => {
                let same = found.kind == kind && found.payload == self.encoded && found.recv == record.recv;
                // A newer code may go on with what an older one began.
                let started = matches!(record.body, Body::Start { .. })
                    && found.decode().is_ok_and(|found| same_start(&found.body, &record.body));
                if same || started { Ok(()) } else { Err(parted) }
            }
            _ => Err(parted),
        }
    }
}

fn same_start(one: &Body<'_>, other: &Body<'_>) -> bool {
    match (one, other) {
        (
            Body::Start { origin, settings, anchor, .. },
            Body::Start { origin: other_origin, settings: other_settings, anchor: other_anchor, .. },
        ) => origin == other_origin && settings == other_settings && anchor == other_anchor,
        _ => false,
    }
}
