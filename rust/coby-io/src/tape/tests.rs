//! Properties of the tape that need to see its blocks. The oracle is the list of records written.

mod bytes;
mod damage;
mod limits;
mod live;
mod round_trip;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::directory::segments;
use super::segment::{Found, SegmentReader};
use super::*;
use crate::disk::{Disk, TestDisk};

/// A record that owns its payload.
#[derive(Clone, PartialEq, Eq)]
struct Written {
    pos: u64,
    recv: i64,
    conn: u32,
    source: u64,
    kind: u8,
    payload: Vec<u8>,
}

impl Written {
    fn lend(&self) -> TapeRecord<'_> {
        let Self { pos, recv, conn, source, kind, ref payload } = *self;
        TapeRecord { pos, recv, conn, source, kind, payload }
    }
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}({} bytes)", self.pos, self.payload.len())
    }
}

impl From<TapeRecord<'_>> for Written {
    fn from(record: TapeRecord<'_>) -> Self {
        let TapeRecord { pos, recv, conn, source, kind, payload } = record;
        Self { pos, recv, conn, source, kind, payload: payload.to_vec() }
    }
}

/// An item that owns its record.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Read {
    Record(Written),
    Hole(Hole),
}

fn dir() -> &'static Path {
    Path::new("/tape")
}

fn no_wake() -> Wake {
    Arc::new(|| {})
}

/// Small enough that a few records make several blocks, and a few blocks a segment.
fn small() -> TapeOptions {
    TapeOptions { block_bytes: 400, segment_bytes: 1500, sync_blocks: 3, ..TapeOptions::default() }
}

/// Positions with gaps, times that go either way, payloads up to several blocks.
fn records(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Written>> {
    let payload = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..80),
        2 => prop::collection::vec(b'a'..b'd', 0..300),
        1 => prop::collection::vec(any::<u8>(), 300..1500),
    ];
    let record = (1..4u64, any::<u32>(), any::<(u32, u64, u8)>(), payload);
    prop::collection::vec(record, count).prop_map(|records| {
        let mut pos = 1 << 40;
        records
            .into_iter()
            .map(|(step, recv, (conn, source, kind), payload)| {
                pos += step;
                Written { pos, recv: i64::from(recv), conn, source, kind, payload }
            })
            .collect()
    })
}

/// Writes a tape; the last segment is sealed or not.
fn write(disk: &TestDisk, records: &[Written], options: TapeOptions, sealed: bool) {
    let mut tape = TapeWriter::inline(Arc::new(disk.clone()), dir(), 0, options, no_wake()).unwrap();
    for record in records {
        tape.append_raw(&record.lend()).unwrap();
        if tape.seal_due() {
            tape.seal(BTreeMap::from([("trades".into(), "00ff".into())]));
        }
    }
    if sealed {
        tape.seal(BTreeMap::new());
    }
    assert_eq!(tape.close().unwrap(), records.last().map_or(0, |record| record.pos));
}

fn drain(reader: &mut TapeReader) -> Vec<Read> {
    let mut items = Vec::new();
    while let Some(item) = reader.next().unwrap() {
        items.push(match item {
            Item::Record(record) => Read::Record(record.into()),
            Item::Hole(hole) => Read::Hole(hole),
        });
    }
    items
}

fn read_from(disk: &TestDisk, pos: u64) -> Vec<Read> {
    drain(&mut TapeReader::open_at(Arc::new(disk.clone()), dir(), pos).unwrap())
}

fn only_records(items: &[Read]) -> Vec<Written> {
    items
        .iter()
        .filter_map(|item| match item {
            Read::Record(record) => Some(record.clone()),
            Read::Hole(_) => None,
        })
        .collect()
}

fn all_records(items: &[Read]) -> Vec<Written> {
    let records = only_records(items);
    assert_eq!(records.len(), items.len(), "holes in {items:?}");
    records
}

/// Where a block lies.
#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    start: usize,
    end: usize,
    first_pos: u64,
    last_pos: u64,
}

fn places(disk: &TestDisk) -> Vec<Place> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut places = Vec::new();
    for file in segments(&*disk, dir()).unwrap() {
        let mut reader = SegmentReader::open(&disk, &file).unwrap();
        while let Found::Block { header, offset } = reader.next(|_| false).unwrap() {
            places.push(Place {
                path: file.path.clone(),
                start: offset as usize,
                end: (offset + header.length()) as usize,
                first_pos: header.first_pos,
                last_pos: header.last_pos,
            });
        }
    }
    places
}
