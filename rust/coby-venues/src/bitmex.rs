//! BitMEX, whose exchange closed on 2026-09-23: recordings are decoded, nothing is dialled.
//!
//! Book: rows with an id of their own, so a change need not tell its price. A partial begins the book; inserts,
//! updates and deletes follow without any number. Two rows may stand at one price: the book has their sum. An id
//! that nobody inserted means that the book is wrong.
//!
//! Sizes are contracts, which each listing turns into base or quote.

use std::collections::BTreeMap;

use coby_core::decimal::{Decimal, DecimalError, POW10};
use coby_core::instrument::{InstrumentId, InstrumentKind, Instruments, Listing, Status};
use coby_core::level::Side;
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Seen};
use coby_core::sink::{self, BookKind};
use coby_core::time::{DAY, MINUTE, rfc3339};
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, Class, ConnectionPlan, Dial, Frame, Join, Limits, Ping, Proof,
    Rule, Scope, Sequence, Session, Sink, Subscription, TradeFeed, TradeItem, Venue, VenueError, VenueErrorKind,
    VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;

const REST: &str = "https://www.bitmex.com";
const SOCKET: &str = "wss://ws.bitmex.com/realtime";
const GONE: &str = "BitMEX closed on 2026-09-23: its recordings can be decoded, but nothing can be dialled";

const L2: u8 = 0;
const L2_25: u8 = 1;
const TOP10: u8 = 2;

static SPEC: VenueSpec = VenueSpec {
    id: "bitmex",
    name: "BitMEX",
    protocol: "2026-09",
    closed: Some(GONE),
    sockets: &[SOCKET],
    rest: REST,
    ping: Ping::Text("ping"),
    silence: 15,
    limits: Limits { dials: (10, 10), messages: (10, 1), spacing: 0, streams: 10, rest: (30, 60), lifetime: 0 },
    books: &[
        BookFeed { name: "orderBookL2", ..ROWS },
        BookFeed { name: "orderBookL2_25", depth: Some(25), ..ROWS },
        BookFeed {
            name: "orderBook10",
            join: Join::Image,
            rule: Rule::Monotone,
            depth: Some(10),
            limits: "whole images: a lost one is healed by the next",
            ..ROWS
        },
    ],
    trades: &[TradeFeed { name: "trade", proof: Proof::None, aggregated: false }],
    candles: &[CandleFeed { name: "tradeBin1m", interval: MINUTE }],
};

const ROWS: BookFeed = BookFeed {
    name: "",
    join: Join::Socket,
    rule: Rule::None,
    proof: Proof::None,
    checksum: None,
    digits: false,
    depth: None,
    shows: None,
    refresh: 0,
    limits: "a lost change shows only when a later one names an id that was never inserted",
};

/// BitMEX.
#[derive(Clone, Copy, Debug)]
pub struct BitMex;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InstrumentInfo {
    symbol: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    typ: String,
    #[serde(default)]
    underlying: String,
    #[serde(default)]
    quote_currency: String,
    expiry: Option<String>,
    tick_size: Option<serde_json::Number>,
    lot_size: Option<serde_json::Number>,
    underlying_to_position_multiplier: Option<serde_json::Number>,
    #[serde(default)]
    is_inverse: bool,
}

/// `1 / parts`, where that is a decimal.
fn reciprocal(parts: i64) -> Option<Decimal> {
    let scale = (0..POW10.len()).find(|scale| parts > 0 && POW10[*scale] % parts == 0)?;
    Some(Decimal::new(POW10[scale] / parts, scale as u8))
}

/// The venue writes XBT.
fn modern(asset: &str) -> &str {
    if asset == "XBT" { "BTC" } else { asset }
}

impl Venue for BitMex {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        vec![HttpRequest::get(REST, "/api/v1/instrument/active")]
    }

    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let list: Vec<InstrumentInfo> = common::read(body)?;
        for info in list {
            let expiry = info.expiry.as_deref().and_then(|text| rfc3339(text.as_bytes()));
            let kind = match (info.typ.as_str(), expiry) {
                (typ, Some(expiry)) if typ.starts_with("FF") => InstrumentKind::Future(expiry),
                (typ, None) if typ.starts_with("FFWCS") => InstrumentKind::Perpetual,
                ("IFXXXP", _) => InstrumentKind::Spot,
                // Indices and baskets are not traded.
                _ => continue,
            };
            let (base, quote) = (modern(&info.underlying), modern(&info.quote_currency));
            let step = |number: Option<serde_json::Number>| common::step(&number?.to_string());
            let whole = Decimal::new(1, 0);
            out.push(Listing {
                kind,
                tick_size: step(info.tick_size),
                lot_size: step(info.lot_size),
                // A quanto contract is no fixed amount of anything: its sizes stay contracts.
                contract_size: match info
                    .underlying_to_position_multiplier
                    .and_then(|parts| reciprocal(parts.as_i64()?))
                {
                    Some(size) if !info.is_inverse => size,
                    _ => whole,
                },
                inverse: info.is_inverse,
                status: match info.state.as_str() {
                    "Open" => Status::Trading,
                    "Closed" | "Settled" | "Unlisted" => Status::Delisted,
                    _ => Status::Halted,
                },
                ..Listing::spot(&info.symbol, base, quote)
            });
        }
        Ok(())
    }

    fn plan(&self, _: &[Subscription], _: &Instruments) -> Vec<ConnectionPlan> {
        Vec::new()
    }

    fn dial(&self, _: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Err(gone())
    }

    fn session(&self, _: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        Ok(Box::new(common::load(saved, BitMexSession::default)?))
    }

    fn candle_request(&self, _: &str, _: Nanos, _: Nanos, _: Nanos) -> Option<HttpRequest> {
        None
    }

    fn parse_candles(&self, _: &HttpRequest, _: &[u8], _: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        Err(gone())
    }
}

fn gone() -> VenueError {
    VenueError::new(Class::Fatal, VenueErrorKind::Gone(GONE))
}

/// What a table message does with its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Partial,
    Insert,
    Update,
    Delete,
}

impl Action {
    fn read(text: &[u8]) -> Result<Self, VenueError> {
        match text {
            b"partial" => Ok(Self::Partial),
            b"insert" => Ok(Self::Insert),
            b"update" => Ok(Self::Update),
            b"delete" => Ok(Self::Delete),
            _ => Err(VenueError::unexpected("action")),
        }
    }
}

/// The rows of one book.
#[derive(Default, Serialize, Deserialize)]
struct Rows {
    /// Price and contracts by side and id.
    rows: BTreeMap<(u8, i64), (Decimal, i64)>,
    /// Contracts by side and price.
    sums: BTreeMap<(u8, i64, u8), i64>,
}

impl Rows {
    fn add(&mut self, side: Side, price: Decimal, contracts: i64) -> Result<i64, VenueError> {
        let key = (side as u8, price.mantissa, price.scale);
        let sum = self.sums.remove(&key).unwrap_or_default();
        let sum = sum.checked_add(contracts).ok_or_else(|| size_error(DecimalError::Overflow))?;
        if sum != 0 {
            self.sums.insert(key, sum);
        }
        Ok(sum)
    }

    /// Sets or removes a row and stages what its prices then hold.
    fn put(&mut self, side: Side, id: i64, row: Option<(Decimal, i64)>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let row = row.map(|(price, size)| (price.normal(), size));
        let key = (side as u8, id);
        let old = match row {
            Some(row) => self.rows.insert(key, row),
            None => self.rows.remove(&key),
        };
        if let Some((price, size)) = old {
            let sum = self.add(side, price, -size)?;
            if row.is_none_or(|(moved, _)| moved != price) {
                out.level(side, price, Decimal::new(sum, 0))?;
            }
        }
        if let Some((price, size)) = row {
            let sum = self.add(side, price, size)?;
            out.level(side, price, Decimal::new(sum, 0))?;
        }
        Ok(())
    }
}

#[cold]
fn size_error(error: DecimalError) -> VenueError {
    VenueError::new(Class::Resync, VenueErrorKind::Number { field: "size", error })
}

#[derive(Default, Serialize, Deserialize)]
struct BitMexSession {
    /// Books that a partial has begun, by rank of their feed.
    books: BTreeMap<(u8, InstrumentId), Rows>,
    /// Books that the frame being read has named.
    #[serde(skip)]
    touched: Vec<(u8, InstrumentId)>,
}

impl Session for BitMexSession {
    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let Frame::Text(text) = frame else {
            return Ok(if matches!(frame, Frame::Open { .. } | Frame::Close(_)) { out.known() } else { out.unknown() });
        };
        if text.trim_ascii() == b"pong" {
            return Ok(out.known());
        }
        self.touched.clear();
        let result = self.text(text, out);
        if result.is_err() {
            // Half of the frame may be in: what it named begins again.
            for key in &self.touched {
                self.books.remove(key);
            }
        }
        result
    }

    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let Scope::Book(id, feed) = scope else {
            self.books.clear();
            return Ok(());
        };
        self.books.remove(&(feed, id));
        if feed <= L2_25 {
            let native = &out.instruments().get(id).native;
            let topic = format!("{}:{native}", SPEC.books[feed as usize].name);
            for op in ["unsubscribe", "subscribe"] {
                out.send(&format!(r#"{{"op":"{op}","args":["{topic}"]}}"#));
            }
        }
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        common::save(self, out);
    }
}

fn book_feed(table: &[u8]) -> Option<u8> {
    SPEC.books.iter().position(|feed| feed.name.as_bytes() == table).map(|rank| rank as u8)
}

impl BitMexSession {
    fn text(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut table, mut action, mut filter, mut late) = (None, None, None, None);
        let (mut topic, mut error, mut info) = (None, false, false);
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"table" => {
                    seen.once(0, &c)?;
                    table = Some(c.str()?);
                }
                b"action" => {
                    seen.once(1, &c)?;
                    action = Some(Action::read(c.str()?)?);
                }
                b"data" => {
                    seen.once(2, &c)?;
                    if let (Some(table), Some(action)) = (table, action) {
                        self.rows(table, action, &mut c, out)?;
                    } else {
                        late = Some(c);
                        c.skip()?;
                    }
                }
                b"filter" => {
                    filter = Some(c);
                    c.skip()?;
                }
                b"subscribe" => topic = Some(c.str()?),
                b"error" => {
                    error = true;
                    c.skip()?;
                }
                b"info" | b"success" => {
                    info = true;
                    c.skip()?;
                }
                _ => c.skip()?,
            }
        }
        c.end()?;
        let (Some(table), Some(action)) = (table, action) else {
            return match topic {
                _ if error => Err(VenueError::venue(Class::Ignore, text)),
                _ if table.is_some() => Err(VenueError::missing("action")),
                Some(topic) => {
                    subscribed(topic, out);
                    Ok(())
                }
                None if info => Ok(out.known()),
                None => Ok(out.unknown()),
            };
        };
        match late {
            Some(mut late) => self.rows(table, action, &mut late, out)?,
            None if !seen.has(2) => return Err(VenueError::missing("data")),
            None => {}
        }
        // A partial without rows is an empty book; only its filter names it.
        if let (Some(feed @ (L2 | L2_25)), Action::Partial, true) = (book_feed(table), action, self.touched.is_empty())
            && let Some(mut symbol) = filter.map(|filter| filter.find(b"symbol")).transpose()?.flatten()
        {
            let id = out.instrument(symbol.str()?);
            self.books.insert((feed, id), Rows::default());
            out.begin(id);
            out.book(BookHead::new(feed, BookKind::Snapshot));
        }
        Ok(())
    }

    fn rows(&mut self, table: &[u8], action: Action, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match (table, book_feed(table)) {
            (_, Some(feed @ (L2 | L2_25))) => self.levels(feed, action, c, out),
            (_, Some(_)) => each(c, |c| image(c, out)),
            (b"trade", _) => each(c, |c| trade(action == Action::Partial, c, out)),
            _ => {
                if let Some(interval) = table.strip_prefix(b"tradeBin").and_then(interval_of) {
                    return each(c, |c| candle(interval, c, out));
                }
                c.skip()?;
                let known: [&[u8]; 10] = [
                    b"quote",
                    b"instrument",
                    b"funding",
                    b"liquidation",
                    b"settlement",
                    b"insurance",
                    b"announcement",
                    b"chat",
                    b"connected",
                    b"publicNotifications",
                ];
                Ok(if known.contains(&table) { out.known() } else { out.unknown() })
            }
        }
    }

    /// Rows of a book: `{"symbol":"XBTUSD","id":62400580205,"side":"Sell","size":33000,"price":98459.9,"timestamp":".."}`.
    fn levels(&mut self, feed: u8, action: Action, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        // The message being staged: rows of several books may come in one frame.
        let mut open: Option<(InstrumentId, BookHead)> = None;
        let mut list = c.array()?;
        while list.next(c)? {
            let row = Row::read(c, out)?;
            let id = row.instrument;
            let key = (feed, id);
            if open.is_none_or(|(current, _)| current != id) {
                if let Some((_, head)) = open {
                    out.book(head);
                }
                let mut kind = BookKind::Delta;
                if !self.touched.contains(&key) {
                    self.touched.push(key);
                    if action == Action::Partial {
                        self.books.insert(key, Rows::default());
                        kind = BookKind::Snapshot;
                    }
                }
                out.begin(id);
                open = Some((id, BookHead::new(feed, kind)));
            }
            if let Some((_, head)) = &mut open {
                head.ts_event = head.ts_event.max(row.time);
            }
            let Some(rows) = self.books.get_mut(&key) else {
                // Before its partial a row stands for itself, if it tells its price; the keeper waits anyway.
                if let Some(price) = row.price {
                    let size = if action == Action::Delete { 0 } else { row.size.unwrap_or_default() };
                    out.level(row.side, price, Decimal::new(size, 0))?;
                }
                continue;
            };
            let known = rows.rows.get(&(row.side as u8, row.id)).copied();
            let new = match (action, known) {
                (Action::Update | Action::Delete, None) => return Err(VenueError::unexpected("id of a level")),
                (Action::Delete, _) => None,
                (Action::Update, Some((price, size))) => Some((row.price.unwrap_or(price), row.size.unwrap_or(size))),
                (Action::Partial | Action::Insert, _) => {
                    let price = row.price.ok_or_else(|| VenueError::missing("price"))?;
                    Some((price, row.size.ok_or_else(|| VenueError::missing("size"))?))
                }
            };
            rows.put(row.side, row.id, new, out)?;
        }
        if let Some((_, head)) = open {
            out.book(head);
        }
        Ok(())
    }
}

/// A confirmed topic, such as `orderBookL2:XBTUSD`.
fn subscribed(topic: &[u8], out: &mut Sink<'_>) {
    let Some(colon) = topic.iter().position(|byte| *byte == b':') else { return out.known() };
    let (table, symbol) = (&topic[..colon], &topic[colon + 1..]);
    let (channel, feed) = match (table, book_feed(table)) {
        (_, Some(feed)) => (Channel::Book, feed),
        (b"trade", _) => (Channel::Trades, 0),
        (b"tradeBin1m" | b"tradeBin5m" | b"tradeBin1h" | b"tradeBin1d", _) => (Channel::Candles, 0),
        _ => return out.known(),
    };
    let id = out.instrument(symbol);
    out.subscribed(channel, feed, id);
}

fn each(c: &mut Cursor<'_>, mut read: impl FnMut(&mut Cursor<'_>) -> Result<(), VenueError>) -> Result<(), VenueError> {
    let mut list = c.array()?;
    while list.next(c)? {
        read(c)?;
    }
    Ok(())
}

fn side(c: &mut Cursor<'_>) -> Result<Side, VenueError> {
    match c.str()? {
        b"Buy" => Ok(Side::Bid),
        b"Sell" => Ok(Side::Ask),
        _ => Err(VenueError::unexpected("side")),
    }
}

struct Row {
    instrument: InstrumentId,
    id: i64,
    side: Side,
    price: Option<Decimal>,
    size: Option<i64>,
    time: Option<Nanos>,
}

impl Row {
    fn read(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<Self, VenueError> {
        let mut seen = Seen::default();
        let mut row = Self { instrument: InstrumentId(0), id: 0, side: Side::Bid, price: None, size: None, time: None };
        let mut o = c.object()?;
        while let Some(key) = o.key(c)? {
            match key {
                b"symbol" => {
                    seen.once(0, c)?;
                    row.instrument = out.instrument(c.str()?);
                }
                b"id" => {
                    seen.once(1, c)?;
                    row.id = c.int()?;
                }
                b"side" => {
                    seen.once(2, c)?;
                    row.side = side(c)?;
                }
                b"price" => {
                    seen.once(3, c)?;
                    row.price = Some(sink::price(c)?);
                }
                b"size" => {
                    seen.once(4, c)?;
                    let size = sink::size(c)?.at_scale(0).map_err(size_error)?;
                    if size < 0 {
                        return Err(VenueError::new(
                            Class::Resync,
                            VenueErrorKind::Level("size of a level is negative"),
                        ));
                    }
                    row.size = Some(size);
                }
                b"timestamp" => row.time = common::rfc3339_at(c)?,
                _ => c.skip()?,
            }
        }
        common::require(seen, &["symbol", "id", "side"])?;
        Ok(row)
    }
}

/// `{"symbol":"XBTUSD","bids":[[price,contracts]],"asks":[..],"timestamp":".."}`
fn image(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut late, mut time) = ([None, None], None);
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
                let id = out.instrument(c.str()?);
                out.begin(id);
            }
            b"timestamp" => time = common::rfc3339_at(c)?,
            _ => c.skip()?,
        }
    }
    common::require(seen, &["bids", "asks", "symbol"])?;
    for (side, late) in [Side::Bid, Side::Ask].into_iter().zip(late) {
        if let Some(mut late) = late {
            out.pairs(side, &mut late)?;
        }
    }
    let (depth, sequence) = (Some(10), time.map(Sequence::at));
    Ok(out.book(BookHead { depth, sequence, ts_event: time, ..BookHead::new(TOP10, BookKind::Image) }))
}

/// `{"timestamp":"..","symbol":"UNIUSDT","side":"Buy","size":52,"price":17.297,"trdMatchID":".."}` with the taker's side.
fn trade(history: bool, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut id, mut trade_id, mut time, mut taker) = (InstrumentId(0), &b""[..], None, Side::Bid);
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
                taker = side(c)?;
            }
            b"size" => {
                seen.once(2, c)?;
                size = c.decimal()?;
            }
            b"price" => {
                seen.once(3, c)?;
                price = c.decimal()?;
            }
            b"trdMatchID" => {
                seen.once(4, c)?;
                trade_id = c.text()?;
            }
            b"timestamp" => time = common::rfc3339_at(c)?,
            _ => c.skip()?,
        }
    }
    common::require(seen, &["symbol", "side", "size", "price", "trdMatchID"])?;
    let (feed, sequence, ts_event) = (0, None, time);
    out.trade(&TradeItem { feed, id, price, size, taker, trade_id, sequence, history, ts_event })
}

fn interval_of(name: &[u8]) -> Option<Nanos> {
    match name {
        b"1m" => Some(MINUTE),
        b"5m" => Some(5 * MINUTE),
        b"1h" => Some(60 * MINUTE),
        b"1d" => Some(DAY),
        _ => None,
    }
}

/// `{"timestamp":close time,"symbol":..,"open":..,"high":..,"low":..,"close":..,"trades":3,"homeNotional":base,
/// "foreignNotional":quote}`; only finished bins come.
fn candle(interval: Nanos, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut id, mut time, mut count, mut volume, mut notional) = (InstrumentId(0), None, None, None, None);
    let [mut open, mut high, mut low, mut close] = [Decimal::default(); 4];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        let (bit, field) = match key {
            b"open" => (0, &mut open),
            b"high" => (1, &mut high),
            b"low" => (2, &mut low),
            b"close" => (3, &mut close),
            b"symbol" => {
                seen.once(4, c)?;
                id = out.instrument(c.str()?);
                continue;
            }
            b"timestamp" => {
                seen.once(5, c)?;
                time = common::rfc3339_at(c)?;
                continue;
            }
            b"homeNotional" | b"foreignNotional" => {
                // The venue's floating point may print more digits than a decimal holds.
                let number = { *c }.decimal().ok();
                c.skip()?;
                *(if key == b"homeNotional" { &mut volume } else { &mut notional }) = number;
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
    common::require(seen, &["open", "high", "low", "close", "symbol", "timestamp"])?;
    let close_time = time.ok_or_else(|| VenueError::unexpected("timestamp"))?;
    let Some(volume) = volume else { return Ok(out.known()) };
    out.candle(CandleItem {
        feed: 0,
        id,
        interval,
        open_time: close_time - interval,
        open,
        high,
        low,
        close,
        volume,
        notional,
        count,
        taker_buy: None,
        closed: true,
        ts_event: time,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, subscriptions};

    fn message(action: &str, rows: &str) -> String {
        format!(r#"{{"table":"orderBookL2","action":"{action}","data":[{rows}]}}"#)
    }

    fn row(id: i64, side: &str, rest: &str) -> String {
        format!(r#"{{"symbol":"XBTUSD","id":{id},"side":"{side}"{rest}}}"#)
    }

    #[test]
    fn nothing_is_dialled() {
        let wanted = subscriptions(&["XBTUSD"], &[Channel::Book]);
        assert_eq!(BitMex.plan(&wanted, &Instruments::default()), []);
        let error = BitMex.dial(&ConnectionPlan::default(), None).unwrap_err();
        assert_eq!((error.class, error.kind), (Class::Fatal, VenueErrorKind::Gone(GONE)));
        assert_eq!(BitMex.spec().closed, Some(GONE));
        assert_eq!(BitMex.candle_request("XBTUSD", MINUTE, 0, 1), None);
    }

    #[test]
    fn rows_at_one_price_add_up() {
        let mut bench = Bench::open(&BitMex, None);
        let rows = [row(1, "Buy", r#","size":5,"price":10"#), row(2, "Buy", r#","size":7,"price":10.0"#)];
        bench.text(&message("partial", &rows.join(",")));
        assert_eq!(bench.book("XBTUSD"), "Live 10:12 | ");
        bench.text(&message("update", &row(1, "Buy", r#","size":1"#)));
        bench.text(&message("insert", &row(3, "Sell", r#","size":2,"price":11"#)));
        assert_eq!(bench.book("XBTUSD"), "Live 10:8 | 11:2");
        bench.text(&message("update", &row(2, "Buy", r#","price":9"#)));
        bench.text(&message("delete", &row(1, "Buy", "")));
        assert_eq!(bench.book("XBTUSD"), "Live 9:7 | 11:2");
        // The side is part of the key.
        bench.text(&message("delete", &row(3, "Buy", "")));
        assert!(bench.told.0.contains(&"error Resync unexpected id of a level".to_owned()), "{:?}", bench.told.0);
        let asked = |op| format!(r#"{{"op":"{op}","args":["orderBookL2:XBTUSD"]}}"#);
        assert_eq!(bench.sent, ["unsubscribe", "subscribe"].map(asked));
        bench.text(&message("update", &row(2, "Buy", r#","size":1"#)));
        bench.text(&message("partial", &rows[0]));
        assert_eq!(bench.book("XBTUSD"), "Live 10:5 | ");
    }

    #[test]
    fn a_refused_frame_changes_no_rows() {
        let mut bench = Bench::open(&BitMex, None);
        let first = row(1, "Buy", r#","size":9223372036854775807,"price":10"#);
        bench.text(&message("partial", &first));
        let bad = [row(2, "Buy", r#","size":3,"price":9"#), row(3, "Buy", r#","size":1,"price":10"#)];
        bench.text(&message("insert", &bad.join(",")));
        assert!(bench.told.0.iter().any(|told| told.starts_with("error Resync size: ")), "{:?}", bench.told.0);
        bench.text(&message("update", &row(1, "Buy", r#","size":2"#)));
        assert!(!bench.book("XBTUSD").starts_with("Live"));
    }

    #[test]
    fn contracts_become_base_or_quote() {
        let body = br#"[
            {"symbol":"XBTUSD","state":"Open","typ":"FFWCSX","underlying":"XBT","quoteCurrency":"USD","expiry":null,"tickSize":0.5,"lotSize":100,"underlyingToPositionMultiplier":null,"isInverse":true},
            {"symbol":"XBTUSDT","state":"Open","typ":"FFWCSX","underlying":"XBT","quoteCurrency":"USDT","tickSize":0.5,"lotSize":1000,"underlyingToPositionMultiplier":1000000,"isInverse":false},
            {"symbol":"ETHZ26","state":"Settled","typ":"FFCCSX","underlying":"ETH","quoteCurrency":"XBT","expiry":"2026-12-25T12:00:00.000Z","tickSize":1e-05,"lotSize":1,"isInverse":false},
            {"symbol":"XBT_USDT","state":"Open","typ":"IFXXXP","underlying":"XBT","quoteCurrency":"USDT","tickSize":0.5,"lotSize":1000,"underlyingToPositionMultiplier":100000000,"isInverse":false},
            {"symbol":".BXBT","state":"Unlisted","typ":"MRCXXX","underlying":"XBT","quoteCurrency":"USD"}]"#;
        let mut listings = Vec::new();
        BitMex.parse_instruments(&BitMex.instrument_requests()[0], body, &mut listings).unwrap();
        let names: Vec<_> = listings.iter().map(Listing::symbol).collect();
        assert_eq!(names, ["BTC-USD-PERP", "BTC-USDT-PERP", "ETH-BTC-261225", "BTC-USDT"]);
        let sizes: Vec<_> = listings.iter().map(|listing| listing.contract_size.to_string()).collect();
        assert_eq!(sizes, ["1", "0.000001", "1", "0.00000001"]);
        assert_eq!((listings[0].inverse, listings[2].tick_size), (true, Some(Decimal::new(1, 5))));
        assert_eq!(listings[2].status, Status::Delisted);
        assert_eq!([3, 8, 0, -1].map(reciprocal), [None, Some(Decimal::new(125, 3)), None, None]);
    }
}
