//! A tape that is being written: time, the tape thread, failures, a reader beside the writer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use super::*;
use crate::disk::{DirEntry, DiskLock, DiskRead, DiskWrite, RealDisk};

fn record(n: u64) -> Written {
    let payload = format!("{{\"frame\":{n},\"data\":\"{}\"}}", "x".repeat((n % 90) as usize)).into_bytes();
    Written { pos: 1 << 40 | n, recv: n as i64 * 1_000_000, conn: 3, source: 0, kind: 1, payload }
}

#[test]
fn blocks_close_by_time_and_segments_fall_due_by_time() {
    let disk = TestDisk::new(0);
    let options = TapeOptions { block_time: 100, segment_time: 1000, ..TapeOptions::default() };
    let mut tape = TapeWriter::inline(Arc::new(disk.clone()), dir(), 0, options, no_wake()).unwrap();
    let at = |pos, recv| Written { pos, recv, ..record(0) };
    tape.append_raw(&at(1, 0).lend()).unwrap();
    tape.append_raw(&at(2, 99).lend()).unwrap();
    assert_eq!(tape.stats().blocks, 0);
    tape.append_raw(&at(3, 100).lend()).unwrap();
    assert_eq!(tape.stats().blocks, 1);
    tape.tick(199);
    assert_eq!(tape.stats().blocks, 1);
    tape.tick(200);
    assert_eq!(tape.stats().blocks, 2);
    assert!(!tape.seal_due());
    tape.append_raw(&at(4, 1000).lend()).unwrap();
    assert!(tape.seal_due());
    tape.seal(BTreeMap::new());
    assert!(!tape.seal_due());
    assert_eq!(tape.durable_pos().load(Ordering::Acquire), 4);
    tape.append_raw(&at(5, 1001).lend()).unwrap();
    tape.close().unwrap();
    assert_eq!(segments(&disk, dir()).unwrap().len(), 2);
    assert_eq!(places(&disk).len(), 4);
}

#[test]
fn the_tape_thread_writes_what_the_hot_thread_appends() {
    let place = std::env::temp_dir().join(format!("coby-tape-thread-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&place);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let options = TapeOptions { block_bytes: 2000, segment_bytes: 20_000, queue_blocks: 4, ..TapeOptions::default() };
    let (wake, woken) = mpsc::sync_channel(1);
    let wake: Wake = Arc::new(move || {
        // A full channel has woken already.
        let _ = wake.try_send(());
    });
    let mut tape = TapeWriter::start(Arc::clone(&disk), &place, 0, options, wake).unwrap();
    let durable = tape.durable_pos();
    // A reader follows beside it, held back to what is durable.
    let mut reader: Option<TapeReader> = None;
    let mut read = Vec::new();
    for n in 1..=3000 {
        tape.append_raw(&record(n).lend()).unwrap();
        if tape.seal_due() {
            tape.seal(BTreeMap::new());
        }
        if n % 100 == 0 {
            let reader = reader.get_or_insert_with(|| TapeReader::open(Arc::clone(&disk), &place).unwrap());
            reader.until(durable.load(Ordering::Acquire));
            read.extend(all_records(&drain(reader)));
        }
    }
    tape.flush();
    while durable.load(Ordering::Acquire) < record(3000).pos {
        woken.recv_timeout(Duration::from_mins(1)).unwrap();
    }
    let mut reader = reader.unwrap();
    reader.until(durable.load(Ordering::Acquire));
    read.extend(all_records(&drain(&mut reader)));
    assert_eq!(read, (1..=3000).map(record).collect::<Vec<_>>());
    let stats = tape.stats();
    assert_eq!((stats.records, stats.dropped), (3000, 0));
    assert!(stats.bytes < stats.raw_bytes && stats.syncs <= stats.blocks + 60, "{stats:?}");
    assert_eq!(tape.close().unwrap(), record(3000).pos);
    assert!(segments(&*disk, &place).unwrap().len() > 2);
    assert!(verify(&disk, &place).unwrap().ok);
    std::fs::remove_dir_all(&place).unwrap();
}

#[test]
fn a_reader_follows_an_unthrottled_writer_across_segments() {
    let disk = TestDisk::new(0);
    let mut tape = TapeWriter::inline(Arc::new(disk.clone()), dir(), 0, small(), no_wake()).unwrap();
    let mut reader = TapeReader::open(Arc::new(disk.clone()), dir()).unwrap();
    let mut read = Vec::new();
    for n in 1..=200 {
        tape.append_raw(&record(n).lend()).unwrap();
        if tape.seal_due() {
            tape.seal(BTreeMap::new());
        }
        read.extend(all_records(&drain(&mut reader)));
    }
    tape.close().unwrap();
    read.extend(all_records(&drain(&mut reader)));
    assert_eq!(read, (1..=200).map(record).collect::<Vec<_>>());
}

/// A disk on which something happens the first time a directory is listed.
struct Meddling {
    disk: TestDisk,
    meddle: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Meddling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.disk.fmt(f)
    }
}

impl Disk for Meddling {
    fn list(&self, dir: &Path) -> std::io::Result<Vec<DirEntry>> {
        if let Some(meddle) = self.meddle.lock().unwrap().take() {
            meddle();
        }
        self.disk.list(dir)
    }

    fn open(&self, path: &Path) -> std::io::Result<Box<dyn DiskRead>> {
        self.disk.open(path)
    }

    fn create(&self, _: &Path) -> std::io::Result<Box<dyn DiskWrite>> {
        unreachable!("a reader changes nothing")
    }

    fn append(&self, _: &Path) -> std::io::Result<Box<dyn DiskWrite>> {
        unreachable!("a reader changes nothing")
    }

    fn truncate(&self, _: &Path, _: u64) -> std::io::Result<()> {
        unreachable!("a reader changes nothing")
    }

    fn rename(&self, _: &Path, _: &Path) -> std::io::Result<()> {
        unreachable!("a reader changes nothing")
    }

    fn remove(&self, _: &Path) -> std::io::Result<()> {
        unreachable!("a reader changes nothing")
    }

    fn create_dir(&self, _: &Path) -> std::io::Result<()> {
        unreachable!("a reader changes nothing")
    }

    fn sync_dir(&self, _: &Path) -> std::io::Result<()> {
        unreachable!("a reader changes nothing")
    }

    fn lock(&self, _: &Path) -> std::io::Result<Box<dyn DiskLock>> {
        unreachable!("a reader changes nothing")
    }
}

#[test]
fn a_segment_that_grows_while_the_reader_looks_for_the_next_is_read_to_its_end() {
    let disk = TestDisk::new(0);
    let mut tape = TapeWriter::inline(Arc::new(disk.clone()), dir(), 0, small(), no_wake()).unwrap();
    tape.append_raw(&record(1).lend()).unwrap();
    tape.flush();
    let meddling = Arc::new(Meddling { disk: disk.clone(), meddle: Mutex::new(None) });
    let mut reader = TapeReader::open(Arc::clone(&meddling) as Arc<dyn Disk>, dir()).unwrap();
    assert!(matches!(reader.next().unwrap(), Some(Item::Record(_))));
    *meddling.meddle.lock().unwrap() = Some(Box::new(move || {
        tape.append_raw(&record(2).lend()).unwrap();
        tape.seal(BTreeMap::new());
        tape.append_raw(&record(3).lend()).unwrap();
        tape.close().unwrap();
    }));
    assert_eq!(all_records(&drain(&mut reader)), [record(2), record(3)]);
}

#[test]
fn a_segment_deleted_ahead_of_the_reader_is_a_hole() {
    let disk = TestDisk::new(0);
    let mut tape = TapeWriter::inline(Arc::new(disk.clone()), dir(), 0, small(), no_wake()).unwrap();
    for n in 1..=3 {
        tape.append_raw(&record(n).lend()).unwrap();
        tape.seal(BTreeMap::new());
    }
    let mut reader = TapeReader::open(Arc::new(disk.clone()), dir()).unwrap();
    assert!(matches!(reader.next().unwrap(), Some(Item::Record(_))));
    disk.remove(&segments(&disk, dir()).unwrap()[1].path).unwrap();
    let lost = Hole { from_pos: record(2).pos, to_pos: record(2).pos, reason: Damage::Missing };
    assert_eq!(drain(&mut reader), [Read::Hole(lost), Read::Record(record(3))]);
}

#[test]
fn a_full_disk_stops_the_run_and_the_next_one_goes_on() {
    for threaded in [false, true] {
        let disk = TestDisk::new(7);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let wakes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&wakes);
        let wake: Wake = Arc::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let start = if threaded { TapeWriter::start } else { TapeWriter::inline };
        let mut tape = start(Arc::clone(&shared), dir(), 0, small(), wake).unwrap();
        disk.set_capacity(Some(4000));
        for n in 1..=1000 {
            tape.append_raw(&record(n).lend()).unwrap();
        }
        tape.flush();
        while tape.status() == TapeStatus::Ok {
            std::thread::yield_now();
        }
        let TapeStatus::Failed(text) = tape.status() else { panic!("the disk is full") };
        assert!(text.starts_with("could not write /tape/"), "{text}");
        assert!(wakes.load(Ordering::Relaxed) > 0);
        let durable = tape.durable_pos().load(Ordering::Acquire);
        // It takes and drops, and never comes back, even when the disk does.
        disk.set_capacity(None);
        let written = tape.stats().blocks;
        for n in 1001..=2000 {
            tape.append_raw(&record(n).lend()).unwrap();
        }
        tape.flush();
        assert_eq!(tape.stats().blocks, written);
        assert!(tape.stats().dropped >= 1000);
        assert!(matches!(tape.close(), Err(TapeError::Failed { .. })));

        let recovery = recover(&shared, dir()).unwrap();
        assert_eq!(recovery.last_pos, durable, "nothing unacknowledged was left behind");
        let run = claim_run(&disk, dir()).unwrap();
        let mut tape = TapeWriter::inline(Arc::clone(&shared), dir(), recovery.last_pos, small(), no_wake()).unwrap();
        let second = Written { pos: run << 40 | 1, ..record(5) };
        tape.append_raw(&second.lend()).unwrap();
        tape.close().unwrap();
        let mut expected: Vec<_> = (1..=1000).map(record).filter(|record| record.pos <= durable).collect();
        expected.push(second);
        assert_eq!(all_records(&read_from(&disk, 0)), expected);
    }
}

#[test]
fn what_a_failed_sync_covered_is_not_taken_for_good() {
    for seed in 0..50 {
        let disk = TestDisk::new(seed);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut tape = TapeWriter::inline(Arc::clone(&shared), dir(), 0, small(), no_wake()).unwrap();
        for n in 1..=40 {
            tape.append_raw(&record(n).lend()).unwrap();
        }
        tape.flush();
        disk.fail_next_sync();
        for n in 41..=80 {
            tape.append_raw(&record(n).lend()).unwrap();
        }
        tape.flush();
        assert!(matches!(tape.status(), TapeStatus::Failed(_)));
        let durable = tape.durable_pos().load(Ordering::Acquire);
        // The next run begins in the same process: its recovery reads through the page cache.
        let recovery = recover(&shared, dir()).unwrap();
        assert_eq!(recovery.last_pos, durable);
        let cut = disk.power_cut(seed);
        let expected: Vec<_> = (1..=80).map(record).filter(|record| record.pos <= durable).collect();
        assert_eq!(all_records(&read_from(&cut, 0)), expected);
    }
}

#[test]
fn recovery_can_be_tried_again_after_a_failed_sync() {
    for seed in 0..50 {
        let disk = TestDisk::new(seed);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut tape = TapeWriter::inline(Arc::clone(&shared), dir(), 0, small(), no_wake()).unwrap();
        for n in 1..=40 {
            tape.append_raw(&record(n).lend()).unwrap();
        }
        drop(tape);
        let before = only_records(&read_from(&disk, 0));
        disk.fail_next_sync();
        recover(&shared, dir()).unwrap_err();
        recover(&shared, dir()).unwrap();
        assert_eq!(all_records(&read_from(&disk.power_cut(seed), 0)), before);
    }
}

#[test]
fn a_read_only_disk_and_failing_writes_are_failures_too() {
    for harm in [TestDisk::set_read_only, TestDisk::set_failing_writes] {
        let disk = TestDisk::new(0);
        let mut tape = TapeWriter::inline(Arc::new(disk.clone()), dir(), 0, small(), no_wake()).unwrap();
        tape.append_raw(&record(1).lend()).unwrap();
        tape.flush();
        harm(&disk, true);
        tape.append_raw(&record(2).lend()).unwrap();
        tape.flush();
        assert!(matches!(tape.status(), TapeStatus::Failed(_)));
        assert_eq!(tape.durable_pos().load(Ordering::Acquire), record(1).pos);
    }
}
