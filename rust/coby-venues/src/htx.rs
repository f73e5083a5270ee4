//! HTX (formerly Huobi) spot: <https://www.htx.com/en-us/opend/newApiPages/>.
//!
//! Every frame of the server is gzip'd JSON. Incremental books live on `/feed`, all else on `/ws`; a topic
//! on the wrong one is refused. The server pings every five seconds inside the protocol.
//!
//! Book: subscribe, buffer, ask for the same topic with `req` on the same connection; then every
//! `prevSeqNum` must equal the `seqNum` before it. Updates without any level go on that chain too. Whether
//! `req` takes 400 levels is disputed: where it is refused, that symbol falls back to 150.

use coby_core::decimal::Decimal;
use coby_core::instrument::{InstrumentId, Instruments, Listing, Status};
use coby_core::level::Side;
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Kind, Seen};
use coby_core::sink::BookKind;
use coby_core::time::{DAY, MILLI, MINUTE, SECOND, nanos};
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, Class, ConnectionPlan, Dial, Frame, Join, Limits, Ping, Proof,
    Rule, Scope, Sequence, Session, Sink, Subscription, TradeFeed, TradeItem, Venue, VenueError, VenueErrorKind,
    VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;
use crate::gzip::Inflater;

const REST: &str = "https://api.huobi.pro";
const FEED: &str = "wss://api.huobi.pro/feed";
const WS: &str = "wss://api.huobi.pro/ws";

const MBP_150: u8 = 0;
const MBP_400: u8 = 1;
const MBP_20: u8 = 2;
const MBP_5: u8 = 3;
const STEP0: u8 = 4;
const REFRESH: u8 = 5;
const DETAIL: u8 = 0;
const KLINE: u8 = 0;

static SPEC: VenueSpec = VenueSpec {
    id: "htx",
    name: "HTX",
    protocol: "2026-08",
    closed: None,
    sockets: &[FEED, WS],
    rest: REST,
    ping: Ping::Server,
    silence: 15,
    // One `req` per 100 ms; for the rest the venue only advises few topics per connection.
    limits: Limits { dials: (10, 10), messages: (10, 1), spacing: 110, streams: 50, rest: (10, 1), lifetime: 0 },
    books: &[
        // Before 400 levels, so that a connection can fall back to it.
        BookFeed { name: "mbp.150", depth: Some(150), ..MBP },
        BookFeed { name: "mbp.400", depth: Some(400), ..MBP },
        BookFeed { name: "mbp.20", depth: Some(20), ..MBP },
        BookFeed { name: "mbp.5", depth: Some(5), ..MBP },
        BookFeed { name: "depth.step0", depth: Some(150), ..IMAGE },
        BookFeed { name: "mbp.refresh.<5|10|20>", depth: Some(20), ..IMAGE },
    ],
    trades: &[TradeFeed { name: "trade.detail", proof: Proof::None, aggregated: false }],
    candles: &[CandleFeed { name: "kline.1min", interval: MINUTE }],
};

const MBP: BookFeed = BookFeed {
    name: "",
    join: Join::Request { after: 10 },
    rule: Rule::Chain,
    proof: Proof::Sequence,
    checksum: None,
    digits: false,
    depth: None,
    shows: Some(150),
    refresh: 300,
    limits: "what moves into the window from beyond it may be stale: the book is read anew every five minutes",
};

const IMAGE: BookFeed = BookFeed {
    join: Join::Image,
    rule: Rule::Monotone,
    proof: Proof::None,
    shows: None,
    refresh: 0,
    limits: "whole images: a lost one is healed by the next",
    ..MBP
};

/// HTX spot.
#[derive(Clone, Copy, Debug)]
pub struct Htx;

#[derive(Deserialize)]
struct Symbols {
    data: Vec<SymbolInfo>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SymbolInfo {
    symbol: String,
    base_currency: String,
    quote_currency: String,
    price_precision: i64,
    amount_precision: i64,
    #[serde(default)]
    state: String,
}

impl Venue for Htx {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        vec![HttpRequest::get(REST, "/v1/common/symbols")]
    }

    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let symbols: Symbols = common::read(body)?;
        out.extend(symbols.data.into_iter().map(|info| Listing {
            tick_size: common::step_of_decimals(info.price_precision),
            lot_size: common::step_of_decimals(info.amount_precision),
            status: match info.state.as_str() {
                "online" => Status::Trading,
                "offline" => Status::Delisted,
                _ => Status::Halted,
            },
            ..Listing::spot(&info.symbol, &info.base_currency.to_uppercase(), &info.quote_currency.to_uppercase())
        }));
        Ok(())
    }

    fn plan(&self, subscriptions: &[Subscription], _: &Instruments) -> Vec<ConnectionPlan> {
        let (books, others): (Vec<_>, Vec<_>) =
            subscriptions.iter().cloned().partition(|subscription| subscription.channel == Channel::Book);
        let mut plans = common::split(FEED, &books, SPEC.limits.streams);
        plans.extend(common::split(WS, &others, SPEC.limits.streams));
        plans
    }

    fn dial(&self, plan: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Ok(Dial::Connect { url: plan.base.clone(), ping: 0 })
    }

    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        let subscriptions = plan.map(|plan| plan.subscriptions.clone()).unwrap_or_default();
        let new = || HtxSession { subscriptions, ..HtxSession::default() };
        Ok(Box::new(common::load(saved, new)?))
    }

    /// The venue knows no times here: it gives the newest 2,000 candles.
    fn candle_request(&self, native: &str, interval: Nanos, _: Nanos, _: Nanos) -> Option<HttpRequest> {
        let (period, _) = INTERVALS.iter().find(|(_, nanos)| *nanos == interval)?;
        Some(HttpRequest::get(REST, format!("/market/history/kline?symbol={native}&period={period}&size=2000")))
    }

    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let interval = request.query("period").and_then(|period| interval_of(period.as_bytes()));
        let interval = interval.ok_or_else(|| VenueError::missing("period"))?;
        let mut c = Cursor::new(body).find(b"data")?.ok_or_else(|| VenueError::venue(Class::Ignore, body))?;
        let mut rows = c.array()?;
        while rows.next(&mut c)? {
            out.push(CandleItem { closed: true, ..candle(&mut c, InstrumentId(0), interval)? });
        }
        Ok(())
    }
}

/// Intervals of fixed length; days and weeks begin at 16:00 UTC.
const INTERVALS: [(&str, Nanos); 8] = [
    ("1min", MINUTE),
    ("5min", 5 * MINUTE),
    ("15min", 15 * MINUTE),
    ("30min", 30 * MINUTE),
    ("60min", 60 * MINUTE),
    ("4hour", 240 * MINUTE),
    ("1day", DAY),
    ("1week", 7 * DAY),
];

fn interval_of(name: &[u8]) -> Option<Nanos> {
    INTERVALS.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, nanos)| *nanos)
}

/// What a topic carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Rank of the feed, and the levels a side that an incremental one keeps.
    Book(u8, Option<u32>),
    Trades,
    Candles(Nanos),
    /// Coarser books, tickers and others that are known.
    Other,
}

/// Symbol and content of `market.btcusdt.mbp.400`.
fn topic(topic: &[u8]) -> Option<(&[u8], What)> {
    let rest = topic.strip_prefix(b"market.")?;
    let dot = rest.iter().position(|byte| *byte == b'.')?;
    let what = match &rest[dot + 1..] {
        b"mbp.150" => What::Book(MBP_150, Some(150)),
        b"mbp.400" => What::Book(MBP_400, Some(400)),
        b"mbp.20" => What::Book(MBP_20, Some(20)),
        b"mbp.5" => What::Book(MBP_5, Some(5)),
        b"depth.step0" => What::Book(STEP0, None),
        b"mbp.refresh.5" | b"mbp.refresh.10" | b"mbp.refresh.20" => What::Book(REFRESH, None),
        b"trade.detail" => What::Trades,
        kline => match kline.strip_prefix(b"kline.").and_then(interval_of) {
            Some(interval) => What::Candles(interval),
            None => What::Other,
        },
    };
    Some((&rest[..dot], what))
}

fn topic_of(subscription: &Subscription) -> String {
    let native = &subscription.native;
    match subscription.channel {
        Channel::Book if (1..=5).contains(&subscription.depth) => format!("market.{native}.mbp.5"),
        Channel::Book if (6..=150).contains(&subscription.depth) => format!("market.{native}.mbp.150"),
        Channel::Book => format!("market.{native}.mbp.400"),
        Channel::Trades => format!("market.{native}.trade.detail"),
        Channel::Candles => format!("market.{native}.kline.1min"),
    }
}

/// A request whose id tells it again when it is refused.
fn request(verb: &str, topic: &str) -> String {
    format!(r#"{{"{verb}":"{topic}","id":"{verb} {topic}"}}"#)
}

#[derive(Default, Serialize, Deserialize)]
struct HtxSession {
    subscriptions: Vec<Subscription>,
    /// Symbols whose 400 levels were refused.
    fallen: Vec<String>,
    /// Not state: every frame begins anew.
    #[serde(skip)]
    inflater: Inflater,
}

impl Session for HtxSession {
    fn usual(&mut self, text: &[u8], out: &mut Sink<'_>) -> Option<()> {
        usual(text, out)
    }

    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            Frame::Open { .. } => {
                for subscription in &self.subscriptions {
                    out.send(&request("sub", &topic_of(subscription)));
                }
                Ok(())
            }
            Frame::Binary(bytes) => {
                let mut inflater = std::mem::take(&mut self.inflater);
                let result = inflater.inflate(bytes).and_then(|text| self.inflated(text, out));
                self.inflater = inflater;
                result
            }
            Frame::Text(text) => self.text(text, out),
            Frame::Http { request, status, body } => match (request.route(), request.query("type")) {
                ("/market/depth", Some("step0")) => {
                    common::success(status, body)?;
                    self.text(body, out)
                }
                _ => Ok(out.unknown()),
            },
            Frame::Close(_) => Ok(()),
        }
    }

    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let Scope::Book(id, feed) = scope else {
            return Err(VenueError::venue(Class::Reconnect, b"only a new connection starts every topic again"));
        };
        let native = out.instruments().get(id).native.clone();
        let levels = match feed {
            MBP_400 if !self.fallen.contains(&native) => 400,
            MBP_150 | MBP_400 => 150,
            MBP_20 => 20,
            MBP_5 => 5,
            // The next image is on its way.
            _ => return Ok(()),
        };
        out.send(&request("req", &format!("market.{native}.mbp.{levels}")));
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        common::save(self, out);
    }
}

impl HtxSession {
    fn inflated(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        if usual(text, out).is_some() {
            return Ok(());
        }
        out.restart();
        if std::str::from_utf8(text).is_err() {
            return Err(VenueError::new(Class::Resync, VenueErrorKind::Compression("not UTF-8")));
        }
        self.text(text, out)
    }

    fn text(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut named, mut reply, mut time) = (None, false, None);
        // A payload that came before its topic.
        let mut late = None;
        let mut head = None;
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"ch" | b"rep" => {
                    seen.once(0, &c)?;
                    reply = key == b"rep";
                    named = Some(topic(c.str()?));
                }
                b"ts" => time = Some(common::time_at(&mut c, MILLI)?),
                b"tick" | b"data" => {
                    seen.once(1, &c)?;
                    if let Some(named) = named {
                        head = payload(&mut c, named, reply, out)?;
                    } else {
                        late = Some(c);
                        c.skip()?;
                    }
                }
                b"ping" => {
                    let number = c.int()?;
                    out.send(&format!(r#"{{"pong":{number}}}"#));
                    return Ok(());
                }
                b"subbed" | b"unsubbed" | b"err-code" | b"err-msg" => return self.answer(text, out),
                _ => c.skip()?,
            }
        }
        c.end()?;
        let Some(named) = named else { return Ok(out.unknown()) };
        match late {
            Some(mut late) => head = payload(&mut late, named, reply, out)?,
            None if !seen.has(1) => return Err(VenueError::missing("tick")),
            None => {}
        }
        match head {
            Some(Payload::Book(head)) => out.book(BookHead { ts_event: head.ts_event.or(time), ..head }),
            Some(Payload::Candle(candle)) => out.candle(CandleItem { ts_event: time, ..candle }),
            None => {}
        }
        Ok(())
    }

    /// Confirmations and refusals.
    fn answer(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut c = Cursor::new(text);
        let mut o = c.object().map_err(common::harmless)?;
        let (mut id, mut message) = (&b""[..], None);
        while let Some(key) = o.key(&mut c).map_err(common::harmless)? {
            match key {
                b"subbed" if c.kind()? == Kind::Array => {
                    let mut topics = c.array()?;
                    while topics.next(&mut c)? {
                        subscribed(c.str()?, out);
                    }
                }
                b"subbed" => subscribed(c.str()?, out),
                b"id" => id = c.raw()?,
                b"err-code" | b"err-msg" => message = Some(c.raw()?),
                _ => c.skip()?,
            }
        }
        c.end()?;
        let Some(message) = message else { return Ok(out.known()) };
        let id = id.strip_prefix(b"\"").and_then(|id| id.strip_suffix(b"\"")).unwrap_or(id);
        let (verb, named) = match id.iter().position(|byte| *byte == b' ') {
            Some(space) => (&id[..space], topic(&id[space + 1..])),
            None => (id, None),
        };
        let hurried = message.windows(3).any(|window| window == b"429");
        match (verb, named) {
            (b"sub" | b"req", Some((native, What::Book(MBP_400, _)))) if !hurried => {
                self.fall_back(&String::from_utf8_lossy(native), out);
                Ok(())
            }
            // The keeper asks again.
            (b"req" | b"unsub", Some(_)) => Err(VenueError::venue(Class::Ignore, text)),
            _ if message.windows(5).any(|window| window == b"unsub") => Err(VenueError::venue(Class::Ignore, text)),
            _ => Err(VenueError::venue(common::refusal(!self.subscriptions.is_empty()), text)),
        }
    }

    /// 150 levels instead of 400: their deltas make a book of better rank, which takes over.
    fn fall_back(&mut self, native: &str, out: &mut Sink<'_>) {
        if !self.fallen.iter().any(|fallen| fallen == native) {
            self.fallen.push(native.into());
            out.send(&request("unsub", &format!("market.{native}.mbp.400")));
            out.send(&request("sub", &format!("market.{native}.mbp.150")));
        }
    }
}

fn subscribed(name: &[u8], out: &mut Sink<'_>) {
    let Some((native, what)) = topic(name) else { return out.unknown() };
    let (channel, feed) = match what {
        What::Book(feed, _) => (Channel::Book, feed),
        What::Trades => (Channel::Trades, DETAIL),
        What::Candles(_) => (Channel::Candles, KLINE),
        What::Other => return out.known(),
    };
    let id = out.instrument(native);
    out.subscribed(channel, feed, id);
}

/// What still lacks the time of its frame.
enum Payload {
    Book(BookHead),
    Candle(CandleItem),
}

/// Reads `tick` or `data` of a topic.
fn payload(
    c: &mut Cursor<'_>,
    named: Option<(&[u8], What)>,
    reply: bool,
    out: &mut Sink<'_>,
) -> Result<Option<Payload>, VenueError> {
    let Some((native, what)) = named else {
        c.skip()?;
        out.unknown();
        return Ok(None);
    };
    if reply && c.null()? {
        return Err(VenueError::venue(Class::Ignore, b"the answer to a request has no data"));
    }
    match what {
        What::Book(feed, levels) => {
            let id = out.instrument(native);
            let kind = match levels {
                None => BookKind::Image,
                Some(_) if reply => BookKind::Snapshot,
                Some(_) => BookKind::Delta,
            };
            book(c, id, BookHead { depth: levels, ..BookHead::new(feed, kind) }, out).map(Some)
        }
        What::Trades => {
            let id = out.instrument(native);
            if reply { trades(c, id, true, out) } else { detail(c, id, out) }?;
            Ok(None)
        }
        What::Candles(interval) if !reply => {
            let id = out.instrument(native);
            Ok(Some(Payload::Candle(candle(c, id, interval)?)))
        }
        What::Candles(_) | What::Other => {
            c.skip()?;
            out.known();
            Ok(None)
        }
    }
}

/// `{"ch":"market.btcusdt.mbp.400","ts":ms,"tick":{"seqNum":..,"prevSeqNum":..,"asks":[[p,q],..],"bids":[..]}}` to the
/// letter, sides in either order.
fn usual(text: &[u8], out: &mut Sink<'_>) -> Option<()> {
    let mut c = Cursor::new(text);
    c.literal(br#"{"ch":""#)?;
    let (native, What::Book(feed, Some(levels))) = topic(c.plain()?)? else { return None };
    c.literal(br#","ts":"#)?;
    let time = nanos(c.digits()?, MILLI)?;
    c.literal(br#","tick":{"seqNum":"#)?;
    let last = c.digits()?;
    c.literal(br#","prevSeqNum":"#)?;
    let previous = c.digits()?;
    c.literal(b",\"")?;
    let id = out.usual_instrument(native)?;
    out.begin(id);
    if c.literal(br#"asks":["#).is_some() {
        usual_rows(Side::Ask, &mut c, out)?;
        c.literal(br#","bids":["#)?;
        usual_rows(Side::Bid, &mut c, out)?;
    } else {
        c.literal(br#"bids":["#)?;
        usual_rows(Side::Bid, &mut c, out)?;
        c.literal(br#","asks":["#)?;
        usual_rows(Side::Ask, &mut c, out)?;
    }
    c.literal(b"}}")?;
    c.done()?;
    let head = BookHead::new(feed, BookKind::Delta);
    out.book(BookHead {
        sequence: Some(Sequence::after(previous, last)),
        depth: Some(levels),
        ts_event: Some(time),
        ..head
    });
    Some(())
}

/// `[p,q],..]`
fn usual_rows(side: Side, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Option<()> {
    if c.literal(b"]").is_some() {
        return Some(());
    }
    loop {
        c.literal(b"[")?;
        let price = c.bare_decimal()?;
        c.literal(b",")?;
        let size = c.bare_decimal()?;
        out.usual_level(side, price, size)?;
        if c.literal(b"],").is_none() {
            return c.literal(b"]]");
        }
    }
}

/// A book message up to its head; a side that is missing has no changes.
#[inline]
fn book(c: &mut Cursor<'_>, id: InstrumentId, head: BookHead, out: &mut Sink<'_>) -> Result<Payload, VenueError> {
    out.begin(id);
    let mut seen = Seen::default();
    let (mut last, mut previous, mut version, mut time) = (None, None, None, None);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"seqNum" => {
                seen.once(0, c)?;
                last = Some(c.int()?);
            }
            b"version" => {
                seen.once(4, c)?;
                version = Some(c.int()?);
            }
            b"prevSeqNum" => {
                seen.once(1, c)?;
                previous = Some(c.int()?);
            }
            b"bids" => {
                seen.once(2, c)?;
                out.pairs(Side::Bid, c)?;
            }
            b"asks" => {
                seen.once(3, c)?;
                out.pairs(Side::Ask, c)?;
            }
            b"ts" => time = Some(common::time_at(c, MILLI)?),
            _ => c.skip()?,
        }
    }
    if head.kind != BookKind::Image && last.is_none() {
        return Err(VenueError::missing("seqNum"));
    }
    if head.kind == BookKind::Delta && previous.is_none() {
        return Err(VenueError::missing("prevSeqNum"));
    }
    let sequence = last.or(version).map(|last| Sequence { first: None, last, previous });
    Ok(Payload::Book(BookHead { sequence, ts_event: time, ..head }))
}

/// `{"id":..,"ts":..,"data":[trade, ...]}`
fn detail(c: &mut Cursor<'_>, id: InstrumentId, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        if key == b"data" {
            seen.once(0, c)?;
            trades(c, id, false, out)?;
        } else {
            c.skip()?;
        }
    }
    common::require(seen, &["data"])
}

/// The 27-digit `id` of a trade is passed over: `tradeId` is what identifies it.
fn trades(c: &mut Cursor<'_>, id: InstrumentId, history: bool, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut rows = c.array()?;
    while rows.next(c)? {
        let mut seen = Seen::default();
        let (mut trade_id, mut price, mut size) = (&b""[..], Decimal::default(), Decimal::default());
        let (mut taker, mut time) = (Side::Bid, None);
        let mut o = c.object()?;
        while let Some(key) = o.key(c)? {
            match key {
                b"tradeId" | b"trade-id" => {
                    seen.once(0, c)?;
                    trade_id = c.text()?;
                }
                b"price" => {
                    seen.once(1, c)?;
                    price = c.decimal()?;
                }
                b"amount" => {
                    seen.once(2, c)?;
                    size = c.decimal()?;
                }
                b"direction" => {
                    seen.once(3, c)?;
                    taker = match c.str()? {
                        b"buy" => Side::Bid,
                        b"sell" => Side::Ask,
                        _ => return Err(VenueError::unexpected("direction")),
                    };
                }
                b"ts" => time = Some(common::time_at(c, MILLI)?),
                _ => c.skip()?,
            }
        }
        common::require(seen, &["tradeId", "price", "amount", "direction"])?;
        let feed = DETAIL;
        out.trade(&TradeItem { feed, id, price, size, taker, trade_id, sequence: None, history, ts_event: time })?;
    }
    Ok(())
}

/// `amount` is the base volume and `vol` the quote volume.
fn candle(c: &mut Cursor<'_>, id: InstrumentId, interval: Nanos) -> Result<CandleItem, VenueError> {
    let mut seen = Seen::default();
    let (mut open_time, mut count, mut notional) = (0, None, None);
    let [mut open, mut high, mut low, mut close, mut volume] = [Decimal::default(); 5];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        let (bit, field) = match key {
            b"open" => (0, &mut open),
            b"high" => (1, &mut high),
            b"low" => (2, &mut low),
            b"close" => (3, &mut close),
            b"amount" => (4, &mut volume),
            b"id" => {
                seen.once(5, c)?;
                open_time = common::time_at(c, SECOND)?;
                continue;
            }
            b"vol" => {
                notional = Some(c.decimal()?);
                continue;
            }
            b"count" => {
                count = Some(c.int()?);
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
    common::require(seen, &["open", "high", "low", "close", "amount", "id"])?;
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
        count,
        taker_buy: None,
        closed: false,
        ts_event: None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::testing::{Bench, subscriptions};

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn planned(channel: Channel, depth: u32) -> Bench {
        let mut subscriptions = subscriptions(&["btcusdt"], &[channel]);
        subscriptions[0].depth = depth;
        let [plan] = &Htx.plan(&subscriptions, &Instruments::default())[..] else { panic!("one connection") };
        Bench::open(&Htx, Some(plan))
    }

    #[test]
    fn books_and_the_rest_live_on_different_sockets() {
        let subscriptions = subscriptions(&["btcusdt"; 51], &[Channel::Book, Channel::Trades]);
        let plans = Htx.plan(&subscriptions, &Instruments::default());
        let shape: Vec<_> = plans.iter().map(|plan| (plan.base.as_str(), plan.subscriptions.len())).collect();
        assert_eq!(shape, [(FEED, 50), (FEED, 1), (WS, 50), (WS, 1)]);
    }

    #[test]
    fn topics_follow_the_wanted_depth() {
        for (channel, depth, topic) in [
            (Channel::Book, 0, "mbp.400"),
            (Channel::Book, 5, "mbp.5"),
            (Channel::Book, 150, "mbp.150"),
            (Channel::Book, 151, "mbp.400"),
            (Channel::Trades, 0, "trade.detail"),
            (Channel::Candles, 0, "kline.1min"),
        ] {
            let topic = format!("market.btcusdt.{topic}");
            assert_eq!(planned(channel, depth).sent, [format!(r#"{{"sub":"{topic}","id":"sub {topic}"}}"#)]);
        }
    }

    #[test]
    fn pings_are_answered() {
        let mut bench = planned(Channel::Trades, 0);
        bench.binary(&gzip(br#"{"ping":1492420473027}"#));
        assert_eq!(bench.sent[1..], [r#"{"pong":1492420473027}"#]);
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for frame in [&gzip(b"\xff")[..], &gzip(b"{}")[..15], b"{}"] {
            let mut bench = planned(Channel::Trades, 0);
            bench.binary(frame);
            assert!(bench.told.0[0].starts_with("error Resync frame does not decompress"), "{:?}", bench.told.0);
        }
    }

    fn delta(levels: u32, previous: i64) -> String {
        let last = previous + 7;
        format!(
            r#"{{"ch":"market.btcusdt.mbp.{levels}","ts":1,"tick":{{"seqNum":{last},"prevSeqNum":{previous},"bids":[[{last},1]]}}}}"#
        )
    }

    #[test]
    fn where_400_levels_are_refused_150_take_over() {
        let mut bench = planned(Channel::Book, 0);
        bench.text(r#"{"id":"sub market.btcusdt.mbp.400","status":"ok","subbed":"market.btcusdt.mbp.400","ts":1}"#);
        (0..10).for_each(|n| bench.text(&delta(400, 100 + 7 * n)));
        assert_eq!(bench.sent[1..], [r#"{"req":"market.btcusdt.mbp.400","id":"req market.btcusdt.mbp.400"}"#]);
        let refused = |message| {
            format!(
                r#"{{"status":"error","ts":1,"id":"req market.btcusdt.mbp.400","err-code":"bad-request","err-msg":"{message}"}}"#
            )
        };
        bench.text(&refused("429 too many request"));
        assert_eq!(bench.sent.len(), 2);
        bench.text(&refused("invalid mbp.400.symbol btcusdt"));
        assert_eq!(
            bench.sent[2..],
            [
                r#"{"unsub":"market.btcusdt.mbp.400","id":"unsub market.btcusdt.mbp.400"}"#,
                r#"{"sub":"market.btcusdt.mbp.150","id":"sub market.btcusdt.mbp.150"}"#,
            ]
        );
        bench.reload();
        bench.text(&refused("invalid mbp.400.symbol btcusdt"));
        assert_eq!(bench.sent.len(), 4);
        bench.text(r#"{"id":"sub market.btcusdt.mbp.150","status":"ok","subbed":"market.btcusdt.mbp.150","ts":1}"#);
        (0..10).for_each(|n| bench.text(&delta(150, 200 + 7 * n)));
        assert_eq!(bench.sent[4..], [r#"{"req":"market.btcusdt.mbp.150","id":"req market.btcusdt.mbp.150"}"#]);
        bench.text(
            r#"{"rep":"market.btcusdt.mbp.150","status":"ok","id":"x","data":{"seqNum":263,"bids":[[5,1]],"asks":[]}}"#,
        );
        assert_eq!(bench.book("btcusdt"), "Live 270:1 5:1 | ");
    }

    #[test]
    fn a_refused_subscription_is_fatal_unless_a_recorder_asked() {
        let refused = r#"{"status":"error","ts":1,"id":"x","err-code":"bad-request","err-msg":"invalid symbol"}"#;
        let mut bench = planned(Channel::Trades, 0);
        bench.text(refused);
        assert!(bench.sent[1].starts_with("reconnect fatal=true"));
        let mut bench = Bench::open(&Htx, None);
        bench.text(refused);
        assert_eq!(bench.sent, [""; 0]);
    }

    #[test]
    fn candles_over_rest() {
        let request = Htx.candle_request("btcusdt", 60 * MINUTE, 0, 1).unwrap();
        assert_eq!(request.path, "/market/history/kline?symbol=btcusdt&period=60min&size=2000");
        let body = br#"{"ch":"x","status":"ok","data":[{"id":3600,"open":1,"close":2,"low":0.5,"high":3,"amount":4,"vol":5,"count":6}]}"#;
        let mut candles = Vec::new();
        Htx.parse_candles(&request, body, &mut candles).unwrap();
        let [candle] = candles[..] else { panic!("one candle") };
        assert_eq!((candle.open_time, candle.interval, candle.closed), (60 * MINUTE, 60 * MINUTE, true));
        assert_eq!((candle.volume, candle.notional), (Decimal::new(4, 0), Some(Decimal::new(5, 0))));
        assert!(Htx.parse_candles(&request, br#"{"status":"error"}"#, &mut candles).is_err());
    }
}
