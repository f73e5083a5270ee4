//! Candles against candles recomputed from the list of all trades.

use proptest::prelude::*;

use super::*;

/// Every scale in these tests is at most this, so the oracle brings all numbers to it at once.
const WIDE: u8 = 6;

#[derive(Clone, Copy, Debug)]
struct Trade {
    ts: Nanos,
    price: i64,
    price_scale: u8,
    size: i64,
    size_scale: u8,
    taker: Side,
}

#[derive(Clone, Debug)]
enum Event {
    /// A trade, its time given relative to the clock.
    Trade(Trade),
    /// The clock moves on by this much, then the timer fires.
    Timer(Nanos),
    Reload,
}

fn event(unit: Nanos) -> impl Strategy<Value = Event> {
    // Times on a coarse grid make equal times and exact limits common.
    let ago = prop_oneof![8 => -4_i64..16, 2 => 0_i64..160, 1 => -140_i64..400].prop_map(move |n| -n * unit / 2);
    let taker = prop_oneof![Just(Side::Bid), Just(Side::Ask)];
    let trade = (ago, 1_i64..100_000, 0..=WIDE, 1_i64..100_000, 0..=WIDE, taker).prop_map(
        |(ts, price, price_scale, size, size_scale, taker)| {
            Event::Trade(Trade { ts, price, price_scale, size, size_scale, taker })
        },
    );
    prop_oneof![
        20 => trade,
        10 => (0_i64..5).prop_map(move |n| Event::Timer(n * unit / 2)),
        1 => (0_i64..80).prop_map(move |n| Event::Timer(n * unit)),
        1 => Just(Event::Reload),
    ]
}

/// The candle of `trades`, in order of arrival, by definition.
fn naive(interval: Nanos, open_time: Nanos, trades: &[Trade], revision: u32) -> Candle {
    let price_scale = trades.iter().map(|t| t.price_scale).max().unwrap();
    let size_scale = trades.iter().map(|t| t.size_scale).max().unwrap();
    let ten = |n: u8| 10_i128.pow(n.into());
    // Exact both ways: the candle's scale is at most WIDE and at least the trade's.
    let price = |t: &Trade| i128::from(t.price) * ten(WIDE - t.price_scale) / ten(WIDE - price_scale);
    let size = |t: &Trade| i128::from(t.size) * ten(WIDE - t.size_scale) / ten(WIDE - size_scale);
    let mut by_time = trades.to_vec();
    by_time.sort_by_key(|t| t.ts);
    Candle {
        interval,
        open_time,
        open: price(&by_time[0]),
        high: trades.iter().map(price).max().unwrap(),
        low: trades.iter().map(price).min().unwrap(),
        close: price(&by_time[by_time.len() - 1]),
        price_scale,
        volume: trades.iter().map(size).sum(),
        taker_buy: trades.iter().filter(|t| t.taker == Side::Bid).map(size).sum(),
        size_scale,
        notional: trades.iter().map(|t| price(t) * size(t)).sum(),
        notional_scale: price_scale + size_scale,
        count: trades.len() as u64,
        revision,
    }
}

/// Keeps every trade for ever and decides by the rules as DESIGN states them.
struct Oracle {
    interval: Nanos,
    now: Nanos,
    trades: Vec<Trade>,
    emitted: BTreeMap<Nanos, Candle>,
    late: u64,
    early: u64,
}

impl Oracle {
    fn trade(&mut self, trade: Trade) {
        let close = (trade.ts.div_euclid(self.interval) + 1) * self.interval;
        if self.now - close > LATE_LIMIT {
            self.late += 1;
        } else if trade.ts - self.now > EARLY_LIMIT {
            self.early += 1;
        } else {
            self.trades.push(trade);
        }
    }

    fn timer(&mut self, now: Nanos) -> Vec<Candle> {
        self.now = now;
        let mut spans: BTreeMap<Nanos, Vec<Trade>> = BTreeMap::new();
        for trade in &self.trades {
            spans.entry(trade.ts.div_euclid(self.interval) * self.interval).or_default().push(*trade);
        }
        let mut out = Vec::new();
        for (open_time, trades) in spans {
            if now - (open_time + self.interval) >= CLOSE_DELAY {
                let before = self.emitted.get(&open_time);
                let revision = before.map_or(0, |c| c.revision + 1);
                if before.is_none_or(|c| c.count != trades.len() as u64) {
                    let candle = naive(self.interval, open_time, &trades, revision);
                    self.emitted.insert(open_time, candle);
                    out.push(candle);
                }
            }
        }
        out
    }
}

fn run(interval: Nanos, start: Nanos, events: Vec<Event>) {
    let mut candles = Candles::new(interval, start);
    let mut oracle = Oracle { interval, now: start, trades: vec![], emitted: BTreeMap::new(), late: 0, early: 0 };
    for event in events {
        match event {
            Event::Trade(mut t) => {
                t.ts += oracle.now;
                candles.trade(t.ts, t.price, t.price_scale, t.size, t.size_scale, t.taker);
                oracle.trade(t);
            }
            Event::Timer(by) => {
                let now = oracle.now + by;
                let mut out = Vec::new();
                candles.timer(now, &mut out);
                assert_eq!(out, oracle.timer(now));
            }
            Event::Reload => {
                let bytes = postcard::to_allocvec(&candles).unwrap();
                let loaded: Candles = postcard::from_bytes(&bytes).unwrap();
                assert_eq!(loaded, candles);
                candles = loaded;
            }
        }
        let bound = (LATE_LIMIT + EARLY_LIMIT) / interval + 3;
        assert!(candles.pending.len() as i64 <= bound);
    }
    assert_eq!(candles.dropped(), Dropped { late: oracle.late, early: oracle.early, overflow: 0 });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn seconds_equal_their_definition(events in prop::collection::vec(event(SECOND), 1..400)) {
        run(SECOND, 1_700_000_000 * SECOND, events);
    }

    #[test]
    fn minutes_equal_their_definition(events in prop::collection::vec(event(10 * SECOND), 1..400)) {
        run(MINUTE, 1_700_000_000 * SECOND, events);
    }

    #[test]
    fn spans_are_aligned_before_the_epoch_too(events in prop::collection::vec(event(SECOND), 1..100)) {
        run(7 * SECOND / 2, 0, events);
    }
}

fn emitted(candles: &mut Candles, now: Nanos) -> Vec<(Nanos, u64, u32)> {
    let mut out = Vec::new();
    candles.timer(now, &mut out);
    out.iter().map(|c| (c.open_time / SECOND, c.count, c.revision)).collect()
}

#[test]
fn a_candle_closes_two_seconds_after_its_end_and_is_revised_for_a_minute() {
    let mut candles = Candles::new(SECOND, 100 * SECOND);
    let trade = |candles: &mut Candles| candles.trade(100 * SECOND, 5, 0, 1, 0, Side::Bid);
    trade(&mut candles);
    assert_eq!(emitted(&mut candles, 103 * SECOND - 1), []);
    assert_eq!(emitted(&mut candles, 103 * SECOND), [(100, 1, 0)]);
    assert_eq!(emitted(&mut candles, 104 * SECOND), []);
    trade(&mut candles);
    trade(&mut candles);
    assert_eq!(emitted(&mut candles, 105 * SECOND), [(100, 3, 1)]);
    assert_eq!(emitted(&mut candles, 161 * SECOND), []);
    trade(&mut candles);
    assert_eq!(emitted(&mut candles, 161 * SECOND + 1), [(100, 4, 2)]);
    trade(&mut candles);
    assert_eq!(emitted(&mut candles, 170 * SECOND), []);
    assert_eq!(candles.dropped(), Dropped { late: 1, ..Dropped::default() });
}

#[test]
fn a_trade_that_would_overflow_changes_nothing() {
    let mut candles = Candles::new(SECOND, 0);
    candles.trade(1, 1, 0, 1, 0, Side::Bid);
    // Twice the greatest product still fits 127 bits, thrice does not; nor does 10^200.
    for ts in 2..5 {
        candles.trade(ts, i64::MAX, 0, i64::MAX, 0, Side::Bid);
    }
    candles.trade(5, 1, 200, 1, 200, Side::Ask);
    candles.trade(6, 2, 0, 3, 0, Side::Ask);
    let mut out = Vec::new();
    candles.timer(10 * SECOND, &mut out);
    assert_eq!(candles.dropped(), Dropped { overflow: 2, ..Dropped::default() });
    assert_eq!((out[0].count, out[0].close, out[0].price_scale), (4, 2, 0));
    let greatest = i128::from(i64::MAX);
    assert_eq!((out[0].notional, out[0].taker_buy), (2 * greatest * greatest + 7, 2 * greatest + 1));
}

#[test]
fn the_ends_of_time_are_harmless() {
    for now in [i64::MIN, i64::MAX] {
        let mut candles = Candles::new(MINUTE, now);
        candles.trade(i64::MIN, 1, 0, 1, 0, Side::Bid);
        candles.trade(i64::MAX, 1, 0, 1, 0, Side::Bid);
        let mut out = Vec::new();
        candles.timer(i64::MIN, &mut out);
        candles.timer(i64::MAX, &mut out);
        assert!(out.len() <= 2);
    }
}
