//! Goes over a whole segment and says what is in it.

use std::sync::Arc;

use coby_core::record::Pos;
use serde::Serialize;

use super::directory::SegmentFile;
use super::error::{Damage, TapeError};
use super::format::{BlockHeader, FORMAT};
use super::manifest::Manifest;
use super::segment::{Found, SegmentReader};
use crate::disk::Disk;

/// How much is read at a time for a checksum.
const CHUNK: usize = 1 << 20;

/// Bytes of a segment that are no readable block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DamagedBytes {
    /// Where they begin in the file.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// Why they cannot be read.
    pub reason: Damage,
    /// The positions that the block held, first and last, where its header is intact.
    pub positions: Option<(Pos, Pos)>,
}

/// What a segment holds.
pub(crate) struct Survey {
    /// What a manifest of the readable blocks would say; `crc` and `bytes` are the file's as it is.
    pub manifest: Manifest,
    /// Damage with readable blocks behind it.
    pub damage: Vec<DamagedBytes>,
    /// Damage at the end.
    pub tail: Option<DamagedBytes>,
    /// Whether the segment's header is intact.
    pub intact: bool,
}

/// Reads a segment from end to end, telling `each` of every block and every damage in their order.
pub(crate) fn survey(
    disk: &Arc<dyn Disk>,
    file: &SegmentFile,
    mut each: impl FnMut(&Found, &mut SegmentReader) -> Result<(), TapeError>,
) -> Result<Survey, TapeError> {
    let mut reader = SegmentReader::open(disk, file)?;
    let mut manifest = Manifest { format: FORMAT, ..Manifest::default() };
    let mut damage = Vec::new();
    let tail = loop {
        let found = reader.next(|_| false)?;
        match found {
            // A repetition of blocks that are there already.
            Found::Block { header, offset } if header.first_pos <= manifest.last_pos => {
                damage.push(DamagedBytes {
                    offset,
                    bytes: header.length(),
                    reason: Damage::Records,
                    positions: Some((header.first_pos, header.last_pos)),
                });
                continue;
            }
            Found::Block { header, .. } => manifest.count(&header),
            Found::Damage { offset, bytes, reason, block } => {
                damage.push(DamagedBytes { offset, bytes, reason, positions: positions(block) });
            }
            Found::Tail { offset, bytes, reason, block } => {
                let tail = DamagedBytes { offset, bytes, reason, positions: positions(block) };
                each(&found, &mut reader)?;
                break with_damage_before(tail, &mut damage);
            }
            Found::Passed { .. } => {}
        }
        each(&found, &mut reader)?;
    };
    (manifest.bytes, manifest.crc) = checksum(disk, file)?;
    Ok(Survey { manifest, damage, tail, intact: reader.intact() })
}

/// Several unreadable blocks at the end are one tail. `None` if everything up to the end is readable.
fn with_damage_before(mut tail: DamagedBytes, damage: &mut Vec<DamagedBytes>) -> Option<DamagedBytes> {
    while let Some(before) = damage.pop_if(|before| before.offset + before.bytes == tail.offset) {
        tail = DamagedBytes { bytes: before.bytes + tail.bytes, ..before };
    }
    (tail.bytes > 0).then_some(tail)
}

fn positions(block: Option<BlockHeader>) -> Option<(Pos, Pos)> {
    block.map(|block| (block.first_pos, block.last_pos))
}

fn checksum(disk: &Arc<dyn Disk>, file: &SegmentFile) -> Result<(u64, u32), TapeError> {
    let path = &file.path;
    let mut handle = disk.open(path).map_err(TapeError::io("open", path))?;
    let mut buffer = vec![0; CHUNK];
    let (mut offset, mut crc) = (0, 0);
    loop {
        let read = handle.read_at(offset, &mut buffer).map_err(TapeError::io("read", path))?;
        if read == 0 {
            return Ok((offset, crc));
        }
        crc = crc32c::crc32c_append(crc, buffer.get(..read).unwrap_or_default());
        offset += read as u64;
    }
}
