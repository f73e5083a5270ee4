//! KuCoin spot: <https://www.kucoin.com/docs-new>.
//!
//! The socket's address and token come from a bullet request, and subscribing waits for the welcome frame.
//!
//! Book: subscribe, buffer, fetch a snapshot; every message must begin at most one behind what was applied.
//! Without a key a snapshot has 100 levels a side. A change at price 0 changes nothing but the sequence.
//!
//! The newer unified ("UTA") pushes, told by their `T`, are decoded where a recording has them; plans use
//! the classic feed.

use coby_core::decimal::Decimal;
use coby_core::instrument::{InstrumentId, Instruments, Listing, Status};
use coby_core::level::Side;
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Seen};
use coby_core::sink::{self, BookKind};
use coby_core::time::{DAY, MILLI, MINUTE, SECOND, nanos};
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, Class, ConnectionPlan, Dial, Frame, Join, Limits, Ping, Proof,
    Rule, Scope, Sequence, Session, Sink, Subscription, TradeFeed, TradeItem, Venue, VenueError, VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;

const REST: &str = "https://api.kucoin.com";
const BULLET: &str = "/api/v1/bullet-public";
const SOCKET: &str = "wss://ws-api-spot.kucoin.com";

const LEVEL2: u8 = 0;
const UNIFIED: u8 = 1;
const DEPTH50: u8 = 2;
const DEPTH5: u8 = 3;

const MATCH: u8 = 0;
const CANDLES: u8 = 0;

/// Symbols that one topic may name.
const SYMBOLS: usize = 100;

static SPEC: VenueSpec = VenueSpec {
    id: "kucoin",
    name: "KuCoin",
    protocol: "2025-11",
    closed: None,
    sockets: &[SOCKET],
    rest: REST,
    ping: Ping::Text(r#"{"id":"ping","type":"ping"}"#),
    silence: 40,
    limits: Limits { dials: (30, 60), messages: (100, 10), spacing: 0, streams: 300, rest: (2_000, 30), lifetime: 0 },
    books: &[
        BookFeed {
            name: "level2",
            join: Join::Request { after: 2 },
            rule: Rule::Contiguous,
            proof: Proof::Sequence,
            checksum: None,
            digits: false,
            depth: None,
            shows: Some(100),
            refresh: 300,
            limits: "keyless snapshots reach 100 levels a side; deeper levels appear when they change, and a new \
                     snapshot is read every five minutes and when the price nears the end of the last one",
        },
        BookFeed {
            name: "obu increment",
            join: Join::Socket,
            rule: Rule::Contiguous,
            proof: Proof::Sequence,
            checksum: None,
            digits: false,
            depth: None,
            shows: None,
            refresh: 0,
            limits: "only decoded, never subscribed",
        },
        BookFeed { name: "level2Depth50", depth: Some(50), ..IMAGE },
        BookFeed { name: "level2Depth5", depth: Some(5), ..IMAGE },
    ],
    trades: &[TradeFeed { name: "match", proof: Proof::None, aggregated: false }],
    candles: &[CandleFeed { name: "candles 1min", interval: MINUTE }],
};

const IMAGE: BookFeed = BookFeed {
    name: "",
    join: Join::Image,
    rule: Rule::Monotone,
    proof: Proof::None,
    checksum: None,
    digits: false,
    depth: None,
    shows: None,
    refresh: 0,
    limits: "whole images: a lost one is healed by the next",
};

/// KuCoin spot.
#[derive(Clone, Copy, Debug)]
pub struct KuCoin;

#[derive(Deserialize)]
struct Answer<T> {
    code: String,
    data: Option<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SymbolInfo {
    symbol: String,
    base_currency: String,
    quote_currency: String,
    price_increment: Option<String>,
    base_increment: Option<String>,
    enable_trading: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bullet {
    token: String,
    instance_servers: Vec<InstanceServer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InstanceServer {
    endpoint: String,
    ping_interval: i64,
}

/// The data of a REST answer whose code says success.
fn answered<T: for<'d> Deserialize<'d>>(body: &[u8], class: Class) -> Result<T, VenueError> {
    let answer: Answer<T> = common::read(body).map_err(|error| VenueError { class, ..error })?;
    match answer {
        Answer { code, data: Some(data) } if code == "200000" => Ok(data),
        _ => Err(VenueError::venue(class, body)),
    }
}

impl Venue for KuCoin {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        vec![HttpRequest::get(REST, "/api/v2/symbols")]
    }

    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let symbols: Vec<SymbolInfo> = answered(body, Class::Ignore)?;
        out.extend(symbols.into_iter().map(|info| Listing {
            tick_size: info.price_increment.as_deref().and_then(common::step),
            lot_size: info.base_increment.as_deref().and_then(common::step),
            status: if info.enable_trading { Status::Trading } else { Status::Halted },
            ..Listing::spot(&info.symbol, &info.base_currency, &info.quote_currency)
        }));
        Ok(())
    }

    fn plan(&self, subscriptions: &[Subscription], _: &Instruments) -> Vec<ConnectionPlan> {
        common::split(SOCKET, subscriptions, SPEC.limits.streams)
    }

    fn dial(&self, _: &ConnectionPlan, answer: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        let Some((_, body)) = answer else {
            return Ok(Dial::Ask(HttpRequest::post(REST, BULLET, "")));
        };
        let bullet: Bullet = answered(body, Class::Reconnect)?;
        let Some(server) = bullet.instance_servers.first().filter(|server| server.ping_interval > 0) else {
            return Err(VenueError::venue(Class::Reconnect, body));
        };
        // The venue wants an id that no other connection of ours has; tokens are new for every dial.
        let (endpoint, token, id) = (&server.endpoint, &bullet.token, crc32fast::hash(bullet.token.as_bytes()));
        let url = format!("{endpoint}?token={token}&connectId={id:08x}");
        Ok(Dial::Connect { url, ping: common::time(server.ping_interval, MILLI)? })
    }

    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        let subscriptions = plan.map(|plan| plan.subscriptions.clone()).unwrap_or_default();
        Ok(Box::new(common::load(saved, || KuCoinSession { subscriptions })?))
    }

    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, to: Nanos) -> Option<HttpRequest> {
        let (name, _) = INTERVALS.iter().find(|(_, nanos)| *nanos == interval)?;
        let (start, end) = (from.div_euclid(SECOND), (to - 1).div_euclid(SECOND));
        let path = format!("/api/v1/market/candles?symbol={native}&type={name}&startAt={start}&endAt={end}");
        Some(HttpRequest::get(REST, path))
    }

    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let interval = request.query("type").and_then(|name| interval_of(name.as_bytes()));
        let interval = interval.ok_or_else(|| VenueError::missing("type"))?;
        let Some(mut c) = Cursor::new(body).find(b"data")? else { return Err(VenueError::venue(Class::Ignore, body)) };
        let mut rows = c.array()?;
        while rows.next(&mut c)? {
            out.push(CandleItem { closed: true, ..candle_row(&mut c, interval)? });
        }
        Ok(())
    }
}

/// Intervals that the venue names, in nanoseconds; months have no fixed length.
const INTERVALS: [(&str, Nanos); 12] = [
    ("1min", MINUTE),
    ("3min", 3 * MINUTE),
    ("5min", 5 * MINUTE),
    ("15min", 15 * MINUTE),
    ("30min", 30 * MINUTE),
    ("1hour", 60 * MINUTE),
    ("2hour", 120 * MINUTE),
    ("4hour", 240 * MINUTE),
    ("6hour", 360 * MINUTE),
    ("8hour", 480 * MINUTE),
    ("12hour", 720 * MINUTE),
    ("1day", DAY),
];

fn interval_of(name: &[u8]) -> Option<Nanos> {
    match name {
        b"1week" => Some(7 * DAY),
        _ => INTERVALS.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, nanos)| *nanos),
    }
}

/// The topics of a plan and what each subscribes: symbols of a channel share one, candles cannot.
fn topics(subscriptions: &[Subscription]) -> Vec<(String, Vec<&Subscription>)> {
    let mut topics = Vec::new();
    for (channel, name) in [(Channel::Book, "/market/level2"), (Channel::Trades, "/market/match")] {
        let of_channel: Vec<_> = subscriptions.iter().filter(|subscription| subscription.channel == channel).collect();
        for chunk in of_channel.chunks(SYMBOLS) {
            let symbols: Vec<&str> = chunk.iter().map(|subscription| subscription.native.as_str()).collect();
            topics.push((format!("{name}:{}", symbols.join(",")), chunk.to_vec()));
        }
    }
    let candles = subscriptions.iter().filter(|subscription| subscription.channel == Channel::Candles);
    topics.extend(candles.map(|candles| (format!("/market/candles:{}_1min", candles.native), vec![candles])));
    topics
}

#[derive(Serialize, Deserialize)]
struct KuCoinSession {
    subscriptions: Vec<Subscription>,
}

impl Session for KuCoinSession {
    fn usual(&mut self, text: &[u8], out: &mut Sink<'_>) -> Option<()> {
        usual(text, out)
    }

    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            Frame::Text(text) => self.text(text, out),
            Frame::Http { request, status, body } => match request.route().split_once("/market/orderbook/") {
                Some((_, "level2" | "level2_100" | "level2_20")) => {
                    common::success(status, body)?;
                    let symbol = request.query("symbol").ok_or_else(|| VenueError::missing("symbol"))?;
                    snapshot(symbol, body, out)
                }
                // Tokens, which recordings hold.
                _ if request.route() == BULLET => Ok(out.known()),
                _ => Ok(out.unknown()),
            },
            Frame::Binary(_) => Ok(out.unknown()),
            Frame::Open { .. } | Frame::Close(_) => Ok(()),
        }
    }

    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match scope {
            Scope::Book(id, LEVEL2) => {
                let symbol = out.instruments().get(id).native.clone();
                ask(&symbol, out);
            }
            Scope::Book(id, UNIFIED) => {
                let symbol = out.instruments().get(id).native.clone();
                for action in ["unsubscribe", "subscribe"] {
                    out.send(&format!(
                        r#"{{"id":"1","action":"{action}","channel":"obu","tradeType":"SPOT","symbol":"{symbol}","depth":"increment"}}"#
                    ));
                }
            }
            // The next image heals.
            Scope::Book(..) => {}
            Scope::Connection => {
                for subscription in self.subscriptions.iter().filter(|wanted| wanted.channel == Channel::Book) {
                    ask(&subscription.native, out);
                }
            }
        }
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        common::save(self, out);
    }
}

fn ask(symbol: &str, out: &mut Sink<'_>) {
    out.get(HttpRequest::get(REST, format!("/api/v1/market/orderbook/level2_100?symbol={symbol}")));
}

impl KuCoinSession {
    fn text(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut kind, mut topic, mut subject, mut data) = (None, None, None, None);
        let (mut head, mut result) = (None, false);
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"type" => {
                    seen.once(0, &c)?;
                    kind = Some(c.str()?);
                }
                b"topic" => {
                    seen.once(1, &c)?;
                    topic = Some(c.str()?);
                }
                b"subject" => {
                    seen.once(2, &c)?;
                    subject = Some(c.str()?);
                }
                b"data" => {
                    seen.once(3, &c)?;
                    data = Some(c);
                    // The subject may stand behind the data: most frames change a book, so that is tried.
                    if subject.is_none_or(|subject: &[u8]| subject == b"trade.l2update") {
                        let mut ahead = c;
                        if let Ok(Some(found)) = changes(&mut ahead, false, out) {
                            head = Some(found);
                            c = ahead;
                            continue;
                        }
                        out.abandon();
                    }
                    c.skip()?;
                }
                b"T" => return unified(text, out),
                b"result" => {
                    result = true;
                    c.skip()?;
                }
                _ => c.skip()?,
            }
        }
        c.end()?;
        match kind {
            Some(b"message") => message(topic.unwrap_or_default(), subject.unwrap_or_default(), data, head, out),
            Some(b"welcome") => {
                for (id, (topic, _)) in (1..).zip(topics(&self.subscriptions)) {
                    let text = r#""privateChannel":false,"response":true"#;
                    out.send(&format!(r#"{{"id":{id},"type":"subscribe","topic":"{topic}",{text}}}"#));
                }
                Ok(())
            }
            Some(b"ack") => self.acknowledged(text, out),
            Some(b"pong" | b"notice") => Ok(out.known()),
            Some(b"error") => Err(self.refused(text)),
            // `{"id":"1","result":true}` answers subscribing to the unified API.
            None if result => Ok(out.known()),
            _ => Ok(out.unknown()),
        }
    }

    /// `{"id":"1","type":"ack"}`: ids are places among the plan's topics.
    fn acknowledged(&self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let Some(mut id) = Cursor::new(text).find(b"id")? else { return Ok(()) };
        let id = std::str::from_utf8(id.text()?).ok().and_then(|id| id.parse::<usize>().ok());
        let mut topics = topics(&self.subscriptions);
        let Some(at) = id.and_then(|id| id.checked_sub(1)).filter(|at| *at < topics.len()) else { return Ok(()) };
        for subscription in topics.swap_remove(at).1 {
            let id = out.instrument(subscription.native.as_bytes());
            out.subscribed(subscription.channel, 0, id);
        }
        Ok(())
    }

    /// `{"id":"1","type":"error","code":404,"data":"topic /market/xxx is not found"}`
    fn refused(&self, text: &[u8]) -> VenueError {
        let code = Cursor::new(text).find(b"code").ok().flatten().and_then(|mut code| code.int().ok());
        let class = match code {
            // The token is not valid, or we send too fast.
            Some(401 | 509) => Class::Reconnect,
            _ => common::refusal(!self.subscriptions.is_empty()),
        };
        VenueError::venue(class, text)
    }
}

/// A book change to the letter as nearly every frame has it; `None` for any other.
fn usual(text: &[u8], out: &mut Sink<'_>) -> Option<()> {
    match Cursor::new(text).literal(br#"{"data":"#) {
        Some(()) => untimed(text, out),
        None => timed(text, out),
    }
}

/// `{"data":{"sequenceStart":..,"symbol":"..","changes":{"asks":[["p","q","n"]],"bids":[..]},"sequenceEnd":..},`
/// `"subject":"trade.l2update","topic":"/market/level2:..","type":"message"}`, as recorded in 2021
fn untimed(text: &[u8], out: &mut Sink<'_>) -> Option<()> {
    let mut c = Cursor::new(text);
    c.literal(br#"{"data":{"sequenceStart":"#)?;
    let first = c.digits()?;
    c.literal(br#","symbol":""#)?;
    let symbol = c.plain()?;
    let id = out.usual_instrument(symbol)?;
    out.begin(id);
    c.literal(b",")?;
    usual_changes(&mut c, out)?;
    c.literal(br#","sequenceEnd":"#)?;
    let last = c.digits()?;
    c.literal(br#"},"subject":"trade.l2update","topic":"/market/level2:"#)?;
    if c.before_end(br#"","type":"message"}"#)? != symbol {
        return None;
    }
    let sequence = Some(Sequence::range(first, last));
    out.book(BookHead { sequence, ..BookHead::new(LEVEL2, BookKind::Delta) });
    Some(())
}

/// `{"type":"message","topic":"/market/level2:..","subject":"trade.l2update","data":{"changes":{"asks":[["p","q","n"]],`
/// `"bids":[..]},"sequenceStart":..,"sequenceEnd":..,"symbol":"..","time":ms}}`, as documented in 2025
fn timed(text: &[u8], out: &mut Sink<'_>) -> Option<()> {
    let mut c = Cursor::new(text);
    c.literal(br#"{"type":"message","topic":"/market/level2:"#)?;
    let symbol = c.plain()?;
    c.literal(br#","subject":"trade.l2update","data":{"#)?;
    let id = out.usual_instrument(symbol)?;
    out.begin(id);
    usual_changes(&mut c, out)?;
    c.literal(br#","sequenceStart":"#)?;
    let first = c.digits()?;
    c.literal(br#","sequenceEnd":"#)?;
    let last = c.digits()?;
    c.literal(br#","symbol":""#)?;
    if c.plain()? != symbol {
        return None;
    }
    c.literal(br#","time":"#)?;
    let time = nanos(c.digits()?, MILLI)?;
    c.literal(b"}}")?;
    c.done()?;
    let sequence = Some(Sequence::range(first, last));
    out.book(BookHead { sequence, ts_event: Some(time), ..BookHead::new(LEVEL2, BookKind::Delta) });
    Some(())
}

/// `"changes":{"asks":[["p","q","n"]],"bids":[..]}`
#[inline(always)]
fn usual_changes(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Option<()> {
    c.literal(br#""changes":{"asks":["#)?;
    usual_rows(Side::Ask, c, out)?;
    c.literal(br#","bids":["#)?;
    usual_rows(Side::Bid, c, out)?;
    c.literal(b"}")
}

/// `["p","q","n"],..]`, where price 0 only advances the sequence.
#[inline(always)]
fn usual_rows(side: Side, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Option<()> {
    if c.literal(b"]").is_some() {
        return Some(());
    }
    loop {
        c.literal(br#"[""#)?;
        let price = c.plain_decimal()?;
        c.literal(br#",""#)?;
        let amount = c.plain_decimal()?;
        c.literal(br#",""#)?;
        c.plain()?;
        if price.mantissa != 0 {
            out.usual_level(side, price, amount)?;
        }
        if c.literal(b"],").is_none() {
            return c.literal(b"]]");
        }
    }
}

fn message(
    topic: &[u8],
    subject: &[u8],
    data: Option<Cursor<'_>>,
    head: Option<BookHead>,
    out: &mut Sink<'_>,
) -> Result<(), VenueError> {
    if subject == b"trade.l2update"
        && let Some(head) = head
    {
        return Ok(out.book(head));
    }
    out.abandon();
    let mut c = data.ok_or_else(|| VenueError::missing("data"))?;
    let colon = topic.iter().position(|byte| *byte == b':').unwrap_or(topic.len());
    let (channel, symbols) = (&topic[..colon], topic.get(colon + 1..).unwrap_or_default());
    match (subject, channel) {
        (b"trade.l2update", _) => {
            // It could not be read before: name the book, so that what is wrong costs no other one.
            out.instrument(symbols);
            if let Some(head) = changes(&mut c, true, out)? {
                out.book(head);
            }
            Ok(())
        }
        (b"trade.l3match", _) => trade(&mut c, out),
        (b"trade.candles.add" | b"trade.candles.update", _) => candle(symbols, &mut c, out),
        (b"level2", b"/spotMarket/level2Depth50") => image(DEPTH50, symbols, &mut c, out),
        (b"level2", b"/spotMarket/level2Depth5") => image(DEPTH5, symbols, &mut c, out),
        // Books of a call auction are crossed by design.
        (b"level2", b"/callauction/level2Depth50") | (b"level1" | b"trade.ticker" | b"trade.snapshot", _) => {
            Ok(out.known())
        }
        _ => Ok(out.unknown()),
    }
}

/// `{"changes":{"asks":[[price, size, sequence]],"bids":[]},"sequenceStart":..,"sequenceEnd":..,"symbol":..,"time":ms}`.
/// Unless the caller is `sure`, the first key that does not belong there ends it with `None`.
fn changes(c: &mut Cursor<'_>, sure: bool, out: &mut Sink<'_>) -> Result<Option<BookHead>, VenueError> {
    let mut seen = Seen::default();
    let (mut symbol, mut late): (Option<&[u8]>, _) = (None, None);
    let (mut first, mut last, mut time) = (0, 0, None);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"symbol" => {
                seen.once(0, c)?;
                symbol = Some(c.str()?);
            }
            b"changes" => {
                seen.once(1, c)?;
                if let Some(symbol) = symbol {
                    changed(symbol, c, out)?;
                } else {
                    late = Some(*c);
                    c.skip()?;
                }
            }
            b"sequenceStart" => {
                seen.once(2, c)?;
                first = c.int()?;
            }
            b"sequenceEnd" => {
                seen.once(3, c)?;
                last = c.int()?;
            }
            b"time" => time = Some(common::time_at(c, MILLI)?),
            _ if sure => c.skip()?,
            _ => return Ok(None),
        }
    }
    common::require(seen, &["symbol", "changes", "sequenceStart", "sequenceEnd"])?;
    if let (Some(mut late), Some(symbol)) = (late, symbol) {
        changed(symbol, &mut late, out)?;
    }
    let sequence = Some(Sequence::range(first, last));
    Ok(Some(BookHead { sequence, ts_event: time, ..BookHead::new(LEVEL2, BookKind::Delta) }))
}

/// `{"asks":[[price, size, sequence]],"bids":[..]}`
fn changed(symbol: &[u8], c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let id = out.instrument(symbol);
    out.begin(id);
    let mut seen = Seen::default();
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"bids" => {
                seen.once(0, c)?;
                rows(Side::Bid, c, out)?;
            }
            b"asks" => {
                seen.once(1, c)?;
                rows(Side::Ask, c, out)?;
            }
            _ => c.skip()?,
        }
    }
    common::require(seen, &["bids", "asks"])
}

/// `[[price, size, sequence]]`, where price 0 only advances the sequence.
fn rows(side: Side, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut rows = c.array()?;
    while rows.next(c)? {
        let mut row = c.array()?;
        row.more(c)?;
        let price = sink::price(c)?;
        row.more(c)?;
        let amount = sink::size(c)?;
        row.rest(c)?;
        if price.mantissa != 0 {
            out.level(side, price, amount)?;
        }
    }
    Ok(())
}

/// Reads `bids`, `asks` and a number and a time under the names that the venue gives them there.
fn whole(
    symbol: &[u8],
    [number_key, time_key]: [&[u8]; 2],
    c: &mut Cursor<'_>,
    out: &mut Sink<'_>,
) -> Result<(Option<i64>, Option<Nanos>), VenueError> {
    let id = out.instrument(symbol);
    out.begin(id);
    let mut seen = Seen::default();
    let (mut number, mut time) = (None, None);
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
            _ if key == time_key => {
                seen.once(2, c)?;
                time = Some(common::time_at(c, MILLI)?);
            }
            _ if key == number_key => {
                seen.once(3, c)?;
                number = Some(c.int()?);
            }
            _ => c.skip()?,
        }
    }
    common::require(seen, &["bids", "asks"])?;
    Ok((number, time))
}

/// `{"code":"200000","data":{"time":ms,"sequence":"..","bids":[["p","s"]],"asks":[..]}}`
fn snapshot(symbol: &str, body: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut c = Cursor::new(body);
    let mut o = c.object()?;
    let (mut code, mut found) = (None, None);
    while let Some(key) = o.key(&mut c)? {
        match key {
            b"code" => code = Some(c.text()?),
            b"data" if found.is_none() => found = Some(whole(symbol.as_bytes(), [b"sequence", b"time"], &mut c, out)?),
            _ => c.skip()?,
        }
    }
    c.end()?;
    let (Some(b"200000"), Some((sequence, time))) = (code, found) else {
        out.abandon();
        return Err(VenueError::venue(Class::Ignore, body));
    };
    let last = sequence.ok_or_else(|| VenueError::missing("sequence"))?;
    let sequence = Some(Sequence::at(last));
    Ok(out.book(BookHead { sequence, ts_event: time, ..BookHead::new(LEVEL2, BookKind::Snapshot) }))
}

/// `{"asks":[["p","s"]],"bids":[..],"timestamp":ms}`: the symbol stands in the topic.
fn image(feed: u8, symbol: &[u8], c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    if symbol.is_empty() {
        return Err(VenueError::missing("symbol in the topic"));
    }
    let (_, time) = whole(symbol, [b"", b"timestamp"], c, out)?;
    let depth = SPEC.books[feed as usize].depth;
    let sequence = time.map(Sequence::at);
    Ok(out.book(BookHead { sequence, depth, ts_event: time, ..BookHead::new(feed, BookKind::Image) }))
}

fn trade(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    trade_as([b"symbol", b"tradeId", b"price", b"size", b"side", b"time"], c, out)
}

/// Reads a trade under the venue's names for symbol, id, price, size, the taker's side and nanoseconds.
fn trade_as(names: [&[u8]; 6], c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut id, mut trade_id, mut time, mut taker) = (InstrumentId(0), &b""[..], 0, Side::Bid);
    let [mut price, mut size] = [Decimal::default(); 2];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        let Some((field, _)) = (0..).zip(names).find(|(_, name)| *name == key) else {
            c.skip()?;
            continue;
        };
        seen.once(field, c)?;
        match field {
            0 => id = out.instrument(c.str()?),
            1 => trade_id = c.text()?,
            2 => price = c.decimal()?,
            3 => size = c.decimal()?,
            4 => {
                taker = match c.str()? {
                    b"buy" => Side::Bid,
                    b"sell" => Side::Ask,
                    _ => return Err(VenueError::unexpected("side of a trade")),
                }
            }
            _ => time = common::time_at(c, 1)?,
        }
    }
    common::require(seen, &["symbol", "trade id", "price", "size", "side", "time"])?;
    // The match's sequence is the order book's, which other events use up too.
    let (sequence, history, ts_event) = (None, false, Some(time));
    out.trade(&TradeItem { feed: MATCH, id, price, size, taker, trade_id, sequence, history, ts_event })
}

/// `{"symbol":..,"candles":[..],"time":ns}` of the topic `…:<symbol>_<interval>`.
fn candle(topic: &[u8], c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let name = topic.rsplit(|byte| *byte == b'_').next().unwrap_or_default();
    let Some(interval) = interval_of(name) else { return Ok(out.known()) };
    let mut seen = Seen::default();
    let (mut id, mut row, mut time) = (None, None, None);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"symbol" => {
                seen.once(0, c)?;
                id = Some(out.instrument(c.str()?));
            }
            b"candles" => {
                seen.once(1, c)?;
                row = Some(candle_row(c, interval)?);
            }
            b"time" => time = Some(common::time_at(c, 1)?),
            _ => c.skip()?,
        }
    }
    let (Some(id), Some(row)) = (id, row) else { return Err(VenueError::missing("symbol or candles")) };
    Ok(out.candle(CandleItem { id, ts_event: time, ..row }))
}

/// `[start in seconds, open, close, high, low, base volume, quote volume]`: close comes second.
fn candle_row(c: &mut Cursor<'_>, interval: Nanos) -> Result<CandleItem, VenueError> {
    let mut row = c.array()?;
    row.more(c)?;
    let open_time = common::time_at(c, SECOND)?;
    let mut numbers = [Decimal::default(); 6];
    for number in &mut numbers {
        row.more(c)?;
        *number = c.decimal()?;
    }
    row.rest(c)?;
    let [open, close, high, low, volume, notional] = numbers;
    Ok(CandleItem {
        feed: CANDLES,
        id: InstrumentId(0),
        interval,
        open_time,
        open,
        high,
        low,
        close,
        volume,
        notional: Some(notional),
        count: None,
        taker_buy: None,
        closed: false,
        ts_event: None,
    })
}

/// A push of the unified API: `{"T":"obu.SPOT","dp":"50","t":"snapshot","P":"ns","d":{..}}`.
fn unified(text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut topic, mut depth, mut kind, mut data) = (&b""[..], None, None, None);
    let mut c = Cursor::new(text);
    let mut o = c.object()?;
    while let Some(key) = o.key(&mut c)? {
        match key {
            b"T" => {
                seen.once(0, &c)?;
                topic = c.str()?;
            }
            b"dp" => {
                seen.once(1, &c)?;
                depth = Some(c.text()?);
            }
            b"t" => {
                seen.once(2, &c)?;
                kind = Some(c.str()?);
            }
            b"d" => {
                seen.once(3, &c)?;
                data = Some(c);
                c.skip()?;
            }
            _ => c.skip()?,
        }
    }
    c.end()?;
    let mut d = data.ok_or_else(|| VenueError::missing("d"))?;
    match topic {
        b"trade.SPOT" => trade_as([b"s", b"ti", b"p", b"q", b"S", b"M"], &mut d, out),
        b"obu.SPOT" => {
            let (feed, kind) = match (depth, kind) {
                (None | Some(b"increment"), Some(b"snapshot")) => (UNIFIED, BookKind::Snapshot),
                (None | Some(b"increment"), Some(b"delta")) => (UNIFIED, BookKind::Delta),
                (Some(b"50"), Some(b"snapshot")) => (DEPTH50, BookKind::Image),
                (Some(b"1" | b"5"), Some(b"snapshot")) => (DEPTH5, BookKind::Image),
                _ => return Err(VenueError::unexpected("kind of a book push")),
            };
            unified_book(feed, kind, &mut d, out)
        }
        b"ticker.SPOT" => Ok(out.known()),
        _ => Ok(out.unknown()),
    }
}

/// `{"O":first,"C":last,"M":ns,"a":[["p","s"]],"b":[..],"s":symbol}`
fn unified_book(feed: u8, kind: BookKind, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let symbol = c.find(b"s")?.ok_or_else(|| VenueError::missing("s"))?.str()?;
    let id = out.instrument(symbol);
    out.begin(id);
    let mut seen = Seen::default();
    let (mut first, mut last, mut time) = (None, 0, None);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"C" => {
                seen.once(0, c)?;
                last = c.int()?;
            }
            b"b" => {
                seen.once(1, c)?;
                rows(Side::Bid, c, out)?;
            }
            b"a" => {
                seen.once(2, c)?;
                rows(Side::Ask, c, out)?;
            }
            b"O" => first = Some(c.int()?),
            b"M" => time = Some(common::time_at(c, 1)?),
            _ => c.skip()?,
        }
    }
    common::require(seen, &["C", "b", "a"])?;
    let sequence = match (kind, first) {
        (BookKind::Delta, Some(first)) => Sequence::range(first, last),
        (BookKind::Delta, None) => return Err(VenueError::missing("O")),
        _ => Sequence::at(last),
    };
    let depth = SPEC.books[feed as usize].depth;
    Ok(out.book(BookHead { sequence: Some(sequence), depth, ts_event: time, ..BookHead::new(feed, kind) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, subscriptions};

    const BULLET: &str = r#"{"code":"200000","data":{"token":"2neAiu","instanceServers":[{"endpoint":"wss://ws-api-spot.kucoin.com/","encrypt":true,"protocol":"websocket","pingInterval":18000,"pingTimeout":10000}]}}"#;

    #[test]
    fn dialling_asks_for_a_token_first() {
        let plan = ConnectionPlan::default();
        let Dial::Ask(request) = KuCoin.dial(&plan, None).unwrap() else { panic!("a token is needed") };
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/api/v1/bullet-public"));
        let Dial::Connect { url, ping } = KuCoin.dial(&plan, Some((&request, BULLET.as_bytes()))).unwrap() else {
            panic!("the token is there")
        };
        assert_eq!(url, "wss://ws-api-spot.kucoin.com/?token=2neAiu&connectId=37827bb2");
        assert_eq!(ping, 18 * SECOND);
        let refused = KuCoin.dial(&plan, Some((&request, br#"{"code":"429000","msg":"Too Many Requests"}"#)));
        assert_eq!(refused.unwrap_err().class, Class::Reconnect);
    }

    #[test]
    fn subscribing_waits_for_the_welcome() {
        let natives: Vec<String> = (0..101).map(|number| format!("S{number}-USDT")).collect();
        let natives: Vec<&str> = natives.iter().map(String::as_str).collect();
        let mut wanted = subscriptions(&natives, &[Channel::Book]);
        wanted.extend(subscriptions(&natives[..2], &[Channel::Trades, Channel::Candles]));
        let plans = KuCoin.plan(&wanted, &Instruments::default());
        assert_eq!(plans.len(), 1);
        let mut bench = Bench::open(&KuCoin, plans.first());
        assert_eq!(bench.sent, [""; 0]);
        bench.text(r#"{"id":"37827bb2","type":"welcome"}"#);
        let tail = r#","privateChannel":false,"response":true}"#;
        assert_eq!(bench.sent.len(), 5);
        assert!(bench.sent[0].starts_with(r#"{"id":1,"type":"subscribe","topic":"/market/level2:S0-USDT,S1-USDT,"#));
        assert_eq!(bench.sent[1], format!(r#"{{"id":2,"type":"subscribe","topic":"/market/level2:S100-USDT"{tail}"#));
        assert_eq!(
            bench.sent[2],
            format!(r#"{{"id":3,"type":"subscribe","topic":"/market/match:S0-USDT,S1-USDT"{tail}"#)
        );
        assert_eq!(
            bench.sent[4],
            format!(r#"{{"id":5,"type":"subscribe","topic":"/market/candles:S1-USDT_1min"{tail}"#)
        );
        bench.text(r#"{"id":"9","type":"error","code":404,"data":"topic /market/xxx is not found"}"#);
        assert!(bench.sent[5].starts_with("reconnect fatal=true"), "{}", bench.sent[5]);
    }

    #[test]
    fn a_book_waits_for_a_snapshot_that_meets_it() {
        let plans = KuCoin.plan(&subscriptions(&["BTC-USDT"], &[Channel::Book]), &Instruments::default());
        let mut bench = Bench::open(&KuCoin, plans.first());
        let update = |first: i64, last: i64, price: &str| {
            format!(
                r#"{{"data":{{"sequenceStart":{first},"symbol":"BTC-USDT","changes":{{"asks":[["{price}","1","{last}"]],"bids":[]}},"sequenceEnd":{last}}},"subject":"trade.l2update","topic":"/market/level2:BTC-USDT","type":"message"}}"#
            )
        };
        bench.text(&update(11, 11, "101"));
        bench.text(&update(12, 13, "0"));
        assert_eq!(bench.sent, ["GET /api/v1/market/orderbook/level2_100?symbol=BTC-USDT"]);
        let answer = |sequence: i64| {
            format!(
                r#"{{"code":"200000","data":{{"time":1,"sequence":"{sequence}","bids":[["99","1"]],"asks":[["100","1"]]}}}}"#
            )
        };
        bench.http("/api/v1/market/orderbook/level2_20?symbol=BTC-USDT", &answer(9));
        assert_eq!(bench.told.0, ["gap BTC-USDT book opened join"]);
        bench.http("/api/v3/market/orderbook/level2?symbol=BTC-USDT", &answer(12));
        assert_eq!(bench.book("BTC-USDT"), "Live 99:1 | 100:1");
        bench.text(&update(14, 14, "101"));
        assert_eq!(bench.book("BTC-USDT"), "Live 99:1 | 100:1 101:1");
        bench.text(&update(16, 16, "102"));
        assert_eq!(bench.told.0.last().unwrap(), "gap BTC-USDT book opened sequence");
        assert_eq!(bench.sent.len(), 2);
    }

    #[test]
    fn a_new_snapshot_fills_in_and_is_no_drift() {
        let mut bench = Bench::open(&KuCoin, None);
        let update = |number: i64, changes: &str| {
            format!(
                r#"{{"data":{{"sequenceStart":{number},"symbol":"BTC-USDT","changes":{{{changes}}},"sequenceEnd":{number}}},"subject":"trade.l2update","topic":"/market/level2:BTC-USDT","type":"message"}}"#
            )
        };
        let answer = |sequence: i64, bids: &str| {
            format!(
                r#"{{"code":"200000","data":{{"time":1,"sequence":"{sequence}","bids":[{bids}],"asks":[["200","1"]]}}}}"#
            )
        };
        let path = "/api/v1/market/orderbook/level2_100?symbol=BTC-USDT";
        bench.text(&update(1, r#""bids":[["99","1","1"]],"asks":[]"#));
        bench.http(path, &answer(1, r#"["100","1"],["99","1"]"#));
        bench.text(&update(2, r#""bids":[["80","1","2"]],"asks":[]"#));
        bench.pass(301);
        bench.pass(3);
        assert_eq!(bench.sent, ["GET /api/v1/market/orderbook/level2_100?symbol=BTC-USDT"]);
        // Neither book knows the other's levels below 99: that is no contradiction.
        bench.text(&update(3, r#""bids":[["70","1","3"]],"asks":[]"#));
        bench.http(path, &answer(2, r#"["100","1"],["99","1"],["90","5"]"#));
        assert_eq!(bench.book("BTC-USDT"), "Live 100:1 99:1 90:5 70:1 | 200:1");
        assert!(!bench.told.0.iter().any(|told| told.starts_with("gap")), "{:?}", bench.told.0);
        // A level inside both that differs is one.
        bench.pass(301);
        bench.pass(3);
        bench.text(&update(4, r#""bids":[["100","2","4"]],"asks":[]"#));
        bench.http(path, &answer(3, r#"["100","1"],["99","3"]"#));
        assert_eq!(
            bench.told.0[bench.told.0.len() - 3..][..2],
            ["gap BTC-USDT book opened drift", "gap BTC-USDT book closed drift"]
        );
        assert_eq!(bench.book("BTC-USDT"), "Live 100:2 99:3 | 200:1");
    }

    #[test]
    fn candles_put_close_second() {
        let request = KuCoin.candle_request("BTC-USDT", MINUTE, 0, 120 * SECOND).unwrap();
        assert_eq!(request.path, "/api/v1/market/candles?symbol=BTC-USDT&type=1min&startAt=0&endAt=119");
        let body = br#"{"code":"200000","data":[["60","2","3","4","1","10","25"],["0","1","2","2.5","0.5","7","9"]]}"#;
        let mut candles = Vec::new();
        KuCoin.parse_candles(&request, body, &mut candles).unwrap();
        let row = |candle: &CandleItem| {
            [candle.open, candle.high, candle.low, candle.close, candle.volume].map(|number| number.to_string())
        };
        assert_eq!(row(&candles[0]), ["2", "4", "1", "3", "10"]);
        assert_eq!(row(&candles[1]), ["1", "2.5", "0.5", "2", "7"]);
        assert_eq!((candles[0].open_time, candles[0].closed), (60 * SECOND, true));
        assert!(KuCoin.candle_request("BTC-USDT", 7 * MINUTE, 0, 1).is_none());
    }

    #[test]
    fn instruments_come_from_the_list() {
        let body = br#"{"code":"200000","data":[{"symbol":"BCHSV-USDT","name":"BSV-USDT","baseCurrency":"BCHSV","quoteCurrency":"USDT","baseMinSize":"0.001","priceIncrement":"0.01","baseIncrement":"0.0001","quoteIncrement":"0.001","enableTrading":false}]}"#;
        let mut listings = Vec::new();
        KuCoin.parse_instruments(&KuCoin.instrument_requests()[0], body, &mut listings).unwrap();
        let listing = &listings[0];
        assert_eq!((listing.symbol().as_str(), listing.native.as_str()), ("BCHSV-USDT", "BCHSV-USDT"));
        assert_eq!((listing.tick_size, listing.lot_size), (Some(Decimal::new(1, 2)), Some(Decimal::new(1, 4))));
        assert_eq!(listing.status, Status::Halted);
    }
}
