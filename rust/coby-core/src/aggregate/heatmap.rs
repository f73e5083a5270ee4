//! Heatmap columns: the buckets around the mid price at one moment, and a bounded ring of them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::bucket::Buckets;
use crate::level::Side;
use crate::record::Nanos;

/// The quantities in the buckets around the mid price.
///
/// Bid row `i` is bucket `mid_index - i`, ask row `i` is bucket `mid_index + 1 + i`; empty buckets read 0. Where the mid
/// price is a multiple of the bucket size, no ask of an uncrossed book falls into bucket `mid_index` itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The moment shown.
    pub time: Nanos,
    /// Bucket size: a mantissa at `price_scale`.
    pub bucket_size: i64,
    /// Decimals of `bucket_size`.
    pub price_scale: u8,
    /// Decimals of all quantities.
    pub size_scale: u8,
    /// The mid price divided by the bucket size, rounded down.
    pub mid_index: i64,
    /// Bid quantities from the mid price down.
    pub bids: Vec<i128>,
    /// Ask quantities from the mid price up.
    pub asks: Vec<i128>,
}

/// What a column is taken of: a book's best prices and scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Best bid: a mantissa at `price_scale`.
    pub bid: i64,
    /// Best ask: a mantissa at `price_scale`.
    pub ask: i64,
    /// Decimals of prices and of the bucket size.
    pub price_scale: u8,
    /// Decimals of sizes.
    pub size_scale: u8,
}

impl Column {
    /// Replaces the column by what `buckets` hold in `depth` rows a side. The mid price is half the sum of the best
    /// bid and ask, and is never rounded. Allocates only where a row count grows.
    pub fn fill(&mut self, time: Nanos, buckets: &Buckets, touch: Touch, depth: usize) {
        let twice_mid = i128::from(touch.bid) + i128::from(touch.ask);
        let twice_size = 2 * i128::from(buckets.size());
        self.time = time;
        self.bucket_size = buckets.size();
        self.price_scale = touch.price_scale;
        self.size_scale = touch.size_scale;
        self.mid_index = twice_mid.div_euclid(twice_size) as i64;
        let quantity = |side, index: Option<i64>| {
            index.and_then(|index| buckets.get(side, index)).map_or(0, |bucket| bucket.quantity)
        };
        let rows = 0..depth as i64;
        self.bids.clear();
        self.bids.extend(rows.clone().map(|row| quantity(Side::Bid, self.mid_index.checked_sub(row))));
        self.asks.clear();
        self.asks.extend(rows.map(|row| quantity(Side::Ask, self.mid_index.checked_add(row + 1))));
    }
}

/// The latest columns of one heatmap, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    capacity: usize,
    columns: VecDeque<Column>,
}

impl Ring {
    /// An empty ring of at most `capacity` columns, at least 1.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), columns: VecDeque::new() }
    }

    /// Appends a column that `fill` makes. A full ring hands `fill` its oldest column, whose buffers serve again.
    pub fn push_with(&mut self, fill: impl FnOnce(&mut Column)) {
        let mut column = Column::default();
        while self.columns.len() >= self.capacity {
            column = self.columns.pop_front().unwrap_or_default();
        }
        fill(&mut column);
        self.columns.push_back(column);
    }

    /// The columns, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Column> + ExactSizeIterator + '_ {
        self.columns.iter()
    }

    /// The newest column.
    pub fn latest(&self) -> Option<&Column> {
        self.columns.back()
    }

    /// How many columns there are.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether there is no column yet.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// The greatest number of columns kept.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all columns.
    pub fn clear(&mut self) {
        self.columns.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn touch(bid: i64, ask: i64) -> Touch {
        Touch { bid, ask, price_scale: 1, size_scale: 2 }
    }

    /// Sums the levels in a row by comparing prices with the row's edges, all doubled so that the mid price is whole.
    fn naive(levels: &BTreeMap<i64, i64>, side: Side, twice_mid: i128, width: i64, row: i128) -> i128 {
        let width = 2 * i128::from(width);
        let within = |price: i64| {
            let price = 2 * i128::from(price);
            match side {
                Side::Bid => {
                    let edge = twice_mid - twice_mid % width - row * width;
                    edge <= price && price < edge + width
                }
                Side::Ask => {
                    let edge = twice_mid - twice_mid % width + (row + 1) * width;
                    edge - width < price && price <= edge
                }
            }
        };
        levels.iter().filter(|(price, _)| within(**price)).map(|(_, size)| i128::from(*size)).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn rows_hold_the_levels_between_their_edges(
            bids in prop::collection::btree_map(1_i64..1_000, 1_i64..9, 1..60),
            asks in prop::collection::btree_map(900_i64..2_000, 1_i64..9, 1..60),
            size in 1_i64..60,
            depth in 0_usize..30,
        ) {
            let mut buckets = Buckets::new(size);
            for (price, quantity) in &bids {
                buckets.change(Side::Bid, *price, 0, *quantity);
            }
            for (price, quantity) in &asks {
                buckets.change(Side::Ask, *price, 0, *quantity);
            }
            let bid = *bids.keys().next_back().unwrap();
            let ask = *asks.keys().next().unwrap();
            let mut column = Column { bids: vec![7; 3], asks: vec![7; 40], ..Column::default() };
            column.fill(5, &buckets, touch(bid, ask), depth);

            let twice_mid = i128::from(bid + ask);
            prop_assert_eq!(column.bids.len(), depth);
            prop_assert_eq!(column.asks.len(), depth);
            for row in 0..depth {
                prop_assert_eq!(column.bids[row], naive(&bids, Side::Bid, twice_mid, size, row as i128));
                prop_assert_eq!(column.asks[row], naive(&asks, Side::Ask, twice_mid, size, row as i128));
            }
            prop_assert_eq!(column.mid_index, (bid + ask) / (2 * size));
            prop_assert_eq!((column.time, column.bucket_size, column.price_scale, column.size_scale), (5, size, 1, 2));
        }

        #[test]
        fn a_ring_keeps_the_latest(capacity in 0_usize..6, count in 0_i64..20) {
            let mut buckets = Buckets::new(1);
            let mut ring = Ring::new(capacity);
            let mut all = Vec::new();
            for time in 0..count {
                buckets.change(Side::Bid, 10 + time, 0, 1);
                let mut column = Column::default();
                column.fill(time, &buckets, touch(10 + time, 11 + time), 4);
                all.push(column);
                ring.push_with(|column| column.fill(time, &buckets, touch(10 + time, 11 + time), 4));
            }
            let kept = &all[all.len().saturating_sub(capacity.max(1))..];
            prop_assert!(ring.iter().eq(kept));
            prop_assert_eq!(ring.latest(), kept.last());
            let loaded: Ring = postcard::from_bytes(&postcard::to_allocvec(&ring).unwrap()).unwrap();
            prop_assert_eq!(loaded, ring);
        }
    }

    #[test]
    fn a_full_ring_uses_its_buffers_again() {
        let buckets = Buckets::new(1);
        let mut ring = Ring::new(2);
        let mut push = |time| ring.push_with(|column| column.fill(time, &buckets, touch(1, 2), 50));
        (0..2).for_each(&mut push);
        let addresses = |ring: &Ring| ring.iter().map(|c| (c.bids.as_ptr(), c.asks.as_ptr())).collect::<Vec<_>>();
        let before = addresses(&ring);
        (2..4).for_each(|time| ring.push_with(|column| column.fill(time, &buckets, touch(1, 2), 50)));
        assert_eq!(addresses(&ring), before);
    }

    #[test]
    fn rows_beyond_all_prices_are_empty() {
        let mut buckets = Buckets::new(1);
        buckets.change(Side::Bid, 1, 0, 5);
        buckets.change(Side::Ask, i64::MAX, 0, 6);
        let mut column = Column::default();
        column.fill(0, &buckets, touch(1, 1), 3);
        assert_eq!(column.bids, [5, 0, 0]);
        column.fill(0, &buckets, touch(i64::MAX - 2, i64::MAX), 3);
        assert_eq!((column.mid_index, column.asks), (i64::MAX - 1, vec![6, 0, 0]));
    }
}
