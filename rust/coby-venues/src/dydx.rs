//! dYdX v4, the indexer of dYdX Chain: <https://docs.dydx.xyz/indexer-client/websockets>. Perpetuals only.
//!
//! Every message of a connection is numbered, whatever it carries, so that a lost one spoils all of the connection.
//!
//! Book: the answer to a subscription is a snapshot of 100 levels a side, changes are of any level. The indexer
//! merges what several nodes see, and its books come crossed; as documented, the older of two crossing levels goes.

use coby_core::decimal::Decimal;
use coby_core::instrument::{InstrumentId, InstrumentKind, Instruments, Listing, Status};
use coby_core::level::Side;
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Kind, Seen};
use coby_core::sink::BookKind;
use coby_core::time::{DAY, MINUTE, SECOND};
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, Class, ConnectionPlan, Dial, Frame, Join, Limits, Ping, Proof,
    Rule, Scope, Session, Sink, Subscription, TradeFeed, TradeItem, Venue, VenueError, VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;

const REST: &str = "https://indexer.dydx.trade";
const SOCKET: &str = "wss://indexer.dydx.trade/v4/ws";
const CANDLES: &str = "/v4/candles/perpetualMarkets/";

/// Subscriptions of one channel on a connection.
const PER_CHANNEL: usize = 32;

static SPEC: VenueSpec = VenueSpec {
    id: "dydx",
    name: "dYdX",
    protocol: "2026-04",
    closed: None,
    sockets: &[SOCKET],
    rest: REST,
    // The answers are numbered too: they show what was lost before a silence.
    ping: Ping::Text(r#"{"type":"ping","id":1}"#),
    silence: 30,
    // More than two subscriptions a second close the connection.
    limits: Limits { dials: (10, 10), messages: (2, 1), spacing: 0, streams: 96, rest: (100, 10), lifetime: 0 },
    books: &[BookFeed {
        name: "v4_orderbook",
        join: Join::Socket,
        rule: Rule::Connection,
        proof: Proof::Sequence,
        checksum: None,
        digits: false,
        depth: None,
        shows: Some(100),
        refresh: 3_600,
        limits: "snapshots reach 100 levels a side, deeper levels appear when they change, and the book is subscribed \
                 anew when the price nears the end of the snapshot; levels taken out because \
                 newer ones crossed them may still stand at the venue: it is subscribed anew every hour too",
    }],
    trades: &[TradeFeed { name: "v4_trades", proof: Proof::Sequence, aggregated: false }],
    candles: &[CandleFeed { name: "v4_candles 1MIN", interval: MINUTE }],
};

/// dYdX v4.
#[derive(Clone, Copy, Debug)]
pub struct DyDx;

#[derive(Deserialize)]
struct MarketList {
    markets: std::collections::BTreeMap<String, Market>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Market {
    ticker: String,
    status: String,
    tick_size: Option<String>,
    step_size: Option<String>,
}

impl Venue for DyDx {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        vec![HttpRequest::get(REST, "/v4/perpetualMarkets")]
    }

    /// The list has tickers only; what stands before the last hyphen is the base.
    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let list: MarketList = common::read(body)?;
        for market in list.markets.into_values() {
            let Some((base, quote)) = market.ticker.rsplit_once('-') else { continue };
            out.push(Listing {
                kind: InstrumentKind::Perpetual,
                tick_size: market.tick_size.as_deref().and_then(common::step),
                lot_size: market.step_size.as_deref().and_then(common::step),
                status: match market.status.as_str() {
                    "ACTIVE" => Status::Trading,
                    "FINAL_SETTLEMENT" => Status::Delisted,
                    _ => Status::Halted,
                },
                ..Listing::spot(&market.ticker, base, quote)
            });
        }
        Ok(())
    }

    /// As many of each channel as a connection may have.
    fn plan(&self, subscriptions: &[Subscription], _: &Instruments) -> Vec<ConnectionPlan> {
        let mut plans: Vec<ConnectionPlan> = Vec::new();
        for channel in [Channel::Book, Channel::Trades, Channel::Candles] {
            let of_channel: Vec<_> = subscriptions.iter().filter(|wanted| wanted.channel == channel).cloned().collect();
            for (at, chunk) in of_channel.chunks(PER_CHANNEL).enumerate() {
                if at == plans.len() {
                    plans.push(ConnectionPlan { base: SOCKET.into(), subscriptions: Vec::new() });
                }
                plans[at].subscriptions.extend_from_slice(chunk);
            }
        }
        plans
    }

    fn dial(&self, plan: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Ok(Dial::Connect { url: plan.base.clone(), ping: 10 * SECOND })
    }

    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        let subscriptions = plan.map(|plan| plan.subscriptions.clone()).unwrap_or_default();
        Ok(Box::new(common::load(saved, || DyDxSession { subscriptions })?))
    }

    fn uncrosses(&self, _: u8) -> bool {
        true
    }

    /// Whether the end is inclusive is not documented: no candle begins in the second before it.
    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, to: Nanos) -> Option<HttpRequest> {
        let (name, _) = RESOLUTIONS.iter().find(|(_, nanos)| *nanos == interval)?;
        let (from, to) = (common::iso(from), common::iso(to - 1));
        let query = format!("resolution={name}&limit=1000&fromISO={from}&toISO={to}");
        Some(HttpRequest::get(REST, format!("{CANDLES}{native}?{query}")))
    }

    fn parse_candles(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let mut c = Cursor::new(body).find(b"candles")?.ok_or_else(|| VenueError::venue(Class::Ignore, body))?;
        let mut rows = c.array()?;
        while rows.next(&mut c)? {
            if let Some(candle) = candle(InstrumentId(0), &mut c)? {
                out.push(CandleItem { closed: true, ..candle });
            }
        }
        Ok(())
    }
}

/// Intervals that the venue names.
const RESOLUTIONS: [(&str, Nanos); 7] = [
    ("1MIN", MINUTE),
    ("5MINS", 5 * MINUTE),
    ("15MINS", 15 * MINUTE),
    ("30MINS", 30 * MINUTE),
    ("1HOUR", 60 * MINUTE),
    ("4HOURS", 240 * MINUTE),
    ("1DAY", DAY),
];

fn content(channel: Channel, native: &str) -> String {
    match channel {
        Channel::Book => format!(r#""channel":"v4_orderbook","id":"{native}""#),
        Channel::Trades => format!(r#""channel":"v4_trades","id":"{native}""#),
        Channel::Candles => format!(r#""channel":"v4_candles","id":"{native}/1MIN""#),
    }
}

fn subscribe(channel: Channel, native: &str, out: &mut Sink<'_>) {
    out.send(&format!(r#"{{"type":"subscribe",{},"batched":false}}"#, content(channel, native)));
}

#[derive(Serialize, Deserialize)]
struct DyDxSession {
    subscriptions: Vec<Subscription>,
}

/// What the contents of a message belong to.
#[derive(Clone, Copy)]
struct Envelope<'a> {
    kind: &'a [u8],
    channel: &'a [u8],
    id: &'a [u8],
}

impl Session for DyDxSession {
    fn usual(&mut self, text: &[u8], out: &mut Sink<'_>) -> Option<()> {
        usual(text, out)
    }

    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            Frame::Text(text) => self.text(text, out),
            Frame::Http { .. } | Frame::Binary(_) => Ok(out.unknown()),
            // Subscriptions wait for the greeting.
            Frame::Open { .. } | Frame::Close(_) => Ok(()),
        }
    }

    /// A fresh subscription brings a fresh snapshot, of trades too; a whole connection is dialled anew.
    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match scope {
            Scope::Book(id, _) => {
                let native = out.instruments().get(id).native.clone();
                out.send(&format!(r#"{{"type":"unsubscribe",{}}}"#, content(Channel::Book, &native)));
                subscribe(Channel::Book, &native, out);
                Ok(())
            }
            // A recording has no other connection to offer.
            Scope::Connection if self.subscriptions.is_empty() => Ok(()),
            Scope::Connection => Err(VenueError::venue(Class::Reconnect, b"a message of the connection is lost")),
        }
    }

    fn save(&self, out: &mut Vec<u8>) {
        common::save(self, out);
    }
}

impl DyDxSession {
    fn text(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let mut envelope = Envelope { kind: b"", channel: b"", id: b"" };
        let (mut late, mut message) = (None, &b""[..]);
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"type" => {
                    seen.once(0, &c)?;
                    envelope.kind = c.str()?;
                }
                b"message_id" => {
                    seen.once(1, &c)?;
                    out.sequence(c.int()?);
                }
                b"channel" => {
                    seen.once(2, &c)?;
                    envelope.channel = c.str()?;
                }
                b"id" => {
                    seen.once(3, &c)?;
                    envelope.id = c.text()?;
                }
                b"contents" => {
                    seen.once(4, &c)?;
                    // The message's number is checked before its contents count.
                    if (0..4).all(|key| seen.has(key)) {
                        contents(envelope, &mut c, out)?;
                    } else {
                        late = Some(c);
                        c.skip()?;
                    }
                }
                b"message" => message = c.raw()?,
                _ => c.skip()?,
            }
        }
        c.end()?;
        common::require(seen, &["type", "message_id"])?;
        match envelope.kind {
            b"channel_data" | b"channel_batch_data" | b"subscribed" => {
                // The channel of all markets has no id.
                if envelope.channel == b"v4_markets" {
                    return Ok(out.known());
                }
                common::require(seen, &["type", "message_id", "channel", "id", "contents"])?;
                late.map_or(Ok(()), |mut late| contents(envelope, &mut late, out))
            }
            b"connected" => {
                for Subscription { channel, native, .. } in &self.subscriptions {
                    subscribe(*channel, native, out);
                }
                Ok(())
            }
            b"error" => Err(self.refused(message, text)),
            b"pong" | b"unsubscribed" => Ok(out.known()),
            _ => Ok(out.unknown()),
        }
    }

    /// `{"type":"error","message":"Invalid subscription id for channel: (v4_orderbook-FOO)",..}`
    fn refused(&self, message: &[u8], text: &[u8]) -> VenueError {
        let planned = !self.subscriptions.is_empty();
        let has = |part: &[u8]| message.windows(part.len()).any(|window| window == part);
        let class = if has(b"already subscribed") {
            Class::Ignore
        } else if has(b"Internal error") && planned {
            Class::Reconnect
        } else {
            common::refusal(planned)
        };
        VenueError::venue(class, text)
    }
}

/// `{"type":"channel_data","connection_id":"..","message_id":1,"id":"BTC-USD","channel":"v4_orderbook","version":"1.0.0",`
/// `"contents":{"bids":[["p","q"]]}}` to the letter, with the asks instead or behind
fn usual(text: &[u8], out: &mut Sink<'_>) -> Option<()> {
    let mut c = Cursor::new(text);
    c.literal(br#"{"type":"channel_data","connection_id":""#)?;
    c.plain()?;
    c.literal(br#","message_id":"#)?;
    out.sequence(c.digits()?);
    c.literal(br#","id":""#)?;
    let native = c.plain()?;
    c.literal(br#","channel":"v4_orderbook","version":""#)?;
    c.plain()?;
    c.literal(br#","contents":{"#)?;
    let id = out.usual_instrument(native)?;
    out.begin(id);
    if c.literal(br#""bids":"#).is_some() {
        out.usual_pairs(Side::Bid, &mut c)?;
        if c.literal(br#","asks":"#).is_some() {
            out.usual_pairs(Side::Ask, &mut c)?;
        }
    } else {
        c.literal(br#""asks":"#)?;
        out.usual_pairs(Side::Ask, &mut c)?;
    }
    c.literal(b"}}")?;
    c.done()?;
    out.book(BookHead::new(0, BookKind::Delta));
    Some(())
}

fn contents(envelope: Envelope<'_>, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let Envelope { kind, channel, id } = envelope;
    let snapshot = kind == b"subscribed";
    let (channel, native) = match channel {
        b"v4_orderbook" => (Channel::Book, id),
        b"v4_trades" => (Channel::Trades, id),
        // `BTC-USD/1MIN`
        b"v4_candles" => (Channel::Candles, id.split(|byte| *byte == b'/').next().unwrap_or(id)),
        b"v4_markets" | b"v4_subaccounts" | b"v4_parent_subaccounts" | b"v4_block_height" => {
            c.skip()?;
            return Ok(out.known());
        }
        _ => {
            c.skip()?;
            return Ok(out.unknown());
        }
    };
    let id = out.instrument(native);
    if snapshot {
        out.subscribed(channel, 0, id);
    }
    if channel == Channel::Book {
        out.begin(id);
    }
    // Batched contents are a list of what else comes one by one.
    if c.kind()? == Kind::Array {
        let mut list = c.array()?;
        while list.next(c)? {
            content_of(channel, id, snapshot, c, out)?;
        }
    } else {
        content_of(channel, id, snapshot, c, out)?;
    }
    if channel == Channel::Book {
        let kind = if snapshot { BookKind::Snapshot } else { BookKind::Delta };
        out.book(BookHead::new(0, kind));
    }
    Ok(())
}

fn content_of(
    channel: Channel,
    id: InstrumentId,
    snapshot: bool,
    c: &mut Cursor<'_>,
    out: &mut Sink<'_>,
) -> Result<(), VenueError> {
    match channel {
        Channel::Book => levels(c, out),
        Channel::Trades => trades(id, snapshot, c, out),
        Channel::Candles if snapshot => {
            let mut rows = c.find(b"candles")?.ok_or_else(|| VenueError::missing("candles"))?;
            c.skip()?;
            let mut list = rows.array()?;
            while list.next(&mut rows)? {
                if let Some(candle) = candle(id, &mut rows)? {
                    out.candle(candle);
                }
            }
            Ok(())
        }
        Channel::Candles => {
            if let Some(candle) = candle(id, c)? {
                out.candle(candle);
            }
            Ok(())
        }
    }
}

/// `{"bids":[["11.21","0"]]}`, either side may be missing; in snapshots `{"bids":[{"price":"0.1547","size":"35520"}],..}`.
fn levels(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        let side = match key {
            b"bids" => Side::Bid,
            b"asks" => Side::Ask,
            _ => {
                c.skip()?;
                continue;
            }
        };
        seen.once(side as u32, c)?;
        let mut first = *c;
        if first.array()?.next(&mut first)? && first.kind()? == Kind::Object {
            out.objects(side, c, b"price", b"size")?;
        } else {
            out.pairs(side, c)?;
        }
    }
    Ok(())
}

/// `{"trades":[{"id":"0165e5e40000000200000002","size":"0.002","price":"60397","side":"BUY","createdAt":"2024-08-22T23:59:59.851Z"}]}`
/// with the taker's side. Ids sort by time: where the newest stands first, as it does in the past, the last comes first.
fn trades(id: InstrumentId, history: bool, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut rows = Vec::new();
    let mut list = c.find(b"trades")?.ok_or_else(|| VenueError::missing("trades"))?;
    c.skip()?;
    let mut elements = list.array()?;
    while elements.next(&mut list)? {
        rows.push(list);
        list.skip()?;
    }
    let trade_id = |row: Option<&Cursor<'_>>| row?.find(b"id").ok()??.text().ok().map(<[u8]>::to_vec);
    if rows.len() > 1 && trade_id(rows.first()) > trade_id(rows.last()) {
        rows.reverse();
    }
    for mut row in rows {
        trade(id, history, &mut row, out)?;
    }
    Ok(())
}

fn trade(id: InstrumentId, history: bool, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut trade_id, mut taker, mut time) = (&b""[..], Side::Bid, None);
    let [mut price, mut size] = [Decimal::default(); 2];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"id" => {
                seen.once(0, c)?;
                trade_id = c.text()?;
            }
            b"price" => {
                seen.once(1, c)?;
                price = c.decimal()?;
            }
            b"size" => {
                seen.once(2, c)?;
                size = c.decimal()?;
            }
            b"side" => {
                seen.once(3, c)?;
                taker = match c.str()? {
                    b"BUY" => Side::Bid,
                    b"SELL" => Side::Ask,
                    _ => return Err(VenueError::unexpected("side of a trade")),
                };
            }
            b"createdAt" => time = common::rfc3339_at(c)?,
            _ => c.skip()?,
        }
    }
    common::require(seen, &["id", "price", "size", "side"])?;
    // The connection's numbers prove that none was lost; ids are no running numbers.
    let (feed, sequence) = (0, None);
    out.trade(&TradeItem { feed, id, price, size, taker, trade_id, sequence, history, ts_event: time })
}

/// `{"startedAt":"2024-08-22T23:59:00.000Z","ticker":"BTC-USD","resolution":"1MIN","low":..,"high":..,"open":..,
/// "close":..,"baseTokenVolume":..,"usdVolume":..,"trades":12}`; `None` for a resolution without a fixed length.
fn candle(id: InstrumentId, c: &mut Cursor<'_>) -> Result<Option<CandleItem>, VenueError> {
    let mut seen = Seen::default();
    let (mut open_time, mut interval, mut count, mut notional) = (None, None, None, None);
    let [mut open, mut high, mut low, mut close, mut volume] = [Decimal::default(); 5];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        let (bit, field) = match key {
            b"open" => (0, &mut open),
            b"high" => (1, &mut high),
            b"low" => (2, &mut low),
            b"close" => (3, &mut close),
            b"baseTokenVolume" => (4, &mut volume),
            b"startedAt" => {
                seen.once(5, c)?;
                open_time = common::rfc3339_at(c)?;
                continue;
            }
            b"resolution" => {
                seen.once(6, c)?;
                let name = c.str()?;
                interval = RESOLUTIONS.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, nanos)| *nanos);
                continue;
            }
            b"usdVolume" => {
                notional = Some(c.decimal()?);
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
    common::require(seen, &["open", "high", "low", "close", "baseTokenVolume", "startedAt", "resolution"])?;
    let open_time = open_time.ok_or_else(|| VenueError::unexpected("startedAt"))?;
    Ok(interval.map(|interval| CandleItem {
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
        taker_buy: None,
        // Final once a later one begins; no message says so.
        closed: false,
        ts_event: None,
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Bench, subscriptions};

    fn message(number: i64, kind: &str, channel: &str, contents: &str) -> String {
        let head = format!(r#""type":"{kind}","connection_id":"c","message_id":{number}"#);
        format!(r#"{{{head},"id":"BTC-USD","channel":"{channel}","contents":{contents}}}"#)
    }

    #[test]
    fn each_channel_has_its_own_limit_and_waits_for_the_greeting() {
        let names: Vec<String> = (0..40).map(|number| format!("A{number}-USD")).collect();
        let mut natives: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut wanted = subscriptions(&natives, &[Channel::Book]);
        natives.truncate(2);
        wanted.extend(subscriptions(&natives, &[Channel::Trades, Channel::Candles]));
        let plans = DyDx.plan(&wanted, &Instruments::default());
        assert_eq!(plans.iter().map(|plan| plan.subscriptions.len()).collect::<Vec<_>>(), [36, 8]);
        let mut bench = Bench::open(&DyDx, plans.get(1));
        assert!(bench.sent.is_empty());
        bench.text(r#"{"type":"connected","connection_id":"c","message_id":0}"#);
        let request = r#"{"type":"subscribe","channel":"v4_orderbook","id":"A32-USD","batched":false}"#;
        assert_eq!((bench.sent.len(), bench.sent[0].as_str()), (8, request));
        bench.text(r#"{"type":"error","message":"Invalid subscribe message: already subscribed (v4_orderbook-A32-USD)","connection_id":"c","message_id":1}"#);
        bench.text(
            r#"{"type":"error","message":"Internal error, could not fetch data","connection_id":"c","message_id":2}"#,
        );
        assert_eq!(bench.sent.len(), 9);
        assert!(bench.sent[8].starts_with("reconnect fatal=false"));
        let mut bench = Bench::open(&DyDx, plans.first());
        bench.text(r#"{"type":"error","message":"Invalid subscription id for channel: (v4_orderbook-FOO)","connection_id":"c","message_id":0}"#);
        assert!(bench.sent[0].starts_with("reconnect fatal=true"));
        assert_eq!(content(Channel::Candles, "BTC-USD"), r#""channel":"v4_candles","id":"BTC-USD/1MIN""#);
    }

    #[test]
    fn a_lost_message_of_any_channel_dials_anew() {
        let plans = DyDx.plan(&subscriptions(&["BTC-USD"], &[Channel::Book]), &Instruments::default());
        let mut bench = Bench::open(&DyDx, plans.first());
        bench.text(&message(5, "subscribed", "v4_orderbook", r#"{"bids":[{"price":"10","size":"1"}],"asks":[]}"#));
        bench.text(r#"{"type":"pong","connection_id":"c","message_id":7,"id":1}"#);
        assert_eq!(bench.told.0.last().unwrap(), "gap BTC-USD book opened sequence");
        assert!(bench.sent[0].starts_with("reconnect fatal=false"));
    }

    #[test]
    fn a_book_that_cannot_be_read_is_subscribed_anew_and_so_is_every_book_hourly() {
        let mut bench = Bench::open(&DyDx, None);
        bench.text(&message(1, "subscribed", "v4_orderbook", r#"{"bids":[{"price":"10","size":"1"}],"asks":[]}"#));
        let again = [
            r#"{"type":"unsubscribe","channel":"v4_orderbook","id":"BTC-USD"}"#,
            r#"{"type":"subscribe","channel":"v4_orderbook","id":"BTC-USD","batched":false}"#,
        ];
        bench.text(&message(2, "channel_data", "v4_orderbook", r#"{"bids":[["9"]]}"#));
        assert_eq!(bench.sent, again);
        bench.text(&message(3, "subscribed", "v4_orderbook", r#"{"bids":[{"price":"8","size":"1"}]}"#));
        bench.pass(3_601);
        assert_eq!(bench.sent[2..], again);
        bench.text(&message(4, "subscribed", "v4_orderbook", r#"{"bids":[{"price":"7","size":"1"}]}"#));
        assert_eq!(bench.book("BTC-USD"), "Live 7:1 | ");
    }

    /// The documented remedy to the letter: every level remembers the message that set it.
    #[derive(Default)]
    struct Oracle([BTreeMap<i64, (i64, i64)>; 2]);

    impl Oracle {
        fn set(&mut self, message: i64, side: usize, price: i64, size: i64) {
            if size == 0 {
                self.0[side].remove(&price);
            } else {
                self.0[side].insert(price, (size, message));
            }
        }

        fn uncross(&mut self) {
            loop {
                let best = (self.0[0].last_key_value(), self.0[1].first_key_value());
                let (Some((&bid, &(bid_size, bid_message))), Some((&ask, &(ask_size, ask_message)))) = best else {
                    return;
                };
                if bid < ask {
                    return;
                }
                match bid_message.cmp(&ask_message) {
                    std::cmp::Ordering::Less => self.set(0, 0, bid, 0),
                    std::cmp::Ordering::Greater => self.set(0, 1, ask, 0),
                    std::cmp::Ordering::Equal => {
                        let common = bid_size.min(ask_size);
                        self.set(bid_message, 0, bid, bid_size - common);
                        self.set(ask_message, 1, ask, ask_size - common);
                    }
                }
            }
        }

        fn text(&self) -> String {
            let level = |(price, (size, _)): (&i64, &(i64, i64))| format!("{price}:{size}");
            let bids: Vec<_> = self.0[0].iter().rev().map(level).collect();
            let asks: Vec<_> = self.0[1].iter().map(level).collect();
            format!("Live {} | {}", bids.join(" "), asks.join(" "))
        }
    }

    proptest! {
        #[test]
        fn crossed_books_are_uncrossed_as_documented(
            changes in prop::collection::vec(prop::collection::vec((0..2_usize, 1..12_i64, 0..4_i64), 0..6), 1..40),
        ) {
            let (mut bench, mut oracle) = (Bench::open(&DyDx, None), Oracle::default());
            for (number, levels) in (0..).zip(changes) {
                let side = |of: usize| {
                    let rows: Vec<_> = levels
                        .iter()
                        .filter(|(side, ..)| *side == of)
                        .map(|(_, price, size)| format!(r#"["{price}","{size}"]"#))
                        .collect();
                    rows.join(",")
                };
                let kind = if number == 0 { "subscribed" } else { "channel_data" };
                let contents = format!(r#"{{"bids":[{}],"asks":[{}]}}"#, side(0), side(1));
                bench.text(&message(number, kind, "v4_orderbook", &contents));
                for (side, price, size) in levels {
                    oracle.set(number, side, price, size);
                }
                oracle.uncross();
                prop_assert_eq!(bench.book("BTC-USD"), oracle.text());
            }
        }
    }

    #[test]
    fn candles_come_from_the_answer() {
        let request = DyDx.candle_request("BTC-USD", MINUTE, 1_724_371_080 * SECOND, 1_724_371_200 * SECOND).unwrap();
        let query = "resolution=1MIN&limit=1000&fromISO=2024-08-22T23:58:00Z&toISO=2024-08-22T23:59:59Z";
        assert_eq!(request.path, format!("/v4/candles/perpetualMarkets/BTC-USD?{query}"));
        let body = br#"{"candles":[{"startedAt":"2024-08-22T23:59:00.000Z","ticker":"BTC-USD","resolution":"1MIN","low":"0.5","high":"4","open":"1","close":"2","baseTokenVolume":"10.5","usdVolume":"20","trades":3}]}"#;
        let mut candles = Vec::new();
        DyDx.parse_candles(&request, body, &mut candles).unwrap();
        let CandleItem { open, high, low, close, volume, open_time, closed, .. } = candles[0];
        let numbers = [open, high, low, close, volume].map(|number| number.to_string());
        assert_eq!(numbers, ["1", "4", "0.5", "2", "10.5"]);
        assert_eq!((open_time, closed), (1_724_371_140 * SECOND, true));
        assert!(DyDx.candle_request("BTC-USD", 7 * MINUTE, 0, 1).is_none());
        let refused = DyDx.parse_candles(&request, br#"{"errors":[]}"#, &mut candles);
        assert_eq!(refused.unwrap_err().class, Class::Ignore);
    }

    #[test]
    fn markets_are_perpetuals() {
        let body = br#"{"markets":{"BTC-USD":{"clobPairId":"0","ticker":"BTC-USD","status":"ACTIVE","tickSize":"1","stepSize":"0.0001"},"OLD-USD":{"ticker":"OLD-USD","status":"FINAL_SETTLEMENT"},"A,B-C-USD":{"ticker":"A,B-C-USD","status":"PAUSED"}}}"#;
        let mut listings = Vec::new();
        DyDx.parse_instruments(&DyDx.instrument_requests()[0], body, &mut listings).unwrap();
        listings.sort_by(|a, b| a.native.cmp(&b.native));
        let names: Vec<_> = listings.iter().map(|listing| (listing.symbol(), listing.status)).collect();
        let expected = [("A,B-C", Status::Halted), ("BTC", Status::Trading), ("OLD", Status::Delisted)];
        assert_eq!(names, expected.map(|(base, status)| (format!("{base}-USD-PERP"), status)));
        assert_eq!((listings[1].tick_size, listings[1].lot_size), (Some(Decimal::new(1, 0)), Some(Decimal::new(1, 4))));
    }
}
