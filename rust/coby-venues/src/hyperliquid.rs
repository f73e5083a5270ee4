//! Hyperliquid: <https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/websocket>.
//!
//! Books come as whole images only: five levels a side twice a second (`fast`), or twenty every few seconds.
//! Nothing numbers them, so nothing proves that none was lost; the next one heals it.
//!
//! An unknown coin makes the server drop the whole connection without a word, so plans keep to the lists.
//! The first trades of a coin on a connection repeat the past, without saying so.

use std::collections::BTreeSet;

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

const REST: &str = "https://api.hyperliquid.xyz";
const SOCKET: &str = "wss://api.hyperliquid.xyz/ws";
const INFO: &str = "/info";

const FAST: u8 = 0;
const DEFAULT: u8 = 1;
const BBO: u8 = 2;
const TRADES: u8 = 0;
const CANDLE: u8 = 0;

static SPEC: VenueSpec = VenueSpec {
    id: "hyperliquid",
    name: "Hyperliquid",
    protocol: "2026-09",
    closed: None,
    sockets: &[SOCKET],
    rest: REST,
    ping: Ping::Text(r#"{"method":"ping"}"#),
    // Pushed books that stop for so long are dead; pings every ten seconds keep a quiet connection above it.
    silence: 15,
    // REST: a weight of 1,200 a minute, of which most requests take 20.
    limits: Limits { dials: (30, 60), messages: (2_000, 60), spacing: 0, streams: 1_000, rest: (60, 60), lifetime: 0 },
    books: &[
        BookFeed { name: "l2Book fast", depth: Some(5), ..IMAGE },
        BookFeed {
            name: "l2Book",
            depth: Some(20),
            limits: "whole images, about every 5.4 s: a lost one is healed by the next",
            ..IMAGE
        },
        BookFeed { name: "bbo", depth: Some(1), ..IMAGE },
    ],
    trades: &[TradeFeed { name: "trades", proof: Proof::Heartbeat, aggregated: false }],
    candles: &[CandleFeed { name: "candle 1m", interval: MINUTE }],
};

const IMAGE: BookFeed = BookFeed {
    name: "",
    join: Join::Image,
    rule: Rule::Monotone,
    proof: Proof::Heartbeat,
    checksum: None,
    digits: false,
    depth: None,
    shows: None,
    refresh: 0,
    limits: "whole images, sent even when nothing changed: a lost one is healed by the next",
};

/// Hyperliquid.
#[derive(Clone, Copy, Debug)]
pub struct Hyperliquid;

/// Answer to `meta` and to `spotMeta`, which has the tokens.
#[derive(Deserialize)]
struct Meta {
    universe: Vec<Asset>,
    tokens: Option<Vec<Token>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asset {
    name: String,
    sz_decimals: Option<i64>,
    #[serde(default)]
    is_delisted: bool,
    /// Indices of the base and the quote token of a spot pair.
    tokens: Option<(i64, i64)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    name: String,
    sz_decimals: i64,
    index: i64,
}

impl Venue for Hyperliquid {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        ["meta", "spotMeta"].map(|kind| HttpRequest::post(REST, INFO, format!(r#"{{"type":"{kind}"}}"#))).into()
    }

    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let meta: Meta = common::read(body)?;
        let tokens = meta.tokens.unwrap_or_default();
        let token = |index| tokens.iter().find(|token| token.index == index);
        for asset in meta.universe {
            let (mut listing, decimals) = match asset.tokens {
                None => {
                    let mut listing = Listing::spot(&asset.name, &asset.name, "USDC");
                    listing.kind = InstrumentKind::Perpetual;
                    (listing, asset.sz_decimals)
                }
                Some((base, quote)) => {
                    let (Some(base), Some(quote)) = (token(base), token(quote)) else { continue };
                    (Listing::spot(&asset.name, &base.name, &quote.name), Some(base.sz_decimals))
                }
            };
            // Prices have five significant digits, which is no fixed step.
            listing.lot_size = decimals.and_then(common::step_of_decimals);
            if asset.is_delisted {
                listing.status = Status::Delisted;
            }
            out.push(listing);
        }
        Ok(())
    }

    fn plan(&self, subscriptions: &[Subscription], instruments: &Instruments) -> Vec<ConnectionPlan> {
        common::split(SOCKET, &common::listed(subscriptions, instruments), SPEC.limits.streams)
    }

    fn dial(&self, plan: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Ok(Dial::Connect { url: plan.base.clone(), ping: 10 * SECOND })
    }

    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        let subscriptions = plan.map(|plan| plan.subscriptions.clone()).unwrap_or_default();
        let new = || HyperliquidSession { subscriptions, ..HyperliquidSession::default() };
        Ok(Box::new(common::load(saved, new)?))
    }

    /// Only the newest 5,000 candles of an interval exist.
    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, to: Nanos) -> Option<HttpRequest> {
        let (name, _) = INTERVALS.iter().find(|(_, nanos)| *nanos == interval)?;
        let (start, end) = (from.div_euclid(MILLI), (to - 1).div_euclid(MILLI));
        let what = format!(r#"{{"coin":"{native}","interval":"{name}","startTime":{start},"endTime":{end}}}"#);
        Some(HttpRequest::post(REST, INFO, format!(r#"{{"type":"candleSnapshot","req":{what}}}"#)))
    }

    fn parse_candles(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let mut c = Cursor::new(body);
        let mut rows = c.array()?;
        while rows.next(&mut c)? {
            if let (_, Some(candle)) = candle(&mut c)? {
                out.push(CandleItem { closed: true, ..candle });
            }
        }
        Ok(())
    }
}

/// Intervals that the venue names; months have no fixed length.
const INTERVALS: [(&str, Nanos); 13] = [
    ("1m", MINUTE),
    ("3m", 3 * MINUTE),
    ("5m", 5 * MINUTE),
    ("15m", 15 * MINUTE),
    ("30m", 30 * MINUTE),
    ("1h", 60 * MINUTE),
    ("2h", 120 * MINUTE),
    ("4h", 240 * MINUTE),
    ("8h", 480 * MINUTE),
    ("12h", 720 * MINUTE),
    ("1d", DAY),
    ("3d", 3 * DAY),
    ("1w", 7 * DAY),
];

/// What is subscribed for a book of rank `feed`.
fn book_of(native: &str, feed: u8) -> String {
    match feed {
        FAST => format!(r#"{{"type":"l2Book","coin":"{native}","fast":true}}"#),
        DEFAULT => format!(r#"{{"type":"l2Book","coin":"{native}"}}"#),
        _ => format!(r#"{{"type":"bbo","coin":"{native}"}}"#),
    }
}

fn content(subscription: &Subscription) -> String {
    let native = &subscription.native;
    match subscription.channel {
        // Twenty levels that are up to five seconds old are for those who ask for them.
        Channel::Book => book_of(native, if subscription.depth <= 5 { FAST } else { DEFAULT }),
        Channel::Trades => format!(r#"{{"type":"trades","coin":"{native}"}}"#),
        Channel::Candles => format!(r#"{{"type":"candle","coin":"{native}","interval":"1m"}}"#),
    }
}

fn ask(method: &str, content: &str) -> String {
    format!(r#"{{"method":"{method}","subscription":{content}}}"#)
}

#[derive(Default, Serialize, Deserialize)]
struct HyperliquidSession {
    subscriptions: Vec<Subscription>,
    /// Coins whose first trades, which repeat the past, have come since they were subscribed.
    caught_up: BTreeSet<Vec<u8>>,
}

#[derive(Deserialize)]
struct Confirmation {
    method: String,
    subscription: Subscribed,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subscribed {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    coin: String,
    fast: Option<bool>,
    n_sig_figs: Option<i64>,
}

impl Session for HyperliquidSession {
    fn usual(&mut self, text: &[u8], out: &mut Sink<'_>) -> Option<()> {
        usual(text, out)
    }

    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            Frame::Open { .. } => {
                for subscription in &self.subscriptions {
                    out.send(&ask("subscribe", &content(subscription)));
                }
                Ok(())
            }
            // Greets in plain text.
            Frame::Text(text) if text.starts_with(b"Websocket connection") => Ok(out.known()),
            Frame::Text(text) => self.text(text, out),
            Frame::Http { request, status, body } if request.route() == INFO => {
                common::success(status, body)?;
                answer(request, body, out)
            }
            Frame::Binary(_) | Frame::Http { .. } => Ok(out.unknown()),
            Frame::Close(_) => Ok(()),
        }
    }

    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let Scope::Book(id, feed) = scope else {
            return Err(VenueError::venue(Class::Reconnect, b"only a new connection starts every coin again"));
        };
        let content = book_of(&out.instruments().get(id).native, feed);
        out.send(&ask("unsubscribe", &content));
        out.send(&ask("subscribe", &content));
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        common::save(self, out);
    }
}

/// An answer to one of the venue's REST questions, told by the question.
fn answer(request: &HttpRequest, body: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
    let question = Cursor::new(request.body.as_bytes());
    let kind = question.find(b"type").ok().flatten().and_then(|mut kind| kind.str().ok());
    let mut c = Cursor::new(body);
    match kind {
        Some(b"l2Book") if question.find(b"nSigFigs").ok().flatten().is_none() => book(&mut c, out)?,
        Some(b"recentTrades") => trades(&mut c, &mut |_| true, out)?,
        _ => return Ok(out.unknown()),
    }
    Ok(c.end()?)
}

impl HyperliquidSession {
    fn text(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let mut channel = None;
        // Data that came before its channel.
        let mut late = None;
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"channel" => {
                    seen.once(0, &c)?;
                    channel = Some(c.str()?);
                }
                b"data" => {
                    seen.once(1, &c)?;
                    if let Some(channel) = channel {
                        self.data(channel, &mut c, out)?;
                    } else {
                        late = Some(c);
                        c.skip()?;
                    }
                }
                _ => c.skip()?,
            }
        }
        c.end()?;
        match (channel, late) {
            (Some(channel), Some(mut late)) => self.data(channel, &mut late, out),
            (Some(b"pong"), None) => Ok(out.known()),
            (Some(_), None) if seen.has(1) => Ok(()),
            _ => Ok(out.unknown()),
        }
    }

    fn data(&mut self, channel: &[u8], c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match channel {
            b"l2Book" => book(c, out),
            b"bbo" => bbo(c, out),
            b"trades" => {
                let mut first = None;
                trades(c, &mut |coin| !self.caught_up.contains(coin) && first.get_or_insert(coin) == &coin, out)?;
                if let Some(coin) = first {
                    self.caught_up.insert(coin.to_vec());
                }
                Ok(())
            }
            b"candle" => {
                let (coin, candle) = candle(c)?;
                if let Some(candle) = candle {
                    let id = out.instrument(coin);
                    out.candle(CandleItem { id, ..candle });
                }
                Ok(())
            }
            b"subscriptionResponse" => {
                self.confirmed(&common::read(c.raw()?)?, out);
                Ok(())
            }
            b"error" => {
                let message = c.raw()?;
                let harmless = message.starts_with(b"\"Already ");
                let class = if harmless { Class::Ignore } else { common::refusal(!self.subscriptions.is_empty()) };
                Err(VenueError::venue(class, message))
            }
            b"allMids" | b"activeAssetCtx" | b"activeSpotAssetCtx" | b"notification" | b"pong" => {
                c.skip()?;
                Ok(out.known())
            }
            _ => {
                c.skip()?;
                Ok(out.unknown())
            }
        }
    }

    fn confirmed(&mut self, confirmation: &Confirmation, out: &mut Sink<'_>) {
        let Confirmation { method, subscription: Subscribed { kind, coin, fast, n_sig_figs } } = confirmation;
        if method == "unsubscribe" && kind == "trades" {
            self.caught_up.remove(coin.as_bytes());
        }
        let (channel, feed) = match kind.as_str() {
            "l2Book" if n_sig_figs.is_none() => (Channel::Book, if *fast == Some(true) { FAST } else { DEFAULT }),
            "bbo" => (Channel::Book, BBO),
            "trades" => (Channel::Trades, TRADES),
            "candle" => (Channel::Candles, CANDLE),
            _ => return out.known(),
        };
        if method == "subscribe" {
            let id = out.instrument(coin.as_bytes());
            out.subscribed(channel, feed, id);
        }
    }
}

/// `{"channel":"l2Book","data":{"coin":"..","time":ms,"levels":[[{"px":"p","sz":"q","n":1}],[..]]}}` to the letter, perhaps
/// with `"fast":true` behind the levels
fn usual(text: &[u8], out: &mut Sink<'_>) -> Option<()> {
    let mut c = Cursor::new(text);
    c.literal(br#"{"channel":"l2Book","data":{"coin":""#)?;
    let id = out.usual_instrument(c.plain()?)?;
    out.begin(id);
    c.literal(br#","time":"#)?;
    let time = c.digits()?;
    c.literal(br#","levels":[["#)?;
    usual_levels(Side::Bid, &mut c, out)?;
    c.literal(b",[")?;
    usual_levels(Side::Ask, &mut c, out)?;
    let feed = if c.literal(br#"],"fast":true}}"#).is_some() {
        FAST
    } else {
        c.literal(b"]}}")?;
        DEFAULT
    };
    c.done()?;
    image(feed, time, out).ok()
}

/// `{"px":"p","sz":"q","n":1},..]`
fn usual_levels(side: Side, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Option<()> {
    if c.literal(b"]").is_some() {
        return Some(());
    }
    loop {
        c.literal(br#"{"px":""#)?;
        let price = c.plain_decimal()?;
        c.literal(br#","sz":""#)?;
        let size = c.plain_decimal()?;
        c.literal(br#","n":"#)?;
        c.digits()?;
        out.usual_level(side, price, size)?;
        if c.literal(b"},").is_none() {
            return c.literal(b"}]");
        }
    }
}

/// `{"coin":..,"time":..,"levels":[[bid, ...],[ask, ...]],"fast":true}`; `spread` marks coarser levels.
fn book(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut time, mut feed, mut coarse, mut late) = (0, DEFAULT, false, None);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"coin" => {
                seen.once(0, c)?;
                let id = out.instrument(c.str()?);
                out.begin(id);
            }
            b"time" => {
                seen.once(1, c)?;
                time = c.int()?;
            }
            b"levels" => {
                seen.once(2, c)?;
                if seen.has(0) {
                    levels(c, out)?;
                } else {
                    late = Some(*c);
                    c.skip()?;
                }
            }
            b"fast" => {
                if c.bool()? {
                    feed = FAST;
                }
            }
            b"spread" => {
                coarse = true;
                c.skip()?;
            }
            _ => c.skip()?,
        }
    }
    common::require(seen, &["coin", "time", "levels"])?;
    if coarse {
        out.abandon();
        return Ok(out.known());
    }
    if let Some(mut late) = late {
        levels(&mut late, out)?;
    }
    image(feed, time, out)
}

/// Bids, then asks; a side that is missing is empty.
#[inline]
fn levels(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut sides = c.array()?;
    for side in [Side::Bid, Side::Ask] {
        if !sides.next(c)? {
            return Ok(());
        }
        if !c.null()? {
            out.objects(side, c, b"px", b"sz")?;
        }
    }
    Ok(sides.rest(c)?)
}

fn image(feed: u8, time: i64, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let ts_event = Some(common::time(time, MILLI)?);
    let sequence = Some(Sequence::at(time));
    out.book(BookHead { sequence, ts_event, ..BookHead::new(feed, BookKind::Image) });
    Ok(())
}

/// `{"coin":..,"time":..,"bbo":[bid or null, ask or null]}`
fn bbo(c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut coin, mut time, mut best) = (&b""[..], 0, None);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"coin" => {
                seen.once(0, c)?;
                coin = c.str()?;
            }
            b"time" => {
                seen.once(1, c)?;
                time = c.int()?;
            }
            b"bbo" => {
                seen.once(2, c)?;
                best = Some(*c);
                c.skip()?;
            }
            _ => c.skip()?,
        }
    }
    common::require(seen, &["coin", "time", "bbo"])?;
    let id = out.instrument(coin);
    out.begin(id);
    if let Some(mut c) = best {
        let mut sides = c.array()?;
        for side in [Side::Bid, Side::Ask] {
            sides.more(&mut c)?;
            if c.null()? {
                continue;
            }
            let mut seen = Seen::default();
            let (mut price, mut size) = (Decimal::default(), Decimal::default());
            let mut o = c.object()?;
            while let Some(key) = o.key(&mut c)? {
                match key {
                    b"px" => {
                        seen.once(0, &c)?;
                        price = sink::price(&mut c)?;
                    }
                    b"sz" => {
                        seen.once(1, &c)?;
                        size = sink::size(&mut c)?;
                    }
                    _ => c.skip()?,
                }
            }
            common::require(seen, &["px", "sz"])?;
            out.level(side, price, size)?;
        }
    }
    image(BBO, time, out)
}

/// A batch of trades; `history` tells of a coin whether its trades repeat the past.
fn trades<'a>(
    c: &mut Cursor<'a>,
    history: &mut dyn FnMut(&'a [u8]) -> bool,
    out: &mut Sink<'_>,
) -> Result<(), VenueError> {
    let mut rows = c.array()?;
    while rows.next(c)? {
        let mut seen = Seen::default();
        let (mut coin, mut trade_id, mut price, mut size) =
            (&b""[..], &b""[..], Decimal::default(), Decimal::default());
        let (mut taker, mut time) = (Side::Bid, None);
        let mut o = c.object()?;
        while let Some(key) = o.key(c)? {
            match key {
                b"coin" => {
                    seen.once(0, c)?;
                    coin = c.str()?;
                }
                b"side" => {
                    seen.once(1, c)?;
                    taker = match c.str()? {
                        b"B" => Side::Bid,
                        b"A" => Side::Ask,
                        _ => return Err(VenueError::unexpected("side")),
                    };
                }
                b"px" => {
                    seen.once(2, c)?;
                    price = c.decimal()?;
                }
                b"sz" => {
                    seen.once(3, c)?;
                    size = c.decimal()?;
                }
                b"tid" => {
                    seen.once(4, c)?;
                    trade_id = c.text()?;
                }
                b"time" => time = Some(common::time_at(c, MILLI)?),
                _ => c.skip()?,
            }
        }
        common::require(seen, &["coin", "side", "px", "sz", "tid"])?;
        let id = out.instrument(coin);
        out.trade(&TradeItem {
            feed: TRADES,
            id,
            price,
            size,
            taker,
            trade_id,
            sequence: None,
            history: history(coin),
            ts_event: time,
        })?;
    }
    Ok(())
}

/// Coin and candle; no candle for an interval without a fixed length.
fn candle<'a>(c: &mut Cursor<'a>) -> Result<(&'a [u8], Option<CandleItem>), VenueError> {
    let mut seen = Seen::default();
    let (mut coin, mut interval, mut open_time, mut count) = (&b""[..], None, 0, None);
    let [mut open, mut high, mut low, mut close, mut volume] = [Decimal::default(); 5];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        let (bit, field) = match key {
            b"o" => (0, &mut open),
            b"h" => (1, &mut high),
            b"l" => (2, &mut low),
            b"c" => (3, &mut close),
            b"v" => (4, &mut volume),
            b"t" => {
                seen.once(5, c)?;
                open_time = common::time_at(c, MILLI)?;
                continue;
            }
            b"i" => {
                seen.once(6, c)?;
                let name = c.str()?;
                interval = INTERVALS.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, nanos)| *nanos);
                continue;
            }
            b"s" => {
                seen.once(7, c)?;
                coin = c.str()?;
                continue;
            }
            b"n" => {
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
    common::require(seen, &["o", "h", "l", "c", "v", "t", "i", "s"])?;
    let candle = interval.map(|interval| CandleItem {
        feed: CANDLE,
        id: InstrumentId(0),
        interval,
        open_time,
        open,
        high,
        low,
        close,
        volume,
        notional: None,
        count,
        taker_buy: None,
        closed: false,
        ts_event: None,
    });
    Ok((coin, candle))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, subscriptions};

    fn planned(channel: Channel, depth: u32) -> Bench {
        let mut subscriptions = subscriptions(&["BTC"], &[channel]);
        subscriptions[0].depth = depth;
        let [plan] = &Hyperliquid.plan(&subscriptions, &Instruments::default())[..] else { panic!("one connection") };
        Bench::open(&Hyperliquid, Some(plan))
    }

    #[test]
    fn subscribes_what_fits_the_wanted_depth() {
        for (channel, depth, content) in [
            (Channel::Book, 0, r#"{"type":"l2Book","coin":"BTC","fast":true}"#),
            (Channel::Book, 5, r#"{"type":"l2Book","coin":"BTC","fast":true}"#),
            (Channel::Book, 6, r#"{"type":"l2Book","coin":"BTC"}"#),
            (Channel::Trades, 0, r#"{"type":"trades","coin":"BTC"}"#),
            (Channel::Candles, 0, r#"{"type":"candle","coin":"BTC","interval":"1m"}"#),
        ] {
            assert_eq!(planned(channel, depth).sent, [ask("subscribe", content)]);
        }
    }

    #[test]
    fn plans_keep_to_the_lists() {
        let mut listings = Vec::new();
        let [meta, _] = &Hyperliquid.instrument_requests()[..] else { panic!("two lists") };
        let body = br#"{"universe":[{"name":"BTC","szDecimals":5}]}"#;
        Hyperliquid.parse_instruments(meta, body, &mut listings).unwrap();
        let mut instruments = Instruments::default();
        instruments.intern(b"btc");
        let wanted = subscriptions(&["BTC", "btc", "NOPE"], &[Channel::Trades]);
        assert_eq!(Hyperliquid.plan(&wanted, &instruments)[0].subscriptions.len(), 3);
        for listing in listings {
            instruments.list(listing);
        }
        assert_eq!(Hyperliquid.plan(&wanted, &instruments)[0].subscriptions, wanted[..1]);
    }

    const TRADE: &str = r#"{"channel":"trades","data":[{"coin":"BTC","side":"A","px":"1","sz":"1","time":1,"tid":"#;

    #[test]
    fn a_saved_session_knows_which_trades_repeat_the_past() {
        let mut bench = planned(Channel::Trades, 0);
        bench.text(&format!("{TRADE}1}}]}}"));
        bench.reload();
        bench.text(&format!("{TRADE}2}}]}}"));
        assert_eq!(bench.told.0, ["trade BTC Ask 1@1 1 history=true", "trade BTC Ask 1@1 2 history=false"]);
    }

    #[test]
    fn a_silent_book_is_subscribed_again() {
        let mut bench = planned(Channel::Book, 20);
        bench.text(r#"{"channel":"l2Book","data":{"coin":"BTC","time":1,"levels":[[{"px":"1"}],[]]}}"#);
        assert_eq!(bench.sent.len(), 1, "a book that never stood is not lost");
        bench.text(r#"{"channel":"l2Book","data":{"coin":"BTC","time":1,"levels":[[],[]]}}"#);
        bench.text(r#"{"channel":"l2Book","data":{"coin":"BTC","time":1,"levels":[[{"px":"1"}],[]]}}"#);
        let content = r#"{"type":"l2Book","coin":"BTC"}"#;
        assert_eq!(bench.sent[1..], [ask("unsubscribe", content), ask("subscribe", content)]);
    }

    #[test]
    fn refusals() {
        let parse = r#"{"channel":"error","data":"Error parsing JSON into valid websocket request: \"x\""}"#;
        let mut bench = planned(Channel::Trades, 0);
        bench.text(r#"{"channel":"error","data":"Already subscribed: {}"}"#);
        assert_eq!(bench.sent.len(), 1);
        bench.text(parse);
        assert!(bench.sent[1].starts_with("reconnect fatal=true"));
    }

    #[test]
    fn candles_over_rest() {
        let request = Hyperliquid.candle_request("BTC", MINUTE, 60 * SECOND, 120 * SECOND).unwrap();
        let req = r#"{"coin":"BTC","interval":"1m","startTime":60000,"endTime":119999}"#;
        assert_eq!(request.body, format!(r#"{{"type":"candleSnapshot","req":{req}}}"#));
        let body = br#"[{"t":60000,"T":119999,"s":"BTC","i":"1m","o":"1","c":"2","h":"3","l":"0.5","v":"4","n":5}]"#;
        let mut candles = Vec::new();
        Hyperliquid.parse_candles(&request, body, &mut candles).unwrap();
        let [candle] = candles[..] else { panic!("one candle") };
        assert_eq!((candle.open_time, candle.close, candle.count), (MINUTE, Decimal::new(2, 0), Some(5)));
    }
}
