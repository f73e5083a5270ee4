//! Binance spot: <https://developers.binance.com/docs/binance-spot-api-docs>.
//!
//! Book: subscribe, buffer, fetch a snapshot; the first newer event must reach back to `lastUpdateId + 1`, and
//! so on from event to event. Older events are passed over.
//!
//! Times are milliseconds, or microseconds where the URL asked for them. Partial books name no symbol: their
//! stream does.

use coby_core::decimal::Decimal;
use coby_core::instrument::{InstrumentId, Instruments, Listing, Status};
use coby_core::level::Side;
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Kind, Seen};
use coby_core::sink::BookKind;
use coby_core::time::{DAY, MICRO, MILLI, MINUTE, SECOND};
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, Class, ConnectionPlan, Dial, Frame, Join, Limits, Ping, Proof,
    Rule, Scope, Sequence, Session, Sink, Subscription, TradeFeed, TradeItem, Venue, VenueError, VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;

const REST: &str = "https://api.binance.com";
const SOCKET: &str = "wss://stream.binance.com:9443";

const DEPTH: u8 = 0;
const PARTIAL: u8 = 1;
const TRADE: u8 = 0;
const AGG_TRADE: u8 = 1;
const KLINE: u8 = 0;

static SPEC: VenueSpec = VenueSpec {
    id: "binance",
    name: "Binance",
    protocol: "2026-07",
    closed: None,
    sockets: &[SOCKET],
    rest: REST,
    ping: Ping::Protocol,
    silence: 60,
    // Five messages a second, of which pongs are some. REST: a weight of 6,000 a minute, of which a snapshot of 1,000
    // levels takes 50.
    limits: Limits {
        dials: (300, 300),
        messages: (4, 1),
        spacing: 0,
        streams: 1_024,
        rest: (120, 60),
        lifetime: 86_400,
    },
    books: &[
        BookFeed {
            name: "depth@100ms",
            join: Join::Request { after: 2 },
            rule: Rule::Overlapping,
            proof: Proof::Sequence,
            checksum: None,
            digits: false,
            depth: None,
            shows: Some(1_000),
            refresh: 1_800,
            limits: "snapshots reach 5,000 levels a side (1,000 where a connection carries many books); deeper levels \
                     appear when they change, and a new snapshot is read every half hour and when the price nears the \
                     end of the last one",
        },
        BookFeed {
            name: "depth<5|10|20>",
            join: Join::Image,
            rule: Rule::Monotone,
            proof: Proof::None,
            checksum: None,
            digits: false,
            depth: Some(20),
            shows: None,
            refresh: 0,
            limits: "whole images without a time: a lost one is healed by the next",
        },
    ],
    trades: &[
        TradeFeed { name: "trade", proof: Proof::Sequence, aggregated: false },
        TradeFeed { name: "aggTrade", proof: Proof::Sequence, aggregated: true },
    ],
    candles: &[CandleFeed { name: "kline_1m", interval: MINUTE }],
};

/// Binance spot.
#[derive(Clone, Copy, Debug)]
pub struct Binance;

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
    #[serde(default)]
    filters: Vec<Filter>,
}

#[derive(Deserialize)]
struct Filter {
    #[serde(rename = "filterType")]
    kind: String,
    #[serde(rename = "tickSize")]
    tick_size: Option<String>,
    #[serde(rename = "stepSize")]
    step_size: Option<String>,
}

impl Venue for Binance {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        vec![HttpRequest::get(REST, "/api/v3/exchangeInfo")]
    }

    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let info: ExchangeInfo = common::read(body)?;
        for symbol in info.symbols {
            let mut listing = Listing::spot(&symbol.symbol, &symbol.base_asset, &symbol.quote_asset);
            if symbol.status != "TRADING" {
                listing.status = Status::Halted;
            }
            for filter in &symbol.filters {
                match filter.kind.as_str() {
                    "PRICE_FILTER" => listing.tick_size = filter.tick_size.as_deref().and_then(common::step),
                    "LOT_SIZE" => listing.lot_size = filter.step_size.as_deref().and_then(common::step),
                    _ => {}
                }
            }
            out.push(listing);
        }
        Ok(())
    }

    fn plan(&self, subscriptions: &[Subscription], _: &Instruments) -> Vec<ConnectionPlan> {
        common::split(SOCKET, subscriptions, SPEC.limits.streams)
    }

    fn dial(&self, plan: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Ok(Dial::Connect { url: format!("{}/stream", plan.base), ping: 0 })
    }

    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        let subscriptions = plan.map(|plan| plan.subscriptions.clone()).unwrap_or_default();
        let new = || BinanceSession { subscriptions, ..BinanceSession::default() };
        Ok(Box::new(common::load(saved, new)?))
    }

    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, to: Nanos) -> Option<HttpRequest> {
        let (interval, _) = INTERVALS.iter().find(|(_, nanos)| *nanos == interval)?;
        let (symbol, start, end) = (escaped(native), from.div_euclid(MILLI), (to - 1).div_euclid(MILLI));
        let query = format!("symbol={symbol}&interval={interval}&startTime={start}&endTime={end}&limit=1000");
        Some(HttpRequest::get(REST, format!("/api/v3/klines?{query}")))
    }

    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let interval = request.query("interval").and_then(|name| interval_of(name.as_bytes()));
        let interval = interval.ok_or_else(|| VenueError::missing("interval"))?;
        let mut c = Cursor::new(body);
        let mut rows = c.array()?;
        while rows.next(&mut c)? {
            // [open time, open, high, low, close, volume, close time, notional, count, taker buy, ...]
            let mut row = c.array()?;
            row.more(&mut c)?;
            let open_time = time_at(&mut c)?;
            let mut numbers = [Decimal::default(); 9];
            for number in &mut numbers {
                row.more(&mut c)?;
                *number = c.decimal()?;
            }
            row.rest(&mut c)?;
            let [open, high, low, close, volume, _, notional, count, taker_buy] = numbers;
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
                notional: Some(notional),
                count: count.at_scale(0).ok(),
                taker_buy: Some(taker_buy),
                closed: true,
                ts_event: None,
            });
        }
        Ok(())
    }
}

/// Intervals that the venue names; months have no fixed length.
const INTERVALS: [(&str, Nanos); 15] = [
    ("1s", SECOND),
    ("1m", MINUTE),
    ("3m", 3 * MINUTE),
    ("5m", 5 * MINUTE),
    ("15m", 15 * MINUTE),
    ("30m", 30 * MINUTE),
    ("1h", 60 * MINUTE),
    ("2h", 120 * MINUTE),
    ("4h", 240 * MINUTE),
    ("6h", 360 * MINUTE),
    ("8h", 480 * MINUTE),
    ("12h", 720 * MINUTE),
    ("1d", DAY),
    ("3d", 3 * DAY),
    ("1w", 7 * DAY),
];

fn interval_of(name: &[u8]) -> Option<Nanos> {
    INTERVALS.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, nanos)| *nanos)
}

#[inline]
fn time_at(c: &mut Cursor<'_>) -> Result<Nanos, VenueError> {
    time_of(c.int()?)
}

/// A time in milliseconds, or in microseconds: 16 digits since 2001.
#[inline]
fn time_of(count: i64) -> Result<Nanos, VenueError> {
    common::time(count, if count >= 100_000_000_000_000 { MICRO } else { MILLI })
}

/// A symbol in a query: some are not ASCII.
fn escaped(symbol: &str) -> String {
    let byte = |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).into() } else { format!("%{byte:02X}") };
    symbol.bytes().map(byte).collect()
}

/// The inverse of [`escaped`]; what is no escape stands for itself.
fn unescaped(text: &str) -> Vec<u8> {
    let mut symbol = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('%') {
        symbol.extend_from_slice(plain.as_bytes());
        if let Some(byte) = escape.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            symbol.push(byte);
            rest = &escape[2..];
        } else {
            symbol.push(b'%');
            rest = escape;
        }
    }
    symbol.extend_from_slice(rest.as_bytes());
    symbol
}

fn stream(subscription: &Subscription) -> String {
    let symbol = subscription.native.to_lowercase();
    match subscription.channel {
        Channel::Book => format!("{symbol}@depth@100ms"),
        Channel::Trades => format!("{symbol}@trade"),
        Channel::Candles => format!("{symbol}@kline_1m"),
    }
}

/// The symbol of `btcusdt@depth20@100ms`; `None` for any stream but a partial book.
fn partial(stream: &str) -> Option<String> {
    let (symbol, channel) = stream.split_once('@')?;
    let levels = channel.strip_prefix("depth")?;
    levels.starts_with(|first: char| first.is_ascii_digit()).then(|| symbol.to_uppercase())
}

/// Streams per subscribe message; the venue counts messages, and cuts off long ones.
const BATCH: usize = 100;
/// Up to so many books, a connection's first snapshots of 5,000 levels (250 each) stay below the weight that a
/// minute may have.
const DEEP_BOOKS: usize = 20;

#[derive(Default, Serialize, Deserialize)]
struct BinanceSession {
    subscriptions: Vec<Subscription>,
    /// The symbol of a connection that carries one partial book without naming it.
    partial: Option<String>,
}

impl Session for BinanceSession {
    fn usual(&mut self, text: &[u8], out: &mut Sink<'_>) -> Option<()> {
        usual(text, out)
    }

    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            Frame::Open { url } => {
                let path = url.split('?').next().unwrap_or_default();
                self.partial = path.split_once("/ws/").and_then(|(_, stream)| partial(stream));
                for (batch, subscriptions) in (1..).zip(self.subscriptions.chunks(BATCH)) {
                    let streams: Vec<String> = subscriptions.iter().map(stream).collect();
                    let params = streams.join("\",\"");
                    out.send(&format!(r#"{{"method":"SUBSCRIBE","params":["{params}"],"id":{batch}}}"#));
                }
                Ok(())
            }
            Frame::Text(text) => self.text(text, out),
            Frame::Http { request, status, body } => match request.route() {
                "/api/v3/depth" | "/api/v1/depth" => {
                    common::success(status, body)?;
                    let symbol = request.query("symbol").ok_or_else(|| VenueError::missing("symbol"))?;
                    let mut c = Cursor::new(body);
                    whole(&mut c, &unescaped(symbol), BookHead::new(DEPTH, BookKind::Snapshot), out)?;
                    Ok(c.end()?)
                }
                _ => Ok(out.unknown()),
            },
            Frame::Binary(_) => Ok(out.unknown()),
            Frame::Close(_) => Ok(()),
        }
    }

    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let Scope::Book(id, feed) = scope else {
            return Err(VenueError::venue(Class::Reconnect, b"only a new connection starts every stream again"));
        };
        if feed == DEPTH {
            let symbol = escaped(&out.instruments().get(id).native);
            let books = self.subscriptions.iter().filter(|subscription| subscription.channel == Channel::Book);
            let limit = if books.count() <= DEEP_BOOKS { 5_000 } else { 1_000 };
            out.get(HttpRequest::get(REST, format!("/api/v3/depth?symbol={symbol}&limit={limit}")));
        }
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        common::save(self, out);
    }
}

impl BinanceSession {
    fn text(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut stream, mut late, mut ticker) = (None, None, false);
        let mut c = Cursor::new(text);
        if c.kind()? == Kind::Array {
            return others(&mut c, out);
        }
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"stream" => {
                    seen.once(0, &c)?;
                    stream = Some(c.str()?);
                }
                b"data" => {
                    seen.once(1, &c)?;
                    if let Some(stream) = stream {
                        self.data(&mut c, stream, out)?;
                    } else {
                        late = Some(c);
                        c.skip()?;
                    }
                }
                b"e" => {
                    let mut whole = Cursor::new(text);
                    self.event(&mut whole, out)?;
                    return Ok(whole.end()?);
                }
                b"lastUpdateId" => {
                    let Some(native) = &self.partial else { return Ok(out.unknown()) };
                    let mut c = Cursor::new(text);
                    whole(&mut c, native.as_bytes(), BookHead::new(PARTIAL, BookKind::Image), out)?;
                    return Ok(c.end()?);
                }
                b"id" | b"result" | b"error" | b"code" | b"msg" => return self.answer(text, out),
                // The best levels, without a time.
                b"B" => {
                    ticker = true;
                    c.skip()?;
                }
                _ => c.skip()?,
            }
        }
        c.end()?;
        match (stream, late) {
            (Some(stream), Some(mut late)) => self.data(&mut late, stream, out),
            (Some(_), None) if seen.has(1) => Ok(()),
            (None, None) if ticker => Ok(out.known()),
            _ => Ok(out.unknown()),
        }
    }

    /// The data of a combined stream.
    fn data(&self, c: &mut Cursor<'_>, stream: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        if let Some(native) = std::str::from_utf8(stream).ok().and_then(partial) {
            return whole(c, native.as_bytes(), BookHead::new(PARTIAL, BookKind::Image), out);
        }
        match c.kind()? {
            Kind::Object if stream.ends_with(b"@bookTicker") => {
                c.skip()?;
                Ok(out.known())
            }
            Kind::Object => self.event(c, out),
            _ => others(c, out),
        }
    }

    fn event(&self, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let Some(mut kind) = c.find(b"e")? else {
            c.skip()?;
            return Ok(out.unknown());
        };
        match kind.str()? {
            b"depthUpdate" => depth(c, out),
            b"trade" => trade(c, TRADE, b"t", out),
            b"aggTrade" => trade(c, AGG_TRADE, b"a", out),
            b"kline" => kline(c, out),
            b"serverShutdown" if !self.subscriptions.is_empty() => {
                Err(VenueError::venue(Class::Reconnect, b"the server is about to close"))
            }
            // A recording goes on until the server does close.
            b"serverShutdown" | b"24hrTicker" | b"24hrMiniTicker" | b"1hTicker" | b"4hTicker" | b"1dTicker"
            | b"avgPrice" | b"blockTrade" => {
                c.skip()?;
                Ok(out.known())
            }
            _ => {
                c.skip()?;
                Ok(out.unknown())
            }
        }
    }

    /// `{"result":null,"id":1}`, or an error.
    fn answer(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut c = Cursor::new(text);
        let mut o = c.object().map_err(common::harmless)?;
        let (mut id, mut error) = (None, false);
        while let Some(key) = o.key(&mut c).map_err(common::harmless)? {
            match key {
                // A number, or whatever text a recorder chose.
                b"id" => {
                    let raw = std::str::from_utf8(c.raw().map_err(common::harmless)?).unwrap_or_default();
                    id = raw.parse::<usize>().ok();
                }
                b"error" | b"code" | b"msg" => {
                    error = true;
                    c.skip().map_err(common::harmless)?;
                }
                _ => c.skip().map_err(common::harmless)?,
            }
        }
        c.end().map_err(common::harmless)?;
        if error {
            return Err(VenueError::venue(common::refusal(!self.subscriptions.is_empty()), text));
        }
        let batch = id.and_then(|id| self.subscriptions.chunks(BATCH).nth(id.checked_sub(1)?)).unwrap_or_default();
        for subscription in batch {
            let id = out.instrument(subscription.native.as_bytes());
            out.subscribed(subscription.channel, 0, id);
        }
        Ok(())
    }
}

/// `{"stream":"..@depth@100ms","data":{"e":"depthUpdate","E":ms,"s":"..","U":..,"u":..,"b":[["p","q"]],"a":[..]}}` to the
/// letter, as nearly every frame is; `None` for any other.
fn usual(text: &[u8], out: &mut Sink<'_>) -> Option<()> {
    let mut c = Cursor::new(text);
    c.literal(br#"{"stream":""#)?;
    let stream = c.plain()?;
    let at = stream.iter().position(|byte| *byte == b'@')?;
    if !matches!(&stream[at..], b"@depth@100ms" | b"@depth") {
        return None;
    }
    c.literal(br#","data":{"e":"depthUpdate","E":"#)?;
    let time = time_of(c.digits()?).ok()?;
    c.literal(br#","s":""#)?;
    let id = out.usual_instrument(c.plain()?)?;
    out.begin(id);
    c.literal(br#","U":"#)?;
    let first = c.digits()?;
    c.literal(br#","u":"#)?;
    let last = c.digits()?;
    c.literal(br#","b":"#)?;
    out.usual_pairs(Side::Bid, &mut c)?;
    c.literal(br#","a":"#)?;
    out.usual_pairs(Side::Ask, &mut c)?;
    c.literal(b"}}")?;
    c.done()?;
    let sequence = Some(Sequence::range(first, last));
    out.book(BookHead { sequence, ts_event: Some(time), ..BookHead::new(DEPTH, BookKind::Delta) });
    Some(())
}

/// Tickers of all symbols, which alone come as an array.
fn others(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    c.skip()?;
    Ok(out.known())
}

fn depth(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut first, mut last, mut time) = (0, 0, None);
    // Sides that came before the symbol.
    let mut late = [None, None];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"E" => time = Some(time_at(c)?),
            b"s" => {
                seen.once(0, c)?;
                let id = out.instrument(c.str()?);
                out.begin(id);
            }
            b"U" => {
                seen.once(1, c)?;
                first = c.int()?;
            }
            b"u" => {
                seen.once(2, c)?;
                last = c.int()?;
            }
            b"b" | b"a" => {
                let side = if key == b"b" { Side::Bid } else { Side::Ask };
                seen.once(3 + side as u32, c)?;
                if seen.has(0) {
                    out.pairs(side, c)?;
                } else {
                    late[side as usize] = Some(*c);
                    c.skip()?;
                }
            }
            _ => c.skip()?,
        }
    }
    common::require(seen, &["s", "U", "u", "b", "a"])?;
    for (side, late) in [Side::Bid, Side::Ask].into_iter().zip(late) {
        if let Some(mut late) = late {
            out.pairs(side, &mut late)?;
        }
    }
    let sequence = Some(Sequence::range(first, last));
    out.book(BookHead { sequence, ts_event: time, ..BookHead::new(DEPTH, BookKind::Delta) });
    Ok(())
}

/// A snapshot or a partial book.
fn whole(c: &mut Cursor<'_>, native: &[u8], head: BookHead, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let id = out.instrument(native);
    common::whole_book(c, id, ("lastUpdateId", None), head, out)
}

/// A trade whose number stands under `number_key`. Single trades of old have order ids under `a` and `b`.
fn trade(c: &mut Cursor<'_>, feed: u8, number_key: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut id, mut trade_id, mut number, mut time) = (None, &b""[..], 0, None);
    let (mut price, mut size, mut taker) = (Decimal::default(), Decimal::default(), Side::Bid);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"s" => {
                seen.once(0, c)?;
                id = Some(out.instrument(c.str()?));
            }
            b"p" => {
                seen.once(1, c)?;
                price = c.decimal()?;
            }
            b"q" => {
                seen.once(2, c)?;
                size = c.decimal()?;
            }
            // The buyer is the maker: the taker sold.
            b"m" => {
                seen.once(3, c)?;
                taker = if c.bool()? { Side::Ask } else { Side::Bid };
            }
            b"T" => time = Some(time_at(c)?),
            key if key == number_key => {
                seen.once(4, c)?;
                let mut text = *c;
                trade_id = text.text()?;
                number = c.int()?;
            }
            _ => c.skip()?,
        }
    }
    common::require(seen, &["s", "p", "q", "m", "trade id"])?;
    out.trade(&TradeItem {
        feed,
        id: id.ok_or_else(|| VenueError::missing("s"))?,
        price,
        size,
        taker,
        trade_id,
        sequence: Some(number),
        history: false,
        ts_event: time,
    })
}

fn kline(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut id, mut candle, mut time) = (None, None, None);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"s" => id = Some(out.instrument(c.str()?)),
            b"E" => time = Some(time_at(c)?),
            b"k" => {
                seen.once(0, c)?;
                candle = kline_body(c)?;
            }
            _ => c.skip()?,
        }
    }
    common::require(seen, &["k"])?;
    let id = id.ok_or_else(|| VenueError::missing("s"))?;
    // Intervals without a fixed length, such as months, are no candles of ours.
    if let Some(candle) = candle {
        out.candle(CandleItem { id, ts_event: time, ..candle });
    }
    Ok(())
}

fn kline_body(c: &mut Cursor<'_>) -> Result<Option<CandleItem>, VenueError> {
    let mut seen = Seen::default();
    let mut interval = None;
    let (mut open_time, mut closed, mut count) = (0, false, None);
    let [mut open, mut high, mut low, mut close, mut volume] = [Decimal::default(); 5];
    let (mut notional, mut taker_buy) = (None, None);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        let (bit, field) = match key {
            b"o" => (0, &mut open),
            b"h" => (1, &mut high),
            b"l" => (2, &mut low),
            b"c" => (3, &mut close),
            b"v" => (4, &mut volume),
            _ => {
                match key {
                    b"t" => {
                        seen.once(5, c)?;
                        open_time = time_at(c)?;
                    }
                    b"i" => {
                        seen.once(6, c)?;
                        interval = interval_of(c.str()?);
                    }
                    b"x" => {
                        seen.once(7, c)?;
                        closed = c.bool()?;
                    }
                    b"n" => count = Some(c.int()?),
                    b"q" => notional = Some(c.decimal()?),
                    b"V" => taker_buy = Some(c.decimal()?),
                    _ => c.skip()?,
                }
                continue;
            }
        };
        seen.once(bit, c)?;
        *field = c.decimal()?;
    }
    common::require(seen, &["o", "h", "l", "c", "v", "t", "i", "x"])?;
    Ok(interval.map(|interval| CandleItem {
        feed: KLINE,
        id: InstrumentId(0),
        interval,
        open_time,
        open,
        high,
        low,
        close,
        volume,
        notional,
        count,
        taker_buy,
        closed,
        ts_event: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, subscriptions};
    use proptest::prelude::*;

    fn planned(natives: &[&str], channel: Channel) -> Bench {
        let [plan] = &Binance.plan(&subscriptions(natives, &[channel]), &Instruments::default())[..] else {
            panic!("one connection")
        };
        Bench::open(&Binance, Some(plan))
    }

    fn update(first: i64, last: i64) -> String {
        let levels = r#""b":[["5","1"]],"a":[["6","1"]]"#;
        format!(
            r#"{{"stream":"btcusdt@depth@100ms","data":{{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":{first},"u":{last},{levels}}}}}"#
        )
    }

    #[test]
    fn one_message_subscribes_many() {
        let sent = planned(&["BTCUSDT"; 101], Channel::Trades).sent;
        assert_eq!(sent.len(), 2);
        assert_eq!(sent[1], r#"{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":2}"#);
        let plan = ConnectionPlan { base: SOCKET.into(), ..ConnectionPlan::default() };
        let url = "wss://stream.binance.com:9443/stream".into();
        assert_eq!(Binance.dial(&plan, None), Ok(Dial::Connect { url, ping: 0 }));
    }

    #[test]
    fn snapshots_are_deep_where_books_are_few() {
        for (count, limit) in [(20, 5_000), (21, 1_000)] {
            let mut bench = planned(&vec!["BTCUSDT"; count], Channel::Book);
            bench.texts(&[&update(1, 2), &update(3, 4)]);
            assert_eq!(bench.sent[1..], [format!("GET /api/v3/depth?symbol=BTCUSDT&limit={limit}")]);
        }
    }

    #[test]
    fn older_events_are_passed_over_and_holes_are_not() {
        let mut bench = planned(&["BTCUSDT"], Channel::Book);
        bench.texts(&[&update(90, 99), &update(100, 105)]);
        bench.http("/api/v3/depth?symbol=BTCUSDT&limit=5000", r#"{"lastUpdateId":102,"bids":[["4","1"]],"asks":[]}"#);
        bench.reload();
        bench.texts(&[&update(80, 89), &update(106, 106), &update(100, 105)]);
        assert_eq!(bench.book("BTCUSDT"), "Live 5:1 4:1 | 6:1");
        assert_eq!(bench.sent.len(), 2);
        bench.text(&update(108, 109));
        assert_eq!(bench.sent.len(), 3);
        assert_eq!(bench.told.0.last().unwrap(), "gap BTCUSDT book opened sequence");
    }

    #[test]
    fn a_server_that_is_about_to_close_is_left() {
        let shutdown = r#"{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}"#;
        let mut bench = planned(&["BTCUSDT"], Channel::Trades);
        bench.text(shutdown);
        assert!(bench.sent[1].starts_with("reconnect fatal=false"));
        let mut bench = Bench::open(&Binance, None);
        bench.texts(&[shutdown, r#"{"e":"serverShutdown","E":1770123456789}"#]);
        assert_eq!(bench.sent, [""; 0]);
    }

    #[test]
    fn a_raw_partial_book_is_told_by_its_url() {
        let book = r#"{"lastUpdateId":160,"bids":[["5","1"]],"asks":[["6","1"]]}"#;
        let mut bench =
            Bench::open_at(&Binance, None, "wss://stream.binance.com/ws/btcusdt@depth5?timeUnit=microsecond");
        bench.reload();
        bench.text(book);
        assert_eq!(bench.book("BTCUSDT"), "Live 5:1 | 6:1");
        let mut bench = Bench::open_at(&Binance, None, "wss://stream.binance.com/ws/btcusdt@depth");
        bench.text(book);
        assert!(bench.told.0.is_empty());
    }

    #[test]
    fn candles_over_rest() {
        let request = Binance.candle_request("BTCUSDT", SECOND, 0, 2 * SECOND).unwrap();
        assert_eq!(request.path, "/api/v3/klines?symbol=BTCUSDT&interval=1s&startTime=0&endTime=1999&limit=1000");
        for open in ["1790000000000", "1790000000000000"] {
            let body = format!(r#"[[{open},"1","3","0.5","2","10",1,"20",7,"4","8","0"]]"#);
            let mut candles = Vec::new();
            Binance.parse_candles(&request, body.as_bytes(), &mut candles).unwrap();
            let [candle] = candles[..] else { panic!("one candle") };
            assert_eq!((candle.open_time, candle.count), (1_790_000_000 * SECOND, Some(7)));
            assert_eq!((candle.notional, candle.taker_buy), (Some(Decimal::new(20, 0)), Some(Decimal::new(4, 0))));
        }
    }

    proptest! {
        #[test]
        fn symbols_survive_a_query(symbol in ".{0,12}") {
            let escaped = escaped(&symbol);
            prop_assert!(escaped.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'%'));
            prop_assert_eq!(unescaped(&escaped), symbol.as_bytes());
        }
    }
}
