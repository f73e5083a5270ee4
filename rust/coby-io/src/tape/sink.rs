//! The slow side of the writer: compresses blocks, appends them to segments, syncs and seals.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coby_core::record::{Nanos, Pos};
use zstd::bulk::Compressor;

use super::directory::SegmentFile;
use super::error::TapeError;
use super::format::{BlockHeader, CODEC_NONE, CODEC_ZSTD, FORMAT, SegmentHeader};
use super::manifest::Manifest;
use super::writer::Codec;
use crate::disk::{Disk, DiskWrite};

/// A closed block on its way from the hot thread.
#[derive(Debug, Default)]
pub(crate) struct RawBlock {
    pub bytes: Vec<u8>,
    pub records: u32,
    pub first_pos: Pos,
    pub last_pos: Pos,
    pub first_recv: Nanos,
    pub last_recv: Nanos,
    /// Grows by what the block takes on disk, so that the hot thread knows when its segment is full.
    pub segment_bytes: Arc<AtomicU64>,
}

/// Appends blocks to segments.
pub(crate) struct Sink {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    compressor: Option<Compressor<'static>>,
    segment: Option<OpenSegment>,
    /// Last position written, by this writer or before it.
    last_pos: Pos,
    packed: Vec<u8>,
    out: Vec<u8>,
}

struct OpenSegment {
    place: SegmentFile,
    file: Box<dyn DiskWrite>,
    id: u64,
    so_far: Manifest,
    synced_bytes: u64,
    /// Whether the name is durable.
    named: bool,
}

impl Sink {
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf, last_pos: Pos, codec: Codec) -> Result<Self, TapeError> {
        let compressor = match codec {
            Codec::None => None,
            Codec::Zstd(level) => Some(Compressor::new(level).map_err(|error| codec_error(&error))?),
        };
        Ok(Self { disk, dir, compressor, segment: None, last_pos, packed: Vec::new(), out: Vec::new() })
    }

    /// Appends a block, to a new segment if none is open. Returns the bytes it took.
    pub fn write(&mut self, block: &RawBlock) -> Result<u64, TapeError> {
        self.out.clear();
        let segment = match &mut self.segment {
            Some(segment) => segment,
            none => {
                let place = SegmentFile::new(&self.dir, block.first_pos);
                let file = self.disk.create(&place.path).map_err(TapeError::io("create", &place.path))?;
                let id = mix(block.first_pos, block.first_recv);
                SegmentHeader { format: FORMAT, id }.encode(&mut self.out);
                let so_far = Manifest { format: FORMAT, ..Manifest::default() };
                none.insert(OpenSegment { place, file, id, so_far, synced_bytes: 0, named: false })
            }
        };
        let mut codec = CODEC_NONE;
        if let Some(compressor) = &mut self.compressor {
            self.packed.clear();
            self.packed.reserve(zstd::zstd_safe::compress_bound(block.bytes.len()));
            compressor.compress_to_buffer(&block.bytes, &mut self.packed).map_err(|error| codec_error(&error))?;
            codec = if self.packed.len() < block.bytes.len() { CODEC_ZSTD } else { CODEC_NONE };
        }
        let stored = if codec == CODEC_ZSTD { &self.packed } else { &block.bytes };
        let header = BlockHeader {
            codec,
            stored: stored.len() as u32,
            raw: block.bytes.len() as u32,
            payload_crc: crc32c::crc32c(stored),
            records: block.records,
            segment: segment.id,
            previous: self.last_pos,
            first_pos: block.first_pos,
            last_pos: block.last_pos,
            first_recv: block.first_recv,
            last_recv: block.last_recv,
        };
        header.encode(&mut self.out);
        self.out.extend_from_slice(stored);
        segment.file.write_all(&self.out).map_err(TapeError::io("write", &segment.place.path))?;

        self.last_pos = block.last_pos;
        let bytes = self.out.len() as u64;
        let so_far = &mut segment.so_far;
        so_far.count(&header);
        so_far.bytes += bytes;
        so_far.crc = crc32c::crc32c_append(so_far.crc, &self.out);
        block.segment_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Makes everything written durable and returns the last position of it.
    pub fn sync(&mut self) -> Result<Pos, TapeError> {
        if let Some(segment) = &mut self.segment {
            if segment.synced_bytes < segment.so_far.bytes {
                segment.file.sync().map_err(TapeError::io("sync", &segment.place.path))?;
                segment.synced_bytes = segment.so_far.bytes;
            }
            if !segment.named {
                self.disk.sync_dir(&self.dir).map_err(TapeError::io("sync", &self.dir))?;
                segment.named = true;
            }
        }
        Ok(self.last_pos)
    }

    /// Makes the open segment durable and gives it its manifest. The next block begins a new segment.
    pub fn seal(&mut self, rows: BTreeMap<String, String>) -> Result<Pos, TapeError> {
        let last_pos = self.sync()?;
        if let Some(segment) = &self.segment {
            let manifest = Manifest { rows, ..segment.so_far.clone() };
            manifest.write(&*self.disk, &segment.place.manifest())?;
            self.segment = None;
        }
        Ok(last_pos)
    }

    /// After a failure: takes back what was never acknowledged. This matters after a failed sync: reads
    /// still see bytes that the kernel has given up, and recovery must not take them for good. If the disk
    /// refuses this too, nothing more can be done.
    pub fn abandon(&mut self) {
        let Some(segment) = self.segment.take() else { return };
        drop(segment.file);
        let path = &segment.place.path;
        if segment.synced_bytes > 0 && segment.named {
            let _ = self.disk.truncate(path, segment.synced_bytes);
        } else {
            let _ = self.disk.remove(path);
            let _ = self.disk.sync_dir(&self.dir);
        }
    }
}

fn codec_error(error: &std::io::Error) -> TapeError {
    TapeError::Codec { what: "compress a block", text: error.to_string() }
}

/// A segment's id: nanoseconds of the first record that nobody outside can foresee, spread over 64 bits
/// (the finaliser of `SplitMix64`).
fn mix(pos: Pos, recv: Nanos) -> u64 {
    let mut z = pos.rotate_left(32) ^ recv.cast_unsigned();
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
