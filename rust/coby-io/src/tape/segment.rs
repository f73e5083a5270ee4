//! Reads one segment block by block, past damage.

use std::path::PathBuf;
use std::sync::Arc;

use coby_core::record::Pos;
use zstd::bulk::Decompressor;
use zstd::zstd_safe::get_frame_content_size;

use super::directory::SegmentFile;
use super::error::{Damage, TapeError};
use super::format::{
    BLOCK_HEADER, BLOCK_MAGIC, BlockHeader, CODEC_NONE, CODEC_ZSTD, FORMAT, SEGMENT_HEADER, SegmentHeader,
    check_records,
};
use crate::disk::{Disk, DiskRead};

/// How much is read from a file at a time while blocks are read one after the other ...
const CHUNK: usize = 256 << 10;
/// ... and while only their headers are.
const SKIP_CHUNK: usize = 4 << 10;

/// What comes next in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A block, verified to the last record; [`SegmentReader::raw`] holds its records.
    Block { header: BlockHeader, offset: u64 },
    /// A block that the caller did not want; only its header was read.
    Passed { header: BlockHeader },
    /// Bytes that are no readable block. Reading goes on behind them, where a block header is intact.
    Damage { offset: u64, bytes: u64, reason: Damage, block: Option<BlockHeader> },
    /// No readable block follows: the end, if `bytes` is 0. Asking again looks again.
    Tail { offset: u64, bytes: u64, reason: Damage, block: Option<BlockHeader> },
}

/// Walks over a segment.
pub(crate) struct SegmentReader {
    path: PathBuf,
    window: Window,
    decompressor: Decompressor<'static>,
    /// The segment's id: from its header, or, if that is damaged, from the first intact block.
    id: Option<u64>,
    intact: bool,
    /// Whether the beginning of the file lies behind.
    started: bool,
    /// Where the next block should begin.
    at: u64,
    /// Up to here everything was verified, or is known not to be a block.
    verified: u64,
    /// The last position of the block just passed over. It ends where its header says only if the next
    /// block continues it: if its payload was cut short, other blocks may hide in its place.
    passed: Option<Pos>,
    raw: Vec<u8>,
}

impl SegmentReader {
    /// Opens a segment. Its header is read with the first block.
    pub fn open(disk: &Arc<dyn Disk>, file: &SegmentFile) -> Result<Self, TapeError> {
        let path = file.path.clone();
        let handle = disk.open(&path).map_err(TapeError::io("open", &path))?;
        let decompressor = Decompressor::new()
            .map_err(|error| TapeError::Codec { what: "start a decompressor", text: error.to_string() })?;
        let window = Window { file: handle, start: 0, bytes: Vec::new(), chunk: SKIP_CHUNK };
        Ok(Self {
            path,
            window,
            decompressor,
            id: None,
            intact: false,
            started: false,
            at: 0,
            verified: 0,
            passed: None,
            raw: Vec::new(),
        })
    }

    /// The records of the last [`Found::Block`].
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Whether the segment's header is intact (known after the first `next`).
    pub fn intact(&self) -> bool {
        self.intact
    }

    /// The segment's id, where it is known.
    pub fn id(&self) -> Option<u64> {
        self.id
    }

    /// Goes on to the next block. Blocks for which `skip` holds are not read.
    pub fn next(&mut self, skip: impl Fn(&BlockHeader) -> bool) -> Result<Found, TapeError> {
        if !self.started && !self.read_header()? {
            return self.resync(0, Damage::Header, None);
        }
        let end = self.size()?;
        let passed = self.passed.take();
        if self.at == end && passed.is_none() {
            self.window.forget();
            return Ok(Found::Tail { offset: end, bytes: 0, reason: Damage::Torn, block: None });
        }
        let Some(header) = self.header_at(self.at)? else {
            let torn = self.at.saturating_add(BLOCK_HEADER as u64) > end;
            return self.resync(self.verified, if torn { Damage::Torn } else { Damage::Header }, None);
        };
        if passed.is_some_and(|last_pos| last_pos != header.previous) {
            return self.resync(self.verified, Damage::Missing, None);
        }
        let payload = self.at + BLOCK_HEADER as u64;
        let behind = payload + u64::from(header.stored);
        if behind > end {
            return self.resync(payload, Damage::Torn, Some(header));
        }
        if skip(&header) {
            self.window.chunk = SKIP_CHUNK;
            self.passed = Some(header.last_pos);
            self.verified = payload;
            self.at = behind;
            return Ok(Found::Passed { header });
        }
        self.window.chunk = CHUNK;
        if let Err(reason) = self.unpack(&header, payload)? {
            return self.resync(payload, reason, Some(header));
        }
        let offset = self.at;
        self.verified = behind;
        self.at = behind;
        Ok(Found::Block { header, offset })
    }

    /// The bytes of a block as they are, header included.
    pub fn copy(&mut self, header: &BlockHeader, offset: u64, out: &mut Vec<u8>) -> Result<(), TapeError> {
        let length = BLOCK_HEADER + header.stored as usize;
        let path = &self.path;
        let bytes = self.window.at(offset, length).map_err(TapeError::io("read", path))?;
        out.extend_from_slice(bytes.get(..length).unwrap_or(bytes));
        Ok(())
    }

    fn size(&mut self) -> Result<u64, TapeError> {
        self.window.file.bytes().map_err(TapeError::io("read", &self.path))
    }

    fn read_header(&mut self) -> Result<bool, TapeError> {
        let bytes = self.window.at(0, SEGMENT_HEADER).map_err(TapeError::io("read", &self.path))?;
        let Some(header) = SegmentHeader::decode(bytes) else { return Ok(false) };
        if header.format > FORMAT {
            return Err(TapeError::Newer { path: self.path.clone(), found: header.format, supported: FORMAT });
        }
        self.id = Some(header.id);
        self.intact = true;
        self.started = true;
        self.at = SEGMENT_HEADER as u64;
        self.verified = self.at;
        Ok(true)
    }

    fn header_at(&mut self, offset: u64) -> Result<Option<BlockHeader>, TapeError> {
        let bytes = self.window.at(offset, BLOCK_HEADER).map_err(TapeError::io("read", &self.path))?;
        Ok(BlockHeader::decode(bytes).filter(|header| self.id.is_none_or(|id| id == header.segment)))
    }

    /// Checks and decompresses a payload into `raw`.
    fn unpack(&mut self, header: &BlockHeader, offset: u64) -> Result<Result<(), Damage>, TapeError> {
        self.raw.clear();
        let stored = header.stored as usize;
        let raw = header.raw as usize;
        let bytes = self.window.at(offset, stored).map_err(TapeError::io("read", &self.path))?;
        let Some(bytes) = bytes.get(..stored) else { return Ok(Err(Damage::Torn)) };
        if crc32c::crc32c(bytes) != header.payload_crc {
            return Ok(Err(Damage::Checksum));
        }
        match header.codec {
            CODEC_NONE => self.raw.extend_from_slice(bytes),
            CODEC_ZSTD => {
                // The frame names its own size: nothing is allocated on the word of the header alone.
                if get_frame_content_size(bytes).ok().flatten() != Some(u64::from(header.raw)) {
                    return Ok(Err(Damage::Compression));
                }
                self.raw.reserve_exact(raw);
                if self.decompressor.decompress_to_buffer(bytes, &mut self.raw).is_err() {
                    self.raw.clear();
                    return Ok(Err(Damage::Compression));
                }
            }
            codec => return Err(TapeError::UnknownCodec { path: self.path.clone(), codec }),
        }
        if self.raw.len() != raw {
            return Ok(Err(Damage::Compression));
        }
        Ok(if check_records(header, &self.raw) { Ok(()) } else { Err(Damage::Records) })
    }

    /// Looks for the next intact block header from `from` on.
    fn resync(&mut self, from: u64, reason: Damage, block: Option<BlockHeader>) -> Result<Found, TapeError> {
        let Some(next) = self.scan(from)? else {
            let end = self.size()?;
            let offset = self.at.min(end);
            self.window.forget();
            return Ok(Found::Tail { offset, bytes: end - offset, reason, block });
        };
        let offset = self.at.min(next);
        self.started = true;
        self.at = next;
        self.verified = next;
        Ok(Found::Damage { offset, bytes: next - offset, reason, block })
    }

    fn scan(&mut self, mut from: u64) -> Result<Option<u64>, TapeError> {
        loop {
            let bytes = self.window.at(from, BLOCK_HEADER).map_err(TapeError::io("read", &self.path))?;
            if bytes.len() < BLOCK_HEADER {
                return Ok(None);
            }
            let magic = bytes.windows(BLOCK_MAGIC.len()).position(|bytes| bytes == BLOCK_MAGIC);
            let Some(skipped) = magic else {
                from += (bytes.len() + 1 - BLOCK_MAGIC.len()) as u64;
                continue;
            };
            from += skipped as u64;
            if let Some(header) = self.header_at(from)? {
                self.id.get_or_insert(header.segment);
                return Ok(Some(from));
            }
            from += 1;
        }
    }
}

/// A piece of the file in memory.
struct Window {
    file: Box<dyn DiskRead>,
    start: u64,
    bytes: Vec<u8>,
    /// The least to read at a time.
    chunk: usize,
}

impl Window {
    /// The bytes from `offset` to the end of the window, at least `length` of them unless the file ends.
    fn at(&mut self, offset: u64, length: usize) -> std::io::Result<&[u8]> {
        let held = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let held = held.filter(|skip| self.bytes.len().saturating_sub(*skip) >= length);
        let skip = if let Some(skip) = held {
            skip
        } else {
            self.load(offset, length)?;
            0
        };
        Ok(self.bytes.get(skip..).unwrap_or_default())
    }

    fn load(&mut self, offset: u64, length: usize) -> std::io::Result<()> {
        let left = self.file.bytes()?.saturating_sub(offset);
        let wanted = length.max(self.chunk).min(usize::try_from(left).unwrap_or(usize::MAX));
        self.start = offset;
        self.bytes.resize(wanted, 0);
        let read = self.file.read_at(offset, &mut self.bytes);
        self.bytes.truncate(*read.as_ref().unwrap_or(&0));
        read.map(|_| ())
    }

    /// The file may grow or be cut: what was read at its end says nothing later.
    fn forget(&mut self) {
        self.bytes.clear();
    }
}

#[cfg(test)]
impl SegmentReader {
    /// Memory held for records, for tests of its bounds.
    pub fn capacity(&self) -> usize {
        self.raw.capacity() + self.window.bytes.capacity()
    }
}
