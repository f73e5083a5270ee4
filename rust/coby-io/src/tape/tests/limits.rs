//! Errors that name their cause, and the largest record.

use super::super::format::{BlockHeader, FORMAT, MAX_PAYLOAD, SegmentHeader};
use super::*;

fn one() -> Written {
    Written { pos: 1, recv: 1, conn: 0, source: 0, kind: 1, payload: b"frame".to_vec() }
}

#[test]
fn a_newer_format_is_named() {
    let disk = TestDisk::new(0);
    write(&disk, &[one()], small(), true);
    let path = dir().join("0000000000000001.tape");
    let mut bytes = Vec::new();
    SegmentHeader { format: FORMAT + 1, id: 9 }.encode(&mut bytes);
    disk.put(&path, &bytes);
    let mut reader = TapeReader::open(Arc::new(disk.clone()), dir()).unwrap();
    let error = reader.next().unwrap_err();
    assert!(matches!(error, TapeError::Newer { found: 2, supported: 1, .. }));
    assert!(error.to_string().contains("newer version (format 2, this one reads up to 1): upgrade"), "{error}");
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    assert!(matches!(verify(&shared, dir()), Err(TapeError::Newer { .. })));
    disk.remove(&path.with_extension("manifest")).unwrap();
    assert!(matches!(recover(&shared, dir()), Err(TapeError::Newer { .. })), "recovery must not cut what is fine");
    assert_eq!(disk.read(&path).unwrap(), bytes);
}

#[test]
fn a_newer_manifest_is_named() {
    let disk = TestDisk::new(0);
    write(&disk, &[one()], small(), true);
    let path = dir().join("0000000000000001.manifest");
    let manifest = Manifest::read(&disk, &path).unwrap().unwrap();
    Manifest { format: FORMAT + 1, ..manifest }.write(&disk, &path).unwrap();
    let shared: Arc<dyn Disk> = Arc::new(disk);
    assert!(matches!(recover(&shared, dir()), Err(TapeError::Newer { found: 2, .. })));
    assert!(matches!(info(&shared, dir()), Err(TapeError::Newer { found: 2, .. })));
}

#[test]
fn a_foreign_file_is_named() {
    let disk = TestDisk::new(0);
    disk.create_dir(dir()).unwrap();
    let path = dir().join("holiday.tape");
    disk.put(&path, &[1; 300]);
    let error = TapeReader::open_file(Arc::new(disk.clone()), &path).err().unwrap();
    assert_eq!(error.to_string(), "/tape/holiday.tape is not a COBY tape");
    // Not a segment's name: no part of the tape.
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    assert_eq!(verify(&shared, dir()).unwrap().segments, []);
    // A segment's name: put aside, not destroyed.
    disk.put(&dir().join("0000000000000001.tape"), &[1; 300]);
    let recovery = recover(&shared, dir()).unwrap();
    assert_eq!(recovery.put_aside, ["0000000000000001.tape"]);
    assert_eq!(disk.read(&dir().join("0000000000000001.tape.damaged")).unwrap(), [1; 300]);
}

#[test]
fn an_unknown_codec_is_not_damage() {
    let disk = TestDisk::new(0);
    write(&disk, &[one()], TapeOptions { codec: Codec::None, ..small() }, true);
    let path = dir().join("0000000000000001.tape");
    let mut bytes = disk.read(&path).unwrap();
    let place = &places(&disk)[0];
    let header = BlockHeader::decode(&bytes[place.start..]).unwrap();
    let mut block = Vec::new();
    BlockHeader { codec: 77, ..header }.encode(&mut block);
    bytes.splice(place.start..place.start + block.len(), block);
    disk.put(&path, &bytes);
    let mut reader = TapeReader::open(Arc::new(disk), dir()).unwrap();
    assert!(matches!(reader.next(), Err(TapeError::UnknownCodec { codec: 77, .. })));
}

#[test]
fn a_single_segment_can_be_read_under_any_name() {
    let disk = TestDisk::new(0);
    write(&disk, &[one()], small(), true);
    let bytes = disk.read(&dir().join("0000000000000001.tape")).unwrap();
    disk.put(Path::new("/copy.tape"), &bytes);
    let mut reader = TapeReader::open_file(Arc::new(disk), Path::new("/copy.tape")).unwrap();
    assert_eq!(all_records(&drain(&mut reader)), [one()]);
}

#[test]
fn positions_must_grow_and_payloads_have_a_limit() {
    let mut tape = TapeWriter::inline(Arc::new(TestDisk::new(0)), dir(), 5, small(), no_wake()).unwrap();
    let record = |pos| Written { pos, ..one() };
    assert!(matches!(tape.append_raw(&record(5).lend()), Err(TapeError::Order { pos: 5, last: 5 })));
    tape.append_raw(&record(6).lend()).unwrap();
    assert!(matches!(tape.append_raw(&record(6).lend()), Err(TapeError::Order { pos: 6, last: 6 })));
    let long = Written { payload: vec![0; MAX_PAYLOAD + 1], ..record(7) };
    assert!(matches!(tape.append_raw(&long.lend()), Err(TapeError::TooLong { .. })));
    tape.append_raw(&record(7).lend()).unwrap();
    assert_eq!(tape.close().unwrap(), 7);
}

#[test]
fn the_largest_record_comes_back_between_small_ones() {
    let disk = TestDisk::new(0);
    let mut payload: Vec<u8> = (0..MAX_PAYLOAD as u32 / 4).flat_map(|n| (n / 64).to_le_bytes()).collect();
    payload.resize(MAX_PAYLOAD, 1);
    let written = [one(), Written { pos: 2, payload, ..one() }, Written { pos: 3, ..one() }];
    write(&disk, &written, TapeOptions::default(), true);
    assert_eq!(places(&disk).len(), 3, "a block to itself");
    assert!(all_records(&read_from(&disk, 0)) == written);
}

#[test]
fn one_process_at_a_time() {
    let disk = TestDisk::new(0);
    let held = lock(&disk, dir()).unwrap();
    assert!(matches!(lock(&disk, dir()), Err(TapeError::Locked { .. })));
    drop(held);
    lock(&disk, dir()).unwrap();
}

#[test]
fn a_claimed_run_is_never_claimed_again() {
    for seed in 0..100 {
        let disk = TestDisk::new(seed);
        let first = claim_run(&disk, dir()).unwrap();
        let after = disk.power_cut(seed);
        assert!(claim_run(&after, dir()).unwrap() > first);
    }
    let disk = TestDisk::new(0);
    disk.create_dir(dir()).unwrap();
    disk.put(&dir().join(format!("{:016x}.tape.damaged", 9u64 << 40 | 4)), b"");
    disk.put(&dir().join("run"), b"rubbish");
    assert_eq!(next_run(&disk, dir()).unwrap(), 10);
}
