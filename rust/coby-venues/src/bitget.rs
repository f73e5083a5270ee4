//! Bitget, spot and futures, public WebSocket v3: <https://www.bitget.com/docs/uta/websocket/public>.
//!
//! Both markets have a `BTCUSDT`, so every symbol but a spot one carries its market: `usdt-futures|BTCUSDT`.
//!
//! Book: `books` sends a snapshot, then updates whose `pseq` must be the `seq` before it. The frames of v2 and
//! v1 are decoded where a recording has them: spot books there may lack `pseq`, the oldest have no number at
//! all. Until 2026 a checksum of the 25 best levels came along; it is compared where it does.

use coby_core::decimal::{Decimal, POW10};
use coby_core::instrument::{InstrumentId, InstrumentKind, Instruments, Listing, Status};
use coby_core::level::{Level, Side};
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Kind, Seen};
use coby_core::sink::BookKind;
use coby_core::time::{DAY, MILLI, MINUTE, SECOND};
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, ChecksumSpec, Class, ConnectionPlan, Dial, Frame, Join,
    Limits, Ping, Proof, Rule, Scope, Sequence, Session, Sink, Subscription, TopLevels, TradeFeed, TradeItem, Venue,
    VenueError, VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;

const REST: &str = "https://api.bitget.com";
const SOCKET: &str = "wss://ws.bitget.com/v3/ws/public";

const BOOKS: u8 = 0;
const UNCHAINED: u8 = 1;
const UNNUMBERED: u8 = 2;
const BOOKS50: u8 = 3;
const BOOKS15: u8 = 4;
const BOOKS5: u8 = 5;
const BOOKS1: u8 = 6;

/// Markets, as the REST lists call them.
const CATEGORIES: [&str; 4] = ["SPOT", "USDT-FUTURES", "COIN-FUTURES", "USDC-FUTURES"];
/// Topics per subscribe message: the server was seen to drop connections over 25.
const TOPICS: usize = 10;
/// Levels a side that a checksum covers.
const CHECKED: usize = 25;

static SPEC: VenueSpec = VenueSpec {
    id: "bitget",
    name: "Bitget",
    protocol: "2026-09",
    closed: None,
    sockets: &[SOCKET],
    rest: REST,
    ping: Ping::Text("ping"),
    // Quiet books send nothing: pongs tell that the connection lives.
    silence: 45,
    limits: Limits { dials: (300, 300), messages: (1, 1), spacing: 0, streams: 50, rest: (20, 1), lifetime: 86_400 },
    books: &[
        BookFeed {
            name: "books",
            depth: Some(1_000),
            proof: Proof::Sequence,
            limits: "up to 1,000 levels a side",
            ..CHAINED
        },
        BookFeed {
            name: "books v2 without pseq",
            rule: Rule::Monotone,
            proof: Proof::Checksum,
            limits: "only decoded, never subscribed; frames without a checksum prove nothing",
            ..CHAINED
        },
        BookFeed {
            name: "books v1",
            rule: Rule::None,
            proof: Proof::Checksum,
            limits: "only decoded, never subscribed; the checksum covers 25 levels a side",
            ..CHAINED
        },
        BookFeed { name: "books50", depth: Some(50), ..IMAGE },
        BookFeed { name: "books15", depth: Some(15), ..IMAGE },
        BookFeed { name: "books5", depth: Some(5), ..IMAGE },
        BookFeed { name: "books1", depth: Some(1), ..IMAGE },
    ],
    trades: &[TradeFeed { name: "publicTrade", proof: Proof::None, aggregated: false }],
    candles: &[CandleFeed { name: "kline 1m", interval: MINUTE }],
};

const CHAINED: BookFeed = BookFeed {
    name: "",
    join: Join::Socket,
    rule: Rule::Chain,
    proof: Proof::None,
    checksum: Some(ChecksumSpec { levels: CHECKED }),
    digits: true,
    depth: None,
    shows: None,
    refresh: 0,
    limits: "",
};

const IMAGE: BookFeed = BookFeed {
    join: Join::Image,
    rule: Rule::Monotone,
    checksum: None,
    digits: false,
    limits: "whole images: a lost one is healed by the next",
    ..CHAINED
};

/// Bitget, spot and futures.
#[derive(Clone, Copy, Debug)]
pub struct Bitget;

#[derive(Deserialize)]
struct Answer<T> {
    code: String,
    data: Option<T>,
}

/// The list prints whole numbers as texts in some places and as numbers in others.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Whole(i64),
}

impl Number {
    fn whole(&self) -> Option<i64> {
        match self {
            Self::Text(text) => text.parse().ok(),
            Self::Whole(whole) => Some(*whole),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InstrumentInfo {
    symbol: String,
    category: String,
    base_coin: String,
    quote_coin: String,
    price_precision: Option<Number>,
    quantity_precision: Option<Number>,
    price_multiplier: Option<String>,
    quantity_multiplier: Option<String>,
    #[serde(rename = "type", default)]
    kind: String,
    delivery_time: Option<Number>,
    #[serde(default)]
    status: String,
}

impl Venue for Bitget {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        let list = |category| HttpRequest::get(REST, format!("/api/v3/market/instruments?category={category}"));
        CATEGORIES.map(list).into()
    }

    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let Answer { code, data: Some(list) }: Answer<Vec<InstrumentInfo>> = common::read(body)? else {
            return Err(VenueError::venue(Class::Ignore, body));
        };
        if code != "00000" {
            return Err(VenueError::venue(Class::Ignore, body));
        }
        for info in list.into_iter().filter(|info| CATEGORIES.contains(&info.category.as_str())) {
            let mut native = Vec::new();
            name(info.category.as_bytes(), info.symbol.as_bytes(), &mut native);
            let mut listing = Listing::spot(&String::from_utf8_lossy(&native), &info.base_coin, &info.quote_coin);
            if info.category != "SPOT" {
                listing.kind = match (info.kind.as_str(), info.delivery_time.as_ref().and_then(Number::whole)) {
                    ("delivery", Some(expiry)) => InstrumentKind::Future(common::time(expiry, MILLI)?),
                    // Without its expiry a future has no name.
                    ("delivery", None) => continue,
                    _ => InstrumentKind::Perpetual,
                };
            }
            let step = |multiplier: Option<String>, decimals: Option<Number>| {
                let multiplier = multiplier.as_deref().and_then(common::step);
                multiplier.or_else(|| common::step_of_decimals(decimals?.whole()?))
            };
            listing.tick_size = step(info.price_multiplier, info.price_precision);
            listing.lot_size = step(info.quantity_multiplier, info.quantity_precision);
            listing.status = match info.status.as_str() {
                "online" | "limit_open" | "limit_close" | "restrictedAPI" => Status::Trading,
                "offline" => Status::Delisted,
                _ => Status::Halted,
            };
            out.push(listing);
        }
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
        Ok(Box::new(common::load(saved, || BitgetSession { subscriptions, native: Vec::new() })?))
    }

    /// CRC-32 over `bid price:bid size:ask price:ask size:...` as printed; a side that ran out is skipped.
    fn checksum(&self, _: u8, top: TopLevels<'_>) -> u32 {
        let mut text = String::new();
        let mut push = |level: Option<&Level>| {
            if let Some(Level { price, size, digits }) = level {
                print(*price, top.price_scale, digits.price, &mut text);
                print(*size, top.size_scale, digits.size, &mut text);
            }
        };
        for at in 0..CHECKED {
            push(top.bids.get(at));
            push(top.asks.get(at));
        }
        crc32fast::hash(text.strip_suffix(':').unwrap_or_default().as_bytes())
    }

    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, to: Nanos) -> Option<HttpRequest> {
        let (interval, _) = INTERVALS.iter().find(|(_, nanos)| *nanos == interval)?;
        let (market, symbol) = parts(native);
        let (category, start, end) = (market.to_uppercase(), from.div_euclid(MILLI), (to - 1).div_euclid(MILLI));
        let what = format!("category={category}&symbol={symbol}&interval={interval}");
        let when = format!("startTime={start}&endTime={end}&limit=1000");
        Some(HttpRequest::get(REST, format!("/api/v3/market/candles?{what}&{when}")))
    }

    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let interval = request.query("interval").and_then(|name| interval_of(name.as_bytes()));
        let interval = interval.ok_or_else(|| VenueError::missing("interval"))?;
        let whole = Cursor::new(body);
        let code = whole.find(b"code")?.map(|mut code| code.text()).transpose()?;
        let (Some(b"00000"), Some(mut c)) = (code, whole.find(b"data")?) else {
            return Err(VenueError::venue(Class::Ignore, body));
        };
        let mut rows = c.array()?;
        while rows.next(&mut c)? {
            out.push(CandleItem { closed: true, ..candle(InstrumentId(0), interval, None, &mut c)? });
        }
        Ok(())
    }
}

/// Intervals of fixed length; those longer than four hours also exist aligned to UTC.
const INTERVALS: [(&str, Nanos); 10] = [
    ("1m", MINUTE),
    ("5m", 5 * MINUTE),
    ("15m", 15 * MINUTE),
    ("30m", 30 * MINUTE),
    ("1H", 60 * MINUTE),
    ("4H", 240 * MINUTE),
    ("6H", 360 * MINUTE),
    ("12H", 720 * MINUTE),
    ("1D", DAY),
    ("3D", 3 * DAY),
];

fn interval_of(name: &[u8]) -> Option<Nanos> {
    match name.strip_suffix(b"utc").unwrap_or(name) {
        b"1W" => Some(7 * DAY),
        name => INTERVALS.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, nanos)| *nanos),
    }
}

/// `12.50:`: a number with as many fraction digits as were printed.
fn print(mantissa: i64, scale: u8, digits: u8, out: &mut String) {
    use std::fmt::Write;
    let (scale, digits) = (scale.min(18), digits.min(18));
    let wide = i128::from(mantissa) * i128::from(POW10[digits as usize]) / i128::from(POW10[scale as usize]);
    let unit = i128::from(POW10[digits as usize]);
    let (whole, fraction, width) = (wide / unit, wide % unit, digits as usize);
    // Writing into a string cannot fail.
    let _ = if width == 0 { write!(out, "{whole}:") } else { write!(out, "{whole}.{fraction:0width$}:") };
}

/// The native name of a market's symbol.
fn name(market: &[u8], symbol: &[u8], out: &mut Vec<u8>) {
    out.clear();
    // v1 says `sp`.
    if !matches!(market, b"spot" | b"SPOT" | b"sp" | b"SP") {
        out.extend(market.iter().map(u8::to_ascii_lowercase));
        out.push(b'|');
    }
    out.extend_from_slice(symbol);
}

/// Market and symbol of a native name.
fn parts(native: &str) -> (&str, &str) {
    native.split_once('|').unwrap_or(("spot", native))
}

fn topic(subscription: &Subscription) -> String {
    let topic = match subscription.channel {
        Channel::Book => r#""books""#,
        Channel::Trades => r#""publicTrade""#,
        Channel::Candles => r#""kline","interval":"1m""#,
    };
    argument(topic, &subscription.native)
}

fn argument(topic: &str, native: &str) -> String {
    let (market, symbol) = parts(native);
    format!(r#"{{"instType":"{market}","topic":{topic},"symbol":"{symbol}"}}"#)
}

/// What a frame is about.
#[derive(Clone, Copy, Debug, Default)]
struct Arg<'a> {
    market: &'a [u8],
    /// `topic`, or `channel` before v3.
    topic: &'a [u8],
    symbol: &'a [u8],
    interval: &'a [u8],
    /// Whether it is of v3, where every update of a book names its predecessor.
    unified: bool,
}

/// What a topic carries.
#[derive(Clone, Copy, Debug)]
enum What {
    Book,
    Image(u8),
    Trades,
    Candles(Nanos),
    /// Tickers, and candles of no fixed length.
    Known,
    Unknown,
}

impl<'a> Arg<'a> {
    fn read(c: &mut Cursor<'a>) -> Result<Self, VenueError> {
        let mut seen = Seen::default();
        let mut arg = Self::default();
        let mut o = c.object()?;
        while let Some(key) = o.key(c)? {
            let (bit, field) = match key {
                b"instType" => (0, &mut arg.market),
                b"topic" | b"channel" => {
                    arg.unified = key == b"topic";
                    (1, &mut arg.topic)
                }
                b"symbol" | b"instId" => (2, &mut arg.symbol),
                b"interval" => (3, &mut arg.interval),
                _ => {
                    c.skip()?;
                    continue;
                }
            };
            seen.once(bit, c)?;
            *field = c.str()?;
        }
        common::require(seen, &["instType", "topic"])?;
        Ok(arg)
    }

    fn what(&self) -> What {
        match self.topic {
            b"books" => What::Book,
            b"books50" => What::Image(BOOKS50),
            b"books15" => What::Image(BOOKS15),
            b"books5" => What::Image(BOOKS5),
            b"books1" => What::Image(BOOKS1),
            b"publicTrade" | b"trade" => What::Trades,
            b"ticker" => What::Known,
            b"kline" => interval_of(self.interval).map_or(What::Known, What::Candles),
            other => match other.strip_prefix(b"candle") {
                Some(interval) => interval_of(interval).map_or(What::Known, What::Candles),
                None => What::Unknown,
            },
        }
    }
}

#[derive(Serialize, Deserialize)]
struct BitgetSession {
    subscriptions: Vec<Subscription>,
    /// Room for a native name.
    #[serde(skip)]
    native: Vec<u8>,
}

impl Session for BitgetSession {
    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            Frame::Open { .. } => {
                for subscriptions in self.subscriptions.chunks(TOPICS) {
                    let topics: Vec<String> = subscriptions.iter().map(topic).collect();
                    out.send(&format!(r#"{{"op":"subscribe","args":[{}]}}"#, topics.join(",")));
                }
                Ok(())
            }
            Frame::Text(text) if text.trim_ascii() == b"pong" => Ok(out.known()),
            Frame::Text(text) => self.text(text, out),
            // Books over REST have no number to join them by.
            Frame::Http { .. } | Frame::Binary(_) => Ok(out.unknown()),
            Frame::Close(_) => Ok(()),
        }
    }

    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match scope {
            Scope::Book(id, feed) => {
                // The next image heals by itself.
                if feed <= UNNUMBERED {
                    let book = argument(r#""books""#, &out.instruments().get(id).native);
                    again(&book, out);
                }
            }
            Scope::Connection => {
                let books: Vec<_> =
                    self.subscriptions.iter().filter(|wanted| wanted.channel == Channel::Book).map(topic).collect();
                for books in books.chunks(TOPICS) {
                    again(&books.join(","), out);
                }
            }
        }
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        common::save(self, out);
    }
}

/// A fresh subscription brings a fresh snapshot.
fn again(arguments: &str, out: &mut Sink<'_>) {
    for op in ["unsubscribe", "subscribe"] {
        out.send(&format!(r#"{{"op":"{op}","args":[{arguments}]}}"#));
    }
}

impl BitgetSession {
    fn text(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut action, mut arg, mut event, mut late) = (None, None, None, None);
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"action" => {
                    seen.once(0, &c)?;
                    action = Some(c.str()?);
                }
                b"arg" => {
                    seen.once(1, &c)?;
                    arg = Some(Arg::read(&mut c)?);
                }
                b"data" => {
                    seen.once(2, &c)?;
                    if let (Some(action), Some(arg)) = (action, &arg) {
                        self.data(action, arg, text, &mut c, out)?;
                    } else {
                        late = Some(c);
                        c.skip()?;
                    }
                }
                b"event" => event = Some(c.str()?),
                _ => c.skip()?,
            }
        }
        c.end()?;
        match (event, action, arg, late) {
            (Some(b"subscribe"), _, Some(arg), _) => {
                self.subscribed(&arg, out);
                Ok(())
            }
            (Some(b"unsubscribe"), ..) => Ok(out.known()),
            (Some(b"error"), ..) => {
                let op = Cursor::new(text).find(b"op")?.map(|mut op| op.text()).transpose()?;
                let planned = !self.subscriptions.is_empty();
                let class = if op == Some(b"unsubscribe") { Class::Ignore } else { common::refusal(planned) };
                Err(VenueError::venue(class, text))
            }
            (None, Some(action), Some(arg), Some(mut late)) => self.data(action, &arg, text, &mut late, out),
            (None, Some(_), Some(_), None) if seen.has(2) => Ok(()),
            (None, Some(_), _, _) => Err(VenueError::missing("arg or data")),
            _ => Ok(out.unknown()),
        }
    }

    fn instrument(&mut self, arg: &Arg<'_>, out: &mut Sink<'_>) -> InstrumentId {
        name(arg.market, arg.symbol, &mut self.native);
        out.instrument(&self.native)
    }

    fn subscribed(&mut self, arg: &Arg<'_>, out: &mut Sink<'_>) {
        let (channel, feed) = match arg.what() {
            What::Book => (Channel::Book, BOOKS),
            What::Image(feed) => (Channel::Book, feed),
            What::Trades => (Channel::Trades, 0),
            What::Candles(_) => (Channel::Candles, 0),
            What::Known | What::Unknown => return out.known(),
        };
        let id = self.instrument(arg, out);
        // Which feed a book of before v3 is, only its frames tell.
        if arg.unified || feed != BOOKS {
            out.subscribed(channel, feed, id);
        }
    }

    fn data(
        &mut self,
        action: &[u8],
        arg: &Arg<'_>,
        text: &[u8],
        c: &mut Cursor<'_>,
        out: &mut Sink<'_>,
    ) -> Result<(), VenueError> {
        let what = arg.what();
        if matches!(what, What::Known | What::Unknown) {
            c.skip()?;
            return Ok(if matches!(what, What::Known) { out.known() } else { out.unknown() });
        }
        let first = match action {
            b"snapshot" => true,
            b"update" => false,
            _ => return Err(VenueError::unexpected("action")),
        };
        if arg.symbol.is_empty() {
            return Err(VenueError::missing("symbol"));
        }
        let id = self.instrument(arg, out);
        let mut list = c.array()?;
        match what {
            What::Book | What::Image(_) => {
                while list.next(c)? {
                    let head = match what {
                        What::Image(feed) => image(feed, id, c, out)?,
                        _ => book(first, arg.unified, id, c, out)?,
                    };
                    out.book(head);
                }
            }
            What::Trades => {
                // Newest first.
                let mut trades = Vec::new();
                while list.next(c)? {
                    trades.push(*c);
                    c.skip()?;
                }
                for trade in trades.iter_mut().rev() {
                    read_trade(id, first, trade, out)?;
                }
            }
            What::Candles(interval) => {
                let time =
                    Cursor::new(text).find(b"ts")?.map(|mut time| common::time_at(&mut time, MILLI)).transpose()?;
                while list.next(c)? {
                    let candle = candle(id, interval, time, c)?;
                    out.candle(candle);
                }
            }
            What::Known | What::Unknown => {}
        }
        Ok(())
    }
}

/// What a book message says beside its levels.
#[derive(Default)]
struct Numbers {
    seq: Option<i64>,
    pseq: Option<i64>,
    checksum: Option<u32>,
    time: Option<Nanos>,
    depth: Option<u32>,
}

/// `{"a":[["p","s"]],"b":[..],"seq":..,"pseq":..,"ts":"ms","maxdepth":"1000","checksum":..}`; `asks` and `bids` before v3.
fn levels(id: InstrumentId, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<Numbers, VenueError> {
    out.begin(id);
    let mut seen = Seen::default();
    let mut numbers = Numbers::default();
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"b" | b"bids" => {
                seen.once(0, c)?;
                out.pairs(Side::Bid, c)?;
            }
            b"a" | b"asks" => {
                seen.once(1, c)?;
                out.pairs(Side::Ask, c)?;
            }
            b"seq" => {
                seen.once(2, c)?;
                numbers.seq = Some(c.int()?);
            }
            b"pseq" => {
                seen.once(3, c)?;
                numbers.pseq = Some(c.int()?);
            }
            b"ts" => {
                seen.once(4, c)?;
                numbers.time = Some(common::time_at(c, MILLI)?);
            }
            b"checksum" => {
                seen.once(5, c)?;
                let value = c.int()?;
                let bits = i32::try_from(value).map(|signed| signed as u32).or_else(|_| u32::try_from(value));
                let bits = bits.map_err(|_| VenueError::unexpected("checksum beyond 32 bits"))?;
                // Zero is no checksum.
                numbers.checksum = Some(bits).filter(|bits| *bits != 0);
            }
            b"maxdepth" => numbers.depth = u32::try_from(c.int()?).ok().filter(|depth| *depth > 0),
            _ => c.skip()?,
        }
    }
    common::require(seen, &["b", "a"])?;
    Ok(numbers)
}

fn book(
    first: bool,
    unified: bool,
    id: InstrumentId,
    c: &mut Cursor<'_>,
    out: &mut Sink<'_>,
) -> Result<BookHead, VenueError> {
    let Numbers { seq, pseq, checksum, time, depth } = levels(id, c, out)?;
    let kind = if first { BookKind::Snapshot } else { BookKind::Delta };
    let (feed, sequence) = match (seq, pseq) {
        (None, _) if unified => return Err(VenueError::missing("seq")),
        (_, None) if unified && !first => return Err(VenueError::missing("pseq")),
        (None, _) => (UNNUMBERED, None),
        (Some(seq), pseq) if first && (unified || pseq.is_some()) => (BOOKS, Some(Sequence::at(seq))),
        (Some(seq), Some(pseq)) => (BOOKS, Some(Sequence::after(pseq, seq))),
        (Some(seq), None) => (UNCHAINED, Some(Sequence::at(seq))),
    };
    Ok(BookHead { sequence, depth, checksum, ts_event: time, ..BookHead::new(feed, kind) })
}

fn image(feed: u8, id: InstrumentId, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<BookHead, VenueError> {
    let Numbers { seq, time, .. } = levels(id, c, out)?;
    let (depth, sequence) = (SPEC.books[feed as usize].depth, seq.or(time).map(Sequence::at));
    Ok(BookHead { sequence, depth, ts_event: time, ..BookHead::new(feed, BookKind::Image) })
}

/// `{"i":id,"p":"price","v":"size","S":"sell","T":"ms"}`, in v2 `tradeId`, `price`, `size`, `side`, `ts`, in v1
/// `["ms","price","size","side"]`; with the taker's side.
fn read_trade(id: InstrumentId, history: bool, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut trade_id, mut time, mut taker) = (&b""[..], 0, Side::Bid);
    let [mut price, mut size] = [Decimal::default(); 2];
    let side = |c: &mut Cursor<'_>| match c.str()? {
        b"buy" => Ok(Side::Bid),
        b"sell" => Ok(Side::Ask),
        _ => Err(VenueError::unexpected("side of a trade")),
    };
    if c.kind()? == Kind::Array {
        let mut row = c.array()?;
        row.more(c)?;
        time = common::time_at(c, MILLI)?;
        row.more(c)?;
        price = c.decimal()?;
        row.more(c)?;
        size = c.decimal()?;
        row.more(c)?;
        taker = side(c)?;
        row.rest(c)?;
    } else {
        let mut o = c.object()?;
        while let Some(key) = o.key(c)? {
            match key {
                b"i" | b"tradeId" => {
                    seen.once(0, c)?;
                    trade_id = c.text()?;
                }
                b"p" | b"price" => {
                    seen.once(1, c)?;
                    price = c.decimal()?;
                }
                b"v" | b"size" => {
                    seen.once(2, c)?;
                    size = c.decimal()?;
                }
                b"S" | b"side" => {
                    seen.once(3, c)?;
                    taker = side(c)?;
                }
                b"T" | b"ts" => {
                    seen.once(4, c)?;
                    time = common::time_at(c, MILLI)?;
                }
                _ => c.skip()?,
            }
        }
        common::require(seen, &["trade id", "price", "size", "side", "time"])?;
    }
    let (feed, sequence, ts_event) = (0, None, Some(time));
    out.trade(&TradeItem { feed, id, price, size, taker, trade_id, sequence, history, ts_event })
}

/// `{"start":"ms","open":..,"high":..,"low":..,"close":..,"volume":..,"turnover":..}`, elsewhere the same as an array.
fn candle(
    id: InstrumentId,
    interval: Nanos,
    ts_event: Option<Nanos>,
    c: &mut Cursor<'_>,
) -> Result<CandleItem, VenueError> {
    let mut seen = Seen::default();
    let (mut open_time, mut notional) = (0, None);
    let [mut open, mut high, mut low, mut close, mut volume] = [Decimal::default(); 5];
    if c.kind()? == Kind::Array {
        let mut row = c.array()?;
        row.more(c)?;
        open_time = common::time_at(c, MILLI)?;
        for field in [&mut open, &mut high, &mut low, &mut close, &mut volume] {
            row.more(c)?;
            *field = c.decimal()?;
        }
        // v1 ends here.
        if row.next(c)? {
            notional = Some(c.decimal()?);
            row.rest(c)?;
        }
    } else {
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
        common::require(seen, &["open", "high", "low", "close", "volume", "start"])?;
    }
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
        notional,
        count: None,
        taker_buy: None,
        // Final once a later one begins; no frame says so.
        closed: false,
        ts_event,
    })
}

#[cfg(test)]
mod tests {
    use coby_core::level::Digits;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Bench, subscriptions};

    fn level(price: &str, size: &str) -> Level {
        let [price, size] = [price, size].map(|text| Decimal::parse(text.as_bytes()).unwrap());
        let digits = Digits { price: price.scale, size: size.scale };
        Level { price: price.at_scale(2).unwrap(), size: size.at_scale(1).unwrap(), digits }
    }

    #[test]
    fn checksums_as_documented() {
        let bids = [level("43231.1", "4"), level("43231", "6")];
        let asks = [level("43232.8", "9"), level("43232.9", "8")];
        let of = |bids: &[Level], asks: &[Level]| {
            Bitget.checksum(0, TopLevels { bids, asks, price_scale: 2, size_scale: 1 }) as i32
        };
        assert_eq!(of(&bids, &asks), -1_504_501_796);
        assert_eq!(of(&bids[..1], &asks) as u32, crc32fast::hash(b"43231.1:4:43232.8:9:43232.9:8"));
        assert_eq!(of(&[], &[level("1.50", "2.0")]) as u32, crc32fast::hash(b"1.50:2.0"));
        assert_eq!(of(&[], &[]), 0);
    }

    proptest! {
        #[test]
        fn numbers_are_printed_as_they_came(whole in 0_u32..100_000, fraction in "[0-9]{0,10}", wider in 0_u8..4) {
            let text = if fraction.is_empty() { whole.to_string() } else { format!("{whole}.{fraction}") };
            let number = Decimal::parse(text.as_bytes()).unwrap();
            for scale in [number.normal().scale, number.scale, number.scale + wider] {
                let mut printed = String::new();
                print(number.at_scale(scale).unwrap(), scale, number.scale, &mut printed);
                prop_assert_eq!(&printed, &format!("{text}:"));
            }
        }

        #[test]
        fn any_digits_are_printed(mantissa: i64, scale: u8, digits: u8) {
            print(mantissa, scale, digits, &mut String::new());
        }
    }

    #[test]
    fn topics_name_their_market_ten_a_message() {
        let natives: Vec<String> = (0..9).map(|number| format!("S{number}USDT")).collect();
        let mut wanted = subscriptions(&natives.iter().map(String::as_str).collect::<Vec<_>>(), &[Channel::Book]);
        wanted.extend(subscriptions(&["usdt-futures|BTCUSDT"], &[Channel::Trades, Channel::Candles]));
        let plans = Bitget.plan(&wanted, &Instruments::default());
        let mut bench = Bench::open(&Bitget, plans.first());
        let trades = r#"{"instType":"usdt-futures","topic":"publicTrade","symbol":"BTCUSDT"}]}"#;
        assert!(bench.sent[0].ends_with(trades), "{}", bench.sent[0]);
        let candles = r#"{"instType":"usdt-futures","topic":"kline","interval":"1m","symbol":"BTCUSDT"}"#;
        assert_eq!(bench.sent[1..], [format!(r#"{{"op":"subscribe","args":[{candles}]}}"#)]);
        bench.text(r#"{"event":"error","code":30001,"msg":"{\"instType\":\"spot\"} doesn't exist","connId":"1"}"#);
        assert!(bench.sent[2].starts_with("reconnect fatal=true"));
    }

    #[test]
    fn a_reset_or_a_hole_subscribes_anew() {
        let mut bench = Bench::open(&Bitget, None);
        let frame = |action: &str, numbers: &str| {
            let arg = r#"{"instType":"usdt-futures","topic":"books","symbol":"BTCUSDT"}"#;
            format!(r#"{{"action":"{action}","arg":{arg},"data":[{{"a":[],"b":[["1","1"]],{numbers}}}]}}"#)
        };
        for reset in [r#""seq":12,"pseq":0"#, r#""seq":13,"pseq":12"#] {
            bench.text(&frame("snapshot", r#""seq":10,"pseq":0"#));
            bench.text(&frame("update", r#""seq":11,"pseq":10"#));
            assert_eq!(bench.book("usdt-futures|BTCUSDT"), "Live 1:1 | ");
            bench.text(&frame("update", reset));
        }
        let asked = |op| {
            format!(r#"{{"op":"{op}","args":[{{"instType":"usdt-futures","topic":"books","symbol":"BTCUSDT"}}]}}"#)
        };
        assert_eq!(bench.sent, ["unsubscribe", "subscribe", "unsubscribe", "subscribe"].map(asked));
        let gaps = bench.told.0.iter().filter(|told| told.ends_with("opened sequence")).count();
        assert_eq!(gaps, 2, "{:?}", bench.told.0);
    }

    #[test]
    fn candles_come_by_market() {
        let request = Bitget.candle_request("usdt-futures|BTCUSDT", 60 * MINUTE, 0, 7_200 * SECOND).unwrap();
        let what = "category=USDT-FUTURES&symbol=BTCUSDT&interval=1H";
        let when = "startTime=0&endTime=7199999&limit=1000";
        assert_eq!(request.path, format!("/api/v3/market/candles?{what}&{when}"));
        assert!(Bitget.candle_request("BTCUSDT", MINUTE, 0, 1).unwrap().path.contains("category=SPOT&symbol=BTCUSDT&"));
        let body = br#"{"code":"00000","msg":"success","data":[["3600000","1","4","0.5","2","10.5","21"]]}"#;
        let mut candles = Vec::new();
        Bitget.parse_candles(&request, body, &mut candles).unwrap();
        let CandleItem { open, high, low, close, volume, notional, .. } = candles[0];
        let row = [open, high, low, close, volume, notional.unwrap()].map(|number| number.to_string());
        assert_eq!(row, ["1", "4", "0.5", "2", "10.5", "21"]);
        assert_eq!((candles[0].interval, candles[0].open_time), (3_600 * SECOND, 3_600 * SECOND));
        let refused = Bitget.parse_candles(&request, br#"{"code":"40034","msg":"x","data":null}"#, &mut candles);
        assert_eq!(refused.unwrap_err().class, Class::Ignore);
        assert!(Bitget.candle_request("BTCUSDT", 7 * MINUTE, 0, 1).is_none());
    }

    #[test]
    fn both_markets_have_their_own_names() {
        let body = br#"{"code":"00000","data":[
            {"symbol":"BTCUSDT","category":"SPOT","baseCoin":"BTC","quoteCoin":"USDT","pricePrecision":"2","quantityPrecision":6,"status":"online"},
            {"symbol":"BTCUSDT","category":"USDT-FUTURES","baseCoin":"BTC","quoteCoin":"USDT","pricePrecision":"1","priceMultiplier":"0.5","quantityPrecision":"4","quantityMultiplier":"0.0001","type":"perpetual","status":"limit_open"},
            {"symbol":"BTCUSDZ26_CM","category":"COIN-FUTURES","baseCoin":"BTC","quoteCoin":"USD","type":"delivery","deliveryTime":"1798185600000","status":"listed"},
            {"symbol":"BTCUSDT","category":"MARGIN","baseCoin":"BTC","quoteCoin":"USDT","status":"online"}]}"#;
        let mut listings = Vec::new();
        Bitget.parse_instruments(&Bitget.instrument_requests()[0], body, &mut listings).unwrap();
        let names: Vec<_> = listings.iter().map(|listing| (listing.native.as_str(), listing.symbol())).collect();
        let expected = [
            ("BTCUSDT", "BTC-USDT"),
            ("usdt-futures|BTCUSDT", "BTC-USDT-PERP"),
            ("coin-futures|BTCUSDZ26_CM", "BTC-USD-261225"),
        ];
        assert_eq!(names, expected.map(|(native, symbol)| (native, symbol.to_owned())));
        assert_eq!((listings[0].tick_size, listings[0].lot_size), (Some(Decimal::new(1, 2)), Some(Decimal::new(1, 6))));
        assert_eq!((listings[1].tick_size, listings[1].status), (Some(Decimal::new(5, 1)), Status::Trading));
    }
}
