//! Symbols of the instruments that every venue's fixtures list: whatever spelling, they lead back.

#![allow(clippy::expect_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;

use coby_core::instrument::{InstrumentId, InstrumentKind, Instruments, Listing};
use coby_core::record::HttpRequest;
use coby_core::symbol::{SymbolError, resolve, to_ccxt, to_nautilus, to_tardis};
use coby_core::venue::Venue;
use coby_io::import::split_url;
use coby_io::recording::{FrameKind, RecordedFrame};
use coby_venues::registry::VENUES;
use proptest::prelude::*;

/// What the lists in a venue's fixtures have.
fn instruments(venue: &dyn Venue) -> Instruments {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../coby-venues/fixtures").join(venue.spec().id);
    let mut paths: Vec<_> = fs::read_dir(folder).expect("fixtures").map(|entry| entry.expect("entry").path()).collect();
    paths.sort();
    let mut instruments = Instruments::default();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "jsonl")) {
        let text = fs::read_to_string(path).expect("a fixture is text");
        for frame in text.lines().map(|line| RecordedFrame::parse(line.as_bytes()).expect("a frame")) {
            if frame.kind != FrameKind::Http || frame.status != 200 {
                continue;
            }
            let (_, path) = split_url(&frame.url);
            let asked = venue.instrument_requests().into_iter().find_map(|request| {
                let body = frame.request.clone();
                let asked =
                    HttpRequest { method: request.method.clone(), body, path: path.into(), ..HttpRequest::default() };
                request.asks_as(&asked).then_some(asked)
            });
            let mut listings = Vec::new();
            if asked.is_some_and(|asked| venue.parse_instruments(&asked, &frame.body, &mut listings).is_ok()) {
                for listing in listings {
                    instruments.list(listing);
                }
            }
        }
    }
    instruments
}

/// Every instrument of every venue.
fn all() -> Vec<(&'static str, Instruments, InstrumentId)> {
    let mut all = Vec::new();
    for venue in VENUES {
        let instruments = instruments(*venue);
        assert!(!instruments.is_empty(), "{}: its fixtures list nothing", venue.spec().id);
        all.extend(instruments.iter().map(|(id, _)| (venue.spec().id, instruments.clone(), id)));
    }
    all
}

fn found(instruments: &Instruments, text: &str) -> Result<String, SymbolError> {
    resolve(instruments, text).map(|id| instruments.get(id).native.clone())
}

fn listing(instruments: &Instruments, id: InstrumentId) -> &Listing {
    instruments.get(id).listing.as_ref().expect("it is listed")
}

#[test]
fn the_names_of_every_instrument_lead_back() {
    for (venue, instruments, id) in all() {
        let listing = listing(&instruments, id);
        for text in [
            listing.symbol(),
            listing.native.clone(),
            to_ccxt(listing),
            to_nautilus(venue, listing),
            to_tardis(listing),
            listing.native.to_lowercase(),
            format!("{}.{}", listing.native, venue.to_uppercase()),
        ] {
            assert_eq!(found(&instruments, &text), Ok(listing.native.clone()), "{venue}: {text}");
        }
    }
}

/// A spelling of an asset.
fn other_name(asset: &str, choice: bool) -> String {
    let thousandfold =
        asset.strip_prefix("1000").filter(|rest| rest.starts_with(|first: char| first.is_ascii_uppercase()));
    match asset {
        _ if !choice => asset.into(),
        "BTC" => "XBT".into(),
        "DOGE" => "XDG".into(),
        "USD" => "ZUSD".into(),
        "USDT" => "UST".into(),
        _ => match (thousandfold, asset.strip_prefix('k')) {
            (Some(rest), _) => format!("k{rest}"),
            (_, Some(rest)) if !rest.is_empty() => format!("1000{rest}"),
            _ => asset.into(),
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn pairs_with_any_separator_case_and_names_lead_back(
        at in any::<prop::sample::Index>(),
        separator in prop::sample::select(&["", "-", "_", "/"][..]),
        suffix in prop::sample::select(&["-PERP", "_perp", "-SWAP", "_PERPETUAL"][..]),
        (old_base, old_quote, lower) in any::<(bool, bool, bool)>(),
    ) {
        let all = all();
        let (venue, instruments, id) = &all[at.index(all.len())];
        let listing = listing(instruments, *id);
        let (base, quote) = (other_name(&listing.base, old_base), other_name(&listing.quote, old_quote));
        let pair = format!("{base}{separator}{quote}");
        let text = match listing.kind {
            InstrumentKind::Spot => pair,
            InstrumentKind::Perpetual => pair + suffix,
            InstrumentKind::Future(_) => format!("{pair}-{}", &listing.symbol()[listing.symbol().len() - 6..]),
        };
        // `k` for a thousand is small beside capitals.
        let text = if lower && !text.starts_with('k') { text.to_lowercase() } else { text };
        prop_assert_eq!(found(instruments, &text), Ok(listing.native.clone()), "{}: {}", venue, text);
    }
}
