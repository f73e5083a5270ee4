//! `make bench`: the hot path beside ceilings measured in the same run.

mod ceiling;
mod measure;

use std::hint::black_box;
use std::path::{Path, PathBuf};

use ceiling::VecBook;
use coby_core::event::Silent;
use coby_core::feed::Feed;
use coby_core::keeper::State;
use coby_core::level::Side;
use coby_core::pipeline::Pipeline;
use coby_core::record::{Body, Record, position};
use coby_core::settings::PipelineSettings;
use coby_io::import::Importer;
use coby_io::recording::Recording;
use coby_venues::registry::find;
use measure::{Contestant, interleaved, timed};

/// A record that outlives its recording.
struct Taped {
    pos: u64,
    recv: i64,
    conn: u32,
    source: u64,
    kind: u8,
    payload: Vec<u8>,
}

impl Taped {
    fn record(&self) -> Record<'_> {
        let body = Body::decode(self.kind, &self.payload).expect("a body just encoded");
        Record { pos: self.pos, recv: self.recv, conn: self.conn, source: self.source, body }
    }
}

fn captures() -> PathBuf {
    std::env::var_os("COBY_CAPTURES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/captures"), PathBuf::from)
}

fn records(venue: &str, path: &Path) -> Vec<Taped> {
    let mut recording = Recording::open(path).expect("a recording");
    let mut importer = Importer::new(find(venue).expect("a venue"), 1, "", &PipelineSettings::default().to_json());
    let mut records = Vec::new();
    while let Some(frame) = recording.next_frame().expect("a frame") {
        importer
            .frame(0, &frame, &mut |record| -> Result<_, ()> {
                let mut payload = Vec::new();
                let kind = record.body.encode(&mut payload);
                let Record { pos, recv, conn, source, .. } = *record;
                records.push(Taped { pos, recv, conn, source, kind, payload });
                Ok(Vec::new())
            })
            .expect("records");
    }
    records
}

fn main() {
    let path = captures().join("binance_futures.jsonl.gz");
    let all = records("binance_futures", &path);
    // Up to where every book is live.
    let mut pipeline = Pipeline::new(find, None);
    let mut actions = Vec::new();
    let mut warm = 0;
    for (at, taped) in all.iter().enumerate() {
        pipeline.step(&taped.record(), &mut actions).expect("a step");
        if pipeline.feed().keepers().count() == 4
            && pipeline.feed().keepers().all(|(_, keeper)| keeper.state() == State::Live)
        {
            warm = at + 1;
            break;
        }
    }
    let saved = pipeline.save().expect("a checkpoint");
    let depth: Vec<&Taped> = all[warm..]
        .iter()
        .filter(|taped| taped.kind == 1 && taped.payload.windows(11).any(|window| window == b"depthUpdate"))
        .collect();
    let frames = depth.len() as u64;
    println!("{} records, {warm} warm, {frames} depth frames", all.len());
    let names: Vec<Vec<u8>> = pipeline
        .feed()
        .instruments(0)
        .expect("instruments")
        .iter()
        .map(|(_, instrument)| instrument.native.clone().into_bytes())
        .collect();
    let base: Vec<(Vec<(i64, i64)>, Vec<(i64, i64)>)> = pipeline
        .feed()
        .keepers()
        .map(|(_, keeper)| {
            let side = |side| keeper.book().levels(side).map(|level| (level.price, level.size)).collect();
            (side(Side::Bid), side(Side::Ask))
        })
        .collect();
    let mut contestants = [
        Contestant::new("ceiling", || {
            let mut books: Vec<VecBook> = base
                .iter()
                .map(|(bids, asks)| {
                    let mut book = VecBook::default();
                    for (price, size) in bids.iter().rev() {
                        book.bids.set(*price, *size);
                    }
                    for (price, size) in asks.iter().rev() {
                        book.asks.set(-price, *size);
                    }
                    book
                })
                .collect();
            let (levels, nanos) = timed(|| {
                let mut levels = 0;
                let mut best = 0;
                for taped in &depth {
                    levels += ceiling::binance_futures_depth(&taped.payload, &mut books, |symbol| {
                        names.iter().position(|name| name == symbol).unwrap_or(0)
                    });
                    best += books[0].bids.best();
                }
                black_box((levels, best))
            });
            black_box(levels);
            (frames, nanos)
        }),
        Contestant::new("decode", || {
            let mut feed = Feed::new(find, false);
            let mut actions = Vec::new();
            for taped in &all[..warm] {
                feed.step(&taped.record(), &mut Silent, &mut actions).expect("a step");
            }
            let ((), nanos) = timed(|| {
                for taped in &depth {
                    let record = Record {
                        pos: taped.pos,
                        recv: taped.recv,
                        conn: taped.conn,
                        source: taped.source,
                        body: Body::Text(&taped.payload),
                    };
                    feed.step(&record, &mut Silent, &mut actions).expect("a step");
                }
            });
            (frames, nanos)
        }),
        Contestant::new("book", || {
            let mut feed = Feed::new(find, true);
            let mut actions = Vec::new();
            for taped in &all[..warm] {
                feed.step(&taped.record(), &mut Silent, &mut actions).expect("a step");
            }
            let ((), nanos) = timed(|| {
                for taped in &depth {
                    let record = Record {
                        pos: taped.pos,
                        recv: taped.recv,
                        conn: taped.conn,
                        source: taped.source,
                        body: Body::Text(&taped.payload),
                    };
                    feed.step(&record, &mut Silent, &mut actions).expect("a step");
                }
            });
            (frames, nanos)
        }),
        Contestant::new("path", || {
            let mut pipeline = Pipeline::load(find, &saved).expect("a checkpoint");
            let mut actions = Vec::new();
            let ((), nanos) = timed(|| {
                for taped in &depth {
                    let record = Record {
                        pos: taped.pos,
                        recv: taped.recv,
                        conn: taped.conn,
                        source: taped.source,
                        body: Body::Text(&taped.payload),
                    };
                    pipeline.step(&record, &mut actions).expect("a step");
                    if pipeline.waiting() >= 4096 {
                        black_box(pipeline.cut());
                    }
                }
            });
            black_box(pipeline.cut());
            (frames, nanos)
        }),
    ];
    let _ = position;
    if let Some(only) = std::env::args().nth(1) {
        let one = contestants.iter_mut().find(|contestant| contestant.name == only).expect("a contestant");
        for _ in 0..std::env::args().nth(2).map_or(50, |text| text.parse().expect("rounds")) {
            black_box((one.work)());
        }
        return;
    }
    let measures = interleaved(200, &mut contestants);
    for measure in &measures {
        println!(
            "{:20} {:8.1} ns [{:.1} {:.1}]  ceiling/this {:.2}",
            measure.name,
            measure.median,
            measure.quartiles.0,
            measure.quartiles.1,
            measures[0].median / measure.median
        );
    }
}
