//! Gate.io spot, WebSocket v4: <https://www.gate.com/docs/developers/apiv4/ws/en/>.
//!
//! Book: `spot.obu` sends the whole window first (`full`), then changes of which each must begin at the id
//! after the one before it. The older `spot.order_book_update` has the same ids and needs a snapshot over
//! REST; its first push is often a whole book, which those ids drop or join like any other.
//!
//! Trade ids are shared by all pairs, so they prove nothing. Candles of before 2022 have no base volume and
//! are passed over.

use coby_core::decimal::Decimal;
use coby_core::instrument::{InstrumentId, Instruments, Listing, Status};
use coby_core::level::Side;
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Kind, Seen};
use coby_core::sink::BookKind;
use coby_core::time::{DAY, MILLI, MINUTE, SECOND};
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, Class, ConnectionPlan, Dial, Frame, Join, Limits, Ping, Proof,
    Rule, Scope, Sequence, Session, Sink, Subscription, TradeFeed, TradeItem, Venue, VenueError, VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;

const REST: &str = "https://api.gateio.ws";
const SOCKET: &str = "wss://api.gateio.ws/ws/v4/";

const OBU: u8 = 0;
const UPDATE: u8 = 3;
const IMAGE: u8 = 4;

/// Levels of the `spot.obu` feeds, by their rank. The venue confirms other levels and stays silent.
const WINDOWS: [u32; 3] = [400, 100, 50];
/// Pairs per subscribe message.
const PAIRS: usize = 50;

static SPEC: VenueSpec = VenueSpec {
    id: "gateio",
    name: "Gate.io",
    protocol: "2026-09",
    closed: None,
    sockets: &[SOCKET],
    rest: REST,
    ping: Ping::Protocol,
    silence: 30,
    // No limit but of connections per host is published; a slow reader is cut off.
    limits: Limits { dials: (100, 300), messages: (10, 1), spacing: 0, streams: 100, rest: (200, 10), lifetime: 0 },
    books: &[
        BookFeed { name: "obu 400", depth: Some(WINDOWS[0]), ..WINDOW },
        BookFeed { name: "obu 100", depth: Some(WINDOWS[1]), ..WINDOW },
        BookFeed { name: "obu 50", depth: Some(WINDOWS[2]), ..WINDOW },
        BookFeed {
            name: "order_book_update",
            join: Join::Request { after: 2 },
            shows: Some(100),
            refresh: 300,
            limits: "snapshots reach 100 levels a side; deeper levels appear when they change, and a new snapshot \
                     is read every five minutes and when the price nears the end of the last one",
            ..WINDOW
        },
        BookFeed {
            name: "order_book",
            join: Join::Image,
            rule: Rule::Monotone,
            proof: Proof::None,
            depth: Some(100),
            limits: "whole images: a lost one is healed by the next",
            ..WINDOW
        },
    ],
    trades: &[TradeFeed { name: "trades", proof: Proof::None, aggregated: false }],
    candles: &[CandleFeed { name: "candlesticks 1m", interval: MINUTE }],
};

const WINDOW: BookFeed = BookFeed {
    name: "",
    join: Join::Socket,
    rule: Rule::Chain,
    proof: Proof::Sequence,
    checksum: None,
    digits: false,
    depth: None,
    shows: None,
    refresh: 0,
    limits: "the window's levels only; nothing proves their content",
};

/// Gate.io spot.
#[derive(Clone, Copy, Debug)]
pub struct GateIo;

#[derive(Deserialize)]
struct CurrencyPair {
    id: String,
    base: String,
    quote: String,
    precision: i64,
    amount_precision: i64,
    #[serde(default)]
    trade_status: String,
}

impl Venue for GateIo {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        vec![HttpRequest::get(REST, "/api/v4/spot/currency_pairs")]
    }

    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let pairs: Vec<CurrencyPair> = common::read(body)?;
        out.extend(pairs.into_iter().map(|pair| Listing {
            tick_size: common::step_of_decimals(pair.precision),
            lot_size: common::step_of_decimals(pair.amount_precision),
            status: match pair.trade_status.as_str() {
                "tradable" | "buyable" | "sellable" => Status::Trading,
                _ => Status::Halted,
            },
            ..Listing::spot(&pair.id, &pair.base, &pair.quote)
        }));
        Ok(())
    }

    fn plan(&self, subscriptions: &[Subscription], _: &Instruments) -> Vec<ConnectionPlan> {
        common::split(SOCKET, subscriptions, SPEC.limits.streams)
    }

    fn dial(&self, plan: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Ok(Dial::Connect { url: plan.base.clone(), ping: 10 * SECOND })
    }

    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        let subscriptions = plan.map(|plan| plan.subscriptions.clone()).unwrap_or_default();
        Ok(Box::new(common::load(saved, || GateIoSession { subscriptions, now: 0 })?))
    }

    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, to: Nanos) -> Option<HttpRequest> {
        let (name, _) = INTERVALS.iter().find(|(_, nanos)| *nanos == interval)?;
        let (from, to) = (from.div_euclid(SECOND), (to - 1).div_euclid(SECOND));
        let query = format!("currency_pair={native}&interval={name}&from={from}&to={to}");
        Some(HttpRequest::get(REST, format!("/api/v4/spot/candlesticks?{query}")))
    }

    /// `[["seconds","quote volume","close","high","low","open","base volume","true"]]`, oldest first.
    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let interval = request.query("interval").and_then(|name| interval_of(name.as_bytes()));
        let interval = interval.ok_or_else(|| VenueError::missing("interval"))?;
        let mut c = Cursor::new(body);
        let mut rows = c.array()?;
        while rows.next(&mut c)? {
            let mut row = c.array()?;
            row.more(&mut c)?;
            let open_time = common::time_at(&mut c, SECOND)?;
            let mut numbers = [Decimal::default(); 6];
            for number in &mut numbers {
                row.more(&mut c)?;
                *number = c.decimal()?;
            }
            let mut closed = true;
            if row.next(&mut c)? {
                closed = if c.kind()? == Kind::String { c.str()? == b"true" } else { c.bool()? };
                row.rest(&mut c)?;
            }
            let [notional, close, high, low, open, volume] = numbers;
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
                notional: Some(notional),
                count: None,
                taker_buy: None,
                closed,
                ts_event: None,
            });
        }
        Ok(())
    }
}

/// Intervals of fixed length.
const INTERVALS: [(&str, Nanos); 10] = [
    ("10s", 10 * SECOND),
    ("1m", MINUTE),
    ("5m", 5 * MINUTE),
    ("15m", 15 * MINUTE),
    ("30m", 30 * MINUTE),
    ("1h", 60 * MINUTE),
    ("4h", 240 * MINUTE),
    ("8h", 480 * MINUTE),
    ("1d", DAY),
    ("7d", 7 * DAY),
];

fn interval_of(name: &[u8]) -> Option<Nanos> {
    INTERVALS.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, nanos)| *nanos)
}

/// Rank of the `spot.obu` feed of so many levels.
fn window_feed(levels: u32) -> u8 {
    let narrower = WINDOWS.into_iter().take_while(|window| *window > levels).count();
    OBU + narrower.min(WINDOWS.len() - 1) as u8
}

/// The pair and the levels of `ob.BTC_USDT.400`.
fn window(name: &[u8]) -> Option<(&[u8], u32)> {
    let name = name.strip_prefix(b"ob.")?;
    let dot = name.iter().rposition(|byte| *byte == b'.')?;
    let levels: u32 = std::str::from_utf8(&name[dot + 1..]).ok()?.parse().ok()?;
    (levels > 0).then_some((&name[..dot], levels))
}

#[derive(Serialize, Deserialize)]
struct GateIoSession {
    subscriptions: Vec<Subscription>,
    /// Unix seconds of the last frame: every request must tell the time.
    now: i64,
}

impl Session for GateIoSession {
    fn on_frame(&mut self, frame: Frame<'_>, recv: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        self.now = recv.div_euclid(SECOND);
        match frame {
            Frame::Open { .. } => {
                self.subscribe(out);
                Ok(())
            }
            Frame::Text(text) => self.text(text, out),
            Frame::Http { request, status, body } if request.route().ends_with("/spot/order_book") => {
                common::success(status, body)?;
                let pair = request.query("currency_pair").ok_or_else(|| VenueError::missing("currency_pair"))?;
                snapshot(pair, body, out)
            }
            Frame::Binary(_) | Frame::Http { .. } => Ok(out.unknown()),
            Frame::Close(_) => Ok(()),
        }
    }

    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match scope {
            Scope::Book(id, UPDATE) => {
                let pair = &out.instruments().get(id).native;
                let query = format!("currency_pair={pair}&limit=100&with_id=true");
                out.get(HttpRequest::get(REST, format!("/api/v4/spot/order_book?{query}")));
            }
            Scope::Book(id, feed) => {
                // The next image heals by itself.
                if let Some(levels) = WINDOWS.get(usize::from(feed - OBU)) {
                    let pair = out.instruments().get(id).native.clone();
                    self.again(&pair, *levels, out);
                }
            }
            Scope::Connection => {
                for book in self.subscriptions.iter().filter(|wanted| wanted.channel == Channel::Book) {
                    self.again(&book.native, levels_for(book.depth), out);
                }
            }
        }
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        common::save(self, out);
    }
}

/// The window to subscribe so that `wanted` levels are there; 0 wants all. The one of 100 levels came late and is not
/// documented.
fn levels_for(wanted: u32) -> u32 {
    if (1..=50).contains(&wanted) { 50 } else { 400 }
}

impl GateIoSession {
    fn ask(&self, event: &str, channel: &str, payload: &str, out: &mut Sink<'_>) {
        let time = self.now;
        out.send(&format!(r#"{{"time":{time},"channel":"spot.{channel}","event":"{event}","payload":["{payload}"]}}"#));
    }

    fn subscribe(&self, out: &mut Sink<'_>) {
        let of = |channel| self.subscriptions.iter().filter(move |wanted| wanted.channel == channel);
        for book in of(Channel::Book) {
            self.ask("subscribe", "obu", &format!("ob.{}.{}", book.native, levels_for(book.depth)), out);
        }
        let pairs: Vec<&str> = of(Channel::Trades).map(|wanted| wanted.native.as_str()).collect();
        for pairs in pairs.chunks(PAIRS) {
            self.ask("subscribe", "trades", &pairs.join("\",\""), out);
        }
        for candles in of(Channel::Candles) {
            self.ask("subscribe", "candlesticks", &format!("1m\",\"{}", candles.native), out);
        }
    }

    /// A fresh subscription brings a fresh window.
    fn again(&self, pair: &str, levels: u32, out: &mut Sink<'_>) {
        for event in ["unsubscribe", "subscribe"] {
            self.ask(event, "obu", &format!("ob.{pair}.{levels}"), out);
        }
    }

    fn text(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut channel, mut event, mut result, mut payload) = (&b""[..], None, None, None);
        let (mut head, mut error, mut seconds, mut time) = (None, false, None, None);
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"channel" => {
                    seen.once(0, &c)?;
                    channel = c.str()?;
                }
                b"event" => {
                    seen.once(1, &c)?;
                    event = Some(c.str()?);
                }
                b"result" => {
                    seen.once(2, &c)?;
                    result = Some(c);
                    // The event may stand behind it: most frames change a book, so that is tried.
                    if is_book(channel) && event.is_none_or(|event| event == b"update") {
                        let mut ahead = c;
                        if let Ok(found) = book(channel, &mut ahead, out) {
                            head = Some(found);
                            c = ahead;
                            continue;
                        }
                        out.abandon();
                    }
                    c.skip()?;
                }
                b"payload" => {
                    payload = Some(c);
                    c.skip()?;
                }
                b"error" if !c.null()? => {
                    error = true;
                    c.skip()?;
                }
                b"error" => {}
                b"time" => seconds = Some(common::time_at(&mut c, SECOND)?),
                b"time_ms" => time = Some(common::time_at(&mut c, MILLI)?),
                _ => c.skip()?,
            }
        }
        c.end()?;
        if error {
            let harmless = event == Some(b"unsubscribe") || text.windows(9).any(|window| window == b"Alert sub");
            let class = if harmless { Class::Ignore } else { common::refusal(!self.subscriptions.is_empty()) };
            return Err(VenueError::venue(class, text));
        }
        match event {
            Some(b"update" | b"all") => {
                let mut result = result.ok_or_else(|| VenueError::missing("result"))?;
                match head {
                    Some(head) => Ok(out.book(head)),
                    None => update(channel, time.or(seconds), &mut result, out),
                }
            }
            Some(b"subscribe") => match payload {
                Some(mut payload) => subscribed(channel, &mut payload, out),
                None => Ok(out.known()),
            },
            Some(b"unsubscribe") => Ok(out.known()),
            Some(b"") if channel == b"spot.pong" => Ok(out.known()),
            // The server is about to be replaced.
            Some(b"upgrade") => Err(VenueError::venue(Class::Reconnect, text)),
            _ => Ok(out.unknown()),
        }
    }
}

fn is_book(channel: &[u8]) -> bool {
    matches!(channel, b"spot.obu" | b"spot.order_book_update" | b"spot.order_book")
}

/// The payload of a confirmed subscription, such as `["1m","BTC_USDT"]`.
fn subscribed(channel: &[u8], c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut names = c.array()?;
    while names.next(c)? {
        let name = c.text()?;
        let (channel, feed, pair) = match channel {
            b"spot.obu" => {
                let (pair, levels) = window(name).ok_or_else(|| VenueError::unexpected("name of a book"))?;
                (Channel::Book, window_feed(levels), pair)
            }
            b"spot.order_book_update" => (Channel::Book, UPDATE, name),
            b"spot.order_book" => (Channel::Book, IMAGE, name),
            b"spot.trades" | b"spot.trades_v2" => (Channel::Trades, 0, name),
            b"spot.candlesticks" => {
                names.more(c)?;
                (Channel::Candles, 0, c.str()?)
            }
            _ => return Ok(out.known()),
        };
        let id = out.instrument(pair);
        out.subscribed(channel, feed, id);
        // What follows the pair are levels and intervals.
        if channel == Channel::Book {
            return Ok(names.rest(c)?);
        }
    }
    Ok(())
}

fn update(channel: &[u8], time: Option<Nanos>, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    match channel {
        b"spot.trades" | b"spot.trades_v2" => {
            if c.kind()? != Kind::Array {
                return trade(c, out);
            }
            let mut list = c.array()?;
            while list.next(c)? {
                trade(c, out)?;
            }
            Ok(())
        }
        b"spot.candlesticks" => candle(time, c, out),
        b"spot.tickers" | b"spot.book_ticker" => Ok(out.known()),
        _ if is_book(channel) => {
            let head = book(channel, c, out)?;
            Ok(out.book(head))
        }
        _ => Ok(out.unknown()),
    }
}

/// The result of a book channel: `{"t":ms,"full":true,"s":"ob.BTC_USDT.400","U":first,"u":last,"b":[["p","s"]],"a":[]}`, where
/// older channels name the pair alone and images say `lastUpdateId`, `bids` and `asks`.
fn book(channel: &[u8], c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<BookHead, VenueError> {
    let mut seen = Seen::default();
    let (mut levels, mut first, mut last, mut full, mut time) = (0, None, 0, false, None);
    // Sides that came before the pair.
    let mut late = [None, None];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"s" => {
                seen.once(0, c)?;
                let mut pair = c.str()?;
                if channel == b"spot.obu" {
                    (pair, levels) = window(pair).ok_or_else(|| VenueError::unexpected("name of a book"))?;
                }
                let id = out.instrument(pair);
                out.begin(id);
            }
            b"u" | b"lastUpdateId" => {
                seen.once(1, c)?;
                last = c.int()?;
            }
            b"b" | b"bids" | b"a" | b"asks" => {
                let side = if key[0] == b'b' { Side::Bid } else { Side::Ask };
                seen.once(2 + side as u32, c)?;
                if seen.has(0) {
                    out.pairs(side, c)?;
                } else {
                    late[side as usize] = Some(*c);
                    c.skip()?;
                }
            }
            b"U" => {
                seen.once(4, c)?;
                first = Some(c.int()?);
            }
            b"full" => {
                seen.once(5, c)?;
                full = c.bool()?;
            }
            b"t" => {
                seen.once(6, c)?;
                time = Some(common::time_at(c, MILLI)?);
            }
            _ => c.skip()?,
        }
    }
    // A side without levels may be missing from a window.
    let fields = &["s", "u", "b", "a"];
    common::require(seen, if channel == b"spot.obu" { &fields[..2] } else { fields })?;
    for (side, late) in [Side::Bid, Side::Ask].into_iter().zip(late) {
        if let Some(mut late) = late {
            out.pairs(side, &mut late)?;
        }
    }
    let (feed, depth) = match channel {
        b"spot.obu" => (window_feed(levels), Some(levels)),
        b"spot.order_book_update" => (UPDATE, None),
        _ => (IMAGE, None),
    };
    let (kind, sequence) = match first {
        _ if feed == IMAGE => (BookKind::Image, Sequence::at(last)),
        _ if full => (BookKind::Snapshot, Sequence::at(last)),
        None => return Err(VenueError::missing("U")),
        Some(first) if first > last => return Err(VenueError::unexpected("U beyond u")),
        // Ids have no holes: the one before the first is the message's predecessor.
        Some(first) => (BookKind::Delta, Sequence { previous: first.checked_sub(1), ..Sequence::range(first, last) }),
    };
    Ok(BookHead { sequence: Some(sequence), depth, ts_event: time, ..BookHead::new(feed, kind) })
}

/// `{"id":2691446,"current":ms,"update":ms,"asks":[["p","s"]],"bids":[["p","s"]]}`
fn snapshot(pair: &str, body: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
    let id = out.instrument(pair.as_bytes());
    let mut c = Cursor::new(body);
    let head = BookHead::new(UPDATE, BookKind::Snapshot);
    common::whole_book(&mut c, id, ("id", Some("update")), head, out)?;
    Ok(c.end()?)
}

/// `{"id":..,"create_time_ms":"1619093543708.2642","side":"sell","currency_pair":"DIS_USDT","amount":"0.2","price":"121.58"}`
/// with the taker's side.
fn trade(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut id, mut trade_id, mut time, mut taker) = (InstrumentId(0), &b""[..], 0, Side::Bid);
    let [mut price, mut size] = [Decimal::default(); 2];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"id" => {
                seen.once(0, c)?;
                trade_id = c.text()?;
            }
            b"create_time_ms" => {
                seen.once(1, c)?;
                // Milliseconds with a fraction: six more digits make them nanoseconds.
                time = c.decimal()?.at_scale(6).map_err(|_| VenueError::unexpected("create_time_ms"))?;
            }
            b"side" => {
                seen.once(2, c)?;
                taker = match c.str()? {
                    b"buy" => Side::Bid,
                    b"sell" => Side::Ask,
                    _ => return Err(VenueError::unexpected("side of a trade")),
                };
            }
            b"currency_pair" => {
                seen.once(3, c)?;
                id = out.instrument(c.str()?);
            }
            b"amount" => {
                seen.once(4, c)?;
                size = c.decimal()?;
            }
            b"price" => {
                seen.once(5, c)?;
                price = c.decimal()?;
            }
            _ => c.skip()?,
        }
    }
    common::require(seen, &["id", "create_time_ms", "side", "currency_pair", "amount", "price"])?;
    let (feed, sequence, history, ts_event) = (0, None, false, Some(time));
    out.trade(&TradeItem { feed, id, price, size, taker, trade_id, sequence, history, ts_event })
}

/// `{"t":"seconds","v":quote volume,"c":..,"h":..,"l":..,"o":..,"n":"1m_BTC_USDT","a":base volume,"w":closed}`
fn candle(time: Option<Nanos>, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut name, mut open_time, mut closed) = (&b""[..], 0, false);
    let [mut open, mut high, mut low, mut close, mut notional, mut volume] = [Decimal::default(); 6];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        let (bit, field) = match key {
            b"o" => (2, &mut open),
            b"h" => (3, &mut high),
            b"l" => (4, &mut low),
            b"c" => (5, &mut close),
            b"v" => (6, &mut notional),
            b"a" => (7, &mut volume),
            b"n" => {
                seen.once(0, c)?;
                name = c.str()?;
                continue;
            }
            b"t" => {
                seen.once(1, c)?;
                open_time = common::time_at(c, SECOND)?;
                continue;
            }
            b"w" => {
                closed = c.bool()?;
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
    common::require(seen, &["n", "t", "o", "h", "l", "c", "v"])?;
    let cut = name.iter().position(|byte| *byte == b'_').ok_or_else(|| VenueError::unexpected("name of a candle"))?;
    let (Some(interval), true) = (interval_of(&name[..cut]), seen.has(7)) else { return Ok(out.known()) };
    let id = out.instrument(&name[cut + 1..]);
    out.candle(CandleItem {
        feed: 0,
        id,
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
        closed,
        ts_event: time,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, subscriptions};

    #[test]
    fn subscribing_tells_the_time_and_names_one_pair_a_book() {
        let mut wanted = subscriptions(&["BTC_USDT", "ETH_USDT"], &[Channel::Book, Channel::Trades]);
        wanted[0].depth = 50;
        wanted.extend(subscriptions(&["BTC_USDT"], &[Channel::Candles]));
        let plans = GateIo.plan(&wanted, &Instruments::default());
        let mut bench = Bench::open(&GateIo, plans.first());
        let sent = |what: &str| {
            let (channel, payload) = what.split_once(' ').unwrap();
            format!(r#"{{"time":0,"channel":"spot.{channel}","event":"subscribe","payload":[{payload}]}}"#)
        };
        let asked = [
            r#"obu "ob.BTC_USDT.50""#,
            r#"obu "ob.ETH_USDT.400""#,
            r#"trades "BTC_USDT","ETH_USDT""#,
            r#"candlesticks "1m","BTC_USDT""#,
        ];
        assert_eq!(bench.sent, asked.map(sent));
        assert_eq!([0, 1, 50, 51, 400, 9_000].map(levels_for), [400, 50, 50, 400, 400, 400]);
        assert_eq!([1, 50, 51, 100, 399, 400, 1_000].map(window_feed), [2, 2, 2, 1, 1, 0, 0]);
        bench.text(
            r#"{"channel":"spot.trades","event":"subscribe","error":{"code":2,"message":"unknown currency pair"}}"#,
        );
        assert!(bench.sent[4].starts_with("reconnect fatal=true"));
    }

    #[test]
    fn a_hole_subscribes_anew_at_the_time_of_the_frame() {
        let mut bench = Bench::open(&GateIo, None);
        bench.pass(1_000);
        let frame = |ids: &str| {
            format!(r#"{{"channel":"spot.obu","result":{{"s":"ob.A_B.100",{ids},"b":[["1","1"]]}},"event":"update"}}"#)
        };
        bench.text(&frame(r#""full":true,"u":10"#));
        bench.text(&frame(r#""U":11,"u":12"#));
        assert_eq!(bench.book("A_B"), "Live 1:1 | ");
        bench.text(&frame(r#""U":14,"u":15"#));
        let asked =
            |event| format!(r#"{{"time":1000,"channel":"spot.obu","event":"{event}","payload":["ob.A_B.100"]}}"#);
        assert_eq!(bench.sent, ["unsubscribe", "subscribe"].map(asked));
        assert_eq!(bench.told.0.last().unwrap(), "gap A_B book opened sequence");
        bench.text(r#"{"channel":"","event":"upgrade"}"#);
        assert!(bench.sent[2].starts_with("reconnect fatal=false"));
    }

    #[test]
    fn candles_put_close_before_open() {
        let request = GateIo.candle_request("BTC_USDT", MINUTE, 60 * SECOND, 180 * SECOND).unwrap();
        assert_eq!(request.path, "/api/v4/spot/candlesticks?currency_pair=BTC_USDT&interval=1m&from=60&to=179");
        let body = br#"[["60","25","3","4","1","2","10","true"],["120","9","2","2.5","0.5","1","7","false"]]"#;
        let mut candles = Vec::new();
        GateIo.parse_candles(&request, body, &mut candles).unwrap();
        let row = |candle: &CandleItem| {
            [candle.open, candle.high, candle.low, candle.close, candle.volume].map(|number| number.to_string())
        };
        assert_eq!(row(&candles[0]), ["2", "4", "1", "3", "10"]);
        assert_eq!(candles[0].notional, Some(Decimal::new(25, 0)));
        assert_eq!(candles.iter().map(|candle| candle.closed).collect::<Vec<_>>(), [true, false]);
        assert_eq!(candles[1].open_time, 120 * SECOND);
        assert!(GateIo.candle_request("BTC_USDT", 30 * DAY, 0, 1).is_none());
    }

    #[test]
    fn instruments_come_from_the_list() {
        let body = br#"[{"id":"ETH_USDT","base":"ETH","quote":"USDT","fee":"0.2","precision":2,"amount_precision":4,"trade_status":"untradable","delisting_time":0}]"#;
        let mut listings = Vec::new();
        GateIo.parse_instruments(&GateIo.instrument_requests()[0], body, &mut listings).unwrap();
        let listing = &listings[0];
        assert_eq!((listing.symbol().as_str(), listing.status), ("ETH-USDT", Status::Halted));
        assert_eq!((listing.tick_size, listing.lot_size), (Some(Decimal::new(1, 2)), Some(Decimal::new(1, 4))));
    }
}
