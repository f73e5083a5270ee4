//! What a session takes in its usual spelling must mean what it would mean read key by key, and damage in it the same.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coby_core::event::{At, BookChange, Observer, Trade};
use coby_core::feed::{Feed, Lookup};
use coby_core::instrument::{Instruments, Listing};
use coby_core::record::{Body, HttpRequest, Nanos, Pos, Record};
use coby_core::sink::CandleItem;
use coby_core::venue::{
    ConnectionPlan, Dial, Frame, Scope, Session, Sink, Subscription, TopLevels, Venue, VenueError, VenueSpec,
};

use crate::gzip::Inflater;
use crate::registry::find;

/// A venue whose sessions know no usual spelling.
struct KeyByKey(&'static dyn Venue);

struct KeyByKeySession(Box<dyn Session>);

impl Session for KeyByKeySession {
    fn on_frame(&mut self, frame: Frame<'_>, recv: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            // A field that nobody knows, in front of a protocol buffer.
            Frame::Binary(bytes) if bytes.first() != Some(&b'{') => {
                self.0.on_frame(Frame::Binary(&[b"\xa0\x06\x00", bytes].concat()), recv, out)
            }
            frame => self.0.on_frame(frame, recv, out),
        }
    }
    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        self.0.resync(scope, out)
    }
    fn save(&self, out: &mut Vec<u8>) {
        self.0.save(out);
    }
}

impl Venue for KeyByKey {
    fn spec(&self) -> &'static VenueSpec {
        self.0.spec()
    }
    fn instrument_requests(&self) -> Vec<HttpRequest> {
        self.0.instrument_requests()
    }
    fn parse_instruments(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        self.0.parse_instruments(request, body, out)
    }
    fn plan(&self, subscriptions: &[Subscription], instruments: &Instruments) -> Vec<ConnectionPlan> {
        self.0.plan(subscriptions, instruments)
    }
    fn dial(&self, plan: &ConnectionPlan, answer: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        self.0.dial(plan, answer)
    }
    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        Ok(Box::new(KeyByKeySession(self.0.session(plan, saved)?)))
    }
    fn uncrosses(&self, feed: u8) -> bool {
        self.0.uncrosses(feed)
    }
    fn checksum(&self, feed: u8, top: TopLevels<'_>) -> u32 {
        self.0.checksum(feed, top)
    }
    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, to: Nanos) -> Option<HttpRequest> {
        self.0.candle_request(native, interval, from, to)
    }
    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        self.0.parse_candles(request, body, out)
    }
}

fn find_key_by_key(id: &str) -> Option<&'static dyn Venue> {
    Some(Box::leak(Box::new(KeyByKey(find(id)?))))
}

/// Everything that a feed tells, as text.
#[derive(Default)]
struct Log(String);

impl Log {
    fn line(&mut self, line: &dyn std::fmt::Debug) {
        writeln!(self.0, "{line:?}").unwrap();
    }
}

impl Observer for Log {
    fn message(&mut self, at: &At<'_>, change: &BookChange<'_>) {
        self.line(&(at.key, at.ts_event, at.proof, change));
    }
    fn trade(&mut self, at: &At<'_>, trade: &Trade<'_>) {
        self.line(&(at.key, at.ts_event, trade));
    }
    fn candle(&mut self, at: &At<'_>, candle: &CandleItem) {
        self.line(&(at.key, candle));
    }
    fn error(&mut self, _: Pos, _: Nanos, _: &'static VenueSpec, error: &VenueError) {
        self.line(error);
    }
}

/// What frames bring forth on one connection, of text or `binary`. Books are not joined, so that every message tells its levels.
fn told(lookup: Lookup, venue: &str, url: &str, binary: bool, frames: &[Vec<u8>]) -> String {
    let (mut feed, mut log, mut actions) = (Feed::new(lookup, false), Log::default(), Vec::new());
    let open = Body::Open { venue, plan: None, url, ping: 0 };
    let arrived = frames.iter().map(|frame| if binary { Body::Binary(frame) } else { Body::Text(frame) });
    for (pos, body) in (1..).zip(std::iter::once(open).chain(arrived)) {
        if let Body::Text(text) | Body::Binary(text) = body {
            log.line(&String::from_utf8_lossy(text));
        }
        feed.step(&Record { pos, recv: 0, conn: 1, source: 0, body }, &mut log, &mut actions).unwrap();
    }
    let instruments: Vec<_> = feed.instruments(0).into_iter().flat_map(Instruments::iter).collect();
    log.line(&(feed.counts(0), instruments, actions));
    log.0
}

fn damaged(text: &[u8], random: &mut u64) -> Vec<u8> {
    let mut below = |end: usize| {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        (*random >> 16) as usize % end
    };
    let mut text = text.to_vec();
    let (at, kind) = (below(text.len()), below(5));
    match kind {
        0 => drop(text.remove(at)),
        1 => text.insert(at, text[at]),
        2 => text.truncate(at),
        _ => {
            const BYTES: &[u8] = b"0123456789\"\\,:{}[].-+eE aT\xc3\xff\n";
            text[at] = BYTES[below(BYTES.len())];
        }
    }
    text
}

/// Those that have a usual spelling.
const VENUES: [&str; 16] = [
    "binance",
    "binance_futures",
    "bitfinex",
    "bitstamp",
    "bybit",
    "coinbase",
    "cryptocom",
    "deribit",
    "dydx",
    "htx",
    "hyperliquid",
    "kraken",
    "kucoin",
    "mexc",
    "okx",
    "upbit",
];

/// A frame in base 64, inflated where it is gzip.
fn plain(body: &str) -> Vec<u8> {
    let bytes = STANDARD.decode(body).unwrap();
    match Inflater::default().inflate(&bytes) {
        Ok(text) => text.to_vec(),
        Err(_) => bytes,
    }
}

#[test]
fn the_usual_spelling_means_what_its_keys_mean() {
    let mut random = 0x9E37_79B9_7F4A_7C15;
    for venue in VENUES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(venue);
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
        files.sort();
        for line in files
            .iter()
            .flat_map(|file| fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            let (Some(kind @ ("text" | "binary_b64")), Some(url), Some(body)) =
                (line["kind"].as_str(), line["url"].as_str(), line["body"].as_str())
            else {
                continue;
            };
            let whole = if kind == "text" { body.as_bytes().to_vec() } else { plain(body) };
            if whole.is_empty() {
                continue;
            }
            let binary = venue == "mexc" && kind == "binary_b64";
            // Whole once more behind the damage: what was refused leaves nothing behind.
            let mut texts = vec![whole.clone(), whole.clone()];
            texts.extend((0..300).map(|_| damaged(&whole, &mut random)));
            texts.push(whole);
            let [usual, key_by_key] =
                [find, find_key_by_key].map(|lookup: Lookup| told(lookup, venue, url, binary, &texts));
            let differs = usual.lines().zip(key_by_key.lines()).find(|(usual, key_by_key)| usual != key_by_key);
            assert!(usual == key_by_key, "{venue}: {differs:#?}");
        }
    }
}
