//! The bytes of a segment, format 1. Numbers are little-endian.
//!
//! ```text
//! segment   magic "\x89COBYTP\n" 8 | format u16 | reserved u16 | segment id u64 | CRC32C u32 of the 20 bytes before
//! block     magic "\xB7COBYBK\n" 8 | CRC32C u32 of the 68 bytes after it
//!           codec u8 (0 none, 1 zstd) | reserved 3 | stored length u32 | raw length u32 | CRC32C u32 of the stored bytes
//!           records u32 | segment id u64 | previous pos u64 | first pos u64 | last pos u64 | first recv i64 | last recv i64
//!           stored bytes
//! record    payload length u32 | CRC32C u32 of what follows | pos u64 | recv i64 | conn u32 | source u64 | kind u8 | payload
//! ```
//!
//! - The first 24 bytes keep their layout in every later format, so that an old version can name the
//!   format it cannot read. A format that changes the block header changes its magic.
//! - A block repeats its segment's id, which is mixed from the first record's time: after damage,
//!   reading resynchronises at the next valid block header, and neither a venue's payload nor a stale
//!   disk block can pass for one without knowing the id.
//! - *Previous pos* is the last position written before this block (0: none), across segments and runs.
//! - Positions are at least 1 and grow strictly.
//! - A block is about 256 KiB raw; a record larger than that has a block to itself.

use coby_core::record::{Body, ConnId, Nanos, Pos, Record, RecordError};

/// The newest format that this code reads, and the one it writes.
pub const FORMAT: u16 = 1;
/// The largest payload of a record, in bytes.
pub const MAX_PAYLOAD: usize = 128 << 20;

pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"\x89COBYTP\n";
pub(crate) const SEGMENT_HEADER: usize = 24;
pub(crate) const BLOCK_MAGIC: [u8; 8] = *b"\xB7COBYBK\n";
pub(crate) const BLOCK_HEADER: usize = 80;
pub(crate) const RECORD_HEADER: usize = 37;
/// The largest raw block: one record of the largest size, and what its size was underestimated by.
pub(crate) const MAX_RAW: usize = MAX_PAYLOAD + 4096;

pub(crate) const CODEC_NONE: u8 = 0;
pub(crate) const CODEC_ZSTD: u8 = 1;

/// A record as it lies on the tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapeRecord<'a> {
    /// Position.
    pub pos: Pos,
    /// Receive time, nanoseconds UTC.
    pub recv: Nanos,
    /// Connection; 0 where the record belongs to none.
    pub conn: ConnId,
    /// Number of the source frame in an imported run, else 0.
    pub source: u64,
    /// Kind byte of [`Body::encode`].
    pub kind: u8,
    /// Payload of [`Body::encode`].
    pub payload: &'a [u8],
}

impl<'a> TapeRecord<'a> {
    /// Reads the payload.
    pub fn decode(&self) -> Result<Record<'a>, RecordError> {
        let body = Body::decode(self.kind, self.payload)?;
        Ok(Record { pos: self.pos, recv: self.recv, conn: self.conn, source: self.source, body })
    }
}

/// The first bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub format: u16,
    pub id: u64,
}

impl SegmentHeader {
    pub fn encode(self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&self.format.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.id.to_le_bytes());
        let crc = crc32c::crc32c(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&crc.to_le_bytes());
    }

    /// `None` where there is no intact header.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let magic = fields.take::<8>()?;
        let format = fields.u16()?;
        fields.u16()?;
        let id = fields.u64()?;
        let crc = fields.u32()?;
        let covered = bytes.get(..SEGMENT_HEADER - 4)?;
        (magic == SEGMENT_MAGIC && crc == crc32c::crc32c(covered)).then_some(Self { format, id })
    }
}

/// What a block's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub codec: u8,
    pub stored: u32,
    pub raw: u32,
    pub payload_crc: u32,
    pub records: u32,
    pub segment: u64,
    pub previous: Pos,
    pub first_pos: Pos,
    pub last_pos: Pos,
    pub first_recv: Nanos,
    pub last_recv: Nanos,
}

impl BlockHeader {
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&BLOCK_MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&[self.codec, 0, 0, 0]);
        for number in [self.stored, self.raw, self.payload_crc, self.records] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.segment, self.previous, self.first_pos, self.last_pos] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.first_recv, self.last_recv] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(out.get(start + 12..).unwrap_or_default());
        if let Some(field) = out.get_mut(start + 8..start + 12) {
            field.copy_from_slice(&crc.to_le_bytes());
        }
    }

    /// `None` where there is no intact header, or one with numbers that no writer produces: lengths are
    /// checked here, before anything is allocated for them.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.take::<8>()? != BLOCK_MAGIC {
            return None;
        }
        let crc = fields.u32()?;
        if crc != crc32c::crc32c(bytes.get(12..BLOCK_HEADER)?) {
            return None;
        }
        let [codec, ..] = fields.take::<4>()?;
        let header = Self {
            codec,
            stored: fields.u32()?,
            raw: fields.u32()?,
            payload_crc: fields.u32()?,
            records: fields.u32()?,
            segment: fields.u64()?,
            previous: fields.u64()?,
            first_pos: fields.u64()?,
            last_pos: fields.u64()?,
            first_recv: fields.i64()?,
            last_recv: fields.i64()?,
        };
        header.plausible().then_some(header)
    }

    /// Bytes on disk, header included.
    pub fn length(&self) -> u64 {
        BLOCK_HEADER as u64 + u64::from(self.stored)
    }

    fn plausible(&self) -> bool {
        let raw = self.raw as usize;
        raw <= MAX_RAW
            && self.stored <= self.raw
            && (1..=raw / RECORD_HEADER).contains(&(self.records as usize))
            && self.first_pos <= self.last_pos
            && u64::from(self.records) - 1 <= self.last_pos - self.first_pos
            && self.previous < self.first_pos
    }
}

/// Appends a record whose payload `write` appends, returning its kind byte; the payload is copied once.
pub(crate) fn encode_record(
    out: &mut Vec<u8>,
    (pos, recv, conn, source): (Pos, Nanos, ConnId, u64),
    write: impl FnOnce(&mut Vec<u8>) -> u8,
) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEADER]);
    let kind = write(out);
    let Some(record) = out.get_mut(start..) else { return };
    let Some((header, payload)) = record.split_first_chunk_mut::<RECORD_HEADER>() else { return };
    header[0..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[8..16].copy_from_slice(&pos.to_le_bytes());
    header[16..24].copy_from_slice(&recv.to_le_bytes());
    header[24..28].copy_from_slice(&conn.to_le_bytes());
    header[28..36].copy_from_slice(&source.to_le_bytes());
    header[36] = kind;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[8..]), payload);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// The record at the beginning of `bytes`, its checksum not yet compared, and how long it is.
pub(crate) fn decode_record(bytes: &[u8]) -> Option<(TapeRecord<'_>, usize)> {
    let mut fields = Fields(bytes);
    let length = fields.u32()? as usize;
    fields.u32()?;
    let pos = fields.u64()?;
    let recv = fields.i64()?;
    let conn = fields.u32()?;
    let source = fields.u64()?;
    let [kind] = fields.take::<1>()?;
    let end = RECORD_HEADER.checked_add(length)?;
    let payload = bytes.get(RECORD_HEADER..end)?;
    Some((TapeRecord { pos, recv, conn, source, kind, payload }, end))
}

/// Whether a decompressed block is exactly what its header promises: every record's length, checksum,
/// position and time.
pub(crate) fn check_records(header: &BlockHeader, raw: &[u8]) -> bool {
    let mut rest = raw;
    let mut count = 0u32;
    let mut last: Option<(Pos, Nanos)> = None;
    while !rest.is_empty() {
        let Some((record, length)) = decode_record(rest) else { return false };
        let crc = rest.get(4..8).and_then(|field| Fields(field).u32());
        if crc != rest.get(8..length).map(crc32c::crc32c) {
            return false;
        }
        let follows = match last {
            None => record.pos == header.first_pos && record.recv == header.first_recv,
            Some((pos, _)) => record.pos > pos,
        };
        if !follows {
            return false;
        }
        last = Some((record.pos, record.recv));
        count += 1;
        rest = rest.get(length..).unwrap_or_default();
    }
    count == header.records && last == Some((header.last_pos, header.last_recv))
}

/// Reads fixed-width fields one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }
}
