//! What goes in comes out, from every position.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_record_comes_back(
        written in records(0..60),
        zstd in any::<bool>(),
        sealed in any::<bool>(),
        block_bytes in 1..2000usize,
    ) {
        let codec = if zstd { Codec::Zstd(1) } else { Codec::None };
        let options = TapeOptions { block_bytes, codec, ..small() };
        let disk = TestDisk::new(0);
        write(&disk, &written, options, sealed);
        prop_assert_eq!(&all_records(&read_from(&disk, 0)), &written);

        let disk: Arc<dyn Disk> = Arc::new(disk);
        let report = verify(&disk, dir()).unwrap();
        prop_assert!(report.ok, "{:?}", report);
        prop_assert_eq!(report.records, written.len() as u64);
        prop_assert_eq!(repair(&disk, dir()).unwrap().repaired.len(), usize::from(!sealed && !written.is_empty()
            && report.segments.last().is_some_and(|last| last.manifest == ManifestState::Missing)));
    }

    #[test]
    fn reading_ahead_yields_the_same(written in records(0..60), damage in prop::option::of(0..4_000_u64), from in 0..60_u64) {
        let disk = TestDisk::new(0);
        write(&disk, &written, small(), true);
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let files = segments(&*disk, dir()).unwrap();
        if let (Some(at), Some(file)) = (damage, files.first()) {
            drop(disk.truncate(&file.path, at));
        }
        let open = || TapeReader::open_at(Arc::clone(&disk), dir(), from << 40);
        let mut ahead = ReadAhead::start(open().unwrap()).unwrap();
        let mut read = Vec::new();
        while let Some(item) = ahead.next().unwrap() {
            read.push(match item {
                Item::Record(record) => Read::Record(record.into()),
                Item::Hole(hole) => Read::Hole(hole),
            });
        }
        prop_assert!(ahead.next().unwrap().is_none());
        prop_assert_eq!(read, drain(&mut open().unwrap()));
    }

    #[test]
    fn seeking_is_skipping(written in records(1..60), sealed in any::<bool>()) {
        let disk = TestDisk::new(0);
        write(&disk, &written, small(), sealed);
        let last = written.last().unwrap().pos;
        for pos in written[0].pos - 2..last + 2 {
            let expected: Vec<_> = written.iter().filter(|record| record.pos >= pos).cloned().collect();
            prop_assert_eq!(all_records(&read_from(&disk, pos)), expected);
        }
    }

    #[test]
    fn nothing_passes_the_limit(written in records(1..40), limit in 0..90u64) {
        let disk = TestDisk::new(0);
        write(&disk, &written, small(), true);
        let mut reader = TapeReader::open(Arc::new(disk), dir()).unwrap();
        let limit = (1 << 40) + limit;
        reader.until(limit);
        let (below, above): (Vec<_>, Vec<_>) = written.into_iter().partition(|record| record.pos <= limit);
        prop_assert_eq!(all_records(&drain(&mut reader)), below);
        reader.until(u64::MAX);
        prop_assert_eq!(all_records(&drain(&mut reader)), above);
    }
}

#[test]
fn runs_follow_one_another_without_holes() {
    let disk: Arc<dyn Disk> = Arc::new(TestDisk::new(0));
    let mut expected = Vec::new();
    for run in 1..4u64 {
        let recovery = recover(&disk, dir()).unwrap();
        assert_eq!(claim_run(&*disk, dir()).unwrap(), run);
        let mut tape = TapeWriter::inline(Arc::clone(&disk), dir(), recovery.last_pos, small(), no_wake()).unwrap();
        for n in 1..20u64 {
            let record = Written { pos: run << 40 | n, recv: 5, conn: 1, source: 0, kind: 1, payload: vec![7; 60] };
            tape.append_raw(&record.lend()).unwrap();
            expected.push(record);
        }
        tape.close().unwrap();
    }
    let mut reader = TapeReader::open(Arc::clone(&disk), dir()).unwrap();
    assert_eq!(all_records(&drain(&mut reader)), expected);
    let tape = info(&disk, dir()).unwrap();
    assert_eq!(tape.records, 57);
    assert_eq!(tape.segments.iter().map(|segment| segment.run).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(next_run(&*disk, dir()).unwrap(), 4);
}

#[test]
fn records_of_the_core_come_back() {
    use coby_core::record::{Body, Record};
    let disk: Arc<dyn Disk> = Arc::new(TestDisk::new(0));
    let bodies = [
        Body::Start { code: "1", origin: "live", settings: "{}", anchor: 3 },
        Body::Text(b"{}"),
        Body::Timer(100_000_000),
        Body::Http { venue: "v", method: "GET", host: "", path: "/", request: "", status: 200, body: &[1; 900] },
    ];
    let records: Vec<_> = bodies
        .into_iter()
        .enumerate()
        .map(|(n, body)| Record { pos: n as u64 + 1, recv: 9, conn: 2, source: 4, body })
        .collect();
    let mut tape = TapeWriter::inline(Arc::clone(&disk), dir(), 0, small(), no_wake()).unwrap();
    for record in &records {
        tape.append(record).unwrap();
    }
    tape.close().unwrap();
    let mut reader = TapeReader::open(disk, dir()).unwrap();
    for record in &records {
        let Some(Item::Record(found)) = reader.next().unwrap() else { panic!("a record is missing") };
        assert_eq!(&found.decode().unwrap(), record);
    }
    assert_eq!(reader.next().unwrap(), None);
}

#[test]
fn a_manifest_says_what_its_segment_holds() {
    let disk = TestDisk::new(0);
    let written: Vec<_> = (1..=50u64)
        .map(|n| Written { pos: n, recv: 100 + n as i64, conn: 0, source: 0, kind: 1, payload: vec![n as u8; 90] })
        .collect();
    write(&disk, &written, small(), true);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut next = 1;
    for file in segments(&disk, dir()).unwrap() {
        let manifest = Manifest::read(&disk, &file.manifest()).unwrap().unwrap();
        assert_eq!(file.path, dir().join(format!("{:016x}.tape", manifest.first_pos)));
        assert_eq!(manifest.first_pos, next);
        assert_eq!(manifest.records, manifest.last_pos - manifest.first_pos + 1);
        assert_eq!(manifest.first_recv, 100 + manifest.first_pos as i64);
        assert_eq!(manifest.last_recv, 100 + manifest.last_pos as i64);
        let bytes = disk.read(&file.path).unwrap();
        assert_eq!(manifest.bytes, bytes.len() as u64);
        assert_eq!(manifest.crc, crc32c::crc32c(&bytes));
        assert_eq!(manifest.raw_bytes, manifest.records * (90 + 37));
        if manifest.last_pos < 50 {
            assert_eq!(manifest.rows.get("trades").map(String::as_str), Some("00ff"));
            assert!(manifest.bytes >= small().segment_bytes);
        }
        next = manifest.last_pos + 1;
    }
    assert_eq!(next, 51);
    assert_eq!(info(&shared, dir()).unwrap().records, 50);
}
