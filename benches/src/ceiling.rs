//! What a hand-made reader of one message shape reaches: no checks, no names, one sorted `Vec` a side.
//!
//! It takes for granted the exact key order and spelling of the recording. It is what the real path is
//! measured against, not something to use.

/// One side: prices ascending towards the best, sizes beside them.
#[derive(Default)]
pub struct VecSide {
    prices: Vec<i64>,
    sizes: Vec<i64>,
}

impl VecSide {
    /// Sets a level; zero removes.
    #[inline]
    pub fn set(&mut self, price: i64, size: i64) {
        match self.prices.binary_search(&price) {
            Ok(at) if size == 0 => {
                self.prices.remove(at);
                self.sizes.remove(at);
            }
            Ok(at) => self.sizes[at] = size,
            Err(_) if size == 0 => {}
            Err(at) => {
                self.prices.insert(at, price);
                self.sizes.insert(at, size);
            }
        }
    }

    /// The best price.
    #[inline]
    pub fn best(&self) -> i64 {
        self.prices.last().copied().unwrap_or(0)
    }

    /// Empties the side.
    pub fn clear(&mut self) {
        self.prices.clear();
        self.sizes.clear();
    }
}

/// Bids, and asks by negated price.
#[derive(Default)]
pub struct VecBook {
    /// Bids.
    pub bids: VecSide,
    /// Asks, prices negated.
    pub asks: VecSide,
}

/// Digits up to `end`, the point ignored: right for texts that all have the same number of decimals.
#[inline]
fn digits(bytes: &[u8], at: &mut usize, end: u8) -> i64 {
    let mut value = 0;
    while bytes[*at] != end {
        if bytes[*at] != b'.' {
            value = value * 10 + i64::from(bytes[*at] - b'0');
        }
        *at += 1;
    }
    *at += 1;
    value
}

/// `[["p","q"],…]`, the cursor behind the first bracket.
#[inline]
fn pairs(bytes: &[u8], at: &mut usize, mut set: impl FnMut(i64, i64)) {
    while bytes[*at] == b'[' || bytes[*at] == b',' {
        *at += 2 + usize::from(bytes[*at] == b',');
        let price = digits(bytes, at, b'"');
        *at += 2;
        let size = digits(bytes, at, b'"');
        *at += 1;
        set(price, size);
    }
    *at += 1;
}

/// Reads a Binance futures depth frame into the book that `index` names; the number of levels set.
#[inline]
pub fn binance_futures_depth(bytes: &[u8], books: &mut [VecBook], index: impl FnOnce(&[u8]) -> usize) -> usize {
    // {"stream":"
    let mut at = 11;
    while bytes[at] != b'@' {
        at += 1;
    }
    if !bytes[at..].starts_with(b"@depth") {
        return 0;
    }
    // @depth@100ms","data":{"e":"depthUpdate","E":
    at += 44;
    let _pushed = digits(bytes, &mut at, b',');
    at += 4;
    let _time = digits(bytes, &mut at, b',');
    at += 5;
    let start = at;
    while bytes[at] != b'"' {
        at += 1;
    }
    let symbol = &bytes[start..at];
    at += 2 + 4;
    let _first = digits(bytes, &mut at, b',');
    at += 4;
    let _last = digits(bytes, &mut at, b',');
    at += 5;
    let _previous = digits(bytes, &mut at, b',');
    at += 5;
    let book = &mut books[index(symbol)];
    let mut levels = 0;
    pairs(bytes, &mut at, |price, size| {
        book.bids.set(price, size);
        levels += 1;
    });
    at += 6;
    pairs(bytes, &mut at, |price, size| {
        book.asks.set(-price, size);
        levels += 1;
    });
    levels
}
