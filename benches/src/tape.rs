//! What the tape costs the thread that owns the books, and how fast it is read back.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coby_core::feed::Action;
use coby_core::pipeline::Pipeline;
use coby_core::record::{Record, position};
use coby_io::disk::RealDisk;
use coby_io::tape::{Codec, Item, ReadAhead, TapeOptions, TapeReader, TapeWriter};
use coby_venues::registry::find;
use rustix::time::{ClockId, clock_gettime};

use crate::measure::{Contestant, Line, Plan, Sample, timed};
use crate::workload::{Change, Workload};

/// Frames are appended so many times over in a round: some 40 blocks.
const LAPS: u64 = 40;
/// Rows that a cut takes, as in the engine.
const ROWS: usize = 4_096;

/// Nanoseconds that this thread has run: the tape thread may share its core.
fn cpu() -> u128 {
    nanos(ClockId::ThreadCPUTime)
}

/// Nanoseconds that all threads have run together.
fn process_cpu() -> u128 {
    nanos(ClockId::ProcessCPUTime)
}

fn nanos(clock: ClockId) -> u128 {
    let time = clock_gettime(clock);
    time.tv_sec as u128 * 1_000_000_000 + time.tv_nsec as u128
}

fn fresh(dir: &Path) -> PathBuf {
    // It is not there the first time.
    drop(std::fs::remove_dir_all(dir));
    dir.to_path_buf()
}

fn options(codec: Codec) -> TapeOptions {
    // Recorded times repeat here, so time closes no block. A short queue: where the tape thread is behind, as it never is
    // live, waiting for it takes no time of this thread, and its buffers come back to be used again.
    TapeOptions { block_time: i64::MAX, queue_blocks: 4, codec, ..TapeOptions::default() }
}

/// What one thread does to append the frames, while another writes them.
fn append(frames: &[Change<'_>], dir: &Path, codec: Codec) -> Sample {
    let disk = Arc::new(RealDisk);
    let mut tape = TapeWriter::start(disk, &fresh(dir), 0, options(codec), Arc::new(|| {})).expect("a tape");
    let mut n = 0;
    let begin = cpu();
    for _ in 0..LAPS {
        for frame in frames {
            n += 1;
            tape.append(&Record { pos: position(1, n), ..frame.record() }).expect("an append");
        }
    }
    let nanos = cpu() - begin;
    tape.close().expect("a tape that works");
    Sample { items: n, nanos }
}

/// What it takes in all: compressed and written by the same thread.
fn inline(frames: &[Change<'_>], dir: &Path, codec: Codec) -> Sample {
    let disk = Arc::new(RealDisk);
    let mut tape = TapeWriter::inline(disk, &fresh(dir), 0, options(codec), Arc::new(|| {})).expect("a tape");
    let mut n = 0;
    let begin = cpu();
    for _ in 0..LAPS {
        for frame in frames {
            n += 1;
            tape.append(&Record { pos: position(1, n), ..frame.record() }).expect("an append");
        }
    }
    tape.close().expect("a tape that works");
    Sample { items: n, nanos: cpu() - begin }
}

/// Compression of as many frames as a block has, and nothing else.
fn zstd(frames: &[Change<'_>], level: i32) -> Sample {
    let mut block = Vec::new();
    let mut out = vec![0; zstd::zstd_safe::compress_bound(2 << 18)];
    let mut compressor = zstd::bulk::Compressor::new(level).expect("a compressor");
    let (mut items, mut nanos) = (0, 0);
    for _ in 0..LAPS {
        for frame in frames {
            block.extend_from_slice(frame.text);
            items += 1;
            if block.len() >= 1 << 18 {
                let begin = cpu();
                black_box(compressor.compress_to_buffer(&block, &mut out).expect("compressed"));
                nanos += cpu() - begin;
                block.clear();
            }
        }
    }
    Sample { items, nanos }
}

/// The lines of the tape.
pub fn run(plan: &Plan, work: &Workload, dir: &Path) -> Vec<Line> {
    let frames = work.changes();
    let path = "bytes -> rows";
    let mut lines = plan.run(
        &format!("taping, {}, on the thread that owns the books", work.venue),
        "ns/frame",
        vec![
            Contestant::new(path, || {
                let mut pipeline = Pipeline::load(find, &work.saved).expect("a checkpoint");
                let mut actions = Vec::new();
                work.touch();
                let ((), nanos) = timed(|| {
                    for frame in &frames {
                        pipeline.step(&frame.record(), &mut actions).expect("a step");
                    }
                });
                black_box(pipeline.cut());
                Sample { items: frames.len() as u64, nanos }
            }),
            Contestant::new("append, no compression", || append(&frames, dir, Codec::None)).against(path),
            Contestant::new("append, zstd 1", || append(&frames, dir, Codec::Zstd(1))).against(path),
            Contestant::new("append, zstd 3", || append(&frames, dir, Codec::Zstd(3))).against(path),
        ],
    );
    let raw = "ceiling: zstd 1 of the same bytes";
    lines.extend(plan.run(
        &format!("taping, {}, everything on one thread", work.venue),
        "ns/frame",
        vec![
            Contestant::new(raw, || zstd(&frames, 1)),
            Contestant::new("append, compress, write, sync", || inline(&frames, dir, Codec::Zstd(1))).against(raw),
        ],
    ));
    lines.extend(replay(plan, work, dir));
    lines
}

/// A tape to rows, beside the same records from memory: what the thread takes that owns the books, and what both take
/// that share the work.
fn replay(plan: &Plan, work: &Workload, dir: &Path) -> Vec<Line> {
    let records: Vec<Record<'_>> = (0..work.records.len()).map(|at| work.record(at)).collect();
    let dir = fresh(&dir.join("replay"));
    let disk = Arc::new(RealDisk);
    let mut tape = TapeWriter::start(disk.clone(), &dir, 0, TapeOptions::default(), Arc::new(|| {})).expect("a tape");
    for record in &records {
        tape.append(record).expect("an append");
    }
    tape.close().expect("a tape that works");
    let items = records.len() as u64;
    let step = |pipeline: &mut Pipeline, record: &Record<'_>, actions: &mut Vec<Action>| {
        pipeline.step(record, actions).expect("a step");
        if pipeline.waiting() >= ROWS {
            black_box(pipeline.cut());
        }
    };
    let ahead = |clock: fn() -> u128| {
        let (mut pipeline, mut actions) = (Pipeline::new(find, None), Vec::new());
        let begin = clock();
        let reader = TapeReader::open(disk.clone(), &dir).expect("a tape");
        let mut reader = ReadAhead::start(reader).expect("a thread");
        while let Some(item) = reader.next().expect("an item") {
            let Item::Record(record) = item else { panic!("a hole in a fresh tape") };
            step(&mut pipeline, &record.decode().expect("a record"), &mut actions);
        }
        Sample { items, nanos: clock() - begin }
    };
    let memory = "records in memory -> rows";
    plan.run(
        &format!("replay, {}, whole recording", work.venue),
        "ns/record",
        vec![
            Contestant::new(memory, || {
                let (mut pipeline, mut actions) = (Pipeline::new(find, None), Vec::new());
                let ((), nanos) = timed(|| records.iter().for_each(|record| step(&mut pipeline, record, &mut actions)));
                Sample { items, nanos }
            }),
            Contestant::new("tape -> rows, on the thread that owns the books", || ahead(cpu)).against(memory),
            Contestant::new("tape -> rows, on all threads", || ahead(process_cpu)).against(memory),
        ],
    )
}
