//! Price buckets, kept up to date change by change.
//!
//! A bucket is a price range of fixed size on one side: bids round down to its index, asks up, so a
//! bucket never shows liquidity at a better price than it has. Edges are integer arithmetic.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::divider::Divider;
use crate::book::{Book, ScaleError};
use crate::level::{Level, Side};

/// Buckets a side that lie flat in memory, from the best one downwards; a power of two. Fixed, so that one far
/// quote cannot make a side large; what is further away waits in a map.
const WINDOW: usize = 256;

/// Changes beyond the window between two looks at whether the best bucket has moved away from it.
const PATIENCE: u32 = 64;

/// One non-empty bucket of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// The price divided by the bucket size, rounded down for bids and up for asks.
    pub index: i64,
    /// Sum of sizes, at the book's size scale.
    pub quantity: i128,
    /// Sum of price times size, at the sum of both scales.
    pub notional: i128,
    /// Number of levels, at least 1.
    pub levels: u32,
}

/// A bucket's sums. Sums wrap: a change taken back then always restores them, and a notional past 2^127 needs
/// prices and sizes that both fill their 63 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cell {
    quantity: i128,
    notional: i128,
    levels: u32,
}

impl Cell {
    const EMPTY: Self = Self { quantity: 0, notional: 0, levels: 0 };

    #[inline]
    fn change(&mut self, price: i64, old: i64, new: i64) {
        let delta = new.wrapping_sub(old);
        self.quantity = self.quantity.wrapping_add(i128::from(delta));
        self.notional = self.notional.wrapping_add(i128::from(price) * i128::from(delta));
        self.levels = self.levels.wrapping_add(u32::from(new != 0)).wrapping_sub(u32::from(old != 0));
    }

    fn scale(&mut self, price_factor: i64, size_factor: i64) {
        self.quantity = self.quantity.wrapping_mul(i128::from(size_factor));
        self.notional = self.notional.wrapping_mul(i128::from(price_factor)).wrapping_mul(i128::from(size_factor));
    }
}

/// One side's buckets by key, where a greater key is better: the index for bids, its complement for asks.
///
/// The window is a ring that holds the keys `top - WINDOW + 1 ..= top`; everything in `far` is below it.
/// `top` follows a better key at once; it follows the best key down only when changes miss the window. Below `low` the
/// window is empty, and all of it where that is above `top`: whole books that come again and again are small.
#[derive(Clone, Debug)]
struct Sums {
    window: Box<[Cell; WINDOW]>,
    top: i64,
    low: i64,
    far: BTreeMap<i64, Cell>,
    misses: u32,
}

#[inline]
fn slot(key: i64) -> usize {
    key as usize & (WINDOW - 1)
}

/// The lowest key that a window with this top holds.
#[inline]
fn lowest_of(top: i64) -> i64 {
    top.saturating_sub(WINDOW as i64 - 1)
}

impl Sums {
    fn new() -> Self {
        Self { window: Box::new([Cell::EMPTY; WINDOW]), top: i64::MIN, low: i64::MAX, far: BTreeMap::new(), misses: 0 }
    }

    fn clear(&mut self) {
        for key in self.low..=self.top {
            self.window[slot(key)] = Cell::EMPTY;
        }
        (self.top, self.low) = (i64::MIN, i64::MAX);
        self.far.clear();
        self.misses = 0;
    }

    /// Whether the window holds `key`. A key above the top wraps round to a great distance.
    #[inline]
    fn holds(&self, key: i64) -> bool {
        (self.top.wrapping_sub(key) as u64) < WINDOW as u64
    }

    #[inline]
    fn change(&mut self, key: i64, price: i64, old: i64, new: i64) {
        if !self.holds(key) {
            if key < self.top {
                return self.change_far(key, price, old, new);
            }
            self.raise(key);
        }
        self.low = self.low.min(key);
        self.window[slot(key)].change(price, old, new);
    }

    #[cold]
    fn change_far(&mut self, key: i64, price: i64, old: i64, new: i64) {
        let cell = self.far.entry(key).or_default();
        cell.change(price, old, new);
        if cell.levels == 0 {
            self.far.remove(&key);
        }
        self.misses += 1;
        if self.misses >= PATIENCE {
            self.misses = 0;
            self.follow();
        }
    }

    /// Moves the window up to a better key; what falls out at the lower end goes to `far`.
    #[cold]
    fn raise(&mut self, top: i64) {
        if self.low > self.top {
            self.top = top;
            return;
        }
        let rise = (top.wrapping_sub(self.top) as u64).min(WINDOW as u64) as i64;
        let lowest = self.top.wrapping_sub(WINDOW as i64 - 1);
        for key in (0..rise).map(|n| lowest.wrapping_add(n)) {
            let cell = std::mem::take(&mut self.window[slot(key)]);
            if cell.levels > 0 {
                self.far.insert(key, cell);
            }
        }
        self.top = top;
        self.low = self.low.max(lowest_of(top));
    }

    /// Moves the window down where its upper half is empty, so that the best bucket is its top again.
    fn follow(&mut self) {
        let best = self.near().next().map(|(key, _)| key).or_else(|| self.far.keys().next_back().copied());
        let Some(best) = best.filter(|best| self.top.wrapping_sub(*best) as u64 >= WINDOW as u64 / 2) else {
            return;
        };
        // The slots above the best are empty: only buckets from `far` can come in.
        self.top = best;
        self.low = lowest_of(best);
        let mut inside = self.far.split_off(&self.low);
        while let Some((key, cell)) = inside.pop_first() {
            self.window[slot(key)] = cell;
        }
    }

    fn near(&self) -> impl Iterator<Item = (i64, &Cell)> + '_ {
        (self.low..=self.top).rev().map(|key| (key, &self.window[slot(key)])).filter(|(_, cell)| cell.levels > 0)
    }

    fn iter(&self) -> impl Iterator<Item = (i64, &Cell)> + '_ {
        self.near().chain(self.far.iter().rev().map(|(key, cell)| (*key, cell)))
    }

    fn get(&self, key: i64) -> Option<&Cell> {
        if self.holds(key) { Some(&self.window[slot(key)]).filter(|cell| cell.levels > 0) } else { self.far.get(&key) }
    }

    fn insert(&mut self, key: i64, cell: Cell) {
        if !self.holds(key) {
            if key < self.top {
                self.far.insert(key, cell);
                return;
            }
            self.raise(key);
        }
        self.low = self.low.min(key);
        self.window[slot(key)] = cell;
    }

    fn scale(&mut self, price_factor: i64, size_factor: i64) {
        self.window.iter_mut().chain(self.far.values_mut()).for_each(|cell| cell.scale(price_factor, size_factor));
    }
}

/// Keys order a side's indices from worst to best; the complement is its own inverse.
#[inline]
fn key(side: Side, index: i64) -> i64 {
    match side {
        Side::Bid => index,
        Side::Ask => !index,
    }
}

/// The buckets of one book at one bucket size.
///
/// Fed with every level change of the book, the sums over all buckets equal the sums over all levels at any time.
/// Prices are positive, sizes never negative. Two values are equal when their bucket sizes and buckets are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "Saved", from = "Saved")]
pub struct Buckets {
    size: Divider,
    bids: Sums,
    asks: Sums,
}

impl Buckets {
    /// No buckets, each to be `size` wide: a mantissa at the book's price scale. A size below 1 counts as 1.
    pub fn new(size: i64) -> Self {
        Self { size: Divider::new(size), bids: Sums::new(), asks: Sums::new() }
    }

    /// The bucket size: a mantissa at the book's price scale.
    pub fn size(&self) -> i64 {
        self.size.divisor()
    }

    /// The index of the bucket that a price belongs to.
    #[inline]
    pub fn index(&self, side: Side, price: i64) -> i64 {
        match side {
            Side::Bid => self.size.floor(price),
            Side::Ask => self.size.ceil(price),
        }
    }

    #[inline]
    fn sums(&self, side: Side) -> &Sums {
        match side {
            Side::Bid => &self.bids,
            Side::Ask => &self.asks,
        }
    }

    /// The level at `price` went from size `old` to size `new`, 0 standing for no level.
    #[inline]
    pub fn change(&mut self, side: Side, price: i64, old: i64, new: i64) {
        if old == new {
            return;
        }
        let key = key(side, self.index(side, price));
        let sums = match side {
            Side::Bid => &mut self.bids,
            Side::Ask => &mut self.asks,
        };
        sums.change(key, price, old, new);
    }

    /// Levels of a side went from sizes `old` to the sizes they have.
    #[inline]
    pub fn change_all(&mut self, side: Side, levels: &[Level], old: &[i64]) {
        let size = self.size;
        let sums = match side {
            Side::Bid => &mut self.bids,
            Side::Ask => &mut self.asks,
        };
        // -1 for asks: what `index` and `key` do, without asking for the side each time.
        let ask = key(side, 0);
        for (level, old) in levels.iter().zip(old) {
            if *old != level.size {
                let key = (size.floor(level.price + ask) ^ ask) + ask;
                sums.change(key, level.price, *old, level.size);
            }
        }
    }

    /// The non-empty buckets of a side, best first.
    pub fn iter(&self, side: Side) -> impl Iterator<Item = Bucket> + '_ {
        self.sums(side).iter().map(move |(found, cell)| bucket(key(side, found), cell))
    }

    /// The bucket at `index`, where it is not empty.
    pub fn get(&self, side: Side, index: i64) -> Option<Bucket> {
        self.sums(side).get(key(side, index)).map(|cell| bucket(index, cell))
    }

    /// Empties every bucket.
    pub fn clear(&mut self) {
        self.bids.clear();
        self.asks.clear();
    }

    /// Follows a book whose prices and sizes were multiplied with these positive factors: the bucket size
    /// widens with the price, so every level stays in its bucket. Fails, changing nothing, where the bucket size
    /// does not fit an `i64`.
    pub fn rescale(&mut self, price_factor: i64, size_factor: i64) -> Result<(), ScaleError> {
        let old = self.size.divisor();
        let size = old.checked_mul(price_factor);
        let size = size.ok_or(ScaleError::Overflow { mantissa: old, factor: price_factor })?;
        self.size = Divider::new(size);
        self.bids.scale(price_factor, size_factor);
        self.asks.scale(price_factor, size_factor);
        Ok(())
    }

    /// Replaces the content by the levels of `book`.
    pub fn rebuild(&mut self, book: &Book) {
        self.clear();
        for side in [Side::Bid, Side::Ask] {
            for level in book.levels(side) {
                self.change(side, level.price, 0, level.size);
            }
        }
    }
}

fn bucket(index: i64, cell: &Cell) -> Bucket {
    Bucket { index, quantity: cell.quantity, notional: cell.notional, levels: cell.levels }
}

impl PartialEq for Buckets {
    fn eq(&self, other: &Self) -> bool {
        self.size == other.size
            && self.iter(Side::Bid).eq(other.iter(Side::Bid))
            && self.iter(Side::Ask).eq(other.iter(Side::Ask))
    }
}

impl Eq for Buckets {}

/// Buckets as they are stored, best first.
#[derive(Serialize, Deserialize)]
struct Saved {
    size: i64,
    bids: Vec<Bucket>,
    asks: Vec<Bucket>,
}

impl From<Buckets> for Saved {
    fn from(buckets: Buckets) -> Self {
        Self { size: buckets.size(), bids: buckets.iter(Side::Bid).collect(), asks: buckets.iter(Side::Ask).collect() }
    }
}

impl From<Saved> for Buckets {
    fn from(saved: Saved) -> Self {
        let mut buckets = Self::new(saved.size);
        let cell = |b: &Bucket| Cell { quantity: b.quantity, notional: b.notional, levels: b.levels };
        for bid in &saved.bids {
            buckets.bids.insert(key(Side::Bid, bid.index), cell(bid));
        }
        for ask in &saved.asks {
            buckets.asks.insert(key(Side::Ask, ask.index), cell(ask));
        }
        buckets
    }
}

/// A bucket size for an asset that has none configured: the greatest power of ten that is at most
/// `mid * 2e-4`, at least 1; both are mantissas at one price scale.
///
/// That is 0.2 to 2 basis points of the price: about $10 for a price of $60,000, so that 50 buckets show some 0.1
/// to 1 percent of a side. Being a power of ten it is one at every scale, unless the scale is too coarse to hold it.
pub fn default_bucket_size(mid: i64) -> i64 {
    let limit = mid / 5_000;
    let mut size = 1_i64;
    while size <= limit / 10 {
        size *= 10;
    }
    size
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
