//! Stored candles against candles made from the stored trades by definition.

#![allow(clippy::expect_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;

use coby_core::record::{Nanos, Pos};
use coby_core::rows::Cut;
use coby_io::recording::{FrameKind, RecordedFrame};

use support::Random;
use support::exact::Exact;
use support::replay::Replay;
use support::rows::rows;

const SECOND: Nanos = 1_000_000_000;
const INTERVALS: [Nanos; 2] = [SECOND, 60 * SECOND];

/// A stored trade.
struct Stored {
    pos: Pos,
    native: String,
    ts_event: Nanos,
    ts_recv: Nanos,
    price: Exact,
    size: Exact,
    buy: bool,
}

/// A stored candle; ordered so that two lists can be compared whole.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
struct Row {
    pos: Pos,
    native: String,
    interval: Nanos,
    open_time: Nanos,
    revision: i64,
    prices: [f64; 4],
    volume: f64,
    notional: f64,
    count: i64,
    taker_buy: f64,
}

fn stored_trades(cut: &Cut) -> Vec<Stored> {
    let names = ["pos", "native_symbol", "ts_event", "ts_recv", "price", "size", "side", "history", "rounded"];
    let mut trades = Vec::new();
    for [pos, native, ts_event, ts_recv, price, size, side, history, rounded] in rows(cut, &cut.trades, names) {
        assert!(!rounded.bool(), "these floats print the exact numbers");
        if !history.bool() {
            trades.push(Stored {
                pos: pos.int() as Pos,
                native: native.text().into(),
                ts_event: ts_event.int(),
                ts_recv: ts_recv.int(),
                price: Exact::parse(&price.float().to_string()),
                size: Exact::parse(&size.float().to_string()),
                buy: side.text() == "buy",
            });
        }
    }
    trades
}

fn stored_candles(cut: &Cut) -> Vec<Row> {
    let names = ["pos", "native_symbol", "interval", "open_time", "revision", "source"];
    let prices = rows(cut, &cut.candles, ["open", "high", "low", "close"]);
    let sums = rows(cut, &cut.candles, ["volume", "notional", "count", "taker_buy"]);
    let heads = rows(cut, &cut.candles, names).into_iter().zip(prices).zip(sums);
    let ours = heads.filter(|(([.., source], _), _)| source.text() == "trades");
    let mut found: Vec<Row> = ours
        .map(|(([pos, native, interval, open_time, revision, _], prices), [volume, notional, count, taker_buy])| Row {
            pos: pos.int() as Pos,
            native: native.text().into(),
            interval: interval.int(),
            open_time: open_time.int(),
            revision: revision.int(),
            prices: prices.map(|price| price.float()),
            volume: volume.float(),
            notional: notional.float(),
            count: count.int(),
            taker_buy: taker_buy.float(),
        })
        .collect();
    sort(&mut found);
    found
}

fn sort(candles: &mut [Row]) {
    candles.sort_by(|a, b| a.partial_cmp(b).expect("candles hold no NaN"));
}

/// The candle of these trades, which stand in order of arrival.
fn candle(pos: Pos, native: &str, interval: Nanos, open_time: Nanos, revision: i64, trades: &[&Stored]) -> Row {
    let mut by_time = trades.to_vec();
    by_time.sort_by_key(|trade| trade.ts_event);
    let sum = |value: &dyn Fn(&Stored) -> Exact, buys: bool| {
        let chosen = trades.iter().filter(|trade| trade.buy || !buys);
        chosen.fold(Exact::ZERO, |sum, trade| sum.plus(value(trade))).float()
    };
    let best = |wins: fn(Exact, Exact) -> bool| {
        let prices = trades.iter().map(|trade| trade.price);
        prices.reduce(|best, price| if wins(price, best) { price } else { best }).expect("no candle without trades")
    };
    let (high, low) = (best(|price, best| best.less(price)), best(Exact::less));
    let (open, close) = (by_time[0].price, by_time[by_time.len() - 1].price);
    Row {
        pos,
        native: native.into(),
        interval,
        open_time,
        revision,
        prices: [open, high, low, close].map(Exact::float),
        volume: sum(&|trade| trade.size, false),
        notional: sum(&|trade| trade.price.times(trade.size), false),
        count: trades.len() as i64,
        taker_buy: sum(&|trade| trade.size, true),
    }
}

/// A candle that may change: its trades so far, whether it is to be told, and under which revision.
#[derive(Default)]
struct Open<'a> {
    trades: Vec<&'a Stored>,
    changed: bool,
    revision: i64,
}

/// All candles that the timers must have brought forth: closed at the first timer at least 2 s after the
/// close, told again at the next timer after a trade that is up to 60 s late; none is made of trades
/// more than 60 s ahead.
fn naive_candles(trades: &[Stored], timers: &[(Pos, Nanos)]) -> Vec<Row> {
    let mut candles: BTreeMap<(&str, Nanos, Nanos), Open<'_>> = BTreeMap::new();
    let mut rows = Vec::new();
    let mut timers = timers.iter().copied().peekable();
    let mut now = None;
    for trade in trades.iter().map(Some).chain([None]) {
        while let Some((pos, tick)) = timers.next_if(|(pos, _)| trade.is_none_or(|trade| *pos < trade.pos)) {
            now = Some(tick);
            for ((native, interval, open_time), Open { trades, changed, revision }) in &mut candles {
                if *changed && tick >= open_time + interval + 2 * SECOND {
                    rows.push(candle(pos, native, *interval, *open_time, *revision, trades));
                    (*changed, *revision) = (false, *revision + 1);
                }
            }
        }
        let Some(trade) = trade else { break };
        let now = now.unwrap_or(trade.ts_recv);
        for interval in INTERVALS {
            let open_time = trade.ts_event.div_euclid(interval) * interval;
            let (late, early) = (now - (open_time + interval), trade.ts_event - now);
            if late <= 60 * SECOND && early <= 60 * SECOND {
                let entry = candles.entry((&trade.native, interval, open_time)).or_default();
                entry.trades.push(trade);
                entry.changed = true;
            }
        }
    }
    sort(&mut rows);
    rows
}

/// Compares every revision of every candle; returns the candles, last revisions only.
fn check(replay: &mut Replay) -> Vec<Row> {
    let cut = replay.pipeline.cut().expect("records were stepped");
    let expected = naive_candles(&stored_trades(&cut), &replay.timers);
    let found = stored_candles(&cut);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
    let last: BTreeMap<_, _> =
        found.into_iter().map(|row| ((row.native.clone(), row.interval, row.open_time), row)).collect();
    last.into_values().collect()
}

#[test]
fn candles_of_captures_are_those_of_their_trades() {
    for venue in ["binance_futures", "coinbase", "kucoin", "bitstamp"] {
        let Some(frames) = support::capture(venue) else { return };
        let mut replay = Replay::new(venue);
        replay.frames(&frames);
        // So that the last minutes close.
        replay.wait(frames[frames.len() - 1].recv_ns + 70 * SECOND);
        let candles = check(&mut replay);
        let minutes: i64 = candles.iter().filter(|row| row.interval > SECOND).map(|row| row.count).sum();
        let seconds: i64 = candles.iter().filter(|row| row.interval == SECOND).map(|row| row.count).sum();
        let trades = replay.watch.trades.iter().filter(|trade| !trade.history).count() as i64;
        assert_eq!((minutes, seconds), (trades, trades), "{venue}: every trade is in one candle of each length");
    }
}

fn trade_frame(recv_ns: Nanos, number: usize, native: &str, ts_event: Nanos, random: &mut Random) -> RecordedFrame {
    let decimals = |random: &mut Random, most: usize| {
        let (whole, places) = (random.below(90) + 10, random.below(most + 1));
        let fraction: String = (0..places).map(|_| char::from(b'0' + random.below(10) as u8)).collect();
        if places == 0 { whole.to_string() } else { format!("{whole}.{fraction}") }
    };
    let (price, size) = (decimals(random, 4), decimals(random, 8));
    let side = ["buy", "sell"][random.below(2)];
    let body = format!(
        r#"{{"data":{{"symbol":"{native}","sequence":"{number}","side":"{side}","size":"{size}","price":"{price}","takerOrderId":"t","time":"{ts_event}","type":"match","makerOrderId":"m","tradeId":"{native}{number}"}},"subject":"trade.l3match","topic":"/market/match:{native}","type":"message"}}"#
    );
    let url = "wss://ws-api-spot.kucoin.com/".into();
    let (kind, body) = (FrameKind::Text, body.into_bytes());
    RecordedFrame { recv_ns, kind, url, body, conn: None, method: None, status: 200, request: String::new() }
}

#[test]
fn late_trades_revise_candles() {
    let mut revisions = 0;
    for seed in 0..20 {
        let mut random = Random(seed);
        let mut replay = Replay::new("kucoin");
        let mut recv = 1_700_000_000 * SECOND;
        for number in 0..400 {
            // Seconds of trading, then silences of up to 40 s.
            recv += match random.below(10) {
                0 => random.below(40) as Nanos * SECOND,
                _ => random.below(700) as Nanos * 1_000_000,
            };
            // Most are a moment old, some are late by up to two minutes, a few are of the future.
            let age = match random.below(20) {
                0..=13 => random.below(300) as Nanos * 1_000_000,
                14..=18 => random.below(130) as Nanos * SECOND,
                _ => -(random.below(90) as Nanos) * SECOND,
            };
            let ts_event = (recv - age) / SECOND * SECOND + 1 + random.below(9) as Nanos * 111_111_111;
            let native = ["A-USDT", "B-BTC"][random.below(2)];
            replay.frame(&trade_frame(recv, number, native, ts_event, &mut random));
        }
        replay.wait(recv + 200 * SECOND);
        assert_eq!(replay.watch.trades.len(), 400);
        let candles = check(&mut replay);
        revisions += candles.iter().filter(|row| row.revision > 0).count();
    }
    assert!(revisions > 100, "only {revisions} candles were revised");
}
