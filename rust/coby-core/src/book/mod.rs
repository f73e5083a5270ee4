//! One instrument's order book: exact absolute sizes per price level.
//!
//! The best levels lie in one sorted run, since most changes are near the touch; levels behind them in short blocks, so
//! that a change there costs little as well.

mod ladder;
mod run;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::level::{Level, Side};
use ladder::Ladder;
use run::{Entry, Run};

use crate::decimal::{MAX_SCALE, POW10};

/// A book could not be brought to other scales; it is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ScaleError {
    /// Fewer decimals were asked for than the book has: that could round.
    #[error("scale {from} cannot become {to}: scales only widen")]
    Narrower {
        /// The scale in use.
        from: u8,
        /// The scale asked for.
        to: u8,
    },
    /// The scale is above [`MAX_SCALE`].
    #[error("scale {to} is above {MAX_SCALE}")]
    TooWide {
        /// The scale asked for.
        to: u8,
    },
    /// A mantissa does not fit an `i64` at the new scale.
    #[error("mantissa {mantissa} times {factor} does not fit 64 bits")]
    Overflow {
        /// The mantissa at the old scale.
        mantissa: i64,
        /// By how much it would grow.
        factor: i64,
    },
}

/// What a mantissa at scale `from` is multiplied with to stand at scale `to`.
pub fn widening(from: u8, to: u8) -> Result<i64, ScaleError> {
    if to > MAX_SCALE {
        return Err(ScaleError::TooWide { to });
    }
    let digits = to.checked_sub(from).ok_or(ScaleError::Narrower { from, to })?;
    Ok(POW10[digits as usize])
}

/// What sides are sorted by: ascending keys are ever better prices. The complement reverses the order
/// of all `i64` and is its own inverse.
#[inline]
fn key(side: Side, price: i64) -> i64 {
    match side {
        Side::Bid => price,
        Side::Ask => !price,
    }
}

#[inline]
fn to_level(side: Side, entry: Entry) -> Level {
    Level { price: key(side, entry.key), size: entry.size, digits: entry.digits }
}

/// An order book of exact `i64` mantissas.
///
/// Prices are positive and sizes never negative: whoever decodes a venue's text refuses the rest. Two
/// books are equal when their scales and levels are. Serialised as its levels, so equal books have equal encodings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "Saved", from = "Saved")]
pub struct Book {
    price_scale: u8,
    size_scale: u8,
    keep_digits: bool,
    bids: Ladder,
    asks: Ladder,
    /// What [`Book::set_all`] returns.
    old: Vec<i64>,
}

impl Book {
    /// An empty book whose prices and sizes have the given numbers of decimals (0 to [`MAX_SCALE`]).
    /// Printed digits are kept per level only with `keep_digits`; without, [`Level::digits`] reads as zero.
    pub fn new(price_scale: u8, size_scale: u8, keep_digits: bool) -> Self {
        let side = || Ladder::new(keep_digits);
        Self { price_scale, size_scale, keep_digits, bids: side(), asks: side(), old: Vec::new() }
    }

    /// Decimals of every price mantissa.
    pub fn price_scale(&self) -> u8 {
        self.price_scale
    }

    /// Decimals of every size mantissa.
    pub fn size_scale(&self) -> u8 {
        self.size_scale
    }

    /// Whether printed digits are kept per level.
    pub fn keeps_digits(&self) -> bool {
        self.keep_digits
    }

    #[inline]
    fn ladder(&self, side: Side) -> &Ladder {
        match side {
            Side::Bid => &self.bids,
            Side::Ask => &self.asks,
        }
    }

    #[inline]
    fn ladder_mut(&mut self, side: Side) -> &mut Ladder {
        match side {
            Side::Bid => &mut self.bids,
            Side::Ask => &mut self.asks,
        }
    }

    /// Sets a level to an absolute size, 0 removing it; returns the old size, 0 where there was no level.
    #[inline]
    pub fn set(&mut self, side: Side, level: Level) -> i64 {
        let entry = Entry { key: key(side, level.price), size: level.size, digits: level.digits };
        self.ladder_mut(side).set(entry)
    }

    /// Sets levels one after the other; returns their old sizes.
    #[inline]
    pub fn set_all(&mut self, side: Side, levels: &[Level]) -> &[i64] {
        let (ladder, old) = match side {
            Side::Bid => (&mut self.bids, &mut self.old),
            Side::Ask => (&mut self.asks, &mut self.old),
        };
        old.clear();
        // As `key` does, without asking for the side each time.
        let complement = key(side, 0);
        let entry = |level: &Level| Entry { key: level.price ^ complement, size: level.size, digits: level.digits };
        if ladder.len() == 0 && levels.is_sorted_by(|a, b| a.price ^ complement > b.price ^ complement) {
            // A snapshot, best first: from its end, nothing has to move.
            if levels.iter().all(|level| level.size != 0) {
                ladder.fill(levels.iter().rev().map(entry));
            } else {
                for level in levels.iter().rev() {
                    ladder.set(entry(level));
                }
            }
            old.resize(levels.len(), 0);
        } else {
            old.extend(levels.iter().map(|level| ladder.set(entry(level))));
        }
        old
    }

    /// The level at `price`.
    pub fn get(&self, side: Side, price: i64) -> Option<Level> {
        self.ladder(side).get(key(side, price)).map(|entry| to_level(side, entry))
    }

    /// The highest bid or the lowest ask.
    #[inline]
    pub fn best(&self, side: Side) -> Option<Level> {
        self.ladder(side).best().map(|entry| to_level(side, entry))
    }

    /// The number of levels on a side.
    #[inline]
    pub fn len(&self, side: Side) -> usize {
        self.ladder(side).len()
    }

    /// Whether both sides are empty.
    pub fn is_empty(&self) -> bool {
        self.bids.len() == 0 && self.asks.len() == 0
    }

    /// Removes every level; scales stay.
    pub fn clear(&mut self) {
        self.bids.clear();
        self.asks.clear();
    }

    /// The levels of a side, best first.
    pub fn levels(&self, side: Side) -> impl DoubleEndedIterator<Item = Level> + '_ {
        let runs = self.ladder(side).runs().rev();
        runs.flat_map(Run::iter).map(move |entry| to_level(side, entry))
    }

    /// Replaces the content of `out` by the best `count` levels of a side, best first.
    pub fn top(&self, side: Side, count: usize, out: &mut Vec<Level>) {
        out.clear();
        out.extend(self.ladder(side).top(count).map(|entry| to_level(side, entry)));
    }

    /// Removes every level worse than the best `depth`, telling `removed` of each, worst first.
    pub fn truncate(&mut self, side: Side, depth: usize, mut removed: impl FnMut(Level)) {
        let ladder = self.ladder_mut(side);
        let excess = ladder.len().saturating_sub(depth);
        if excess > 0 {
            ladder.remove_worst(excess, &mut |entry| removed(to_level(side, entry)));
        }
    }

    /// Whether the best bid is at or above the best ask.
    #[inline]
    pub fn is_crossed(&self) -> bool {
        match (self.best(Side::Bid), self.best(Side::Ask)) {
            (Some(bid), Some(ask)) => bid.price >= ask.price,
            _ => false,
        }
    }

    /// Brings every mantissa to wider scales, exactly. On an error the book is unchanged.
    pub fn rescale(&mut self, price_scale: u8, size_scale: u8) -> Result<(), ScaleError> {
        let price_factor = widening(self.price_scale, price_scale)?;
        let size_factor = widening(self.size_scale, size_scale)?;
        if (price_factor, size_factor) == (1, 1) {
            return Ok(());
        }
        let fits = |mantissa: i64, factor: i64| match mantissa.checked_mul(factor) {
            Some(_) => Ok(()),
            None => Err(ScaleError::Overflow { mantissa, factor }),
        };
        for level in self.levels(Side::Bid).chain(self.levels(Side::Ask)) {
            fits(level.price, price_factor)?;
            fits(level.size, size_factor)?;
        }
        for side in [Side::Bid, Side::Ask] {
            let new_key = |old: i64| key(side, key(side, old) * price_factor);
            self.ladder_mut(side).map(new_key, |size| size * size_factor);
        }
        self.price_scale = price_scale;
        self.size_scale = size_scale;
        Ok(())
    }
}

impl PartialEq for Book {
    fn eq(&self, other: &Self) -> bool {
        self.price_scale == other.price_scale
            && self.size_scale == other.size_scale
            && self.levels(Side::Bid).eq(other.levels(Side::Bid))
            && self.levels(Side::Ask).eq(other.levels(Side::Ask))
    }
}

impl Eq for Book {}

/// A book as it is stored. Levels stand worst first: loading then only ever appends.
#[derive(Serialize, Deserialize)]
struct Saved {
    price_scale: u8,
    size_scale: u8,
    keep_digits: bool,
    bids: Vec<Level>,
    asks: Vec<Level>,
}

impl From<Book> for Saved {
    fn from(book: Book) -> Self {
        Self {
            price_scale: book.price_scale,
            size_scale: book.size_scale,
            keep_digits: book.keep_digits,
            bids: book.levels(Side::Bid).rev().collect(),
            asks: book.levels(Side::Ask).rev().collect(),
        }
    }
}

impl From<Saved> for Book {
    fn from(saved: Saved) -> Self {
        let mut book = Self::new(saved.price_scale, saved.size_scale, saved.keep_digits);
        for level in saved.bids {
            book.set(Side::Bid, level);
        }
        for level in saved.asks {
            book.set(Side::Ask, level);
        }
        book
    }
}

#[cfg(test)]
mod tests;
