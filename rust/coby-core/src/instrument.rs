//! Instruments: what a venue trades, under its native and its canonical name.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Serialize};

use crate::decimal::{Decimal, MAX_SCALE};
use crate::record::Nanos;

/// An instrument of one venue: its index in that venue's [`Instruments`], in tape order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstrumentId(pub u32);

impl InstrumentId {
    /// As an index.
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What kind of contract an instrument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InstrumentKind {
    /// Immediate exchange of base and quote.
    Spot,
    /// A future without expiry.
    Perpetual,
    /// A future that expires at this time.
    Future(Nanos),
}

impl InstrumentKind {
    /// Its name in rows and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spot => "spot",
            Self::Perpetual => "perpetual",
            Self::Future(_) => "future",
        }
    }

    /// When it expires, if it does.
    pub fn expiry(self) -> Option<Nanos> {
        match self {
            Self::Future(expiry) => Some(expiry),
            Self::Spot | Self::Perpetual => None,
        }
    }
}

/// Whether an instrument can be traded now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Trading.
    Trading,
    /// Listed, but halted, in auction, or not open yet.
    Halted,
    /// No longer traded.
    Delisted,
}

impl Status {
    /// Its name in rows and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trading => "trading",
            Self::Halted => "halted",
            Self::Delisted => "delisted",
        }
    }
}

/// One row of a venue's instrument list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The name by which the venue's feeds call it; where a venue uses one name in several markets, behind the
    /// market and a bar (`linear|BTCUSDT`).
    pub native: String,
    /// Base asset, in the field's usual spelling (BTC, never XBT).
    pub base: String,
    /// Quote asset.
    pub quote: String,
    /// Kind of contract.
    pub kind: InstrumentKind,
    /// Smallest price step, in quote per base; `None` where the venue's rule is no fixed step.
    pub tick_size: Option<Decimal>,
    /// Smallest size step, in the venue's size unit.
    pub lot_size: Option<Decimal>,
    /// How much of the base (of the quote when `inverse`) one unit of size is; 1 for spot.
    pub contract_size: Decimal,
    /// Whether size counts quote units (settled in the base asset).
    pub inverse: bool,
    /// Whether it trades.
    pub status: Status,
}

impl Listing {
    /// A spot listing that trades, with one unit of size being one unit of base.
    pub fn spot(native: &str, base: &str, quote: &str) -> Self {
        Self {
            native: native.into(),
            base: base.into(),
            quote: quote.into(),
            kind: InstrumentKind::Spot,
            tick_size: None,
            lot_size: None,
            contract_size: Decimal::new(1, 0),
            inverse: false,
            status: Status::Trading,
        }
    }

    /// The canonical symbol: `BTC-USDT`, `BTC-USDT-PERP`, `BTC-USDT-261225`.
    pub fn symbol(&self) -> String {
        let pair = format!("{}-{}", self.base, self.quote);
        match self.kind {
            InstrumentKind::Spot => pair,
            InstrumentKind::Perpetual => pair + "-PERP",
            InstrumentKind::Future(expiry) => {
                let (year, month, day) = crate::time::date_of(expiry);
                format!("{pair}-{:02}{month:02}{day:02}", year.rem_euclid(100))
            }
        }
    }
}

/// An instrument as the pipeline knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instrument {
    /// The venue's name for it.
    pub native: String,
    /// The canonical symbol, `None` until the venue's list has named it.
    pub symbol: Option<String>,
    /// The venue's list entry.
    pub listing: Option<Listing>,
    /// Fraction digits that prices of this instrument have needed so far.
    pub price_scale: u8,
    /// Fraction digits that sizes of this instrument have needed so far.
    pub size_scale: u8,
}

impl Instrument {
    /// The name that the venue itself prints, which alone may be two instruments.
    pub fn printed_native(&self) -> &str {
        self.native.rsplit('|').next().unwrap_or(&self.native)
    }
}

/// All instruments of one venue.
#[derive(Debug, Serialize, Deserialize)]
#[serde(from = "Vec<Instrument>", into = "Vec<Instrument>")]
pub struct Instruments {
    list: Vec<Instrument>,
    by_native: HashMap<Box<[u8]>, InstrumentId, FixedState>,
    listed: usize,
    /// The last ones asked for, each where [`place`] puts its name.
    recent: [u32; RECENT],
}

/// How many names are known without asking the map.
const RECENT: usize = 128;

/// A place among [`RECENT`] by the ends of a name, which tell most symbols apart.
#[inline]
fn place(native: &[u8]) -> usize {
    let word = if let (Some(first), Some(last)) = (native.first_chunk::<8>(), native.last_chunk::<8>()) {
        u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(29)
    } else if let (Some(first), Some(last)) = (native.first_chunk::<4>(), native.last_chunk::<4>()) {
        u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
    } else {
        native.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))
    };
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57) as usize % RECENT
}

impl Default for Instruments {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl Clone for Instruments {
    fn clone(&self) -> Self {
        self.list.clone().into()
    }
}

impl From<Vec<Instrument>> for Instruments {
    fn from(list: Vec<Instrument>) -> Self {
        let ids = (0..list.len() as u32).map(InstrumentId);
        let by_native = list.iter().map(|instrument| instrument.native.as_bytes().into()).zip(ids).collect();
        let listed = list.iter().filter(|instrument| instrument.listing.is_some()).count();
        Self { list, by_native, listed, recent: [0; RECENT] }
    }
}

impl From<Instruments> for Vec<Instrument> {
    fn from(instruments: Instruments) -> Self {
        instruments.list
    }
}

impl Instruments {
    /// The id of `native`, interned when it is new. The caller has checked that it is UTF-8.
    #[inline]
    pub fn intern(&mut self, native: &[u8]) -> InstrumentId {
        self.recall(native).unwrap_or_else(|| self.add(native))
    }

    /// The id of `native`, if it is known; the next call finds it sooner.
    #[inline]
    pub fn recall(&mut self, native: &[u8]) -> Option<InstrumentId> {
        let place = place(native);
        let id = self.recent[place];
        if self.list.get(id as usize).is_some_and(|instrument| instrument.native.as_bytes() == native) {
            return Some(InstrumentId(id));
        }
        let found = self.find(native)?;
        self.recent[place] = found.0;
        Some(found)
    }

    #[cold]
    fn add(&mut self, native: &[u8]) -> InstrumentId {
        let id = InstrumentId(self.list.len() as u32);
        let name = String::from_utf8_lossy(native).into_owned();
        self.list.push(Instrument { native: name, symbol: None, listing: None, price_scale: 0, size_scale: 0 });
        self.by_native.insert(native.into(), id);
        id
    }

    /// The id of `native`, if it is known.
    #[inline]
    pub fn find(&self, native: &[u8]) -> Option<InstrumentId> {
        self.by_native.get(native).copied()
    }

    /// The instrument `id`.
    ///
    /// # Panics
    /// If `id` is another venue's.
    #[inline]
    pub fn get(&self, id: InstrumentId) -> &Instrument {
        &self.list[id.index()]
    }

    /// Takes a list entry; returns the id and whether anything but the scales changed.
    pub fn list(&mut self, listing: Listing) -> (InstrumentId, bool) {
        let id = self.intern(listing.native.as_bytes());
        let instrument = &mut self.list[id.index()];
        let changed = instrument.listing.as_ref() != Some(&listing);
        if changed {
            self.listed += usize::from(instrument.listing.is_none());
            instrument.symbol = Some(listing.symbol());
            let scale = |step: Option<Decimal>| step.map_or(0, |step| step.normal().scale.min(MAX_SCALE));
            instrument.price_scale = instrument.price_scale.max(scale(listing.tick_size));
            instrument.size_scale = instrument.size_scale.max(scale(listing.lot_size));
            instrument.listing = Some(listing);
        }
        (id, changed)
    }

    /// The lists no longer have `id`; returns whether that is new.
    pub fn delist(&mut self, id: InstrumentId) -> bool {
        let listing = self.list[id.index()].listing.as_mut().filter(|listing| listing.status != Status::Delisted);
        listing.map(|listing| listing.status = Status::Delisted).is_some()
    }

    /// Widens the scales of `id` to at least these.
    #[cold]
    pub fn widen(&mut self, id: InstrumentId, price_scale: u8, size_scale: u8) {
        let instrument = &mut self.list[id.index()];
        instrument.price_scale = instrument.price_scale.max(price_scale);
        instrument.size_scale = instrument.size_scale.max(size_scale);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// How many of them the venue's lists have named.
    pub fn listed(&self) -> usize {
        self.listed
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (InstrumentId, &Instrument)> {
        (0..).map(InstrumentId).zip(&self.list)
    }
}

/// Hash maps here are never iterated, but a fixed hasher costs nothing and removes the question.
pub type FixedState = BuildHasherDefault<FixedHasher>;

/// A multiply-and-rotate hasher without a random seed.
#[derive(Clone, Debug, Default)]
pub struct FixedHasher(u64);

impl FixedHasher {
    #[inline]
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for FixedHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((word, more)) = rest.split_first_chunk::<8>() {
            self.mix(u64::from_le_bytes(*word));
            rest = more;
        }
        // What is left, seen from both its ends.
        let tail = match (rest.first_chunk::<4>(), rest.last_chunk::<4>(), rest) {
            (Some(first), Some(last), _) => {
                u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
            }
            (.., [first, .., last]) => {
                u64::from(*first) | u64::from(rest[rest.len() / 2]) << 8 | u64::from(*last) << 16
            }
            (.., [only]) => u64::from(*only),
            _ => 0,
        };
        self.mix(tail ^ (bytes.len() as u64) << 56);
    }

    #[inline]
    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    #[inline]
    fn write_u128(&mut self, word: u128) {
        self.mix(word as u64);
        self.mix((word >> 64) as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_list_completes_the_same_id() {
        let mut instruments = Instruments::default();
        let id = instruments.intern(b"BTCUSDT");
        instruments.intern(b"ETHUSDT");
        instruments.widen(id, 3, 1);
        let mut listing = Listing::spot("BTCUSDT", "BTC", "USDT");
        listing.tick_size = Some(Decimal::new(10, 2));
        assert_eq!(instruments.list(listing.clone()), (id, true));
        assert_eq!(instruments.list(listing), (id, false));
        let instrument = instruments.get(id);
        assert_eq!((instrument.symbol.as_deref(), instrument.price_scale), (Some("BTC-USDT"), 3));
        let copy: Instruments = postcard::from_bytes(&postcard::to_extend(&instruments, Vec::new()).unwrap()).unwrap();
        assert_eq!(copy.find(b"ETHUSDT"), Some(InstrumentId(1)));
    }

    #[test]
    fn dated_symbols_carry_their_expiry() {
        let mut listing = Listing::spot("BTCUSDT_261225", "BTC", "USDT");
        listing.kind = InstrumentKind::Future(1_798_185_600_000_000_000);
        assert_eq!(listing.symbol(), "BTC-USDT-261225");
    }
}
