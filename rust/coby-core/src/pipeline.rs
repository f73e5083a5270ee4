//! The pipeline: records in, rows out.
//!
//! It steps the feed and aggregates what the feed brings forth: best levels, price buckets, heatmap columns,
//! snapshots, candles, gaps. Live, replay and import run this one piece of code, so that the same records
//! give the same rows.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::aggregate::bucket::{Buckets, default_bucket_size};
use crate::aggregate::candle::{Candle, Candles};
use crate::aggregate::heatmap::{Column, Touch};
use crate::book::Book;
use crate::decimal::{Decimal, wide_to_f64};
use crate::event::{At, BookChange, Connection, Gap, Key, Observer, Trade};
use crate::feed::{Action, Feed, FeedError, Lookup};
use crate::instrument::Instrument;
use crate::keeper::State;
use crate::level::{Level, Side};
use crate::record::{Body, ConnId, Nanos, Pos, Record};
use crate::rows::{
    BookSnapshotRow, BookState, CandleRow, ConnectionEventRow, Cut, GapRow, Happening, Head, HeatmapColumnRow,
    InstrumentRow, Label, PriceBucketRow, TopRow, TradeRow,
};
use crate::settings::{PipelineSettings, SettingsError};
use crate::sink::CandleItem;
use crate::table::Table;
use crate::time::{MINUTE, SECOND};
use crate::venue::{Proof, VenueError, VenueSpec};

/// Later than this, a timer runs only the last of the update intervals that it crossed.
const LATE: Nanos = 10 * SECOND;
/// Intervals of candles made from trades.
const INTERVALS: [Nanos; 2] = [SECOND, MINUTE];

/// A pipeline cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PipelineError {
    /// The feed cannot.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// Taped settings that this code does not take.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// Sessions, books and aggregates of all venues of a tape, and the rows since the last cut.
pub struct Pipeline {
    feed: Feed,
    desk: Desk,
    /// Settings given by the caller win over taped ones.
    fixed: bool,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    feed: Vec<u8>,
    desk: SavedDesk,
    fixed: bool,
}

impl Pipeline {
    /// A pipeline that takes its settings from the tape, or, if given, from `settings`.
    pub fn new(lookup: Lookup, settings: Option<PipelineSettings>) -> Self {
        let fixed = settings.is_some();
        Self { feed: Feed::new(lookup, true), desk: Desk::new(settings.unwrap_or_default()), fixed }
    }

    /// The feed.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// The settings in force.
    pub fn settings(&self) -> &PipelineSettings {
        &self.desk.state.settings
    }

    /// The buckets of an instrument's book, one set per bucket size.
    pub fn buckets(&self, key: Key) -> &[Buckets] {
        self.desk.aggregate(key).map_or(&[], |aggregate| &aggregate.buckets)
    }

    /// Steps one record; what has to be done outside is appended to `actions`.
    #[inline]
    pub fn step(&mut self, record: &Record<'_>, actions: &mut Vec<Action>) -> Result<(), PipelineError> {
        self.desk.begin(record.pos);
        if let Body::Start { settings, .. } = record.body {
            self.desk.restart(record.recv);
            if !self.fixed {
                self.desk.configure(PipelineSettings::parse(settings)?);
            }
        }
        self.feed.step(record, &mut self.desk, actions)?;
        if let Body::Timer(tick) = record.body {
            self.desk.timer(record, tick, &self.feed);
        }
        Ok(())
    }

    /// The tape has a hole that ends at `pos`.
    pub fn hole(&mut self, pos: Pos, recv: Nanos, evidence: &str) {
        self.desk.begin(pos);
        self.feed.hole(pos, recv, evidence, &mut self.desk);
    }

    /// How many rows wait.
    #[inline]
    pub fn waiting(&self) -> usize {
        self.desk.rows
    }

    /// Takes the rows since the last cut; `None` when no record was stepped since.
    pub fn cut(&mut self) -> Option<Cut> {
        self.desk.cut()
    }

    /// The whole state, for a checkpoint; rows that wait are not part of it.
    pub fn save(&self) -> Result<Vec<u8>, PipelineError> {
        let saved = Saved { feed: self.feed.save()?, desk: self.desk.state.clone(), fixed: self.fixed };
        let bytes = postcard::to_extend(&saved, Vec::new());
        bytes.map_err(|error| FeedError::Saved(error.to_string()).into())
    }

    /// The pipeline that [`Pipeline::save`] wrote.
    pub fn load(lookup: Lookup, bytes: &[u8]) -> Result<Self, PipelineError> {
        let saved: Saved = postcard::from_bytes(bytes).map_err(|error| FeedError::Saved(error.to_string()))?;
        let mut desk = Desk::new(PipelineSettings::default());
        desk.state = saved.desk;
        Ok(Self { feed: Feed::load(lookup, &saved.feed)?, desk, fixed: saved.fixed })
    }
}

/// The best levels that were last told.
type Best = (Option<(i64, i64)>, Option<(i64, i64)>);

/// What is derived per instrument.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Aggregate {
    label: u32,
    /// When the instrument was first met, or the run began.
    since: Nanos,
    buckets: Vec<Buckets>,
    /// Scales of the book that the buckets are of.
    scales: (u8, u8),
    best: Best,
    state: Option<u8>,
    /// The venue's latest candle per interval, and whether its row was written.
    venue_candles: Vec<(CandleItem, bool)>,
}

impl Aggregate {
    /// Takes the best levels and the state of the book; the label of the row that they need, if they have changed.
    #[inline]
    fn told(&mut self, best: Best, state: BookState) -> Option<u32> {
        if self.best == best && self.state == Some(state as u8) {
            return None;
        }
        self.best = best;
        self.state = Some(state as u8);
        Some(self.label)
    }
}

/// The serialised part of a desk.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct SavedDesk {
    settings: PipelineSettings,
    /// Shared with the cuts that were taken: whoever adds one while those are about makes a copy.
    #[serde(with = "shared")]
    labels: Arc<Vec<Label>>,
    /// By venue, then by instrument.
    aggregates: Vec<Vec<Option<Box<Aggregate>>>>,
    /// Candles made from trades, by venue, of instruments that have traded.
    candles: Vec<Table<Vec<Candles>>>,
    /// Labels of rows that belong to a whole connection, by venue.
    connection_labels: Vec<(String, u32)>,
    tick: Nanos,
}

/// A shared list is saved like any other.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::rows::Label;

    pub fn serialize<S: Serializer>(labels: &Arc<Vec<Label>>, serializer: S) -> Result<S::Ok, S::Error> {
        labels.as_slice().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Vec<Label>>, D::Error> {
        Vec::deserialize(deserializer).map(Arc::new)
    }
}

/// Aggregates what the feed brings forth into rows.
struct Desk {
    state: SavedDesk,
    cut: Cut,
    pos: Pos,
    rows: usize,
    column: Column,
    closed: Vec<Candle>,
    floats: [Vec<f64>; 4],
    indices: Vec<i64>,
    counts: Vec<u32>,
}

impl Desk {
    fn new(settings: PipelineSettings) -> Self {
        Self {
            state: SavedDesk {
                settings,
                labels: Arc::default(),
                aggregates: Vec::new(),
                candles: Vec::new(),
                connection_labels: Vec::new(),
                tick: Nanos::MIN,
            },
            cut: Cut::default(),
            pos: 0,
            rows: 0,
            column: Column::default(),
            closed: Vec::new(),
            floats: Default::default(),
            indices: Vec::new(),
            counts: Vec::new(),
        }
    }

    #[inline]
    fn begin(&mut self, pos: Pos) {
        if self.cut.first_pos == 0 {
            self.cut.first_pos = pos;
        }
        self.pos = pos;
    }

    /// A run has a clock of its own: where the last one's was ahead, columns and candles must not wait for it.
    fn restart(&mut self, now: Nanos) {
        self.state.tick = Nanos::MIN;
        for aggregate in self.state.aggregates.iter_mut().flatten().flatten() {
            aggregate.since = now;
        }
        for (_, candles) in self.state.candles.iter_mut().flat_map(Table::iter_mut) {
            for candles in candles {
                candles.restart(now);
            }
        }
    }

    fn configure(&mut self, settings: PipelineSettings) {
        if settings == self.state.settings {
            return;
        }
        self.state.settings = settings;
        // Buckets are rebuilt at the next snapshot: a run begins without connections.
        for aggregate in self.state.aggregates.iter_mut().flatten().flatten() {
            aggregate.buckets.clear();
        }
    }

    fn cut(&mut self) -> Option<Cut> {
        if self.cut.first_pos == 0 {
            return None;
        }
        let mut cut = std::mem::take(&mut self.cut);
        cut.last_pos = self.pos;
        cut.labels = Arc::clone(&self.state.labels);
        self.rows = 0;
        Some(cut)
    }

    fn aggregate(&self, key: Key) -> Option<&Aggregate> {
        self.state.aggregates.get(key.venue as usize)?.get(key.id.index())?.as_deref()
    }

    #[inline]
    fn aggregate_mut(&mut self, key: Key) -> Option<&mut Aggregate> {
        self.state.aggregates.get_mut(key.venue as usize)?.get_mut(key.id.index())?.as_deref_mut()
    }

    /// The aggregate of an instrument, made when it is new.
    #[inline]
    fn touch(&mut self, at: &At<'_>) -> &mut Aggregate {
        if self.aggregate(at.key).is_none() {
            self.name(at);
        }
        // `name` has made the slot.
        self.state.aggregates[at.key.venue as usize][at.key.id.index()].get_or_insert_default()
    }

    /// Gives an instrument the label of its present symbol.
    #[cold]
    fn name(&mut self, at: &At<'_>) {
        let (venue, id) = (at.key.venue as usize, at.key.id.index());
        let aggregates = &mut self.state.aggregates;
        if aggregates.len() <= venue {
            aggregates.resize_with(venue + 1, Vec::new);
        }
        if aggregates[venue].len() <= id {
            aggregates[venue].resize_with(id + 1, || None);
        }
        let label = self.state.labels.len() as u32;
        Arc::make_mut(&mut self.state.labels).push(Label {
            venue: at.venue.id.into(),
            native: at.instrument.native.clone(),
            symbol: at.instrument.symbol.clone(),
        });
        let aggregate =
            aggregates[venue][id].get_or_insert_with(|| Box::new(Aggregate { since: at.recv, ..Aggregate::default() }));
        aggregate.label = label;
        // The bucket sizes depend on the base and quote, which may only be known now.
        aggregate.buckets.clear();
    }

    #[inline]
    fn head(at: &At<'_>, label: u32, rounded: bool) -> Head {
        Head { pos: at.pos, label, ts_event: at.ts_event, ts_recv: at.recv, proof: at.proof, rounded }
    }

    /// Bucket sizes of a book, as mantissas at its price scale.
    fn bucket_sizes(settings: &PipelineSettings, instrument: &Instrument, book: &Book) -> Vec<i64> {
        let pair = instrument.listing.as_ref().map(|listing| (listing.base.as_str(), listing.quote.as_str()));
        let configured = pair.map(|(base, quote)| settings.sizes_of(base, quote)).unwrap_or_default();
        // A size finer than the scale of the prices cannot be told apart from one tick of that scale.
        let mut sizes: Vec<i64> =
            configured.iter().map(|size| size.at_scale(book.price_scale()).unwrap_or(1)).collect();
        if sizes.is_empty()
            && let Some(touch) = touch(book)
        {
            sizes.push(default_bucket_size(touch.bid.midpoint(touch.ask)));
        }
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// Tells the best levels if they, or the state of the book, have changed.
    fn tell(&mut self, at: &At<'_>, best: Best, book: &Book, state: BookState) {
        if let Some(label) = self.touch(at).told(best, state) {
            self.top(at, label, best, book, state);
        }
    }

    /// The row of the best levels.
    #[inline]
    fn top(&mut self, at: &At<'_>, label: u32, best: Best, book: &Book, state: BookState) {
        let mut rounded = false;
        let mut pair = |level: Option<(i64, i64)>| match level {
            Some((price, size)) => (
                float(i128::from(price), book.price_scale(), &mut rounded),
                float(i128::from(size), book.size_scale(), &mut rounded),
            ),
            None => (f64::NAN, f64::NAN),
        };
        let (bid, bid_size) = pair(best.0);
        let (ask, ask_size) = pair(best.1);
        self.cut.tops.push(&Self::head(at, label, rounded), TopRow { bid, bid_size, ask, ask_size, state });
        self.rows += 1;
    }

    /// Begins the buckets of a live book.
    #[cold]
    fn divide(&mut self, at: &At<'_>, book: &Book) {
        let sizes = Self::bucket_sizes(&self.state.settings, at.instrument, book);
        let aggregate = self.touch(at);
        aggregate.scales = (book.price_scale(), book.size_scale());
        aggregate.buckets = sizes.into_iter().map(Buckets::new).collect();
        aggregate.buckets.iter_mut().for_each(|buckets| buckets.rebuild(book));
    }

    /// A tick of the grid: columns and snapshots of every update interval crossed, and candles that close.
    fn timer(&mut self, record: &Record<'_>, tick: Nanos, feed: &Feed) {
        let interval = self.state.settings.update_interval();
        let last = tick.div_euclid(interval) * interval;
        let first = if self.state.tick == Nanos::MIN || tick - self.state.tick > LATE {
            last
        } else {
            (self.state.tick.div_euclid(interval) + 1) * interval
        };
        let began = self.state.tick != Nanos::MIN || last == tick;
        self.state.tick = tick;
        let mut time = first;
        while began && time <= last {
            for (venue, spec) in feed.venues().map(crate::venue::Venue::spec).enumerate() {
                let Some(instruments) = feed.instruments(venue) else { continue };
                for (id, keeper) in feed.books(venue).filter(|(_, keeper)| keeper.state() == State::Live) {
                    let (key, instrument) = (Key { venue: venue as u16, id }, instruments.get(id));
                    let proof = spec.books.get(keeper.feed() as usize).map_or(Proof::None, |feed| keeper.proof(feed));
                    let state = if keeper.is_crossed() { BookState::Crossed } else { BookState::Live };
                    let (pos, recv, source) = (record.pos, record.recv, record.source);
                    let at = At { pos, recv, source, venue: spec, key, instrument, ts_event: None, proof };
                    self.interval(&at, time, keeper.book(), state);
                }
            }
            time += interval;
        }
        for venue in 0..self.state.candles.len() {
            for place in 0..self.state.candles[venue].ids().len() {
                let id = self.state.candles[venue].ids()[place];
                self.close_candles(record, tick, Key { venue: venue as u16, id });
            }
        }
    }

    /// The rows of one live book at one update interval.
    fn interval(&mut self, at: &At<'_>, t: Nanos, book: &Book, state: BookState) {
        let label = self.touch(at).label;
        let (price_scale, size_scale) = (book.price_scale(), book.size_scale());
        let depth = self.state.settings.heatmap_depth as usize;
        let levels = self.state.settings.snapshot_levels as usize;
        let mut rounded = false;
        self.floats.iter_mut().for_each(Vec::clear);
        for (side, lists) in [Side::Bid, Side::Ask].into_iter().zip(self.floats.chunks_mut(2)) {
            for level in book.levels(side).take(levels) {
                lists[0].push(float(i128::from(level.price), price_scale, &mut rounded));
                lists[1].push(float(i128::from(level.size), size_scale, &mut rounded));
            }
        }
        let [bid_prices, bid_sizes, ask_prices, ask_sizes] = &self.floats;
        let row = BookSnapshotRow { state, t, bid_prices, bid_sizes, ask_prices, ask_sizes };
        self.cut.book_snapshots.push(&Self::head(at, label, rounded), row);
        self.rows += 1;
        let aggregate = self.state.aggregates[at.key.venue as usize][at.key.id.index()].as_deref();
        let Some(aggregate) = aggregate else { return };
        for buckets in &aggregate.buckets {
            let mut rounded = false;
            let bucket_size = float(i128::from(buckets.size()), price_scale, &mut rounded);
            for side in [Side::Bid, Side::Ask] {
                let [quantity, notional, ..] = &mut self.floats;
                quantity.clear();
                notional.clear();
                self.indices.clear();
                self.counts.clear();
                for bucket in buckets.iter(side).take(depth) {
                    self.indices.push(bucket.index);
                    quantity.push(float(bucket.quantity, size_scale, &mut rounded));
                    notional.push(float(bucket.notional, price_scale + size_scale, &mut rounded));
                    self.counts.push(bucket.levels);
                }
                let row = PriceBucketRow {
                    t,
                    bucket_size,
                    side: side == Side::Ask,
                    index: &self.indices,
                    quantity,
                    notional,
                    levels: &self.counts,
                };
                self.cut.price_buckets.push(&Self::head(at, label, rounded), row);
                self.rows += 1;
            }
            let Some(touch) = touch(book) else { continue };
            self.column.fill(t, buckets, touch, depth);
            let mut rounded = false;
            let [bid_quantity, ask_quantity, ..] = &mut self.floats;
            for (list, quantities) in [(&mut *bid_quantity, &self.column.bids), (&mut *ask_quantity, &self.column.asks)]
            {
                list.clear();
                list.extend(quantities.iter().map(|quantity| float(*quantity, size_scale, &mut rounded)));
            }
            let mid_index = self.column.mid_index;
            let row = HeatmapColumnRow { t, bucket_size, mid_index, bid_quantity, ask_quantity };
            self.cut.heatmap_columns.push(&Self::head(at, label, rounded), row);
            self.rows += 1;
        }
    }

    /// The candles of an instrument, made when it first trades.
    #[inline]
    fn candles(&mut self, key: Key, since: Nanos) -> &mut [Candles] {
        let venue = key.venue as usize;
        if self.state.candles.len() <= venue {
            self.state.candles.resize_with(venue + 1, Table::default);
        }
        let now = since.max(self.state.tick);
        self.state.candles[venue].entry(key.id, || INTERVALS.map(|interval| Candles::new(interval, now)).into())
    }

    fn close_candles(&mut self, record: &Record<'_>, tick: Nanos, key: Key) {
        self.closed.clear();
        let candles = self.state.candles.get_mut(key.venue as usize).and_then(|candles| candles.get_mut(key.id));
        for candles in candles.into_iter().flatten() {
            candles.timer(tick, &mut self.closed);
        }
        if self.closed.is_empty() {
            return;
        }
        let Some(label) = self.aggregate(key).map(|aggregate| aggregate.label) else { return };
        for candle in &self.closed {
            let mut rounded = false;
            let mut price = |mantissa| float(mantissa, candle.price_scale, &mut rounded);
            let (open, high, low, close) =
                (price(candle.open), price(candle.high), price(candle.low), price(candle.close));
            let volume = float(candle.volume, candle.size_scale, &mut rounded);
            let taker_buy = float(candle.taker_buy, candle.size_scale, &mut rounded);
            let notional = float(candle.notional, candle.notional_scale, &mut rounded);
            let (pos, ts_recv) = (record.pos, record.recv);
            let head = Head { pos, label, ts_event: None, ts_recv, proof: Proof::None, rounded };
            let row = CandleRow {
                interval: candle.interval,
                open_time: candle.open_time,
                open,
                high,
                low,
                close,
                volume,
                notional,
                count: Some(candle.count as i64),
                taker_buy,
                revision: candle.revision,
                source: false,
            };
            self.cut.candles.push(&head, row);
            self.rows += 1;
        }
    }

    fn venue_candle(&mut self, at: &At<'_>, candle: &CandleItem, revision: u32) {
        let label = self.touch(at).label;
        let mut rounded = false;
        let mut plain = |value: Decimal| float(i128::from(value.mantissa), value.scale, &mut rounded);
        let (open, high, low, close) = (plain(candle.open), plain(candle.high), plain(candle.low), plain(candle.close));
        let volume = plain(candle.volume);
        let (notional, taker_buy) =
            (candle.notional.map_or(f64::NAN, &mut plain), candle.taker_buy.map_or(f64::NAN, &mut plain));
        let row = CandleRow {
            interval: candle.interval,
            open_time: candle.open_time,
            open,
            high,
            low,
            close,
            volume,
            notional,
            count: candle.count,
            taker_buy,
            revision,
            source: true,
        };
        let mut at = *at;
        at.ts_event = candle.ts_event;
        self.cut.candles.push(&Self::head(&at, label, rounded), row);
        self.rows += 1;
    }

    fn connection_label(&mut self, venue: &VenueSpec) -> u32 {
        if let Some((_, label)) = self.state.connection_labels.iter().find(|(id, _)| id == venue.id) {
            return *label;
        }
        let label = self.state.labels.len() as u32;
        Arc::make_mut(&mut self.state.labels).push(Label {
            venue: venue.id.into(),
            native: String::new(),
            symbol: None,
        });
        self.state.connection_labels.push((venue.id.into(), label));
        label
    }

    fn connection_row(&mut self, pos: Pos, ts_recv: Nanos, venue: &VenueSpec, row: ConnectionEventRow<'_>) {
        let label = self.connection_label(venue);
        let head = Head { pos, label, ts_event: None, ts_recv, proof: Proof::None, rounded: false };
        self.cut.connection_events.push(&head, row);
        self.rows += 1;
    }
}

#[inline]
fn float(mantissa: i128, scale: u8, rounded: &mut bool) -> f64 {
    let (value, inexact) = wide_to_f64(mantissa, scale);
    *rounded |= inexact;
    value
}

#[inline]
fn best(book: &Book) -> Best {
    let pair = |level: Level| (level.price, level.size);
    (book.best(Side::Bid).map(pair), book.best(Side::Ask).map(pair))
}

fn touch(book: &Book) -> Option<Touch> {
    let (bid, ask) = (book.best(Side::Bid)?.price, book.best(Side::Ask)?.price);
    Some(Touch { bid, ask, price_scale: book.price_scale(), size_scale: book.size_scale() })
}

impl Observer for Desk {
    #[inline]
    fn buckets(&mut self, key: Key) -> &mut [Buckets] {
        self.aggregate_mut(key).map_or(&mut [], |aggregate| &mut aggregate.buckets)
    }

    fn rebuilt(&mut self, key: Key, book: &Book) {
        let Some(aggregate) = self.aggregate_mut(key) else { return };
        if aggregate.scales == (book.price_scale(), book.size_scale()) {
            aggregate.buckets.iter_mut().for_each(|buckets| buckets.rebuild(book));
        } else {
            // At other scales the bucket sizes are other mantissas: they are made anew with the next message.
            aggregate.buckets.clear();
            aggregate.best = (None, None);
        }
    }

    #[inline]
    fn book(&mut self, at: &At<'_>, _: &BookChange<'_>, book: &Book) {
        let best = best(book);
        let state = match best {
            (Some((bid, _)), Some((ask, _))) if bid >= ask => BookState::Crossed,
            _ => BookState::Live,
        };
        match self.aggregate_mut(at.key) {
            Some(aggregate) if !aggregate.buckets.is_empty() => {
                if let Some(label) = aggregate.told(best, state) {
                    self.top(at, label, best, book, state);
                }
            }
            _ => {
                self.divide(at, book);
                self.tell(at, best, book, state);
            }
        }
    }

    fn lost(&mut self, at: &At<'_>, book: &Book) {
        self.tell(at, (None, None), book, BookState::Gap);
    }

    #[inline]
    fn trade(&mut self, at: &At<'_>, trade: &Trade<'_>) {
        let aggregate = self.touch(at);
        let (label, since) = (aggregate.label, aggregate.since);
        if let (false, Some(time)) = (trade.history, at.ts_event) {
            let (price, size) = (trade.price, trade.size);
            for candles in self.candles(at.key, since) {
                candles.trade(time, price.mantissa, price.scale, size.mantissa, size.scale, trade.taker);
            }
        }
        let mut rounded = false;
        let price = float(i128::from(trade.price.mantissa), trade.price.scale, &mut rounded);
        let size = float(i128::from(trade.size.mantissa), trade.size.scale, &mut rounded);
        let side = trade.taker == Side::Ask;
        let row = TradeRow { price, size, side, trade_id: trade.trade_id, history: trade.history };
        self.cut.trades.push(&Self::head(at, label, rounded), row);
        self.rows += 1;
    }

    fn candle(&mut self, at: &At<'_>, candle: &CandleItem) {
        let aggregate = self.touch(at);
        let slot = aggregate.venue_candles.iter().position(|(last, _)| last.interval == candle.interval);
        let Some(slot) = slot else {
            aggregate.venue_candles.push((*candle, candle.closed));
            if candle.closed {
                self.venue_candle(at, candle, 0);
            }
            return;
        };
        let (last, written) = aggregate.venue_candles[slot];
        if candle.open_time < last.open_time {
            // A candle that is over was sent again: its row was written when the next one began.
            self.venue_candle(at, candle, 1);
            return;
        }
        let next = candle.open_time > last.open_time;
        let write_last = next && !written;
        let again = !next && written && candle != &last;
        aggregate.venue_candles[slot] = (*candle, candle.closed || (!next && written));
        if write_last {
            self.venue_candle(at, &last, 0);
        }
        if again || candle.closed && (next || !written) {
            self.venue_candle(at, candle, u32::from(again));
        }
    }

    fn gap(&mut self, at: &At<'_>, gap: &Gap<'_>) {
        let label = self.touch(at).label;
        let row = GapRow {
            id: gap.id,
            phase: gap.to.is_some(),
            channel: gap.channel,
            cause: gap.cause,
            from: gap.from,
            to: gap.to,
            evidence: gap.evidence,
        };
        self.cut.gaps.push(&Self::head(at, label, false), row);
        self.rows += 1;
    }

    fn listed(&mut self, at: &At<'_>) {
        let label = self.touch(at).label;
        if self.state.labels[label as usize].symbol != at.instrument.symbol {
            self.name(at);
        }
        let label = self.touch(at).label;
        let Some(listing) = &at.instrument.listing else { return };
        let mut rounded = false;
        let mut plain = |value: Decimal| float(i128::from(value.mantissa), value.scale, &mut rounded);
        let tick_size = listing.tick_size.map_or(f64::NAN, &mut plain);
        let lot_size = listing.lot_size.map_or(f64::NAN, &mut plain);
        let contract_size = plain(listing.contract_size);
        let row = InstrumentRow {
            base: &listing.base,
            quote: &listing.quote,
            kind: listing.kind.name(),
            expiry: listing.kind.expiry(),
            tick_size,
            lot_size,
            contract_size,
            inverse: listing.inverse,
            status: listing.status.name(),
        };
        self.cut.instruments.push(&Self::head(at, label, rounded), row);
        self.rows += 1;
    }

    fn connection(&mut self, pos: Pos, recv: Nanos, venue: &'static VenueSpec, conn: ConnId, change: &Connection<'_>) {
        let text;
        let (event, detail) = match change {
            Connection::Opened { url } => (Happening::Opened, *url),
            Connection::Closed { cause, code } => {
                text = format!("{} {code}", crate::event::GapCause::from(*cause).name());
                (Happening::Closed, text.as_str())
            }
        };
        self.connection_row(pos, recv, venue, ConnectionEventRow { connection: conn, event, detail });
    }

    fn error(&mut self, pos: Pos, recv: Nanos, venue: &'static VenueSpec, error: &VenueError) {
        let detail = error.to_string();
        self.connection_row(
            pos,
            recv,
            venue,
            ConnectionEventRow { connection: 0, event: Happening::Refused, detail: &detail },
        );
    }
}
