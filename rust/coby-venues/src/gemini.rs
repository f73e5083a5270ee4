//! Gemini: <https://developer.gemini.com/websocket>.
//!
//! Book: dialled with `?snapshot=-1`, the first message of a symbol after subscribing is the whole book, marked by
//! nothing but `U == u`; it comes before the answer to the request. Then every message must overlap what was applied
//! (`U <= last`): ids are shared by all symbols and say nothing else. What ends at or before it is old.
//!
//! The older v2, told by its `type`, is archived but still served: recordings of it are decoded, and plans use it
//! for candles, which the new socket does not have. Its books have neither numbers nor times.
//!
//! The list and v2 write `BTCUSD`, the new socket `btcusd`: one instrument.

use std::collections::BTreeMap;

use coby_core::decimal::Decimal;
use coby_core::instrument::{InstrumentId, InstrumentKind, Instruments, Listing, Status};
use coby_core::level::Side;
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Seen};
use coby_core::sink::{self, BookKind};
use coby_core::time::{DAY, MILLI, MINUTE, SECOND};
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, Class, ConnectionPlan, Dial, Frame, Join, Limits, Ping, Proof,
    Rule, Scope, Sequence, Session, Sink, Subscription, TradeFeed, TradeItem, Venue, VenueError, VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;

const REST: &str = "https://api.gemini.com";
const SOCKET: &str = "wss://ws.gemini.com";
const V2: &str = "wss://api.gemini.com/v2/marketdata";

const DEPTH: u8 = 0;
const PARTIAL: u8 = 1;
const L2: u8 = 2;
const TRADE: u8 = 0;
const V2_TRADE: u8 = 1;

/// Streams per request: one bad name refuses all of it.
const BATCH: usize = 100;

static SPEC: VenueSpec = VenueSpec {
    id: "gemini",
    name: "Gemini",
    protocol: "2026-09",
    closed: None,
    sockets: &[SOCKET, V2],
    rest: REST,
    ping: Ping::Text(r#"{"id":100,"method":"ping"}"#),
    // v2 has a heartbeat every 5 s; the new socket is pinged every 10 s.
    silence: 30,
    // How many streams a connection may carry is not published.
    limits: Limits { dials: (12, 60), messages: (10, 1), spacing: 0, streams: 200, rest: (1, 1), lifetime: 0 },
    books: &[
        BookFeed {
            name: "depth@100ms",
            join: Join::Socket,
            rule: Rule::Contiguous,
            proof: Proof::Sequence,
            checksum: None,
            digits: false,
            depth: None,
            shows: None,
            refresh: 0,
            limits: "nothing but its place tells a snapshot from a change",
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
        BookFeed {
            name: "v2 l2",
            join: Join::Socket,
            rule: Rule::None,
            proof: Proof::Heartbeat,
            checksum: None,
            digits: false,
            depth: None,
            shows: None,
            refresh: 0,
            limits: "only decoded, never subscribed: a lost change goes unnoticed",
        },
    ],
    trades: &[
        TradeFeed { name: "trade", proof: Proof::None, aggregated: false },
        TradeFeed { name: "v2 trade", proof: Proof::Heartbeat, aggregated: false },
    ],
    candles: &[CandleFeed { name: "v2 candles_1m", interval: MINUTE }],
};

/// Gemini.
#[derive(Clone, Copy, Debug)]
pub struct Gemini;

#[derive(Deserialize)]
struct SymbolInfo {
    symbol: String,
    base_currency: String,
    quote_currency: String,
    /// The step of sizes, whatever its name.
    #[serde(default)]
    tick_size: serde_json::Value,
    /// The step of prices.
    #[serde(default)]
    quote_increment: serde_json::Value,
    status: String,
    #[serde(default)]
    product_type: String,
}

impl Venue for Gemini {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        vec![HttpRequest::get(REST, "/v1/symbols/details/all")]
    }

    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let symbols: Vec<SymbolInfo> = common::read(body)?;
        out.extend(symbols.into_iter().map(|info| Listing {
            kind: if info.product_type == "swap" { InstrumentKind::Perpetual } else { InstrumentKind::Spot },
            tick_size: common::amount(&info.quote_increment),
            lot_size: common::amount(&info.tick_size),
            status: match info.status.as_str() {
                "open" | "post_only" | "limit_only" => Status::Trading,
                _ => Status::Halted,
            },
            ..Listing::spot(&info.symbol, &info.base_currency, &info.quote_currency)
        }));
        Ok(())
    }

    fn plan(&self, subscriptions: &[Subscription], instruments: &Instruments) -> Vec<ConnectionPlan> {
        let (candles, others): (Vec<_>, Vec<_>) = common::listed(subscriptions, instruments)
            .into_iter()
            .partition(|subscription| subscription.channel == Channel::Candles);
        let mut plans = common::split(SOCKET, &others, SPEC.limits.streams);
        plans.extend(common::split(V2, &candles, SPEC.limits.streams));
        plans
    }

    fn dial(&self, plan: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Ok(match plan.base.as_str() {
            V2 => Dial::Connect { url: V2.into(), ping: 0 },
            base => Dial::Connect { url: format!("{base}?snapshot=-1"), ping: 10 * SECOND },
        })
    }

    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        let subscriptions = plan.map(|plan| plan.subscriptions.clone()).unwrap_or_default();
        let new = || GeminiSession { subscriptions, ..GeminiSession::default() };
        Ok(Box::new(common::load(saved, new)?))
    }

    /// The newest candles, about a day of minutes: no range can be named.
    fn candle_request(&self, native: &str, interval: Nanos, _: Nanos, _: Nanos) -> Option<HttpRequest> {
        let (_, name, _) = INTERVALS.iter().find(|(_, _, nanos)| *nanos == interval)?;
        Some(HttpRequest::get(REST, format!("/v2/candles/{}/{name}", native.to_lowercase())))
    }

    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let name = request.route().rsplit('/').next();
        let interval = INTERVALS.iter().find(|(_, known, _)| Some(*known) == name).map(|(_, _, nanos)| *nanos);
        let interval = interval.ok_or_else(|| VenueError::missing("interval"))?;
        let first = out.len();
        let mut c = Cursor::new(body);
        let mut rows = c.array()?;
        while rows.next(&mut c)? {
            out.push(CandleItem { closed: true, ..candle_row(InstrumentId(0), interval, &mut c)? });
        }
        // The newest is still running.
        if let Some(newest) = out[first..].iter_mut().max_by_key(|candle| candle.open_time) {
            newest.closed = false;
        }
        Ok(())
    }
}

/// Intervals under the names of v2 and of REST.
const INTERVALS: [(&str, &str, Nanos); 7] = [
    ("1m", "1m", MINUTE),
    ("5m", "5m", 5 * MINUTE),
    ("15m", "15m", 15 * MINUTE),
    ("30m", "30m", 30 * MINUTE),
    ("1h", "1hr", 60 * MINUTE),
    ("6h", "6hr", 360 * MINUTE),
    ("1d", "1day", DAY),
];

fn stream(subscription: &Subscription) -> String {
    let symbol = subscription.native.to_lowercase();
    match subscription.channel {
        Channel::Book => format!("{symbol}@depth@100ms"),
        Channel::Trades => format!("{symbol}@trade"),
        // On v2, by its name there.
        Channel::Candles => subscription.native.to_uppercase(),
    }
}

fn ask(id: usize, method: &str, streams: &[String], out: &mut Sink<'_>) {
    let streams = streams.join("\",\"");
    out.send(&format!(r#"{{"id":{id},"method":"{method}","params":["{streams}"]}}"#));
}

fn ask_v2(kind: &str, name: &str, symbols: &[String], out: &mut Sink<'_>) {
    let symbols = symbols.join("\",\"");
    out.send(&format!(r#"{{"type":"{kind}","subscriptions":[{{"name":"{name}","symbols":["{symbols}"]}}]}}"#));
}

/// The instrument by the name it has, or else by the list's spelling of it, or else by a new name.
fn instrument(native: &[u8], out: &mut Sink<'_>) -> InstrumentId {
    let mut buffer = [0; 32];
    if let Some(upper) = buffer.get_mut(..native.len())
        && out.instruments().find(native).is_none()
    {
        upper.copy_from_slice(native);
        upper.make_ascii_uppercase();
        if out.instruments().find(upper).is_some() {
            return out.instrument(upper);
        }
    }
    out.instrument(native)
}

#[derive(Default, Serialize, Deserialize)]
struct GeminiSession {
    subscriptions: Vec<Subscription>,
    /// The last id of each book whose snapshot has come since it was subscribed.
    marks: BTreeMap<InstrumentId, i64>,
}

impl Session for GeminiSession {
    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            Frame::Open { .. } => {
                self.subscribe(out);
                Ok(())
            }
            Frame::Text(text) => self.text(text, out),
            Frame::Http { .. } | Frame::Binary(_) => Ok(out.unknown()),
            Frame::Close(_) => Ok(()),
        }
    }

    /// A fresh subscription brings a fresh snapshot.
    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let of_book = |native: &str| stream(&Subscription { native: native.into(), channel: Channel::Book, depth: 0 });
        let streams: Vec<String> = match scope {
            Scope::Book(id, DEPTH) => {
                self.marks.remove(&id);
                vec![of_book(&out.instruments().get(id).native)]
            }
            Scope::Book(id, L2) => {
                let symbols = [out.instruments().get(id).native.clone()];
                for kind in ["unsubscribe", "subscribe"] {
                    ask_v2(kind, "l2", &symbols, out);
                }
                return Ok(());
            }
            // The next image heals.
            Scope::Book(..) => return Ok(()),
            Scope::Connection => {
                self.marks.clear();
                self.subscriptions.iter().filter(|wanted| wanted.channel == Channel::Book).map(stream).collect()
            }
        };
        for method in ["unsubscribe", "subscribe"] {
            for streams in streams.chunks(BATCH) {
                ask(0, method, streams, out);
            }
        }
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        common::save(self, out);
    }
}

impl GeminiSession {
    fn subscribe(&self, out: &mut Sink<'_>) {
        // A plan has candles, or it has none.
        let candles = self.subscriptions.iter().any(|wanted| wanted.channel == Channel::Candles);
        for (id, subscriptions) in (1..).zip(self.subscriptions.chunks(BATCH)) {
            let streams: Vec<String> = subscriptions.iter().map(stream).collect();
            if candles {
                ask_v2("subscribe", "candles_1m", &streams, out);
            } else {
                ask(id, "subscribe", &streams, out);
            }
        }
    }

    fn text(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut whole = Cursor::new(text);
        let mut c = whole;
        let mut o = c.object()?;
        // A trade has no key that names it.
        let mut parts = 0;
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"e" => {
                    if c.str()? == b"depthUpdate" {
                        self.depth(&mut whole, out)?;
                    } else {
                        whole.skip()?;
                    }
                    return Ok(whole.end()?);
                }
                b"type" => {
                    v2(c.str()?, &mut whole, out)?;
                    return Ok(whole.end()?);
                }
                b"lastUpdateId" => {
                    partial(&mut whole, out)?;
                    return Ok(whole.end()?);
                }
                b"id" | b"error" | b"reason" => return self.answer(text, out),
                b"t" | b"p" | b"q" | b"m" => {
                    parts += 1;
                    c.skip()?;
                }
                _ => c.skip()?,
            }
        }
        c.end()?;
        match parts {
            4.. => trade(&mut whole, out),
            // Best prices, prices for marking and others.
            _ if whole.find(b"s")?.is_some() => Ok(out.known()),
            _ => Ok(out.unknown()),
        }
    }

    /// `{"id":1,"status":200}`, `{"id":4,"status":400,"error":{"code":-1013,"msg":".."}}`, or
    /// `{"reason":"NoValidTradingPairs","result":"error"}` on v2.
    fn answer(&self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let (mut id, mut refused, mut code) = (None, false, None);
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"id" => id = std::str::from_utf8(c.raw()?).ok().and_then(|id| id.parse::<usize>().ok()),
                b"status" => refused |= c.raw()? != b"200",
                b"reason" => {
                    refused = true;
                    c.skip()?;
                }
                b"error" => {
                    refused = true;
                    let inside = c.find(b"code").ok().flatten();
                    code = inside.and_then(|mut code| code.int().ok());
                    c.skip()?;
                }
                _ => c.skip()?,
            }
        }
        c.end()?;
        if refused {
            let planned = !self.subscriptions.is_empty();
            let class = match code {
                // Too many requests, or trouble of the venue's own.
                Some(-1_003 | -1_000) if planned => Class::Reconnect,
                _ => common::refusal(planned),
            };
            return Err(VenueError::venue(class, text));
        }
        let batch = id.and_then(|id| self.subscriptions.chunks(BATCH).nth(id.checked_sub(1)?)).unwrap_or_default();
        for subscription in batch {
            let id = out.instrument(subscription.native.as_bytes());
            out.subscribed(subscription.channel, 0, id);
        }
        Ok(())
    }

    /// `{"e":"depthUpdate","E":1789456742337187316,"s":"ethgusdperp","U":..,"u":..,"b":[[price, size]],"a":[..]}`
    fn depth(&mut self, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut id, mut first, mut last, mut time) = (InstrumentId(0), 0, 0, None);
        // Sides that came before the symbol.
        let mut late = [None, None];
        let mut o = c.object()?;
        while let Some(key) = o.key(c)? {
            match key {
                b"b" | b"a" => {
                    let side = if key == b"b" { Side::Bid } else { Side::Ask };
                    seen.once(side as u32, c)?;
                    if seen.has(2) {
                        out.pairs(side, c)?;
                    } else {
                        late[side as usize] = Some(*c);
                        c.skip()?;
                    }
                }
                b"s" => {
                    seen.once(2, c)?;
                    id = instrument(c.str()?, out);
                    out.begin(id);
                }
                b"U" => {
                    seen.once(3, c)?;
                    first = c.int()?;
                }
                b"u" => {
                    seen.once(4, c)?;
                    last = c.int()?;
                }
                b"E" => time = Some(c.int()?),
                _ => c.skip()?,
            }
        }
        common::require(seen, &["b", "a", "s", "U", "u"])?;
        for (side, late) in [Side::Bid, Side::Ask].into_iter().zip(late) {
            if let Some(mut late) = late {
                out.pairs(side, &mut late)?;
            }
        }
        let mark = self.marks.get(&id).copied();
        let (kind, sequence) = match mark {
            Some(mark) if last <= mark => {
                out.abandon();
                return Ok(out.known());
            }
            // Nothing else marks a snapshot; a diff begins at the id where the one before it ended, and goes on.
            _ if first == last => (BookKind::Snapshot, Sequence::at(last)),
            // Messages share an id at their border, so what is new begins one behind it.
            _ => (BookKind::Delta, Sequence::range(first.saturating_add(1), last)),
        };
        if mark.is_some() || kind == BookKind::Snapshot {
            self.marks.insert(id, last);
        }
        Ok(out.book(BookHead { sequence: Some(sequence), ts_event: time, ..BookHead::new(DEPTH, kind) }))
    }
}

/// `{"lastUpdateId":1764527605192164,"symbol":"trumpgusdperp","bids":[..],"asks":[..]}`
fn partial(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut last, mut late) = (0, [None, None]);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"bids" | b"asks" => {
                let side = if key == b"bids" { Side::Bid } else { Side::Ask };
                seen.once(side as u32, c)?;
                if seen.has(2) {
                    out.pairs(side, c)?;
                } else {
                    late[side as usize] = Some(*c);
                    c.skip()?;
                }
            }
            b"symbol" => {
                seen.once(2, c)?;
                let id = instrument(c.str()?, out);
                out.begin(id);
            }
            b"lastUpdateId" => {
                seen.once(3, c)?;
                last = c.int()?;
            }
            _ => c.skip()?,
        }
    }
    common::require(seen, &["bids", "asks", "symbol", "lastUpdateId"])?;
    for (side, late) in [Side::Bid, Side::Ask].into_iter().zip(late) {
        if let Some(mut late) = late {
            out.pairs(side, &mut late)?;
        }
    }
    Ok(out.book(BookHead { sequence: Some(Sequence::at(last)), ..BookHead::new(PARTIAL, BookKind::Image) }))
}

/// `{"E":1783981140085684200,"s":"btcrlusd","t":2840141014190422,"p":"62145.38","q":"0.01625222","m":true}`; the buyer
/// is the maker where `m`, so the taker sold.
fn trade(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut id, mut trade_id, mut taker, mut time) = (InstrumentId(0), &b""[..], Side::Bid, None);
    let [mut price, mut size] = [Decimal::default(); 2];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"s" => {
                seen.once(0, c)?;
                id = instrument(c.str()?, out);
            }
            b"t" => {
                seen.once(1, c)?;
                trade_id = c.text()?;
            }
            b"p" => {
                seen.once(2, c)?;
                price = c.decimal()?;
            }
            b"q" => {
                seen.once(3, c)?;
                size = c.decimal()?;
            }
            b"m" => {
                seen.once(4, c)?;
                taker = if c.bool()? { Side::Ask } else { Side::Bid };
            }
            b"E" => time = Some(c.int()?),
            _ => c.skip()?,
        }
    }
    common::require(seen, &["s", "t", "p", "q", "m"])?;
    let (feed, sequence, history) = (TRADE, None, false);
    out.trade(&TradeItem { feed, id, price, size, taker, trade_id, sequence, history, ts_event: time })
}

/// A frame of v2.
fn v2(kind: &[u8], c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    match kind {
        b"l2_updates" => return l2(c, out),
        b"trade" => return v2_trade(None, c, out),
        b"heartbeat" | b"subscription_ack" => out.known(),
        kind if kind.starts_with(b"auction") => out.known(),
        kind => {
            let name = kind.strip_prefix(b"candles_").and_then(|kind| kind.strip_suffix(b"_updates"));
            match INTERVALS.iter().find(|(known, ..)| Some(known.as_bytes()) == name) {
                Some((.., interval)) => return candles(*interval, c, out),
                None => out.unknown(),
            }
        }
    }
    Ok(c.skip()?)
}

/// `{"type":"l2_updates","symbol":"BTCUSD","changes":[["buy","302.75","0.00001"]]}`; the first of a symbol is the whole
/// book, and it alone tells the last trades and auctions.
fn l2(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut id, mut late, mut trades, mut kind) = (InstrumentId(0), None, None, BookKind::Delta);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"symbol" => {
                seen.once(0, c)?;
                id = instrument(c.str()?, out);
                out.begin(id);
            }
            b"changes" => {
                seen.once(1, c)?;
                if seen.has(0) {
                    changes(c, out)?;
                } else {
                    late = Some(*c);
                    c.skip()?;
                }
            }
            b"trades" => {
                seen.once(2, c)?;
                kind = BookKind::Snapshot;
                trades = Some(*c);
                c.skip()?;
            }
            b"auction_events" => {
                kind = BookKind::Snapshot;
                c.skip()?;
            }
            _ => c.skip()?,
        }
    }
    common::require(seen, &["symbol", "changes"])?;
    if let Some(mut late) = late {
        changes(&mut late, out)?;
    }
    out.book(BookHead::new(L2, kind));
    if let Some(mut c) = trades.filter(|trades| !matches!(trades.clone().null(), Ok(true))) {
        let mut list = c.array()?;
        while list.next(&mut c)? {
            v2_trade(Some(id), &mut c, out)?;
        }
    }
    Ok(())
}

/// `[["buy" | "sell", price, size]]`
fn changes(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut rows = c.array()?;
    while rows.next(c)? {
        let mut row = c.array()?;
        row.more(c)?;
        let side = match c.str()? {
            b"buy" => Side::Bid,
            b"sell" => Side::Ask,
            _ => return Err(VenueError::unexpected("side of a change")),
        };
        row.more(c)?;
        let price = sink::price(c)?;
        row.more(c)?;
        let amount = sink::size(c)?;
        row.rest(c)?;
        out.level(side, price, amount)?;
    }
    Ok(())
}

/// `{"type":"trade","symbol":"ALCXUSD","event_id":45465785975,"timestamp":1624493651491,"price":"302.53",
/// "quantity":"0.992143","side":"buy"}` with the taker's side; one of the `past` is told inside a snapshot of its symbol.
fn v2_trade(past: Option<InstrumentId>, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut id, mut trade_id, mut taker, mut time) = (past, &b""[..], None, None);
    let [mut price, mut size] = [Decimal::default(); 2];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"symbol" => id = Some(instrument(c.str()?, out)),
            b"event_id" => {
                seen.once(0, c)?;
                trade_id = c.text()?;
            }
            b"price" => {
                seen.once(1, c)?;
                price = c.decimal()?;
            }
            b"quantity" => {
                seen.once(2, c)?;
                size = c.decimal()?;
            }
            b"side" => {
                seen.once(3, c)?;
                taker = match c.str()? {
                    b"buy" => Some(Side::Bid),
                    b"sell" => Some(Side::Ask),
                    // Blocks and auctions are no trades of the book, and have no taker.
                    _ => None,
                };
            }
            b"timestamp" => time = Some(common::time_at(c, MILLI)?),
            _ => c.skip()?,
        }
    }
    common::require(seen, &["event_id", "price", "quantity", "side"])?;
    let id = id.ok_or_else(|| VenueError::missing("symbol"))?;
    let Some(taker) = taker else { return Ok(out.known()) };
    let (feed, sequence, history) = (V2_TRADE, None, past.is_some());
    out.trade(&TradeItem { feed, id, price, size, taker, trade_id, sequence, history, ts_event: time })
}

/// `{"type":"candles_1m_updates","symbol":"BTCUSD","changes":[[1561054500000,9350.18,9358.35,9350.18,9355.51,2.07]]}`
fn candles(interval: Nanos, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut symbol = c.find(b"symbol")?.ok_or_else(|| VenueError::missing("symbol"))?;
    let mut rows = c.find(b"changes")?.ok_or_else(|| VenueError::missing("changes"))?;
    c.skip()?;
    let id = instrument(symbol.str()?, out);
    let mut list = rows.array()?;
    while list.next(&mut rows)? {
        out.candle(candle_row(id, interval, &mut rows)?);
    }
    Ok(())
}

/// `[time in milliseconds, open, high, low, close, volume]`
fn candle_row(id: InstrumentId, interval: Nanos, c: &mut Cursor<'_>) -> Result<CandleItem, VenueError> {
    let mut row = c.array()?;
    row.more(c)?;
    let open_time = common::time_at(c, MILLI)?;
    let mut numbers = [Decimal::default(); 5];
    for number in &mut numbers {
        row.more(c)?;
        *number = c.decimal()?;
    }
    row.rest(c)?;
    let [open, high, low, close, volume] = numbers;
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

    fn depth(first: i64, last: i64, bid: &str) -> String {
        format!(r#"{{"e":"depthUpdate","E":1,"s":"btcusd","U":{first},"u":{last},"b":[["{bid}","1"]],"a":[]}}"#)
    }

    #[test]
    fn candles_have_a_connection_of_their_own() {
        let mut instruments = Instruments::default();
        instruments.list(Listing::spot("BTCUSD", "BTC", "USD"));
        let wanted = subscriptions(&["BTCUSD", "NOPEUSD"], &[Channel::Book, Channel::Trades, Channel::Candles]);
        let plans = Gemini.plan(&wanted, &instruments);
        assert_eq!(plans.iter().map(|plan| plan.base.as_str()).collect::<Vec<_>>(), [SOCKET, V2]);
        let dial = |plan| Gemini.dial(plan, None).unwrap();
        assert_eq!(dial(&plans[0]), Dial::Connect { url: "wss://ws.gemini.com?snapshot=-1".into(), ping: 10 * SECOND });
        assert_eq!(dial(&plans[1]), Dial::Connect { url: V2.into(), ping: 0 });
        let mut bench = Bench::open(&Gemini, plans.first());
        let streams = r#"["btcusd@depth@100ms","btcusd@trade"]"#;
        assert_eq!(bench.sent.join(""), format!(r#"{{"id":1,"method":"subscribe","params":{streams}}}"#));
        bench.text(r#"{"id":1,"status":429,"error":{"code":-1003,"msg":"Too many requests"}}"#);
        assert!(bench.sent[1].starts_with("reconnect fatal=false"));
        let bench = Bench::open(&Gemini, plans.get(1));
        let candles = r#"[{"name":"candles_1m","symbols":["BTCUSD"]}]"#;
        assert_eq!(bench.sent.join(""), format!(r#"{{"type":"subscribe","subscriptions":{candles}}}"#));
    }

    #[test]
    fn a_gap_subscribes_anew_and_only_a_snapshot_ends_it() {
        let plans = Gemini.plan(&subscriptions(&["btcusd"], &[Channel::Book]), &Instruments::default());
        let mut bench = Bench::open(&Gemini, plans.first());
        bench.text(&depth(10, 10, "100"));
        bench.text(r#"{"id":1,"status":200}"#);
        bench.text(&depth(10, 20, "99"));
        bench.reload();
        bench.text(&depth(15, 19, "98"));
        assert_eq!(bench.book("btcusd"), "Live 100:1 99:1 | ");
        bench.text(&depth(21, 30, "97"));
        assert_eq!(bench.told.0.last().unwrap(), "gap btcusd book opened sequence");
        let request = |method| format!(r#"{{"id":0,"method":"{method}","params":["btcusd@depth@100ms"]}}"#);
        assert_eq!(bench.sent[1..], ["unsubscribe", "subscribe"].map(request));
        bench.text(&depth(30, 40, "96"));
        assert!(bench.book("btcusd").starts_with("Buffering"));
        bench.text(&depth(50, 50, "95"));
        assert_eq!(bench.book("btcusd"), "Live 95:1 | ");
        // A snapshot that nobody here has asked for replaces a live book.
        bench.text(&depth(60, 60, "94"));
        assert_eq!(bench.book("btcusd"), "Live 94:1 | ");
        bench.text("{");
        assert_eq!(bench.sent[3..], ["unsubscribe", "subscribe"].map(request));
    }

    #[test]
    fn names_of_the_list_are_kept() {
        let mut bench = Bench::open(&Gemini, None);
        bench.text(&depth(1, 1, "9"));
        let list = r#"[{"symbol":"BTCUSD","base_currency":"BTC","quote_currency":"USD","tick_size":1e-8,"quote_increment":0.01,"status":"open"},{"symbol":"ETHUSD","base_currency":"ETH","quote_currency":"USD","status":"open"}]"#;
        bench.http("/v1/symbols/details/all", list);
        // What was there before the list stays; what comes later goes under the list's name.
        bench.text(&depth(1, 2, "8"));
        bench.text(&depth(1, 1, "7").replace("btc", "eth"));
        let books: Vec<_> = bench.told.0.iter().filter(|line| line.starts_with("book")).map(String::as_str).collect();
        let expected =
            ["book btcusd snapshot=true 1+0", "book btcusd snapshot=false 1+0", "book ETHUSD snapshot=true 1+0"];
        assert_eq!(books, expected);
        bench.text(&depth(1, 1, "7").replace("btcusd", &"x".repeat(40)));
        assert!(bench.told.0.last().unwrap().contains("xxxx snapshot=true"));
    }

    #[test]
    fn candles_come_from_the_answer() {
        let request = Gemini.candle_request("BTCUSD", 60 * MINUTE, 0, 1).unwrap();
        assert_eq!(request.path, "/v2/candles/btcusd/1hr");
        let body = b"[[7200000,1,4,0.5,2,10.5],[3600000,2,2,2,2,0]]";
        let mut candles = Vec::new();
        Gemini.parse_candles(&request, body, &mut candles).unwrap();
        let CandleItem { open, high, low, close, volume, open_time, .. } = candles[0];
        let numbers = [open, high, low, close, volume].map(|number| number.to_string());
        assert_eq!((numbers, open_time), (["1", "4", "0.5", "2", "10.5"].map(String::from), 120 * MINUTE));
        assert_eq!(candles.iter().map(|candle| candle.closed).collect::<Vec<_>>(), [false, true]);
        assert!(Gemini.candle_request("BTCUSD", 7 * MINUTE, 0, 1).is_none());
    }

    #[test]
    fn the_list_swaps_the_names_of_the_steps() {
        let body = br#"[{"symbol":"BTCUSD","base_currency":"BTC","quote_currency":"USD","tick_size":1e-8,"quote_increment":0.01,"min_order_size":"0.00001","status":"open","wrap_enabled":false,"product_type":"spot"},{"symbol":"BTCGUSDPERP","base_currency":"BTC","quote_currency":"GUSD","tick_size":0.0001,"quote_increment":0.5,"status":"cancel_only","product_type":"swap"}]"#;
        let mut listings = Vec::new();
        Gemini.parse_instruments(&Gemini.instrument_requests()[0], body, &mut listings).unwrap();
        assert_eq!((listings[0].tick_size, listings[0].lot_size), (Some(Decimal::new(1, 2)), Some(Decimal::new(1, 8))));
        assert_eq!((listings[1].symbol().as_str(), listings[1].status), ("BTC-GUSD-PERP", Status::Halted));
    }
}
