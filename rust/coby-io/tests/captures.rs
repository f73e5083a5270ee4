//! Recorded real traffic against an independent reader of it, after every single message.
//!
//! The captures lie beside the repository (or where `COBY_CAPTURES` says); without them these tests say so
//! and pass.

#![allow(clippy::expect_used, reason = "a test may panic")]

mod support;

use coby_core::aggregate::bucket::{Bucket, Buckets};
use coby_core::book::Book;
use coby_core::keeper::{Keeper, State};
use coby_core::level::Side;
use coby_core::rows::Table;

use support::exact::{Exact, raise};
use support::naive::{Ladders, NaiveTrade, NaiveVenue};
use support::replay::Replay;
use support::rows::rows;

const SIDES: [Side; 2] = [Side::Bid, Side::Ask];
/// Every so many messages all books of the venue are compared, not only the one that the message is about.
const ALL_BOOKS_EVERY: usize = 25;

/// Every level of both sides, in order, exactly.
fn same_book(book: &Book, naive: &Ladders, at: &str) {
    for (side, ladder) in SIDES.into_iter().zip(naive) {
        let (prices, sizes) = (book.price_scale(), book.size_scale());
        let mut found = book.levels(side).map(|level| (raise(level.price, prices), raise(level.size, sizes)));
        let copy = |(price, size): (&i128, &i128)| (*price, *size);
        let mut expected: Box<dyn Iterator<Item = (i128, i128)>> = match side {
            Side::Bid => Box::new(ladder.iter().rev().map(copy)),
            Side::Ask => Box::new(ladder.iter().map(copy)),
        };
        loop {
            let (found, expected) = (found.next(), expected.next());
            assert_eq!(found, expected, "{at}: {side:?} level");
            if found.is_none() {
                break;
            }
        }
        assert_eq!(book.len(side), ladder.len(), "{at}: {side:?} length");
    }
}

/// Each bucket, by dividing every level's price; and with them the sums over all.
fn same_buckets(buckets: &Buckets, book: &Book, at: &str) {
    for side in SIDES {
        let mut expected: Vec<Bucket> = Vec::new();
        let (mut quantity, mut notional, mut levels) = (0_i128, 0_i128, 0_u64);
        for level in book.levels(side) {
            let index = match side {
                Side::Bid => level.price.div_euclid(buckets.size()),
                Side::Ask => (level.price + buckets.size() - 1).div_euclid(buckets.size()),
            };
            let (size, money) = (i128::from(level.size), i128::from(level.size) * i128::from(level.price));
            quantity += size;
            notional += money;
            levels += 1;
            match expected.last_mut() {
                Some(last) if last.index == index => {
                    last.quantity += size;
                    last.notional += money;
                    last.levels += 1;
                }
                _ => expected.push(Bucket { index, quantity: size, notional: money, levels: 1 }),
            }
        }
        let mut sums = (0_i128, 0_i128, 0_u64);
        let mut count = 0;
        for (found, expected) in buckets.iter(side).zip(&expected) {
            assert_eq!(found, *expected, "{at}: {side:?} bucket of {}", buckets.size());
            sums = (sums.0 + found.quantity, sums.1 + found.notional, sums.2 + u64::from(found.levels));
            count += 1;
        }
        assert_eq!((buckets.iter(side).count(), count), (expected.len(), expected.len()), "{at}: {side:?} buckets");
        assert_eq!(sums, (quantity, notional, levels), "{at}: sums over {side:?} buckets of {}", buckets.size());
    }
}

fn check_book(replay: &Replay, naive: &NaiveVenue, native: &str, at: &str) {
    let expected = naive.instruments.get(native).and_then(|naive| naive.book.as_ref());
    let keeper = replay.keeper(native);
    let state = keeper.map_or(State::Empty, Keeper::state);
    assert_eq!(state == State::Live, expected.is_some(), "{at}: {native} is {state:?}");
    let (Some(keeper), Some(expected)) = (keeper, expected) else { return };
    let book = keeper.book();
    assert!(!book.is_crossed() && !keeper.is_crossed(), "{at}: {native} is crossed");
    same_book(book, expected, at);
    let key = replay.key(native).expect("it has a keeper");
    let own = replay.pipeline.buckets(key);
    assert!(!own.is_empty(), "{at}: {native} has no buckets");
    // The observed feed has a book of its own; it is the same one.
    let observed = replay.feed.keeper(key).expect("both feeds step the same records");
    assert_eq!(observed.book(), book, "{at}: {native}");
    for buckets in own.iter().chain(&replay.watch.buckets[&key]) {
        same_buckets(buckets, book, at);
    }
}

/// Trade rows say what the trades said: the nearest floats, and whether they print exactly.
fn check_trade_rows(replay: &mut Replay, expected: &[NaiveTrade]) {
    let cut = replay.pipeline.cut().expect("records were stepped");
    let names = ["native_symbol", "price", "size", "side", "trade_id", "history", "ts_event", "ts_recv", "rounded"];
    let found = rows(&cut, &cut.trades, names);
    assert_eq!(found.len(), expected.len(), "trade rows");
    for (row, trade) in found.iter().zip(expected) {
        let [native, price, size, side, id, history, ts_event, ts_recv, rounded] = row;
        assert_eq!((native.text(), id.text()), (trade.native.as_str(), trade.id.as_str()));
        assert_eq!(
            (price.float(), size.float()),
            (Exact::parse(&trade.price).float(), Exact::parse(&trade.size).float())
        );
        assert_eq!(side.text(), if trade.taker_buys { "buy" } else { "sell" }, "{trade:?}");
        assert_eq!((history.bool(), ts_event.int(), ts_recv.int()), (trade.history, trade.ts_event, trade.ts_recv));
        let prints = price.float().to_string() == trade.price && size.float().to_string() == trade.size;
        assert!(prints || rounded.bool(), "{trade:?} is rounded without saying so");
    }
    assert!(cut.gaps.is_empty(), "no gap row");
}

/// Replays a venue's capture; the figures are what the capture is known to hold.
fn agree(venue: &str, books: usize, deltas: u64, trades: usize) {
    let Some(frames) = support::capture(venue) else { return };
    let (mut replay, mut naive) = (Replay::new(venue), NaiveVenue::new(venue));
    for (number, frame) in frames.iter().enumerate() {
        let about = naive.frame(frame);
        replay.frame(frame);
        let at = format!("{venue} frame {number}");
        if let Some(native) = &about {
            check_book(&replay, &naive, native, &at);
        }
        if number % ALL_BOOKS_EVERY == 0 || number + 1 == frames.len() {
            naive.instruments.keys().for_each(|native| check_book(&replay, &naive, native, &at));
        }
        assert_eq!(replay.watch.trades.len(), naive.trades.len(), "{at}: trades");
        assert_eq!(replay.watch.trades.last(), naive.trades.last(), "{at}: trade");
        assert_eq!(replay.watch.gaps, [], "{at}");
        assert_eq!(replay.watch.errors, <[String; 0]>::default(), "{at}");
        let counts = replay.feed.counts(0);
        assert_eq!((counts.unknown, counts.errors), (0, 0), "{at}");
    }
    assert_eq!(replay.watch.trades, naive.trades);
    check_trade_rows(&mut replay, &naive.trades);
    assert!(!naive.instruments.values().any(|naive| naive.broken), "the recording itself is not continuous");
    let live = naive.instruments.values().filter(|naive| naive.book.is_some()).count();
    let applied: u64 = naive.instruments.values().map(|naive| naive.applied).sum();
    assert_eq!((live, applied, naive.trades.len()), (books, deltas, trades), "what {venue}'s capture holds");
}

#[test]
fn binance_futures_agrees_with_a_naive_book() {
    agree("binance_futures", 4, 752, 91);
}

#[test]
fn coinbase_agrees_with_a_naive_book() {
    agree("coinbase", 10, 9719, 107);
}

#[test]
fn kucoin_agrees_with_a_naive_book() {
    agree("kucoin", 9, 3805, 18);
}

#[test]
fn bitstamp_agrees_with_a_naive_book() {
    agree("bitstamp", 10, 615, 10);
}
