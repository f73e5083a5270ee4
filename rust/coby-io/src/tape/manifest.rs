//! The manifest of a sealed segment.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use coby_core::record::{Nanos, Pos};
use serde::{Deserialize, Serialize};

use super::directory::segments;
use super::error::TapeError;
use super::format::{BlockHeader, FORMAT};
use crate::disk::{Disk, write_atomic};

/// What a sealed segment holds: `<segment>.manifest`, JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format of the segment and of this manifest.
    pub format: u16,
    /// First position.
    pub first_pos: Pos,
    /// Last position.
    pub last_pos: Pos,
    /// Receive time of the first record.
    pub first_recv: Nanos,
    /// Receive time of the last record.
    pub last_recv: Nanos,
    /// Number of records.
    pub records: u64,
    /// Number of blocks.
    pub blocks: u64,
    /// Size of the segment's file.
    pub bytes: u64,
    /// Size before compression.
    pub raw_bytes: u64,
    /// CRC32C of the segment's file.
    pub crc: u32,
    /// Hash of the rows that the segment's records yielded, as hex by kind. Empty where nobody knows:
    /// a segment that recovery sealed, or one that was repaired.
    pub rows: BTreeMap<String, String>,
    /// CRC32C of the manifest's text before this member, which is the last in every format.
    pub check: u32,
}

impl Manifest {
    /// Adds a block; `bytes` and `crc`, which are the file's, are left to the caller.
    pub(crate) fn count(&mut self, header: &BlockHeader) {
        if self.blocks == 0 {
            self.first_pos = header.first_pos;
            self.first_recv = header.first_recv;
        }
        self.last_pos = header.last_pos;
        self.last_recv = header.last_recv;
        self.records += u64::from(header.records);
        self.raw_bytes += u64::from(header.raw);
        self.blocks += 1;
    }

    /// Writes the manifest beside its segment, durably.
    pub(crate) fn write(&self, disk: &dyn Disk, path: &Path) -> Result<(), TapeError> {
        let check = covered(&self.json()?).map_or(0, crc32c::crc32c);
        let sealed = Self { check, ..self.clone() };
        write_atomic(disk, path, &sealed.json()?).map_err(TapeError::io("write", path))
    }

    /// Reads a manifest: `None` where there is none, or one that is damaged.
    pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Self>, TapeError> {
        let json = match disk.read(path) {
            Ok(json) => json,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(TapeError::io("read", path)(error)),
        };
        let head = serde_json::from_slice::<Head>(&json).ok();
        let Some(head) = head.filter(|head| covered(&json).map(crc32c::crc32c) == Some(head.check)) else {
            return Ok(None);
        };
        if head.format > FORMAT {
            return Err(TapeError::Newer { path: path.to_path_buf(), found: head.format, supported: FORMAT });
        }
        Ok(serde_json::from_slice(&json).ok())
    }

    fn json(&self) -> Result<Vec<u8>, TapeError> {
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|error| TapeError::Codec { what: "encode a manifest", text: error.to_string() })?;
        json.push(b'\n');
        Ok(json)
    }
}

/// The manifests of the sealed segments in `dir` that begin behind `after`, in the order of their positions, with the
/// segments' names.
pub fn manifests(disk: &dyn Disk, dir: &Path, after: Pos) -> Result<Vec<(String, Manifest)>, TapeError> {
    let mut found = Vec::new();
    for segment in segments(disk, dir)?.into_iter().filter(|segment| segment.first_pos > after) {
        if let Some(manifest) = Manifest::read(disk, &segment.manifest())? {
            found.push((segment.name(), manifest));
        }
    }
    Ok(found)
}

/// What every format of the manifest has.
#[derive(Deserialize)]
struct Head {
    format: u16,
    check: u32,
}

/// The text that `check` covers: all before the member itself, which is the last.
fn covered(json: &[u8]) -> Option<&[u8]> {
    const MEMBER: &[u8] = b"\"check\"";
    let start = json.windows(MEMBER.len()).rposition(|bytes| bytes == MEMBER)?;
    json.get(..start)
}
