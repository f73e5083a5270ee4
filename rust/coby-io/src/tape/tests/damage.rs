//! Whatever happens to the files, no wrong record is read and no good block is lost.

use super::*;

/// One thing that happens to a file; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Harm {
    Flip { file: usize, at: usize, mask: u8 },
    Cut { file: usize, at: usize },
    Insert { file: usize, at: usize, bytes: Vec<u8> },
    Delete { file: usize, at: usize, count: usize },
    Zero { file: usize, at: usize, count: usize },
    Remove { file: usize },
    Manifest { file: usize, at: usize, mask: u8 },
}

fn harm() -> impl Strategy<Value = Harm> {
    let at = || (any::<usize>(), prop_oneof![1 => 0..100usize, 3 => any::<usize>()]);
    prop_oneof![
        6 => (at(), 1..=255u8).prop_map(|((file, at), mask)| Harm::Flip { file, at, mask }),
        2 => at().prop_map(|(file, at)| Harm::Cut { file, at }),
        2 => (at(), prop::collection::vec(any::<u8>(), 1..200))
            .prop_map(|((file, at), bytes)| Harm::Insert { file, at, bytes }),
        2 => (at(), 1..600usize).prop_map(|((file, at), count)| Harm::Delete { file, at, count }),
        2 => (at(), 1..600usize).prop_map(|((file, at), count)| Harm::Zero { file, at, count }),
        1 => any::<usize>().prop_map(|file| Harm::Remove { file }),
        1 => (at(), 1..=255u8).prop_map(|((file, at), mask)| Harm::Manifest { file, at, mask }),
    ]
}

/// Does it, and takes the blocks that it hits off the list of good ones, whose places it keeps true.
fn inflict(disk: &TestDisk, harm: &Harm, good: &mut Vec<Place>) {
    let files = segments(disk, dir()).unwrap();
    let pick = |file: usize| files.get(file % files.len().max(1)).cloned();
    match harm {
        Harm::Remove { file } => {
            // Without the first segment the tape simply begins later.
            if let Some(file) = pick(*file).filter(|file| file.first_pos != files[0].first_pos) {
                disk.remove(&file.path).unwrap();
                good.retain(|place| place.path != file.path);
            }
        }
        Harm::Manifest { file, at, mask } => {
            if let Some(file) = pick(*file)
                && let Ok(bytes) = disk.read(&file.manifest())
            {
                disk.corrupt(&file.manifest(), at % bytes.len(), *mask);
            }
        }
        Harm::Flip { file, .. }
        | Harm::Cut { file, .. }
        | Harm::Insert { file, .. }
        | Harm::Delete { file, .. }
        | Harm::Zero { file, .. } => {
            let Some(file) = pick(*file) else { return };
            let mut bytes = disk.read(&file.path).unwrap();
            if bytes.is_empty() {
                return;
            }
            let size = bytes.len();
            // What is replaced by what.
            let (start, end, new) = match harm {
                Harm::Flip { at, mask, .. } => (at % size, at % size + 1, vec![bytes[at % size] ^ mask]),
                Harm::Cut { at, .. } => (at % size, size, Vec::new()),
                Harm::Insert { at, bytes, .. } => (at % size, at % size, bytes.clone()),
                Harm::Delete { at, count, .. } => (at % size, (at % size + count).min(size), Vec::new()),
                Harm::Zero { at, count, .. } => {
                    let end = (at % size + count).min(size);
                    (at % size, end, vec![0; end - at % size])
                }
                Harm::Remove { .. } | Harm::Manifest { .. } => unreachable!(),
            };
            let same = bytes[start..end] == new;
            let grown = new.len() as isize - (end - start) as isize;
            bytes.splice(start..end, new);
            disk.put(&file.path, &bytes);
            if same {
                return;
            }
            good.retain_mut(|place| {
                if place.path != file.path || place.end <= start {
                    return true;
                }
                if place.start < end.max(start) || (place.start < start && start < place.end) {
                    return false;
                }
                place.start = place.start.saturating_add_signed(grown);
                place.end = place.end.saturating_add_signed(grown);
                true
            });
        }
    }
}

/// In order, nothing made up, nothing both read and missing, and every good block complete.
fn judge(items: &[Read], written: &[Written], good: &[Place]) -> Result<(), TestCaseError> {
    let mut last = 0;
    for item in items {
        let (from, to) = match item {
            Read::Record(record) => {
                prop_assert!(written.contains(record), "made up: {:?}", record);
                (record.pos, record.pos)
            }
            Read::Hole(hole) => (hole.from_pos, hole.to_pos),
        };
        prop_assert!(from > last && to >= from, "out of order: {:?} after {:#x}", item, last);
        last = to;
    }
    let read = only_records(items);
    for record in written {
        if good.iter().any(|place| (place.first_pos..=place.last_pos).contains(&record.pos)) {
            prop_assert!(read.contains(record), "lost: {:?}\n{:?}", record, good);
        } else if record.pos <= last && !read.contains(record) {
            let named = items
                .iter()
                .any(|item| matches!(item, Read::Hole(hole) if (hole.from_pos..=hole.to_pos).contains(&record.pos)));
            prop_assert!(named, "neither read nor a hole: {:?}", record);
        }
    }
    Ok(())
}

/// What a reader that began at `pos` should see of `items`; reasons may differ.
fn from(items: &[Read], pos: u64) -> Vec<Read> {
    items
        .iter()
        .filter_map(|item| match item {
            Read::Record(record) => (record.pos >= pos).then(|| item.clone()),
            Read::Hole(hole) => (hole.to_pos >= pos).then(|| {
                Read::Hole(Hole { from_pos: hole.from_pos.max(pos), to_pos: hole.to_pos, reason: Damage::Missing })
            }),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damage_costs_the_blocks_it_hits_and_nothing_else(
        written in records(1..60),
        harms in prop::collection::vec(harm(), 1..5),
        sealed in any::<bool>(),
        zstd in any::<bool>(),
    ) {
        let codec = if zstd { Codec::Zstd(1) } else { Codec::None };
        let disk = TestDisk::new(0);
        write(&disk, &written, TapeOptions { codec, ..small() }, sealed);
        let mut good = places(&disk);
        for harm in &harms {
            inflict(&disk, harm, &mut good);
        }
        let items = read_from(&disk, 0);
        judge(&items, &written, &good)?;

        let last = written.last().unwrap().pos;
        for pos in (written[0].pos..=last + 1).step_by(3) {
            prop_assert_eq!(from(&read_from(&disk, pos), pos), from(&items, pos), "from {:#x}", pos);
        }

        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let report = verify(&shared, dir()).unwrap();
        prop_assert_eq!(report.records, only_records(&items).len() as u64);
        let holes: Vec<_> = items.iter().filter_map(|item| match item {
            Read::Hole(hole) => Some(*hole),
            Read::Record(_) => None,
        }).collect();
        prop_assert_eq!(&report.holes, &holes);
        info(&shared, dir()).unwrap();

        // Repair loses nothing more and leaves nothing to repair.
        let before = disk.list(dir()).unwrap().len();
        let repaired = repair(&shared, dir()).unwrap();
        prop_assert_eq!(&only_records(&read_from(&disk, 0)), &only_records(&items));
        // A first segment that had neither a block nor a manifest left is gone: the tape begins later.
        let begin = segments(&disk, dir()).unwrap().first().map_or(u64::MAX, |file| file.first_pos);
        let kept: Vec<_> = written.iter().filter(|record| record.pos >= begin).cloned().collect();
        judge(&read_from(&disk, 0), &kept, &[])?;
        prop_assert!(verify(&shared, dir()).unwrap().segments.iter().all(
            |segment| segment.damage.is_empty() && segment.torn.is_none() && segment.manifest == ManifestState::Good
        ));
        prop_assert_eq!(repair(&shared, dir()).unwrap().repaired, vec![]);
        for segment in &repaired.repaired {
            if let Some(kept) = &segment.kept_as {
                prop_assert!(disk.list(dir()).unwrap().iter().any(|entry| &entry.name == kept));
            }
        }
        prop_assert!(disk.list(dir()).unwrap().len() + 2 * repaired.repaired.len() >= before);
    }

    #[test]
    fn recovery_cuts_only_what_cannot_be_read(written in records(1..60), harms in prop::collection::vec(harm(), 0..3)) {
        let disk = TestDisk::new(0);
        claim_run(&disk, dir()).unwrap();
        write(&disk, &written, small(), false);
        let mut good = places(&disk);
        for harm in &harms {
            inflict(&disk, harm, &mut good);
        }
        let before = only_records(&read_from(&disk, 0));
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let recovery = recover(&shared, dir()).unwrap();
        prop_assert_eq!(&only_records(&read_from(&disk, 0)), &before);
        prop_assert!(recovery.last_pos >= before.last().map_or(0, |record| record.pos));
        let again = recover(&shared, dir()).unwrap();
        prop_assert_eq!((again.cut, again.sealed, again.put_aside), (vec![], vec![], vec![]));
        prop_assert_eq!(again.last_pos, recovery.last_pos);
        prop_assert!(next_run(&disk, dir()).unwrap() >= 2);
    }
}

#[test]
fn a_tape_inside_a_payload_is_not_read_as_one() {
    // A venue that has seen a tape sends its blocks as frames; then the block around them is damaged.
    let inner = TestDisk::new(0);
    let record = |pos, payload| Written { pos, recv: 1, conn: 0, source: 0, kind: 1, payload };
    write(&inner, &[record(7, b"forged".to_vec())], small(), true);
    let forged = inner.read(&dir().join("0000000000000007.tape")).unwrap();
    let disk = TestDisk::new(0);
    let written = [record(1, b"a".to_vec()), record(5, forged), record(9, b"b".to_vec())];
    write(&disk, &written, TapeOptions { codec: Codec::None, block_bytes: 1, ..small() }, true);
    let path = dir().join("0000000000000001.tape");
    let block = &places(&disk)[1];
    assert!(disk.corrupt(&path, block.start + 20, 1));
    assert_eq!(
        read_from(&disk, 0),
        [
            Read::Record(written[0].clone()),
            Read::Hole(Hole { from_pos: 2, to_pos: 5, reason: Damage::Header }),
            Read::Record(written[2].clone()),
        ]
    );
}

#[test]
fn a_block_cut_short_does_not_hide_the_next() {
    let disk = TestDisk::new(0);
    let record = |pos, size| Written { pos, recv: 1, conn: 0, source: 0, kind: 1, payload: vec![5; size] };
    let written = [record(1, 10), record(2, 900), record(3, 10), record(4, 20)];
    write(&disk, &written, TapeOptions { codec: Codec::None, block_bytes: 1, ..small() }, true);
    let path = dir().join("0000000000000001.tape");
    let whole = disk.read(&path).unwrap();
    let [_, cut, next, _] = &places(&disk)[..] else { panic!("four blocks") };
    // The header's length then points behind the end of the file, into a later block, to the next one's end
    // or to the last one's.
    for missing in [600, 50, next.end - next.start, whole.len() - cut.end] {
        let mut bytes = whole.clone();
        bytes.drain(cut.end - 100 - missing..cut.end - 100);
        disk.put(&path, &bytes);
        for pos in 0..=3 {
            assert!(only_records(&read_from(&disk, pos)).ends_with(&written[2..]), "{missing} missing, from {pos}");
        }
        assert_eq!(only_records(&read_from(&disk, 0)).len(), 3);
    }
}
