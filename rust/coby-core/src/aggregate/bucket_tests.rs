//! Incremental buckets against buckets recomputed from a map of levels.

use proptest::prelude::*;

use super::*;
use crate::level::{Digits, Level};

type Levels = BTreeMap<(Side, i64), i64>;

/// The definition, by division over 128 bits.
fn naive(levels: &Levels, wanted: Side, size: i64) -> Vec<Bucket> {
    let mut buckets: BTreeMap<i64, Bucket> = BTreeMap::new();
    for ((side, price), quantity) in levels {
        if *side == wanted {
            let (price, quantity, size) = (i128::from(*price), i128::from(*quantity), i128::from(size));
            let index = match side {
                Side::Bid => price / size,
                Side::Ask => (price + size - 1) / size,
            } as i64;
            let bucket = buckets.entry(index).or_insert(Bucket { index, quantity: 0, notional: 0, levels: 0 });
            bucket.quantity += quantity;
            bucket.notional += price * quantity;
            bucket.levels += 1;
        }
    }
    match wanted {
        Side::Bid => buckets.into_values().rev().collect(),
        Side::Ask => buckets.into_values().collect(),
    }
}

fn check(buckets: &[Buckets], levels: &Levels) {
    for buckets in buckets {
        for side in [Side::Bid, Side::Ask] {
            let expected = naive(levels, side, buckets.size());
            assert_eq!(buckets.iter(side).collect::<Vec<_>>(), expected, "{side:?} by {}", buckets.size());
            for bucket in expected.iter().step_by(7) {
                assert_eq!(buckets.get(side, bucket.index), Some(*bucket));
                let beside = bucket.index - 1;
                assert_eq!(buckets.get(side, beside), expected.iter().find(|b| b.index == beside).copied());
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    /// The touch moves by this much; the changes that follow are near it.
    Move(i64),
    /// A level at an offset from the touch.
    Near(Side, i64, i64),
    /// A level anywhere.
    Far(Side, i64, i64),
    /// Everything at a side's best prices vanishes, so the window has to follow down.
    Sweep(Side, usize),
    Widen(u8, u8),
    Reload,
    Clear,
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Bid), Just(Side::Ask)]
}

fn op() -> impl Strategy<Value = Op> {
    let size = || prop_oneof![1 => Just(0_i64), 2 => 1_i64..1_000_000];
    prop_oneof![
        4 => (-3_000_i64..3_000).prop_map(Op::Move),
        80 => (side(), -20_i64..600, size()).prop_map(|(side, offset, size)| Op::Near(side, offset, size)),
        6 => (side(), 1_i64..4_000_000, size()).prop_map(|(side, price, size)| Op::Far(side, price, size)),
        2 => (side(), 1_usize..400).prop_map(|(side, count)| Op::Sweep(side, count)),
        1 => (0_u8..2, 0_u8..2).prop_map(|(price, size)| Op::Widen(price, size)),
        2 => Just(Op::Reload),
        1 => Just(Op::Clear),
    ]
}

struct World {
    buckets: Vec<Buckets>,
    levels: Levels,
    touch: i64,
    scales: (u8, u8),
}

impl World {
    fn set(&mut self, side: Side, price: i64, quantity: i64) {
        let key = (side, price);
        let old = if quantity == 0 { self.levels.remove(&key) } else { self.levels.insert(key, quantity) };
        let old = old.unwrap_or(0);
        for buckets in &mut self.buckets {
            if price % 2 == 0 {
                buckets.change(side, price, old, quantity);
            } else {
                buckets.change_all(side, &[Level { price, size: quantity, digits: Digits::default() }], &[old]);
            }
        }
    }

    fn step(&mut self, op: &Op) {
        let unit = 10_i64.pow(self.scales.0.into());
        match *op {
            Op::Move(by) => self.touch = (self.touch + by).clamp(1, 1_000_000),
            Op::Near(side, offset, quantity) => {
                let price = match side {
                    Side::Bid => self.touch - offset,
                    Side::Ask => self.touch + offset,
                };
                self.set(side, price.max(1) * unit, quantity);
            }
            Op::Far(side, price, quantity) => self.set(side, price * unit, quantity),
            Op::Sweep(side, count) => {
                let mut prices: Vec<i64> = self.levels.keys().filter(|k| k.0 == side).map(|k| k.1).collect();
                if side == Side::Bid {
                    prices.reverse();
                }
                for price in prices.into_iter().take(count) {
                    self.set(side, price, 0);
                }
            }
            Op::Widen(price, size) => {
                if self.scales.0 + price <= 5 && self.scales.1 + size <= 5 {
                    self.scales = (self.scales.0 + price, self.scales.1 + size);
                    let (price, size) = (10_i64.pow(price.into()), 10_i64.pow(size.into()));
                    for buckets in &mut self.buckets {
                        buckets.rescale(price, size).unwrap();
                    }
                    let levels = std::mem::take(&mut self.levels);
                    self.levels = levels.into_iter().map(|((s, p), q)| ((s, p * price), q * size)).collect();
                }
            }
            Op::Reload => {
                for buckets in &mut self.buckets {
                    let bytes = postcard::to_allocvec(buckets).unwrap();
                    let loaded: Buckets = postcard::from_bytes(&bytes).unwrap();
                    assert_eq!(&loaded, buckets);
                    *buckets = loaded;
                }
            }
            Op::Clear => {
                self.levels.clear();
                self.buckets.iter_mut().for_each(Buckets::clear);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn buckets_equal_their_definition(
        sizes in prop::collection::vec(prop_oneof![Just(1), 1_i64..20, 1_i64..100_000], 1..4),
        ops in prop::collection::vec(op(), 1..500),
    ) {
        let buckets: Vec<Buckets> = sizes.into_iter().map(Buckets::new).collect();
        let mut world = World { buckets, levels: Levels::new(), touch: 5_000, scales: (0, 0) };
        for (n, op) in ops.iter().enumerate() {
            world.step(op);
            if n % 16 == 0 || !matches!(op, Op::Near(..)) {
                check(&world.buckets, &world.levels);
            }
        }
        check(&world.buckets, &world.levels);

        let (price_scale, size_scale) = world.scales;
        let mut book = Book::new(price_scale, size_scale, false);
        for ((side, price), size) in &world.levels {
            book.set(*side, Level { price: *price, size: *size, digits: Digits::default() });
        }
        for buckets in &world.buckets {
            let mut rebuilt = Buckets::new(buckets.size());
            rebuilt.change(Side::Bid, 1, 0, 1);
            rebuilt.rebuild(&book);
            prop_assert_eq!(&rebuilt, buckets);
        }
    }

    #[test]
    fn the_default_size_is_a_power_of_ten_below_two_basis_points(mid in 1..=i64::MAX) {
        let size = i128::from(default_bucket_size(mid));
        let power = size.ilog10();
        prop_assert_eq!(size, 10_i128.pow(power));
        prop_assert!(size == 1 || size * 5_000 <= i128::from(mid));
        prop_assert!(size * 10 * 5_000 > i128::from(mid));
    }
}

#[test]
fn extreme_prices_are_exact() {
    let mut levels = Levels::new();
    let mut buckets = vec![Buckets::new(1), Buckets::new(3), Buckets::new(i64::MAX)];
    for side in [Side::Bid, Side::Ask] {
        for price in [1, 2, i64::MAX / 2, i64::MAX - 1, i64::MAX, 3] {
            levels.insert((side, price), 2);
            for buckets in &mut buckets {
                buckets.change(side, price, 0, 2);
            }
            check(&buckets, &levels);
        }
    }
}

#[test]
fn a_bucket_size_that_outgrows_64_bits_is_an_error() {
    let mut buckets = Buckets::new(i64::MAX / 5);
    buckets.change(Side::Bid, 7, 0, 9);
    let before = buckets.clone();
    let error = ScaleError::Overflow { mantissa: i64::MAX / 5, factor: 10 };
    assert_eq!(buckets.rescale(10, 10), Err(error));
    assert_eq!(buckets, before);
}

/// A quote far above the touch takes the window with it; once it is gone the window returns.
#[test]
fn the_window_returns_to_the_touch() {
    let mut sums = Sums::new();
    sums.change(1_000, 1_000, 0, 5);
    sums.change(1_000_000, 1_000_000, 0, 1);
    sums.change(1_000_000, 1_000_000, 1, 0);
    for old in 5..5 + i64::from(PATIENCE) {
        sums.change(1_000, 1_000, old, old + 1);
    }
    assert!(sums.holds(1_000));
    assert!(sums.far.is_empty());
}

/// A dense side whose best falls far, several times, and climbs back: at every step each bucket stands in one place.
#[test]
fn the_window_follows_a_dense_side_both_ways() {
    let mut buckets = Buckets::new(2);
    let mut levels = Levels::new();
    let mut set = |side, price, new: i64| {
        let old = if new == 0 { levels.remove(&(side, price)) } else { levels.insert((side, price), new) };
        buckets.change(side, price, old.unwrap_or(0), new);
        if price % 37 == 0 {
            check(std::slice::from_ref(&buckets), &levels);
        }
    };
    for side in [Side::Bid, Side::Ask] {
        let price = |depth: i64| if side == Side::Bid { 4_000 - depth } else { depth + 1 };
        (0..3_000).for_each(|depth| set(side, price(depth), 1));
        for (from, to) in [(0, 700), (700, 960), (960, 2_900)] {
            (from..to).for_each(|depth| set(side, price(depth), 0));
            (to..3_000).rev().for_each(|depth| set(side, price(depth), to + depth));
        }
        (0..2_900).rev().for_each(|depth| set(side, price(depth), 3));
    }
}
