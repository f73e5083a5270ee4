//! The book against a `BTreeMap`, over random histories that reach into the blocks and back.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::level::Digits;

/// The oracle: per side a map from price to size and digits.
#[derive(Clone, Default)]
struct Oracle {
    bids: BTreeMap<i64, (i64, Digits)>,
    asks: BTreeMap<i64, (i64, Digits)>,
}

impl Oracle {
    fn side(&mut self, side: Side) -> &mut BTreeMap<i64, (i64, Digits)> {
        match side {
            Side::Bid => &mut self.bids,
            Side::Ask => &mut self.asks,
        }
    }

    fn set(&mut self, side: Side, level: Level, keep: bool) -> i64 {
        let digits = if keep { level.digits } else { Digits::default() };
        let map = self.side(side);
        let old =
            if level.size == 0 { map.remove(&level.price) } else { map.insert(level.price, (level.size, digits)) };
        old.map_or(0, |(size, _)| size)
    }

    fn levels(&self, side: Side) -> Vec<Level> {
        let level =
            |(price, (size, digits)): (&i64, &(i64, Digits))| Level { price: *price, size: *size, digits: *digits };
        match side {
            Side::Bid => self.bids.iter().rev().map(level).collect(),
            Side::Ask => self.asks.iter().map(level).collect(),
        }
    }

    fn scale(&mut self, price: i64, size: i64) {
        for map in [&mut self.bids, &mut self.asks] {
            *map = std::mem::take(map).into_iter().map(|(p, (s, d))| (p * price, (s * size, d))).collect();
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Set(Side, Level),
    Run { side: Side, from: i64, count: i64, step: i64, size: i64 },
    Truncate(Side, usize),
    Widen(u8, u8),
    Reload,
    Clear,
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Bid), Just(Side::Ask)]
}

fn op() -> impl Strategy<Value = Op> {
    let digits = (0_u8..4, 0_u8..4).prop_map(|(price, size)| Digits { price, size });
    let level = (1_i64..6_000, prop_oneof![2 => Just(0), 3 => 1_i64..50], digits)
        .prop_map(|(price, size, digits)| Level { price, size, digits });
    prop_oneof![
        60 => (side(), level).prop_map(|(side, level)| Op::Set(side, level)),
        20 => (side(), 1_i64..6_000, 1_i64..3_000, prop_oneof![Just(1), Just(-1), Just(7)], 0_i64..3)
            .prop_map(|(side, from, count, step, size)| Op::Run { side, from, count, step, size }),
        6 => (side(), 0_usize..3_000).prop_map(|(side, depth)| Op::Truncate(side, depth)),
        1 => (0_u8..2, 0_u8..2).prop_map(|(price, size)| Op::Widen(price, size)),
        3 => Just(Op::Reload),
        1 => Just(Op::Clear),
    ]
}

fn check(book: &Book, oracle: &Oracle) {
    for side in [Side::Bid, Side::Ask] {
        let expected = oracle.levels(side);
        assert_eq!(book.levels(side).collect::<Vec<_>>(), expected);
        assert_eq!(book.len(side), expected.len());
        assert_eq!(book.best(side), expected.first().copied());
        let mut back: Vec<_> = book.levels(side).rev().collect();
        back.reverse();
        assert_eq!(back, expected);
        let mut top = vec![Level::default()];
        book.top(side, 5, &mut top);
        assert_eq!(top, expected[..expected.len().min(5)]);
    }
    assert_eq!(book.is_empty(), oracle.bids.is_empty() && oracle.asks.is_empty());
    let crossed = match (oracle.bids.keys().next_back(), oracle.asks.keys().next()) {
        (Some(bid), Some(ask)) => bid >= ask,
        _ => false,
    };
    assert_eq!(book.is_crossed(), crossed);
}

fn run(keep: bool, ops: Vec<Op>) {
    let mut book = Book::new(0, 0, keep);
    let mut oracle = Oracle::default();
    // Prices of later operations are given at scale 0 and follow the book's scale.
    for op in ops {
        let unit = 10_i64.pow(u32::from(book.price_scale()));
        match op {
            Op::Set(side, level) => {
                let level = Level { price: level.price * unit, ..level };
                assert_eq!(book.set(side, level), oracle.set(side, level, keep));
                assert_eq!(
                    book.get(side, level.price),
                    oracle.levels(side).into_iter().find(|l| l.price == level.price)
                );
            }
            Op::Run { side, from, count, step, size } => {
                let prices = (0..count).map(|n| from + n * step).filter(|price| (1..6_000).contains(price));
                let level = |price| Level { price: price * unit, size, digits: Digits::default() };
                let levels: Vec<Level> = prices.map(level).collect();
                let old = levels.iter().map(|level| oracle.set(side, *level, keep));
                let old: Vec<i64> = old.collect();
                assert_eq!(book.set_all(side, &levels), old);
            }
            Op::Truncate(side, depth) => {
                let mut expected = oracle.levels(side);
                let mut expected = expected.split_off(depth.min(expected.len()));
                expected.reverse();
                let mut removed = Vec::new();
                book.truncate(side, depth, |level| removed.push(level));
                assert_eq!(removed, expected);
                for level in removed {
                    oracle.side(side).remove(&level.price);
                }
            }
            Op::Widen(price, size) => {
                let scales = (book.price_scale() + price, book.size_scale() + size);
                if scales.0 <= 6 && scales.1 <= 6 {
                    book.rescale(scales.0, scales.1).unwrap();
                    oracle.scale(10_i64.pow(price.into()), 10_i64.pow(size.into()));
                    assert_eq!((book.price_scale(), book.size_scale()), scales);
                }
            }
            Op::Reload => {
                let bytes = postcard::to_allocvec(&book).unwrap();
                let loaded: Book = postcard::from_bytes(&bytes).unwrap();
                assert_eq!(loaded, book);
                assert_eq!(postcard::to_allocvec(&loaded).unwrap(), bytes);
                book = loaded;
            }
            Op::Clear => {
                book.clear();
                oracle = Oracle::default();
            }
        }
        check(&book, &oracle);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_side_is_a_sorted_map(keep: bool, ops in prop::collection::vec(op(), 1..60)) {
        run(keep, ops);
    }

    #[test]
    fn a_failed_rescale_changes_nothing(
        levels in prop::collection::vec((side(), 1_i64..i64::MAX, 1_i64..i64::MAX), 1..40),
        price in 0_u8..20,
        size in 0_u8..20,
    ) {
        let mut book = Book::new(1, 1, false);
        for (side, price, size) in &levels {
            book.set(*side, Level { price: *price, size: *size, digits: Digits::default() });
        }
        let before = book.clone();
        let wide = |mantissa: i64, scale: u8| i128::from(mantissa) * 10_i128.pow(u32::from(scale) - 1);
        let possible = (1..=MAX_SCALE).contains(&price) && (1..=MAX_SCALE).contains(&size)
            && book.levels(Side::Bid).chain(book.levels(Side::Ask))
                .all(|l| wide(l.price, price).max(wide(l.size, size)) <= i128::from(i64::MAX));
        prop_assert_eq!(book.rescale(price, size).is_ok(), possible);
        if !possible {
            prop_assert_eq!(&book, &before);
        }
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let mut book = Book::new(2, 3, false);
    assert_eq!(book.rescale(1, 3), Err(ScaleError::Narrower { from: 2, to: 1 }));
    assert_eq!(book.rescale(2, 19), Err(ScaleError::TooWide { to: 19 }));
    book.set(Side::Ask, Level { price: i64::MAX, size: 1, digits: Digits::default() });
    assert_eq!(book.rescale(3, 3), Err(ScaleError::Overflow { mantissa: i64::MAX, factor: 10 }));
}

/// A stream of insertions and removals that walks a deep book far away leaves no litter of small blocks.
#[test]
fn blocks_stay_filled() {
    let mut side = Ladder::new(false);
    let entry = |key, size| Entry { key, size, digits: Digits::default() };
    for key in 0..20_000 {
        side.set(entry(key, 1));
    }
    for key in (0..20_000).filter(|key| key % 100 != 0) {
        side.set(entry(key, 0));
    }
    assert_eq!(side.len(), 200);
    assert!(side.runs().count() <= 4, "{} runs for 200 levels", side.runs().count());
}
