//! Looking at tapes, and salvaging damaged ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use coby_core::record::{Nanos, Pos, run_of};
use serde::Serialize;

use super::directory::{SegmentFile, damaged_name, segments};
use super::error::TapeError;
use super::format::{BlockHeader, FORMAT, SegmentHeader};
use super::ledger::{Ledger, Verdict};
use super::manifest::Manifest;
use super::reader::Hole;
use super::segment::{Found, SegmentReader};
use super::survey::{DamagedBytes, Survey, survey};
use crate::disk::{Disk, copy_atomic, publish, remove_if_there, with_suffix};

/// A segment in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SegmentInfo {
    /// File name.
    pub segment: String,
    /// The run that it belongs to.
    pub run: u64,
    /// Whether it has a manifest.
    pub sealed: bool,
    /// First position.
    pub first_pos: Pos,
    /// Last position.
    pub last_pos: Pos,
    /// Receive time of the first record, nanoseconds UTC.
    pub first_recv: Nanos,
    /// Receive time of the last record.
    pub last_recv: Nanos,
    /// Number of records.
    pub records: u64,
    /// Number of blocks.
    pub blocks: u64,
    /// Size on disk.
    pub bytes: u64,
    /// Size before compression.
    pub raw_bytes: u64,
}

/// A tape in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TapeInfo {
    /// Its segments in order.
    pub segments: Vec<SegmentInfo>,
    /// Number of records.
    pub records: u64,
    /// Size on disk.
    pub bytes: u64,
    /// Size before compression.
    pub raw_bytes: u64,
}

/// How a segment's manifest compares with the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ManifestState {
    /// There is none: the segment is being written, or recovery has not run.
    Missing,
    /// It fits.
    Good,
    /// The file is not the one that was sealed.
    Differs,
}

/// What [`verify`] found in a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SegmentReport {
    /// The readable part.
    #[serde(flatten)]
    pub info: SegmentInfo,
    /// How the manifest compares.
    pub manifest: ManifestState,
    /// Bytes that are no readable block, with readable ones behind them or in a sealed segment.
    pub damage: Vec<DamagedBytes>,
    /// The end of an unsealed segment that is no readable block (yet).
    pub torn: Option<DamagedBytes>,
}

/// What [`verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Whether every record that was ever on the tape (since its first segment) is readable and every
    /// manifest fits. A torn tail of the segment being written is no fault.
    pub ok: bool,
    /// Its segments in order.
    pub segments: Vec<SegmentReport>,
    /// Missing records.
    pub holes: Vec<Hole>,
    /// Readable records.
    pub records: u64,
}

/// What [`repair`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// Segments that were rewritten or sealed again. Empty: nothing was wrong.
    pub repaired: Vec<Repaired>,
}

/// A repaired segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// File name.
    pub segment: String,
    /// Where the original is kept; `None` if the segment was fine and only its manifest was not.
    pub kept_as: Option<String>,
    /// What could not be read.
    pub damage: Vec<DamagedBytes>,
    /// Records in the new segment.
    pub records: u64,
}

impl SegmentInfo {
    fn of(file: &SegmentFile, sealed: bool, manifest: &Manifest) -> Self {
        Self {
            segment: file.name(),
            run: run_of(file.first_pos),
            sealed,
            first_pos: manifest.first_pos,
            last_pos: manifest.last_pos,
            first_recv: manifest.first_recv,
            last_recv: manifest.last_recv,
            records: manifest.records,
            blocks: manifest.blocks,
            bytes: manifest.bytes,
            raw_bytes: manifest.raw_bytes,
        }
    }
}

/// What is on a tape: from the manifests, and for a segment without one from its blocks' headers.
pub fn info(disk: &Arc<dyn Disk>, dir: &Path) -> Result<TapeInfo, TapeError> {
    let mut tape = TapeInfo::default();
    for file in segments(&**disk, dir)? {
        let sealed = Manifest::read(&**disk, &file.manifest())?;
        let segment = match &sealed {
            Some(manifest) => SegmentInfo::of(&file, true, manifest),
            None => headers(disk, &file)?,
        };
        tape.records += segment.records;
        tape.bytes += segment.bytes;
        tape.raw_bytes += segment.raw_bytes;
        tape.segments.push(segment);
    }
    Ok(tape)
}

fn headers(disk: &Arc<dyn Disk>, file: &SegmentFile) -> Result<SegmentInfo, TapeError> {
    let mut reader = SegmentReader::open(disk, file)?;
    let mut so_far = Manifest::default();
    loop {
        match reader.next(|_| true)? {
            Found::Passed { header } => so_far.count(&header),
            Found::Tail { offset, bytes, .. } => {
                so_far.bytes = offset + bytes;
                return Ok(SegmentInfo::of(file, false, &so_far));
            }
            Found::Block { .. } | Found::Damage { .. } => {}
        }
    }
}

/// Reads every byte of a tape and compares it with every checksum, the chain of blocks and the manifests.
pub fn verify(disk: &Arc<dyn Disk>, dir: &Path) -> Result<VerifyReport, TapeError> {
    let files = segments(&**disk, dir)?;
    let mut report = VerifyReport::default();
    let mut ledger = Ledger::new(files.first().map_or(1, |file| file.first_pos));
    for (n, file) in files.iter().enumerate() {
        let manifest = Manifest::read(&**disk, &file.manifest())?;
        let last = n + 1 == files.len();
        let mut holes = Vec::new();
        let found = survey(disk, file, |found, _| {
            match found {
                Found::Block { header, .. } => {
                    if let Verdict::After(hole) = ledger.block(header) {
                        holes.push(hole);
                    }
                }
                Found::Damage { reason, block, .. } => holes.extend(ledger.damage(*reason, block.as_ref())),
                Found::Tail { bytes, reason, block, .. } if *bytes > 0 && (manifest.is_some() || !last) => {
                    holes.extend(ledger.damage(*reason, block.as_ref()));
                }
                Found::Tail { .. } | Found::Passed { .. } => {}
            }
            Ok(())
        })?;
        holes.extend(ledger.end(manifest.as_ref().map_or(0, |manifest| manifest.last_pos)));
        report.holes.append(&mut holes);
        report.records += found.manifest.records;
        report.segments.push(judge(file, manifest.as_ref(), found));
    }
    report.ok = report.holes.is_empty()
        && report
            .segments
            .iter()
            .all(|segment| segment.damage.is_empty() && segment.manifest != ManifestState::Differs);
    Ok(report)
}

fn judge(file: &SegmentFile, manifest: Option<&Manifest>, found: Survey) -> SegmentReport {
    let state = match manifest {
        None => ManifestState::Missing,
        Some(manifest) if fits(manifest, &found.manifest) => ManifestState::Good,
        Some(_) => ManifestState::Differs,
    };
    let mut damage = found.damage;
    let mut torn = found.tail;
    if manifest.is_some() {
        damage.extend(torn.take());
    }
    SegmentReport { info: SegmentInfo::of(file, manifest.is_some(), &found.manifest), manifest: state, damage, torn }
}

/// Positions are left out: what they promise beyond the file is a hole, not a difference.
fn fits(manifest: &Manifest, found: &Manifest) -> bool {
    (manifest.bytes, manifest.crc, manifest.records, manifest.blocks)
        == (found.bytes, found.crc, found.records, found.blocks)
}

/// Rewrites damaged segments with the blocks that can be read, as they are; the originals stay beside them
/// as `.damaged`. What is lost remains a hole for every reader, since the chain of blocks still tells.
/// Segments without a fitting manifest get one, with no row hashes.
///
/// The caller holds the tape's [`lock`](super::lock) and has no writer on it.
pub fn repair(disk: &Arc<dyn Disk>, dir: &Path) -> Result<RepairReport, TapeError> {
    let mut report = RepairReport::default();
    for file in segments(&**disk, dir)? {
        let manifest = Manifest::read(&**disk, &file.manifest())?;
        let mut blocks = Vec::new();
        let mut id = None;
        let found = survey(disk, &file, |found, reader| {
            if let Found::Block { header, offset } = found {
                blocks.push((*header, *offset));
            }
            id = reader.id();
            Ok(())
        })?;
        let damage: Vec<_> = found.damage.iter().copied().chain(found.tail).collect();
        if damage.is_empty() && found.intact {
            let good = manifest.as_ref().is_some_and(|manifest| fits(manifest, &found.manifest));
            if !good {
                if found.manifest.blocks == 0 && manifest.is_none() {
                    // Only a header: there is nothing in it to lose.
                    discard(&**disk, dir, &file)?;
                } else {
                    promised(manifest.as_ref(), found.manifest.clone()).write(&**disk, &file.manifest())?;
                }
                let records = found.manifest.records;
                report.repaired.push(Repaired { segment: file.name(), kept_as: None, damage, records });
            }
            continue;
        }
        let kept = keep(&**disk, dir, &file.path)?;
        let id = id.unwrap_or_default();
        let records = found.manifest.records;
        if blocks.is_empty() && manifest.is_none() {
            discard(&**disk, dir, &file)?;
        } else {
            // Even without a block: its manifest keeps what is lost a hole.
            rewrite(disk, &file, id, &blocks)?;
            let rewritten = survey(disk, &file, |_, _| Ok(()))?;
            promised(manifest.as_ref(), rewritten.manifest).write(&**disk, &file.manifest())?;
        }
        let kept_as = kept.file_name().map(|name| name.to_string_lossy().into_owned());
        report.repaired.push(Repaired { segment: file.name(), kept_as, damage, records });
    }
    Ok(report)
}

/// The new manifest still spans what the old one did, so that records lost at the end remain a hole.
fn promised(old: Option<&Manifest>, new: Manifest) -> Manifest {
    let Some(old) = old else { return new };
    Manifest {
        first_pos: old.first_pos,
        last_pos: old.last_pos.max(new.last_pos),
        first_recv: old.first_recv,
        last_recv: old.last_recv.max(new.last_recv),
        ..new
    }
}

/// Copies the original to its `.damaged` name. A copy, because the segment must not be missing at any
/// moment at which the power may fail.
fn keep(disk: &dyn Disk, dir: &Path, path: &Path) -> Result<PathBuf, TapeError> {
    let kept = damaged_name(disk, dir, path)?;
    copy_atomic(disk, path, &kept, u64::MAX).map_err(TapeError::io("copy", path))?;
    Ok(kept)
}

fn rewrite(disk: &Arc<dyn Disk>, file: &SegmentFile, id: u64, blocks: &[(BlockHeader, u64)]) -> Result<(), TapeError> {
    let temporary = with_suffix(&file.path, ".tmp");
    remove_if_there(&**disk, &temporary).map_err(TapeError::io("remove", &temporary))?;
    let mut to = disk.create(&temporary).map_err(TapeError::io("create", &temporary))?;
    let mut from = SegmentReader::open(disk, file)?;
    let mut bytes = Vec::new();
    SegmentHeader { format: FORMAT, id }.encode(&mut bytes);
    to.write_all(&bytes).map_err(TapeError::io("write", &temporary))?;
    for (header, offset) in blocks {
        bytes.clear();
        from.copy(header, *offset, &mut bytes)?;
        to.write_all(&bytes).map_err(TapeError::io("write", &temporary))?;
    }
    publish(&**disk, to, &temporary, &file.path).map_err(TapeError::io("rewrite", &file.path))
}

fn discard(disk: &dyn Disk, dir: &Path, file: &SegmentFile) -> Result<(), TapeError> {
    disk.remove(&file.path).map_err(TapeError::io("remove", &file.path))?;
    let manifest = file.manifest();
    remove_if_there(disk, &manifest).map_err(TapeError::io("remove", &manifest))?;
    disk.sync_dir(dir).map_err(TapeError::io("sync", dir))
}
