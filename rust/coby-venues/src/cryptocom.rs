//! Crypto.com Exchange v1: <https://exchange-developer.crypto.com>. One socket has spot, perpetuals and futures.
//!
//! Book: a snapshot comes with the subscription, then every `pu` must equal the `u` before it; ids jump. A quiet
//! book repeats its id in an empty change about every five seconds. The checksum `cs` is not documented.
//!
//! The first trades of an instrument repeat the past, newest first. Several fills may have one id `d`.

use std::collections::BTreeMap;

use coby_core::decimal::Decimal;
use coby_core::instrument::{InstrumentId, InstrumentKind, Instruments, Listing, Status};
use coby_core::level::Side;
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Seen};
use coby_core::sink::BookKind;
use coby_core::time::{DAY, MILLI, MINUTE, nanos};
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, Class, ConnectionPlan, Dial, Frame, Join, Limits, Ping, Proof,
    Rule, Scope, Sequence, Session, Sink, Subscription, TradeFeed, TradeItem, Venue, VenueError, VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;

const REST: &str = "https://api.crypto.com";
const SOCKET: &str = "wss://stream.crypto.com/exchange/v1/market";
const LIST: &str = "/exchange/v1/public/get-instruments";
const CANDLES: &str = "/exchange/v1/public/get-candlestick";

const BOOK_50: u8 = 0;
const BOOK_10: u8 = 1;

/// Channels per subscribe message.
const BATCH: usize = 100;

static SPEC: VenueSpec = VenueSpec {
    id: "cryptocom",
    name: "Crypto.com",
    protocol: "2026-09",
    closed: None,
    sockets: &[SOCKET],
    rest: REST,
    ping: Ping::Server,
    // Heartbeats come every 30 s.
    silence: 45,
    // 100 messages a second, of which the second of the dial has only what is left of it.
    limits: Limits { dials: (10, 10), messages: (2, 1), spacing: 0, streams: 400, rest: (100, 1), lifetime: 0 },
    books: &[BOOK, BookFeed { name: "book 10", depth: Some(10), ..BOOK }],
    trades: &[TradeFeed { name: "trade", proof: Proof::None, aggregated: false }],
    candles: &[CandleFeed { name: "candlestick.1m", interval: MINUTE }],
};

const BOOK: BookFeed = BookFeed {
    name: "book 50",
    join: Join::Socket,
    rule: Rule::Chain,
    proof: Proof::Sequence,
    checksum: None,
    digits: false,
    depth: Some(50),
    shows: None,
    refresh: 0,
    limits: "levels below the 50 (10) best of a side are not told; in recordings of the type SNAPSHOT each message \
             replaces the one before, and nothing proves that none was lost",
};

/// Crypto.com Exchange.
#[derive(Clone, Copy, Debug)]
pub struct CryptoCom;

#[derive(Deserialize)]
struct Answer {
    code: i64,
    result: Option<InstrumentList>,
}

#[derive(Deserialize)]
struct InstrumentList {
    data: Vec<InstrumentInfo>,
}

#[derive(Deserialize)]
struct InstrumentInfo {
    symbol: String,
    inst_type: String,
    base_ccy: String,
    quote_ccy: String,
    #[serde(default)]
    price_tick_size: serde_json::Value,
    #[serde(default)]
    qty_tick_size: serde_json::Value,
    #[serde(default)]
    contract_size: serde_json::Value,
    tradable: bool,
    expiry_timestamp_ms: Option<i64>,
}

impl Venue for CryptoCom {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        vec![HttpRequest::get(REST, LIST)]
    }

    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let Answer { code: 0, result: Some(list) } = common::read(body)? else {
            return Err(VenueError::venue(Class::Ignore, body));
        };
        for info in list.data {
            let mut listing = Listing::spot(&info.symbol, &info.base_ccy, &info.quote_ccy);
            listing.kind = match info.inst_type.as_str() {
                "CCY_PAIR" => InstrumentKind::Spot,
                "PERPETUAL_SWAP" => InstrumentKind::Perpetual,
                "FUTURE" => InstrumentKind::Future(common::time(
                    info.expiry_timestamp_ms.ok_or_else(|| VenueError::missing("expiry_timestamp_ms"))?,
                    MILLI,
                )?),
                _ => continue,
            };
            listing.tick_size = common::amount(&info.price_tick_size);
            listing.lot_size = common::amount(&info.qty_tick_size);
            if let Some(size) = common::amount(&info.contract_size) {
                listing.contract_size = size;
            }
            listing.status = if info.tradable { Status::Trading } else { Status::Halted };
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
        let new = || CryptoComSession { subscriptions, ..CryptoComSession::default() };
        Ok(Box::new(common::load(saved, new)?))
    }

    /// Whether the bounds are inclusive is not documented: a millisecond more at the start, one less at the end.
    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, to: Nanos) -> Option<HttpRequest> {
        let (name, _) = INTERVALS.iter().find(|(_, nanos)| *nanos == interval)?;
        let (start, end) = (from.div_euclid(MILLI) - 1, (to - 1).div_euclid(MILLI));
        let query = format!("instrument_name={native}&timeframe={name}&count=300&start_ts={start}&end_ts={end}");
        Some(HttpRequest::get(REST, format!("{CANDLES}?{query}")))
    }

    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let interval = request.query("timeframe").and_then(|name| interval_of(name.as_bytes()));
        let interval = interval.ok_or_else(|| VenueError::missing("timeframe"))?;
        let Some(result) = Cursor::new(body).find(b"result")? else {
            return Err(VenueError::venue(Class::Ignore, body));
        };
        let mut c = result.find(b"data")?.ok_or_else(|| VenueError::missing("data"))?;
        let mut rows = c.array()?;
        while rows.next(&mut c)? {
            out.push(CandleItem { closed: true, ..candle(InstrumentId(0), interval, &mut c)? });
        }
        Ok(())
    }
}

/// Intervals that the venue names; months have no fixed length.
const INTERVALS: [(&str, Nanos); 11] = [
    ("1m", MINUTE),
    ("5m", 5 * MINUTE),
    ("15m", 15 * MINUTE),
    ("30m", 30 * MINUTE),
    ("1h", 60 * MINUTE),
    ("2h", 120 * MINUTE),
    ("4h", 240 * MINUTE),
    ("12h", 720 * MINUTE),
    ("1D", DAY),
    ("7D", 7 * DAY),
    ("14D", 14 * DAY),
];

fn interval_of(name: &[u8]) -> Option<Nanos> {
    INTERVALS.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, nanos)| *nanos)
}

/// `book.BTC_USDT.50`
fn book_of(native: &str, feed: u8) -> String {
    format!("book.{native}.{}", if feed == BOOK_10 { 10 } else { 50 })
}

fn channel_of(subscription: &Subscription) -> String {
    let native = &subscription.native;
    match subscription.channel {
        Channel::Book => book_of(native, if (1..=10).contains(&subscription.depth) { BOOK_10 } else { BOOK_50 }),
        Channel::Trades => format!("trade.{native}"),
        Channel::Candles => format!("candlestick.1m.{native}"),
    }
}

fn feed_of(channel: &[u8]) -> u8 {
    if channel.ends_with(b".10") { BOOK_10 } else { BOOK_50 }
}

/// Only books heed how they are to come.
fn ask(id: usize, method: &str, channels: &[String], out: &mut Sink<'_>) {
    let channels = channels.join("\",\"");
    let how = r#""book_subscription_type":"SNAPSHOT_AND_UPDATE","book_update_frequency":10"#;
    out.send(&format!(r#"{{"id":{id},"method":"{method}","params":{{"channels":["{channels}"],{how}}}}}"#));
}

/// What is known of an instrument's trades on this connection.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Fills {
    /// Whether any have come.
    came: bool,
    /// Whether the next ones repeat the past.
    past: bool,
    /// The last id, and how many before had it.
    last: Vec<u8>,
    again: u32,
}

#[derive(Default, Serialize, Deserialize)]
struct CryptoComSession {
    subscriptions: Vec<Subscription>,
    fills: BTreeMap<InstrumentId, Fills>,
}

/// What the data of a push belong to.
#[derive(Clone, Copy)]
struct Push<'a> {
    instrument: &'a [u8],
    channel: &'a [u8],
    subscription: &'a [u8],
    /// Whether it carries a request's id, as the first one of a channel may.
    first: bool,
}

impl Session for CryptoComSession {
    fn usual(&mut self, text: &[u8], out: &mut Sink<'_>) -> Option<()> {
        usual(text, out)
    }

    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            Frame::Open { .. } => {
                for subscription in self.subscriptions.iter().filter(|wanted| wanted.channel == Channel::Trades) {
                    let id = out.instrument(subscription.native.as_bytes());
                    self.fills.entry(id).or_default().past = true;
                }
                let channels: Vec<String> = self.subscriptions.iter().map(channel_of).collect();
                for (id, channels) in (1..).zip(channels.chunks(BATCH)) {
                    ask(id, "subscribe", channels, out);
                }
                Ok(())
            }
            Frame::Text(text) => self.text(text, out),
            Frame::Http { .. } | Frame::Binary(_) => Ok(out.unknown()),
            Frame::Close(_) => Ok(()),
        }
    }

    /// A fresh subscription brings a fresh snapshot; subscribing twice does not.
    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let channels: Vec<String> = match scope {
            Scope::Book(id, feed) => vec![book_of(&out.instruments().get(id).native, feed)],
            Scope::Connection => {
                self.subscriptions.iter().filter(|wanted| wanted.channel == Channel::Book).map(channel_of).collect()
            }
        };
        for method in ["unsubscribe", "subscribe"] {
            for channels in channels.chunks(BATCH) {
                ask(0, method, channels, out);
            }
        }
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        common::save(self, out);
    }
}

impl CryptoComSession {
    fn text(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut id, mut method, mut code, mut channel) = (&b""[..], &b""[..], 0, None);
        // A result that came before the id, and whether there was one.
        let (mut late, mut done) = (None, false);
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"id" => {
                    seen.once(0, &c)?;
                    id = c.raw()?;
                }
                b"method" => {
                    seen.once(1, &c)?;
                    method = c.str()?;
                }
                b"code" => {
                    seen.once(2, &c)?;
                    code = c.int()?;
                }
                b"channel" => channel = Some(c.str()?),
                b"result" if !c.null()? => {
                    seen.once(3, &c)?;
                    done = true;
                    if seen.has(0) {
                        self.result(id, &mut c, out)?;
                    } else {
                        late = Some(c);
                        c.skip()?;
                    }
                }
                b"result" => {}
                _ => c.skip()?,
            }
        }
        c.end()?;
        if code != 0 {
            return Err(self.refused(method, code, text));
        }
        if let Some(mut late) = late {
            return self.result(id, &mut late, out);
        }
        match (method, channel) {
            _ if done => Ok(()),
            (b"public/heartbeat", _) => {
                let id =
                    std::str::from_utf8(id).ok().filter(|_| seen.has(0)).ok_or_else(|| VenueError::missing("id"))?;
                Ok(out.send(&format!(r#"{{"id":{id},"method":"public/respond-heartbeat"}}"#)))
            }
            (b"subscribe", Some(channel)) => Ok(self.confirmed(true, channel, out)),
            (b"unsubscribe", Some(channel)) => Ok(self.confirmed(false, channel, out)),
            (b"subscribe" | b"unsubscribe", None) => Ok(out.known()),
            _ => Ok(out.unknown()),
        }
    }

    /// `{"id":11,"method":"subscribe","code":40003,"channel":"book.NOPE.50","message":"Unknown symbol"}`
    fn refused(&self, method: &[u8], code: i64, text: &[u8]) -> VenueError {
        let planned = !self.subscriptions.is_empty();
        let class = match code {
            _ if method == b"unsubscribe" => Class::Ignore,
            // Too many requests, or trouble of the venue's own: some of ours were dropped.
            42_901 | 50_000.. if planned => Class::Reconnect,
            _ => common::refusal(planned),
        };
        VenueError::venue(class, text)
    }

    fn confirmed(&mut self, subscribed: bool, channel: &[u8], out: &mut Sink<'_>) {
        let mut parts = channel.split(|byte| *byte == b'.');
        let (channel, native, feed) = match (parts.next(), parts.next(), parts.next()) {
            (Some(b"book"), Some(native), Some(_)) => (Channel::Book, native, feed_of(channel)),
            (Some(b"trade"), Some(native), None) => (Channel::Trades, native, 0),
            (Some(b"candlestick"), Some(_), Some(native)) => (Channel::Candles, native, 0),
            _ => return out.known(),
        };
        let id = out.instrument(native);
        if channel == Channel::Trades {
            let fills = self.fills.entry(id).or_default();
            fills.past = subscribed && (fills.past || !fills.came);
            fills.came &= subscribed;
        }
        if subscribed {
            out.subscribed(channel, feed, id);
        }
    }

    /// `{"instrument_name":"ETHUSD-PERP","subscription":"book.ETHUSD-PERP.50","channel":"book","depth":50,"data":[..]}`
    fn result(&mut self, id: &[u8], c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let mut push = Push { instrument: b"", channel: b"", subscription: b"", first: id != b"-1" };
        let mut late = None;
        let mut o = c.object()?;
        while let Some(key) = o.key(c)? {
            match key {
                b"instrument_name" => {
                    seen.once(0, c)?;
                    push.instrument = c.str()?;
                }
                b"subscription" => {
                    seen.once(1, c)?;
                    push.subscription = c.str()?;
                }
                b"channel" => {
                    seen.once(2, c)?;
                    push.channel = c.str()?;
                }
                b"data" => {
                    seen.once(3, c)?;
                    if seen.has(0) && seen.has(1) && seen.has(2) {
                        self.data(push, c, out)?;
                    } else {
                        late = Some(*c);
                        c.skip()?;
                    }
                }
                _ => c.skip()?,
            }
        }
        match (push.channel, late) {
            (b"book" | b"book.update" | b"trade" | b"candlestick", late) => {
                common::require(seen, &["instrument_name", "subscription", "channel", "data"])?;
                late.map_or(Ok(()), |mut late| self.data(push, &mut late, out))
            }
            (_, Some(mut late)) => self.data(push, &mut late, out),
            (_, None) if seen.has(3) => Ok(()),
            _ => Ok(out.unknown()),
        }
    }

    fn data(&mut self, push: Push<'_>, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match push.channel {
            b"book" => list(c, &mut |c| book(BookKind::Snapshot, push, c, out)),
            b"book.update" => list(c, &mut |c| book(BookKind::Delta, push, c, out)),
            b"trade" => self.trades(push, c, out),
            b"candlestick" => {
                let name = push.subscription.split(|byte| *byte == b'.').nth(1);
                let id = out.instrument(push.instrument);
                match name.and_then(interval_of) {
                    Some(interval) => list(c, &mut |c| Ok(out.candle(candle(id, interval, c)?))),
                    // Months have no fixed length.
                    None => Ok(c.skip()?),
                }
            }
            b"ticker" | b"mark" | b"index" | b"funding" | b"estimatedfunding" | b"settlement" => {
                c.skip()?;
                Ok(out.known())
            }
            _ => {
                c.skip()?;
                Ok(out.unknown())
            }
        }
    }

    /// Newest first: `[{"d":"4611686018428108636","t":1667320314770,"p":"20432.51","q":"0.01163","s":"SELL"}]` with the
    /// taker's side, and since 2024 `tn`, a time in nanoseconds, and `m`, which no other fill has.
    fn trades(&mut self, push: Push<'_>, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let id = out.instrument(push.instrument);
        let mut rows = Vec::new();
        list(c, &mut |c| {
            rows.push(*c);
            Ok(c.skip()?)
        })?;
        let fills = self.fills.entry(id).or_default();
        let history = std::mem::take(&mut fills.past) || push.first;
        fills.came = true;
        if history {
            fills.last.clear();
        }
        for mut row in rows.into_iter().rev() {
            trade(id, history, fills, &mut row, out)?;
        }
        Ok(())
    }
}

/// `{"id":-1,"method":"subscribe","code":0,"result":{"instrument_name":"..","subscription":"book...50",`
/// `"channel":"book.update","depth":50,"data":[{"update":{"asks":[["p","q","n"]],"bids":[..]},"t":ms,"tt":ms,"u":..,"pu":..,`
/// `"cs":..}]}}` to the letter
fn usual(text: &[u8], out: &mut Sink<'_>) -> Option<()> {
    let mut c = Cursor::new(text);
    c.literal(br#"{"id":-1,"method":"subscribe","code":0,"result":{"instrument_name":""#)?;
    let id = out.usual_instrument(c.plain()?)?;
    out.begin(id);
    c.literal(br#","subscription":""#)?;
    let feed = feed_of(c.plain()?);
    c.literal(br#","channel":"book.update","depth":"#)?;
    c.digits()?;
    c.literal(br#","data":[{"update":{"asks":"#)?;
    out.usual_pairs(Side::Ask, &mut c)?;
    c.literal(br#","bids":"#)?;
    out.usual_pairs(Side::Bid, &mut c)?;
    c.literal(br#"},"t":"#)?;
    nanos(c.digits()?, MILLI)?;
    c.literal(br#","tt":"#)?;
    let changed = nanos(c.digits()?, MILLI)?;
    c.literal(br#","u":"#)?;
    let last = c.digits()?;
    c.literal(br#","pu":"#)?;
    let previous = c.digits()?;
    c.literal(br#","cs":"#)?;
    // Of what it is a checksum, nobody says.
    let _ = c.literal(b"-");
    c.digits()?;
    c.literal(b"}]}}")?;
    c.done()?;
    let sequence = Some(Sequence::after(previous, last));
    out.book(BookHead { sequence, ts_event: Some(changed), ..BookHead::new(feed, BookKind::Delta) });
    Some(())
}

/// Every element of an array through `read`.
fn list<'a>(
    c: &mut Cursor<'a>,
    read: &mut dyn FnMut(&mut Cursor<'a>) -> Result<(), VenueError>,
) -> Result<(), VenueError> {
    let mut elements = c.array()?;
    while elements.next(c)? {
        read(c)?;
    }
    Ok(())
}

/// A snapshot `{"asks":[[price, size, orders]],"bids":[..],"t":..,"tt":..,"u":..,"cs":..}`, or a change, whose sides lie
/// in `update` and which has `pu`.
fn book(kind: BookKind, push: Push<'_>, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let id = out.instrument(push.instrument);
    out.begin(id);
    let mut seen = Seen::default();
    let (mut last, mut previous, mut sent, mut changed) = (0, None, None, None);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"update" => {
                seen.once(3, c)?;
                let mut o = c.object()?;
                while let Some(key) = o.key(c)? {
                    side(key, &mut seen, c, out)?;
                }
            }
            b"u" => {
                seen.once(2, c)?;
                last = c.int()?;
            }
            b"pu" => {
                seen.once(4, c)?;
                previous = Some(c.int()?);
            }
            // When it was sent, and when the book changed.
            b"t" => sent = Some(common::time_at(c, MILLI)?),
            b"tt" => changed = Some(common::time_at(c, MILLI)?),
            _ => side(key, &mut seen, c, out)?,
        }
    }
    let snapshot = kind == BookKind::Snapshot;
    common::require(seen, if snapshot { &["asks", "bids", "u"] } else { &[] })?;
    let sequence = match previous {
        None if snapshot => Sequence::at(last),
        Some(previous) if seen.has(2) && seen.has(3) => Sequence::after(previous, last),
        _ => return Err(VenueError::missing("u, pu or update")),
    };
    Ok(out.book(BookHead {
        sequence: Some(sequence),
        ts_event: changed.or(sent),
        ..BookHead::new(feed_of(push.subscription), kind)
    }))
}

fn side(key: &[u8], seen: &mut Seen, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let side = match key {
        b"asks" => Side::Ask,
        b"bids" => Side::Bid,
        _ => return Ok(c.skip()?),
    };
    seen.once(u32::from(side == Side::Bid), c)?;
    out.pairs(side, c)
}

fn trade(
    id: InstrumentId,
    history: bool,
    fills: &mut Fills,
    c: &mut Cursor<'_>,
    out: &mut Sink<'_>,
) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut trade_id, mut matched, mut taker, mut time, mut exact) = (&b""[..], None, Side::Bid, None, None);
    let [mut price, mut size] = [Decimal::default(); 2];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"d" => {
                seen.once(0, c)?;
                trade_id = c.text()?;
            }
            b"p" => {
                seen.once(1, c)?;
                price = c.decimal()?;
            }
            b"q" => {
                seen.once(2, c)?;
                size = c.decimal()?;
            }
            b"s" => {
                seen.once(3, c)?;
                taker = match c.str()? {
                    b"BUY" => Side::Bid,
                    b"SELL" => Side::Ask,
                    _ => return Err(VenueError::unexpected("side of a trade")),
                };
            }
            b"t" => time = Some(common::time_at(c, MILLI)?),
            b"tn" if !c.null()? => exact = Some(c.int()?),
            b"m" if !c.null()? => matched = Some(c.text()?),
            b"tn" | b"m" => {}
            _ => c.skip()?,
        }
    }
    common::require(seen, &["d", "p", "q", "s"])?;
    let (feed, sequence, ts_event) = (0, None, exact.or(time));
    let item = TradeItem { feed, id, price, size, taker, trade_id, sequence, history, ts_event };
    if let Some(matched) = matched {
        return out.trade_known_by(&item, matched);
    }
    // Fills with one id come together: the place among them tells them apart.
    if fills.last == trade_id {
        fills.again += 1;
        return out.trade_known_by(&item, &[trade_id, format!("#{}", fills.again).as_bytes()].concat());
    }
    fills.last = trade_id.to_vec();
    fills.again = 0;
    out.trade(&item)
}

/// `{"o":"51140.5","h":"51699.0","l":"49212.0","c":"51313.5","v":"867.9432","t":1612224000000}`
fn candle(id: InstrumentId, interval: Nanos, c: &mut Cursor<'_>) -> Result<CandleItem, VenueError> {
    let mut seen = Seen::default();
    let mut open_time = 0;
    let [mut open, mut high, mut low, mut close, mut volume] = [Decimal::default(); 5];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        let (bit, field) = match key {
            b"o" => (0, &mut open),
            b"h" => (1, &mut high),
            b"l" => (2, &mut low),
            b"c" => (3, &mut close),
            b"v" => (4, &mut volume),
            b"t" => {
                seen.once(5, c)?;
                open_time = common::time_at(c, MILLI)?;
                continue;
            }
            _ => {
                c.skip()?;
                continue;
            }
        };
        seen.once(bit, c)?;
        *field = c.decimal()?;
    }
    common::require(seen, &["o", "h", "l", "c", "v", "t"])?;
    Ok(CandleItem {
        feed: 0,
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
        // Final once a later one begins; no frame says so.
        closed: false,
        ts_event: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, subscriptions};

    const HOW: &str = r#""book_subscription_type":"SNAPSHOT_AND_UPDATE","book_update_frequency":10"#;

    fn book(channel: &str, sequence: &str, price: &str) -> String {
        let (open, close) = if channel == "book" { ("", "") } else { (r#""update":{"#, "}") };
        let data = format!(r#"{open}"asks":[],"bids":[["{price}","1","1"]]{close},"t":1,{sequence}"#);
        let head = r#""instrument_name":"BTC_USDT","subscription":"book.BTC_USDT.50""#;
        format!(r#"{{"id":-1,"code":0,"result":{{{head},"channel":"{channel}","data":[{{{data}}}]}}}}"#)
    }

    #[test]
    fn channels_are_subscribed_in_batches_and_heartbeats_answered() {
        let names: Vec<String> = (0..401).map(|number| format!("A{number}_USD")).collect();
        let many: Vec<&str> = names.iter().map(String::as_str).collect();
        let plans = CryptoCom.plan(&subscriptions(&many, &[Channel::Trades]), &Instruments::default());
        assert_eq!(plans.iter().map(|plan| plan.subscriptions.len()).collect::<Vec<_>>(), [400, 1]);
        assert_eq!(Bench::open(&CryptoCom, plans.first()).sent.len(), 4);
        let mut wanted = subscriptions(&["BTC_USDT"], &[Channel::Book, Channel::Trades, Channel::Candles]);
        wanted.extend(subscriptions(&["ETHUSD-PERP"], &[Channel::Book]));
        wanted[3].depth = 10;
        let plans = CryptoCom.plan(&wanted, &Instruments::default());
        let mut bench = Bench::open(&CryptoCom, plans.first());
        let channels = r#""book.BTC_USDT.50","trade.BTC_USDT","candlestick.1m.BTC_USDT","book.ETHUSD-PERP.10""#;
        bench.text(r#"{"id":1790114291578,"method":"public/heartbeat","code":0}"#);
        bench.text(r#"{"id":1,"method":"subscribe","code":42901,"message":"TOO_MANY_REQUESTS"}"#);
        let sent = [
            format!(r#"{{"id":1,"method":"subscribe","params":{{"channels":[{channels}],{HOW}}}}}"#),
            r#"{"id":1790114291578,"method":"public/respond-heartbeat"}"#.into(),
        ];
        assert_eq!(bench.sent[..2], sent);
        assert!(bench.sent[2].starts_with("reconnect fatal=false"));
        let mut bench = Bench::open(&CryptoCom, plans.first());
        bench.text(r#"{"id":1,"method":"subscribe","code":40003,"channel":"book.NOPE.50","message":"Unknown symbol"}"#);
        assert!(bench.sent[1].starts_with("reconnect fatal=true"));
    }

    #[test]
    fn a_broken_chain_subscribes_anew() {
        let plans = CryptoCom.plan(&subscriptions(&["BTC_USDT"], &[Channel::Book]), &Instruments::default());
        let mut bench = Bench::open(&CryptoCom, plans.first());
        bench.text(&book("book", r#""u":10"#, "100"));
        bench.text(&book("book.update", r#""u":30,"pu":10"#, "99"));
        bench.text(&book("book.update", r#""u":50,"pu":40"#, "98"));
        assert_eq!(bench.told.0.last().unwrap(), "gap BTC_USDT book opened sequence");
        let request =
            |method| format!(r#"{{"id":0,"method":"{method}","params":{{"channels":["book.BTC_USDT.50"],{HOW}}}}}"#);
        assert_eq!(bench.sent[1..], ["unsubscribe", "subscribe"].map(request));
        bench.text(&book("book", r#""u":60"#, "97"));
        assert_eq!(bench.book("BTC_USDT"), "Live 97:1 | ");
        bench.text("{\"id\":-1,");
        assert_eq!(bench.sent[3..], ["unsubscribe", "subscribe"].map(request));
    }

    #[test]
    fn the_first_trades_of_a_plan_repeat_the_past() {
        let plans = CryptoCom.plan(&subscriptions(&["BTC_USDT"], &[Channel::Trades]), &Instruments::default());
        let mut bench = Bench::open(&CryptoCom, plans.first());
        let trade = |id: i64| {
            let data = format!(r#"{{"d":"{id}","t":1,"p":"1","q":"1","s":"BUY"}}"#);
            let head = r#""channel":"trade","subscription":"trade.BTC_USDT","instrument_name":"BTC_USDT""#;
            format!(r#"{{"id":-1,"code":0,"result":{{{head},"data":[{data}]}}}}"#)
        };
        bench.text(&trade(1));
        bench.reload();
        // An acknowledgement that comes late announces no past.
        bench.text(r#"{"id":1,"method":"subscribe","code":0,"channel":"trade.BTC_USDT"}"#);
        bench.text(&trade(2));
        let told = ["Bid 1@1 1 history=true", "Bid 1@1 2 history=false"].map(|trade| format!("trade BTC_USDT {trade}"));
        assert_eq!(bench.told.0, told);
    }

    #[test]
    fn candles_come_from_the_answer() {
        let request = CryptoCom.candle_request("BTC_USDT", MINUTE, 60_000 * MILLI, 180_000 * MILLI).unwrap();
        let query = "instrument_name=BTC_USDT&timeframe=1m&count=300&start_ts=59999&end_ts=179999";
        assert_eq!(request.path, format!("{CANDLES}?{query}"));
        let body = br#"{"id":-1,"method":"public/get-candlestick","code":0,"result":{"interval":"1m","data":[{"o":"1","h":"4","l":"0.5","c":"2","v":"10.5","t":60000},{"o":"2","h":"2","l":"2","c":"2","v":"0","t":120000}],"instrument_name":"BTC_USDT"}}"#;
        let mut candles = Vec::new();
        CryptoCom.parse_candles(&request, body, &mut candles).unwrap();
        let row = |candle: &CandleItem| {
            [candle.open, candle.high, candle.low, candle.close, candle.volume].map(|number| number.to_string())
        };
        assert_eq!(row(&candles[0]), ["1", "4", "0.5", "2", "10.5"]);
        assert_eq!((candles[1].open_time, candles[1].interval), (120_000 * MILLI, MINUTE));
        assert!(CryptoCom.candle_request("BTC_USDT", 7 * MINUTE, 0, 1).is_none());
        let refused = CryptoCom.parse_candles(&request, br#"{"id":-1,"code":40003}"#, &mut candles);
        assert_eq!(refused.unwrap_err().class, Class::Ignore);
    }

    #[test]
    fn instruments_are_spot_perpetuals_and_futures() {
        let body = br#"{"id":-1,"method":"public/get-instruments","code":0,"result":{"data":[{"symbol":"BTC_USDT","inst_type":"CCY_PAIR","base_ccy":"BTC","quote_ccy":"USDT","price_tick_size":"0.01","qty_tick_size":"0.00001","tradable":true,"expiry_timestamp_ms":0},{"symbol":"BTCUSD-261225","inst_type":"FUTURE","base_ccy":"BTC","quote_ccy":"USD","price_tick_size":0.5,"qty_tick_size":"0.0001","contract_size":"0.1","tradable":false,"expiry_timestamp_ms":1798185600000},{"symbol":"BTCUSD-INDEX","inst_type":"INDEX","base_ccy":"BTC","quote_ccy":"USD","tradable":false}]}}"#;
        let mut listings = Vec::new();
        CryptoCom.parse_instruments(&CryptoCom.instrument_requests()[0], body, &mut listings).unwrap();
        let names: Vec<_> = listings.iter().map(Listing::symbol).collect();
        assert_eq!(names, ["BTC-USDT", "BTC-USD-261225"]);
        assert_eq!(listings[0].lot_size, Some(Decimal::new(1, 5)));
        assert_eq!((listings[1].tick_size, listings[1].status), (Some(Decimal::new(5, 1)), Status::Halted));
        assert_eq!(listings[1].contract_size, Decimal::new(1, 1));
        let refused =
            CryptoCom.parse_instruments(&CryptoCom.instrument_requests()[0], br#"{"code":40101}"#, &mut listings);
        assert_eq!(refused.unwrap_err().class, Class::Ignore);
    }
}
