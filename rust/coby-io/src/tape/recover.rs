//! What happens to a tape at every start.

use std::path::Path;
use std::sync::Arc;

use coby_core::record::{Nanos, Pos};
use serde::Serialize;

use super::directory::{SegmentFile, damaged_name, segments, temporaries};
use super::error::{Damage, TapeError};
use super::format::SEGMENT_MAGIC;
use super::manifest::Manifest;
use super::survey::survey;
use crate::disk::{Disk, copy_atomic, ensure_dir};

/// What [`recover`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// Segments on the tape now, all sealed.
    pub segments: usize,
    /// The last position on the tape, durable; 0 for an empty one.
    pub last_pos: Pos,
    /// The receive time of that record.
    pub last_recv: Nanos,
    /// Tails that were cut.
    pub cut: Vec<Cut>,
    /// Segments without a manifest that have one now.
    pub sealed: Vec<String>,
    /// Segments without a readable block that were put aside under another name.
    pub put_aside: Vec<String>,
}

/// A torn tail. None of it was ever acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// The segment's file name.
    pub segment: String,
    /// How many bytes were cut.
    pub bytes: u64,
    /// The last position before the cut; 0 if nothing of the segment remained, and then it was removed.
    pub last_pos: Pos,
    /// What was wrong with the bytes.
    pub reason: Damage,
}

/// Makes a tape ready for the next run: removes half-written files, and of segments that were never sealed
/// cuts the torn tail, makes what remains durable (a killed process leaves written but unsynced bytes
/// behind) and seals it. Damage with readable blocks behind it stays: it is a hole, not a tail. Creates the
/// directory. If it fails, it can be called again.
///
/// The caller holds the tape's [`lock`](super::lock) and has no other writer on it.
pub fn recover(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Recovery, TapeError> {
    ensure_dir(&**disk, dir).map_err(TapeError::io("create", dir))?;
    for path in temporaries(&**disk, dir)? {
        disk.remove(&path).map_err(TapeError::io("remove", &path))?;
    }
    let mut recovery = Recovery::default();
    for file in segments(&**disk, dir)? {
        let manifest = match Manifest::read(&**disk, &file.manifest())? {
            Some(manifest) => manifest,
            None => match seal(disk, dir, &file, &mut recovery)? {
                Some(manifest) => manifest,
                None => continue,
            },
        };
        recovery.segments += 1;
        recovery.last_pos = manifest.last_pos;
        recovery.last_recv = manifest.last_recv;
    }
    disk.sync_dir(dir).map_err(TapeError::io("sync", dir))?;
    Ok(recovery)
}

/// `None` if nothing of the segment can be read.
fn seal(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    file: &SegmentFile,
    recovery: &mut Recovery,
) -> Result<Option<Manifest>, TapeError> {
    let path = &file.path;
    let mut found = survey(disk, file, |_, _| Ok(()))?;
    if found.manifest.blocks == 0 {
        if is_torn_start(disk, file)? {
            disk.remove(path).map_err(TapeError::io("remove", path))?;
            let reason = found.tail.map_or(Damage::Torn, |tail| tail.reason);
            recovery.cut.push(Cut { segment: file.name(), bytes: found.manifest.bytes, last_pos: 0, reason });
        } else {
            // Not what a crash of ours leaves behind; somebody may want to look at it.
            let aside = damaged_name(&**disk, dir, path)?;
            disk.rename(path, &aside).map_err(TapeError::io("rename", path))?;
            recovery.put_aside.push(file.name());
        }
        return Ok(None);
    }
    let mut good = found.manifest.bytes;
    if let Some(tail) = found.tail {
        good = tail.offset;
        recovery.cut.push(Cut {
            segment: file.name(),
            bytes: tail.bytes,
            last_pos: found.manifest.last_pos,
            reason: tail.reason,
        });
    }
    // A copy, not a sync in place: if that failed once, a second one would succeed without having written
    // anything, and the bytes read here would be no promise.
    copy_atomic(&**disk, path, path, good).map_err(TapeError::io("rewrite", path))?;
    if found.tail.is_some() {
        found = survey(disk, file, |_, _| Ok(()))?;
    }
    found.manifest.write(&**disk, &file.manifest())?;
    recovery.sealed.push(file.name());
    Ok(Some(found.manifest))
}

/// Whether an unreadable segment is the beginning of one of ours: as much of the magic as there is, or
/// nothing but the zeros of bytes that were allocated and never written.
fn is_torn_start(disk: &Arc<dyn Disk>, file: &SegmentFile) -> Result<bool, TapeError> {
    let bytes = disk.read(&file.path).map_err(TapeError::io("read", &file.path))?;
    let start = bytes.get(..SEGMENT_MAGIC.len()).unwrap_or(&bytes);
    Ok(SEGMENT_MAGIC.starts_with(start) || bytes.iter().all(|byte| *byte == 0))
}
