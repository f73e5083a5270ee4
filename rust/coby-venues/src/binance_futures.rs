//! Binance USD-M futures: <https://developers.binance.com/docs/derivatives/usds-margined-futures>.
//!
//! Since 2026-04-23 streams live on routed bases: books on `/public`, trades and candles on `/market`. A
//! stream subscribed on the wrong base is acknowledged and stays silent.
//!
//! Book: subscribe, buffer, fetch a snapshot; the first event must straddle its `lastUpdateId` (or name it
//! as `pu`), then every `pu` must equal the `u` before it. `U` is not `u + 1`: ids are shared by all symbols.

use coby_core::decimal::Decimal;
use coby_core::instrument::{InstrumentId, InstrumentKind, Instruments, Listing, Status};
use coby_core::level::Side;
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Object, Seen};
use coby_core::sink::BookKind;
use coby_core::time::{DAY, MILLI, MINUTE, nanos};
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, Class, ConnectionPlan, Dial, Frame, Join, Limits, Ping, Proof,
    Rule, Scope, Sequence, Session, Sink, Subscription, TradeFeed, TradeItem, Venue, VenueError, VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;

const REST: &str = "https://fapi.binance.com";
const PUBLIC: &str = "wss://fstream.binance.com/public";
const MARKET: &str = "wss://fstream.binance.com/market";

const DEPTH: u8 = 0;
const PARTIAL: u8 = 1;
const AGG_TRADE: u8 = 0;
const KLINE: u8 = 0;

static SPEC: VenueSpec = VenueSpec {
    id: "binance_futures",
    name: "Binance USD-M Futures",
    protocol: "2026-09",
    closed: None,
    sockets: &[PUBLIC, MARKET],
    rest: REST,
    ping: Ping::Protocol,
    silence: 30,
    limits: Limits {
        dials: (300, 300),
        messages: (10, 1),
        spacing: 0,
        streams: 200,
        rest: (2_400, 60),
        lifetime: 86_400,
    },
    books: &[
        BookFeed {
            name: "depth@100ms",
            join: Join::Request { after: 2 },
            rule: Rule::Chain,
            proof: Proof::Sequence,
            checksum: None,
            digits: false,
            depth: None,
            shows: Some(1_000),
            refresh: 1_800,
            limits: "snapshots reach 1,000 levels a side; deeper levels appear when they change, and a new snapshot \
                     is read every half hour and when the price nears the end of the last one",
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
            limits: "whole images: a lost one is healed by the next",
        },
    ],
    trades: &[TradeFeed { name: "aggTrade", proof: Proof::Sequence, aggregated: true }],
    candles: &[CandleFeed { name: "kline_1m", interval: MINUTE }],
};

/// Binance USD-M futures.
#[derive(Clone, Copy, Debug)]
pub struct BinanceFutures;

#[derive(Deserialize)]
struct ExchangeInfo {
    symbols: Vec<SymbolInfo>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SymbolInfo {
    symbol: String,
    #[serde(default)]
    contract_type: String,
    status: String,
    base_asset: String,
    quote_asset: String,
    #[serde(default)]
    delivery_date: i64,
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

impl Venue for BinanceFutures {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        vec![HttpRequest::get(REST, "/fapi/v1/exchangeInfo")]
    }

    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let info: ExchangeInfo = common::read(body)?;
        for symbol in info.symbols {
            let mut listing = Listing::spot(&symbol.symbol, &symbol.base_asset, &symbol.quote_asset);
            listing.kind = if symbol.contract_type.ends_with("PERPETUAL") {
                InstrumentKind::Perpetual
            } else {
                InstrumentKind::Future(common::time(symbol.delivery_date, MILLI)?)
            };
            listing.status = match symbol.status.as_str() {
                "TRADING" => Status::Trading,
                "CLOSE" | "DELIVERED" | "SETTLING" => Status::Delisted,
                _ => Status::Halted,
            };
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
        let (books, others): (Vec<_>, Vec<_>) =
            subscriptions.iter().cloned().partition(|subscription| subscription.channel == Channel::Book);
        let mut plans = common::split(PUBLIC, &books, SPEC.limits.streams);
        plans.extend(common::split(MARKET, &others, SPEC.limits.streams));
        plans
    }

    fn dial(&self, plan: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Ok(Dial::Connect { url: format!("{}/stream", plan.base), ping: 0 })
    }

    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        let subscriptions = plan.map(|plan| plan.subscriptions.clone()).unwrap_or_default();
        let new = || BinanceFuturesSession { subscriptions, ..BinanceFuturesSession::default() };
        Ok(Box::new(common::load(saved, new)?))
    }

    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, to: Nanos) -> Option<HttpRequest> {
        let interval = interval_name(interval)?;
        let (start, end) = (from.div_euclid(MILLI), (to - 1).div_euclid(MILLI));
        let path =
            format!("/fapi/v1/klines?symbol={native}&interval={interval}&startTime={start}&endTime={end}&limit=1500");
        Some(HttpRequest::get(REST, path))
    }

    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let interval =
            request.query("interval").and_then(interval_of).ok_or_else(|| VenueError::missing("interval"))?;
        let mut c = Cursor::new(body);
        let mut rows = c.array()?;
        while rows.next(&mut c)? {
            // [open time, open, high, low, close, volume, close time, notional, count, taker buy, ...]
            let mut row = c.array()?;
            let mut next = |c: &mut Cursor<'_>| row.more(c);
            next(&mut c)?;
            let open_time = common::time_at(&mut c, MILLI)?;
            let mut prices = [Decimal::default(); 5];
            for price in &mut prices {
                next(&mut c)?;
                *price = c.decimal()?;
            }
            next(&mut c)?;
            c.skip()?;
            next(&mut c)?;
            let notional = c.decimal()?;
            next(&mut c)?;
            let count = c.int()?;
            next(&mut c)?;
            let taker_buy = c.decimal()?;
            row.rest(&mut c)?;
            let [open, high, low, close, volume] = prices;
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
                count: Some(count),
                taker_buy: Some(taker_buy),
                closed: true,
                ts_event: None,
            });
        }
        Ok(())
    }
}

/// Intervals that the venue names, in nanoseconds; months have no fixed length.
const INTERVALS: [(&str, Nanos); 14] = [
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

fn interval_name(interval: Nanos) -> Option<&'static str> {
    INTERVALS.iter().find(|(_, nanos)| *nanos == interval).map(|(name, _)| *name)
}

fn interval_of(name: &str) -> Option<Nanos> {
    INTERVALS.iter().find(|(known, _)| *known == name).map(|(_, nanos)| *nanos)
}

fn stream(subscription: &Subscription) -> String {
    let symbol = subscription.native.to_lowercase();
    match subscription.channel {
        Channel::Book => format!("{symbol}@depth@100ms"),
        Channel::Trades => format!("{symbol}@aggTrade"),
        Channel::Candles => format!("{symbol}@kline_1m"),
    }
}

/// Streams per subscribe message; the venue counts messages, and cuts off long ones.
const BATCH: usize = 100;

#[derive(Default, Serialize, Deserialize)]
struct BinanceFuturesSession {
    subscriptions: Vec<Subscription>,
    /// On a raw `/ws/<stream>` connection: whether its books are partial images.
    partial: bool,
}

impl Session for BinanceFuturesSession {
    fn usual(&mut self, text: &[u8], out: &mut Sink<'_>) -> Option<()> {
        usual(text, out)
    }

    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            Frame::Open { url } => {
                self.partial = url.split_once("/ws/").is_some_and(|(_, streams)| is_partial(streams.as_bytes()));
                for (batch, subscriptions) in (1..).zip(self.subscriptions.chunks(BATCH)) {
                    let streams: Vec<String> = subscriptions.iter().map(stream).collect();
                    let params = streams.join("\",\"");
                    out.send(&format!(r#"{{"method":"SUBSCRIBE","params":["{params}"],"id":{batch}}}"#));
                }
                Ok(())
            }
            Frame::Text(text) => self.text(text, out),
            Frame::Http { request, status, body } => match request.route() {
                "/fapi/v1/depth" => {
                    common::success(status, body)?;
                    let symbol = request.query("symbol").ok_or_else(|| VenueError::missing("symbol"))?;
                    snapshot(symbol, body, out)
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
            let symbol = out.instruments().get(id).native.clone();
            out.get(HttpRequest::get(REST, format!("/fapi/v1/depth?symbol={symbol}&limit=1000")));
        }
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        common::save(self, out);
    }
}

/// `btcusdt@depth20@100ms` is an image; `btcusdt@depth@100ms` is not.
fn is_partial(stream: &[u8]) -> bool {
    let channel = stream.iter().position(|byte| *byte == b'@').map_or(&[][..], |at| &stream[at + 1..]);
    channel.strip_prefix(b"depth").and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit)
}

impl BinanceFuturesSession {
    fn text(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        let (mut stream, mut data, mut done) = (None, None, false);
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"stream" => stream = Some(c.str()?),
                b"data" => match stream {
                    Some(stream) if !done => {
                        event(&mut c, is_partial(stream), out)?;
                        done = true;
                    }
                    _ => {
                        data = Some(c);
                        c.skip()?;
                    }
                },
                b"e" => {
                    let mut whole = Cursor::new(text);
                    event(&mut whole, self.partial, out)?;
                    return Ok(whole.end()?);
                }
                b"id" | b"result" | b"error" | b"code" | b"msg" => return self.answer(text, out),
                _ => c.skip()?,
            }
        }
        c.end()?;
        match (stream, data) {
            (Some(stream), Some(mut data)) if !done => event(&mut data, is_partial(stream), out),
            (Some(_), None) if done => Ok(()),
            _ => Ok(out.unknown()),
        }
    }

    /// `{"result":null,"id":1}`, or an error.
    fn answer(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        let (mut id, mut error) = (None, false);
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"id" if !c.null()? => id = usize::try_from(c.int()?).ok(),
                b"error" | b"code" | b"msg" => {
                    error = true;
                    c.skip()?;
                }
                b"id" => {}
                _ => c.skip()?,
            }
        }
        c.end()?;
        if error {
            return Err(VenueError::venue(Class::Fatal, text));
        }
        let batch = id.and_then(|id| self.subscriptions.chunks(BATCH).nth(id.checked_sub(1)?)).unwrap_or_default();
        for subscription in batch {
            let id = out.instrument(subscription.native.as_bytes());
            out.subscribed(subscription.channel, 0, id);
        }
        Ok(())
    }
}

/// `{"stream":"..","data":{"e":"depthUpdate","E":ms,"T":ms,"s":"..","U":..,"u":..,"pu":..,"b":[["p","q"]],"a":[..]}}`,
/// perhaps with `"ps":"..","st":..` behind that, to the letter, as nearly every frame is; `None` for any other.
fn usual(text: &[u8], out: &mut Sink<'_>) -> Option<()> {
    let mut c = Cursor::new(text);
    c.literal(br#"{"stream":""#)?;
    let (feed, kind) = if is_partial(c.plain()?) { (PARTIAL, BookKind::Image) } else { (DEPTH, BookKind::Delta) };
    c.literal(br#","data":{"e":"depthUpdate","E":"#)?;
    c.digits()?;
    c.literal(br#","T":"#)?;
    let time = nanos(c.digits()?, MILLI)?;
    c.literal(br#","s":""#)?;
    let id = out.usual_instrument(c.plain()?)?;
    out.begin(id);
    c.literal(br#","U":"#)?;
    let first = c.digits()?;
    c.literal(br#","u":"#)?;
    let last = c.digits()?;
    c.literal(br#","pu":"#)?;
    let previous = c.digits()?;
    c.literal(br#","b":"#)?;
    out.usual_pairs(Side::Bid, &mut c)?;
    c.literal(br#","a":"#)?;
    out.usual_pairs(Side::Ask, &mut c)?;
    if c.literal(br#","ps":""#).is_some() {
        c.plain()?;
        c.literal(br#","st":"#)?;
        c.digits()?;
    }
    c.literal(b"}}")?;
    c.done()?;
    let sequence = Some(Sequence { first: Some(first), last, previous: Some(previous) });
    out.book(BookHead { sequence, ts_event: Some(time), ..BookHead::new(feed, kind) });
    Some(())
}

fn event(c: &mut Cursor<'_>, partial: bool, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let (mut o, kind) = c.tagged(b"e")?;
    match kind {
        Some(b"depthUpdate") => depth(c, o, partial, out),
        Some(b"aggTrade") => agg_trade(c, o, out),
        Some(b"kline") => kline(c, o, out),
        kind => {
            o.rest(c)?;
            match kind {
                Some(
                    b"bookTicker" | b"24hrTicker" | b"24hrMiniTicker" | b"markPriceUpdate" | b"forceOrder"
                    | b"contractInfo",
                ) => Ok(out.known()),
                _ => Ok(out.unknown()),
            }
        }
    }
}

fn depth(c: &mut Cursor<'_>, mut o: Object, partial: bool, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let mut begun = false;
    let (mut first, mut last, mut previous, mut time) = (0, 0, 0, None);
    // Sides that came before the symbol.
    let mut late = [None, None];
    while let Some(key) = o.key(c)? {
        match key {
            b"T" => time = Some(common::time_at(c, MILLI)?),
            b"s" => {
                seen.once(0, c)?;
                let id = out.instrument(c.str()?);
                out.begin(id);
                begun = true;
            }
            b"U" => {
                seen.once(1, c)?;
                first = c.int()?;
            }
            b"u" => {
                seen.once(2, c)?;
                last = c.int()?;
            }
            b"pu" => {
                seen.once(3, c)?;
                previous = c.int()?;
            }
            b"b" | b"a" => {
                let side = if key == b"b" { Side::Bid } else { Side::Ask };
                seen.once(4 + side as u32, c)?;
                if begun {
                    out.pairs(side, c)?;
                } else {
                    late[side as usize] = Some(*c);
                    c.skip()?;
                }
            }
            _ => c.skip()?,
        }
    }
    for (side, late) in [Side::Bid, Side::Ask].into_iter().zip(late) {
        if let Some(mut late) = late {
            out.pairs(side, &mut late)?;
        }
    }
    common::require(seen, &["s", "U", "u", "pu", "b", "a"])?;
    let sequence = Some(Sequence { first: Some(first), last, previous: Some(previous) });
    let (feed, kind) = if partial { (PARTIAL, BookKind::Image) } else { (DEPTH, BookKind::Delta) };
    out.book(BookHead { sequence, ts_event: time, ..BookHead::new(feed, kind) });
    Ok(())
}

fn snapshot(symbol: &str, body: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
    let id = out.instrument(symbol.as_bytes());
    let mut c = Cursor::new(body);
    let head = BookHead::new(DEPTH, BookKind::Snapshot);
    common::whole_book(&mut c, id, ("lastUpdateId", Some("T")), head, out)?;
    Ok(c.end()?)
}

fn agg_trade(c: &mut Cursor<'_>, mut o: Object, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut id, mut trade_id, mut price, mut size, mut time, mut taker) =
        (None, None, Decimal::default(), Decimal::default(), None, Side::Bid);
    let mut number = 0;
    while let Some(key) = o.key(c)? {
        match key {
            b"s" => id = Some(out.instrument(c.str()?)),
            b"a" => {
                seen.once(0, c)?;
                let mut text = *c;
                trade_id = Some(text.text()?);
                number = c.int()?;
            }
            b"p" => {
                seen.once(1, c)?;
                price = c.decimal()?;
            }
            b"q" => {
                seen.once(2, c)?;
                size = c.decimal()?;
            }
            b"T" => time = Some(common::time_at(c, MILLI)?),
            // The buyer is the maker: the taker sold.
            b"m" => {
                seen.once(3, c)?;
                taker = if c.bool()? { Side::Ask } else { Side::Bid };
            }
            _ => c.skip()?,
        }
    }
    common::require(seen, &["a", "p", "q", "m"])?;
    out.trade(&TradeItem {
        feed: AGG_TRADE,
        id: id.ok_or_else(|| VenueError::missing("s"))?,
        price,
        size,
        taker,
        trade_id: trade_id.unwrap_or_default(),
        sequence: Some(number),
        history: false,
        ts_event: time,
    })
}

fn kline(c: &mut Cursor<'_>, mut o: Object, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let (mut id, mut candle, mut time) = (None, None, None);
    while let Some(key) = o.key(c)? {
        match key {
            b"s" => id = Some(out.instrument(c.str()?)),
            b"E" => time = Some(common::time_at(c, MILLI)?),
            b"k" => candle = kline_body(c)?,
            _ => c.skip()?,
        }
    }
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
        let field = match key {
            b"o" => Some((0, &mut open)),
            b"h" => Some((1, &mut high)),
            b"l" => Some((2, &mut low)),
            b"c" => Some((3, &mut close)),
            b"v" => Some((4, &mut volume)),
            _ => None,
        };
        if let Some((bit, field)) = field {
            seen.once(bit, c)?;
            *field = c.decimal()?;
            continue;
        }
        match key {
            b"t" => {
                seen.once(5, c)?;
                open_time = common::time_at(c, MILLI)?;
            }
            b"i" => {
                seen.once(6, c)?;
                interval = std::str::from_utf8(c.str()?).ok().and_then(interval_of);
            }
            b"x" => closed = c.bool()?,
            b"n" => count = Some(c.int()?),
            b"q" => notional = Some(c.decimal()?),
            b"V" => taker_buy = Some(c.decimal()?),
            _ => c.skip()?,
        }
    }
    common::require(seen, &["o", "h", "l", "c", "v", "t", "i"])?;
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
