//! Coinbase: <https://docs.cdp.coinbase.com/exchange/websocket-feed/overview>.
//!
//! Two feeds, told by the shape of the frame. A, the Exchange feed, names the kind in `type`: its books carry no
//! numbers, its trades running ids and the maker's side. B, the Advanced Trade feed, names it in `channel`: every
//! frame of a connection is numbered, whatever it carries, so that a lost one spoils every book of the connection.
//!
//! Plans use A, and B only for candles, which A does not have. B's book is that of the merged USD and USDC
//! products, under the USD product's name.

use coby_core::decimal::Decimal;
use coby_core::instrument::{InstrumentId, Instruments, Listing, Status};
use coby_core::level::Side;
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Seen};
use coby_core::sink::{self, BookKind};
use coby_core::time::{Day, MINUTE, SECOND, rfc3339};
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, ConnectionPlan, Dial, Frame, Join, Limits, Ping, Proof, Rule,
    Scope, Session, Sink, Subscription, TradeFeed, TradeItem, Venue, VenueError, VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;

const REST: &str = "https://api.exchange.coinbase.com";
const EXCHANGE: &str = "wss://ws-feed.exchange.coinbase.com";
const ADVANCED: &str = "wss://advanced-trade-ws.coinbase.com";

const LEVEL2_BATCH: u8 = 0;
const L2_DATA: u8 = 1;

const MATCHES: u8 = 0;
const MARKET_TRADES: u8 = 1;

/// Whether B's `market_trades` name the maker's side. Sources disagree; the newest say so (2026-02).
const MARKET_TRADES_SIDE_IS_MAKER: bool = true;

/// B's candles have this interval only.
const CANDLE: Nanos = 5 * MINUTE;

static SPEC: VenueSpec = VenueSpec {
    id: "coinbase",
    name: "Coinbase",
    protocol: "2026-08",
    closed: None,
    sockets: &[EXCHANGE, ADVANCED],
    rest: REST,
    // Heartbeat channels tick every second on both feeds.
    ping: Ping::Protocol,
    silence: 15,
    limits: Limits { dials: (8, 1), messages: (8, 1), spacing: 0, streams: 100, rest: (10, 1), lifetime: 0 },
    books: &[
        BookFeed {
            name: "level2_batch",
            join: Join::Socket,
            rule: Rule::None,
            proof: Proof::None,
            checksum: None,
            digits: false,
            depth: None,
            shows: None,
            refresh: 1_800,
            limits: "a lost change goes unnoticed: the book is subscribed anew every half hour, and when it stays crossed",
        },
        BookFeed {
            name: "l2_data",
            join: Join::Socket,
            rule: Rule::Connection,
            proof: Proof::Sequence,
            checksum: None,
            digits: false,
            depth: None,
            shows: None,
            refresh: 0,
            limits: "only decoded, never subscribed; a lost frame of any channel spoils every book of the connection",
        },
    ],
    trades: &[
        TradeFeed { name: "matches", proof: Proof::Sequence, aggregated: false },
        TradeFeed { name: "market_trades", proof: Proof::Sequence, aggregated: false },
    ],
    candles: &[CandleFeed { name: "candles", interval: CANDLE }],
};

/// Coinbase Exchange and Advanced Trade.
#[derive(Clone, Copy, Debug)]
pub struct Coinbase;

#[derive(Deserialize)]
struct Product {
    id: String,
    base_currency: String,
    quote_currency: String,
    base_increment: Option<String>,
    quote_increment: Option<String>,
    #[serde(default)]
    status: String,
    #[serde(default)]
    trading_disabled: bool,
}

impl Venue for Coinbase {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        vec![HttpRequest::get(REST, "/products")]
    }

    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let products: Vec<Product> = common::read(body)?;
        out.extend(products.into_iter().map(|product| Listing {
            tick_size: product.quote_increment.as_deref().and_then(common::step),
            lot_size: product.base_increment.as_deref().and_then(common::step),
            status: match product.status.as_str() {
                "online" if !product.trading_disabled => Status::Trading,
                "delisted" => Status::Delisted,
                _ => Status::Halted,
            },
            ..Listing::spot(&product.id, &product.base_currency, &product.quote_currency)
        }));
        Ok(())
    }

    fn plan(&self, subscriptions: &[Subscription], _: &Instruments) -> Vec<ConnectionPlan> {
        let (candles, others): (Vec<_>, Vec<_>) =
            subscriptions.iter().cloned().partition(|subscription| subscription.channel == Channel::Candles);
        let mut plans = common::split(EXCHANGE, &others, SPEC.limits.streams);
        plans.extend(common::split(ADVANCED, &candles, SPEC.limits.streams));
        plans
    }

    fn dial(&self, plan: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Ok(Dial::Connect { url: plan.base.clone(), ping: 0 })
    }

    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        let advanced = plan.is_some_and(|plan| plan.base == ADVANCED);
        let subscriptions = plan.map(|plan| plan.subscriptions.clone()).unwrap_or_default();
        Ok(Box::new(common::load(saved, || CoinbaseSession { advanced, subscriptions, day: Day::default() })?))
    }

    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, to: Nanos) -> Option<HttpRequest> {
        let seconds = interval / SECOND;
        if ![60, 300, 900, 3_600, 21_600, 86_400].contains(&seconds) {
            return None;
        }
        let (start, end) = (common::iso(from), common::iso(to - 1));
        let path = format!("/products/{native}/candles?granularity={seconds}&start={start}&end={end}");
        Some(HttpRequest::get(REST, path))
    }

    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let granularity = request.query("granularity").and_then(|seconds| seconds.parse().ok());
        let interval = common::time(granularity.ok_or_else(|| VenueError::missing("granularity"))?, SECOND)?;
        let mut c = Cursor::new(body);
        let mut rows = c.array()?;
        while rows.next(&mut c)? {
            // [time in seconds, low, high, open, close, volume]
            let mut row = c.array()?;
            row.more(&mut c)?;
            let open_time = common::time_at(&mut c, SECOND)?;
            let mut numbers = [Decimal::default(); 5];
            for number in &mut numbers {
                row.more(&mut c)?;
                *number = c.decimal()?;
            }
            row.rest(&mut c)?;
            let [low, high, open, close, volume] = numbers;
            let prices = Prices { open, high, low, close, volume };
            out.push(CandleItem { interval, closed: true, ..prices.candle(open_time) });
        }
        Ok(())
    }
}

#[derive(Default)]
struct Prices {
    open: Decimal,
    high: Decimal,
    low: Decimal,
    close: Decimal,
    volume: Decimal,
}

impl Prices {
    fn candle(self, open_time: Nanos) -> CandleItem {
        let Self { open, high, low, close, volume } = self;
        CandleItem {
            feed: 0,
            id: InstrumentId(0),
            interval: CANDLE,
            open_time,
            open,
            high,
            low,
            close,
            volume,
            notional: None,
            count: None,
            taker_buy: None,
            closed: false,
            ts_event: None,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct CoinbaseSession {
    /// Whether the plan is one of B.
    advanced: bool,
    subscriptions: Vec<Subscription>,
    /// Not part of the state: it only saves time.
    #[serde(skip)]
    day: Day,
}

impl Session for CoinbaseSession {
    fn usual(&mut self, text: &[u8], out: &mut Sink<'_>) -> Option<()> {
        usual(text, &mut self.day, out)
    }

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

    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match scope {
            Scope::Book(id, feed) => {
                let product = out.instruments().get(id).native.clone();
                again(feed, &[&product], out);
            }
            Scope::Connection => {
                let products = self.products(Channel::Book);
                if !products.is_empty() {
                    again(LEVEL2_BATCH, &products, out);
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
fn again(feed: u8, products: &[&str], out: &mut Sink<'_>) {
    let products = products.join("\",\"");
    let channel = if feed == L2_DATA { r#""channel":"level2""# } else { r#""channels":["level2_batch"]"# };
    for kind in ["unsubscribe", "subscribe"] {
        out.send(&format!(r#"{{"type":"{kind}","product_ids":["{products}"],{channel}}}"#));
    }
}

impl CoinbaseSession {
    fn products(&self, channel: Channel) -> Vec<&str> {
        let of_channel = self.subscriptions.iter().filter(|wanted| wanted.channel == channel);
        of_channel.map(|wanted| wanted.native.as_str()).collect()
    }

    /// A takes all channels in one message, B one channel a message. Both close what is silent for a minute, so
    /// heartbeats are subscribed too.
    fn subscribe(&self, out: &mut Sink<'_>) {
        if self.subscriptions.is_empty() {
            return;
        }
        if self.advanced {
            let products = self.products(Channel::Candles).join("\",\"");
            out.send(r#"{"type":"subscribe","channel":"heartbeats"}"#);
            out.send(&format!(r#"{{"type":"subscribe","product_ids":["{products}"],"channel":"candles"}}"#));
            return;
        }
        let (books, trades) = (self.products(Channel::Book), self.products(Channel::Trades));
        let mut all = [books.clone(), trades.clone()].concat();
        all.sort_unstable();
        all.dedup();
        let channels: Vec<String> = [("level2_batch", books), ("matches", trades), ("heartbeat", all)]
            .into_iter()
            .filter(|(_, products)| !products.is_empty())
            .map(|(name, products)| format!(r#"{{"name":"{name}","product_ids":["{}"]}}"#, products.join("\",\"")))
            .collect();
        out.send(&format!(r#"{{"type":"subscribe","channels":[{}]}}"#, channels.join(",")));
    }

    fn text(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        // Either key stands first in every frame seen so far.
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"type" => {
                    let kind = c.str()?;
                    let mut whole = Cursor::new(text);
                    self.exchange(kind, &mut whole, out)?;
                    return Ok(whole.end()?);
                }
                b"channel" => {
                    let channel = c.str()?;
                    let mut whole = Cursor::new(text);
                    advanced(channel, &mut whole, out)?;
                    return Ok(whole.end()?);
                }
                _ => c.skip()?,
            }
        }
        c.end()?;
        Ok(out.unknown())
    }

    /// A frame of A; errors look the same on B.
    fn exchange(&self, kind: &[u8], c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match kind {
            b"l2update" => return change(c, out),
            b"match" => return matched(false, c, out),
            b"last_match" => return matched(true, c, out),
            b"snapshot" => return snapshot(c, out),
            b"subscriptions" => return subscriptions(c, out),
            b"error" => {
                let class = common::refusal(!self.subscriptions.is_empty());
                return Err(VenueError::venue(class, c.raw()?));
            }
            b"heartbeat" | b"ticker" | b"status" | b"received" | b"open" | b"done" | b"change" | b"activate" => {
                out.known();
            }
            _ => out.unknown(),
        }
        Ok(c.skip()?)
    }
}

/// `{"type":"l2update","product_id":"..","changes":[["sell","p","q"]],"time":".."}` to the letter, as nearly every frame
/// is; `None` for any other.
fn usual(text: &[u8], day: &mut Day, out: &mut Sink<'_>) -> Option<()> {
    let mut c = Cursor::new(text);
    c.literal(br#"{"type":"l2update","product_id":""#)?;
    let id = out.usual_instrument(c.plain()?)?;
    out.begin(id);
    c.literal(br#","changes":["#)?;
    loop {
        c.literal(br#"[""#)?;
        let side = match c.literal(br#"buy",""#) {
            Some(()) => Side::Bid,
            None => c.literal(br#"sell",""#).map(|()| Side::Ask)?,
        };
        let price = c.plain_decimal()?;
        c.literal(br#",""#)?;
        let amount = c.plain_decimal()?;
        out.usual_level(side, price, amount)?;
        if c.literal(b"],").is_none() {
            break;
        }
    }
    c.literal(br#"]],"time":""#)?;
    let time = day.rfc3339(c.before_end(br#""}"#)?)?;
    out.book(BookHead { ts_event: Some(time), ..BookHead::new(LEVEL2_BATCH, BookKind::Delta) });
    Some(())
}

/// `{"type":"l2update","product_id":"SKL-BTC","changes":[["sell","0.00001306","660.5"]],"time":".."}`
fn change(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut late, mut time) = (None, None);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"product_id" => {
                seen.once(0, c)?;
                let id = out.instrument(c.str()?);
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
            b"type" => {
                seen.once(7, c)?;
                c.skip()?;
            }
            b"time" => time = common::rfc3339_at(c)?,
            _ => c.skip()?,
        }
    }
    common::require(seen, &["product_id", "changes"])?;
    if let Some(mut late) = late {
        changes(&mut late, out)?;
    }
    Ok(out.book(BookHead { ts_event: time, ..BookHead::new(LEVEL2_BATCH, BookKind::Delta) }))
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

/// `{"type":"snapshot","product_id":"BAND-GBP","asks":[[price, size]],"bids":[..],"time":".."}`
fn snapshot(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut late, mut time) = ([None, None], None);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"bids" | b"asks" => {
                let side = if key == b"bids" { Side::Bid } else { Side::Ask };
                seen.once(side as u32, c)?;
                if seen.has(2) {
                    levels(side, c, out)?;
                } else {
                    late[side as usize] = Some(*c);
                    c.skip()?;
                }
            }
            b"product_id" => {
                seen.once(2, c)?;
                let id = out.instrument(c.str()?);
                out.begin(id);
            }
            b"type" => {
                seen.once(7, c)?;
                c.skip()?;
            }
            b"time" => time = common::rfc3339_at(c)?,
            _ => c.skip()?,
        }
    }
    common::require(seen, &["bids", "asks", "product_id"])?;
    for (side, late) in [Side::Bid, Side::Ask].into_iter().zip(late) {
        if let Some(mut late) = late {
            levels(side, &mut late, out)?;
        }
    }
    Ok(out.book(BookHead { ts_event: time, ..BookHead::new(LEVEL2_BATCH, BookKind::Snapshot) }))
}

/// `[[price, size]]`. Snapshots of A have been seen to hold bad levels, with negative sizes: those are passed over.
fn levels(side: Side, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut rows = c.array()?;
    while rows.next(c)? {
        let mut row = c.array()?;
        row.more(c)?;
        let price = sink::price(c)?;
        row.more(c)?;
        let amount = sink::size(c)?;
        row.rest(c)?;
        if price.mantissa > 0 && amount.mantissa > 0 {
            out.level(side, price, amount)?;
        }
    }
    Ok(())
}

/// `{"type":"match","trade_id":280232,"side":"sell","size":"985","price":"0.00001305","product_id":"SKL-BTC",..}`
/// with the maker's side; `last_match` is the trade before the subscription.
fn matched(history: bool, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut id, mut number, mut trade_id, mut time, mut maker) = (InstrumentId(0), 0, &b""[..], None, Side::Bid);
    let [mut price, mut size] = [Decimal::default(); 2];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"product_id" => {
                seen.once(0, c)?;
                id = out.instrument(c.str()?);
            }
            b"trade_id" => {
                seen.once(1, c)?;
                let mut text = *c;
                trade_id = text.text()?;
                number = c.int()?;
            }
            b"side" => {
                seen.once(2, c)?;
                maker = match c.str()? {
                    b"buy" => Side::Bid,
                    b"sell" => Side::Ask,
                    _ => return Err(VenueError::unexpected("side of a trade")),
                };
            }
            b"price" => {
                seen.once(3, c)?;
                price = c.decimal()?;
            }
            b"size" => {
                seen.once(4, c)?;
                size = c.decimal()?;
            }
            b"type" => {
                seen.once(7, c)?;
                c.skip()?;
            }
            b"time" => time = common::rfc3339_at(c)?,
            _ => c.skip()?,
        }
    }
    common::require(seen, &["product_id", "trade_id", "side", "price", "size"])?;
    let (taker, sequence) = (maker.opposite(), Some(number));
    out.trade(&TradeItem { feed: MATCHES, id, price, size, taker, trade_id, sequence, history, ts_event: time })
}

/// `{"type":"subscriptions","channels":[{"name":"level2_batch","product_ids":["BTC-USD"]}]}`
fn subscriptions(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        if key != b"channels" {
            c.skip()?;
            continue;
        }
        let mut channels = c.array()?;
        while channels.next(c)? {
            let name = c.find(b"name")?.ok_or_else(|| VenueError::missing("name"))?.str()?;
            let products = c.find(b"product_ids")?;
            c.skip()?;
            let channel = match name {
                b"level2_batch" | b"level2" | b"level2_50" => Channel::Book,
                b"matches" | b"full" => Channel::Trades,
                _ => continue,
            };
            if let Some(mut products) = products {
                subscribed(channel, 0, &mut products, out)?;
            }
        }
    }
    Ok(())
}

/// `["BTC-USD"]`
fn subscribed(channel: Channel, feed: u8, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    if c.null()? {
        return Ok(());
    }
    let mut products = c.array()?;
    while products.next(c)? {
        let id = out.instrument(c.str()?);
        out.subscribed(channel, feed, id);
    }
    Ok(())
}

/// A frame of B: `{"channel":"l2_data","timestamp":"..","sequence_num":0,"events":[..]}`
fn advanced(channel: &[u8], c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut late, mut time) = (None, None);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"channel" => {
                seen.once(7, c)?;
                c.skip()?;
            }
            b"sequence_num" => {
                seen.once(0, c)?;
                out.sequence(c.int()?);
            }
            b"timestamp" => {
                seen.once(1, c)?;
                time = common::rfc3339_at(c)?;
            }
            b"events" => {
                seen.once(2, c)?;
                // The frame's number is checked before its content counts.
                if seen.has(0) {
                    events(channel, time, c, out)?;
                } else {
                    late = Some(*c);
                    c.skip()?;
                }
            }
            _ => c.skip()?,
        }
    }
    common::require(seen, &["sequence_num"])?;
    match late {
        Some(mut late) => events(channel, time, &mut late, out),
        None => Ok(()),
    }
}

fn events(channel: &[u8], time: Option<Nanos>, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let event: fn(Option<Nanos>, &mut Cursor<'_>, &mut Sink<'_>) -> Result<(), VenueError> = match channel {
        b"l2_data" => l2_event,
        b"market_trades" => trades_event,
        b"candles" => candles_event,
        b"subscriptions" => subscriptions_event,
        b"heartbeats" | b"status" | b"ticker" | b"ticker_batch" => {
            out.known();
            return Ok(c.skip()?);
        }
        _ => {
            out.unknown();
            return Ok(c.skip()?);
        }
    };
    let mut list = c.array()?;
    while list.next(c)? {
        event(time, c, out)?;
    }
    Ok(())
}

/// `{"type":"snapshot","product_id":"BTC-USD","updates":[..]}`
fn l2_event(sent: Option<Nanos>, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut kind, mut late, mut time) = (BookKind::Delta, None, None);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"type" => {
                seen.once(0, c)?;
                kind = match c.str()? {
                    b"snapshot" => BookKind::Snapshot,
                    b"update" => BookKind::Delta,
                    _ => return Err(VenueError::unexpected("type of a book event")),
                };
            }
            b"product_id" => {
                seen.once(1, c)?;
                let id = out.instrument(c.str()?);
                out.begin(id);
            }
            b"updates" => {
                seen.once(2, c)?;
                if seen.has(1) {
                    time = updates(c, out)?;
                } else {
                    late = Some(*c);
                    c.skip()?;
                }
            }
            _ => c.skip()?,
        }
    }
    common::require(seen, &["type", "product_id", "updates"])?;
    if let Some(mut late) = late {
        time = updates(&mut late, out)?;
    }
    Ok(out.book(BookHead { ts_event: time.or(sent), ..BookHead::new(L2_DATA, kind) }))
}

/// `[{"side":"bid","event_time":"..","price_level":"78856.05","new_quantity":"0.0476177"}]`; the last event's time.
fn updates(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<Option<Nanos>, VenueError> {
    let mut time = None;
    let mut list = c.array()?;
    while list.next(c)? {
        let (mut side, mut price, mut amount) = (None, None, None);
        let mut seen = Seen::default();
        let mut o = c.object()?;
        while let Some(key) = o.key(c)? {
            match key {
                b"side" => {
                    seen.once(0, c)?;
                    side = match c.str()? {
                        b"bid" => Some(Side::Bid),
                        b"offer" => Some(Side::Ask),
                        _ => None,
                    };
                }
                b"price_level" => {
                    seen.once(1, c)?;
                    price = Some(sink::price(c)?);
                }
                b"new_quantity" => {
                    seen.once(2, c)?;
                    amount = Some(sink::size(c)?);
                }
                b"event_time" => time = c.str_or_null()?,
                _ => c.skip()?,
            }
        }
        let (Some(side), Some(price), Some(amount)) = (side, price, amount) else {
            return Err(VenueError::missing("side, price_level or new_quantity of an update"));
        };
        out.level(side, price, amount)?;
    }
    Ok(time.and_then(rfc3339))
}

/// `{"type":"update","trades":[{"trade_id":"699871154","product_id":"BTC-USD","side":"BUY",..}]}`; a snapshot tells
/// trades from before the subscription.
fn trades_event(_: Option<Nanos>, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let kind = c.find(b"type")?.ok_or_else(|| VenueError::missing("type"))?.str()?;
    let history = kind == b"snapshot";
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        if key == b"trades" {
            let mut trades = c.array()?;
            while trades.next(c)? {
                market_trade(history, c, out)?;
            }
        } else {
            c.skip()?;
        }
    }
    Ok(())
}

fn market_trade(history: bool, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut id, mut trade_id, mut time, mut named) = (InstrumentId(0), &b""[..], None, Side::Bid);
    let [mut price, mut size] = [Decimal::default(); 2];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"product_id" => {
                seen.once(0, c)?;
                id = out.instrument(c.str()?);
            }
            b"trade_id" => {
                seen.once(1, c)?;
                trade_id = c.text()?;
            }
            b"side" => {
                seen.once(2, c)?;
                named = match c.str()? {
                    b"BUY" => Side::Bid,
                    b"SELL" => Side::Ask,
                    _ => return Err(VenueError::unexpected("side of a trade")),
                };
            }
            b"price" => {
                seen.once(3, c)?;
                price = c.decimal()?;
            }
            b"size" => {
                seen.once(4, c)?;
                size = c.decimal()?;
            }
            b"time" => time = common::rfc3339_at(c)?,
            _ => c.skip()?,
        }
    }
    common::require(seen, &["product_id", "trade_id", "side", "price", "size"])?;
    let taker = if MARKET_TRADES_SIDE_IS_MAKER { named.opposite() } else { named };
    // Whether ids run without holes is not documented; the frame's number proves that none was lost.
    let (feed, sequence) = (MARKET_TRADES, None);
    out.trade(&TradeItem { feed, id, price, size, taker, trade_id, sequence, history, ts_event: time })
}

/// `{"type":"update","candles":[{"start":"1775521800","high":..,"low":..,"open":..,"close":..,"volume":..,
/// "product_id":"BTC-USD"}]}`
fn candles_event(sent: Option<Nanos>, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        if key != b"candles" {
            c.skip()?;
            continue;
        }
        let mut candles = c.array()?;
        while candles.next(c)? {
            let mut seen = Seen::default();
            let (mut id, mut open_time, mut prices) = (InstrumentId(0), 0, Prices::default());
            let mut o = c.object()?;
            while let Some(key) = o.key(c)? {
                let (bit, field) = match key {
                    b"open" => (0, &mut prices.open),
                    b"high" => (1, &mut prices.high),
                    b"low" => (2, &mut prices.low),
                    b"close" => (3, &mut prices.close),
                    b"volume" => (4, &mut prices.volume),
                    b"start" => {
                        seen.once(5, c)?;
                        open_time = common::time_at(c, SECOND)?;
                        continue;
                    }
                    b"product_id" => {
                        seen.once(6, c)?;
                        id = out.instrument(c.str()?);
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
            common::require(seen, &["open", "high", "low", "close", "volume", "start", "product_id"])?;
            out.candle(CandleItem { id, ts_event: sent, ..prices.candle(open_time) });
        }
    }
    Ok(())
}

/// `{"subscriptions":{"level2":["BTC-USD"]}}`
fn subscriptions_event(_: Option<Nanos>, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let Some(mut lists) = c.find(b"subscriptions")? else {
        return Ok(c.skip()?);
    };
    c.skip()?;
    let mut o = lists.object()?;
    while let Some(key) = o.key(&mut lists)? {
        match key {
            b"level2" => subscribed(Channel::Book, L2_DATA, &mut lists, out)?,
            b"market_trades" => subscribed(Channel::Trades, MARKET_TRADES, &mut lists, out)?,
            b"candles" => subscribed(Channel::Candles, 0, &mut lists, out)?,
            _ => lists.skip()?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use coby_core::venue::Class;

    use super::*;
    use crate::testing::{Bench, subscriptions};

    #[test]
    fn one_message_subscribes_all_of_the_exchange_feed() {
        let wanted = subscriptions(&["BTC-USD", "ETH-USD"], &[Channel::Book, Channel::Trades, Channel::Candles]);
        let plans = Coinbase.plan(&wanted, &Instruments::default());
        assert_eq!(plans.iter().map(|plan| plan.base.as_str()).collect::<Vec<_>>(), [EXCHANGE, ADVANCED]);
        let Dial::Connect { url, .. } = Coinbase.dial(&plans[1], None).unwrap() else { panic!("nothing to ask") };
        assert_eq!(url, ADVANCED);
        let both = r#""product_ids":["BTC-USD","ETH-USD"]"#;
        let channel = |name| format!(r#"{{"name":"{name}",{both}}}"#);
        let channels = ["level2_batch", "matches", "heartbeat"].map(channel).join(",");
        let mut bench = Bench::open(&Coinbase, plans.first());
        assert_eq!(bench.sent, [format!(r#"{{"type":"subscribe","channels":[{channels}]}}"#)]);
        bench.text(r#"{"type":"error","message":"Failed to subscribe","reason":"level2, level3, and full channels now require authentication."}"#);
        assert!(bench.sent[1].starts_with("reconnect fatal=true"));
        let bench = Bench::open(&Coinbase, plans.get(1));
        let candles = format!(r#"{{"type":"subscribe",{both},"channel":"candles"}}"#);
        assert_eq!(bench.sent, [r#"{"type":"subscribe","channel":"heartbeats"}"#.to_owned(), candles]);
    }

    #[test]
    fn a_spoilt_book_is_subscribed_anew() {
        let plans = Coinbase.plan(&subscriptions(&["BTC-USD"], &[Channel::Book]), &Instruments::default());
        let mut bench = Bench::open(&Coinbase, plans.first());
        bench.text(r#"{"type":"snapshot","product_id":"BTC-USD","asks":[["11","1"]],"bids":[["10","1"]]}"#);
        bench.text(r#"{"type":"l2update","product_id":"BTC-USD","changes":[["none","10","1"]]}"#);
        let request = |kind| format!(r#"{{"type":"{kind}","product_ids":["BTC-USD"],"channels":["level2_batch"]}}"#);
        assert_eq!(bench.sent[1..], ["unsubscribe", "subscribe"].map(request));
        assert_eq!(bench.told.0.last().unwrap(), "gap BTC-USD book opened malformed");
    }

    #[test]
    fn a_lost_frame_of_any_channel_spoils_every_book_of_an_advanced_connection() {
        let mut bench = Bench::open(&Coinbase, None);
        let book = |number: i64, kind: &str, product: &str| {
            format!(
                r#"{{"channel":"l2_data","sequence_num":{number},"events":[{{"type":"{kind}","product_id":"{product}","updates":[{{"side":"bid","price_level":"10","new_quantity":"1"}}]}}]}}"#
            )
        };
        bench.text(&book(0, "snapshot", "BTC-USD"));
        bench.text(&book(1, "snapshot", "ETH-USD"));
        bench.text(r#"{"channel":"heartbeats","sequence_num":3,"events":[{"current_time":"2026-04-07 14:30:10.000000000+00:00","heartbeat_counter":"42"}]}"#);
        let gaps = ["gap BTC-USD book opened sequence", "gap ETH-USD book opened sequence"];
        assert_eq!(bench.told.0[2..], gaps);
        bench.text(&book(4, "update", "BTC-USD"));
        assert_eq!(bench.told.0.len(), 4, "{:?}", bench.told.0);
        bench.text(&book(5, "snapshot", "BTC-USD"));
        assert_eq!(bench.book("BTC-USD"), "Live 10:1 | ");
    }

    #[test]
    fn candles_put_low_first() {
        let request =
            Coinbase.candle_request("BTC-USD", MINUTE, 1_618_677_780 * SECOND, 1_618_677_900 * SECOND).unwrap();
        let query = "granularity=60&start=2021-04-17T16:43:00Z&end=2021-04-17T16:44:59Z";
        assert_eq!(request.path, format!("/products/BTC-USD/candles?{query}"));
        let mut candles = Vec::new();
        Coinbase
            .parse_candles(&request, b"[[1618677840,1,4,2,3,10.5],[1618677780,0.5,2,1,1.5,7]]", &mut candles)
            .unwrap();
        let row = |candle: &CandleItem| {
            [candle.open, candle.high, candle.low, candle.close, candle.volume].map(|number| number.to_string())
        };
        assert_eq!(row(&candles[0]), ["2", "4", "1", "3", "10.5"]);
        assert_eq!((candles[1].open_time, candles[1].interval), (1_618_677_780 * SECOND, MINUTE));
        assert!(Coinbase.candle_request("BTC-USD", 7 * MINUTE, 0, 1).is_none());
        assert_eq!(Coinbase.parse_candles(&request, b"{}", &mut candles).unwrap_err().class, Class::Resync);
    }

    #[test]
    fn instruments_come_from_the_list() {
        let body = br#"[{"id":"BTC-USD","base_currency":"BTC","quote_currency":"USD","quote_increment":"0.01","base_increment":"0.00000001","display_name":"BTC-USD","min_market_funds":"1","margin_enabled":false,"post_only":false,"limit_only":false,"cancel_only":false,"status":"online","status_message":"","trading_disabled":false},{"id":"OLD-USD","base_currency":"OLD","quote_currency":"USD","status":"delisted","trading_disabled":true}]"#;
        let mut listings = Vec::new();
        Coinbase.parse_instruments(&Coinbase.instrument_requests()[0], body, &mut listings).unwrap();
        assert_eq!((listings[0].symbol().as_str(), listings[0].status), ("BTC-USD", Status::Trading));
        assert_eq!((listings[0].tick_size, listings[0].lot_size), (Some(Decimal::new(1, 2)), Some(Decimal::new(1, 8))));
        assert_eq!(listings[1].status, Status::Delisted);
    }
}
