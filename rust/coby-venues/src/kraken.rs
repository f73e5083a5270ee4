//! Kraken spot, WebSocket v2: <https://docs.kraken.com/api/docs/websocket-v2/book>.
//!
//! Book: a snapshot comes with the subscription, then changes without numbers. Both sides are cut to the
//! subscribed depth after every message, and each message carries a CRC-32 of the ten best levels as printed.
//! Where neither plan nor answer tell the depth, the snapshot's size does.

use coby_core::decimal::{Decimal, POW10};
use coby_core::instrument::{InstrumentId, Instruments, Listing, Status};
use coby_core::level::{Level, Side};
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Seen};
use coby_core::sink::BookKind;
use coby_core::time::{DAY, Day, MINUTE, SECOND};
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, ChecksumSpec, Class, ConnectionPlan, Dial, Frame, Join,
    Limits, Ping, Proof, Rule, Scope, Session, Sink, Subscription, TopLevels, TradeFeed, TradeItem, Venue, VenueError,
    VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;

const REST: &str = "https://api.kraken.com";
const SOCKET: &str = "wss://ws.kraken.com/v2";

/// Depths that can be subscribed.
const DEPTHS: [u32; 5] = [10, 25, 100, 500, 1_000];
/// Symbols per subscribe message.
const SYMBOLS: usize = 100;

static SPEC: VenueSpec = VenueSpec {
    id: "kraken",
    name: "Kraken",
    protocol: "2026-08",
    closed: None,
    sockets: &[SOCKET],
    rest: REST,
    ping: Ping::Text(r#"{"method":"ping"}"#),
    // Heartbeats come every second.
    silence: 15,
    // The venue publishes no limit of messages.
    limits: Limits { dials: (150, 600), messages: (5, 1), spacing: 0, streams: 250, rest: (1, 1), lifetime: 0 },
    books: &[BookFeed {
        name: "book",
        join: Join::Socket,
        rule: Rule::None,
        proof: Proof::Checksum,
        checksum: Some(ChecksumSpec { levels: 10 }),
        digits: true,
        depth: Some(1_000),
        shows: None,
        refresh: 0,
        limits: "the checksum covers ten levels a side: a lost change further down shows when the price comes there",
    }],
    trades: &[TradeFeed { name: "trade", proof: Proof::Sequence, aggregated: false }],
    candles: &[CandleFeed { name: "ohlc-1", interval: MINUTE }],
};

/// Kraken spot.
#[derive(Clone, Copy, Debug)]
pub struct Kraken;

#[derive(Deserialize)]
struct Answer<T> {
    #[serde(default)]
    error: Vec<String>,
    result: Option<T>,
}

#[derive(Deserialize)]
struct AssetPair {
    wsname: Option<String>,
    pair_decimals: i64,
    lot_decimals: i64,
    tick_size: Option<String>,
    #[serde(default)]
    status: String,
}

/// The result of a REST answer, which comes with a list of errors.
fn answered<T: for<'d> Deserialize<'d>>(body: &[u8]) -> Result<T, VenueError> {
    match common::read(body)? {
        Answer { error, result: Some(result) } if error.is_empty() => Ok(result),
        _ => Err(VenueError::venue(Class::Ignore, body)),
    }
}

/// Old names of assets and those that everyone else uses.
const RENAMED: [(&str, &str); 2] = [("XBT", "BTC"), ("XDG", "DOGE")];

fn modern(asset: &str) -> &str {
    RENAMED.iter().find(|(old, _)| *old == asset).map_or(asset, |(_, new)| new)
}

fn old(asset: &str) -> &str {
    RENAMED.iter().find(|(_, new)| *new == asset).map_or(asset, |(old, _)| old)
}

impl Venue for Kraken {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        vec![HttpRequest::get(REST, "/0/public/AssetPairs")]
    }

    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let pairs: std::collections::BTreeMap<String, AssetPair> = answered(body)?;
        for pair in pairs.into_values() {
            // Pairs that no feed carries have no such name.
            let Some((base, quote)) = pair.wsname.as_deref().and_then(|name| name.split_once('/')) else { continue };
            let (base, quote) = (modern(base), modern(quote));
            let tick_size = pair.tick_size.as_deref().and_then(common::step);
            out.push(Listing {
                tick_size: tick_size.or_else(|| common::step_of_decimals(pair.pair_decimals)),
                lot_size: common::step_of_decimals(pair.lot_decimals),
                status: match pair.status.as_str() {
                    "online" | "limit_only" | "reduce_only" => Status::Trading,
                    "delisted" => Status::Delisted,
                    _ => Status::Halted,
                },
                ..Listing::spot(&format!("{base}/{quote}"), base, quote)
            });
        }
        Ok(())
    }

    fn plan(&self, subscriptions: &[Subscription], _: &Instruments) -> Vec<ConnectionPlan> {
        common::split(SOCKET, subscriptions, SPEC.limits.streams)
    }

    fn dial(&self, plan: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Ok(Dial::Connect { url: plan.base.clone(), ping: 30 * SECOND })
    }

    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        let subscriptions = plan.map(|plan| plan.subscriptions.clone()).unwrap_or_default();
        Ok(Box::new(common::load(saved, || KrakenSession { subscriptions, depths: Vec::new(), day: Day::default() })?))
    }

    /// CRC-32 of the ten best asks, then bids, each as the digits of price and size without point and leading zeros.
    fn checksum(&self, _: u8, top: TopLevels<'_>) -> u32 {
        let mut printed = Printed::new();
        for level in top.asks.iter().chain(top.bids) {
            let Level { price, size, digits } = *level;
            printed.push(price, top.price_scale, digits.price);
            printed.push(size, top.size_scale, digits.size);
        }
        printed.checksum()
    }

    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, _: Nanos) -> Option<HttpRequest> {
        let minutes = interval / MINUTE;
        if interval % MINUTE != 0 || ![1, 5, 15, 30, 60, 240, 1_440, 10_080, 21_600].contains(&minutes) {
            return None;
        }
        let (base, quote) = native.split_once('/')?;
        // Candles after `since`, which is exclusive; 720 at most, and no end can be named.
        let (pair, since) = (format!("{}{}", old(base), old(quote)), from.div_euclid(SECOND) - 1);
        Some(HttpRequest::get(REST, format!("/0/public/OHLC?pair={pair}&interval={minutes}&since={since}")))
    }

    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let minutes = request.query("interval").and_then(|minutes| minutes.parse().ok());
        let interval = common::time(minutes.ok_or_else(|| VenueError::missing("interval"))?, MINUTE)?;
        let Some(mut c) = Cursor::new(body).find(b"result")? else {
            return Err(VenueError::venue(Class::Ignore, body));
        };
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            if key == b"last" {
                c.skip()?;
                continue;
            }
            let first = out.len();
            let mut rows = c.array()?;
            while rows.next(&mut c)? {
                out.push(candle_row(&mut c, interval)?);
            }
            // The newest is still running.
            if let Some(last) = out[first..].last_mut() {
                last.closed = false;
            }
        }
        Ok(())
    }
}

/// `[time in seconds, "open", "high", "low", "close", "vwap", "volume", count]`
fn candle_row(c: &mut Cursor<'_>, interval: Nanos) -> Result<CandleItem, VenueError> {
    let mut row = c.array()?;
    row.more(c)?;
    let open_time = common::time_at(c, SECOND)?;
    let mut numbers = [Decimal::default(); 6];
    for number in &mut numbers {
        row.more(c)?;
        *number = c.decimal()?;
    }
    row.more(c)?;
    let count = Some(c.int()?);
    row.rest(c)?;
    let [open, high, low, close, _, volume] = numbers;
    let (id, closed, ts_event) = (InstrumentId(0), true, None);
    let (notional, taker_buy) = (None, None);
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
        count,
        taker_buy,
        closed,
        ts_event,
    })
}

/// Numbers one behind the other, each as its digits are printed, without point and leading zeros.
struct Printed {
    hasher: crc32fast::Hasher,
    /// What the hasher has not had: it is made for long texts.
    buffer: [u8; 512],
    end: usize,
}

/// The most digits of a number: 20 of its mantissa and 18 zeros.
const DIGITS: usize = 38;

impl Printed {
    fn new() -> Self {
        Self { hasher: crc32fast::Hasher::new(), buffer: [0; 512], end: 0 }
    }

    #[inline]
    fn push(&mut self, mantissa: i64, scale: u8, digits: u8) {
        const EIGHT: u64 = POW10[8] as u64;
        // A number printed with fewer digits than the book's scale ends in zeros there, and those go.
        let mut rest = mantissa.unsigned_abs();
        if digits < scale {
            rest /= POW10[(scale - digits).min(18) as usize] as u64;
        }
        if rest == 0 {
            return;
        }
        if self.end + DIGITS > self.buffer.len() {
            self.hasher.update(&self.buffer[..self.end]);
            self.end = 0;
        }
        if rest < EIGHT {
            self.eight(rest, true);
        } else if rest < EIGHT * EIGHT {
            self.eight(rest / EIGHT, true);
            self.eight(rest % EIGHT, false);
        } else {
            let high = rest / EIGHT;
            self.eight(high / EIGHT, true);
            self.eight(high % EIGHT, false);
            self.eight(rest % EIGHT, false);
        }
        if digits > scale {
            let zeros = usize::from((digits - scale).min(18));
            self.buffer[self.end..][..zeros].fill(b'0');
            self.end += zeros;
        }
    }

    /// Eight digits, or as many as there are without leading zeros.
    #[inline(always)]
    fn eight(&mut self, number: u64, trimmed: bool) {
        let digits = eight_digits(number);
        let leading = if trimmed { (digits.trailing_zeros() / 8).min(7) } else { 0 };
        let text = (digits | u64::from_le_bytes([b'0'; 8])) >> (8 * leading);
        self.buffer[self.end..][..8].copy_from_slice(&text.to_le_bytes());
        self.end += 8 - leading as usize;
    }

    fn checksum(&mut self) -> u32 {
        self.hasher.update(&self.buffer[..self.end]);
        std::mem::take(&mut self.hasher).finalize()
    }
}

/// The digits of a number below 10^8, the first one in the lowest byte: halved to fours, pairs and digits, all at once.
#[inline]
fn eight_digits(number: u64) -> u64 {
    // Divisions by 100 and 10 as multiplications, exact for numbers below 10^4 and 10^2.
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let pairs = hundreds | ((fours - 100 * hundreds) << 16);
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((pairs - 10 * tens) << 8)
}

/// The depth to subscribe so that `wanted` levels are there; 0 wants all.
fn depth_for(wanted: u32) -> u32 {
    let most = DEPTHS[DEPTHS.len() - 1];
    if wanted == 0 { most } else { DEPTHS.into_iter().find(|depth| *depth >= wanted).unwrap_or(most) }
}

#[derive(Serialize, Deserialize)]
struct KrakenSession {
    subscriptions: Vec<Subscription>,
    /// Subscribed depth by instrument, 0 where it is not known.
    depths: Vec<u32>,
    /// Not part of the state: it only saves time.
    #[serde(skip)]
    day: Day,
}

impl Session for KrakenSession {
    /// `{"channel":"book","type":"update","data":[{"symbol":"..","bids":[{"price":p,"qty":q}],"asks":[..],"checksum":..,`
    /// `"timestamp":".."}]}` to the letter
    fn usual(&mut self, text: &[u8], out: &mut Sink<'_>) -> Option<()> {
        let mut c = Cursor::new(text);
        c.literal(br#"{"channel":"book","type":"update","data":[{"symbol":""#)?;
        let id = out.usual_instrument(c.plain()?)?;
        out.begin(id);
        c.literal(br#","bids":["#)?;
        usual_levels(Side::Bid, &mut c, out)?;
        c.literal(br#","asks":["#)?;
        usual_levels(Side::Ask, &mut c, out)?;
        c.literal(br#","checksum":"#)?;
        let checksum = u32::try_from(c.digits()?).ok()?;
        c.literal(br#","timestamp":""#)?;
        let time = self.day.rfc3339(c.before_end(br#""}]}"#)?)?;
        let depth = Some(self.depth(id)).filter(|depth| *depth > 0);
        let head = BookHead::new(0, BookKind::Delta);
        out.book(BookHead { depth, checksum: Some(checksum), ts_event: Some(time), ..head });
        Some(())
    }

    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            Frame::Open { .. } => {
                self.subscribe(out);
                Ok(())
            }
            // Frames of the older v1 are arrays.
            Frame::Text(text) if text.trim_ascii_start().first() == Some(&b'[') => Ok(out.unknown()),
            Frame::Text(text) => self.text(text, out),
            Frame::Http { .. } | Frame::Binary(_) => Ok(out.unknown()),
            Frame::Close(_) => Ok(()),
        }
    }

    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match scope {
            Scope::Book(id, _) => {
                let (symbol, depth) = (out.instruments().get(id).native.clone(), self.depth(id));
                again(&symbol, if depth == 0 { DEPTHS[0] } else { depth }, out);
            }
            Scope::Connection => {
                for book in self.subscriptions.iter().filter(|wanted| wanted.channel == Channel::Book) {
                    again(&book.native, depth_for(book.depth), out);
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
fn again(symbol: &str, depth: u32, out: &mut Sink<'_>) {
    for method in ["unsubscribe", "subscribe"] {
        let params = format!(r#"{{"channel":"book","symbol":["{symbol}"],"depth":{depth}}}"#);
        out.send(&format!(r#"{{"method":"{method}","params":{params}}}"#));
    }
}

impl KrakenSession {
    fn subscribe(&mut self, out: &mut Sink<'_>) {
        let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
        let books = self.subscriptions.iter().filter(|wanted| wanted.channel == Channel::Book);
        for depth in DEPTHS {
            let of_depth = books.clone().filter(|wanted| depth_for(wanted.depth) == depth);
            groups
                .push((format!(r#""book","depth":{depth}"#), of_depth.map(|wanted| wanted.native.as_str()).collect()));
        }
        for (channel, params) in [(Channel::Trades, r#""trade""#), (Channel::Candles, r#""ohlc","interval":1"#)] {
            let of_channel = self.subscriptions.iter().filter(|wanted| wanted.channel == channel);
            groups.push((params.into(), of_channel.map(|wanted| wanted.native.as_str()).collect()));
        }
        for (params, symbols) in groups {
            for chunk in symbols.chunks(SYMBOLS) {
                let symbols = chunk.join("\",\"");
                let params = format!(r#"{{"channel":{params},"symbol":["{symbols}"]}}"#);
                out.send(&format!(r#"{{"method":"subscribe","params":{params}}}"#));
            }
        }
        let depths: Vec<_> =
            books.map(|wanted| (out.instrument(wanted.native.as_bytes()), depth_for(wanted.depth))).collect();
        for (id, depth) in depths {
            self.set_depth(id, depth);
        }
    }

    fn depth(&self, id: InstrumentId) -> u32 {
        self.depths.get(id.index()).copied().unwrap_or_default()
    }

    fn set_depth(&mut self, id: InstrumentId, depth: u32) {
        if self.depths.len() <= id.index() {
            self.depths.resize(id.index() + 1, 0);
        }
        self.depths[id.index()] = depth;
    }

    fn text(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut channel, mut kind, mut data, mut done, mut time) = (None, None, None, false, None);
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"channel" => {
                    seen.once(0, &c)?;
                    channel = Some(c.str()?);
                }
                b"type" => {
                    seen.once(1, &c)?;
                    kind = Some(c.str()?);
                }
                b"data" => {
                    seen.once(2, &c)?;
                    match (channel, kind) {
                        (Some(b"book"), Some(kind)) => {
                            self.books(kind, &mut c, out)?;
                            done = true;
                        }
                        (Some(b"trade"), Some(kind)) => {
                            trades(kind == b"snapshot", &mut c, out)?;
                            done = true;
                        }
                        _ => {
                            data = Some(c);
                            c.skip()?;
                        }
                    }
                }
                b"timestamp" => time = common::rfc3339_at(&mut c)?,
                b"method" | b"error" | b"Error" => return self.answer(text, out),
                _ => c.skip()?,
            }
        }
        c.end()?;
        match (channel, kind, data) {
            _ if done => Ok(()),
            (Some(b"book"), Some(kind), Some(mut data)) => self.books(kind, &mut data, out),
            (Some(b"trade"), Some(kind), Some(mut data)) => trades(kind == b"snapshot", &mut data, out),
            (Some(b"ohlc"), Some(_), Some(mut data)) => candles(time, &mut data, out),
            (Some(b"book" | b"trade" | b"ohlc"), ..) => Err(VenueError::missing("type or data")),
            (Some(b"heartbeat" | b"status" | b"ticker" | b"instrument"), ..) => Ok(out.known()),
            _ => Ok(out.unknown()),
        }
    }

    /// `{"method":"subscribe","result":{"channel":"book","depth":10,"symbol":"BTC/USD"},"success":true,..}`, or an error.
    fn answer(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        let (mut method, mut result, mut error, mut success) = (&b""[..], None, None, None);
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"method" => method = c.str()?,
                b"success" => success = Some(c.bool()?),
                b"error" if !c.null()? => error = Some(c.raw()?),
                b"result" => {
                    result = Some(c);
                    c.skip()?;
                }
                // Too many messages: one of ours was dropped.
                b"Error" => return Err(VenueError::venue(Class::Reconnect, text)),
                b"error" => {}
                _ => c.skip()?,
            }
        }
        c.end()?;
        if error.is_some() || success == Some(false) {
            let planned = !self.subscriptions.is_empty();
            let known = error.is_some_and(|error| error.windows(18).any(|window| window == b"Already subscribed"));
            // What is subscribed twice, or not subscribed when it is given up, costs nothing.
            let class = if method == b"unsubscribe" || known { Class::Ignore } else { common::refusal(planned) };
            return Err(VenueError::venue(class, text));
        }
        match (method, result) {
            (b"subscribe", Some(mut result)) => self.subscribed(&mut result, out),
            (b"pong" | b"unsubscribe", _) => Ok(out.known()),
            _ => Ok(out.unknown()),
        }
    }

    fn subscribed(&mut self, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut channel, mut symbol, mut depth) = (&b""[..], None, None);
        let mut o = c.object()?;
        while let Some(key) = o.key(c)? {
            match key {
                b"channel" => {
                    seen.once(0, c)?;
                    channel = c.str()?;
                }
                b"symbol" => {
                    seen.once(1, c)?;
                    symbol = c.str_or_null()?;
                }
                b"depth" => {
                    seen.once(2, c)?;
                    depth = u32::try_from(c.int()?).ok().filter(|depth| *depth > 0);
                }
                _ => c.skip()?,
            }
        }
        let channel = match channel {
            b"book" => Channel::Book,
            b"trade" => Channel::Trades,
            b"ohlc" => Channel::Candles,
            _ => return Ok(out.known()),
        };
        let id = out.instrument(symbol.ok_or_else(|| VenueError::missing("symbol"))?);
        if let (Channel::Book, Some(depth)) = (channel, depth) {
            self.set_depth(id, depth);
        }
        Ok(out.subscribed(channel, 0, id))
    }

    fn books(&mut self, kind: &[u8], c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let kind = match kind {
            b"snapshot" => BookKind::Snapshot,
            b"update" => BookKind::Delta,
            _ => return Err(VenueError::unexpected("type of a book message")),
        };
        let mut list = c.array()?;
        while list.next(c)? {
            self.book(kind, c, out)?;
        }
        Ok(())
    }

    /// `{"symbol":"BTC/USD","bids":[{"price":78858.8,"qty":0.00000000}],"asks":[],"checksum":2416540570,"timestamp":".."}`
    fn book(&mut self, kind: BookKind, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut id, mut checksum, mut time) = (InstrumentId(0), None, None);
        // Sides that came before the symbol, and how many levels a snapshot has.
        let (mut late, mut levels) = ([None, None], 0);
        let mut o = c.object()?;
        while let Some(key) = o.key(c)? {
            match key {
                b"bids" | b"asks" => {
                    let side = if key == b"bids" { Side::Bid } else { Side::Ask };
                    seen.once(side as u32, c)?;
                    if kind == BookKind::Snapshot {
                        levels = levels.max(count(*c)?);
                    }
                    if seen.has(2) {
                        out.objects(side, c, b"price", b"qty")?;
                    } else {
                        late[side as usize] = Some(*c);
                        c.skip()?;
                    }
                }
                b"symbol" => {
                    seen.once(2, c)?;
                    id = out.instrument(c.str()?);
                    out.begin(id);
                }
                b"checksum" => {
                    seen.once(3, c)?;
                    let value =
                        u32::try_from(c.int()?).map_err(|_| VenueError::unexpected("checksum beyond 32 bits"))?;
                    checksum = Some(value);
                }
                b"timestamp" => time = common::rfc3339_at(c)?,
                _ => c.skip()?,
            }
        }
        common::require(seen, &["bids", "asks", "symbol"])?;
        for (side, late) in [Side::Bid, Side::Ask].into_iter().zip(late) {
            if let Some(mut late) = late {
                out.objects(side, &mut late, b"price", b"qty")?;
            }
        }
        if kind == BookKind::Snapshot && self.depth(id) < levels.max(1) {
            self.set_depth(id, depth_for(levels.max(1)));
        }
        let depth = Some(self.depth(id)).filter(|depth| *depth > 0);
        Ok(out.book(BookHead { depth, checksum, ts_event: time, ..BookHead::new(0, kind) }))
    }
}

/// `{"price":p,"qty":q},..]`
fn usual_levels(side: Side, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Option<()> {
    if c.literal(b"]").is_some() {
        return Some(());
    }
    loop {
        c.literal(br#"{"price":"#)?;
        let price = c.bare_decimal()?;
        c.literal(br#","qty":"#)?;
        let size = c.bare_decimal()?;
        out.usual_level(side, price, size)?;
        if c.literal(b"},").is_none() {
            return c.literal(b"}]");
        }
    }
}

/// How many elements the array has that stands next.
fn count(mut c: Cursor<'_>) -> Result<u32, VenueError> {
    let mut count = 0;
    let mut list = c.array()?;
    while list.next(&mut c)? {
        c.skip()?;
        count += 1;
    }
    Ok(count)
}

/// `[{"symbol":"BTC/USD","side":"buy","price":105944.20,"qty":0.00027625,"trade_id":10218208,"timestamp":".."}]` with
/// the taker's side.
fn trades(history: bool, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut list = c.array()?;
    while list.next(c)? {
        let mut seen = Seen::default();
        let (mut id, mut number, mut trade_id, mut time, mut taker) = (InstrumentId(0), 0, &b""[..], None, Side::Bid);
        let [mut price, mut size] = [Decimal::default(); 2];
        let mut o = c.object()?;
        while let Some(key) = o.key(c)? {
            match key {
                b"symbol" => {
                    seen.once(0, c)?;
                    id = out.instrument(c.str()?);
                }
                b"side" => {
                    seen.once(1, c)?;
                    taker = match c.str()? {
                        b"buy" => Side::Bid,
                        b"sell" => Side::Ask,
                        _ => return Err(VenueError::unexpected("side of a trade")),
                    };
                }
                b"price" => {
                    seen.once(2, c)?;
                    price = c.decimal()?;
                }
                b"qty" => {
                    seen.once(3, c)?;
                    size = c.decimal()?;
                }
                b"trade_id" => {
                    seen.once(4, c)?;
                    let mut text = *c;
                    trade_id = text.text()?;
                    number = c.int()?;
                }
                b"timestamp" => time = common::rfc3339_at(c)?,
                _ => c.skip()?,
            }
        }
        common::require(seen, &["symbol", "side", "price", "qty", "trade_id"])?;
        let (feed, sequence) = (0, Some(number));
        out.trade(&TradeItem { feed, id, price, size, taker, trade_id, sequence, history, ts_event: time })?;
    }
    Ok(())
}

/// `[{"symbol":"BTC/USD","open":..,"high":..,"low":..,"close":..,"trades":12,"volume":..,"interval_begin":"..",
/// "interval":1}]`; `time` is the frame's.
fn candles(time: Option<Nanos>, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut list = c.array()?;
    while list.next(c)? {
        let mut seen = Seen::default();
        let (mut id, mut minutes, mut open_time, mut count) = (InstrumentId(0), 0, None, None);
        let [mut open, mut high, mut low, mut close, mut volume] = [Decimal::default(); 5];
        let mut o = c.object()?;
        while let Some(key) = o.key(c)? {
            let (bit, field) = match key {
                b"open" => (0, &mut open),
                b"high" => (1, &mut high),
                b"low" => (2, &mut low),
                b"close" => (3, &mut close),
                b"volume" => (4, &mut volume),
                b"symbol" => {
                    seen.once(5, c)?;
                    id = out.instrument(c.str()?);
                    continue;
                }
                b"interval" => {
                    seen.once(6, c)?;
                    minutes = c.int()?;
                    continue;
                }
                b"interval_begin" => {
                    seen.once(7, c)?;
                    open_time = common::rfc3339_at(c)?;
                    continue;
                }
                b"trades" => {
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
        common::require(seen, &["open", "high", "low", "close", "volume", "symbol", "interval", "interval_begin"])?;
        let open_time = open_time.ok_or_else(|| VenueError::unexpected("interval_begin"))?;
        if !(1..=15 * DAY / MINUTE).contains(&minutes) {
            return Err(VenueError::unexpected("interval"));
        }
        out.candle(CandleItem {
            feed: 0,
            id,
            interval: minutes * MINUTE,
            open_time,
            open,
            high,
            low,
            close,
            volume,
            notional: None,
            count,
            taker_buy: None,
            // Final once a later one begins; no frame says so.
            closed: false,
            ts_event: time,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use coby_core::book::Book;
    use coby_core::level::Digits;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Bench, subscriptions};

    const ASKS: &str = "78871.6 4.21103066|78872.2 0.41892437|78872.5 0.08877452|78873.7 0.64976822|78875.5 0.63391066|78876.2 0.02287157|78877.2 0.00810675|78877.8 0.65087492|78877.9 1.89408049|78878.0 4.52243185";
    const BIDS: &str = "78871.5 0.01266503|78868.4 0.00005100|78867.3 0.00059789|78865.8 0.00030000|78865.7 0.01532403|78864.5 0.00005100|78860.6 0.04618528|78860.5 0.00005100|78859.2 0.20128607|78858.8 0.63404462";

    fn set(book: &mut Book, side: Side, levels: &str) {
        for (price, amount) in levels.split('|').map(|level| level.split_once(' ').unwrap()) {
            let [price, amount] = [price, amount].map(|text| Decimal::parse(text.as_bytes()).unwrap());
            let digits = Digits { price: price.scale, size: amount.scale };
            let level = Level { price: price.at_scale(1).unwrap(), size: amount.at_scale(8).unwrap(), digits };
            book.set(side, level);
            book.truncate(side, 10, |_| {});
        }
    }

    fn checksum(book: &Book) -> u32 {
        let [mut bids, mut asks] = [Vec::new(), Vec::new()];
        book.top(Side::Bid, 10, &mut bids);
        book.top(Side::Ask, 10, &mut asks);
        Kraken.checksum(0, TopLevels { bids: &bids, asks: &asks, price_scale: 1, size_scale: 8 })
    }

    #[test]
    fn checksums_of_a_real_book() {
        let mut book = Book::new(1, 8, true);
        set(&mut book, Side::Ask, ASKS);
        set(&mut book, Side::Bid, BIDS);
        let mut found = vec![checksum(&book)];
        for change in ["78858.8 0.00000000|78857.0 0.34775324", "78859.2 0.01378631", "78859.2 0|78856.8 0.60870868"] {
            set(&mut book, Side::Bid, change);
            found.push(checksum(&book));
        }
        assert_eq!(found, [1_406_471_562, 2_416_540_570, 2_136_263_304, 2_126_323_084]);
    }

    proptest! {
        #[test]
        fn digits_are_the_printed_text(whole in 0_u32..100_000, fraction in "[0-9]{0,10}", wider in 0_u8..4) {
            let text = if fraction.is_empty() { whole.to_string() } else { format!("{whole}.{fraction}") };
            let number = Decimal::parse(text.as_bytes()).unwrap();
            let plain = text.replace('.', "");
            let expected = plain.trim_start_matches('0');
            for scale in [number.normal().scale, number.scale, number.scale + wider] {
                let mantissa = number.at_scale(scale).unwrap();
                let mut printed = Printed::new();
                printed.push(mantissa, scale, number.scale);
                prop_assert_eq!(&printed.buffer[..printed.end], expected.as_bytes());
            }
        }

        /// More numbers than the buffer holds, of any size.
        #[test]
        fn any_digits_fit(numbers: Vec<(i64, u8, u8)>, shift in 0..64) {
            let (mut printed, mut expected) = (Printed::new(), String::new());
            for (mantissa, scale, digits) in numbers {
                let mantissa = mantissa >> shift;
                printed.push(mantissa, scale, digits);
                let power = 10_u128.pow(u32::from(scale.abs_diff(digits).min(18)));
                let magnitude = u128::from(mantissa.unsigned_abs());
                let number = if digits < scale { magnitude / power } else { magnitude * power };
                if number > 0 {
                    expected += &number.to_string();
                }
            }
            prop_assert_eq!(printed.checksum(), crc32fast::hash(expected.as_bytes()));
        }
    }

    fn levels(text: &str) -> String {
        let level = |(price, size)| format!(r#"{{"price":{price},"qty":{size}}}"#);
        text.split('|').map(|level| level.split_once(' ').unwrap()).map(level).collect::<Vec<_>>().join(",")
    }

    fn message(kind: &str, bids: &str, asks: &str) -> String {
        format!(
            r#"{{"channel":"book","type":"{kind}","data":[{{"symbol":"BTC/USD","bids":[{bids}],"asks":[{asks}]}}]}}"#
        )
    }

    #[test]
    fn depths_are_grouped_and_truncate() {
        let mut wanted = subscriptions(&["BTC/USD", "ETH/USD"], &[Channel::Book, Channel::Trades]);
        wanted[0].depth = 3;
        wanted.extend(subscriptions(&["BTC/USD"], &[Channel::Candles]));
        let plans = Kraken.plan(&wanted, &Instruments::default());
        let mut bench = Bench::open(&Kraken, plans.first());
        let sent = |params| format!(r#"{{"method":"subscribe","params":{{"channel":{params}}}}}"#);
        let params = [
            r#""book","depth":10,"symbol":["BTC/USD"]"#,
            r#""book","depth":1000,"symbol":["ETH/USD"]"#,
            r#""trade","symbol":["BTC/USD","ETH/USD"]"#,
            r#""ohlc","interval":1,"symbol":["BTC/USD"]"#,
        ];
        assert_eq!(bench.sent, params.map(sent));
        bench.text(&message("snapshot", &levels(BIDS), &levels(ASKS)));
        bench.text(&message("update", &levels("78871.55 1"), ""));
        assert!(!bench.book("BTC/USD").contains("7885880"), "{}", bench.book("BTC/USD"));
        bench.text(r#"{"error":"Currency pair not supported X/Y","method":"subscribe","success":false,"symbol":"X/Y","req_id":1}"#);
        assert!(bench.sent[4].starts_with("reconnect fatal=true"));
        assert_eq!([0, 1, 10, 11, 100, 501, 5_000].map(depth_for), [1_000, 10, 10, 25, 100, 1_000, 1_000]);
    }

    #[test]
    fn a_wrong_checksum_subscribes_anew() {
        let mut bench = Bench::open(&Kraken, None);
        let snapshot = message("snapshot", &levels(BIDS), &levels(ASKS));
        bench.text(&snapshot.replace("\"asks\"", "\"checksum\":1406471562,\"asks\""));
        bench.text(&message("update", &levels("78859.2 9"), "").replace("\"asks\"", "\"checksum\":1,\"asks\""));
        let told = ["checksum BTC/USD true", "checksum BTC/USD false", "gap BTC/USD book opened checksum"];
        assert_eq!(bench.told.0[1..], told);
        let request = |method| {
            format!(r#"{{"method":"{method}","params":{{"channel":"book","symbol":["BTC/USD"],"depth":10}}}}"#)
        };
        assert_eq!(bench.sent, ["unsubscribe", "subscribe"].map(request));
        bench.text(r#"{"error":"Subscription Not Found","method":"unsubscribe","success":false}"#);
        bench.text(r#"{"error":"Already subscribed","method":"subscribe","success":false}"#);
        assert_eq!(bench.sent.len(), 2);
    }

    #[test]
    fn candles_come_by_the_old_name_and_the_last_is_running() {
        let request = Kraken.candle_request("BTC/USDT", MINUTE, 60 * SECOND, 0).unwrap();
        assert_eq!(request.path, "/0/public/OHLC?pair=XBTUSDT&interval=1&since=59");
        let body = br#"{"error":[],"result":{"XBTUSDT":[[60,"1","4","0.5","2","1.5","10.5",3],[120,"2","2","2","2","0","0",0]],"last":60}}"#;
        let mut candles = Vec::new();
        Kraken.parse_candles(&request, body, &mut candles).unwrap();
        let row = |candle: &CandleItem| {
            [candle.open, candle.high, candle.low, candle.close, candle.volume].map(|number| number.to_string())
        };
        assert_eq!(row(&candles[0]), ["1", "4", "0.5", "2", "10.5"]);
        assert_eq!(candles.iter().map(|candle| candle.closed).collect::<Vec<_>>(), [true, false]);
        assert_eq!(candles[0].count, Some(3));
        assert!(Kraken.candle_request("BTC/USDT", 7 * MINUTE, 0, 1).is_none());
        let refused = Kraken.parse_candles(&request, br#"{"error":["EQuery:Unknown asset pair"]}"#, &mut candles);
        assert_eq!(refused.unwrap_err().class, Class::Ignore);
    }

    #[test]
    fn instruments_have_modern_names() {
        let body = br#"{"error":[],"result":{"XBTUSDT":{"altname":"XBTUSDT","wsname":"XBT/USDT","base":"XXBT","quote":"USDT","pair_decimals":1,"lot_decimals":8,"ordermin":"0.00005","costmin":"0.5","tick_size":"0.1","status":"online"},"XDGUSD":{"altname":"XDGUSD","wsname":"XDG/USD","base":"XXDG","quote":"ZUSD","pair_decimals":7,"lot_decimals":8,"status":"cancel_only"},"XBTUSD.d":{"altname":"XBTUSD.d","base":"XXBT","quote":"ZUSD","pair_decimals":1,"lot_decimals":8}}}"#;
        let mut listings = Vec::new();
        Kraken.parse_instruments(&Kraken.instrument_requests()[0], body, &mut listings).unwrap();
        let names: Vec<_> = listings.iter().map(|listing| (listing.native.as_str(), listing.symbol())).collect();
        assert_eq!(names, [("BTC/USDT", "BTC-USDT".to_owned()), ("DOGE/USD", "DOGE-USD".to_owned())]);
        assert_eq!(listings[0].tick_size, Some(Decimal::new(1, 1)));
        assert_eq!((listings[1].tick_size, listings[1].status), (Some(Decimal::new(1, 7)), Status::Halted));
    }
}
