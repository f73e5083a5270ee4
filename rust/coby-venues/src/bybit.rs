//! Bybit v5 public: <https://bybit-exchange.github.io/docs/v5/ws/connect>. Spot and linear contracts, each on a
//! socket of its own.
//!
//! Both call their instruments alike and no topic tells which it is: only the socket does. Natives of contracts
//! therefore carry their category here, `linear|BTCUSDT`.
//!
//! Book: a snapshot on subscribing, then deltas whose `u` grows by one per topic; `u` 1 is a fresh snapshot after
//! a restart of the service, and a snapshot may come at any time.

use coby_core::decimal::Decimal;
use coby_core::instrument::{InstrumentId, InstrumentKind, Instruments, Listing, Status};
use coby_core::level::Side;
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Seen};
use coby_core::sink::BookKind;
use coby_core::time::{DAY, MILLI, MINUTE, SECOND, nanos};
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, Class, ConnectionPlan, Dial, Frame, Join, Limits, Ping, Proof,
    Rule, Scope, Sequence, Session, Sink, Subscription, TradeFeed, TradeItem, Venue, VenueError, VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;

const REST: &str = "https://api.bybit.com";
const SOCKETS: &[&str] = &[
    "wss://stream.bybit.com/v5/public/spot",
    "wss://stream.bybit.com/v5/public/linear",
    "wss://stream.bybit.com/v5/public/inverse",
];

/// Depths that a book topic names, or once named, by rank.
const DEPTHS: [u32; 5] = [1_000, 500, 200, 50, 1];
const TRADES: u8 = 0;
const KLINE: u8 = 0;

static SPEC: VenueSpec = VenueSpec {
    id: "bybit",
    name: "Bybit",
    protocol: "2026-07",
    closed: None,
    sockets: SOCKETS,
    rest: REST,
    ping: Ping::Text(r#"{"op":"ping"}"#),
    silence: 45,
    // The topics of a connection may have 21,000 characters together; none has more than 40.
    limits: Limits { dials: (500, 300), messages: (10, 1), spacing: 0, streams: 500, rest: (600, 5), lifetime: 0 },
    books: &[
        BookFeed { name: "orderbook.1000", depth: Some(DEPTHS[0]), ..BOOK },
        BookFeed { name: "orderbook.500", depth: Some(DEPTHS[1]), ..BOOK },
        BookFeed { name: "orderbook.200", depth: Some(DEPTHS[2]), ..BOOK },
        BookFeed { name: "orderbook.50", depth: Some(DEPTHS[3]), ..BOOK },
        BookFeed { name: "orderbook.1", depth: Some(DEPTHS[4]), ..BOOK },
    ],
    trades: &[TradeFeed { name: "publicTrade", proof: Proof::None, aggregated: false }],
    candles: &[CandleFeed { name: "kline.1", interval: MINUTE }],
};

const BOOK: BookFeed = BookFeed {
    name: "",
    join: Join::Socket,
    rule: Rule::Increment,
    proof: Proof::Sequence,
    checksum: None,
    digits: false,
    depth: None,
    shows: None,
    refresh: 0,
    limits: "the venue does not promise that ids are gapless, they were seen to be",
};

/// Bybit.
#[derive(Clone, Copy, Debug)]
pub struct Bybit;

#[derive(Deserialize)]
struct Answer {
    result: Option<InstrumentList>,
}

#[derive(Deserialize)]
struct InstrumentList {
    category: Option<String>,
    list: Option<Vec<InstrumentInfo>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InstrumentInfo {
    symbol: String,
    base_coin: String,
    quote_coin: String,
    status: String,
    contract_type: Option<String>,
    delivery_time: Option<String>,
    price_filter: Option<PriceFilter>,
    lot_size_filter: Option<LotSizeFilter>,
}

#[derive(Deserialize)]
struct PriceFilter {
    #[serde(rename = "tickSize")]
    tick: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LotSizeFilter {
    base_precision: Option<String>,
    qty_step: Option<String>,
}

impl InstrumentInfo {
    fn listing(&self, category: &str) -> Result<Listing, VenueError> {
        let native = native_of(category, &self.symbol);
        let mut listing = Listing::spot(&native, &self.base_coin, &self.quote_coin);
        if let Some(contract) = &self.contract_type {
            listing.kind = if contract.ends_with("Perpetual") {
                InstrumentKind::Perpetual
            } else {
                let time = self.delivery_time.as_ref().and_then(|time| time.parse().ok());
                let time = time.ok_or_else(|| VenueError::unexpected("deliveryTime"))?;
                InstrumentKind::Future(common::time(time, MILLI)?)
            };
            listing.inverse = contract.starts_with("Inverse");
        }
        listing.tick_size = self.price_filter.as_ref().and_then(|filter| common::step(&filter.tick));
        let lot =
            self.lot_size_filter.as_ref().and_then(|lot| lot.qty_step.as_deref().or(lot.base_precision.as_deref()));
        listing.lot_size = lot.and_then(common::step);
        listing.status = match self.status.as_str() {
            "Trading" => Status::Trading,
            "Closed" | "Delivering" | "Settling" => Status::Delisted,
            _ => Status::Halted,
        };
        Ok(listing)
    }
}

impl Venue for Bybit {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        ["spot", "linear"]
            .map(|name| HttpRequest::get(REST, format!("/v5/market/instruments-info?category={name}&limit=1000")))
            .into()
    }

    fn parse_instruments(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let answer: Answer = common::read(body)?;
        let Some(InstrumentList { category, list: Some(list) }) = answer.result else {
            return Err(VenueError::venue(Class::Ignore, body));
        };
        let category = category.as_deref().or(request.query("category")).unwrap_or("spot");
        for info in list {
            out.push(info.listing(category)?);
        }
        Ok(())
    }

    fn plan(&self, subscriptions: &[Subscription], _: &Instruments) -> Vec<ConnectionPlan> {
        let of = |socket: &&str| {
            let ours = |subscription: &&Subscription| *socket == socket_of(category_of(&subscription.native).0);
            let ours: Vec<_> = subscriptions.iter().filter(ours).cloned().collect();
            common::split(socket, &ours, SPEC.limits.streams)
        };
        SOCKETS.iter().flat_map(of).collect()
    }

    fn dial(&self, plan: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Ok(Dial::Connect { url: plan.base.clone(), ping: 20 * SECOND })
    }

    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        let subscriptions = plan.map(|plan| plan.subscriptions.clone()).unwrap_or_default();
        let new = || BybitSession { subscriptions, ..BybitSession::default() };
        Ok(Box::new(common::load(saved, new)?))
    }

    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, to: Nanos) -> Option<HttpRequest> {
        let (interval, _) = INTERVALS.iter().find(|(_, nanos)| *nanos == interval)?;
        let (category, symbol) = category_of(native);
        let (start, end) = (from.div_euclid(MILLI), (to - 1).div_euclid(MILLI));
        let query =
            format!("category={category}&symbol={symbol}&interval={interval}&start={start}&end={end}&limit=1000");
        Some(HttpRequest::get(REST, format!("/v5/market/kline?{query}")))
    }

    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let interval = request.query("interval").and_then(|name| interval_of(name.as_bytes()));
        let interval = interval.ok_or_else(|| VenueError::missing("interval"))?;
        let result = Cursor::new(body).find(b"result")?;
        let list = result.map(|result| result.find(b"list")).transpose()?.flatten();
        let mut c = list.ok_or_else(|| VenueError::venue(Class::Ignore, body))?;
        let mut rows = c.array()?;
        while rows.next(&mut c)? {
            // [open time, open, high, low, close, volume, turnover]
            let mut row = c.array()?;
            row.more(&mut c)?;
            let open_time = common::time_at(&mut c, MILLI)?;
            let mut numbers = [Decimal::default(); 6];
            for number in &mut numbers {
                row.more(&mut c)?;
                *number = c.decimal()?;
            }
            row.rest(&mut c)?;
            let [open, high, low, close, volume, turnover] = numbers;
            out.push(CandleItem {
                feed: KLINE,
                id: InstrumentId(0),
                interval,
                open_time,
                open,
                high,
                low,
                close,
                volume,
                notional: Some(turnover),
                count: None,
                taker_buy: None,
                closed: true,
                ts_event: None,
            });
        }
        Ok(())
    }
}

/// Category and symbol of a native.
fn category_of(native: &str) -> (&str, &str) {
    native.split_once('|').unwrap_or(("spot", native))
}

fn native_of(category: &str, symbol: &str) -> String {
    if category == "spot" { symbol.into() } else { format!("{category}|{symbol}") }
}

fn socket_of(category: &str) -> &'static str {
    SOCKETS.iter().find(|socket| socket.ends_with(category)).unwrap_or(&SOCKETS[0])
}

/// Intervals that the venue names; months have no fixed length.
const INTERVALS: [(&str, Nanos); 12] = [
    ("1", MINUTE),
    ("3", 3 * MINUTE),
    ("5", 5 * MINUTE),
    ("15", 15 * MINUTE),
    ("30", 30 * MINUTE),
    ("60", 60 * MINUTE),
    ("120", 120 * MINUTE),
    ("240", 240 * MINUTE),
    ("360", 360 * MINUTE),
    ("720", 720 * MINUTE),
    ("D", DAY),
    ("W", 7 * DAY),
];

fn interval_of(name: &[u8]) -> Option<Nanos> {
    INTERVALS.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, nanos)| *nanos)
}

/// What a topic carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Book(u8),
    Trades,
    Candles(Nanos),
    /// Tickers, liquidations, other books, and others that are known.
    Other,
}

/// What stands before and behind the first dot.
fn at_dot(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == b'.')?;
    Some((&text[..at], &text[at + 1..]))
}

/// Content and symbol of `50.BTCUSDT`, which is behind `orderbook.`
fn book_topic(topic: &[u8]) -> Option<(What, &[u8])> {
    let (depth, symbol) = at_dot(topic)?;
    let known = |rank: &u8| SPEC.books[usize::from(*rank)].name.as_bytes()[10..] == *depth;
    Some(((0..DEPTHS.len() as u8).find(known).map_or(What::Other, What::Book), symbol))
}

/// Content and symbol of `orderbook.50.BTCUSDT`.
fn topic(topic: &[u8]) -> (What, &[u8]) {
    if let Some(symbol) = topic.strip_prefix(b"publicTrade.") {
        return (What::Trades, symbol);
    }
    if let Some(found) = topic.strip_prefix(b"orderbook.").and_then(book_topic) {
        return found;
    }
    if let Some((interval, symbol)) = topic.strip_prefix(b"kline.").and_then(at_dot) {
        return (interval_of(interval).map_or(What::Other, What::Candles), symbol);
    }
    (What::Other, topic)
}

fn topic_of(subscription: &Subscription) -> String {
    let (_, symbol) = category_of(&subscription.native);
    match subscription.channel {
        Channel::Book => {
            let wanted = |depth: &u32| subscription.depth != 0 && *depth >= subscription.depth;
            let depth = [1, 50, 200].into_iter().find(wanted).unwrap_or(1_000);
            format!("orderbook.{depth}.{symbol}")
        }
        Channel::Trades => format!("publicTrade.{symbol}"),
        Channel::Candles => format!("kline.1.{symbol}"),
    }
}

/// Topics per request: with an eleventh the whole request fails on spot.
const BATCH: usize = 10;

#[derive(Default, Serialize, Deserialize)]
struct BybitSession {
    subscriptions: Vec<Subscription>,
    /// What this socket carries; empty for spot.
    category: String,
}

impl Session for BybitSession {
    /// `{"topic":"orderbook.50.BTCUSDT","ts":ms,"type":"delta","data":{"s":"..","b":[["p","q"]],"a":[..],"u":..,"seq":..},`
    /// `"cts":ms}` to the letter, type and time in either order
    fn usual(&mut self, text: &[u8], out: &mut Sink<'_>) -> Option<()> {
        let mut c = Cursor::new(text);
        c.literal(br#"{"topic":"orderbook."#)?;
        let depth_and_symbol = c.plain()?;
        let (What::Book(feed), symbol) = book_topic(depth_and_symbol)? else { return None };
        if c.literal(br#","ts":"#).is_some() {
            nanos(c.digits()?, MILLI)?;
            c.literal(br#","type":"delta","data":{"s":""#)?;
        } else {
            c.literal(br#","type":"delta","ts":"#)?;
            nanos(c.digits()?, MILLI)?;
            c.literal(br#","data":{"s":""#)?;
        }
        c.plain()?;
        let id = out.usual_instrument(self.native(symbol, &mut [0; 64])?)?;
        out.begin(id);
        c.literal(br#","b":"#)?;
        out.usual_pairs(Side::Bid, &mut c)?;
        c.literal(br#","a":"#)?;
        out.usual_pairs(Side::Ask, &mut c)?;
        c.literal(br#","u":"#)?;
        // 1 says that this is a snapshot.
        let last = c.digits().filter(|last| *last != 1)?;
        c.literal(br#","seq":"#)?;
        c.digits()?;
        c.literal(br#"},"cts":"#)?;
        let time = nanos(c.digits()?, MILLI)?;
        c.literal(b"}")?;
        c.done()?;
        let sequence = Some(Sequence::at(last));
        out.book(BookHead { sequence, ts_event: Some(time), ..BookHead::new(feed, BookKind::Delta) });
        Some(())
    }

    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            Frame::Open { url } => {
                let path = url.split('?').next().unwrap_or_default();
                let contracts = ["linear", "inverse"].into_iter().find(|category| path.ends_with(category));
                self.category = contracts.unwrap_or_default().into();
                for (batch, subscriptions) in (1..).zip(self.subscriptions.chunks(BATCH)) {
                    let topics: Vec<String> = subscriptions.iter().map(topic_of).collect();
                    let topics = topics.join("\",\"");
                    out.send(&format!(r#"{{"req_id":"{batch}","op":"subscribe","args":["{topics}"]}}"#));
                }
                Ok(())
            }
            Frame::Text(text) => self.text(text, out),
            Frame::Binary(_) | Frame::Http { .. } => Ok(out.unknown()),
            Frame::Close(_) => Ok(()),
        }
    }

    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let Scope::Book(id, feed) = scope else {
            return Err(VenueError::venue(Class::Reconnect, b"only a new connection starts every topic again"));
        };
        let (_, symbol) = category_of(&out.instruments().get(id).native);
        let depth = DEPTHS.get(usize::from(feed)).unwrap_or(&DEPTHS[0]);
        let topic = format!("orderbook.{depth}.{symbol}");
        out.send(&format!(r#"{{"op":"unsubscribe","args":["{topic}"]}}"#));
        out.send(&format!(r#"{{"op":"subscribe","args":["{topic}"]}}"#));
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        common::save(self, out);
    }
}

impl BybitSession {
    fn text(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut named, mut kind, mut time, mut engine_time) = (None, None, None, None);
        // Data that came before its topic.
        let mut late = None;
        let mut last = None;
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"topic" => {
                    seen.once(0, &c)?;
                    named = Some(topic(c.str()?));
                }
                b"type" => {
                    seen.once(1, &c)?;
                    kind = Some(c.str()?);
                }
                b"ts" => time = Some(common::time_at(&mut c, MILLI)?),
                b"cts" => engine_time = Some(common::time_at(&mut c, MILLI)?),
                b"data" => {
                    seen.once(2, &c)?;
                    match named {
                        // A candle bears the time of its frame.
                        Some((what, symbol)) if time.is_some() || !matches!(what, What::Candles(_)) => {
                            last = self.data(&mut c, what, symbol, time, out)?;
                        }
                        _ => {
                            late = Some(c);
                            c.skip()?;
                        }
                    }
                }
                b"op" | b"success" | b"ret_msg" => return self.answer(text, out),
                _ => c.skip()?,
            }
        }
        c.end()?;
        let Some((what, symbol)) = named else { return Ok(out.unknown()) };
        match late {
            Some(mut late) => last = self.data(&mut late, what, symbol, time, out)?,
            None if !seen.has(2) => return Err(VenueError::missing("data")),
            None => {}
        }
        let (What::Book(feed), Some(last)) = (what, last) else { return Ok(()) };
        let kind = match kind {
            _ if last == 1 => BookKind::Snapshot,
            Some(b"snapshot") => BookKind::Snapshot,
            Some(b"delta") => BookKind::Delta,
            Some(_) => return Err(VenueError::unexpected("type")),
            None => return Err(VenueError::missing("type")),
        };
        let ts_event = engine_time.or(time);
        out.book(BookHead { sequence: Some(Sequence::at(last)), ts_event, ..BookHead::new(feed, kind) });
        Ok(())
    }

    /// Reads the data of a topic; of a book all but its head, whose `u` is returned.
    #[inline]
    fn data(
        &self,
        c: &mut Cursor<'_>,
        what: What,
        symbol: &[u8],
        time: Option<Nanos>,
        out: &mut Sink<'_>,
    ) -> Result<Option<i64>, VenueError> {
        if what == What::Other {
            c.skip()?;
            out.known();
            return Ok(None);
        }
        let id = self.instrument(symbol, out)?;
        match what {
            What::Book(_) => return book(c, id, out).map(Some),
            What::Trades => trades(c, id, out)?,
            What::Candles(interval) => {
                let mut rows = c.array()?;
                while rows.next(c)? {
                    let candle = candle(c, id, interval)?;
                    out.candle(CandleItem { ts_event: time, ..candle });
                }
            }
            What::Other => {}
        }
        Ok(None)
    }

    #[inline]
    fn instrument(&self, symbol: &[u8], out: &mut Sink<'_>) -> Result<InstrumentId, VenueError> {
        let mut space = [0; 64];
        let native = self.native(symbol, &mut space).ok_or_else(|| VenueError::unexpected("length of a symbol"))?;
        Ok(out.instrument(native))
    }

    /// The name of `symbol` with its category before it; `None` where `space` is too small for it.
    #[inline]
    fn native<'n>(&self, symbol: &'n [u8], space: &'n mut [u8; 64]) -> Option<&'n [u8]> {
        if self.category.is_empty() {
            return Some(symbol);
        }
        let category = self.category.as_bytes();
        let native = space.get_mut(..category.len() + 1 + symbol.len())?;
        native[..category.len()].copy_from_slice(category);
        native[category.len()] = b'|';
        native[category.len() + 1..].copy_from_slice(symbol);
        Some(native)
    }

    /// Confirmations, refusals and pongs.
    fn answer(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let reply: Reply = common::read(text)?;
        match (reply.op.as_deref(), reply.success) {
            (Some("subscribe"), Some(true)) => {
                let batch = reply.request.and_then(|request| request.parse::<usize>().ok()?.checked_sub(1));
                let batch = batch.and_then(|batch| self.subscriptions.chunks(BATCH).nth(batch)).unwrap_or_default();
                for subscription in batch {
                    let (channel, feed) = match topic(topic_of(subscription).as_bytes()).0 {
                        What::Book(feed) => (Channel::Book, feed),
                        What::Trades => (Channel::Trades, TRADES),
                        What::Candles(_) => (Channel::Candles, KLINE),
                        What::Other => continue,
                    };
                    let id = out.instrument(subscription.native.as_bytes());
                    out.subscribed(channel, feed, id);
                }
                Ok(())
            }
            (Some("subscribe"), _) => Err(VenueError::venue(common::refusal(!self.subscriptions.is_empty()), text)),
            (_, Some(false)) => Err(VenueError::venue(Class::Ignore, text)),
            (Some("ping" | "pong" | "unsubscribe"), _) => Ok(out.known()),
            _ => Ok(out.unknown()),
        }
    }
}

#[derive(Deserialize)]
struct Reply {
    op: Option<String>,
    success: Option<bool>,
    #[serde(rename = "req_id")]
    request: Option<String>,
}

/// `{"s":..,"b":[[price, size]],"a":[..],"u":..,"seq":..}`, up to its head.
#[inline]
fn book(c: &mut Cursor<'_>, id: InstrumentId, out: &mut Sink<'_>) -> Result<i64, VenueError> {
    out.begin(id);
    let mut seen = Seen::default();
    let mut last = 0;
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"b" => {
                seen.once(0, c)?;
                out.pairs(Side::Bid, c)?;
            }
            b"a" => {
                seen.once(1, c)?;
                out.pairs(Side::Ask, c)?;
            }
            b"u" => {
                seen.once(2, c)?;
                last = c.int()?;
            }
            _ => c.skip()?,
        }
    }
    common::require(seen, &["b", "a", "u"])?;
    Ok(last)
}

fn trades(c: &mut Cursor<'_>, id: InstrumentId, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut rows = c.array()?;
    while rows.next(c)? {
        let mut seen = Seen::default();
        let (mut trade_id, mut price, mut size) = (&b""[..], Decimal::default(), Decimal::default());
        let (mut taker, mut time) = (Side::Bid, None);
        let mut o = c.object()?;
        while let Some(key) = o.key(c)? {
            match key {
                b"i" => {
                    seen.once(0, c)?;
                    trade_id = c.text()?;
                }
                b"p" => {
                    seen.once(1, c)?;
                    price = c.decimal()?;
                }
                b"v" => {
                    seen.once(2, c)?;
                    size = c.decimal()?;
                }
                b"S" => {
                    seen.once(3, c)?;
                    taker = match c.str()? {
                        b"Buy" => Side::Bid,
                        b"Sell" => Side::Ask,
                        _ => return Err(VenueError::unexpected("side")),
                    };
                }
                b"T" => time = Some(common::time_at(c, MILLI)?),
                _ => c.skip()?,
            }
        }
        common::require(seen, &["i", "p", "v", "S"])?;
        let feed = TRADES;
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

fn candle(c: &mut Cursor<'_>, id: InstrumentId, interval: Nanos) -> Result<CandleItem, VenueError> {
    let mut seen = Seen::default();
    let (mut open_time, mut closed, mut notional) = (0, false, None);
    let [mut open, mut high, mut low, mut close, mut volume] = [Decimal::default(); 5];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        let (bit, field) = match key {
            b"open" => (0, &mut open),
            b"high" => (1, &mut high),
            b"low" => (2, &mut low),
            b"close" => (3, &mut close),
            b"volume" => (4, &mut volume),
            b"start" => {
                seen.once(5, c)?;
                open_time = common::time_at(c, MILLI)?;
                continue;
            }
            b"confirm" => {
                seen.once(6, c)?;
                closed = c.bool()?;
                continue;
            }
            b"turnover" => {
                notional = Some(c.decimal()?);
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
    common::require(seen, &["open", "high", "low", "close", "volume", "start", "confirm"])?;
    Ok(CandleItem {
        feed: KLINE,
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

    fn planned(natives: &[&str], channel: Channel, depth: u32) -> Bench {
        let mut subscriptions = subscriptions(natives, &[channel]);
        for subscription in &mut subscriptions {
            subscription.depth = depth;
        }
        let [plan] = &Bybit.plan(&subscriptions, &Instruments::default())[..] else { panic!("one connection") };
        Bench::open(&Bybit, Some(plan))
    }

    #[test]
    fn every_category_has_its_socket() {
        let natives = ["BTCUSDT", "linear|BTCUSDT", "ETHUSDT", "inverse|BTCUSD"];
        let plans = Bybit.plan(&subscriptions(&natives, &[Channel::Trades]), &Instruments::default());
        let shape: Vec<_> = plans.iter().map(|plan| (plan.base.as_str(), plan.subscriptions.len())).collect();
        assert_eq!(shape, [(SOCKETS[0], 2), (SOCKETS[1], 1), (SOCKETS[2], 1)]);
        let url = SOCKETS[1].into();
        assert_eq!(Bybit.dial(&plans[1], None), Ok(Dial::Connect { url, ping: 20 * SECOND }));
    }

    #[test]
    fn topics_follow_the_wanted_depth_and_bear_no_category() {
        for (depth, topic) in [(0, "1000"), (1, "1"), (2, "50"), (200, "200"), (201, "1000")] {
            let sent = planned(&["linear|BTCUSDT"], Channel::Book, depth).sent;
            let topic = format!("orderbook.{topic}.BTCUSDT");
            assert_eq!(sent, [format!(r#"{{"req_id":"1","op":"subscribe","args":["{topic}"]}}"#)]);
        }
    }

    #[test]
    fn ten_topics_a_request_fit_a_connection() {
        let longest = "1000000BABYDOGEUSDT-26SEP25";
        let sent = planned(&[longest; 500], Channel::Book, 0).sent;
        assert_eq!(sent.len(), 50);
        let topic = format!("orderbook.1000.{longest}").len();
        assert!(500 * topic <= 21_000);
    }

    #[test]
    fn a_saved_session_knows_its_category_and_starts_a_lost_book_again() {
        let mut bench =
            Bench::open_at(&Bybit, None, "wss://stream-testnet.bybit.com/v5/public/linear?max_active_time=1m");
        let book = |kind: &str, u: i64| {
            let data = format!(r#"{{"s":"BTCUSDT","b":[["5","1"]],"a":[],"u":{u},"seq":1}}"#);
            format!(r#"{{"topic":"orderbook.50.BTCUSDT","type":"{kind}","ts":1,"data":{data},"cts":1}}"#)
        };
        bench.text(&book("snapshot", 7));
        bench.reload();
        bench.text(&book("delta", 8));
        assert_eq!(bench.book("linear|BTCUSDT"), "Live 5:1 | ");
        bench.text(&book("delta", 10));
        let again =
            ["unsubscribe", "subscribe"].map(|op| format!(r#"{{"op":"{op}","args":["orderbook.50.BTCUSDT"]}}"#));
        assert_eq!(bench.sent, again);
    }

    #[test]
    fn a_confirmed_batch_is_confirmed_to_its_last_topic() {
        let mut bench = planned(&["BTCUSDT"; 11], Channel::Book, 50);
        bench.text(r#"{"success":true,"ret_msg":"subscribe","conn_id":"x","req_id":"2","op":"subscribe"}"#);
        assert_eq!(bench.book("BTCUSDT"), "Buffering  | ");
        bench.text(r#"{"success":false,"ret_msg":"args size >10","conn_id":"x","op":"subscribe"}"#);
        assert!(bench.sent[2].starts_with("reconnect fatal=true"));
    }

    #[test]
    fn candles_over_rest() {
        let request = Bybit.candle_request("linear|BTCUSDT", DAY, DAY, 2 * DAY).unwrap();
        let path = "/v5/market/kline?category=linear&symbol=BTCUSDT&interval=D&start=86400000&end=172799999&limit=1000";
        assert_eq!(request.path, path);
        let body = br#"{"retCode":0,"result":{"symbol":"BTCUSDT","list":[["86400000","1","3","0.5","2","10","20"]]}}"#;
        let mut candles = Vec::new();
        Bybit.parse_candles(&request, body, &mut candles).unwrap();
        let [candle] = candles[..] else { panic!("one candle") };
        assert_eq!((candle.open_time, candle.interval), (DAY, DAY));
        assert_eq!((candle.high, candle.notional), (Decimal::new(3, 0), Some(Decimal::new(20, 0))));
        assert!(Bybit.parse_candles(&request, br#"{"retCode":10006,"result":{}}"#, &mut candles).is_err());
    }

    #[test]
    fn inverse_contracts_count_quote_units() {
        let body = br#"{"result":{"list":[{"symbol":"BTCUSD","baseCoin":"BTC","quoteCoin":"USD","status":"Trading","contractType":"InversePerpetual"}]}}"#;
        let request = HttpRequest::get(REST, "/v5/market/instruments-info?category=inverse");
        let mut listings = Vec::new();
        Bybit.parse_instruments(&request, body, &mut listings).unwrap();
        assert_eq!((listings[0].native.as_str(), listings[0].symbol().as_str()), ("inverse|BTCUSD", "BTC-USD-PERP"));
        assert!(listings[0].inverse);
    }
}
