//! A price level and the side it stands on.

use serde::{Deserialize, Serialize};

/// A side of the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Side {
    /// Buyers; the best bid is the highest.
    Bid,
    /// Sellers; the best ask is the lowest.
    Ask,
}

impl Side {
    /// The other side.
    #[inline]
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Bid => Self::Ask,
            Self::Ask => Self::Bid,
        }
    }
}

/// Printed fraction digits of a level's price and size, kept only where a venue's checksum is
/// computed over the text it printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digits {
    /// Fraction digits of the price as printed.
    pub price: u8,
    /// Fraction digits of the size as printed.
    pub size: u8,
}

/// One price level: exact mantissas at the scales of whatever holds the level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Price mantissa, always positive.
    pub price: i64,
    /// Absolute size mantissa; zero removes the level.
    pub size: i64,
    /// Printed fraction digits, zero where the channel does not keep them.
    pub digits: Digits,
}
