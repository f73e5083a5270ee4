//! Candles from trades, by the venue's event time.
//!
//! A candle covers the half-open span `[open time, open time + interval)` and exists only where something
//! traded. It closes at the first timer at least [`CLOSE_DELAY`] after its end. A trade that comes later than that,
//! but at most [`LATE_LIMIT`] after the end, brings the candle out again at the next timer under the next revision;
//! readers take the last.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::level::Side;
use crate::record::Nanos;

/// One second.
pub const SECOND: Nanos = 1_000_000_000;

/// One minute.
pub const MINUTE: Nanos = 60 * SECOND;

/// How long after its end a candle waits for trades that are still on their way.
pub const CLOSE_DELAY: Nanos = 2 * SECOND;

/// How long after a candle's end a trade may still correct it.
pub const LATE_LIMIT: Nanos = 60 * SECOND;

/// How far a trade's event time may lie ahead of the last timer: with [`LATE_LIMIT`] it bounds how many candles are
/// kept, whatever a venue's clock says.
pub const EARLY_LIMIT: Nanos = 60 * SECOND;

/// A closed candle: exact, with one scale for its prices and one for its volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candle {
    /// Length in nanoseconds.
    pub interval: Nanos,
    /// Where the candle begins: a multiple of the interval.
    pub open_time: Nanos,
    /// Price of the first trade by event time; of equal times the first to arrive.
    pub open: i128,
    /// Greatest price.
    pub high: i128,
    /// Least price.
    pub low: i128,
    /// Price of the last trade by event time; of equal times the last to arrive.
    pub close: i128,
    /// Decimals of the four prices: the most that any of its trades had.
    pub price_scale: u8,
    /// Sum of sizes, in the base asset.
    pub volume: i128,
    /// Sum of the sizes that takers bought.
    pub taker_buy: i128,
    /// Decimals of `volume` and `taker_buy`: the most that any of its trades had.
    pub size_scale: u8,
    /// Sum of price times size, in the quote asset.
    pub notional: i128,
    /// Decimals of `notional`: the sum of the other two scales.
    pub notional_scale: u8,
    /// Number of trades.
    pub count: u64,
    /// 0 when the candle closes, then 1 more each time it comes out again.
    pub revision: u32,
}

/// Trades that entered no candle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Later than [`LATE_LIMIT`] after the end of their candle.
    pub late: u64,
    /// Further ahead of the clock than [`EARLY_LIMIT`].
    pub early: u64,
    /// Sums that would not fit 128 bits.
    pub overflow: u64,
}

/// A trade's price and size.
#[derive(Clone, Copy)]
struct Fill {
    price: i128,
    price_scale: u8,
    size: i128,
    size_scale: u8,
    taker: Side,
}

/// A candle that may still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    first: Nanos,
    last: Nanos,
    candle: Candle,
    /// Whether the candle has come out, and whether it has changed since.
    closed: bool,
    dirty: bool,
}

/// `10^digits`; `None` above 38, where an `i128` ends.
fn power(digits: u8) -> Option<i128> {
    10_i128.checked_pow(digits.into())
}

fn widen(mantissa: i128, from: u8, to: u8) -> Option<i128> {
    mantissa.checked_mul(power(to.checked_sub(from)?)?)
}

impl Candle {
    /// A candle of no trades yet.
    fn at(interval: Nanos, open_time: Nanos, fill: Fill) -> Self {
        Self {
            interval,
            open_time,
            open: fill.price,
            high: fill.price,
            low: fill.price,
            close: fill.price,
            price_scale: fill.price_scale,
            volume: 0,
            taker_buy: 0,
            size_scale: fill.size_scale,
            notional: 0,
            notional_scale: fill.price_scale.saturating_add(fill.size_scale),
            count: 0,
            revision: 0,
        }
    }

    /// The same candle at scales at least as wide as its own.
    fn widened(&self, price_scale: u8, size_scale: u8) -> Option<Self> {
        let price = |mantissa| widen(mantissa, self.price_scale, price_scale);
        let size = |mantissa| widen(mantissa, self.size_scale, size_scale);
        let notional_scale = price_scale.checked_add(size_scale)?;
        Some(Self {
            open: price(self.open)?,
            high: price(self.high)?,
            low: price(self.low)?,
            close: price(self.close)?,
            price_scale,
            volume: size(self.volume)?,
            taker_buy: size(self.taker_buy)?,
            size_scale,
            notional: widen(self.notional, self.notional_scale, notional_scale)?,
            notional_scale,
            ..*self
        })
    }
}

impl Pending {
    /// The candle with one more trade, `None` where a sum would not fit.
    fn with(&self, ts_event: Nanos, fill: Fill) -> Option<Self> {
        let mut next = *self;
        let candle = &mut next.candle;
        if fill.price_scale != candle.price_scale || fill.size_scale != candle.size_scale {
            *candle =
                candle.widened(candle.price_scale.max(fill.price_scale), candle.size_scale.max(fill.size_scale))?;
        }
        let price = widen(fill.price, fill.price_scale, candle.price_scale)?;
        let size = widen(fill.size, fill.size_scale, candle.size_scale)?;
        if ts_event < next.first {
            next.first = ts_event;
            candle.open = price;
        }
        if ts_event >= next.last {
            next.last = ts_event;
            candle.close = price;
        }
        candle.high = candle.high.max(price);
        candle.low = candle.low.min(price);
        candle.volume = candle.volume.checked_add(size)?;
        if fill.taker == Side::Bid {
            candle.taker_buy = candle.taker_buy.checked_add(size)?;
        }
        candle.notional = candle.notional.checked_add(price.checked_mul(size)?)?;
        candle.count += 1;
        next.dirty = true;
        Some(next)
    }
}

/// The candles of one instrument at one interval, while trades may still change them.
///
/// Holds at most the candles that end within the last [`LATE_LIMIT`] or begin within the next [`EARLY_LIMIT`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candles {
    interval: Nanos,
    now: Nanos,
    pending: BTreeMap<Nanos, Pending>,
    dropped: Dropped,
}

impl Candles {
    /// No candles yet. `interval` is in nanoseconds, at least 1; `now` stands for the last timer until one comes.
    pub fn new(interval: Nanos, now: Nanos) -> Self {
        Self { interval: interval.max(1), now, pending: BTreeMap::new(), dropped: Dropped::default() }
    }

    /// Time goes on from `now`, which may lie before the last timer: a run has a clock of its own.
    pub fn restart(&mut self, now: Nanos) {
        self.now = now;
    }

    /// The interval in nanoseconds.
    pub fn interval(&self) -> Nanos {
        self.interval
    }

    /// Trades that entered no candle so far.
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// A trade at the venue's time `ts_event`; `taker` is [`Side::Bid`] when the taker bought. Scales may differ
    /// from trade to trade. Whether a trade is late is told by the last timer.
    pub fn trade(&mut self, ts_event: Nanos, price: i64, price_scale: u8, size: i64, size_scale: u8, taker: Side) {
        if ts_event > self.now.saturating_add(EARLY_LIMIT) {
            self.dropped.early += 1;
            return;
        }
        let open_time = ts_event.saturating_sub(ts_event.rem_euclid(self.interval));
        if self.is_past(open_time) {
            self.dropped.late += 1;
            return;
        }
        let fill = Fill { price: price.into(), price_scale, size: size.into(), size_scale, taker };
        let known = self.pending.get_mut(&open_time);
        let before = known.as_deref().copied().unwrap_or_else(|| Pending {
            first: ts_event,
            last: ts_event,
            candle: Candle::at(self.interval, open_time, fill),
            closed: false,
            dirty: false,
        });
        match (before.with(ts_event, fill), known) {
            (Some(after), Some(known)) => *known = after,
            (Some(after), None) => {
                self.pending.insert(open_time, after);
            }
            (None, _) => self.dropped.overflow += 1,
        }
    }

    /// Whether no trade may change the candle that begins at `open_time` any more.
    fn is_past(&self, open_time: Nanos) -> bool {
        open_time.saturating_add(self.interval).saturating_add(LATE_LIMIT) < self.now
    }

    /// Time has come to `now`. Appends to `out` every candle that closes and every closed one that has changed since,
    /// by open time.
    pub fn timer(&mut self, now: Nanos, out: &mut Vec<Candle>) {
        self.now = self.now.max(now);
        let due = self.now.saturating_sub(CLOSE_DELAY).saturating_sub(self.interval);
        for pending in self.pending.range_mut(..=due).map(|(_, pending)| pending).filter(|pending| pending.dirty) {
            if pending.closed {
                pending.candle.revision += 1;
            }
            pending.closed = true;
            pending.dirty = false;
            out.push(pending.candle);
        }
        while self.pending.first_key_value().is_some_and(|(open_time, _)| self.is_past(*open_time)) {
            self.pending.pop_first();
        }
    }
}

#[cfg(test)]
#[path = "candle_tests.rs"]
mod tests;
