//! Checkpoints: the whole pipeline state at the end of a sealed segment, a cache beside the tape.
//!
//! One of another code is ignored, one that is damaged too: everything can be derived again from the tape.

use std::path::{Path, PathBuf};

use coby_core::feed::Lookup;
use coby_core::pipeline::{Pipeline, PipelineError};
use coby_core::record::Pos;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::disk::{Disk, write_atomic};
use crate::engine::CODE;

/// A checkpoint could not be read or written.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The disk.
    #[error("checkpoint {path}: {error}")]
    Io {
        /// File.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The state.
    #[error(transparent)]
    State(#[from] PipelineError),
}

#[derive(Serialize, Deserialize)]
struct File {
    code: String,
    pos: Pos,
    state: Vec<u8>,
}

const SUFFIX: &str = ".ckpt";

/// Writes the state behind `pos`; the file is named after the first position of its segment.
pub fn write(disk: &dyn Disk, tape: &Path, segment: Pos, pos: Pos, pipeline: &Pipeline) -> Result<(), CheckpointError> {
    let path = tape.join(format!("{segment:016x}{SUFFIX}"));
    let failed = |error| CheckpointError::Io { path: path.clone(), error };
    let file = File { code: CODE.into(), pos, state: pipeline.save()? };
    let invalid = |error: postcard::Error| std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string());
    let bytes = postcard::to_extend(&file, Vec::new()).map_err(|error| failed(invalid(error)))?;
    let mut packed = zstd::bulk::compress(&bytes, 1).map_err(failed)?;
    packed.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    let crc = crc32c::crc32c(&packed);
    packed.extend_from_slice(&crc.to_le_bytes());
    write_atomic(disk, &path, &packed).map_err(failed)
}

/// The newest checkpoint at or before `before` that this code wrote, and its position.
pub fn latest(
    lookup: Lookup,
    disk: &dyn Disk,
    tape: &Path,
    before: Pos,
) -> Result<Option<(Pos, Pipeline)>, CheckpointError> {
    let failed = |error| CheckpointError::Io { path: tape.into(), error };
    let entries = disk.list(tape).map_err(failed)?;
    let mut names: Vec<String> =
        entries.into_iter().map(|entry| entry.name).filter(|name| name.ends_with(SUFFIX)).collect();
    names.sort();
    for name in names.iter().rev() {
        let Ok(bytes) = disk.read(&tape.join(name)) else { continue };
        let Some(file) = unpack(&bytes).filter(|file| file.code == CODE && file.pos <= before) else { continue };
        if let Ok(pipeline) = Pipeline::load(lookup, &file.state) {
            return Ok(Some((file.pos, pipeline)));
        }
    }
    Ok(None)
}

/// `None` for a file that is damaged.
fn unpack(bytes: &[u8]) -> Option<File> {
    let (packed, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c(packed) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (packed, length) = packed.split_last_chunk::<8>()?;
    let state = zstd::bulk::decompress(packed, usize::try_from(u64::from_le_bytes(*length)).ok()?).ok()?;
    postcard::from_bytes(&state).ok()
}
