//! Every recorded fixture of every venue decodes to the events that stand beside it.
//!
//! `fixtures/<venue>/<case>.jsonl` holds frames in the recording format, `<case>.events` one line per event.
//! A case whose name ends in `.nosync` is decoded without synchronisation. `COBY_BLESS=1` writes the events
//! anew: read the difference before committing it.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use coby_core::decimal::Decimal;
use coby_io::decode::{Decoder, Detail, Event};
use coby_io::recording::RecordedFrame;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../coby-venues/fixtures")
}

fn line(event: &Event) -> String {
    let mut line = format!("{} {}", event.frame, event.detail.kind());
    let native = event.native.as_deref().unwrap_or("-");
    let time = event.ts_event.map_or_else(|| "-".into(), |time| time.to_string());
    write!(line, " {native} {} {time}", event.symbol.as_deref().unwrap_or("-")).unwrap();
    match &event.detail {
        Detail::Trade { price, size, side, trade_id, history } => {
            write!(line, " {side} {size}@{price} id={trade_id} history={history}")
        }
        Detail::Book { snapshot, bids, asks, depth } => {
            let side = |levels: &[(String, String)]| {
                levels.iter().map(|(price, size)| format!("{size}@{price}")).collect::<Vec<_>>().join(" ")
            };
            write!(line, " snapshot={snapshot} depth={depth:?} bids[{}] asks[{}]", side(bids), side(asks))
        }
        Detail::Gap { phase, channel, cause, evidence, .. } => write!(line, " {phase} {channel} {cause}: {evidence}"),
        Detail::Checksum { ok } => write!(line, " ok={ok}"),
        Detail::Candle(candle) => {
            let option = |value: Option<Decimal>| value.map_or_else(|| "-".into(), |value| value.to_string());
            write!(
                line,
                " {}s open={} {} {} {} {} volume={} notional={} count={:?} taker_buy={} closed={}",
                candle.interval / 1_000_000_000,
                candle.open_time,
                candle.open,
                candle.high,
                candle.low,
                candle.close,
                candle.volume,
                option(candle.notional),
                candle.count,
                option(candle.taker_buy),
                candle.closed
            )
        }
        Detail::Status { status, message } => write!(line, " {status} {message}"),
    }
    .unwrap();
    line
}

fn decode(venue: &str, case: &Path) -> String {
    let venue = coby_venues::registry::find(venue).unwrap_or_else(|| panic!("fixtures of unknown venue {venue}"));
    let sync = !case.to_string_lossy().ends_with(".nosync.jsonl");
    let mut decoder = Decoder::new(venue, sync);
    let (mut events, mut text) = (Vec::new(), String::new());
    for (number, recorded) in fs::read_to_string(case).unwrap().lines().enumerate() {
        let frame = RecordedFrame::parse(recorded.as_bytes())
            .unwrap_or_else(|error| panic!("{}:{}: {error}", case.display(), number + 1));
        decoder.frame(&frame, &mut events).unwrap();
        for event in events.drain(..) {
            text.push_str(&line(&event));
            text.push('\n');
        }
    }
    text
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn fixtures_decode_to_their_events() {
    let bless = std::env::var_os("COBY_BLESS").is_some();
    let mut cases = 0;
    for folder in sorted(&fixtures()) {
        let venue = folder.file_name().unwrap().to_string_lossy().into_owned();
        assert!(folder.join("README.md").exists(), "{venue}: fixtures need a README.md that says where they are from");
        for case in sorted(&folder).into_iter().filter(|path| path.extension().is_some_and(|end| end == "jsonl")) {
            let events = decode(&venue, &case);
            let golden = case.with_extension("events");
            if bless {
                fs::write(&golden, &events).unwrap();
            }
            let expected = fs::read_to_string(&golden).unwrap_or_default();
            for (number, (found, expected)) in events.lines().zip(expected.lines()).enumerate() {
                assert_eq!(found, expected, "{}:{}", golden.display(), number + 1);
            }
            assert_eq!(events.lines().count(), expected.lines().count(), "{}", golden.display());
            cases += 1;
        }
    }
    assert!(cases > 0, "no fixtures found");
}
