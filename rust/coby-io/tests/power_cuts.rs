//! Power cuts, kills and disk faults at every point of the tape's life.
//!
//! Each seed lives through several lives of a process. A life recovers the tape, claims a run, and appends,
//! flushes and seals until it is killed, or the disk fails, or the power does, at an arbitrary operation of the
//! disk, recovery and claiming included. After each life this must hold:
//! - every record that was at or below an observed `durable_pos`, or that an earlier recovery had kept, is there;
//! - every record that is there was written, with the same bytes, in the same order;
//! - no run is claimed twice, and what a manifest says is true.
//!
//! `COBY_CUTS` sets the number of seeds, `COBY_CUTS_FROM` the first.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use coby_core::record::{Body, Pos, Record, position};
use coby_io::disk::{Disk, TestDisk};
use coby_io::tape::{
    Codec, Item, Manifest, ManifestState, TapeError, TapeOptions, TapeReader, TapeStatus, TapeWriter, claim_run, info,
    lock, recover, verify,
};

const LIVES: usize = 4;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What the world outside the disk remembers.
#[derive(Default)]
struct Witness {
    /// Everything ever appended.
    written: BTreeMap<Pos, Vec<u8>>,
    /// What must not be lost any more.
    promised: BTreeSet<Pos>,
    /// Runs that were claimed.
    runs: BTreeSet<u64>,
}

fn dir() -> &'static Path {
    Path::new("/data/tape")
}

fn payload(random: &mut Random) -> Vec<u8> {
    let length = if random.one_in(30) { 3000 + random.below(5000) } else { random.below(200) };
    // Half text that compresses, half bytes that do not.
    let text = random.one_in(2);
    (0..length).map(|n| if text { b'a' + (n % 7) as u8 } else { random.next() as u8 }).collect()
}

fn options(random: &mut Random) -> TapeOptions {
    TapeOptions {
        block_bytes: 50 + random.below(3000) as usize,
        block_time: 1 + random.below(50) as i64,
        segment_bytes: 500 + random.below(20_000),
        segment_time: 1 + random.below(2000) as i64,
        queue_blocks: 1 + random.below(4) as usize,
        sync_blocks: 1 + random.below(6) as usize,
        codec: if random.one_in(3) { Codec::None } else { Codec::Zstd(1) },
    }
}

fn rows(last_pos: Pos) -> BTreeMap<String, String> {
    BTreeMap::from([("trades".to_string(), format!("{last_pos:x}"))])
}

/// One life of a process; an error is its death.
fn live(disk: &TestDisk, random: &mut Random, witness: &mut Witness, threaded: bool) -> Result<(), TapeError> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let _lock = lock(&*shared, dir())?;
    if random.one_in(8) {
        // It may fail and be called again in the same process.
        disk.fail_next_sync();
        let _ = recover(&shared, dir());
    }
    let recovery = recover(&shared, dir())?;
    // From here on what recovery kept is built upon.
    let kept = read(&shared, witness);
    assert!(kept.is_superset(&witness.promised), "recovery lost {:x?}", witness.promised.difference(&kept).next());
    assert!(recovery.last_pos >= kept.last().copied().unwrap_or(0));
    witness.promised = kept;
    let run = claim_run(&*shared, dir())?;
    assert!(witness.runs.insert(run), "run {run} was claimed twice");
    assert!(witness.runs.last() == Some(&run));

    let start = if threaded { TapeWriter::start } else { TapeWriter::inline };
    let mut tape = start(Arc::clone(&shared), dir(), recovery.last_pos, options(random), Arc::new(|| {}))?;
    let durable = tape.durable_pos();
    let records = random.below(400);
    let fault_at = random.one_in(3).then(|| random.below(records.max(1)));
    let mut recv = 0;
    for n in 1..=records {
        recv += random.below(20) as i64;
        let pos = position(run, n);
        let bytes = payload(random);
        tape.append(&Record { pos, recv, conn: 1, source: 0, body: Body::Text(&bytes) })?;
        witness.written.insert(pos, bytes);
        if tape.seal_due() {
            tape.seal(rows(pos));
        } else if random.one_in(20) {
            tape.flush();
        }
        if fault_at == Some(n) {
            match random.below(4) {
                0 => disk.fail_next_sync(),
                1 => disk.set_capacity(Some(disk.used() + random.below(3000))),
                2 => disk.set_read_only(true),
                _ => disk.set_failing_writes(true),
            }
        }
        observe(run, durable.load(Ordering::Acquire), witness);
        if let TapeStatus::Failed(text) = tape.status() {
            return Err(TapeError::Failed { text });
        }
    }
    // Killed, or stopped in an orderly way.
    if random.one_in(2) {
        if random.one_in(2) {
            tape.seal(rows(position(run, records)));
        }
        let closed = tape.close()?;
        assert_eq!(closed, if records > 0 { position(run, records) } else { recovery.last_pos });
        observe(run, closed, witness);
    }
    observe(run, durable.load(Ordering::Acquire), witness);
    Ok(())
}

/// What is durable of this run; earlier ones were settled by recovery.
fn observe(run: u64, durable: Pos, witness: &mut Witness) {
    let promised = witness.promised.last().map_or(0, |last| last + 1);
    let from = promised.max(position(run, 0));
    if from <= durable {
        witness.promised.extend(witness.written.range(from..=durable).map(|(pos, _)| *pos));
    }
}

/// Positions on the tape. Every record must be one that was written.
fn read(disk: &Arc<dyn Disk>, witness: &Witness) -> BTreeSet<Pos> {
    let mut reader = TapeReader::open(Arc::clone(disk), dir()).unwrap();
    let mut found = BTreeSet::new();
    let mut last = 0;
    while let Some(item) = reader.next().unwrap() {
        let (from, to) = match item {
            Item::Record(record) => {
                let Body::Text(bytes) = record.decode().unwrap().body else { panic!("not a text: {record:?}") };
                assert_eq!(witness.written.get(&record.pos).map(Vec::as_slice), Some(bytes));
                found.insert(record.pos);
                (record.pos, record.pos)
            }
            Item::Hole(hole) => {
                assert!(witness.promised.range(hole.from_pos..=hole.to_pos).next().is_none(), "{hole:?}");
                (hole.from_pos, hole.to_pos)
            }
        };
        assert!(from > last && to >= from);
        last = to;
    }
    found
}

/// The tape after recovery.
fn inspect(disk: &TestDisk, witness: &Witness) {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let recovery = recover(&shared, dir()).unwrap();
    let found = read(&shared, witness);
    let lost: Vec<_> = witness.promised.difference(&found).collect();
    assert!(lost.is_empty(), "lost {lost:x?}");
    assert!(recovery.last_pos >= found.last().copied().unwrap_or(0));
    let report = verify(&shared, dir()).unwrap();
    assert_eq!(report.records, found.len() as u64);
    for segment in &report.segments {
        assert!(segment.manifest == ManifestState::Good && segment.torn.is_none(), "{segment:?}");
        // Damage in the middle stays, at the end it was cut.
        assert!(segment.damage.iter().all(|damage| damage.offset + damage.bytes < segment.info.bytes), "{segment:?}");
        let path = dir().join(segment.info.segment.replace(".tape", ".manifest"));
        let manifest: Manifest = serde_json::from_slice(&disk.read(&path).unwrap()).unwrap();
        // The rows in a manifest belong to exactly the records of its segment.
        assert!(manifest.rows.is_empty() || manifest.rows == rows(segment.info.last_pos), "{manifest:?}");
    }
    assert_eq!(info(&shared, dir()).unwrap().records, found.len() as u64);
}

fn lives(seed: u64) {
    let mut random = Random(seed);
    let mut disk = TestDisk::new(seed);
    let mut witness = Witness::default();
    for _ in 0..LIVES {
        let power_fails = !random.one_in(4);
        if power_fails {
            // Early in a life the disk is busy with recovery and the claim.
            let operations = if random.one_in(3) { 20 } else { 400 };
            disk.die_after(random.below(operations));
        }
        let threaded = random.one_in(10);
        let lived = live(&disk, &mut random, &mut witness, threaded);
        let healthy = lived.is_ok() && !power_fails;
        if healthy && random.one_in(2) {
            // The next process finds the page cache as this one left it, once its threads are gone.
            if !threaded {
                continue;
            }
        }
        disk = disk.power_cut(random.next());
        if random.one_in(2) {
            inspect(&disk, &witness);
        }
    }
    let disk = disk.power_cut(random.next());
    inspect(&disk, &witness);
    // What recovery kept is as durable as everything else.
    let kept = read(&(Arc::new(disk.clone()) as Arc<dyn Disk>), &witness);
    witness.promised = kept;
    inspect(&disk.power_cut(random.next()), &witness);
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_made_up() {
    let from = number("COBY_CUTS_FROM", 0);
    for seed in from..from + number("COBY_CUTS", 500) {
        let result = std::panic::catch_unwind(|| lives(seed));
        assert!(result.is_ok(), "COBY_CUTS_FROM={seed} COBY_CUTS=1 shows this again");
    }
}
