//! Upbit (Korea), public WebSocket v1: <https://global-docs.upbit.com>.
//!
//! Frames are binary and hold JSON, under long names or short ones. Every request replaces all that the connection
//! had subscribed, and nothing is acknowledged. Every book message is the whole book down to the subscribed depth;
//! nothing numbers them. A market in which nothing happens sends nothing.

use coby_core::decimal::Decimal;
use coby_core::instrument::{InstrumentId, Instruments, Listing};
use coby_core::level::Side;
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Kind, Seen};
use coby_core::sink::{self, BookKind};
use coby_core::time::{DAY, MICRO, MILLI, MINUTE, SECOND, rfc3339};
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, ConnectionPlan, Dial, Frame, Join, Limits, Ping, Proof, Rule,
    Scope, Sequence, Session, Sink, Subscription, TradeFeed, TradeItem, Venue, VenueError, VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;

const REST: &str = "https://api.upbit.com";
const SOCKET: &str = "wss://api.upbit.com/websocket/v1";
const BOOKS: &str = "/v1/orderbook";
const TICKS: &str = "/v1/orderbook/instruments";

/// Depths that can be subscribed.
const DEPTHS: [u32; 4] = [1, 5, 15, 30];
/// Candles of one answer.
const CANDLES: i64 = 200;

static SPEC: VenueSpec = VenueSpec {
    id: "upbit",
    name: "Upbit",
    protocol: "2025-12",
    closed: None,
    sockets: &[SOCKET],
    rest: REST,
    ping: Ping::Text("PING"),
    silence: 50,
    // One request names all markets.
    limits: Limits { dials: (5, 1), messages: (4, 1), spacing: 0, streams: 1_500, rest: (10, 1), lifetime: 0 },
    books: &[BookFeed {
        name: "orderbook",
        join: Join::Image,
        rule: Rule::Monotone,
        proof: Proof::None,
        checksum: None,
        digits: false,
        depth: Some(30),
        shows: None,
        refresh: 600,
        limits: "whole images, sent on a change: a lost one is healed by the next, and on a quiet market by one that is \
                 requested every ten minutes",
    }],
    trades: &[TradeFeed { name: "trade", proof: Proof::None, aggregated: false }],
    candles: &[CandleFeed { name: "candle.1m", interval: MINUTE }],
};

/// Upbit.
#[derive(Clone, Copy, Debug)]
pub struct Upbit;

#[derive(Deserialize)]
struct Market {
    market: String,
}

impl Venue for Upbit {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        vec![HttpRequest::get(REST, "/v1/market/all?is_details=true")]
    }

    /// The list has codes only, quote first. Steps of won prices depend on the price; volumes have eight decimals.
    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let markets: Vec<Market> = common::read(body)?;
        for Market { market } in markets {
            let Some((quote, base)) = market.split_once('-') else { continue };
            out.push(Listing { lot_size: Some(Decimal::new(1, 8)), ..Listing::spot(&market, base, quote) });
        }
        Ok(())
    }

    fn plan(&self, subscriptions: &[Subscription], instruments: &Instruments) -> Vec<ConnectionPlan> {
        // One unknown code spoils the whole request.
        common::split(SOCKET, &common::listed(subscriptions, instruments), SPEC.limits.streams)
    }

    fn dial(&self, plan: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Ok(Dial::Connect { url: plan.base.clone(), ping: 20 * SECOND })
    }

    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        let subscriptions = plan.map(|plan| plan.subscriptions.clone()).unwrap_or_default();
        Ok(Box::new(common::load(saved, || UpbitSession { subscriptions })?))
    }

    /// The newest candles before `to`, which is exclusive; minutes without a trade have none.
    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, to: Nanos) -> Option<HttpRequest> {
        let (name, _) = INTERVALS.iter().find(|(_, nanos)| *nanos == interval)?;
        let count = ((to - from) / interval).clamp(1, CANDLES);
        let path = format!("/v1/candles/{name}?market={native}&to={}&count={count}", common::iso(to));
        Some(HttpRequest::get(REST, path))
    }

    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let name = request.route().strip_prefix("/v1/candles/");
        let interval = INTERVALS.iter().find(|(known, _)| Some(*known) == name).map(|(_, nanos)| *nanos);
        let interval = interval.ok_or_else(|| VenueError::missing("interval"))?;
        let mut c = Cursor::new(body);
        let mut rows = c.array()?;
        while rows.next(&mut c)? {
            let (_, candle) = candle(interval, &mut c)?;
            out.push(CandleItem { closed: true, ..candle });
        }
        Ok(())
    }
}

/// Intervals under the names that REST gives them; months and years have no fixed length.
const INTERVALS: [(&str, Nanos); 11] = [
    ("seconds", SECOND),
    ("minutes/1", MINUTE),
    ("minutes/3", 3 * MINUTE),
    ("minutes/5", 5 * MINUTE),
    ("minutes/10", 10 * MINUTE),
    ("minutes/15", 15 * MINUTE),
    ("minutes/30", 30 * MINUTE),
    ("minutes/60", 60 * MINUTE),
    ("minutes/240", 240 * MINUTE),
    ("days", DAY),
    ("weeks", 7 * DAY),
];

/// `1s`, `1m`, `240m`: the intervals of the socket.
fn interval_of(name: &[u8]) -> Option<Nanos> {
    let (last, count) = name.split_last()?;
    let unit = match last {
        b's' => SECOND,
        b'm' => MINUTE,
        _ => return None,
    };
    let count: Nanos = std::str::from_utf8(count).ok()?.parse().ok()?;
    (1..=240).contains(&count).then(|| count * unit)
}

/// The depth to subscribe so that `wanted` levels are there; 0 wants all.
fn depth_for(wanted: u32) -> u32 {
    let most = DEPTHS[DEPTHS.len() - 1];
    if wanted == 0 { most } else { DEPTHS.into_iter().find(|depth| *depth >= wanted).unwrap_or(most) }
}

/// Milliseconds; some old messages have microseconds.
fn moment(c: &mut Cursor<'_>) -> Result<Nanos, VenueError> {
    let count = c.int()?;
    common::time(count, if count < 100_000_000_000_000 { MILLI } else { MICRO })
}

#[derive(Serialize, Deserialize)]
struct UpbitSession {
    subscriptions: Vec<Subscription>,
}

impl Session for UpbitSession {
    fn usual(&mut self, text: &[u8], out: &mut Sink<'_>) -> Option<()> {
        usual(text, out)
    }

    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            Frame::Open { .. } => {
                self.subscribe(out);
                Ok(())
            }
            Frame::Binary(bytes) => {
                if usual(bytes, out).is_some() {
                    return Ok(());
                }
                out.restart();
                if std::str::from_utf8(bytes).is_err() {
                    return Err(VenueError::unexpected("bytes: not UTF-8"));
                }
                self.messages(bytes, out)
            }
            Frame::Text(bytes) => self.messages(bytes, out),
            Frame::Http { request, status, body } if request.route() == BOOKS => {
                common::success(status, body)?;
                let mut c = Cursor::new(body);
                let mut list = c.array()?;
                while list.next(&mut c)? {
                    book(&mut c, out)?;
                }
                Ok(c.end()?)
            }
            // Tick sizes, which recordings hold.
            Frame::Http { request, .. } if request.route() == TICKS => Ok(out.known()),
            Frame::Http { .. } => Ok(out.unknown()),
            Frame::Close(_) => Ok(()),
        }
    }

    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match scope {
            Scope::Book(id, _) => {
                let native = &out.instruments().get(id).native;
                let wanted = self.of(Channel::Book).find(|book| book.native == *native).map_or(0, |book| book.depth);
                let path = format!("{BOOKS}?markets={native}&count={}", depth_for(wanted));
                out.get(HttpRequest::get(REST, path));
            }
            Scope::Connection => self.subscribe(out),
        }
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        common::save(self, out);
    }
}

impl UpbitSession {
    fn of(&self, channel: Channel) -> impl Iterator<Item = &Subscription> {
        self.subscriptions.iter().filter(move |wanted| wanted.channel == channel)
    }

    /// One request for everything, answered by a snapshot of each.
    fn subscribe(&self, out: &mut Sink<'_>) {
        let mut parts = vec![r#"{"ticket":"coby"}"#.to_owned()];
        for (channel, name) in
            [(Channel::Book, "orderbook"), (Channel::Trades, "trade"), (Channel::Candles, "candle.1m")]
        {
            // Where no depth is named, it is the greatest.
            let code = |wanted: &Subscription| match depth_for(wanted.depth) {
                depth if channel == Channel::Book && depth < 30 => format!("{}.{depth}", wanted.native),
                _ => wanted.native.clone(),
            };
            let codes: Vec<String> = self.of(channel).map(code).collect();
            if !codes.is_empty() {
                parts.push(format!(r#"{{"type":"{name}","codes":["{}"]}}"#, codes.join("\",\"")));
            }
        }
        if parts.len() > 1 {
            out.send(&format!(r#"[{},{{"format":"DEFAULT"}}]"#, parts.join(",")));
        }
    }

    fn messages(&self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut c = Cursor::new(text);
        if c.kind()? == Kind::Array {
            // The list formats gather messages.
            let mut list = c.array()?;
            while list.next(&mut c)? {
                self.message(&mut c, out)?;
            }
        } else {
            self.message(&mut c, out)?;
        }
        Ok(c.end()?)
    }

    fn message(&self, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        // The kind stands first in every message seen so far.
        let mut ahead = *c;
        let mut o = ahead.object()?;
        let mut status = false;
        let kind = loop {
            match o.key(&mut ahead)? {
                Some(b"type" | b"ty") => break Some(ahead.str()?),
                Some(b"error") => return Err(self.refused(c.raw()?)),
                Some(key) => {
                    status |= key == b"status";
                    ahead.skip()?;
                }
                None => break None,
            }
        };
        match kind {
            Some(b"orderbook") => return book(c, out),
            Some(b"trade") => return trade(c, out),
            Some(kind) if kind.starts_with(b"candle.") => {
                if let Some(interval) = interval_of(&kind[7..]) {
                    let (code, candle) = candle(interval, c)?;
                    let id = out.instrument(code);
                    return Ok(out.candle(CandleItem { id, ..candle }));
                }
            }
            // `{"status":"UP"}` answers a ping.
            None if status => out.known(),
            Some(b"ticker") => out.known(),
            _ => out.unknown(),
        }
        Ok(c.skip()?)
    }

    /// `{"error":{"name":"INVALID_PARAM","message":".."}}`
    fn refused(&self, text: &[u8]) -> VenueError {
        VenueError::venue(common::refusal(!self.subscriptions.is_empty()), text)
    }
}

/// `{"type":"orderbook","code":"..","timestamp":..,"total_ask_size":..,"total_bid_size":..,"orderbook_units":[..],`
/// `"stream_type":"..","level":0}` to the letter
fn usual(text: &[u8], out: &mut Sink<'_>) -> Option<()> {
    let mut c = Cursor::new(text);
    c.literal(br#"{"type":"orderbook","code":""#)?;
    let id = out.usual_instrument(c.plain()?)?;
    out.begin(id);
    c.literal(br#","timestamp":"#)?;
    let time = moment(&mut c).ok()?;
    c.literal(br#","total_ask_size":"#)?;
    c.bare_decimal()?;
    c.literal(br#","total_bid_size":"#)?;
    c.bare_decimal()?;
    c.literal(br#","orderbook_units":["#)?;
    usual_units(&mut c, out)?;
    c.literal(br#","stream_type":""#)?;
    c.plain()?;
    c.literal(br#","level":0}"#)?;
    c.done()?;
    let sequence = Some(Sequence::at(time));
    out.book(BookHead { sequence, ts_event: Some(time), ..BookHead::new(0, BookKind::Image) });
    Some(())
}

/// `{"ask_price":..,"bid_price":..,"ask_size":..,"bid_size":..},..]`
fn usual_units(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Option<()> {
    if c.literal(b"]").is_some() {
        return Some(());
    }
    loop {
        c.literal(br#"{"ask_price":"#)?;
        let ask = c.bare_decimal()?;
        c.literal(br#","bid_price":"#)?;
        let bid = c.bare_decimal()?;
        c.literal(br#","ask_size":"#)?;
        let ask_size = c.bare_decimal()?;
        c.literal(br#","bid_size":"#)?;
        let bid_size = c.bare_decimal()?;
        if ask.mantissa != 0 {
            out.usual_level(Side::Ask, ask, ask_size)?;
        }
        if bid.mantissa != 0 {
            out.usual_level(Side::Bid, bid, bid_size)?;
        }
        if c.literal(b"},").is_none() {
            return c.literal(b"}]");
        }
    }
}

/// `{"code":"KRW-ETH","timestamp":1746601573804,"orderbook_units":[..],"level":0}`; REST says `market` for `code`.
fn book(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut time, mut late, mut coarse) = (0, None, false);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"code" | b"cd" | b"market" => {
                seen.once(0, c)?;
                let id = out.instrument(c.str()?);
                out.begin(id);
            }
            b"timestamp" | b"tms" => {
                seen.once(1, c)?;
                time = moment(c)?;
            }
            b"orderbook_units" | b"obu" => {
                seen.once(2, c)?;
                if seen.has(0) {
                    units(c, out)?;
                } else {
                    late = Some(*c);
                    c.skip()?;
                }
            }
            // Prices gathered into steps of so much are another book.
            b"level" | b"lv" if !c.null()? => coarse = c.decimal()?.mantissa != 0,
            b"level" | b"lv" => {}
            _ => c.skip()?,
        }
    }
    common::require(seen, &["code", "timestamp", "orderbook_units"])?;
    if coarse {
        out.abandon();
        return Ok(out.known());
    }
    if let Some(mut late) = late {
        units(&mut late, out)?;
    }
    let sequence = Some(Sequence::at(time));
    Ok(out.book(BookHead { sequence, ts_event: Some(time), ..BookHead::new(0, BookKind::Image) }))
}

/// `[{"ask_price":137002000,"bid_price":137001000,"ask_size":0.10623869,"bid_size":0.03656812}]`; a price of 0 is no level.
fn units(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut list = c.array()?;
    while list.next(c)? {
        let mut seen = Seen::default();
        let [mut prices, mut sizes] = [[Decimal::default(); 2]; 2];
        let mut o = c.object()?;
        while let Some(key) = o.key(c)? {
            match key {
                b"bid_price" | b"bp" => {
                    seen.once(0, c)?;
                    prices[0] = sink::price(c)?;
                }
                b"bid_size" | b"bs" => {
                    seen.once(1, c)?;
                    sizes[0] = sink::size(c)?;
                }
                b"ask_price" | b"ap" => {
                    seen.once(2, c)?;
                    prices[1] = sink::price(c)?;
                }
                b"ask_size" | b"as" => {
                    seen.once(3, c)?;
                    sizes[1] = sink::size(c)?;
                }
                _ => c.skip()?,
            }
        }
        common::require(seen, &["bid_price", "bid_size", "ask_price", "ask_size"])?;
        for ((side, price), size) in [Side::Bid, Side::Ask].into_iter().zip(prices).zip(sizes) {
            if price.mantissa != 0 {
                out.level(side, price, size)?;
            }
        }
    }
    Ok(())
}

/// `{"code":"KRW-ETH","trade_price":37625,"trade_volume":8.428e-05,"ask_bid":"ASK","trade_timestamp":1696585056846,
/// "sequential_id":1696585056846000,"stream_type":"SNAPSHOT"}`: the taker's side, and a snapshot tells the last trade again.
fn trade(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut id, mut trade_id, mut taker, mut time) = (InstrumentId(0), &b""[..], Side::Bid, None);
    let ([mut price, mut size], mut history) = ([Decimal::default(); 2], false);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"code" | b"cd" => {
                seen.once(0, c)?;
                id = out.instrument(c.str()?);
            }
            b"trade_price" | b"tp" => {
                seen.once(1, c)?;
                price = c.decimal()?;
            }
            b"trade_volume" | b"tv" => {
                seen.once(2, c)?;
                size = c.decimal()?;
            }
            b"ask_bid" | b"ab" => {
                seen.once(3, c)?;
                taker = match c.str()? {
                    b"ASK" => Side::Ask,
                    b"BID" => Side::Bid,
                    _ => return Err(VenueError::unexpected("side of a trade")),
                };
            }
            b"sequential_id" | b"sid" => {
                seen.once(4, c)?;
                trade_id = c.text()?;
            }
            b"trade_timestamp" | b"ttms" => time = Some(moment(c)?),
            b"stream_type" | b"st" => history = c.str()? == b"SNAPSHOT",
            _ => c.skip()?,
        }
    }
    common::require(seen, &["code", "trade_price", "trade_volume", "ask_bid", "sequential_id"])?;
    let (feed, sequence) = (0, None);
    out.trade(&TradeItem { feed, id, price, size, taker, trade_id, sequence, history, ts_event: time })
}

/// What a candle must have, in the order of its bits.
const CANDLE_FIELDS: [&str; 8] = [
    "opening_price",
    "high_price",
    "low_price",
    "trade_price",
    "candle_acc_trade_volume",
    "candle_acc_trade_price",
    "code",
    "candle_date_time_utc",
];

/// `{"code":"KRW-ETH","candle_date_time_utc":"2025-01-02T04:28:00","opening_price":..,"high_price":..,"low_price":..,
/// "trade_price":..,"candle_acc_trade_volume":..,"candle_acc_trade_price":..,"timestamp":..}` and the code.
fn candle<'a>(interval: Nanos, c: &mut Cursor<'a>) -> Result<(&'a [u8], CandleItem), VenueError> {
    let mut seen = Seen::default();
    let (mut code, mut open_time, mut time) = (&b""[..], None, None);
    let [mut open, mut high, mut low, mut close, mut volume, mut notional] = [Decimal::default(); 6];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        let (bit, field) = match key {
            b"opening_price" | b"op" => (0, &mut open),
            b"high_price" | b"hp" => (1, &mut high),
            b"low_price" | b"lp" => (2, &mut low),
            b"trade_price" | b"tp" => (3, &mut close),
            b"candle_acc_trade_volume" | b"catv" => (4, &mut volume),
            b"candle_acc_trade_price" | b"catp" => (5, &mut notional),
            b"code" | b"cd" | b"market" => {
                seen.once(6, c)?;
                code = c.str()?;
                continue;
            }
            b"candle_date_time_utc" | b"cdttmu" => {
                seen.once(7, c)?;
                open_time = rfc3339(&[c.str()?, b"Z"].concat());
                continue;
            }
            b"timestamp" | b"tms" => {
                time = Some(moment(c)?);
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
    common::require(seen, &CANDLE_FIELDS)?;
    let open_time = open_time.ok_or_else(|| VenueError::unexpected("candle_date_time_utc"))?;
    let candle = CandleItem {
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
        // Final once a later one begins; no message says so.
        closed: false,
        ts_event: time,
    };
    Ok((code, candle))
}

#[cfg(test)]
mod tests {
    use coby_core::venue::Class;

    use super::*;
    use crate::testing::{Bench, subscriptions};

    #[test]
    fn one_request_names_everything_that_is_listed() {
        let mut instruments = Instruments::default();
        let mut wanted = subscriptions(&["KRW-BTC", "USDT-BTC"], &[Channel::Book, Channel::Trades, Channel::Candles]);
        wanted.extend(subscriptions(&["KRW-NOPE"], &[Channel::Trades]));
        wanted[0].depth = 6;
        assert_eq!(Upbit.plan(&wanted, &instruments)[0].subscriptions.len(), 7);
        for native in ["KRW-BTC", "USDT-BTC"] {
            instruments.list(Listing::spot(native, "BTC", &native[..native.len() - 4]));
        }
        let plans = Upbit.plan(&wanted, &instruments);
        assert_eq!(plans.len(), 1);
        let mut bench = Bench::open(&Upbit, plans.first());
        let both = r#""codes":["KRW-BTC","USDT-BTC"]"#;
        let books = r#"{"type":"orderbook","codes":["KRW-BTC.15","USDT-BTC"]}"#;
        let others = format!(r#"{{"type":"trade",{both}}},{{"type":"candle.1m",{both}}}"#);
        let request = format!(r#"[{{"ticket":"coby"}},{books},{others},{{"format":"DEFAULT"}}]"#);
        assert_eq!(bench.sent.join(""), request);
        // A frame that cannot be read may have been anything: all starts again. One book alone is read over REST.
        bench.text("[");
        bench.text(r#"{"type":"orderbook","code":"KRW-BTC","timestamp":1,"orderbook_units":[{"bid_price":10,"bid_size":1,"ask_price":11,"ask_size":1}]}"#);
        bench.text(r#"{"type":"orderbook","code":"KRW-BTC","timestamp":2,"orderbook_units":[{}]}"#);
        assert_eq!(bench.sent[1..], [request, "GET /v1/orderbook?markets=KRW-BTC&count=15".into()]);
        bench.http(
            "/v1/orderbook?markets=KRW-BTC&count=15",
            r#"[{"market":"KRW-BTC","timestamp":3,"orderbook_units":[{"bid_price":9,"bid_size":1,"ask_price":0,"ask_size":0}],"level":0}]"#,
        );
        assert_eq!(bench.book("KRW-BTC"), "Live 9:1 | ");
        bench.text(r#"{"error":{"name":"NO_CODES","message":"codes is required"}}"#);
        assert!(bench.sent[3].starts_with("reconnect fatal=true"));
    }

    #[test]
    fn a_quiet_book_is_read_again() {
        let mut bench = Bench::open(&Upbit, None);
        bench.text(r#"{"type":"orderbook","code":"KRW-BTC","timestamp":1,"orderbook_units":[{"bid_price":10,"bid_size":1,"ask_price":11,"ask_size":1}]}"#);
        bench.pass(599);
        assert!(bench.sent.is_empty(), "{:?}", bench.sent);
        bench.pass(2);
        assert_eq!(bench.sent, ["GET /v1/orderbook?markets=KRW-BTC&count=30"]);
    }

    #[test]
    fn candles_come_from_the_answer() {
        let request = Upbit.candle_request("KRW-BTC", MINUTE, 1_735_792_080 * SECOND, 1_735_792_200 * SECOND).unwrap();
        assert_eq!(request.path, "/v1/candles/minutes/1?market=KRW-BTC&to=2025-01-02T04:30:00Z&count=2");
        let body = br#"[{"market":"KRW-BTC","candle_date_time_utc":"2025-01-02T04:29:00","opening_price":1.0,"high_price":4.0,"low_price":0.5,"trade_price":2.0,"timestamp":1735792195824,"candle_acc_trade_price":21.5,"candle_acc_trade_volume":10.5,"unit":1}]"#;
        let mut candles = Vec::new();
        Upbit.parse_candles(&request, body, &mut candles).unwrap();
        let CandleItem { open, high, low, close, volume, open_time, interval, closed, .. } = candles[0];
        let numbers = [open, high, low, close, volume].map(|number| number.to_string());
        assert_eq!(numbers, ["1", "4", "0.5", "2", "10.5"]);
        assert_eq!((open_time, interval, closed), (1_735_792_140 * SECOND, MINUTE, true));
        assert!(Upbit.candle_request("KRW-BTC", 7 * MINUTE, 0, 1).is_none());
        let refused = Upbit.parse_candles(&request, br#"{"error":{"name":"x"}}"#, &mut candles);
        assert_eq!(refused.unwrap_err().class, Class::Resync);
        let names = [&b"1s"[..], b"60m", b"1d", b"m", b"0m", b"-1m"].map(interval_of);
        assert_eq!(names, [Some(SECOND), Some(60 * MINUTE), None, None, None, None]);
        assert_eq!([0, 1, 2, 16, 99].map(depth_for), [30, 1, 5, 30, 30]);
    }
}
