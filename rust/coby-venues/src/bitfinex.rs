//! Bitfinex public WebSocket v2: <https://docs.bitfinex.com/docs/ws-general>.
//!
//! Data frames are arrays that name their channel by a number which `subscribed` told. With the flag
//! `SEQ_ALL` every array of a connection is numbered, heartbeats too: a hole cannot be pinned to a channel,
//! so every channel starts again.
//!
//! Book: a snapshot, then single entries `[price, count, amount]`; asks have negative amounts, count 0
//! deletes whatever the amount says. A checksum of the 25 best levels a side comes every few seconds.

use std::fmt::Write;

use coby_core::decimal::{Decimal, DecimalError};
use coby_core::instrument::{InstrumentId, InstrumentKind, Instruments, Listing};
use coby_core::level::{Level, Side};
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Array, Cursor, Kind};
use coby_core::sink::{self, BookKind};
use coby_core::time::{DAY, MILLI, MINUTE, nanos};
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, ChecksumSpec, Class, ConnectionPlan, Dial, Frame, Join,
    Limits, Ping, Proof, Rule, Scope, Session, Sink, Subscription, TopLevels, TradeFeed, TradeItem, Venue, VenueError,
    VenueErrorKind, VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;

const REST: &str = "https://api-pub.bitfinex.com";
const SOCKET: &str = "wss://api-pub.bitfinex.com/ws/2";

const BOOK: u8 = 0;
const TRADES: u8 = 0;
const CANDLES: u8 = 0;

const TIMESTAMP: i64 = 32_768;
const SEQ_ALL: i64 = 65_536;
const OB_CHECKSUM: i64 = 131_072;
const BULK_UPDATES: i64 = 536_870_912;

/// Levels a side that a checksum covers.
const CHECKED: usize = 25;

static SPEC: VenueSpec = VenueSpec {
    id: "bitfinex",
    name: "Bitfinex",
    protocol: "2026-09",
    closed: None,
    sockets: &[SOCKET],
    rest: REST,
    ping: Ping::Protocol,
    silence: 35,
    limits: Limits { dials: (20, 60), messages: (10, 1), spacing: 0, streams: 25, rest: (10, 60), lifetime: 0 },
    books: &[BookFeed {
        name: "book P0",
        join: Join::Socket,
        rule: Rule::Connection,
        proof: Proof::Sequence,
        checksum: Some(ChecksumSpec { levels: CHECKED }),
        digits: false,
        depth: Some(250),
        shows: None,
        refresh: 0,
        limits: "a lost frame cannot be pinned to one channel: all of the connection's start again",
    }],
    trades: &[TradeFeed { name: "te", proof: Proof::Sequence, aggregated: false }],
    candles: &[CandleFeed { name: "trade:1m", interval: MINUTE }],
};

/// Bitfinex.
#[derive(Clone, Copy, Debug)]
pub struct Bitfinex;

impl Venue for Bitfinex {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        ["/v2/conf/pub:list:pair:exchange", "/v2/conf/pub:list:pair:futures"]
            .map(|path| HttpRequest::get(REST, path))
            .into()
    }

    fn parse_instruments(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let lists: Vec<Vec<String>> = common::read(body)?;
        for pair in lists.into_iter().flatten() {
            // Codes longer than three characters are set apart by a colon.
            let Some((base, quote)) = pair.split_once(':').or_else(|| pair.split_at_checked(3)) else { continue };
            let mut listing = Listing::spot(&format!("t{pair}"), asset(base), asset(quote));
            if request.route().ends_with("futures") {
                listing.kind = InstrumentKind::Perpetual;
            }
            // Prices have five significant digits, which is no fixed step.
            listing.lot_size = common::step_of_decimals(8);
            out.push(listing);
        }
        Ok(())
    }

    fn plan(&self, subscriptions: &[Subscription], _: &Instruments) -> Vec<ConnectionPlan> {
        common::split(SOCKET, subscriptions, SPEC.limits.streams)
    }

    fn dial(&self, plan: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Ok(Dial::Connect { url: plan.base.clone(), ping: 0 })
    }

    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        let subscriptions = plan.map(|plan| plan.subscriptions.clone()).unwrap_or_default();
        let new = || BitfinexSession { subscriptions, ..BitfinexSession::default() };
        Ok(Box::new(common::load(saved, new)?))
    }

    /// CRC-32 over `bid price:amount:ask price:-amount:...`, best first; a side that ran out is skipped.
    fn checksum(&self, _: u8, top: TopLevels<'_>) -> u32 {
        let mut text = String::new();
        let mut push = |level: Option<&Level>, sign: i64| {
            let Some(level) = level else { return };
            if !text.is_empty() {
                text.push(':');
            }
            script_number(Decimal::new(level.price, top.price_scale), &mut text);
            text.push(':');
            script_number(Decimal::new(level.size * sign, top.size_scale), &mut text);
        };
        for rank in 0..CHECKED {
            push(top.bids.get(rank), 1);
            push(top.asks.get(rank), -1);
        }
        crc32fast::hash(text.as_bytes())
    }

    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, to: Nanos) -> Option<HttpRequest> {
        let (name, _) = INTERVALS.iter().find(|(_, nanos)| *nanos == interval)?;
        let (start, end) = (from.div_euclid(MILLI), (to - 1).div_euclid(MILLI));
        let path = format!("/v2/candles/trade:{name}:{native}/hist?limit=10000&start={start}&end={end}&sort=1");
        Some(HttpRequest::get(REST, path))
    }

    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let key = request.route().split('/').find_map(candle_key);
        let (interval, _) = key.ok_or_else(|| VenueError::missing("candle key"))?;
        let mut c = Cursor::new(body);
        let mut rows = c.array()?;
        while rows.next(&mut c)? {
            let mut row = c.array()?;
            row.more(&mut c)?;
            out.push(CandleItem { closed: true, ..candle(&mut row, &mut c, InstrumentId(0), interval)? });
        }
        Ok(())
    }
}

/// The usual name of an asset that the venue calls otherwise (its `pub:map:currency:sym`); perpetuals mark
/// both of theirs with `F0`.
fn asset(code: &str) -> &str {
    match code.strip_suffix("F0").unwrap_or(code) {
        "UST" => "USDT",
        "UDC" => "USDC",
        "EUT" => "EURT",
        "TSD" => "TUSD",
        "ALG" => "ALGO",
        "ATO" => "ATOM",
        "DSH" => "DASH",
        "IOT" => "IOTA",
        "MNA" => "MANA",
        "QTM" => "QTUM",
        "STJ" => "STORJ",
        code => code,
    }
}

/// Appends a number as ECMAScript's `String(number)` prints it, which is what the venue hashes.
fn script_number(number: Decimal, out: &mut String) {
    let number = number.normal();
    let digits = number.mantissa.unsigned_abs().to_string();
    // Below 10^-6 the exponent form begins.
    let exponent = digits.len() as i64 - 1 - i64::from(number.scale);
    // Writing into a string cannot fail.
    let _ = if exponent >= -6 {
        write!(out, "{number}")
    } else {
        let sign = if number.mantissa < 0 { "-" } else { "" };
        let (first, rest) = digits.split_at(1);
        let point = if rest.is_empty() { "" } else { "." };
        write!(out, "{sign}{first}{point}{rest}e{exponent}")
    };
}

/// Candle intervals; months have no fixed length.
const INTERVALS: [(&str, Nanos); 11] = [
    ("1m", MINUTE),
    ("5m", 5 * MINUTE),
    ("15m", 15 * MINUTE),
    ("30m", 30 * MINUTE),
    ("1h", 60 * MINUTE),
    ("3h", 180 * MINUTE),
    ("6h", 360 * MINUTE),
    ("12h", 720 * MINUTE),
    ("1D", DAY),
    ("1W", 7 * DAY),
    ("14D", 14 * DAY),
];

/// Interval and symbol of `trade:1m:tBTCUSD`.
fn candle_key(key: &str) -> Option<(Nanos, &str)> {
    let (name, native) = key.strip_prefix("trade:")?.split_once(':')?;
    INTERVALS.iter().find(|(known, _)| *known == name).map(|(_, nanos)| (*nanos, native))
}

#[derive(Default, Serialize, Deserialize)]
struct BitfinexSession {
    subscriptions: Vec<Subscription>,
    /// Flags that the venue has confirmed.
    flags: Option<i64>,
    streams: Vec<Stream>,
}

/// A subscribed channel.
#[derive(Serialize, Deserialize)]
struct Stream {
    number: i64,
    native: String,
    what: What,
    /// Whether its snapshot has come.
    started: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum What {
    Book,
    Trades,
    Candles(Nanos),
    /// Tickers, funding, order by order and coarser books.
    Other,
}

/// An object frame; none of them carries market data.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "event")]
    kind: String,
    channel: Option<String>,
    #[serde(rename = "chanId")]
    number: Option<i64>,
    symbol: Option<String>,
    key: Option<String>,
    prec: Option<String>,
    flags: Option<i64>,
    status: Option<String>,
    code: Option<i64>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    status: i64,
}

impl Event {
    fn stream(&self) -> Option<Stream> {
        let number = self.number?;
        let (what, native) = match (self.channel.as_deref()?, self.symbol.as_deref(), self.key.as_deref()) {
            ("book", Some(symbol), _) if symbol.starts_with('t') && self.prec.as_deref() == Some("P0") => {
                (What::Book, symbol)
            }
            ("trades", Some(symbol), _) if symbol.starts_with('t') => (What::Trades, symbol),
            ("candles", _, Some(key)) => {
                candle_key(key).map_or((What::Other, key), |(interval, symbol)| (What::Candles(interval), symbol))
            }
            (_, symbol, key) => (What::Other, symbol.or(key).unwrap_or_default()),
        };
        Some(Stream { number, native: native.into(), what, started: false })
    }
}

impl Stream {
    /// What to subscribe to for it; `None` for what is not read.
    fn subscription(&self) -> Option<Subscription> {
        let channel = match self.what {
            What::Book => Channel::Book,
            What::Trades => Channel::Trades,
            What::Candles(_) => Channel::Candles,
            What::Other => return None,
        };
        Some(Subscription { native: self.native.clone(), channel, depth: 0 })
    }

    fn carries(&self, wanted: &Subscription) -> bool {
        self.subscription().is_some_and(|own| own.channel == wanted.channel && own.native == wanted.native)
    }
}

fn unsubscribe(number: i64) -> String {
    format!(r#"{{"event":"unsubscribe","chanId":{number}}}"#)
}

fn subscribe(subscription: &Subscription) -> String {
    let native = &subscription.native;
    match subscription.channel {
        Channel::Book => {
            let wanted = |len: &u32| subscription.depth != 0 && *len >= subscription.depth;
            let len = [1, 25, 100].into_iter().find(wanted).unwrap_or(250);
            format!(
                r#"{{"event":"subscribe","channel":"book","symbol":"{native}","prec":"P0","freq":"F0","len":"{len}"}}"#
            )
        }
        Channel::Trades => format!(r#"{{"event":"subscribe","channel":"trades","symbol":"{native}"}}"#),
        Channel::Candles => format!(r#"{{"event":"subscribe","channel":"candles","key":"trade:1m:{native}"}}"#),
    }
}

/// What follows a payload.
#[derive(Clone, Copy, Debug, Default)]
struct Tail {
    sequence: Option<i64>,
    time: Option<Nanos>,
}

impl Session for BitfinexSession {
    /// `[channel,[price,count,±amount],number,ms]` to the letter
    fn usual(&mut self, text: &[u8], out: &mut Sink<'_>) -> Option<()> {
        let mut c = Cursor::new(text);
        c.literal(b"[")?;
        let number = c.digits()?;
        c.literal(b",[")?;
        let of_book = |stream: &&mut Stream| stream.number == number && stream.what == What::Book;
        let stream = self.streams.iter_mut().find(of_book)?;
        let price = c.bare_decimal()?;
        c.literal(b",")?;
        let count = c.digits()?;
        c.literal(b",")?;
        let side = if c.literal(b"-").is_some() { Side::Ask } else { Side::Bid };
        let amount = c.bare_decimal().filter(|amount| amount.mantissa > 0)?;
        c.literal(b"],")?;
        let sequence = c.digits().filter(|number| *number < LEAST_TIME)?;
        c.literal(b",")?;
        let time = nanos(c.digits().filter(|time| *time >= LEAST_TIME)?, MILLI)?;
        c.literal(b"]")?;
        c.done()?;
        if self.flags.is_some_and(|flags| flags & SEQ_ALL == 0) {
            return None;
        }
        let id = out.usual_instrument(stream.native.as_bytes())?;
        out.begin(id);
        out.usual_level(side, price, if count == 0 { Decimal::default() } else { amount })?;
        out.sequence(sequence);
        out.book(BookHead { ts_event: Some(time), ..BookHead::new(BOOK, BookKind::Delta) });
        stream.started = true;
        Some(())
    }

    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            Frame::Text(text) => {
                let mut c = Cursor::new(text);
                if c.kind()? == Kind::Object {
                    return self.event(text, out);
                }
                self.data(&mut c, out).inspect_err(|_| {
                    // A frame that cannot be taken is still counted.
                    if let Ok(Tail { sequence: Some(number), .. }) = self.tail_of(text) {
                        out.sequence(number);
                    }
                })
            }
            Frame::Binary(_) | Frame::Http { .. } => Ok(out.unknown()),
            Frame::Open { .. } | Frame::Close(_) => Ok(()),
        }
    }

    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        if !self.subscriptions.is_empty() && self.flags.is_none() {
            return Err(VenueError::venue(Class::Reconnect, b"nothing is numbered before the flags are confirmed"));
        }
        let lost: Vec<Subscription> = match scope {
            Scope::Book(id, _) => {
                let native = &out.instruments().get(id).native;
                self.wanted().filter(|wanted| wanted.channel == Channel::Book && wanted.native == *native).collect()
            }
            Scope::Connection => self.wanted().collect(),
        };
        for subscription in &lost {
            self.again(subscription, out);
        }
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        common::save(self, out);
    }
}

impl BitfinexSession {
    /// What the plan says, whether the venue has confirmed it or not; without a plan, what is known to be open.
    fn wanted(&self) -> impl Iterator<Item = Subscription> + '_ {
        let known = self.streams.iter().filter(|_| self.subscriptions.is_empty()).filter_map(Stream::subscription);
        self.subscriptions.iter().cloned().chain(known)
    }

    /// Gives up every channel that is known to carry this, of which there may be none, and subscribes.
    fn again(&self, wanted: &Subscription, out: &mut Sink<'_>) {
        for stream in self.streams.iter().filter(|stream| stream.carries(wanted)) {
            out.send(&unsubscribe(stream.number));
        }
        out.send(&subscribe(wanted));
    }

    fn event(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        // A broken one may have been the answer without which nobody knows what a channel carries.
        let event: Event = common::read(text).map_err(|error| VenueError::new(Class::Resync, error.kind))?;
        let planned = !self.subscriptions.is_empty();
        match event.kind.as_str() {
            "info" => match event.code {
                // Restart, and the end of a maintenance, after which every channel has to be subscribed anew.
                Some(20_051 | 20_061) => Err(VenueError::venue(Class::Reconnect, text)),
                // Maintenance begins: channels pause.
                Some(20_060) => Ok(out.known()),
                Some(_) => Ok(out.unknown()),
                None if event.platform.is_some_and(|platform| platform.status == 0) => {
                    Err(VenueError::venue(Class::Reconnect, b"in maintenance"))
                }
                None => {
                    if planned {
                        let flags = TIMESTAMP | SEQ_ALL | OB_CHECKSUM;
                        out.send(&format!(r#"{{"event":"conf","flags":{flags}}}"#));
                    }
                    for subscription in &self.subscriptions {
                        out.send(&subscribe(subscription));
                    }
                    Ok(())
                }
            },
            "conf" if event.status.as_deref() == Some("OK") => {
                self.flags = event.flags;
                Ok(out.known())
            }
            "conf" => Err(VenueError::venue(common::refusal(planned), text)),
            "subscribed" => {
                let stream = event.stream().ok_or_else(|| VenueError::missing("chanId"))?;
                self.subscribed(stream, out);
                Ok(())
            }
            "unsubscribed" => {
                self.streams.retain(|stream| Some(stream.number) != event.number);
                Ok(out.known())
            }
            "error" => {
                let open = event.stream().filter(|_| event.code == Some(10_301));
                if let Some(open) = open.filter(|open| self.streams.iter().all(|known| known.number != open.number))
                    && let Some(lost) = self.wanted().find(|wanted| open.carries(wanted))
                {
                    // It is open, and nobody has heard the answer that said so, nor the snapshot behind it.
                    out.send(&unsubscribe(open.number));
                    self.again(&lost, out);
                    return Ok(());
                }
                let class = match event.code {
                    // The subscription exists. 10400 and 10401 refuse to unsubscribe.
                    Some(10_301 | 10_400 | 10_401) => Class::Ignore,
                    _ => common::refusal(planned),
                };
                Err(VenueError::venue(class, text))
            }
            "pong" | "auth" => Ok(out.known()),
            _ => Ok(out.unknown()),
        }
    }

    fn subscribed(&mut self, stream: Stream, out: &mut Sink<'_>) {
        let confirmed = match stream.what {
            What::Book => Some((Channel::Book, BOOK)),
            What::Trades => Some((Channel::Trades, TRADES)),
            What::Candles(_) => Some((Channel::Candles, CANDLES)),
            What::Other => None,
        };
        if let Some((channel, feed)) = confirmed {
            let id = out.instrument(stream.native.as_bytes());
            out.subscribed(channel, feed, id);
        }
        self.streams.retain(|known| known.number != stream.number);
        self.streams.push(stream);
    }

    /// `[channel, payload, number, time]`, or a word before the payload.
    fn data(&mut self, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let flags = self.flags;
        let mut row = c.array()?;
        row.more(c)?;
        let number = c.int()?;
        row.more(c)?;
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.number == number) else {
            c.skip()?;
            finish(flags, &mut row, c, out)?;
            return Ok(out.unknown());
        };
        if c.kind()? == Kind::String {
            let word = c.str()?;
            return word_frame(flags, stream, word, &mut row, c, out);
        }
        match stream.what {
            What::Book => {
                let id = out.instrument(stream.native.as_bytes());
                out.begin(id);
                let list = levels(c, out)?;
                // An update may be a list only with `BULK_UPDATES`: then the first one is the snapshot.
                let bulk = flags.is_some_and(|flags| flags & BULK_UPDATES != 0);
                let kind = if list && !(bulk && stream.started) { BookKind::Snapshot } else { BookKind::Delta };
                let tail = finish(flags, &mut row, c, out)?;
                out.book(BookHead { ts_event: tail.time, ..BookHead::new(BOOK, kind) });
                stream.started = true;
            }
            What::Trades => {
                let mut payload = *c;
                c.skip()?;
                finish(flags, &mut row, c, out)?;
                let id = out.instrument(stream.native.as_bytes());
                let mut trades = payload.array()?;
                while trades.next(&mut payload)? {
                    trade(&mut payload, id, true, out)?;
                }
            }
            What::Candles(interval) => {
                let mut payload = *c;
                c.skip()?;
                let tail = finish(flags, &mut row, c, out)?;
                let id = out.instrument(stream.native.as_bytes());
                candles(&mut payload, id, interval, tail.time, out)?;
            }
            What::Other => {
                c.skip()?;
                finish(flags, &mut row, c, out)?;
                out.known();
            }
        }
        Ok(())
    }

    /// The tail of a frame whose payload does not matter.
    fn tail_of(&self, text: &[u8]) -> Result<Tail, VenueError> {
        let mut c = Cursor::new(text);
        let mut row = c.array()?;
        row.more(&mut c)?;
        c.skip()?;
        row.more(&mut c)?;
        if c.kind()? == Kind::String && c.str()? != b"hb" {
            row.more(&mut c)?;
        }
        c.skip()?;
        tail(self.flags, &mut row, &mut c)
    }
}

/// Reads the rest of a frame and hands on its number.
#[inline]
fn finish(flags: Option<i64>, row: &mut Array, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<Tail, VenueError> {
    let tail = tail(flags, row, c)?;
    c.end()?;
    match tail.sequence {
        Some(number) => out.sequence(number),
        None if flags.is_some_and(|flags| flags & SEQ_ALL != 0) => return Err(VenueError::missing("number")),
        None => {}
    }
    Ok(tail)
}

/// No connection lives long enough for its numbers to be mistaken for a time in milliseconds.
const LEAST_TIME: i64 = 100_000_000_000;

/// A number where `SEQ_ALL` is on, then a time in milliseconds where `TIMESTAMP` is. What flags a recording
/// had may be unknown.
#[inline]
fn tail(flags: Option<i64>, row: &mut Array, c: &mut Cursor<'_>) -> Result<Tail, VenueError> {
    let mut tail = Tail::default();
    while row.next(c)? {
        if c.kind()? != Kind::Number {
            c.skip()?;
            continue;
        }
        let value = c.int()?;
        if value >= LEAST_TIME {
            tail.time = tail.time.or(Some(common::time(value, MILLI)?));
        } else if tail.sequence.is_none() && flags.is_none_or(|flags| flags & SEQ_ALL != 0) {
            tail.sequence = Some(value);
        }
    }
    Ok(tail)
}

/// Heartbeats, checksums, and live trades, which come as `te` at once and again as `tu`.
fn word_frame(
    flags: Option<i64>,
    stream: &Stream,
    word: &[u8],
    row: &mut Array,
    c: &mut Cursor<'_>,
    out: &mut Sink<'_>,
) -> Result<(), VenueError> {
    if word == b"hb" {
        finish(flags, row, c, out)?;
        return Ok(out.known());
    }
    row.more(c)?;
    let mut payload = *c;
    c.skip()?;
    finish(flags, row, c, out)?;
    match (word, stream.what) {
        (b"cs", What::Book) => {
            let value = i32::try_from(payload.int()?).map_err(|_| VenueError::unexpected("checksum beyond 32 bits"))?;
            let id = out.instrument(stream.native.as_bytes());
            out.checksum(id, BOOK, value as u32);
            Ok(())
        }
        (b"te", What::Trades) => {
            let id = out.instrument(stream.native.as_bytes());
            trade(&mut payload, id, false, out)
        }
        (b"tu" | b"fte" | b"ftu" | b"cs", _) => Ok(out.known()),
        _ => Ok(out.unknown()),
    }
}

/// Reads a list of entries, or one entry; `true` for a list.
fn levels(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<bool, VenueError> {
    let mut entries = c.array()?;
    if !entries.next(c)? {
        return Ok(true);
    }
    if c.kind()? != Kind::Array {
        level(&mut entries, c, out)?;
        return Ok(false);
    }
    loop {
        let mut entry = c.array()?;
        entry.more(c)?;
        level(&mut entry, c, out)?;
        if !entries.next(c)? {
            return Ok(true);
        }
    }
}

/// Reads `price, count, amount`, from before the price to behind the bracket.
#[inline]
fn level(entry: &mut Array, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let price = sink::price(c)?;
    entry.more(c)?;
    let count = c.int()?;
    entry.more(c)?;
    let amount = sink::size(c)?;
    entry.rest(c)?;
    let (side, size) = signed(amount)?;
    match count {
        0 => out.level(side, price, Decimal::default()),
        1.. => out.level(side, price, size),
        _ => Err(VenueError::unexpected("count below zero")),
    }
}

/// Bid (buyer) for a positive amount, ask (seller) for a negative one.
#[inline]
fn signed(amount: Decimal) -> Result<(Side, Decimal), VenueError> {
    let side = match amount.mantissa {
        0 => return Err(VenueError::unexpected("amount of zero")),
        1.. => Side::Bid,
        _ => Side::Ask,
    };
    let overflow = VenueErrorKind::Number { field: "amount", error: DecimalError::Overflow };
    let magnitude = amount.mantissa.checked_abs().ok_or(VenueError::new(Class::Resync, overflow))?;
    Ok((side, Decimal::new(magnitude, amount.scale)))
}

/// `[id, time, amount, price]`
fn trade(c: &mut Cursor<'_>, id: InstrumentId, history: bool, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut row = c.array()?;
    row.more(c)?;
    let trade_id = c.text()?;
    row.more(c)?;
    let time = common::time_at(c, MILLI)?;
    row.more(c)?;
    let (taker, size) = signed(c.decimal()?)?;
    row.more(c)?;
    let price = c.decimal()?;
    row.rest(c)?;
    out.trade(&TradeItem {
        feed: TRADES,
        id,
        price,
        size,
        taker,
        trade_id,
        sequence: None,
        history,
        ts_event: Some(time),
    })
}

/// One candle or a list of them.
fn candles(
    c: &mut Cursor<'_>,
    id: InstrumentId,
    interval: Nanos,
    time: Option<Nanos>,
    out: &mut Sink<'_>,
) -> Result<(), VenueError> {
    let mut rows = c.array()?;
    if !rows.next(c)? {
        return Ok(());
    }
    if c.kind()? != Kind::Array {
        out.candle(CandleItem { ts_event: time, ..candle(&mut rows, c, id, interval)? });
        return Ok(());
    }
    loop {
        let mut row = c.array()?;
        row.more(c)?;
        out.candle(CandleItem { ts_event: time, ..candle(&mut row, c, id, interval)? });
        if !rows.next(c)? {
            return Ok(());
        }
    }
}

/// `open time, open, close, high, low, volume`, from before the time to behind the bracket.
fn candle(row: &mut Array, c: &mut Cursor<'_>, id: InstrumentId, interval: Nanos) -> Result<CandleItem, VenueError> {
    let open_time = common::time_at(c, MILLI)?;
    let mut numbers = [Decimal::default(); 5];
    for number in &mut numbers {
        row.more(c)?;
        *number = c.decimal()?;
    }
    row.rest(c)?;
    let [open, close, high, low, volume] = numbers;
    Ok(CandleItem {
        feed: CANDLES,
        id,
        interval,
        open_time,
        open,
        high,
        low,
        close,
        volume,
        notional: None,
        count: None,
        taker_buy: None,
        closed: false,
        ts_event: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, subscriptions};
    use proptest::prelude::*;

    fn text(number: Decimal) -> String {
        let mut text = String::new();
        script_number(number, &mut text);
        text
    }

    /// The same from the nearest `f64`, as ECMAScript defines it (`Number::toString`).
    fn script(number: f64) -> String {
        let shortest = format!("{:e}", number.abs());
        let (digits, exponent) = shortest.split_once('e').unwrap();
        let sign = if number < 0.0 { "-" } else { "" };
        let exponent: i32 = exponent.parse().unwrap();
        if exponent < -6 { format!("{sign}{digits}e{exponent}") } else { format!("{number}") }
    }

    proptest! {
        #[test]
        fn numbers_print_as_in_a_script(mantissa in -999_999_999_999_999_i64..=999_999_999_999_999, scale in 0..=18_u8) {
            let number = Decimal::new(mantissa, scale);
            prop_assert_eq!(text(number), script(number.to_f64().0));
        }
    }

    #[test]
    fn numbers_around_the_exponent_form() {
        for (number, expected) in [
            (Decimal::new(100, 2), "1"),
            (Decimal::new(1, 6), "0.000001"),
            (Decimal::new(1, 7), "1e-7"),
            (Decimal::new(-560, 9), "-5.6e-7"),
            (Decimal::new(1234, 8), "0.00001234"),
        ] {
            assert_eq!(text(number), expected);
        }
    }

    #[test]
    fn checksums_of_the_documentation() {
        let level = |price: f64, size| Level { price: (price * 1e8) as i64, size, ..Level::default() };
        let asks = [level(6100.0, 3), level(6200.0, 4)];
        for (second, expected) in [(5900.0, 1_756_193_398), (5.6e-7, -503_211_555)] {
            let bids = [level(6000.0, 1), level(second, 2)];
            let top = TopLevels { bids: &bids, asks: &asks, price_scale: 8, size_scale: 0 };
            assert_eq!(Bitfinex.checksum(BOOK, top) as i32, expected);
        }
    }

    #[test]
    fn plans_and_dials() {
        let subscriptions = subscriptions(&["tBTCUSD"; 30], &[Channel::Book]);
        let plans = Bitfinex.plan(&subscriptions, &Instruments::default());
        assert_eq!(plans.iter().map(|plan| plan.subscriptions.len()).collect::<Vec<_>>(), [25, 5]);
        assert_eq!(Bitfinex.dial(&plans[0], None), Ok(Dial::Connect { url: SOCKET.into(), ping: 0 }));
    }

    const INFO: &str = r#"{"event":"info","version":2,"serverId":"x","platform":{"status":1}}"#;

    fn planned() -> Bench {
        let subscriptions = subscriptions(&["tBTCUSD"], &[Channel::Book, Channel::Trades, Channel::Candles]);
        Bench::open(&Bitfinex, Some(&ConnectionPlan { base: SOCKET.into(), subscriptions }))
    }

    #[test]
    fn subscribes_once_the_platform_is_up() {
        let mut bench = planned();
        assert!(bench.sent.is_empty());
        bench.text(INFO);
        assert_eq!(
            bench.sent,
            [
                r#"{"event":"conf","flags":229376}"#,
                r#"{"event":"subscribe","channel":"book","symbol":"tBTCUSD","prec":"P0","freq":"F0","len":"250"}"#,
                r#"{"event":"subscribe","channel":"trades","symbol":"tBTCUSD"}"#,
                r#"{"event":"subscribe","channel":"candles","key":"trade:1m:tBTCUSD"}"#,
            ]
        );
        let mut bench = planned();
        bench.text(r#"{"event":"info","version":2,"platform":{"status":0}}"#);
        assert_eq!(bench.sent, ["reconnect fatal=false: venue says: in maintenance"]);
        let mut bench = planned();
        bench.text(r#"{"event":"error","code":10305,"msg":"subscribe: limit"}"#);
        assert!(bench.sent[0].starts_with("reconnect fatal=true"));
    }

    const ACKS: [&str; 3] = [
        r#"{"event":"conf","status":"OK","flags":229376}"#,
        r#"{"event":"subscribed","channel":"book","chanId":1,"symbol":"tBTCUSD","prec":"P0","freq":"F0","len":"250"}"#,
        r#"{"event":"subscribed","channel":"trades","chanId":2,"symbol":"tBTCUSD"}"#,
    ];

    #[test]
    fn a_saved_session_goes_on_and_starts_what_was_lost_again() {
        let mut bench = planned();
        bench.texts(&ACKS);
        bench.text("[1,[[216,2,31.52],[218.75,1,-13.33333333]],1,1564617600541]");
        bench.reload();
        bench.text("[1,[217,1,1],2,1564617600542]");
        assert_eq!(bench.book("tBTCUSD"), "Live 21700:100000000 21600:3152000000 | 21875:1333333333");
        // A number that does not fit sets the book aside, and nothing else.
        bench.text("[1,[218,1,1e-19],3,1564617600543]");
        bench.text(r#"[2,"te",[9,1564617600544,1,217],4,1564617600544]"#);
        assert_eq!(bench.sent, [""; 0]);
        // A wrong checksum starts one book again, a missing number everything.
        let mut bench = planned();
        bench.texts(&ACKS);
        bench.text("[1,[[216,2,31.52],[218.75,1,-13.33333333]],1,1564617600541]");
        bench.text(r#"[1,"cs",7,2,1564617600542]"#);
        let book = [
            r#"{"event":"unsubscribe","chanId":1}"#,
            r#"{"event":"subscribe","channel":"book","symbol":"tBTCUSD","prec":"P0","freq":"F0","len":"250"}"#,
        ];
        assert_eq!(bench.sent, book);
        bench.sent.clear();
        bench.text(r#"[2,"hb",4,1564617600543]"#);
        assert_eq!(bench.sent[..2], book);
        let trades =
            [r#"{"event":"unsubscribe","chanId":2}"#, r#"{"event":"subscribe","channel":"trades","symbol":"tBTCUSD"}"#];
        assert_eq!(bench.sent[2..4], trades);
        // Candles were not confirmed yet.
        assert_eq!(bench.sent[4..], [r#"{"event":"subscribe","channel":"candles","key":"trade:1m:tBTCUSD"}"#]);
        assert!(bench.told.0.contains(&"gap tBTCUSD trades opened sequence".to_owned()));
    }

    #[test]
    fn a_book_whose_channel_nobody_knows_is_asked_for_again() {
        let subscribed =
            r#"{"event":"subscribe","channel":"book","symbol":"tBTCUSD","prec":"P0","freq":"F0","len":"250"}"#;
        let mut bench = planned();
        bench.texts(&ACKS);
        bench.text("[1,[[216,2,31.52],[218.75,1,-13.33333333]],1,1564617600541]");
        bench.text(r#"[1,"cs",7,2,1564617600542]"#);
        bench.text(r#"{"event":"unsubscribed","status":"OK","chanId":1}"#);
        bench.sent.clear();
        // The answer to subscribing again is cut in half.
        bench.text(r#"{"event":"subscribed","channel":"book","chanId":3,"sym"#);
        assert!(bench.sent.iter().any(|sent| sent == subscribed));
        bench.sent.clear();
        bench.pass(11);
        assert_eq!(bench.sent, [subscribed]);
        bench.sent.clear();
        // The venue says which channel it is, and that one is given up.
        bench.text(
            r#"{"channel":"book","symbol":"tBTCUSD","prec":"P0","event":"error","msg":"subscribe: dup","code":10301,"chanId":3}"#,
        );
        assert_eq!(bench.sent, [r#"{"event":"unsubscribe","chanId":3}"#, subscribed]);
        bench.text(&ACKS[1].replace(":1,", ":4,"));
        bench.text("[4,[[216,2,31.52],[218.75,1,-13.33333333]],3,1564617600543]");
        assert_eq!(bench.book("tBTCUSD"), "Live 21600:3152000000 | 21875:1333333333");
        // A second subscription of what is known changes nothing.
        bench.sent.clear();
        bench.text(
            r#"{"channel":"book","symbol":"tBTCUSD","prec":"P0","event":"error","msg":"subscribe: dup","code":10301,"chanId":4}"#,
        );
        assert_eq!(bench.sent, [""; 0]);
    }

    #[test]
    fn without_confirmed_flags_nothing_can_start_again() {
        let mut bench = planned();
        bench.text(r#"{"event":"info","vers"#);
        assert_eq!(bench.sent.len(), 1);
        assert!(bench.sent[0].starts_with("reconnect fatal=false"), "{:?}", bench.sent);
    }

    #[test]
    fn a_frame_without_its_number_is_refused() {
        let mut bench = planned();
        bench.texts(&ACKS);
        bench.text(r#"[1,"hb"]"#);
        assert!(bench.told.0.contains(&"error Resync missing field number".to_owned()));
    }

    #[test]
    fn candles_over_rest() {
        let request = Bitfinex.candle_request("tBTCUSD", MINUTE, 0, 120 * 1_000 * MILLI).unwrap();
        assert_eq!(request.path, "/v2/candles/trade:1m:tBTCUSD/hist?limit=10000&start=0&end=119999&sort=1");
        assert_eq!(Bitfinex.candle_request("tBTCUSD", 2 * MINUTE, 0, 1), None);
        let mut candles = Vec::new();
        Bitfinex.parse_candles(&request, b"[[60000,1,2.5,3,0.5,10,null]]", &mut candles).unwrap();
        let [candle] = candles[..] else { panic!("one candle") };
        assert_eq!((candle.open_time, candle.close, candle.high), (MINUTE, Decimal::new(25, 1), Decimal::new(3, 0)));
    }
}
