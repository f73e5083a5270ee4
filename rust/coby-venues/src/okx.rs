//! OKX v5 public: <https://www.okx.com/docs-v5/en/>. Spot, swaps and futures; derivative sizes count contracts.
//!
//! Books and trades live on `/public`, candles on `/business`. Keep-alive is the plain text `ping`.
//!
//! Book: a snapshot on subscribing, then every `prevSeqId` must equal the `seqId` before it; ids jump, and a
//! maintenance may even lower them. The venue has announced to stop that snapshot: where none comes, REST gives
//! one. Checksums have been 0 since 2026-06; recordings from before 2023 have nothing but checksums.

use std::fmt::Write;

use coby_core::decimal::Decimal;
use coby_core::instrument::{InstrumentId, InstrumentKind, Instruments, Listing, Status};
use coby_core::level::{Level, Side};
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Seen};
use coby_core::sink::BookKind;
use coby_core::time::{DAY, MILLI, MINUTE, SECOND, nanos};
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, ChecksumSpec, Class, ConnectionPlan, Dial, Frame, Join,
    Limits, Ping, Proof, Rule, Scope, Sequence, Session, Sink, Subscription, TopLevels, TradeFeed, TradeItem, Venue,
    VenueError, VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;

const REST: &str = "https://www.okx.com";
const PUBLIC: &str = "wss://ws.okx.com:8443/ws/v5/public";
const BUSINESS: &str = "wss://ws.okx.com:8443/ws/v5/business";

const UNNUMBERED: u8 = 0;
const BOOKS: u8 = 1;
const BOOKS_TBT: u8 = 2;
const BOOKS50_TBT: u8 = 3;
const BOOKS5: u8 = 4;
const BBO_TBT: u8 = 5;
const TRADES: u8 = 0;
const TRADES_ALL: u8 = 1;
const CANDLE: u8 = 0;

/// Levels a side that a checksum covers.
const CHECKED: usize = 25;

static SPEC: VenueSpec = VenueSpec {
    id: "okx",
    name: "OKX",
    protocol: "2026-09",
    closed: None,
    sockets: &[PUBLIC, BUSINESS],
    rest: REST,
    ping: Ping::Text("ping"),
    silence: 30,
    // 480 requests an hour on a connection, and starting one book again takes two of them.
    limits: Limits { dials: (3, 1), messages: (480, 3_600), spacing: 0, streams: 100, rest: (20, 2), lifetime: 0 },
    books: &[
        // A connection confirms `books` before its first message tells which of the two it is: this one takes over.
        BookFeed {
            name: "books without ids",
            join: Join::Socket,
            rule: Rule::None,
            proof: Proof::Checksum,
            limits: "only in recordings from before 2023: a lost message shows at the next checksum",
            ..NUMBERED
        },
        BookFeed { name: "books", ..NUMBERED },
        BookFeed { name: "books-l2-tbt", ..NUMBERED },
        BookFeed { name: "books50-l2-tbt", depth: Some(50), ..NUMBERED },
        BookFeed { name: "books5", depth: Some(5), ..IMAGE },
        BookFeed { name: "bbo-tbt", depth: Some(1), ..IMAGE },
    ],
    trades: &[
        TradeFeed { name: "trades", proof: Proof::None, aggregated: true },
        TradeFeed { name: "trades-all", proof: Proof::None, aggregated: false },
    ],
    candles: &[CandleFeed { name: "candle1m", interval: MINUTE }],
};

const NUMBERED: BookFeed = BookFeed {
    name: "",
    join: Join::Request { after: 20 },
    rule: Rule::Chain,
    proof: Proof::Sequence,
    checksum: Some(ChecksumSpec { levels: CHECKED }),
    digits: true,
    depth: Some(400),
    shows: None,
    refresh: 0,
    limits: "levels below the 400 best of a side are not told",
};

const IMAGE: BookFeed = BookFeed {
    join: Join::Image,
    rule: Rule::Monotone,
    proof: Proof::None,
    checksum: None,
    digits: false,
    limits: "whole images: a lost one is healed by the next",
    ..NUMBERED
};

/// OKX.
#[derive(Clone, Copy, Debug)]
pub struct Okx;

#[derive(Deserialize)]
struct Answer<T> {
    code: String,
    data: Option<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct InstrumentInfo {
    inst_id: String,
    inst_type: String,
    base_ccy: String,
    quote_ccy: String,
    uly: String,
    inst_family: String,
    tick_sz: String,
    lot_sz: String,
    state: String,
    ct_val: String,
    ct_mult: String,
    ct_type: String,
    exp_time: String,
}

impl InstrumentInfo {
    /// `None` for options and what else has no price of its own kind here.
    fn listing(&self) -> Result<Option<Listing>, VenueError> {
        let derivative = self.inst_type != "SPOT";
        let underlying = if self.uly.is_empty() { &self.inst_family } else { &self.uly };
        let pair = if derivative { underlying.split_once('-') } else { Some((&*self.base_ccy, &*self.quote_ccy)) };
        let Some((base, quote)) = pair else { return Ok(None) };
        let mut listing = Listing::spot(&self.inst_id, base, quote);
        listing.kind = match self.inst_type.as_str() {
            "SPOT" => InstrumentKind::Spot,
            "SWAP" => InstrumentKind::Perpetual,
            "FUTURES" => {
                let expiry = self.exp_time.parse().map_err(|_| VenueError::unexpected("expTime"))?;
                InstrumentKind::Future(common::time(expiry, MILLI)?)
            }
            _ => return Ok(None),
        };
        listing.tick_size = common::step(&self.tick_sz);
        listing.lot_size = common::step(&self.lot_sz);
        if derivative {
            let multiplier = common::step(&self.ct_mult).unwrap_or(Decimal::new(1, 0));
            let value = common::step(&self.ct_val).and_then(|value| product(value, multiplier));
            listing.contract_size = value.ok_or_else(|| VenueError::unexpected("ctVal"))?;
            listing.inverse = self.ct_type == "inverse";
        }
        listing.status = if self.state == "live" { Status::Trading } else { Status::Halted };
        Ok(Some(listing))
    }
}

fn product(a: Decimal, b: Decimal) -> Option<Decimal> {
    Some(Decimal::new(a.mantissa.checked_mul(b.mantissa)?, a.scale + b.scale).normal())
        .filter(|product| product.scale <= 18)
}

impl Venue for Okx {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        ["SPOT", "SWAP", "FUTURES"]
            .map(|kind| HttpRequest::get(REST, format!("/api/v5/public/instruments?instType={kind}")))
            .into()
    }

    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let answer: Answer<Vec<InstrumentInfo>> = common::read(body)?;
        let list = answer.data.filter(|_| answer.code == "0");
        for info in list.ok_or_else(|| VenueError::venue(Class::Ignore, body))? {
            out.extend(info.listing()?);
        }
        Ok(())
    }

    fn plan(&self, subscriptions: &[Subscription], _: &Instruments) -> Vec<ConnectionPlan> {
        let (candles, others): (Vec<_>, Vec<_>) =
            subscriptions.iter().cloned().partition(|subscription| subscription.channel == Channel::Candles);
        let mut plans = common::split(PUBLIC, &others, SPEC.limits.streams);
        plans.extend(common::split(BUSINESS, &candles, SPEC.limits.streams));
        plans
    }

    fn dial(&self, plan: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Ok(Dial::Connect { url: plan.base.clone(), ping: 20 * SECOND })
    }

    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        let subscriptions = plan.map(|plan| plan.subscriptions.clone()).unwrap_or_default();
        let new = || OkxSession { subscriptions, ..OkxSession::default() };
        Ok(Box::new(common::load(saved, new)?))
    }

    /// CRC-32 over `bid price:size:ask price:size:...` as printed, best first; a side that ran out is skipped.
    fn checksum(&self, _: u8, top: TopLevels<'_>) -> u32 {
        let mut text = String::new();
        for rank in 0..CHECKED {
            for level in [top.bids.get(rank), top.asks.get(rank)].into_iter().flatten() {
                let Level { price, size, digits } = *level;
                print(Decimal::new(price, top.price_scale), digits.price, &mut text);
                print(Decimal::new(size, top.size_scale), digits.size, &mut text);
            }
        }
        text.pop();
        crc32fast::hash(text.as_bytes())
    }

    /// `after` gives what is older and `before` what is newer; both exclude their time.
    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, to: Nanos) -> Option<HttpRequest> {
        let (bar, _) = INTERVALS.iter().find(|(_, nanos)| *nanos == interval)?;
        // Bars from six hours up exist twice, aligned to Hong Kong and to UTC.
        let zone = if interval >= 360 * MINUTE { "utc" } else { "" };
        let (after, before) = ((to - 1).div_euclid(MILLI) + 1, from.div_euclid(MILLI) - 1);
        let query = format!("instId={native}&bar={bar}{zone}&after={after}&before={before}&limit=300");
        Some(HttpRequest::get(REST, format!("/api/v5/market/history-candles?{query}")))
    }

    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let interval = request.query("bar").and_then(|bar| interval_of(bar.as_bytes()));
        let interval = interval.ok_or_else(|| VenueError::missing("bar"))?;
        let mut c = Cursor::new(body).find(b"data")?.ok_or_else(|| VenueError::venue(Class::Ignore, body))?;
        let mut rows = c.array()?;
        while rows.next(&mut c)? {
            out.push(candle(&mut c, InstrumentId(0), interval)?);
        }
        Ok(())
    }
}

/// Appends a number with so many fraction digits, and a colon.
fn print(number: Decimal, digits: u8, out: &mut String) {
    // The digits were counted on the number's own text, so nothing is lost.
    let mantissa = number.at_scale(digits).unwrap_or(number.mantissa).unsigned_abs();
    let unit = 10_u64.pow(u32::from(digits));
    let (whole, fraction, width) = (mantissa / unit, mantissa % unit, usize::from(digits));
    // Writing into a string cannot fail.
    let _ = if width == 0 { write!(out, "{whole}:") } else { write!(out, "{whole}.{fraction:0width$}:") };
}

/// Intervals that the venue names; months have no fixed length.
const INTERVALS: [(&str, Nanos); 15] = [
    ("1s", SECOND),
    ("1m", MINUTE),
    ("3m", 3 * MINUTE),
    ("5m", 5 * MINUTE),
    ("15m", 15 * MINUTE),
    ("30m", 30 * MINUTE),
    ("1H", 60 * MINUTE),
    ("2H", 120 * MINUTE),
    ("4H", 240 * MINUTE),
    ("6H", 360 * MINUTE),
    ("12H", 720 * MINUTE),
    ("1D", DAY),
    ("2D", 2 * DAY),
    ("3D", 3 * DAY),
    ("1W", 7 * DAY),
];

fn interval_of(bar: &[u8]) -> Option<Nanos> {
    let bar = bar.strip_suffix(b"utc").unwrap_or(bar);
    INTERVALS.iter().find(|(known, _)| known.as_bytes() == bar).map(|(_, nanos)| *nanos)
}

/// What a channel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Book(u8),
    Trades(u8),
    Candles(Nanos),
    /// Tickers and others that are known.
    Other,
}

fn what(channel: &[u8]) -> What {
    match channel {
        b"books" => What::Book(BOOKS),
        b"books-l2-tbt" => What::Book(BOOKS_TBT),
        b"books50-l2-tbt" => What::Book(BOOKS50_TBT),
        b"books5" => What::Book(BOOKS5),
        b"bbo-tbt" => What::Book(BBO_TBT),
        b"trades" => What::Trades(TRADES),
        b"trades-all" => What::Trades(TRADES_ALL),
        other => match other.strip_prefix(b"candle").and_then(interval_of) {
            Some(interval) => What::Candles(interval),
            None => What::Other,
        },
    }
}

/// The channel name of a book feed.
fn channel_of(feed: u8) -> &'static str {
    if feed == UNNUMBERED { "books" } else { SPEC.books.get(usize::from(feed)).map_or("books", |book| book.name) }
}

fn argument(subscription: &Subscription) -> String {
    let channel = match subscription.channel {
        Channel::Book => "books",
        Channel::Trades => "trades",
        Channel::Candles => "candle1m",
    };
    format!(r#"{{"channel":"{channel}","instId":"{}"}}"#, subscription.native)
}

/// Arguments per message; the venue counts messages, and bounds their length.
const BATCH: usize = 50;

#[derive(Default, Serialize, Deserialize)]
struct OkxSession {
    subscriptions: Vec<Subscription>,
    /// Whether this connection has pushed any snapshot: subscribing again then brings another.
    pushes: bool,
}

impl Session for OkxSession {
    fn usual(&mut self, text: &[u8], out: &mut Sink<'_>) -> Option<()> {
        usual(text, out)
    }

    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            Frame::Open { .. } => {
                for (batch, subscriptions) in (1..).zip(self.subscriptions.chunks(BATCH)) {
                    let arguments: Vec<String> = subscriptions.iter().map(argument).collect();
                    let arguments = arguments.join(",");
                    out.send(&format!(r#"{{"id":"{batch}","op":"subscribe","args":[{arguments}]}}"#));
                }
                Ok(())
            }
            Frame::Text(b"pong") => Ok(out.known()),
            Frame::Text(text) => self.text(text, out),
            Frame::Http { request, status, body } => match request.route() {
                "/api/v5/market/books" => {
                    common::success(status, body)?;
                    let native = request.query("instId").ok_or_else(|| VenueError::missing("instId"))?;
                    let mut c = Cursor::new(body).find(b"data")?.ok_or_else(|| VenueError::missing("data"))?;
                    books(&mut c, native.as_bytes(), BOOKS, BookKind::Snapshot, out)
                }
                _ => Ok(out.unknown()),
            },
            Frame::Binary(_) => Ok(out.unknown()),
            Frame::Close(_) => Ok(()),
        }
    }

    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let Scope::Book(id, feed) = scope else {
            return Err(VenueError::venue(Class::Reconnect, b"a new connection costs less than every book's requests"));
        };
        let native = out.instruments().get(id).native.clone();
        if feed == BOOKS && !self.pushes {
            out.get(HttpRequest::get(REST, format!("/api/v5/market/books?instId={native}&sz=400")));
            return Ok(());
        }
        let argument = format!(r#"{{"channel":"{}","instId":"{native}"}}"#, channel_of(feed));
        out.send(&format!(r#"{{"op":"unsubscribe","args":[{argument}]}}"#));
        out.send(&format!(r#"{{"op":"subscribe","args":[{argument}]}}"#));
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        common::save(self, out);
    }
}

impl OkxSession {
    fn text(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut named, mut action, mut late) = (None, None, None);
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"event" => return self.event(text, out),
                b"arg" => {
                    seen.once(0, &c)?;
                    named = Some(argument_at(&mut c)?);
                }
                b"action" => {
                    seen.once(1, &c)?;
                    action = Some(match c.str()? {
                        b"snapshot" => BookKind::Snapshot,
                        b"update" => BookKind::Delta,
                        _ => return Err(VenueError::unexpected("action")),
                    });
                }
                b"data" => {
                    seen.once(2, &c)?;
                    // Only books have an action; a message of theirs without one is an image.
                    match named {
                        Some((what, native)) if action.is_some() || !matches!(what, What::Book(..BOOKS5)) => {
                            self.data(&mut c, what, native, action, out)?;
                        }
                        _ => {
                            late = Some(c);
                            c.skip()?;
                        }
                    }
                }
                _ => c.skip()?,
            }
        }
        c.end()?;
        match (named, late) {
            (Some((what, native)), Some(mut late)) => self.data(&mut late, what, native, action, out),
            (Some(_), None) if seen.has(2) => Ok(()),
            _ => Ok(out.unknown()),
        }
    }

    fn data(
        &mut self,
        c: &mut Cursor<'_>,
        what: What,
        native: &[u8],
        action: Option<BookKind>,
        out: &mut Sink<'_>,
    ) -> Result<(), VenueError> {
        match (what, action) {
            (What::Book(feed @ (BOOKS5 | BBO_TBT)), _) => books(c, native, feed, BookKind::Image, out),
            (What::Book(feed), Some(kind)) => {
                self.pushes |= kind == BookKind::Snapshot;
                books(c, native, feed, kind, out)
            }
            (What::Book(_), None) => Err(VenueError::missing("action")),
            (What::Trades(feed), _) => trades(c, native, feed, out),
            (What::Candles(interval), _) => {
                let id = out.instrument(native);
                let mut rows = c.array()?;
                while rows.next(c)? {
                    let candle = candle(c, id, interval)?;
                    out.candle(candle);
                }
                Ok(())
            }
            (What::Other, _) => {
                c.skip()?;
                Ok(out.known())
            }
        }
    }

    fn event(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let event: Event = common::read(text)?;
        let planned = !self.subscriptions.is_empty();
        match (event.kind.as_str(), event.code.as_deref()) {
            ("subscribe", _) => {
                let Some(Argument { channel, native: Some(native) }) = event.arg else { return Ok(out.known()) };
                let (channel, feed) = match what(channel.as_bytes()) {
                    What::Book(feed) => (Channel::Book, feed),
                    What::Trades(feed) => (Channel::Trades, feed),
                    What::Candles(_) => (Channel::Candles, CANDLE),
                    What::Other => return Ok(out.known()),
                };
                let id = out.instrument(native.as_bytes());
                out.subscribed(channel, feed, id);
                Ok(())
            }
            ("error" | "channel-conn-count-error", _) => Err(VenueError::venue(common::refusal(planned), text)),
            // The venue upgrades and is about to close; a recording goes on until it does.
            ("notice", Some("64008")) if planned => Err(VenueError::venue(Class::Reconnect, text)),
            ("unsubscribe" | "notice" | "channel-conn-count" | "login", _) => Ok(out.known()),
            _ => Ok(out.unknown()),
        }
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "event")]
    kind: String,
    code: Option<String>,
    arg: Option<Argument>,
}

#[derive(Deserialize)]
struct Argument {
    channel: String,
    #[serde(rename = "instId")]
    native: Option<String>,
}

/// `{"arg":{"channel":"books","instId":".."},"action":"update","data":[{"asks":[["p","q","0","n"]],"bids":[..],"ts":"ms",`
/// `"checksum":..,"seqId":..,"prevSeqId":..}]}` to the letter, ids in either order; `None` for any other.
fn usual(text: &[u8], out: &mut Sink<'_>) -> Option<()> {
    let mut c = Cursor::new(text);
    c.literal(br#"{"arg":{"channel":""#)?;
    let What::Book(feed @ (BOOKS | BOOKS_TBT | BOOKS50_TBT)) = what(c.plain()?) else { return None };
    c.literal(br#","instId":""#)?;
    let native = c.plain()?;
    c.literal(br#"},"action":"update","data":[{"asks":"#)?;
    let id = out.usual_instrument(native)?;
    out.begin(id);
    out.usual_pairs(Side::Ask, &mut c)?;
    c.literal(br#","bids":"#)?;
    out.usual_pairs(Side::Bid, &mut c)?;
    c.literal(br#","ts":""#)?;
    let time = nanos(c.digits()?, MILLI)?;
    c.literal(br#"","checksum":"#)?;
    let negative = c.literal(b"-").is_some();
    let checksum = c.digits()?;
    let checksum = i32::try_from(if negative { -checksum } else { checksum }).ok()?;
    let (last, previous);
    if c.literal(br#","seqId":"#).is_some() {
        last = c.digits()?;
        c.literal(br#","prevSeqId":"#)?;
        previous = c.digits()?;
    } else {
        c.literal(br#","prevSeqId":"#)?;
        previous = c.digits()?;
        c.literal(br#","seqId":"#)?;
        last = c.digits()?;
    }
    c.literal(b"}]}")?;
    c.done()?;
    let sequence = Some(Sequence { first: Some(previous), last, previous: Some(previous) });
    let checksum = (checksum != 0).then_some(checksum as u32);
    out.book(BookHead { sequence, checksum, ts_event: Some(time), ..BookHead::new(feed, BookKind::Delta) });
    Some(())
}

/// `{"channel":"books","instId":"BTC-USDT"}`
fn argument_at<'a>(c: &mut Cursor<'a>) -> Result<(What, &'a [u8]), VenueError> {
    let (mut channel, mut native) = (None, &b""[..]);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"channel" => channel = Some(what(c.str()?)),
            b"instId" => native = c.str()?,
            _ => c.skip()?,
        }
    }
    let channel = channel.ok_or_else(|| VenueError::missing("channel"))?;
    if native.is_empty() && channel != What::Other {
        return Err(VenueError::missing("instId"));
    }
    Ok((channel, native))
}

/// Book messages of one instrument: `[{"asks":[[price, size, "0", orders]], "bids":[..], "ts":.., ..}]`
fn books(c: &mut Cursor<'_>, native: &[u8], feed: u8, kind: BookKind, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let id = out.instrument(native);
    let mut messages = c.array()?;
    while messages.next(c)? {
        out.begin(id);
        let mut seen = Seen::default();
        let (mut last, mut previous, mut time, mut checksum) = (None, None, 0, 0);
        let mut o = c.object()?;
        while let Some(key) = o.key(c)? {
            match key {
                b"bids" => {
                    seen.once(0, c)?;
                    out.pairs(Side::Bid, c)?;
                }
                b"asks" => {
                    seen.once(1, c)?;
                    out.pairs(Side::Ask, c)?;
                }
                b"ts" => {
                    seen.once(2, c)?;
                    time = c.int()?;
                }
                b"seqId" => {
                    seen.once(3, c)?;
                    last = Some(c.int()?);
                }
                b"prevSeqId" => {
                    seen.once(4, c)?;
                    previous = Some(c.int()?);
                }
                b"checksum" => {
                    seen.once(5, c)?;
                    checksum = c.int()?;
                }
                _ => c.skip()?,
            }
        }
        common::require(seen, &["bids", "asks", "ts"])?;
        let (feed, sequence) = match (kind, last) {
            // Ids may fall, times do not.
            (BookKind::Image, _) => (feed, Some(Sequence::at(time))),
            (_, None) => (UNNUMBERED, None),
            (BookKind::Snapshot, Some(last)) => (feed, Some(Sequence::at(last))),
            (BookKind::Delta, Some(last)) => {
                let previous = previous.ok_or_else(|| VenueError::missing("prevSeqId"))?;
                // A snapshot over REST may stand between `prevSeqId` and `seqId`.
                (feed, Some(Sequence { first: Some(previous), last, previous: Some(previous) }))
            }
        };
        // Zero says that none was computed.
        let checksum = match (kind, i32::try_from(checksum)) {
            (BookKind::Image, _) | (_, Ok(0)) => None,
            (_, Ok(checksum)) => Some(checksum as u32),
            (_, Err(_)) => return Err(VenueError::unexpected("checksum beyond 32 bits")),
        };
        // A pushed snapshot begins its stream, whatever came before; one over REST, which has no `prevSeqId`, must meet it.
        let kind = if previous.is_some() && kind == BookKind::Snapshot { BookKind::Image } else { kind };
        let ts_event = Some(common::time(time, MILLI)?);
        out.book(BookHead { sequence, checksum, ts_event, ..BookHead::new(feed, kind) });
    }
    Ok(())
}

fn trades(c: &mut Cursor<'_>, native: &[u8], feed: u8, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let id = out.instrument(native);
    let mut rows = c.array()?;
    while rows.next(c)? {
        let mut seen = Seen::default();
        let (mut trade_id, mut price, mut size) = (&b""[..], Decimal::default(), Decimal::default());
        let (mut taker, mut time) = (Side::Bid, None);
        let mut o = c.object()?;
        while let Some(key) = o.key(c)? {
            match key {
                b"tradeId" => {
                    seen.once(0, c)?;
                    trade_id = c.text()?;
                }
                b"px" => {
                    seen.once(1, c)?;
                    price = c.decimal()?;
                }
                b"sz" => {
                    seen.once(2, c)?;
                    size = c.decimal()?;
                }
                b"side" => {
                    seen.once(3, c)?;
                    taker = match c.str()? {
                        b"buy" => Side::Bid,
                        b"sell" => Side::Ask,
                        _ => return Err(VenueError::unexpected("side")),
                    };
                }
                b"ts" => time = Some(common::time_at(c, MILLI)?),
                _ => c.skip()?,
            }
        }
        common::require(seen, &["tradeId", "px", "sz", "side"])?;
        out.trade(&TradeItem {
            feed,
            id,
            price,
            size,
            taker,
            trade_id,
            sequence: None,
            history: false,
            ts_event: time,
        })?;
    }
    Ok(())
}

/// `[time, open, high, low, close, size, currency size, quote size, confirmed]`; older rows end earlier.
fn candle(c: &mut Cursor<'_>, id: InstrumentId, interval: Nanos) -> Result<CandleItem, VenueError> {
    let mut row = c.array()?;
    row.more(c)?;
    let open_time = common::time_at(c, MILLI)?;
    let mut numbers = [Decimal::default(); 6];
    for number in &mut numbers {
        row.more(c)?;
        *number = c.decimal()?;
    }
    let (mut notional, mut closed) = (None, false);
    if row.next(c)? {
        notional = Some(c.decimal()?);
        if row.next(c)? {
            closed = c.text()? == b"1";
            row.rest(c)?;
        }
    }
    let [open, high, low, close, volume, _] = numbers;
    Ok(CandleItem {
        feed: CANDLE,
        id,
        interval,
        open_time,
        open,
        high,
        low,
        close,
        volume,
        notional,
        count: None,
        taker_buy: None,
        closed,
        ts_event: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, subscriptions};

    fn planned(natives: &[&str], channel: Channel) -> Bench {
        let plans = Okx.plan(&subscriptions(natives, &[channel]), &Instruments::default());
        Bench::open(&Okx, Some(&plans[0]))
    }

    #[test]
    fn candles_live_on_a_socket_of_their_own() {
        let subscriptions = subscriptions(&["BTC-USDT"; 60], &[Channel::Book, Channel::Trades, Channel::Candles]);
        let plans = Okx.plan(&subscriptions, &Instruments::default());
        let shape: Vec<_> = plans.iter().map(|plan| (plan.base.as_str(), plan.subscriptions.len())).collect();
        assert_eq!(shape, [(PUBLIC, 100), (PUBLIC, 20), (BUSINESS, 60)]);
        assert_eq!(Okx.dial(&plans[0], None), Ok(Dial::Connect { url: PUBLIC.into(), ping: 20 * SECOND }));
    }

    #[test]
    fn one_message_subscribes_many() {
        let sent = planned(&["BTC-USDT"; 51], Channel::Candles).sent;
        assert_eq!(sent.len(), 2);
        let argument = r#"{"channel":"candle1m","instId":"BTC-USDT"}"#;
        assert_eq!(sent[1], format!(r#"{{"id":"2","op":"subscribe","args":[{argument}]}}"#));
        assert!(sent.iter().all(|message| message.len() < 4_096));
    }

    const ACK: &str = r#"{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"}}"#;

    fn books(action: &str, sequence: &str) -> String {
        let levels = r#""bids":[["5","1","0","1"]],"asks":[["6","1","0","1"]],"ts":"1""#;
        format!(
            r#"{{"arg":{{"channel":"books","instId":"BTC-USDT"}},"action":"{action}","data":[{{{levels},{sequence}}}]}}"#
        )
    }

    #[test]
    fn a_lost_book_is_subscribed_again() {
        let mut bench = planned(&["BTC-USDT"], Channel::Book);
        bench.texts(&[ACK, &books("snapshot", r#""seqId":5,"prevSeqId":-1"#)]);
        bench.reload();
        bench.text(&books("update", r#""seqId":9,"prevSeqId":8"#));
        let argument = r#"[{"channel":"books","instId":"BTC-USDT"}]"#;
        let again = ["unsubscribe", "subscribe"].map(|op| format!(r#"{{"op":"{op}","args":{argument}}}"#));
        assert_eq!(bench.sent[1..], again);
    }

    #[test]
    fn a_pushed_snapshot_replaces_even_a_book_that_is_live() {
        let mut bench = planned(&["BTC-USDT"], Channel::Book);
        bench.texts(&[ACK, &books("snapshot", r#""seqId":5,"prevSeqId":-1"#)]);
        bench.text(&books("update", r#""seqId":9,"prevSeqId":5"#).replace(r#""5","1""#, r#""5","7""#));
        assert_eq!(bench.book("BTC-USDT"), "Live 5:7 | 6:1");
        // As after leaving and joining where nothing has happened since, and where a maintenance has lowered the ids.
        for id in [9, 3] {
            bench.text(&books("snapshot", &format!(r#""seqId":{id},"prevSeqId":-1"#)));
            assert_eq!(bench.book("BTC-USDT"), "Live 5:1 | 6:1");
            let next = format!(r#""seqId":9,"prevSeqId":{id}"#);
            bench.text(&books("update", &next).replace(r#""5","1""#, r#""5","7""#));
            assert_eq!(bench.book("BTC-USDT"), "Live 5:7 | 6:1");
        }
        assert!(bench.told.0.iter().all(|line| !line.starts_with("gap")));
    }

    #[test]
    fn where_no_snapshot_is_pushed_rest_gives_one() {
        let mut bench = planned(&["BTC-USDT"], Channel::Book);
        bench.text(ACK);
        for n in 0..20 {
            bench.text(&books("update", &format!(r#""seqId":{},"prevSeqId":{}"#, 10 * n + 10, 10 * n)));
        }
        let path = "/api/v5/market/books?instId=BTC-USDT&sz=400";
        assert_eq!(bench.sent[1..], [format!("GET {path}")]);
        bench.http(path, r#"{"code":"0","data":[{"bids":[["4","2","0","1"]],"asks":[],"ts":"1","seqId":195}]}"#);
        assert_eq!(bench.book("BTC-USDT"), "Live 5:1 4:2 | 6:1");
    }

    #[test]
    fn checksums_cover_the_printed_text() {
        let mut bench = Bench::open(&Okx, None);
        // CRC-32 of "5:1:6:1".
        bench.text(&books("snapshot", r#""checksum":-1785675822"#));
        assert_eq!(bench.told.0.last().unwrap(), "checksum BTC-USDT true");
        let mut text = String::new();
        for (number, digits) in [(Decimal::new(15, 1), 4), (Decimal::new(2, 0), 0), (Decimal::new(5, 3), 3)] {
            print(number, digits, &mut text);
        }
        assert_eq!(text, "1.5000:2:0.005:");
    }

    #[test]
    fn an_upgrade_makes_us_dial_anew_but_ends_no_recording() {
        let notice = r#"{"event":"notice","code":"64008","msg":"x","connId":"y"}"#;
        let mut bench = planned(&["BTC-USDT"], Channel::Trades);
        bench.text(notice);
        assert!(bench.sent[1].starts_with("reconnect fatal=false"));
        let mut bench = Bench::open(&Okx, None);
        bench.text(notice);
        assert_eq!(bench.sent, [""; 0]);
    }

    #[test]
    fn contracts() {
        let listing = |fields: &str| {
            let body = format!(r#"{{"code":"0","data":[{{"instId":"X","uly":"BTC-USD","tickSz":"0.1",{fields}}}]}}"#);
            let mut listings = Vec::new();
            let request = &Okx.instrument_requests()[0];
            Okx.parse_instruments(request, body.as_bytes(), &mut listings).map(|()| listings.pop())
        };
        let swap = listing(r#""instType":"SWAP","ctVal":"0.1","ctMult":"10","ctType":"inverse","state":"live""#);
        let swap = swap.unwrap().unwrap();
        assert_eq!((swap.symbol().as_str(), swap.inverse), ("BTC-USD-PERP", true));
        assert_eq!((swap.contract_size, swap.status), (Decimal::new(1, 0), Status::Trading));
        let future =
            r#""instType":"FUTURES","ctVal":"0.01","ctType":"linear","expTime":"1790323200000","state":"suspend""#;
        let future = listing(future).unwrap().unwrap();
        assert_eq!((future.symbol().as_str(), future.status), ("BTC-USD-260925", Status::Halted));
        assert_eq!(listing(r#""instType":"OPTION","ctVal":"0.01""#), Ok(None));
        assert!(listing(r#""instType":"SWAP","ctVal":"""#).is_err());
    }

    #[test]
    fn candles_over_rest() {
        let request = Okx.candle_request("BTC-USDT", DAY, DAY, 2 * DAY).unwrap();
        let path = "/api/v5/market/history-candles?instId=BTC-USDT&bar=1Dutc&after=172800000&before=86399999&limit=300";
        assert_eq!(request.path, path);
        let mut candles = Vec::new();
        let body = br#"{"code":"0","msg":"","data":[["86400000","1","3","0.5","2","10","11","12","1"]]}"#;
        Okx.parse_candles(&request, body, &mut candles).unwrap();
        let [candle] = candles[..] else { panic!("one candle") };
        assert_eq!((candle.open_time, candle.interval, candle.closed), (DAY, DAY, true));
        assert_eq!((candle.low, candle.notional), (Decimal::new(5, 1), Some(Decimal::new(12, 0))));
    }
}
