//! MEXC spot v3: <https://www.mexc.com/api-docs/spot-v3/websocket-market-streams>.
//!
//! Control frames are JSON texts, data frames are protocol buffers in the layout of
//! <https://github.com/mexcdevelop/websocket-proto>. Asks have the lower field number.
//!
//! Book: subscribe, buffer, fetch a snapshot; the first change must reach its `lastUpdateId`, then each
//! `fromVersion` must follow the `toVersion` before it. Trades have an id only since 2026-06.

use std::collections::BTreeSet;

use coby_core::decimal::Decimal;
use coby_core::instrument::{InstrumentId, Instruments, Listing, Status};
use coby_core::level::Side;
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Kind};
use coby_core::sink::{self, BookKind};
use coby_core::time::{DAY, MILLI, MINUTE, SECOND};
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, Class, ConnectionPlan, Dial, Frame, Join, Limits, Ping, Proof,
    Rule, Scope, Sequence, Session, Sink, Subscription, TradeFeed, TradeItem, Venue, VenueError, VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;
use crate::protobuf::{Fields, Value};

const REST: &str = "https://api.mexc.com";
const SOCKET: &str = "wss://wbs-api.mexc.com/ws";

const FAST: u8 = 0;
const SLOW: u8 = 1;
const LIMIT20: u8 = 2;
const LIMIT10: u8 = 3;
const LIMIT5: u8 = 4;

/// Field numbers of the bodies that are decoded.
const DEALS: u64 = 301;
const LIMIT_DEPTHS: u64 = 303;
const KLINE: u64 = 308;
const AGGRE_DEPTHS: u64 = 313;
const AGGRE_DEALS: u64 = 314;
/// Field numbers of all bodies.
const BODIES: std::ops::RangeInclusive<u64> = DEALS..=315;

static SPEC: VenueSpec = VenueSpec {
    id: "mexc",
    name: "MEXC",
    protocol: "2026-08",
    closed: None,
    sockets: &[SOCKET],
    rest: REST,
    ping: Ping::Text(r#"{"method":"PING"}"#),
    silence: 45,
    // The venue takes 100 messages a second.
    limits: Limits { dials: (30, 60), messages: (10, 1), spacing: 0, streams: 30, rest: (300, 10), lifetime: 86_400 },
    books: &[
        BookFeed { name: "aggre.depth@10ms", ..VERSIONS },
        BookFeed { name: "aggre.depth@100ms", ..VERSIONS },
        BookFeed { name: "limit.depth 20", depth: Some(20), ..IMAGE },
        BookFeed { name: "limit.depth 10", depth: Some(10), ..IMAGE },
        BookFeed { name: "limit.depth 5", depth: Some(5), ..IMAGE },
    ],
    trades: &[TradeFeed { name: "aggre.deals@100ms", proof: Proof::None, aggregated: false }],
    candles: &[CandleFeed { name: "kline Min1", interval: MINUTE }],
};

const VERSIONS: BookFeed = BookFeed {
    name: "",
    join: Join::Request { after: 2 },
    rule: Rule::Chain,
    proof: Proof::Sequence,
    checksum: None,
    digits: false,
    depth: None,
    shows: Some(5_000),
    refresh: 1_800,
    limits: "snapshots reach 5,000 levels a side; deeper levels appear when they change, and a new snapshot is \
             read every half hour and when the price nears the end of the last one",
};

const IMAGE: BookFeed = BookFeed {
    join: Join::Image,
    rule: Rule::Monotone,
    proof: Proof::None,
    shows: None,
    refresh: 0,
    limits: "whole images: a lost one is healed by the next",
    ..VERSIONS
};

/// MEXC spot.
#[derive(Clone, Copy, Debug)]
pub struct Mexc;

#[derive(Deserialize)]
struct ExchangeInfo {
    symbols: Vec<SymbolInfo>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SymbolInfo {
    symbol: String,
    status: String,
    base_asset: String,
    quote_asset: String,
    quote_precision: i64,
    base_asset_precision: i64,
    base_size_precision: Option<String>,
}

impl Venue for Mexc {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        vec![HttpRequest::get(REST, "/api/v3/exchangeInfo")]
    }

    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let info: ExchangeInfo = common::read(body)?;
        out.extend(info.symbols.into_iter().map(|info| {
            Listing {
                tick_size: common::step_of_decimals(info.quote_precision),
                lot_size: info
                    .base_size_precision
                    .as_deref()
                    .and_then(common::step)
                    .or_else(|| common::step_of_decimals(info.base_asset_precision)),
                status: match info.status.as_str() {
                    "1" | "ENABLED" => Status::Trading,
                    "3" => Status::Delisted,
                    _ => Status::Halted,
                },
                ..Listing::spot(&info.symbol, &info.base_asset, &info.quote_asset)
            }
        }));
        Ok(())
    }

    fn plan(&self, subscriptions: &[Subscription], _: &Instruments) -> Vec<ConnectionPlan> {
        common::split(SOCKET, subscriptions, SPEC.limits.streams)
    }

    fn dial(&self, plan: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Ok(Dial::Connect { url: plan.base.clone(), ping: 20 * SECOND })
    }

    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        let subscriptions = plan.map(|plan| plan.subscriptions.clone()).unwrap_or_default();
        Ok(Box::new(common::load(saved, || MexcSession { subscriptions, fast: BTreeSet::new() })?))
    }

    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, to: Nanos) -> Option<HttpRequest> {
        let (_, name, _) = INTERVALS.iter().find(|(_, name, nanos)| *nanos == interval && !name.is_empty())?;
        let (start, end) = (from.div_euclid(MILLI), (to - 1).div_euclid(MILLI));
        let query = format!("symbol={native}&interval={name}&startTime={start}&endTime={end}&limit=1000");
        Some(HttpRequest::get(REST, format!("/api/v3/klines?{query}")))
    }

    /// `[[open ms,"open","high","low","close","volume",close ms,"quote volume"]]`
    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let name = request.query("interval").unwrap_or_default();
        let interval = INTERVALS.iter().find(|(_, known, _)| *known == name).map(|(_, _, nanos)| *nanos);
        let interval = interval.ok_or_else(|| VenueError::missing("interval"))?;
        let mut c = Cursor::new(body);
        if c.kind()? != Kind::Array {
            return Err(VenueError::venue(Class::Ignore, body));
        }
        let mut rows = c.array()?;
        while rows.next(&mut c)? {
            let mut row = c.array()?;
            row.more(&mut c)?;
            let open_time = common::time_at(&mut c, MILLI)?;
            let mut numbers = [Decimal::default(); 5];
            for number in &mut numbers {
                row.more(&mut c)?;
                *number = c.decimal()?;
            }
            row.more(&mut c)?;
            c.skip()?;
            row.more(&mut c)?;
            let notional = Some(c.decimal()?);
            row.rest(&mut c)?;
            let [open, high, low, close, volume] = numbers;
            out.push(CandleItem {
                feed: 0,
                id: InstrumentId(0),
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
                closed: true,
                ts_event: None,
            });
        }
        Ok(())
    }
}

/// Intervals of fixed length as the socket and as REST name them; REST does not have all.
const INTERVALS: [(&str, &str, Nanos); 9] = [
    ("Min1", "1m", MINUTE),
    ("Min5", "5m", 5 * MINUTE),
    ("Min15", "15m", 15 * MINUTE),
    ("Min30", "30m", 30 * MINUTE),
    ("Min60", "60m", 60 * MINUTE),
    ("Hour4", "4h", 240 * MINUTE),
    ("Hour8", "", 480 * MINUTE),
    ("Day1", "1d", DAY),
    ("Week1", "1W", 7 * DAY),
];

fn channel_of(subscription: &Subscription) -> String {
    let native = &subscription.native;
    match subscription.channel {
        Channel::Book => format!("spot@public.aggre.depth.v3.api.pb@100ms@{native}"),
        Channel::Trades => format!("spot@public.aggre.deals.v3.api.pb@100ms@{native}"),
        Channel::Candles => format!("spot@public.kline.v3.api.pb@{native}@Min1"),
    }
}

/// What a channel's name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Named<'a> {
    symbol: &'a [u8],
    /// `None` for channels that carry none of ours.
    what: Option<(Channel, u8)>,
}

/// `spot@public.<stream>.v3.api.pb@<speed>@<symbol>` or `…@<symbol>@<levels or interval>`.
fn named(channel: &[u8]) -> Option<Named<'_>> {
    let mut parts = channel.strip_prefix(b"spot@public.")?.split(|byte| *byte == b'@');
    let stream = parts.next()?.strip_suffix(b".v3.api.pb")?;
    let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (what, symbol) = match (stream, first, second) {
        (b"aggre.depth", b"10ms", symbol) => (Some((Channel::Book, FAST)), symbol),
        (b"aggre.depth", _, symbol) => (Some((Channel::Book, SLOW)), symbol),
        (b"aggre.deals", _, symbol) | (b"deals", symbol, _) => (Some((Channel::Trades, 0)), symbol),
        (b"limit.depth", symbol, b"5") => (Some((Channel::Book, LIMIT5)), symbol),
        (b"limit.depth", symbol, b"10") => (Some((Channel::Book, LIMIT10)), symbol),
        (b"limit.depth", symbol, _) => (Some((Channel::Book, LIMIT20)), symbol),
        (b"kline", symbol, _) => (Some((Channel::Candles, 0)), symbol),
        (b"aggre.bookTicker", _, symbol) | (_, symbol, _) => (None, symbol),
    };
    Some(Named { symbol, what })
}

#[derive(Serialize, Deserialize)]
struct MexcSession {
    subscriptions: Vec<Subscription>,
    /// Instruments whose changes come every 10 ms: a snapshot is for that feed.
    fast: BTreeSet<InstrumentId>,
}

impl Session for MexcSession {
    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            Frame::Open { .. } => {
                // One a message: then a confirmation names exactly what it confirms.
                for channel in self.subscriptions.iter().map(channel_of) {
                    out.send(&format!(r#"{{"method":"SUBSCRIPTION","params":["{channel}"]}}"#));
                }
                Ok(())
            }
            Frame::Text(text) => self.control(text, out),
            // Some recorders keep every frame as binary; no message of ours begins like JSON.
            Frame::Binary(bytes) if bytes.first() == Some(&b'{') => {
                std::str::from_utf8(bytes).map_err(|_| VenueError::unexpected("bytes: not UTF-8"))?;
                self.control(bytes, out)
            }
            Frame::Binary(bytes) => {
                if self.usual_wrapper(bytes, out).is_some() {
                    return Ok(());
                }
                out.restart();
                self.wrapper(bytes, out)
            }
            Frame::Http { request, status, body } => match request.route() {
                "/api/v3/depth" => {
                    common::success(status, body)?;
                    let symbol = request.query("symbol").ok_or_else(|| VenueError::missing("symbol"))?;
                    let id = out.instrument(symbol.as_bytes());
                    snapshot(if self.fast.contains(&id) { FAST } else { SLOW }, id, body, out)
                }
                _ => Ok(out.unknown()),
            },
            Frame::Close(_) => Ok(()),
        }
    }

    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match scope {
            Scope::Book(id, FAST | SLOW) => {
                let symbol = out.instruments().get(id).native.clone();
                ask(&symbol, out);
            }
            // The next image heals.
            Scope::Book(..) => {}
            Scope::Connection => {
                for book in self.subscriptions.iter().filter(|wanted| wanted.channel == Channel::Book) {
                    ask(&book.native, out);
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
    out.get(HttpRequest::get(REST, format!("/api/v3/depth?symbol={symbol}&limit=5000")));
}

impl MexcSession {
    /// `{"id":0,"code":0,"msg":"<channel>"}`: any other message than the channel's name is a refusal, whatever the code.
    fn control(&self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let (mut code, mut message) = (None, None);
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"code" => code = Some(c.int()?),
                b"msg" if c.kind()? == Kind::String => message = Some(c.raw_str()?),
                _ => c.skip()?,
            }
        }
        c.end()?;
        let (Some(code), Some(message)) = (code, message) else { return Ok(out.unknown()) };
        if message == b"PONG" {
            return Ok(out.known());
        }
        for channel in message.split(|byte| *byte == b',') {
            let Some(Named { symbol, what }) = named(channel.trim_ascii()).filter(|_| code == 0) else {
                return Err(VenueError::venue(common::refusal(!self.subscriptions.is_empty()), text));
            };
            if let Some((channel, feed)) = what.filter(|_| !symbol.is_empty()) {
                let id = out.instrument(symbol);
                out.subscribed(channel, feed, id);
            }
        }
        Ok(())
    }

    /// [`Self::wrapper`] for changes of a book with every field in its place; `None` for any other.
    fn usual_wrapper(&mut self, bytes: &[u8], out: &mut Sink<'_>) -> Option<()> {
        let mut fields = Fields::new(bytes);
        let mut next = || fields.field().ok();
        let Some((1, Value::Bytes(channel))) = next()? else { return None };
        let Some((3, Value::Bytes(symbol))) = next()? else { return None };
        let Some((6, Value::Varint(time))) = next()? else { return None };
        let Some((AGGRE_DEPTHS, Value::Bytes(mut rest))) = next()? else { return None };
        if next()?.is_some() || rest.is_empty() {
            return None;
        }
        let (Channel::Book, feed @ (FAST | SLOW)) = named(channel)?.what? else { return None };
        let time = common::time(time as i64, MILLI).ok()?;
        let id = out.usual_instrument(symbol)?;
        out.begin(id);
        // All lengths are below 128, and so one byte: a price and a quantity leave that much room.
        while let [tag @ (0x0a | 0x12), length @ ..0x80, 0x0a, price_length, text @ ..] = rest {
            let (price, price_end) = Decimal::parse_prefix(text).ok()?;
            let [0x12, size_length, text @ ..] = &text[price_end..] else { return None };
            let (size, size_end) = Decimal::parse_prefix(text).ok()?;
            let right = [*price_length, *size_length, *length].map(usize::from);
            if right != [price_end, size_end, price_end + size_end + 4] {
                return None;
            }
            out.usual_level(if *tag == 0x0a { Side::Ask } else { Side::Bid }, price, size)?;
            rest = &text[size_end..];
        }
        let (mut first, mut last) = (None, None);
        let mut fields = Fields::new(rest);
        while let Some((field, value)) = fields.field().ok()? {
            match field {
                1 | 2 => return None,
                4 => once(&mut first, value).ok()?,
                5 => once(&mut last, value).ok()?,
                _ => {}
            }
        }
        let head = changes_head(feed, first, last, Some(time)).ok()?;
        if feed == FAST {
            self.fast.insert(id);
        }
        out.book(head);
        Some(())
    }

    /// `PushDataV3ApiWrapper`: 1 channel, 3 symbol, 6 time of sending, 301 to 315 the body.
    fn wrapper(&mut self, bytes: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let (mut channel, mut symbol, mut time, mut body) = (None, None, None, None);
        let mut fields = Fields::new(bytes);
        while let Some((field, value)) = fields.field()? {
            match field {
                1 => once(&mut channel, value)?,
                3 => once(&mut symbol, value)?,
                6 => time = Some(common::time(value.int()?, MILLI)?),
                _ if BODIES.contains(&field) => {
                    if body.is_some() {
                        return Err(VenueError::unexpected("second body"));
                    }
                    body = Some((field, value.bytes()?));
                }
                _ => {}
            }
        }
        // Bodies that are missing or empty say nothing.
        let Some((field, body)) = body.filter(|(_, body)| !body.is_empty()) else { return Ok(out.known()) };
        if !matches!(field, DEALS | LIMIT_DEPTHS | KLINE | AGGRE_DEPTHS | AGGRE_DEALS) {
            return Ok(out.known());
        }
        let named = channel.and_then(named);
        let symbol = symbol.or(named.map(|named| named.symbol)).filter(|symbol| !symbol.is_empty());
        let id = out.instrument(utf8(symbol.ok_or_else(|| VenueError::missing("symbol"))?)?);
        let feed = named.and_then(|named| named.what).map(|(_, feed)| feed);
        match field {
            AGGRE_DEPTHS => {
                let feed = if feed == Some(FAST) { FAST } else { SLOW };
                if feed == FAST {
                    self.fast.insert(id);
                }
                changes(feed, id, time, body, out)
            }
            LIMIT_DEPTHS => image(feed.unwrap_or(LIMIT20).max(LIMIT20), id, time, body, out),
            KLINE => candle(id, time, body, out),
            _ => {
                let mut deals = Fields::new(body);
                while let Some((field, deal)) = deals.field()? {
                    if field == 1 {
                        trade(id, deal.bytes()?, out)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// Sets a field that may come once.
fn once<'a>(field: &mut Option<&'a [u8]>, value: Value<'a>) -> Result<(), VenueError> {
    match field.replace(value.bytes()?) {
        None => Ok(()),
        Some(_) => Err(VenueError::unexpected("second value of a field")),
    }
}

/// A number as the text that the venue sends.
#[inline]
fn number(
    text: &[u8],
    read: impl FnOnce(&mut Cursor<'_>) -> Result<Decimal, VenueError>,
) -> Result<Decimal, VenueError> {
    let mut c = Cursor::new(text);
    let number = read(&mut c)?;
    c.end()?;
    Ok(number)
}

fn version(text: Option<&[u8]>) -> Result<i64, VenueError> {
    let mut c = Cursor::new(text.ok_or_else(|| VenueError::missing("version"))?);
    let version = c.int()?;
    c.end()?;
    Ok(version)
}

fn utf8(text: &[u8]) -> Result<&[u8], VenueError> {
    std::str::from_utf8(text).map(|_| text).map_err(|_| VenueError::unexpected("text that is not UTF-8"))
}

/// A level: 1 price, 2 quantity.
#[inline]
fn level(side: Side, bytes: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
    let (mut price, mut quantity) = (None, None);
    let mut fields = Fields::new(bytes);
    while let Some((field, value)) = fields.field()? {
        match field {
            1 => once(&mut price, value)?,
            2 => once(&mut quantity, value)?,
            _ => {}
        }
    }
    let (Some(price), Some(quantity)) = (price, quantity) else {
        return Err(VenueError::missing("price or quantity of a level"));
    };
    out.level(side, number(price, sink::price)?, number(quantity, sink::size)?)
}

/// `PublicAggreDepthsV3Api`: 1 asks, 2 bids, 4 first version, 5 last version.
fn changes(
    feed: u8,
    id: InstrumentId,
    ts_event: Option<Nanos>,
    body: &[u8],
    out: &mut Sink<'_>,
) -> Result<(), VenueError> {
    out.begin(id);
    let (mut first, mut last) = (None, None);
    let mut fields = Fields::new(body);
    while let Some((field, value)) = fields.field()? {
        match field {
            1 => level(Side::Ask, value.bytes()?, out)?,
            2 => level(Side::Bid, value.bytes()?, out)?,
            4 => once(&mut first, value)?,
            5 => once(&mut last, value)?,
            _ => {}
        }
    }
    let head = changes_head(feed, first, last, ts_event)?;
    Ok(out.book(head))
}

fn changes_head(
    feed: u8,
    first: Option<&[u8]>,
    last: Option<&[u8]>,
    ts_event: Option<Nanos>,
) -> Result<BookHead, VenueError> {
    let (first, last) = (version(first)?, version(last)?);
    if first > last {
        return Err(VenueError::unexpected("fromVersion beyond toVersion"));
    }
    // Versions have no holes: the one before the first is the message's predecessor.
    let sequence = Some(Sequence { previous: first.checked_sub(1), ..Sequence::range(first, last) });
    Ok(BookHead { sequence, ts_event, ..BookHead::new(feed, BookKind::Delta) })
}

/// `PublicLimitDepthsV3Api`: 1 asks, 2 bids, 4 version.
fn image(
    feed: u8,
    id: InstrumentId,
    ts_event: Option<Nanos>,
    body: &[u8],
    out: &mut Sink<'_>,
) -> Result<(), VenueError> {
    out.begin(id);
    let mut last = None;
    let mut fields = Fields::new(body);
    while let Some((field, value)) = fields.field()? {
        match field {
            1 => level(Side::Ask, value.bytes()?, out)?,
            2 => level(Side::Bid, value.bytes()?, out)?,
            4 => once(&mut last, value)?,
            _ => {}
        }
    }
    let (depth, sequence) = (SPEC.books[feed as usize].depth, Some(Sequence::at(version(last)?)));
    Ok(out.book(BookHead { depth, sequence, ts_event, ..BookHead::new(feed, BookKind::Image) }))
}

/// A deal: 1 price, 2 quantity, 3 the taker's type (1 buy, 2 sell), 4 time in milliseconds, 5 id.
fn trade(id: InstrumentId, bytes: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
    let (mut price, mut quantity, mut trade_id, mut taker, mut time) = (None, None, None, None, None);
    let mut fields = Fields::new(bytes);
    while let Some((field, value)) = fields.field()? {
        match field {
            1 => once(&mut price, value)?,
            2 => once(&mut quantity, value)?,
            3 => {
                taker = Some(match value.int()? {
                    1 => Side::Bid,
                    2 => Side::Ask,
                    _ => return Err(VenueError::unexpected("type of a trade")),
                });
            }
            4 => time = Some(common::time(value.int()?, MILLI)?),
            5 => once(&mut trade_id, value)?,
            _ => {}
        }
    }
    let (Some(price), Some(quantity), Some(taker), Some(_)) = (price, quantity, taker, time) else {
        return Err(VenueError::missing("price, quantity, type or time of a trade"));
    };
    let (price, size) = (number(price, sink::price)?, number(quantity, sink::size)?);
    let (feed, sequence, history, trade_id) = (0, None, false, utf8(trade_id.unwrap_or_default())?);
    out.trade(&TradeItem { feed, id, price, size, taker, trade_id, sequence, history, ts_event: time })
}

/// `PublicSpotKlineV3Api`: 1 interval, 2 start in seconds, 3 open, 4 close, 5 high, 6 low, 7 volume, 8 quote volume.
fn candle(id: InstrumentId, ts_event: Option<Nanos>, body: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
    let (mut name, mut open_time, mut texts) = (None, None, [None; 6]);
    let mut fields = Fields::new(body);
    while let Some((field, value)) = fields.field()? {
        match field {
            1 => once(&mut name, value)?,
            2 => open_time = Some(common::time(value.int()?, SECOND)?),
            3..=8 => once(&mut texts[field as usize - 3], value)?,
            _ => {}
        }
    }
    let name = name.ok_or_else(|| VenueError::missing("interval"))?;
    let interval = INTERVALS.iter().find(|(known, ..)| known.as_bytes() == name).map(|(_, _, nanos)| *nanos);
    let Some(interval) = interval else { return Ok(out.known()) };
    let mut numbers = [Decimal::default(); 6];
    for (into, text) in numbers.iter_mut().zip(texts) {
        let text = text.ok_or_else(|| VenueError::missing("number of a candle"))?;
        *into = number(text, |c| Ok(c.decimal()?))?;
    }
    let [open, close, high, low, volume, notional] = numbers;
    out.candle(CandleItem {
        feed: 0,
        id,
        interval,
        open_time: open_time.ok_or_else(|| VenueError::missing("windowStart"))?,
        open,
        high,
        low,
        close,
        volume,
        notional: Some(notional),
        count: None,
        taker_buy: None,
        // Final once a later one begins; no frame says so.
        closed: false,
        ts_event,
    });
    Ok(())
}

fn snapshot(feed: u8, id: InstrumentId, body: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut c = Cursor::new(body);
    let head = BookHead::new(feed, BookKind::Snapshot);
    common::whole_book(&mut c, id, ("lastUpdateId", Some("timestamp")), head, out)?;
    Ok(c.end()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, subscriptions};

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    const DEPTH: &str = "0a2f73706f74407075626c69632e61676772652e64657074682e76332e6170692e7062403130306d7340425443555344541a074254435553445430bad2c3d1c432ca13730a160a0839323837382e3130120a302e353030303030303012160a0839323837372e3538120a302e30303030303030301a2773706f74407075626c69632e61676772652e64657074682e76332e6170692e7062403130306d73220b31303538393633323335392a0b3130353839363332333631";

    #[test]
    fn streams_are_subscribed_one_by_one() {
        let wanted = subscriptions(&["BTCUSDT"], &[Channel::Book, Channel::Trades, Channel::Candles]);
        let plans = Mexc.plan(&wanted, &Instruments::default());
        let mut bench = Bench::open(&Mexc, plans.first());
        let channels = [
            "spot@public.aggre.depth.v3.api.pb@100ms@BTCUSDT",
            "spot@public.aggre.deals.v3.api.pb@100ms@BTCUSDT",
            "spot@public.kline.v3.api.pb@BTCUSDT@Min1",
        ];
        let asked = |channel| format!(r#"{{"method":"SUBSCRIPTION","params":["{channel}"]}}"#);
        assert_eq!(bench.sent, channels.map(asked));
        bench.text(&format!(r#"{{"id":0,"code":0,"msg":"{}"}}"#, channels[0]));
        bench.text(r#"{"id":0,"code":0,"msg":"PONG"}"#);
        assert_eq!(bench.told.0, [""; 0]);
        bench.text(r#"{"id":0,"code":0,"msg":"Not Subscribed successfully! [x]. Reason: Blocked! "}"#);
        assert!(bench.sent[3].starts_with("reconnect fatal=true"));
        assert_eq!(Mexc.plan(&subscriptions(&["A"; 31], &[Channel::Book]), &Instruments::default()).len(), 2);
    }

    #[test]
    fn changes_join_a_snapshot_and_follow_each_other() {
        let mut bench = Bench::open(&Mexc, None);
        let update = |first: &str, last: &str| {
            let mut frame = bytes(DEPTH);
            let at = frame.len();
            frame[at - 24..at - 13].copy_from_slice(first.as_bytes());
            frame[at - 11..].copy_from_slice(last.as_bytes());
            frame
        };
        assert_eq!(update("10589632359", "10589632361"), bytes(DEPTH));
        bench.binary(&bytes(DEPTH));
        bench.binary(&update("10589632362", "10589632362"));
        assert_eq!(bench.sent, ["GET /api/v3/depth?symbol=BTCUSDT&limit=5000"]);
        let answer =
            |last: i64| format!(r#"{{"lastUpdateId":{last},"bids":[["92877.58","1"]],"asks":[],"timestamp":1}}"#);
        bench.http("/api/v3/depth?symbol=BTCUSDT&limit=1000", &answer(10_589_632_357));
        assert_eq!(bench.told.0, ["gap BTCUSDT book opened join"]);
        bench.http("/api/v3/depth?symbol=BTCUSDT&limit=1000", &answer(10_589_632_358));
        assert_eq!(bench.book("BTCUSDT"), "Live  | 9287810:5");
        bench.binary(&update("10589632362", "10589632370"));
        assert_eq!(bench.told.0.last().unwrap(), "gap BTCUSDT book opened sequence");
    }

    #[test]
    fn channels_by_name() {
        let of = |channel: &'static str| named(channel.as_bytes()).map(|named| (named.symbol, named.what));
        assert_eq!(of("spot@public.aggre.depth.v3.api.pb@10ms@X"), Some((&b"X"[..], Some((Channel::Book, FAST)))));
        assert_eq!(of("spot@public.limit.depth.v3.api.pb@X@10"), Some((&b"X"[..], Some((Channel::Book, LIMIT10)))));
        assert_eq!(of("spot@public.aggre.bookTicker.v3.api.pb@100ms@X"), Some((&b"X"[..], None)));
        assert_eq!(of("spot@public.miniTicker.v3.api.pb@X@UTC+8"), Some((&b"X"[..], None)));
        assert_eq!(of("spot@private.deals.v3.api.pb"), None);
        assert_eq!(of("Not Subscribed successfully"), None);
    }

    #[test]
    fn candles_come_by_rest_names() {
        let request = Mexc.candle_request("BTCUSDT", 60 * MINUTE, 0, 7_200 * SECOND).unwrap();
        let query = "symbol=BTCUSDT&interval=60m&startTime=0&endTime=7199999&limit=1000";
        assert_eq!(request.path, format!("/api/v3/klines?{query}"));
        let body = br#"[[0,"1","4","0.5","2","10.5",3600000,"21"]]"#;
        let mut candles = Vec::new();
        Mexc.parse_candles(&request, body, &mut candles).unwrap();
        let CandleItem { open, high, low, close, volume, notional, .. } = candles[0];
        let row = [open, high, low, close, volume, notional.unwrap()].map(|number| number.to_string());
        assert_eq!(row, ["1", "4", "0.5", "2", "10.5", "21"]);
        assert_eq!(candles[0].interval, 3_600 * SECOND);
        let refused = Mexc.parse_candles(&request, br#"{"code":-1121,"msg":"Invalid symbol."}"#, &mut candles);
        assert_eq!(refused.unwrap_err().class, Class::Ignore);
        assert!(Mexc.candle_request("BTCUSDT", 480 * MINUTE, 0, 1).is_none());
    }

    #[test]
    fn instruments_come_from_the_list() {
        let body = br#"{"timezone":"CST","symbols":[
            {"symbol":"BTCUSDT","status":"1","baseAsset":"BTC","baseAssetPrecision":8,"quoteAsset":"USDT","quotePrecision":2,"baseSizePrecision":"0.000001","isSpotTradingAllowed":true},
            {"symbol":"XUSDT","status":"2","baseAsset":"X","baseAssetPrecision":2,"quoteAsset":"USDT","quotePrecision":5,"baseSizePrecision":"0"}]}"#;
        let mut listings = Vec::new();
        Mexc.parse_instruments(&Mexc.instrument_requests()[0], body, &mut listings).unwrap();
        assert_eq!(listings[0].symbol(), "BTC-USDT");
        assert_eq!((listings[0].tick_size, listings[0].lot_size), (Some(Decimal::new(1, 2)), Some(Decimal::new(1, 6))));
        assert_eq!((listings[1].status, listings[1].lot_size), (Status::Halted, Some(Decimal::new(1, 2))));
    }
}
