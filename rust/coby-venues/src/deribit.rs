//! Deribit, JSON-RPC v2: <https://docs.deribit.com>.
//!
//! Book: a snapshot comes with the subscription, then changes whose `prev_change_id` must be the `change_id`
//! before it; ids are shared by all instruments. A second subscription of a channel brings no snapshot, so it
//! is given up first. Sizes are amounts, not contracts: USD for inverse contracts, else the base.
//!
//! Channels that do not exist are left out of the answer without a word. Every test request of the server must
//! be answered. `raw` channels need a login, so plans use `100ms`.

use coby_core::decimal::Decimal;
use coby_core::instrument::{InstrumentId, InstrumentKind, Instruments, Listing, Status};
use coby_core::level::Side;
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Kind, Seen};
use coby_core::sink::{self, BookKind};
use coby_core::time::{DAY, MILLI, MINUTE, nanos};
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, Class, ConnectionPlan, Dial, Frame, Join, Limits, Ping, Proof,
    Rule, Scope, Sequence, Session, Sink, Subscription, TradeFeed, TradeItem, Venue, VenueError, VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;

const REST: &str = "https://www.deribit.com";
const SOCKET: &str = "wss://www.deribit.com/ws/api/v2";

/// Ranks of the feeds that tell changes, up to the last.
const RAW: u8 = 0;
const MILLIS100: u8 = 1;
const AGG2: u8 = 2;
const GROUPED20: u8 = 3;
const GROUPED10: u8 = 4;
const GROUPED1: u8 = 5;

/// Ids of our requests; the batches of the plan count from the last.
const HEARTBEAT: i64 = 1;
const TEST: i64 = 2;
const GIVE_UP: i64 = 3;
const AGAIN: i64 = 4;
const PLANNED: i64 = 100;

/// Channels per subscribe request.
const CHANNELS: usize = 200;

static SPEC: VenueSpec = VenueSpec {
    id: "deribit",
    name: "Deribit",
    protocol: "2026-09",
    closed: None,
    sockets: &[SOCKET],
    rest: REST,
    ping: Ping::Server,
    // Heartbeats come every 30 seconds.
    silence: 75,
    limits: Limits { dials: (10, 10), messages: (3, 1), spacing: 0, streams: 500, rest: (20, 1), lifetime: 0 },
    books: &[
        BookFeed { name: "book raw", limits: "only decoded: it needs a login", ..CHANGES },
        BookFeed { name: "book 100ms", ..CHANGES },
        BookFeed { name: "book agg2", ..CHANGES },
        BookFeed { name: "book none.20", depth: Some(20), ..IMAGE },
        BookFeed { name: "book none.10", depth: Some(10), ..IMAGE },
        BookFeed { name: "book none.1", depth: Some(1), ..IMAGE },
    ],
    trades: &[TradeFeed { name: "trades", proof: Proof::Sequence, aggregated: false }],
    candles: &[CandleFeed { name: "chart.trades.1", interval: MINUTE }],
};

const CHANGES: BookFeed = BookFeed {
    name: "",
    join: Join::Socket,
    rule: Rule::Chain,
    proof: Proof::Sequence,
    checksum: None,
    digits: false,
    depth: None,
    shows: None,
    refresh: 0,
    limits: "the whole book; some instruments arrive up to a second late",
};

const IMAGE: BookFeed = BookFeed {
    join: Join::Image,
    rule: Rule::Monotone,
    proof: Proof::None,
    limits: "whole images: a lost one is healed by the next",
    ..CHANGES
};

/// Deribit.
#[derive(Clone, Copy, Debug)]
pub struct Deribit;

#[derive(Deserialize)]
struct Answer<T> {
    result: Option<T>,
}

#[derive(Deserialize)]
struct InstrumentInfo {
    instrument_name: String,
    kind: String,
    #[serde(default)]
    instrument_type: String,
    base_currency: String,
    quote_currency: String,
    tick_size: serde_json::Number,
    min_trade_amount: serde_json::Number,
    #[serde(default)]
    is_active: bool,
    state: Option<String>,
    #[serde(default)]
    expiration_timestamp: i64,
}

impl Venue for Deribit {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        let list = |kind| {
            let query = format!("currency=any&kind={kind}&expired=false");
            HttpRequest::get(REST, format!("/api/v2/public/get_instruments?{query}"))
        };
        ["future", "spot"].map(list).into()
    }

    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let Answer { result: Some(list) }: Answer<Vec<InstrumentInfo>> = common::read(body)? else {
            return Err(VenueError::venue(Class::Ignore, body));
        };
        for info in list {
            let mut listing = Listing::spot(&info.instrument_name, &info.base_currency, &info.quote_currency);
            listing.kind = match info.kind.as_str() {
                "spot" => InstrumentKind::Spot,
                "future" if info.instrument_name.ends_with("-PERPETUAL") => InstrumentKind::Perpetual,
                "future" => InstrumentKind::Future(common::time(info.expiration_timestamp, MILLI)?),
                // Options and combinations are known by their native names alone.
                _ => continue,
            };
            listing.tick_size = common::step(&info.tick_size.to_string());
            listing.lot_size = common::step(&info.min_trade_amount.to_string());
            // Lists of before 2022 do not tell: every contract was inverse then.
            let untold = info.instrument_type.is_empty() && listing.kind != InstrumentKind::Spot;
            listing.inverse = info.instrument_type == "reversed" || untold;
            listing.status = match info.state.as_deref() {
                Some("open") => Status::Trading,
                None if info.is_active => Status::Trading,
                Some("created" | "locked" | "halted" | "inactive") => Status::Halted,
                _ => Status::Delisted,
            };
            out.push(listing);
        }
        Ok(())
    }

    fn plan(&self, subscriptions: &[Subscription], instruments: &Instruments) -> Vec<ConnectionPlan> {
        let gone = |native: &str| {
            let listing = instruments.find(native.as_bytes()).and_then(|id| instruments.get(id).listing.as_ref());
            listing.is_some_and(|listing| listing.status == Status::Delisted)
        };
        let wanted: Vec<_> = subscriptions.iter().filter(|wanted| !gone(&wanted.native)).cloned().collect();
        common::split(SOCKET, &wanted, SPEC.limits.streams)
    }

    fn dial(&self, plan: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Ok(Dial::Connect { url: plan.base.clone(), ping: 0 })
    }

    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        let subscriptions = plan.map(|plan| plan.subscriptions.clone()).unwrap_or_default();
        Ok(Box::new(common::load(saved, || DeribitSession { subscriptions })?))
    }

    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, to: Nanos) -> Option<HttpRequest> {
        let (resolution, _) = RESOLUTIONS.iter().find(|(_, nanos)| *nanos == interval)?;
        let (start, end) = (from.div_euclid(MILLI), (to - 1).div_euclid(MILLI));
        let what = format!("instrument_name={native}&resolution={resolution}");
        let when = format!("start_timestamp={start}&end_timestamp={end}");
        Some(HttpRequest::get(REST, format!("/api/v2/public/get_tradingview_chart_data?{what}&{when}")))
    }

    /// `{"result":{"ticks":[ms],"open":[..],"high":[..],"low":[..],"close":[..],"volume":[..],"cost":[..],"status":"ok"}}`
    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let interval = request.query("resolution").and_then(|name| interval_of(name.as_bytes()));
        let interval = interval.ok_or_else(|| VenueError::missing("resolution"))?;
        let refused = || VenueError::venue(Class::Ignore, body);
        let mut c = Cursor::new(body).find(b"result")?.ok_or_else(refused)?;
        let mut columns: [Vec<Decimal>; 7] = Default::default();
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            let names: [&[u8]; 7] = [b"ticks", b"open", b"high", b"low", b"close", b"volume", b"cost"];
            let Some(column) = names.iter().position(|name| *name == key) else {
                c.skip()?;
                continue;
            };
            let mut list = c.array()?;
            while list.next(&mut c)? {
                columns[column].push(c.decimal()?);
            }
        }
        let count = columns[0].len();
        if columns.iter().any(|column| column.len() != count) {
            return Err(refused());
        }
        let mut columns = columns.map(Vec::into_iter);
        for _ in 0..count {
            let row = columns.each_mut().map(|column| column.next().unwrap_or_default());
            let [tick, open, high, low, close, volume, cost] = row;
            let tick = tick.at_scale(0).map_err(|_| refused())?;
            out.push(CandleItem {
                feed: 0,
                id: InstrumentId(0),
                interval,
                open_time: common::time(tick, MILLI)?,
                open,
                high,
                low,
                close,
                volume,
                notional: Some(cost),
                count: None,
                taker_buy: None,
                closed: true,
                ts_event: None,
            });
        }
        Ok(())
    }
}

/// Resolutions that the venue names.
const RESOLUTIONS: [(&str, Nanos); 12] = [
    ("1", MINUTE),
    ("3", 3 * MINUTE),
    ("5", 5 * MINUTE),
    ("10", 10 * MINUTE),
    ("15", 15 * MINUTE),
    ("30", 30 * MINUTE),
    ("60", 60 * MINUTE),
    ("120", 120 * MINUTE),
    ("180", 180 * MINUTE),
    ("360", 360 * MINUTE),
    ("720", 720 * MINUTE),
    ("1D", DAY),
];

fn interval_of(name: &[u8]) -> Option<Nanos> {
    RESOLUTIONS.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, nanos)| *nanos)
}

/// What a channel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What<'a> {
    /// Instrument and rank.
    Book(&'a [u8], u8),
    /// Instrument, or `None` where the channel names a kind and a currency.
    Trades(Option<&'a [u8]>),
    Candles(&'a [u8], Nanos),
    /// Tickers, indices, books of rounded prices and the like.
    Known,
    Unknown,
}

fn what(channel: &[u8]) -> What<'_> {
    let mut parts = [&b""[..]; 6];
    let mut count = 0;
    for (part, text) in parts.iter_mut().zip(channel.split(|byte| *byte == b'.')) {
        *part = text;
        count += 1;
    }
    match parts[..count] {
        [b"book", instrument, b"raw"] => What::Book(instrument, RAW),
        [b"book", instrument, b"100ms"] => What::Book(instrument, MILLIS100),
        [b"book", instrument, b"agg2"] => What::Book(instrument, AGG2),
        [b"book", instrument, b"none", b"20", _] => What::Book(instrument, GROUPED20),
        [b"book", instrument, b"none", b"10", _] => What::Book(instrument, GROUPED10),
        [b"book", instrument, b"none", b"1", _] => What::Book(instrument, GROUPED1),
        [b"trades", instrument, _] => What::Trades(Some(instrument)),
        [b"trades", _, _, _] => What::Trades(None),
        [b"chart", b"trades", instrument, resolution] => {
            interval_of(resolution).map_or(What::Known, |interval| What::Candles(instrument, interval))
        }
        // Books here are those of rounded prices.
        [
            b"book"
            | b"ticker"
            | b"incremental_ticker"
            | b"quote"
            | b"perpetual"
            | b"markprice"
            | b"instrument"
            | b"platform_state"
            | b"deribit_price_index"
            | b"deribit_price_ranking"
            | b"deribit_price_statistics"
            | b"deribit_volatility_index"
            | b"estimated_expiration_price"
            | b"rfq"
            | b"block_rfq",
            ..,
        ] => What::Known,
        _ => What::Unknown,
    }
}

fn channel_of(subscription: &Subscription) -> String {
    let native = &subscription.native;
    match subscription.channel {
        Channel::Book => format!("book.{native}.100ms"),
        Channel::Trades => format!("trades.{native}.100ms"),
        Channel::Candles => format!("chart.trades.{native}.1"),
    }
}

fn request(id: i64, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"public/{method}","params":{{{params}}}}}"#)
}

fn channels(names: &[String]) -> String {
    format!(r#""channels":["{}"]"#, names.join("\",\""))
}

#[derive(Serialize, Deserialize)]
struct DeribitSession {
    subscriptions: Vec<Subscription>,
}

impl Session for DeribitSession {
    fn usual(&mut self, text: &[u8], out: &mut Sink<'_>) -> Option<()> {
        usual(text, out)
    }

    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            Frame::Open { .. } => {
                // Before anything else: a quiet connection lives by its heartbeats.
                out.send(&request(HEARTBEAT, "set_heartbeat", r#""interval":30"#));
                for (id, batch) in (PLANNED..).zip(self.subscriptions.chunks(CHANNELS)) {
                    let names: Vec<String> = batch.iter().map(channel_of).collect();
                    out.send(&request(id, "subscribe", &channels(&names)));
                }
                Ok(())
            }
            Frame::Text(text) => self.text(text, out),
            // Books over REST may be ahead of the channel, and would break its chain.
            Frame::Http { request, .. } if request.route().ends_with("/public/get_order_book") => Ok(out.known()),
            Frame::Http { .. } | Frame::Binary(_) => Ok(out.unknown()),
            Frame::Close(_) => Ok(()),
        }
    }

    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let books: Vec<String> = match scope {
            Scope::Book(id, feed) => {
                let native = &out.instruments().get(id).native;
                match feed {
                    RAW => vec![format!("book.{native}.raw")],
                    MILLIS100 => vec![format!("book.{native}.100ms")],
                    AGG2 => vec![format!("book.{native}.agg2")],
                    // The next image heals by itself.
                    _ => return Ok(()),
                }
            }
            Scope::Connection => {
                let books = self.subscriptions.iter().filter(|wanted| wanted.channel == Channel::Book);
                books.map(channel_of).collect()
            }
        };
        for names in books.chunks(CHANNELS) {
            out.send(&request(GIVE_UP, "unsubscribe", &channels(names)));
            out.send(&request(AGAIN, "subscribe", &channels(names)));
        }
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        common::save(self, out);
    }
}

impl DeribitSession {
    fn text(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut method, mut params, mut answer) = (None, None, false);
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"method" => {
                    seen.once(0, &c)?;
                    method = Some(c.str()?);
                }
                b"params" => {
                    seen.once(1, &c)?;
                    if method == Some(b"subscription") {
                        push(&mut c, out)?;
                    } else {
                        params = Some(c);
                        c.skip()?;
                    }
                }
                b"result" | b"error" => {
                    answer = true;
                    c.skip()?;
                }
                _ => c.skip()?,
            }
        }
        c.end()?;
        match (method, params) {
            (Some(b"subscription"), Some(mut params)) => push(&mut params, out),
            (Some(b"subscription"), None) if seen.has(1) => Ok(()),
            (Some(b"subscription"), None) => Err(VenueError::missing("params")),
            (Some(b"heartbeat"), Some(params)) => {
                let kind = params.find(b"type")?.map(|mut kind| kind.text()).transpose()?;
                if kind == Some(b"test_request") {
                    out.send(&request(TEST, "test", ""));
                }
                Ok(out.known())
            }
            (None, None) if answer => self.answer(text, out),
            _ => Ok(out.unknown()),
        }
    }

    /// `{"jsonrpc":"2.0","id":3,"result":["trades.BTC-PERPETUAL.100ms"],..}`, or an error.
    fn answer(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let (mut id, mut result, mut error) = (None, None, None);
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"id" if c.kind()? == Kind::Number => id = Some(c.int()?),
                b"result" => {
                    result = Some(c);
                    c.skip()?;
                }
                b"error" if !c.null()? => {
                    error = Some(c);
                    c.skip()?;
                }
                b"error" => {}
                _ => c.skip()?,
            }
        }
        let planned = !self.subscriptions.is_empty();
        let batch = id.and_then(|id| usize::try_from(id.checked_sub(PLANNED)?).ok());
        let batch = batch.and_then(|batch| self.subscriptions.chunks(CHANNELS).nth(batch));
        if let Some(error) = error {
            let code = error.find(b"code").ok().flatten().and_then(|mut code| code.int().ok());
            let class = match (code, batch) {
                // Too many requests.
                (Some(10_028), Some(_)) => Class::Reconnect,
                (_, Some(_)) => Class::Fatal,
                // What is asked again in time, or was asked by a recorder.
                _ => Class::Ignore,
            };
            return Err(VenueError::venue(class, text));
        }
        let Some(mut c) = result else { return Ok(out.unknown()) };
        if c.kind()? != Kind::Array || planned && id == Some(GIVE_UP) {
            return Ok(out.known());
        }
        let mut names = Vec::new();
        let mut list = c.array()?;
        while list.next(&mut c)? {
            if c.kind()? != Kind::String {
                return Ok(out.known());
            }
            names.push(c.str()?);
        }
        let dropped = batch.unwrap_or_default().iter().map(channel_of).find(|name| !names.contains(&name.as_bytes()));
        if let Some(dropped) = dropped {
            return Err(VenueError::venue(Class::Fatal, format!("there is no channel {dropped}").as_bytes()));
        }
        for name in names {
            let (channel, feed, instrument) = match what(name) {
                What::Book(instrument, feed) => (Channel::Book, feed, instrument),
                What::Trades(Some(instrument)) => (Channel::Trades, 0, instrument),
                What::Candles(instrument, _) => (Channel::Candles, 0, instrument),
                What::Trades(None) | What::Known | What::Unknown => continue,
            };
            let id = out.instrument(instrument);
            out.subscribed(channel, feed, id);
        }
        Ok(())
    }
}

/// `{"jsonrpc":"2.0","method":"subscription","params":{"channel":"book.BTC-PERPETUAL.100ms","data":{"timestamp":ms,`
/// `"type":"change","change_id":2,"prev_change_id":1,"instrument_name":"..","bids":[["new",price,amount]],"asks":[..]}}}` to the
/// letter
fn usual(text: &[u8], out: &mut Sink<'_>) -> Option<()> {
    let mut c = Cursor::new(text);
    c.literal(br#"{"jsonrpc":"2.0","method":"subscription","params":{"channel":""#)?;
    let What::Book(instrument, feed @ (RAW | MILLIS100 | AGG2)) = what(c.plain()?) else { return None };
    let id = out.usual_instrument(instrument)?;
    out.begin(id);
    c.literal(br#","data":{"timestamp":"#)?;
    let time = nanos(c.digits()?, MILLI)?;
    c.literal(br#","type":"change","change_id":"#)?;
    let last = c.digits()?;
    c.literal(br#","prev_change_id":"#)?;
    let previous = c.digits()?;
    c.literal(br#","instrument_name":""#)?;
    c.plain()?;
    c.literal(br#","bids":["#)?;
    usual_changes(Side::Bid, &mut c, out)?;
    c.literal(br#","asks":["#)?;
    usual_changes(Side::Ask, &mut c, out)?;
    c.literal(b"}}}")?;
    c.done()?;
    let sequence = Some(Sequence::after(previous, last));
    out.book(BookHead { sequence, ts_event: Some(time), ..BookHead::new(feed, BookKind::Delta) });
    Some(())
}

/// `["new",price,amount],..]`
fn usual_changes(side: Side, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Option<()> {
    if c.literal(b"]").is_some() {
        return Some(());
    }
    loop {
        let gone = c.literal(br#"["delete","#).is_some();
        if !gone && c.literal(br#"["change","#).is_none() {
            c.literal(br#"["new","#)?;
        }
        let price = c.bare_decimal()?;
        c.literal(b",")?;
        let amount = c.bare_decimal()?;
        out.usual_level(side, price, if gone { Decimal::default() } else { amount })?;
        if c.literal(b"],").is_none() {
            return c.literal(b"]]");
        }
    }
}

/// `{"channel":"..","data":..}`
fn push(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut channel, mut late) = (None, None);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"channel" => {
                seen.once(0, c)?;
                channel = Some(what(c.str()?));
            }
            b"data" => {
                seen.once(1, c)?;
                if let Some(channel) = channel {
                    data(channel, c, out)?;
                } else {
                    late = Some(*c);
                    c.skip()?;
                }
            }
            _ => c.skip()?,
        }
    }
    common::require(seen, &["channel", "data"])?;
    match (channel, late) {
        (Some(channel), Some(mut late)) => data(channel, &mut late, out),
        _ => Ok(()),
    }
}

fn data(channel: What<'_>, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    match channel {
        What::Book(instrument, feed) => {
            let id = out.instrument(instrument);
            book(feed, id, c, out)
        }
        What::Trades(instrument) => {
            // Named before its trades, so that what is wrong with one costs no other instrument.
            instrument.map(|instrument| out.instrument(instrument));
            let mut list = c.array()?;
            while list.next(c)? {
                trade(c, out)?;
            }
            Ok(())
        }
        What::Candles(instrument, interval) => {
            let id = out.instrument(instrument);
            candle(id, interval, c, out)
        }
        What::Known | What::Unknown => {
            c.skip()?;
            Ok(if channel == What::Known { out.known() } else { out.unknown() })
        }
    }
}

/// `{"timestamp":ms,"type":"change","change_id":2,"prev_change_id":1,"instrument_name":"..","bids":[["new",price,amount]],
/// "asks":[]}`; the whole windows of grouped channels have no type and bare levels.
fn book(feed: u8, id: InstrumentId, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    out.begin(id);
    let mut seen = Seen::default();
    let (mut kind, mut last, mut previous, mut time) = (None, None, None, None);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"bids" | b"asks" => {
                let side = if key == b"bids" { Side::Bid } else { Side::Ask };
                seen.once(side as u32, c)?;
                if feed <= AGG2 { changes(side, c, out)? } else { out.pairs(side, c)? }
            }
            b"change_id" => {
                seen.once(2, c)?;
                last = Some(c.int()?);
            }
            b"prev_change_id" => {
                seen.once(3, c)?;
                previous = Some(c.int()?);
            }
            b"type" => {
                seen.once(4, c)?;
                kind = Some(c.str()?);
            }
            b"timestamp" => {
                seen.once(5, c)?;
                time = Some(common::time_at(c, MILLI)?);
            }
            _ => c.skip()?,
        }
    }
    common::require(seen, &["bids", "asks"])?;
    if feed > AGG2 {
        let (depth, sequence) = (SPEC.books[feed as usize].depth, last.or(time).map(Sequence::at));
        return Ok(out.book(BookHead { depth, sequence, ts_event: time, ..BookHead::new(feed, BookKind::Image) }));
    }
    let last = last.ok_or_else(|| VenueError::missing("change_id"))?;
    let (kind, sequence) = match kind {
        Some(b"snapshot") => (BookKind::Snapshot, Sequence::at(last)),
        Some(b"change") => {
            let previous = previous.ok_or_else(|| VenueError::missing("prev_change_id"))?;
            (BookKind::Delta, Sequence::after(previous, last))
        }
        _ => return Err(VenueError::unexpected("type of a book message")),
    };
    Ok(out.book(BookHead { sequence: Some(sequence), ts_event: time, ..BookHead::new(feed, kind) }))
}

/// `[["new" | "change" | "delete", price, amount]]` with absolute amounts.
#[inline]
fn changes(side: Side, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut rows = c.array()?;
    while rows.next(c)? {
        let mut row = c.array()?;
        row.more(c)?;
        let action = c.str()?;
        row.more(c)?;
        let price = sink::price(c)?;
        row.more(c)?;
        let amount = sink::size(c)?;
        row.rest(c)?;
        let amount = match action {
            b"new" | b"change" => amount,
            b"delete" => Decimal::default(),
            _ => return Err(VenueError::unexpected("action of a level")),
        };
        out.level(side, price, amount)?;
    }
    Ok(())
}

/// `{"timestamp":ms,"price":..,"amount":..,"direction":"sell","instrument_name":"..","trade_seq":271252854,
/// "trade_id":"403691824"}` with the taker's direction; `trade_seq` grows by one per trade of an instrument.
fn trade(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut id, mut trade_id, mut number, mut time) = (InstrumentId(0), &b""[..], 0, 0);
    let (mut taker, [mut price, mut size]) = (Side::Bid, [Decimal::default(); 2]);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"instrument_name" => {
                seen.once(0, c)?;
                id = out.instrument(c.str()?);
            }
            b"trade_seq" => {
                seen.once(1, c)?;
                number = c.int()?;
            }
            b"trade_id" => {
                seen.once(2, c)?;
                trade_id = c.text()?;
            }
            b"price" => {
                seen.once(3, c)?;
                price = c.decimal()?;
            }
            b"amount" => {
                seen.once(4, c)?;
                size = c.decimal()?;
            }
            b"direction" => {
                seen.once(5, c)?;
                taker = match c.str()? {
                    b"buy" => Side::Bid,
                    b"sell" => Side::Ask,
                    _ => return Err(VenueError::unexpected("direction of a trade")),
                };
            }
            b"timestamp" => {
                seen.once(6, c)?;
                time = common::time_at(c, MILLI)?;
            }
            _ => c.skip()?,
        }
    }
    let fields = ["instrument_name", "trade_seq", "trade_id", "price", "amount", "direction", "timestamp"];
    common::require(seen, &fields)?;
    let (feed, sequence, history, ts_event) = (0, Some(number), false, Some(time));
    out.trade(&TradeItem { feed, id, price, size, taker, trade_id, sequence, history, ts_event })
}

/// `{"tick":ms,"open":..,"high":..,"low":..,"close":..,"volume":base,"cost":quote}`
fn candle(id: InstrumentId, interval: Nanos, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let mut open_time = 0;
    let [mut open, mut high, mut low, mut close, mut volume, mut cost] = [Decimal::default(); 6];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        let (bit, field) = match key {
            b"open" => (0, &mut open),
            b"high" => (1, &mut high),
            b"low" => (2, &mut low),
            b"close" => (3, &mut close),
            b"volume" => (4, &mut volume),
            b"cost" => (6, &mut cost),
            b"tick" => {
                seen.once(5, c)?;
                open_time = common::time_at(c, MILLI)?;
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
    common::require(seen, &["open", "high", "low", "close", "volume", "tick"])?;
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
        notional: seen.has(6).then_some(cost),
        count: None,
        taker_buy: None,
        // Final once a later one begins; no frame says so.
        closed: false,
        ts_event: None,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, subscriptions};

    fn planned() -> Bench {
        let wanted = subscriptions(&["BTC-PERPETUAL"], &[Channel::Book, Channel::Trades, Channel::Candles]);
        Bench::open(&Deribit, Deribit.plan(&wanted, &Instruments::default()).first())
    }

    #[test]
    fn heartbeats_come_first_and_tests_are_answered() {
        let mut bench = planned();
        let asked = [
            r#"{"jsonrpc":"2.0","id":1,"method":"public/set_heartbeat","params":{"interval":30}}"#,
            r#"{"jsonrpc":"2.0","id":100,"method":"public/subscribe","params":{"channels":["book.BTC-PERPETUAL.100ms","trades.BTC-PERPETUAL.100ms","chart.trades.BTC-PERPETUAL.1"]}}"#,
        ];
        assert_eq!(bench.sent, asked);
        bench.text(r#"{"jsonrpc":"2.0","id":1,"result":"ok"}"#);
        bench.text(r#"{"params":{"type":"heartbeat"},"method":"heartbeat","jsonrpc":"2.0"}"#);
        bench.text(r#"{"params":{"type":"test_request"},"method":"heartbeat","jsonrpc":"2.0"}"#);
        assert_eq!(bench.sent[2..], [r#"{"jsonrpc":"2.0","id":2,"method":"public/test","params":{}}"#]);
        bench.text(r#"{"jsonrpc":"2.0","id":2,"result":{"version":"1.2.26"}}"#);
        assert_eq!(bench.told.0, [""; 0]);
    }

    #[test]
    fn a_channel_left_out_of_the_answer_is_refused() {
        let mut bench = planned();
        bench.text(
            r#"{"jsonrpc":"2.0","id":100,"result":["chart.trades.BTC-PERPETUAL.1","trades.BTC-PERPETUAL.100ms"]}"#,
        );
        let why = "venue says: there is no channel book.BTC-PERPETUAL.100ms";
        assert_eq!(bench.sent[2], format!("reconnect fatal=true: {why}"));
        let refused = |error: &str, id: i64| {
            let mut bench = planned();
            bench.text(&format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#));
            bench.told.0[0].split(' ').nth(1).unwrap().to_owned()
        };
        let login = r#"{"code":13778,"message":"raw_subscriptions_not_available_for_unauthorized"}"#;
        let hurried = r#"{"code":10028,"message":"too_many_requests"}"#;
        assert_eq!(
            [refused(login, 100), refused(hurried, 100), refused(hurried, AGAIN)],
            ["Fatal", "Reconnect", "Ignore"]
        );
    }

    #[test]
    fn a_hole_gives_the_channel_up_first() {
        let mut bench = planned();
        let frame = |numbers: &str| {
            format!(
                r#"{{"method":"subscription","params":{{"channel":"book.BTC-PERPETUAL.100ms","data":{{{numbers},"bids":[["new",1,2.2e3]],"asks":[]}}}}}}"#
            )
        };
        bench.text(&frame(r#""type":"snapshot","change_id":7"#));
        bench.text(&frame(r#""type":"change","prev_change_id":7,"change_id":900"#));
        assert_eq!(bench.book("BTC-PERPETUAL"), "Live 1:2200 | ");
        bench.text(&frame(r#""type":"change","prev_change_id":901,"change_id":902"#));
        let asked = |id, method| request(id, method, r#""channels":["book.BTC-PERPETUAL.100ms"]"#);
        assert_eq!(bench.sent[2..], [asked(GIVE_UP, "unsubscribe"), asked(AGAIN, "subscribe")]);
        bench.text(r#"{"jsonrpc":"2.0","id":3,"result":["book.BTC-PERPETUAL.100ms"]}"#);
        bench.text(&frame(r#""type":"snapshot","change_id":1000"#));
        assert_eq!(bench.told.0[2..].iter().filter(|told| told.starts_with("gap")).count(), 2);
    }

    #[test]
    fn channels_by_name() {
        assert_eq!(what(b"book.BTC-26DEC25.raw"), What::Book(b"BTC-26DEC25", RAW));
        assert_eq!(what(b"book.ETH_USDC.none.10.100ms"), What::Book(b"ETH_USDC", GROUPED10));
        assert_eq!(what(b"book.ETH_USDC.5.10.100ms"), What::Known);
        assert_eq!(what(b"trades.future.BTC.100ms"), What::Trades(None));
        assert_eq!(what(b"chart.trades.ETH-PERPETUAL.1D"), What::Candles(b"ETH-PERPETUAL", DAY));
        assert_eq!(what(b"user.orders.BTC-PERPETUAL.raw"), What::Unknown);
    }

    #[test]
    fn candles_are_columns() {
        let request = Deribit.candle_request("BTC-PERPETUAL", MINUTE, 0, 2 * MINUTE).unwrap();
        let what = "instrument_name=BTC-PERPETUAL&resolution=1&start_timestamp=0&end_timestamp=119999";
        assert_eq!(request.path, format!("/api/v2/public/get_tradingview_chart_data?{what}"));
        let body = br#"{"jsonrpc":"2.0","result":{"volume":[0.5,1e-3],"ticks":[0,60000],"status":"ok","open":[1,2],"low":[0.5,2],"high":[4,2],"cost":[1.0,0.002],"close":[2,2]}}"#;
        let mut candles = Vec::new();
        Deribit.parse_candles(&request, body, &mut candles).unwrap();
        let CandleItem { open, high, low, close, volume, notional, .. } = candles[0];
        let row = [open, high, low, close, volume, notional.unwrap()].map(|number| number.to_string());
        assert_eq!(row, ["1", "4", "0.5", "2", "0.5", "1"]);
        assert_eq!((candles[1].open_time, candles[1].volume.to_string()), (MINUTE, "0.001".to_owned()));
        let uneven = br#"{"result":{"ticks":[0],"open":[]}}"#;
        assert_eq!(Deribit.parse_candles(&request, uneven, &mut candles).unwrap_err().class, Class::Ignore);
        assert!(Deribit.candle_request("BTC-PERPETUAL", 7 * MINUTE, 0, 1).is_none());
    }

    #[test]
    fn instruments_of_every_kind() {
        let body = br#"{"jsonrpc":"2.0","result":[
            {"instrument_name":"BTC-PERPETUAL","kind":"future","instrument_type":"reversed","base_currency":"BTC","quote_currency":"USD","tick_size":0.5,"min_trade_amount":10.0,"contract_size":10.0,"is_active":true,"state":"open","expiration_timestamp":32503708800000},
            {"instrument_name":"BTC-25DEC26","kind":"future","base_currency":"BTC","quote_currency":"USD","tick_size":2.5,"min_trade_amount":10,"is_active":false,"state":"closed","expiration_timestamp":1798185600000},
            {"instrument_name":"XRP_USDC","kind":"spot","instrument_type":"linear","base_currency":"XRP","quote_currency":"USDC","tick_size":0.000001,"min_trade_amount":0.1,"is_active":true},
            {"instrument_name":"BTC-26DEC25-100000-C","kind":"option","base_currency":"BTC","quote_currency":"BTC","tick_size":0.0001,"min_trade_amount":0.1}]}"#;
        let mut listings = Vec::new();
        Deribit.parse_instruments(&Deribit.instrument_requests()[0], body, &mut listings).unwrap();
        let names: Vec<_> = listings.iter().map(Listing::symbol).collect();
        assert_eq!(names, ["BTC-USD-PERP", "BTC-USD-261225", "XRP-USDC"]);
        assert_eq!(listings.iter().map(|listing| listing.inverse).collect::<Vec<_>>(), [true, true, false]);
        assert_eq!((listings[2].tick_size, listings[2].lot_size), (Some(Decimal::new(1, 6)), Some(Decimal::new(1, 1))));
        assert_eq!((listings[0].lot_size, listings[1].status), (Some(Decimal::new(10, 0)), Status::Delisted));
        let mut instruments = Instruments::default();
        for listing in listings {
            instruments.list(listing);
        }
        let wanted = subscriptions(&["BTC-PERPETUAL", "BTC-25DEC26", "BTC-26DEC25-100000-C"], &[Channel::Book]);
        let plans = Deribit.plan(&wanted, &instruments);
        let natives: Vec<_> = plans[0].subscriptions.iter().map(|wanted| wanted.native.as_str()).collect();
        assert_eq!(natives, ["BTC-PERPETUAL", "BTC-26DEC25-100000-C"]);
    }
}
