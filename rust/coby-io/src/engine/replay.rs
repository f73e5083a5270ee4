//! A replay: tape to rows, from the last checkpoint before the position asked for.

use std::path::Path;
use std::sync::Arc;

use coby_core::feed::Lookup;
use coby_core::pipeline::Pipeline;
use coby_core::record::{Nanos, Pos};

use super::outlet::Outlet;
use super::runner::{ROWS, Runner};
use super::{EngineError, ReplayConfig};
use crate::checkpoint;
use crate::disk::Disk;
use crate::tape::{Item, ReadAhead, TapeError, TapeReader};

pub(super) fn run(
    lookup: Lookup,
    disk: &Arc<dyn Disk>,
    config: &ReplayConfig,
    outlet: &Arc<Outlet>,
) -> Result<(), EngineError> {
    let (from, pipeline) = start(lookup, disk, &config.tape, config)?;
    let mut runner = Runner::new(pipeline, outlet, config.after, config.hash, false);
    let reader = TapeReader::open_at(Arc::clone(disk), &config.tape, from)?;
    let mut reader = ReadAhead::start(reader).map_err(TapeError::io("start a thread for", &config.tape))?;
    let mut actions = Vec::new();
    let mut recv = 0;
    let mut frames = 0;
    while let Some(pos) = advance(&mut reader, &mut runner, &mut recv, &mut frames, outlet, &mut actions)? {
        outlet.durable.store(pos, std::sync::atomic::Ordering::Release);
        if outlet.stopping() || config.until.is_some_and(|until| pos >= until) {
            break;
        }
    }
    runner.end(frames);
    Ok(())
}

/// The state at the end of a tape.
pub(super) fn state(lookup: Lookup, disk: &Arc<dyn Disk>, tape: &Path) -> Result<Pipeline, EngineError> {
    let last = checkpoint::latest(lookup, &**disk, tape, Pos::MAX)?;
    let (from, mut pipeline) = last.map_or_else(|| (0, Pipeline::new(lookup, None)), |(pos, state)| (pos + 1, state));
    let mut reader = TapeReader::open_at(Arc::clone(disk), tape, from)?;
    let mut recv = 0;
    while let Some(item) = reader.next()? {
        recv = step(&mut pipeline, &item, recv)?;
        // Nobody wants these rows.
        if pipeline.waiting() >= ROWS {
            drop(pipeline.cut());
        }
    }
    drop(pipeline.cut());
    Ok(pipeline)
}

/// Steps one item of a tape through a pipeline; `recv` is the receive time of the one before, and that of this one is
/// returned.
pub(crate) fn step(pipeline: &mut Pipeline, item: &Item<'_>, recv: Nanos) -> Result<Nanos, EngineError> {
    match item {
        Item::Record(record) => {
            let pos = record.pos;
            let record = record.decode().map_err(|error| EngineError::Record { pos, error })?;
            pipeline.step(&record, &mut Vec::new())?;
            Ok(record.recv)
        }
        Item::Hole(hole) => {
            let evidence = format!("positions {} to {} cannot be read: {}", hole.from_pos, hole.to_pos, hole.reason);
            pipeline.hole(hole.to_pos, recv, &evidence);
            Ok(recv)
        }
    }
}

/// Where to begin and with what state.
fn start(
    lookup: Lookup,
    disk: &Arc<dyn Disk>,
    tape: &Path,
    config: &ReplayConfig,
) -> Result<(Pos, Pipeline), EngineError> {
    // Other settings than the taped ones have never been checkpointed.
    if config.settings.is_none()
        && config.after > 0
        && let Some((pos, pipeline)) = checkpoint::latest(lookup, &**disk, tape, config.after)?
    {
        return Ok((pos + 1, pipeline));
    }
    Ok((0, Pipeline::new(lookup, config.settings.clone())))
}

/// Steps one item of the tape; `None` at its end.
fn advance(
    reader: &mut ReadAhead,
    runner: &mut Runner,
    recv: &mut Nanos,
    frames: &mut u64,
    outlet: &Outlet,
    actions: &mut Vec<coby_core::feed::Action>,
) -> Result<Option<Pos>, EngineError> {
    match reader.next()? {
        None => Ok(None),
        Some(Item::Record(record)) => {
            let pos = record.pos;
            let record = record.decode().map_err(|error| EngineError::Record { pos, error })?;
            actions.clear();
            runner.step(&record, actions)?;
            *recv = record.recv;
            *frames = record.source;
            Ok(Some(pos))
        }
        Some(Item::Hole(hole)) => {
            let evidence = format!("positions {} to {} cannot be read: {}", hole.from_pos, hole.to_pos, hole.reason);
            runner.pipeline.hole(hole.to_pos, *recv, &evidence);
            outlet.update(|status| status.holes += 1);
            Ok(Some(hole.to_pos))
        }
    }
}
