//! Symbols: one resolver for every spelling that people and other tools use, and those spellings.
//!
//! Base and quote always come from the venue's list. A text is never cut into assets by guessing: it is compared
//! with the instruments that are listed, and where it fits several of them, that is an error.

use thiserror::Error;

use crate::instrument::{Instrument, InstrumentId, InstrumentKind, Instruments, Listing, Status};
use crate::time::date_of;

/// A text that names no instrument, or more than one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SymbolError {
    /// No instrument has such a name.
    #[error("no instrument {text:?}{}", listed("; near to it", .nearest))]
    Unknown {
        /// The text.
        text: String,
        /// Up to five instruments with names like it, the nearest first.
        nearest: Vec<String>,
    },
    /// Several instruments have such a name.
    #[error("{text:?} may be any of {}", .candidates.join(", "))]
    Ambiguous {
        /// The text.
        text: String,
        /// All of them.
        candidates: Vec<String>,
    },
}

fn listed(what: &str, names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("{what}: {}", names.join(", ")) }
}

/// The quotes of the pairs that the bare name of an asset stands for: the first spot pair that is listed, and where a
/// venue has none of them, the first perpetual.
const BARE_QUOTES: [&str; 3] = ["USDT", "USDC", "USD"];

/// How many near names an error has.
const NEAREST: usize = 5;

/// The instrument that a text names, in one venue's list.
///
/// In this order, and the first that fits anything decides: the canonical symbol (`BTC-USDT-PERP`); the venue's own
/// name; both in any case, which is how Tardis writes them; pairs with any separator or none, as ccxt (`BTC/USDT:USDT`)
/// and nautilus (`BTCUSDT-PERP.BINANCE`) write them, and bare assets (`BTC`); the same under other names of the
/// assets (`XBT`, Kraken's `XXBTZUSD`, Bitfinex's `tBTCUST`, `kPEPE` for `1000PEPE`).
///
/// A text without a contract means spot. Instruments that are no longer traded count only where no other fits.
pub fn resolve(instruments: &Instruments, text: &str) -> Result<InstrumentId, SymbolError> {
    let text = text.trim();
    for reading in readings(text) {
        for tier in 0..6 {
            let found = in_tier(instruments, &reading, tier);
            match found[..] {
                [] => {}
                [id] => return Ok(id),
                _ => {
                    let candidates = found.into_iter().map(|id| name(instruments.get(id))).collect();
                    return Err(SymbolError::Ambiguous { text: text.into(), candidates });
                }
            }
        }
    }
    Err(SymbolError::Unknown { text: text.into(), nearest: nearest(instruments, text) })
}

/// How an instrument is shown in errors.
fn name(instrument: &Instrument) -> String {
    let native = &instrument.native;
    match &instrument.symbol {
        Some(symbol) if symbol != native => format!("{symbol} ({native})"),
        _ => native.clone(),
    }
}

/// A way to read a text.
#[derive(Clone, Copy)]
struct Reading<'t> {
    /// All of it.
    text: &'t str,
    /// Base and quote.
    pair: &'t str,
    contract: Contract<'t>,
    /// Whether it may be the name of an asset alone.
    bare: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Contract<'t> {
    Spot,
    Perpetual {
        settle: Option<&'t str>,
    },
    /// `yymmdd`
    Dated {
        date: &'t str,
        settle: Option<&'t str>,
    },
}

/// The text itself; without a venue behind a dot; without Bitfinex's `t`.
fn readings(text: &str) -> Vec<Reading<'_>> {
    let venue = |venue: &str| venue.len() > 1 && venue.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let stem = text.rsplit_once('.').filter(|(_, suffix)| venue(suffix)).map(|(stem, _)| stem);
    let pair = |text: &str| text.starts_with(|first: char| first.is_ascii_uppercase() || first.is_ascii_digit());
    let bitfinex = |text| str::strip_prefix(text, 't').filter(|text| pair(text));
    let mut readings = vec![Reading { bare: true, ..read(text) }];
    readings.extend(stem.map(read));
    readings.extend([Some(text), stem].into_iter().flatten().filter_map(bitfinex).map(read));
    readings
}

/// Takes the contract off the end of a text.
fn read(text: &str) -> Reading<'_> {
    let reading = |pair, contract| Reading { text, pair, contract, bare: false };
    // ccxt: `BTC/USDT:USDT`, `BTC/USD:BTC-261225`.
    if let Some((pair, settle)) = text.split_once(':').filter(|(pair, _)| pair.contains('/')) {
        return match settle.rsplit_once('-').and_then(|(settle, tail)| Some((settle, date(tail)?))) {
            Some((settle, date)) => reading(pair, Contract::Dated { date, settle: Some(settle) }),
            None => reading(pair, Contract::Perpetual { settle: Some(settle) }),
        };
    }
    let Some((pair, tail)) = text.rfind(['-', '_']).map(|at| (&text[..at], &text[at + 1..])) else {
        return reading(text, Contract::Spot);
    };
    if ["PERP", "PERPETUAL", "SWAP"].iter().any(|word| word.eq_ignore_ascii_case(tail)) {
        return reading(pair, Contract::Perpetual { settle: None });
    }
    match date(tail) {
        Some(date) => reading(pair, Contract::Dated { date, settle: None }),
        None => reading(text, Contract::Spot),
    }
}

/// `261225`, of that or of `20261225`.
fn date(text: &str) -> Option<&str> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let date = if text.len() == 8 { text.get(2..) } else { Some(text) };
    date.filter(|date| digits && date.len() == 6)
}

/// What fits in one tier; several only where the text is ambiguous.
fn in_tier(instruments: &Instruments, reading: &Reading<'_>, tier: u8) -> Vec<InstrumentId> {
    let text = reading.text;
    let canonical = |same: fn(&str, &str) -> bool| {
        all(instruments, |instrument| instrument.symbol.as_deref().is_some_and(|symbol| same(symbol, text)))
    };
    match tier {
        0 => canonical(|symbol, text| symbol == text),
        1 => instruments.find(text.as_bytes()).into_iter().collect(),
        2 => canonical(str::eq_ignore_ascii_case),
        3 => all(instruments, |instrument| instrument.native.eq_ignore_ascii_case(text)),
        4 => spelled(instruments, reading, str::eq_ignore_ascii_case),
        _ => spelled(instruments, reading, same_asset),
    }
}

/// The instruments that fit, without those that are no longer traded if others do.
fn all(instruments: &Instruments, fits: impl Fn(&Instrument) -> bool) -> Vec<InstrumentId> {
    let found: Vec<_> = instruments.iter().filter(|(_, instrument)| fits(instrument)).collect();
    let delisted =
        |instrument: &Instrument| instrument.listing.as_ref().is_some_and(|listing| listing.status == Status::Delisted);
    let any_alive = found.iter().any(|(_, instrument)| !delisted(instrument));
    found.into_iter().filter(|(_, instrument)| !(any_alive && delisted(instrument))).map(|(id, _)| id).collect()
}

/// Pairs with any separator or none, and bare assets; `same` compares a listed asset with its name in the text.
fn spelled(instruments: &Instruments, reading: &Reading<'_>, same: fn(&str, &str) -> bool) -> Vec<InstrumentId> {
    let listing_fits =
        |fits: &dyn Fn(&Listing) -> bool| all(instruments, |instrument| instrument.listing.as_ref().is_some_and(fits));
    let mut found = listing_fits(&|listing| {
        contract_fits(listing, reading.contract, same) && pair_fits(listing, reading.pair, same)
    });
    if reading.bare {
        let kinds = [InstrumentKind::Spot, InstrumentKind::Perpetual].into_iter();
        let bare = kinds.flat_map(|kind| BARE_QUOTES.iter().map(move |quote| (kind, *quote))).map(|(kind, quote)| {
            listing_fits(&|listing| listing.kind == kind && listing.quote == quote && same(&listing.base, reading.text))
        });
        found.extend(bare.into_iter().find(|found| !found.is_empty()).unwrap_or_default());
    }
    found
}

fn contract_fits(listing: &Listing, contract: Contract<'_>, same: fn(&str, &str) -> bool) -> bool {
    let settles = |settle: Option<&str>| settle.is_none_or(|settle| listing.inverse == same(&listing.base, settle));
    match (listing.kind, contract) {
        (InstrumentKind::Spot, Contract::Spot) => true,
        (InstrumentKind::Perpetual, Contract::Perpetual { settle }) => settles(settle),
        (InstrumentKind::Future(expiry), Contract::Dated { date, settle }) => settles(settle) && yymmdd(expiry) == date,
        _ => false,
    }
}

fn pair_fits(listing: &Listing, pair: &str, same: fn(&str, &str) -> bool) -> bool {
    pair.char_indices().skip(1).any(|(at, _)| {
        let (base, quote) = pair.split_at(at);
        same(&listing.base, base) && same(&listing.quote, quote.strip_prefix(['-', '_', '/', ':']).unwrap_or(quote))
    })
}

/// Assets and what they are called where they are not called so: at Kraken (which has put `X` and `Z` before the
/// oldest ones), `BitMEX` and Bitfinex.
const OTHER_NAMES: [(&str, &[&str]); 19] = [
    ("BTC", &["XBT", "XXBT"]),
    ("DOGE", &["XDG", "XXDG"]),
    ("USDT", &["UST"]),
    ("ETC", &["XETC"]),
    ("ETH", &["XETH"]),
    ("LTC", &["XLTC"]),
    ("MLN", &["XMLN"]),
    ("REP", &["XREP"]),
    ("XLM", &["XXLM"]),
    ("XMR", &["XXMR"]),
    ("XRP", &["XXRP"]),
    ("ZEC", &["XZEC"]),
    ("AUD", &["ZAUD"]),
    ("CAD", &["ZCAD"]),
    ("EUR", &["ZEUR"]),
    ("GBP", &["ZGBP"]),
    ("JPY", &["ZJPY"]),
    ("KRW", &["ZKRW"]),
    ("USD", &["ZUSD"]),
];

/// Whether a name stands for a listed asset, under this or another name.
fn same_asset(listed: &str, name: &str) -> bool {
    let named = |asset: &str, name: &str| {
        let others = OTHER_NAMES.iter().find(|(known, _)| *known == asset).map_or(&[][..], |(_, others)| others);
        asset.eq_ignore_ascii_case(name) || others.iter().any(|other| other.eq_ignore_ascii_case(name))
    };
    match (multiple(listed), multiple(name)) {
        (Some((listed_zeros, listed)), Some((zeros, name))) if listed_zeros == zeros => named(listed, name),
        _ => named(listed, name),
    }
}

/// How many of an asset one unit of a listed one is: `1000PEPE` and `kPEPE` are three zeros of `PEPE`, `1MBABYDOGE` is six of
/// `BABYDOGE`.
fn multiple(asset: &str) -> Option<(usize, &str)> {
    // `k` and `1M` begin many a name: behind them stand capitals.
    let capital = |rest: &str| rest.starts_with(|first: char| first.is_ascii_uppercase());
    match asset.as_bytes() {
        [b'k', ..] => Some((3, &asset[1..])).filter(|(_, rest)| capital(rest)),
        [b'1', b'M', ..] => Some((6, &asset[2..])).filter(|(_, rest)| capital(rest)),
        [b'1', ..] => {
            let rest = asset[1..].trim_start_matches('0');
            Some((asset.len() - 1 - rest.len(), rest)).filter(|(zeros, rest)| *zeros >= 3 && !rest.is_empty())
        }
        _ => None,
    }
}

fn yymmdd(expiry: i64) -> String {
    let (year, month, day) = date_of(expiry);
    format!("{:02}{month:02}{day:02}", year.rem_euclid(100))
}

/// Instruments with names that have the text in them, and then by edit distance.
fn nearest(instruments: &Instruments, text: &str) -> Vec<String> {
    let plain = |text: &str| -> Vec<u8> {
        text.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_uppercase()).collect()
    };
    let wanted = plain(text);
    if wanted.is_empty() {
        return Vec::new();
    }
    let far = |name: &str| {
        let name = plain(name);
        if name.windows(wanted.len()).any(|part| part == wanted) { 0 } else { distance(&wanted, &name) }
    };
    let mut near: Vec<_> = instruments
        .iter()
        .map(|(id, instrument)| {
            let symbol = instrument.symbol.as_deref().map_or(usize::MAX, far);
            (symbol.min(far(&instrument.native)), id)
        })
        .filter(|(far, _)| far * 2 <= wanted.len())
        .collect();
    near.sort_unstable();
    near.into_iter().take(NEAREST).map(|(_, id)| name(instruments.get(id))).collect()
}

/// Levenshtein distance.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, left) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, right) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(left != right);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

/// As ccxt writes it: `BTC/USDT`, `BTC/USDT:USDT`, `BTC/USD:BTC`, `BTC/USDT:USDT-261225`.
pub fn to_ccxt(listing: &Listing) -> String {
    let Listing { base, quote, .. } = listing;
    let settle = if listing.inverse { base } else { quote };
    match listing.kind {
        InstrumentKind::Spot => format!("{base}/{quote}"),
        InstrumentKind::Perpetual => format!("{base}/{quote}:{settle}"),
        InstrumentKind::Future(expiry) => format!("{base}/{quote}:{settle}-{}", yymmdd(expiry)),
    }
}

/// As nautilus writes it, with its venue: `BTCUSDT.BINANCE`, `BTCUSDT-PERP.BINANCE`, `BTCUSDT_261225.BINANCE`.
pub fn to_nautilus(venue: &str, listing: &Listing) -> String {
    // It has one venue for all of Binance.
    let venue = venue.strip_suffix("_futures").unwrap_or(venue).to_uppercase();
    let Listing { base, quote, .. } = listing;
    match listing.kind {
        InstrumentKind::Spot => format!("{base}{quote}.{venue}"),
        InstrumentKind::Perpetual => format!("{base}{quote}-PERP.{venue}"),
        InstrumentKind::Future(expiry) => format!("{base}{quote}_{}.{venue}", yymmdd(expiry)),
    }
}

/// As Tardis writes it: the venue's own name in capitals.
pub fn to_tardis(listing: &Listing) -> String {
    listing.native.to_uppercase()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::DAY;

    /// 2026-12-25.
    const QUARTER: InstrumentKind = InstrumentKind::Future(20_812 * DAY);

    fn listing(native: &str, base: &str, quote: &str, kind: InstrumentKind, inverse: bool) -> Listing {
        Listing { kind, inverse, ..Listing::spot(native, base, quote) }
    }

    fn venue() -> Instruments {
        let mut instruments = Instruments::default();
        for (native, base, quote, kind, inverse) in [
            ("BTCUSDT", "BTC", "USDT", InstrumentKind::Spot, false),
            ("BTCUSDC", "BTC", "USDC", InstrumentKind::Spot, false),
            ("tETHUSD", "ETH", "USD", InstrumentKind::Spot, false),
            ("tETHUST", "ETH", "USDT", InstrumentKind::Spot, false),
            ("ETHBTC", "ETH", "BTC", InstrumentKind::Spot, false),
            ("BTC-USDT-SWAP", "BTC", "USDT", InstrumentKind::Perpetual, false),
            ("XBTUSD", "BTC", "USD", InstrumentKind::Perpetual, true),
            ("BTCUSDT_DEC", "BTC", "USDT", QUARTER, false),
            ("XBTZ26", "BTC", "USD", QUARTER, true),
            ("1000PEPEUSDT", "1000PEPE", "USDT", InstrumentKind::Perpetual, false),
            ("kBONK", "kBONK", "USDC", InstrumentKind::Perpetual, false),
            ("1MBABYDOGEUSDT", "1MBABYDOGE", "USDT", InstrumentKind::Spot, false),
            ("LUNA/USDC", "LUNA", "USDC", InstrumentKind::Spot, false),
            ("DOGE/EUR", "DOGE", "EUR", InstrumentKind::Spot, false),
        ] {
            instruments.list(listing(native, base, quote, kind, inverse));
        }
        instruments.intern(b"NEW-COIN");
        instruments
    }

    #[test]
    fn every_spelling_means_what_it_means_elsewhere() {
        let instruments = venue();
        for (texts, native) in [
            (
                &[
                    "BTC-USDT",
                    "btc-usdt",
                    "BTCUSDT",
                    "btcusdt",
                    "BTC/USDT",
                    "btc_usdt",
                    "BTCUSDT.BINANCE",
                    " BTC ",
                    "XBT",
                ][..],
                "BTCUSDT",
            ),
            (&["BTC-USDC", "XBT/USDC", "XXBTUSDC"], "BTCUSDC"),
            (&["ETH", "eth", "tETHUST", "TETHUST", "ETHUST", "ETH/USDT", "XETHUSDT", "tETH:UST"], "tETHUST"),
            (&["ETH-USD", "XETHZUSD", "tETHUSD", "ETH/USD", "ETHUSD.KRAKEN"], "tETHUSD"),
            (&["ETH-BTC", "XETHXXBT", "ETH/XBT", "ETH_BTC"], "ETHBTC"),
            (
                &[
                    "BTC-USDT-PERP",
                    "BTC/USDT:USDT",
                    "BTCUSDT-PERP.BINANCE",
                    "btc-usdt-swap",
                    "BTC_USDT_PERP",
                    "BTCUSDT_PERP",
                    "BTC-USDT-SWAP.OKX",
                ],
                "BTC-USDT-SWAP",
            ),
            (&["BTC-USD-PERP", "BTC/USD:BTC", "XBTUSD", "XBTUSD.BITMEX", "xbt/usd:xbt", "BTC-USD-SWAP"], "XBTUSD"),
            (
                &[
                    "BTC-USDT-261225",
                    "BTC/USDT:USDT-261225",
                    "BTCUSDT_261225.BINANCE",
                    "btcusdt-20261225",
                    "BTCUSDT_DEC",
                ],
                "BTCUSDT_DEC",
            ),
            (&["BTC-USD-261225", "BTC/USD:BTC-261225", "XBTUSD-261225", "xbtz26", "XBTZ26.BITMEX"], "XBTZ26"),
            (
                &[
                    "1000PEPE-USDT-PERP",
                    "1000pepeusdt",
                    "1000pepe-usdt-perp",
                    "kPEPE-USDT-PERP",
                    "kPEPE/USDT:USDT",
                    "1000PEPEUSDT-PERP.BINANCE",
                ],
                "1000PEPEUSDT",
            ),
            (&["kBONK", "KBONK", "1000bonkusdc_perp", "1000BONK-USDC-PERP", "kBONK/USDC:USDC"], "kBONK"),
            (&["1MBABYDOGE", "1000000BABYDOGE", "1000000BABYDOGE-USDT"], "1MBABYDOGEUSDT"),
            (&["LUNA", "luna-usdc"], "LUNA/USDC"),
            (&["XDG/EUR", "XXDGZEUR", "DOGEEUR"], "DOGE/EUR"),
            (&["NEW-COIN", "new-coin"], "NEW-COIN"),
        ] {
            for text in texts {
                let found = resolve(&instruments, text).map(|id| instruments.get(id).native.as_str());
                assert_eq!(found, Ok(native), "{text}");
            }
        }
    }

    #[test]
    fn what_names_nothing_says_what_is_near() {
        let instruments = venue();
        let near = |text: &str| match resolve(&instruments, text) {
            Err(SymbolError::Unknown { nearest, .. }) => nearest,
            other => panic!("{text}: {other:?}"),
        };
        // Without its pair an asset is a spot pair, and a thousandfold is no single one.
        assert!(near("DOGE").contains(&"DOGE-EUR (DOGE/EUR)".to_owned()));
        assert_eq!(near("PEPE-USDT-PERP")[0], "1000PEPE-USDT-PERP (1000PEPEUSDT)");
        assert!(near("BTC/USDT:BTC").contains(&"BTC-USDT (BTCUSDT)".to_owned()));
        assert!(near("BTC-USDT-271225").contains(&"BTC-USDT-261225 (BTCUSDT_DEC)".to_owned()));
        for text in ["", ".", "/", "-PERP", "t", "€", "🦀-USDT", "BTC-USDT-99999999999", "SOMETHING-ELSE-ENTIRELY"]
        {
            near(text);
        }
        assert_eq!(near("BTCUSDT.1").len(), NEAREST);
        let error = resolve(&instruments, "LUNB-USDC").unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"no instrument "LUNB-USDC"; near to it: LUNA-USDC (LUNA/USDC), BTC-USDC (BTCUSDC)"#
        );
    }

    #[test]
    fn several_meanings_are_an_error_that_names_them() {
        let mut instruments = Instruments::default();
        let add =
            |instruments: &mut Instruments, native, base, quote| instruments.list(Listing::spot(native, base, quote)).0;
        add(&mut instruments, "@1", "ABC", "USDC");
        let second = add(&mut instruments, "@2", "ABC", "USDC");
        add(&mut instruments, "B-USD", "B", "USD");
        add(&mut instruments, "BUSD-USDT", "BUSD", "USDT");
        for (text, names) in [
            ("ABC-USDC", ["ABC-USDC (@1)", "ABC-USDC (@2)"]),
            ("ABC", ["ABC-USDC (@1)", "ABC-USDC (@2)"]),
            ("BUSD", ["B-USD", "BUSD-USDT"]),
        ] {
            let candidates = names.map(String::from).to_vec();
            let ambiguous = SymbolError::Ambiguous { text: text.into(), candidates };
            assert_eq!(resolve(&instruments, text), Err(ambiguous));
        }
        assert_eq!(resolve(&instruments, "BUSD.VENUE"), Ok(InstrumentId(2)));
        // What is no longer traded gives way.
        let mut old = Listing::spot("@2", "ABC", "USDC");
        old.status = Status::Delisted;
        instruments.list(old);
        assert_eq!(resolve(&instruments, "ABC"), Ok(InstrumentId(0)));
        assert_eq!(resolve(&instruments, "@2"), Ok(second));
    }

    #[test]
    fn formats() {
        let spell = |listing: &Listing| [to_ccxt(listing), to_nautilus("binance_futures", listing), to_tardis(listing)];
        let perpetual = InstrumentKind::Perpetual;
        for (listing, expected) in [
            (
                listing("btcusdt", "BTC", "USDT", InstrumentKind::Spot, false),
                ["BTC/USDT", "BTCUSDT.BINANCE", "BTCUSDT"],
            ),
            (listing("x", "BTC", "USDT", perpetual, false), ["BTC/USDT:USDT", "BTCUSDT-PERP.BINANCE", "X"]),
            (listing("x", "BTC", "USD", perpetual, true), ["BTC/USD:BTC", "BTCUSD-PERP.BINANCE", "X"]),
            (listing("x", "BTC", "USDT", QUARTER, false), ["BTC/USDT:USDT-261225", "BTCUSDT_261225.BINANCE", "X"]),
        ] {
            assert_eq!(spell(&listing), expected);
        }
    }

    const ASSETS: [&str; 14] =
        ["BTC", "B", "TC", "T", "USDT", "USD", "USDC", "XBT", "ETH", "1000PEPE", "kPEPE", "PEPE", "A-B", "A.B"];

    fn any_listing() -> impl Strategy<Value = Listing> {
        let kinds = [InstrumentKind::Spot, InstrumentKind::Perpetual, QUARTER];
        let asset = || prop::sample::select(&ASSETS[..]);
        let pair = (asset(), asset()).prop_filter("an asset in itself", |(base, quote)| base != quote);
        (pair, prop::sample::select(kinds.to_vec()), any::<bool>(), 0..5_u8).prop_map(
            |((base, quote), kind, inverse, style)| {
                let mut listing = listing("", base, quote, kind, inverse && kind != InstrumentKind::Spot);
                listing.native = match style {
                    0 => listing.symbol(),
                    1 => format!("{base}{quote}"),
                    2 => format!("{base}{quote}").to_lowercase(),
                    3 => format!("t{base}{quote}"),
                    _ => format!("{base}_{quote}_{kind:?}"),
                };
                listing
            },
        )
    }

    /// One of each name: venues do not tell two instruments apart by case.
    fn unique(listings: Vec<Listing>) -> Vec<Listing> {
        let mut unique: Vec<Listing> = Vec::new();
        for listing in listings {
            if unique.iter().all(|other| !other.native.eq_ignore_ascii_case(&listing.native)) {
                unique.push(listing);
            }
        }
        unique
    }

    proptest! {
        /// Every spelling of an instrument leads to it, or to an error that names it; to another instrument only where
        /// that is this one's very name.
        #[test]
        fn spellings_round_trip(listings in prop::collection::vec(any_listing(), 1..12), upper: bool) {
            let mut instruments = Instruments::default();
            for listing in unique(listings) {
                instruments.list(listing);
            }
            for (id, instrument) in instruments.iter() {
                let listing = instrument.listing.as_ref().unwrap();
                let texts =
                    [listing.symbol(), to_ccxt(listing), to_nautilus("v_x", listing), to_tardis(listing), listing.native.clone()];
                for text in texts {
                    let text = if upper { text.to_uppercase() } else { text };
                    match resolve(&instruments, &text) {
                        Ok(found) if found == id => {}
                        Ok(found) => {
                            let other = instruments.get(found);
                            let stem = text.trim_end_matches(".V_X");
                            let names = [other.native.as_str(), other.symbol.as_deref().unwrap()];
                            let exact = names.iter().any(|name| name.eq_ignore_ascii_case(stem));
                            prop_assert!(exact, "{text} led to {other:?}");
                        }
                        Err(SymbolError::Ambiguous { candidates, .. }) => {
                            prop_assert!(candidates.contains(&name(instrument)), "{text}: {candidates:?}");
                        }
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
            }
        }

        #[test]
        fn any_text_has_an_answer_that_no_order_of_the_list_changes(
            listings in prop::collection::vec(any_listing(), 0..8),
            text in "[A-Ua-u0-9/:._-]{0,12}|\\PC{0,8}|(BTC|B|PEPE|kPEPE)[-/_]?(USDT?|TC)(-PERP|:USDT|-261225)?",
        ) {
            let [mut forth, mut back] = [Instruments::default(), Instruments::default()];
            let unique = unique(listings);
            for listing in &unique {
                forth.list(listing.clone());
            }
            for listing in unique.iter().rev() {
                back.list(listing.clone());
            }
            let answer = |instruments: &Instruments| match resolve(instruments, &text) {
                Ok(id) => Ok(instruments.get(id).native.clone()),
                Err(SymbolError::Ambiguous { mut candidates, .. }) => {
                    candidates.sort();
                    Err(candidates)
                }
                Err(SymbolError::Unknown { .. }) => Err(Vec::new()),
            };
            prop_assert_eq!(answer(&forth), answer(&back));
        }
    }
}
