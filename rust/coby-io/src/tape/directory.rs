//! Names in a tape's directory.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use coby_core::record::{Pos, RUN_SHIFT, run_of};

use super::error::TapeError;
use crate::disk::{Disk, DiskLock, ensure_dir, with_suffix, write_atomic};

const SEGMENT: &str = ".tape";
const TEMPORARY: &str = ".tmp";
const DAMAGED: &str = ".damaged";
const RUN: &str = "run";
const LOCK: &str = "lock";

/// A segment's file; its name tells its first position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFile {
    pub first_pos: Pos,
    pub path: PathBuf,
}

impl SegmentFile {
    pub fn new(dir: &Path, first_pos: Pos) -> Self {
        Self { first_pos, path: dir.join(format!("{first_pos:016x}{SEGMENT}")) }
    }

    /// The position in a segment's file name.
    pub fn first_pos_of(path: &Path) -> Option<Pos> {
        first_pos(path.file_name()?.to_str()?.strip_suffix(SEGMENT)?)
    }

    /// `<first position>.manifest`.
    pub fn manifest(&self) -> PathBuf {
        self.path.with_extension("manifest")
    }

    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// The segments of a tape in the order of their positions.
pub(crate) fn segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<SegmentFile>, TapeError> {
    let entries = disk.list(dir).map_err(TapeError::io("list", dir))?;
    let mut files: Vec<_> = entries
        .iter()
        .filter_map(|entry| {
            let name = Path::new(&entry.name);
            SegmentFile::first_pos_of(name).filter(|_| !entry.is_dir).map(|first_pos| SegmentFile::new(dir, first_pos))
        })
        .collect();
    files.sort_by_key(|file| file.first_pos);
    Ok(files)
}

fn first_pos(hex: &str) -> Option<Pos> {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (hex.len() == 16 && hex.bytes().all(digit)).then(|| Pos::from_str_radix(hex, 16).ok()).flatten()
}

/// Files that a crash left half written.
pub(crate) fn temporaries(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, TapeError> {
    let entries = disk.list(dir).map_err(TapeError::io("list", dir))?;
    Ok(entries.iter().filter(|entry| entry.name.ends_with(TEMPORARY)).map(|entry| dir.join(&entry.name)).collect())
}

/// A free name under which the original of a damaged segment is kept.
pub(crate) fn damaged_name(disk: &dyn Disk, dir: &Path, path: &Path) -> Result<PathBuf, TapeError> {
    let entries = disk.list(dir).map_err(TapeError::io("list", dir))?;
    let taken = |path: &PathBuf| entries.iter().any(|entry| path.file_name() == Some(entry.name.as_ref()));
    let mut free = with_suffix(path, DAMAGED);
    let mut n = 1;
    while taken(&free) {
        n += 1;
        free = with_suffix(path, &format!("{DAMAGED}-{n}"));
    }
    Ok(free)
}

/// The run after the last one: from the segments' names and from what [`claim_run`] noted. 1 for a new tape.
pub fn next_run(disk: &dyn Disk, dir: &Path) -> Result<u64, TapeError> {
    let entries = match disk.list(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(1),
        Err(error) => return Err(TapeError::io("list", dir)(error)),
    };
    // Manifests and damaged originals count too: their positions were used, whatever became of them.
    let named = entries.iter().filter_map(|entry| entry.name.get(..16).and_then(first_pos)).max().map_or(0, run_of);
    Ok(named.max(claimed_run(disk, dir)?) + 1)
}

/// Takes the next run for good, before its first record exists: even if the power fails before any block is
/// durable, no later run gets the same positions. Creates the directory.
pub fn claim_run(disk: &dyn Disk, dir: &Path) -> Result<u64, TapeError> {
    ensure_dir(disk, dir).map_err(TapeError::io("create", dir))?;
    let run = next_run(disk, dir)?;
    let path = dir.join(RUN);
    write_atomic(disk, &path, format!("{run}\n").as_bytes()).map_err(TapeError::io("write", &path))?;
    Ok(run)
}

/// 0 where there is no note, or none that can be read: the segments' names are left.
fn claimed_run(disk: &dyn Disk, dir: &Path) -> Result<u64, TapeError> {
    let path = dir.join(RUN);
    match disk.read(&path) {
        Ok(text) => {
            let run = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            Ok(if run >> (u64::BITS - RUN_SHIFT) == 0 { run } else { 0 })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(TapeError::io("read", &path)(error)),
    }
}

/// Takes a tape for this process: whoever recovers, writes or repairs holds this meanwhile; readers need
/// nothing. Creates the directory.
pub fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskLock>, TapeError> {
    ensure_dir(disk, dir).map_err(TapeError::io("create", dir))?;
    let path = dir.join(LOCK);
    disk.lock(&path).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => {
            let holder = disk.read(&path).ok().and_then(|text| String::from_utf8(text).ok()?.trim().parse().ok());
            TapeError::Locked { path: dir.to_path_buf(), holder }
        }
        _ => TapeError::io("lock", dir)(error),
    })
}
