//! The code under test, stepped frame by frame.

use std::collections::BTreeMap;

use coby_core::aggregate::bucket::Buckets;
use coby_core::book::Book;
use coby_core::event::{At, Gap, Key, Observer, Trade};
use coby_core::feed::{Action, Feed};
use coby_core::instrument::InstrumentId;
use coby_core::keeper::Keeper;
use coby_core::level::Side;
use coby_core::pipeline::{Pipeline, PipelineError};
use coby_core::record::{Body, Nanos, Pos, Record};
use coby_core::venue::{Channel, VenueError, VenueSpec};
use coby_io::import::{GRID, Importer};
use coby_io::recording::RecordedFrame;

use super::naive::NaiveTrade;

/// Sizes, in units of the last place of the price, of the buckets that the observer keeps.
pub const BUCKET_SIZES: [i64; 2] = [3, 1000];

/// A gap's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenGap {
    pub id: u64,
    pub native: String,
    pub channel: Channel,
    pub cause: &'static str,
    pub opened: bool,
}

/// Collects what a feed brings forth, and lends the buckets that the keeper changes level by level.
#[derive(Default)]
pub struct Watch {
    pub trades: Vec<NaiveTrade>,
    pub gaps: Vec<SeenGap>,
    pub errors: Vec<String>,
    pub checksums: [u64; 2],
    pub buckets: BTreeMap<Key, [Buckets; 2]>,
}

impl Observer for Watch {
    fn buckets(&mut self, key: Key) -> &mut [Buckets] {
        self.buckets.entry(key).or_insert_with(|| BUCKET_SIZES.map(Buckets::new))
    }

    fn rebuilt(&mut self, key: Key, book: &Book) {
        let mut buckets = BUCKET_SIZES.map(Buckets::new);
        for buckets in &mut buckets {
            buckets.rebuild(book);
        }
        self.buckets.insert(key, buckets);
    }

    fn checksum(&mut self, _: &At<'_>, ok: bool) {
        self.checksums[usize::from(ok)] += 1;
    }

    fn trade(&mut self, at: &At<'_>, trade: &Trade<'_>) {
        self.trades.push(NaiveTrade {
            native: at.instrument.native.clone(),
            price: trade.price.to_string(),
            size: trade.size.to_string(),
            taker_buys: trade.taker == Side::Bid,
            id: trade.trade_id.into(),
            history: trade.history,
            ts_event: at.ts_event.expect("these venues send the time of a trade"),
            ts_recv: at.recv,
        });
    }

    fn gap(&mut self, at: &At<'_>, gap: &Gap<'_>) {
        self.gaps.push(SeenGap {
            id: gap.id,
            native: at.instrument.native.clone(),
            channel: gap.channel,
            cause: gap.cause.name(),
            opened: gap.to.is_none(),
        });
    }

    fn error(&mut self, _: Pos, _: Nanos, _: &'static VenueSpec, error: &VenueError) {
        self.errors.push(error.to_string());
    }
}

/// A recording on its way through importer, pipeline and, beside them, an observed feed.
pub struct Replay {
    importer: Importer,
    pub pipeline: Pipeline,
    pub feed: Feed,
    pub watch: Watch,
    /// Where the tape stands.
    pub pos: Pos,
    /// The timers so far: where on the tape, and what time.
    pub timers: Vec<(Pos, Nanos)>,
}

impl Replay {
    pub fn new(venue: &str) -> Self {
        let found = coby_venues::registry::find(venue).unwrap_or_else(|| panic!("{venue} is not registered"));
        Self {
            importer: Importer::new(found, 1, "test", "{}"),
            pipeline: Pipeline::new(coby_venues::registry::find, None),
            feed: Feed::new(coby_venues::registry::find, true),
            watch: Watch::default(),
            pos: 0,
            timers: Vec::new(),
        }
    }

    /// Steps one frame.
    pub fn frame(&mut self, frame: &RecordedFrame) {
        let Self { importer, pipeline, feed, watch, pos, timers } = self;
        let mut step = |record: &Record<'_>| -> Result<Vec<Action>, PipelineError> {
            *pos = record.pos;
            if let Body::Timer(tick) = record.body {
                timers.push((record.pos, tick));
            }
            let (mut actions, mut beside) = (Vec::new(), Vec::new());
            pipeline.step(record, &mut actions)?;
            feed.step(record, watch, &mut beside)?;
            assert_eq!(actions, beside, "pipeline and feed ask for different things");
            Ok(actions)
        };
        importer.frame(0, frame, &mut step).expect("the frame is taken");
    }

    /// Steps all of them.
    pub fn frames(&mut self, frames: &[RecordedFrame]) {
        for frame in frames {
            self.frame(frame);
        }
    }

    /// Nothing comes until `time` but timers.
    pub fn wait(&mut self, time: Nanos) {
        let Self { importer, pipeline, feed, watch, pos, timers } = self;
        let last = timers.last().map_or(time, |(_, tick)| *tick);
        let mut actions = Vec::new();
        for tick in (last..=time).step_by(GRID as usize).skip(1) {
            *pos += 1;
            let record = Record { pos: *pos, recv: tick, conn: 0, source: importer.frames(), body: Body::Timer(tick) };
            pipeline.step(&record, &mut actions).expect("a timer is taken");
            feed.step(&record, watch, &mut actions).expect("a timer is taken");
            timers.push((*pos, tick));
        }
    }

    /// The key of a native symbol, once the feed knows it.
    pub fn key(&self, native: &str) -> Option<Key> {
        let id: InstrumentId = self.feed.instruments(0)?.find(native.as_bytes())?;
        Some(Key { venue: 0, id })
    }

    /// The pipeline's keeper of a native symbol.
    pub fn keeper(&self, native: &str) -> Option<&Keeper> {
        self.pipeline.feed().keeper(self.key(native)?)
    }
}
