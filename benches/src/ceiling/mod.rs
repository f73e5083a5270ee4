//! What a hand-made reader of one message shape reaches: no checks, no sequence, one sorted `Vec` a side.
//!
//! Each takes for granted the exact key order and spelling of its recording. They are what the real path is measured
//! against, not something to use.

mod binance;
mod binance_futures;
mod bitfinex;
mod bitget;
mod bitstamp;
mod bybit;
mod coinbase;
mod cryptocom;
mod deribit;
mod dydx;
mod gateio;
mod gemini;
mod htx;
mod hyperliquid;
mod kraken;
mod kucoin;
mod mexc;
mod okx;
mod upbit;

use coby_core::book::Book;
use coby_core::decimal::{Decimal, POW10};
use coby_core::level::Side;
use miniz_oxide::inflate::core::inflate_flags::{TINFL_FLAG_IGNORE_ADLER32, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// One side: prices ascending towards the best, sizes beside them.
#[derive(Clone, Default)]
struct VecSide {
    prices: Vec<i64>,
    sizes: Vec<i64>,
}

impl VecSide {
    #[inline]
    fn set(&mut self, price: i64, size: i64) {
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

    /// Keeps the best `depth` levels.
    #[inline]
    fn cut(&mut self, depth: usize) {
        if self.prices.len() > depth {
            let beyond = self.prices.len() - depth;
            self.prices.drain(..beyond);
            self.sizes.drain(..beyond);
        }
    }

    /// Forgets all levels: those of the whole book follow, best first, and then [`Self::turn`].
    #[inline]
    fn clear(&mut self) {
        self.prices.clear();
        self.sizes.clear();
    }

    #[inline]
    fn push(&mut self, price: i64, size: i64) {
        self.prices.push(price);
        self.sizes.push(size);
    }

    #[inline]
    fn turn(&mut self) {
        self.prices.reverse();
        self.sizes.reverse();
    }
}

/// Bids, and asks by negated price.
#[derive(Clone, Default)]
struct VecBook {
    bids: VecSide,
    asks: VecSide,
}

/// The instruments and books that a ceiling starts from.
#[derive(Clone, Default)]
pub struct Market {
    names: Vec<Vec<u8>>,
    digits: Vec<(u8, u8)>,
    books: Vec<VecBook>,
    /// Books by the numbers that their subscriptions got.
    channels: Vec<(i64, usize)>,
    inflater: Inflater,
}

/// Gzip without its checks.
#[derive(Clone, Default)]
pub struct Inflater {
    state: Option<Box<DecompressorOxide>>,
    out: Vec<u8>,
}

impl Inflater {
    /// What is in a frame of at most 64 KiB with a plain header.
    pub fn inflate(&mut self, bytes: &[u8]) -> &[u8] {
        let state = self.state.get_or_insert_default();
        state.init();
        self.out.resize(1 << 16, 0);
        let flags = TINFL_FLAG_IGNORE_ADLER32 | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (_, _, end) = decompress(state, &bytes[10..], &mut self.out, 0, flags);
        &self.out[..end]
    }
}

impl Market {
    /// Adds an instrument that prints so many decimals of price and size.
    pub fn add(&mut self, name: &[u8], digits: (u8, u8), book: &Book) {
        let mut sorted = VecBook::default();
        for (side, out) in [(Side::Bid, &mut sorted.bids), (Side::Ask, &mut sorted.asks)] {
            for level in book.levels(side).rev() {
                let at = |mantissa, scale, digits| {
                    Decimal::new(mantissa, scale).at_scale(digits).expect("an instrument prints what its book has")
                };
                let price = at(level.price, book.price_scale(), digits.0);
                out.prices.push(if side == Side::Bid { price } else { -price });
                out.sizes.push(at(level.size, book.size_scale(), digits.1));
            }
        }
        self.names.push(name.to_vec());
        self.digits.push(digits);
        self.books.push(sorted);
    }

    /// Takes what a frame before the books were live says of those behind it.
    pub fn learn(&mut self, frame: &[u8]) {
        bitfinex::learn(self, frame);
    }

    /// Decimals of the prices and sizes of instrument `at`.
    pub fn digits(&self, at: usize) -> (u8, u8) {
        self.digits[at]
    }
}

/// A ceiling and its books.
pub struct Ceiling {
    market: Market,
    apply: fn(&mut Market, &[u8]),
}

impl Ceiling {
    /// The ceiling of `venue`, starting at `market`.
    pub fn new(venue: &str, market: &Market) -> Self {
        let apply = match venue {
            "binance" => binance::apply,
            "binance_futures" => binance_futures::apply,
            "bitfinex" => bitfinex::apply,
            "bitget" => bitget::apply,
            "bitstamp" => bitstamp::apply,
            "bybit" => bybit::apply,
            "coinbase" => coinbase::apply,
            "cryptocom" => cryptocom::apply,
            "deribit" => deribit::apply,
            "dydx" => dydx::apply,
            "gateio" => gateio::apply,
            "gemini" => gemini::apply,
            "htx" => htx::apply,
            "hyperliquid" => hyperliquid::apply,
            "kraken" => kraken::apply,
            "kucoin" => kucoin::apply,
            "mexc" => mexc::apply,
            "okx" => okx::apply,
            "upbit" => upbit::apply,
            other => panic!("no ceiling for {other}"),
        };
        Self { market: market.clone(), apply }
    }

    /// Applies frames; gives something that depends on all of them.
    pub fn apply<'f>(&mut self, frames: impl Iterator<Item = &'f [u8]>) -> i64 {
        let mut best = 0;
        for frame in frames {
            (self.apply)(&mut self.market, frame);
            best ^= self.market.books.first().and_then(|book| book.bids.prices.last()).copied().unwrap_or(0);
        }
        best
    }

    /// The levels of a side of book `at`, best first.
    pub fn levels(&self, at: usize, side: Side) -> impl Iterator<Item = (i64, i64)> + '_ {
        let book = &self.market.books[at];
        let (levels, sign) = if side == Side::Bid { (&book.bids, 1) } else { (&book.asks, -1) };
        levels.prices.iter().map(move |price| sign * price).zip(levels.sizes.iter().copied()).rev()
    }
}

impl Market {
    #[inline]
    fn index(&self, name: &[u8]) -> usize {
        self.names.iter().position(|known| known == name).expect("a recorded instrument")
    }
}

/// The text up to `end`, passing over both.
#[inline]
fn until<'b>(bytes: &'b [u8], at: &mut usize, end: u8) -> &'b [u8] {
    let start = *at;
    while bytes[*at] != end {
        *at += 1;
    }
    *at += 1;
    &bytes[start..*at - 1]
}

/// A whole number up to `end`.
#[inline]
fn int(bytes: &[u8], at: &mut usize, end: u8) -> i64 {
    let mut value = 0;
    while bytes[*at] != end {
        value = value * 10 + i64::from(bytes[*at] - b'0');
        *at += 1;
    }
    *at += 1;
    value
}

/// The time of `2021-04-17T16:43:37.128966Z`, whose day is taken for granted.
#[inline]
fn time_of_day(bytes: &[u8], at: usize) {
    let at = at + "2021-04-17T".len();
    let digit = |at: usize| i64::from(bytes[at] - b'0');
    let two = |at: usize| 10 * digit(at) + digit(at + 1);
    let second = (two(at) * 60 + two(at + 3)) * 60 + two(at + 6);
    let micros = (two(at + 9) * 100 + two(at + 11)) * 100 + two(at + 13);
    std::hint::black_box(second * 1_000_000 + micros);
}

/// A decimal up to whatever ends it, at `scale`.
#[inline]
fn number(bytes: &[u8], at: &mut usize, scale: u8) -> i64 {
    let (mut value, mut left) = (0, None);
    loop {
        match bytes[*at] {
            b'.' => left = Some(scale),
            digit @ b'0'..=b'9' => {
                value = value * 10 + i64::from(digit - b'0');
                left = left.map(|left| left - 1);
            }
            _ => return value * POW10[left.unwrap_or(scale) as usize],
        }
        *at += 1;
    }
}

/// Rows of two bare numbers, the cursor behind the outer bracket; `parts` stand before the price, before the size and
/// behind it.
#[inline]
fn rows(bytes: &[u8], at: &mut usize, parts: [&str; 3], digits: (u8, u8), mut set: impl FnMut(i64, i64)) {
    while bytes[*at] != b']' {
        *at += usize::from(bytes[*at] == b',') + parts[0].len();
        let price = number(bytes, at, digits.0);
        *at += parts[1].len();
        let size = number(bytes, at, digits.1);
        *at += parts[2].len();
        set(price, size);
    }
    *at += 1;
}

/// A decimal up to its closing quote, at `scale`.
#[inline]
fn decimal(bytes: &[u8], at: &mut usize, scale: u8) -> i64 {
    let value = number(bytes, at, scale);
    *at += 1;
    value
}

/// A decimal up to its closing quote, its point ignored: for instruments that always print the same decimals.
#[inline]
fn fixed(bytes: &[u8], at: &mut usize) -> i64 {
    let mut value = 0;
    while bytes[*at] != b'"' {
        if bytes[*at] != b'.' {
            value = value * 10 + i64::from(bytes[*at] - b'0');
        }
        *at += 1;
    }
    *at += 1;
    value
}

/// `["p","q"],…]`, the cursor behind the outer bracket; `price` and `size` read from behind an opening quote.
/// What a row has behind its size is passed over.
#[inline]
fn pairs(
    bytes: &[u8],
    at: &mut usize,
    price: impl Fn(&[u8], &mut usize) -> i64,
    size: impl Fn(&[u8], &mut usize) -> i64,
    mut set: impl FnMut(i64, i64),
) {
    while bytes[*at] == b'[' || bytes[*at] == b',' {
        *at += 2 + usize::from(bytes[*at] == b',');
        let price = price(bytes, at);
        *at += 2;
        let size = size(bytes, at);
        while bytes[*at] != b']' {
            *at += 1;
        }
        *at += 1;
        set(price, size);
    }
    *at += 1;
}
