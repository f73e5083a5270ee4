//! What can be wrong with a tape.

use std::io;
use std::path::{Path, PathBuf};

use coby_core::record::Pos;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A tape operation failed.
#[derive(Debug, Error)]
pub enum TapeError {
    /// The file system failed.
    #[error("could not {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The data are fine, but this code is too old for them.
    #[error("{} was written by a newer version (format {found}, this one reads up to {supported}): upgrade", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u16,
        /// The newest format that this code reads.
        supported: u16,
    },
    /// A block is compressed by a codec that this code does not know.
    #[error("{} uses codec {codec}, which this version does not know: upgrade", path.display())]
    UnknownCodec {
        /// The file.
        path: PathBuf,
        /// The codec's number.
        codec: u8,
    },
    /// Nothing in the file is a tape's.
    #[error("{} is not a COBY tape", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Another process holds the tape.
    #[error("the tape in {} is in use by {}", path.display(), holder_name(*holder))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Its process id, where it could be read.
        holder: Option<u32>,
    },
    /// A position did not grow.
    #[error("position {pos:#x} does not follow {last:#x}")]
    Order {
        /// The position.
        pos: Pos,
        /// The one before it.
        last: Pos,
    },
    /// A record is larger than a tape can hold.
    #[error("a record of {bytes} bytes exceeds the tape's limit of {limit}")]
    TooLong {
        /// Size of the payload.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A codec or encoder refused.
    #[error("could not {what}: {text}")]
    Codec {
        /// What was tried.
        what: &'static str,
        /// What the library said.
        text: String,
    },
    /// The writer failed earlier; [`crate::tape::TapeWriter::status`] tells the same.
    #[error("the tape stopped: {text}")]
    Failed {
        /// The first error.
        text: String,
    },
}

fn holder_name(holder: Option<u32>) -> String {
    holder.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}

impl TapeError {
    /// Wraps a file system error.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { what, path, source }
    }
}

/// Why bytes or records could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// Where a block should begin there is none.
    #[error("no valid block header")]
    Header,
    /// The file ends inside a block.
    #[error("the file ends inside a block")]
    Torn,
    /// The block's payload does not match its checksum.
    #[error("checksum mismatch")]
    Checksum,
    /// The payload matches its checksum, but does not decompress to what the header says.
    #[error("does not decompress")]
    Compression,
    /// The block's records contradict its header or themselves.
    #[error("inconsistent records")]
    Records,
    /// The blocks around are fine; those between are gone.
    #[error("blocks are missing")]
    Missing,
    /// A segment without a single readable block.
    #[error("not a COBY tape segment")]
    Foreign,
}
