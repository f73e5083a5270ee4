//! Arbitrary bytes under a tape's names: nothing panics, nothing grows without bound.

use super::super::format::{BLOCK_HEADER, BlockHeader, FORMAT, SegmentHeader};
use super::*;

/// A piece of a crafted segment.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let header = (0..4u8, any::<u32>(), 0..2000u32, 0..50u32, 0..2u64, (0..50u64, 0..50u64, 0..50u64)).prop_map(
        |(codec, stored, raw, records, segment, (previous, first_pos, last_pos))| BlockHeader {
            codec,
            stored: stored % 300,
            raw,
            payload_crc: 0,
            records,
            segment,
            previous,
            first_pos,
            last_pos,
            first_recv: 0,
            last_recv: 0,
        },
    );
    // A header with a correct checksum over a payload with a correct checksum: only its numbers are lies.
    let block =
        (header, prop::collection::vec(any::<u8>(), 0..300), any::<bool>()).prop_map(|(header, payload, compress)| {
            let payload = if compress { zstd::bulk::compress(&payload, 1).unwrap() } else { payload };
            let stored = header.stored.min(payload.len() as u32);
            let payload_crc = crc32c::crc32c(&payload[..stored as usize]);
            let mut bytes = Vec::new();
            BlockHeader { stored, payload_crc, ..header }.encode(&mut bytes);
            bytes.extend(payload);
            bytes
        });
    let start = (0..3u16, 0..2u64).prop_map(|(format, id)| {
        let mut bytes = Vec::new();
        SegmentHeader { format: format.min(FORMAT), id }.encode(&mut bytes);
        bytes
    });
    prop_oneof![start, block, prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_files_are_read_to_their_end(
        files in prop::collection::btree_map(0..60u64, prop::collection::vec(piece(), 0..6), 0..4),
        manifest in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let disk = TestDisk::new(0);
        disk.create_dir(dir()).unwrap();
        for (pos, pieces) in &files {
            disk.put(&dir().join(format!("{pos:016x}.tape")), &pieces.concat());
        }
        disk.put(&dir().join("0000000000000001.manifest"), &manifest);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        // An unknown codec is an error by design; everything else is read or skipped.
        let read = || -> Result<u64, TapeError> {
            let mut reader = TapeReader::open(Arc::clone(&shared), dir())?;
            let (mut items, mut last) = (0, 0);
            while let Some(item) = reader.next()? {
                let (from, to) = match item {
                    Item::Record(record) => (record.pos, record.pos),
                    Item::Hole(hole) => (hole.from_pos, hole.to_pos),
                };
                assert!(from > last && to >= from);
                last = to;
                items += 1;
            }
            Ok(items)
        };
        let known = |result: Result<(), TapeError>| matches!(result, Ok(()) | Err(TapeError::UnknownCodec { .. }));
        prop_assert!(known(read().map(drop)));
        prop_assert!(known(info(&shared, dir()).map(drop)));
        prop_assert!(known(verify(&shared, dir()).map(drop)));
        for path in files.keys().map(|pos| dir().join(format!("{pos:016x}.tape"))) {
            let opened = TapeReader::open_file(Arc::clone(&shared), &path);
            prop_assert!(matches!(opened, Ok(_) | Err(TapeError::Foreign { .. })), "opened");
        }
        let repaired = repair(&shared, dir());
        prop_assert!(known(repaired.map(drop)));
        prop_assert!(known(recover(&shared, dir()).map(drop)));
        prop_assert!(known(read().map(drop)));
    }
}

/// A block whose numbers are `header`'s, its checksums right.
fn crafted(header: BlockHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    SegmentHeader { format: FORMAT, id: header.segment }.encode(&mut bytes);
    let payload_crc = crc32c::crc32c(payload);
    BlockHeader { stored: payload.len() as u32, payload_crc, ..header }.encode(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn lengths_are_checked_before_memory_is_taken() {
    let huge = super::super::format::MAX_RAW as u32;
    let header = BlockHeader {
        codec: super::super::format::CODEC_ZSTD,
        stored: 0,
        raw: huge,
        payload_crc: 0,
        records: 1,
        segment: 3,
        previous: 0,
        first_pos: 1,
        last_pos: 1,
        first_recv: 0,
        last_recv: 0,
    };
    let small = zstd::bulk::compress(b"small", 1).unwrap();
    let beyond = BlockHeader { raw: huge + 1, ..header };
    for bytes in [crafted(header, &small), crafted(header, &[]), crafted(header, b"no frame"), crafted(beyond, &small)]
    {
        let disk = TestDisk::new(0);
        disk.create_dir(dir()).unwrap();
        disk.put(&dir().join("0000000000000001.tape"), &bytes);
        disk.put(&dir().join("0000000000000005.tape"), b"");
        let items = read_from(&disk, 0);
        assert!(only_records(&items).is_empty());
        let shared: Arc<dyn Disk> = Arc::new(disk);
        let file = &segments(&*shared, dir()).unwrap()[0];
        let mut reader = SegmentReader::open(&shared, file).unwrap();
        reader.next(|_| false).unwrap();
        assert!(reader.capacity() < 1 << 20, "{} bytes for a lie", reader.capacity());
    }
}

#[test]
fn a_block_is_read_only_if_its_records_are_what_its_header_says() {
    let disk = TestDisk::new(0);
    let record = |pos| Written { pos, recv: pos as i64, conn: 0, source: 0, kind: 1, payload: vec![pos as u8; 9] };
    let written: Vec<_> = (1..=3).map(record).collect();
    write(&disk, &written, TapeOptions { codec: Codec::None, ..small() }, true);
    let path = dir().join("0000000000000001.tape");
    let bytes = disk.read(&path).unwrap();
    let start = places(&disk)[0].start;
    let header = BlockHeader::decode(&bytes[start..]).unwrap();
    let payload = &bytes[start + BLOCK_HEADER..];
    let with = |header: BlockHeader, payload: &[u8]| {
        disk.put(&path, &crafted(BlockHeader { raw: payload.len() as u32, ..header }, payload));
        only_records(&read_from(&disk, 0)).len()
    };
    assert_eq!(with(header, payload), 3);
    assert_eq!(with(BlockHeader { records: 2, ..header }, payload), 0);
    assert_eq!(with(BlockHeader { last_pos: 4, ..header }, payload), 0);
    assert_eq!(with(BlockHeader { first_recv: 0, ..header }, payload), 0);
    assert_eq!(with(BlockHeader { last_recv: 4, ..header }, payload), 0);
    for at in 0..payload.len() {
        let mut payload = payload.to_vec();
        payload[at] ^= 1;
        assert_eq!(with(header, &payload), 0, "byte {at}");
    }
    let length = payload.len() / 3;
    let swapped = [&payload[..length], &payload[..length], &payload[2 * length..]].concat();
    assert_eq!(with(header, &swapped), 0, "a record twice");
}
