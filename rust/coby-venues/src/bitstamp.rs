//! Bitstamp v2: <https://www.bitstamp.net/websocket/v2/>.
//!
//! Book: subscribe, buffer, fetch a snapshot, drop every diff whose microsecond time is not newer. Diffs
//! carry no numbers: a lost one goes unnoticed, and only the next snapshot heals it.

use coby_core::decimal::{Decimal, MAX_SCALE};
use coby_core::instrument::{InstrumentId, InstrumentKind, Instruments, Listing, Status};
use coby_core::level::Side;
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Seen};
use coby_core::sink::{self, BookKind};
use coby_core::time::{MICRO, MINUTE, SECOND, nanos};
use coby_core::venue::{
    BookFeed, BookHead, CandleItem, Channel, Class, ConnectionPlan, Dial, Frame, Join, Limits, Ping, Proof, Rule,
    Scope, Sequence, Session, Sink, Subscription, TradeFeed, TradeItem, Venue, VenueError, VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;

const REST: &str = "https://www.bitstamp.net";
const SOCKET: &str = "wss://ws.bitstamp.net";

const DIFF: u8 = 0;
const ORDER_BOOK: u8 = 1;
const DETAIL: u8 = 2;

static SPEC: VenueSpec = VenueSpec {
    id: "bitstamp",
    name: "Bitstamp",
    protocol: "2026-08",
    closed: None,
    sockets: &[SOCKET],
    rest: REST,
    ping: Ping::Text(r#"{"event":"bts:heartbeat"}"#),
    silence: 45,
    // The venue publishes no limits for sockets: these are modest, and its REST limit's older, lower value.
    limits: Limits {
        dials: (10, 60),
        messages: (10, 1),
        spacing: 0,
        streams: 100,
        rest: (8_000, 600),
        lifetime: 90 * 86_400,
    },
    books: &[
        BookFeed {
            name: "diff_order_book",
            join: Join::Request { after: 2 },
            rule: Rule::Monotone,
            proof: Proof::None,
            checksum: None,
            digits: false,
            depth: None,
            shows: None,
            refresh: 600,
            limits: "a lost diff goes unnoticed: the book is compared with a new snapshot and replaced every ten minutes",
        },
        BookFeed { name: "order_book", ..IMAGE },
        BookFeed { name: "detail_order_book", ..IMAGE },
    ],
    trades: &[TradeFeed { name: "live_trades", proof: Proof::None, aggregated: false }],
    candles: &[],
};

const IMAGE: BookFeed = BookFeed {
    name: "",
    join: Join::Image,
    rule: Rule::Monotone,
    proof: Proof::None,
    checksum: None,
    digits: false,
    depth: Some(100),
    shows: None,
    refresh: 0,
    limits: "whole images of 100 levels: a lost one is healed by the next",
};

/// Bitstamp v2.
#[derive(Clone, Copy, Debug)]
pub struct Bitstamp;

/// An entry of `/markets/`, or of the older `/trading-pairs-info/`, which names things differently.
#[derive(Deserialize)]
struct MarketInfo {
    #[serde(alias = "url_symbol")]
    market_symbol: String,
    name: String,
    base_currency: Option<String>,
    counter_currency: Option<String>,
    base_decimals: i64,
    counter_decimals: i64,
    #[serde(default)]
    market_type: String,
    trading: String,
}

#[derive(Deserialize)]
struct Ohlc {
    data: OhlcData,
}

#[derive(Deserialize)]
struct OhlcData {
    ohlc: Vec<OhlcRow>,
}

#[derive(Deserialize)]
struct OhlcRow {
    timestamp: String,
    open: String,
    high: String,
    low: String,
    close: String,
    volume: String,
}

impl Venue for Bitstamp {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        ["/api/v2/trading-pairs-info/", "/api/v2/markets/"].map(|path| HttpRequest::get(REST, path)).into()
    }

    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let markets: Vec<MarketInfo> = common::read(body)?;
        for market in markets {
            let (named_base, named_quote) = market.name.split_once('/').unwrap_or((&market.name, ""));
            let base = market.base_currency.as_deref().unwrap_or(named_base).to_uppercase();
            let quote = market.counter_currency.as_deref().unwrap_or(named_quote).to_uppercase();
            let perpetual = market.market_type.eq_ignore_ascii_case("perpetual");
            out.push(Listing {
                kind: if perpetual { InstrumentKind::Perpetual } else { InstrumentKind::Spot },
                tick_size: common::step_of_decimals(market.counter_decimals),
                lot_size: common::step_of_decimals(market.base_decimals),
                status: if market.trading == "Enabled" { Status::Trading } else { Status::Halted },
                ..Listing::spot(&market.market_symbol, &base, &quote)
            });
        }
        Ok(())
    }

    fn plan(&self, subscriptions: &[Subscription], _: &Instruments) -> Vec<ConnectionPlan> {
        let served: Vec<_> = subscriptions.iter().filter(|wanted| channel(wanted).is_some()).cloned().collect();
        common::split(SOCKET, &served, SPEC.limits.streams)
    }

    fn dial(&self, plan: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Ok(Dial::Connect { url: plan.base.clone(), ping: 15 * SECOND })
    }

    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        let subscriptions = plan.map(|plan| plan.subscriptions.clone()).unwrap_or_default();
        Ok(Box::new(common::load(saved, || BitstampSession { subscriptions })?))
    }

    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, to: Nanos) -> Option<HttpRequest> {
        const STEPS: [i64; 12] = [1, 3, 5, 15, 30, 60, 120, 240, 360, 720, 1_440, 4_320];
        let step = STEPS.iter().find(|step| *step * MINUTE == interval)? * 60;
        let (start, end) = (from.div_euclid(SECOND), (to - 1).div_euclid(SECOND));
        let query = format!("step={step}&limit=1000&start={start}&end={end}&exclude_current_candle=true");
        Some(HttpRequest::get(REST, format!("/api/v2/ohlc/{native}/?{query}")))
    }

    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        let whole = |text: &str| text.parse::<i64>().ok();
        let step = request.query("step").and_then(whole).ok_or_else(|| VenueError::missing("step"))?;
        let interval = common::time(step, SECOND)?;
        let answer: Ohlc = common::read(body)?;
        for row in answer.data.ohlc {
            let decimal =
                |text: &str| common::decimal(text).ok_or_else(|| VenueError::unexpected("number in a candle"));
            let open_time = whole(&row.timestamp).ok_or_else(|| VenueError::unexpected("time of a candle"))?;
            out.push(CandleItem {
                feed: 0,
                id: InstrumentId(0),
                interval,
                open_time: common::time(open_time, SECOND)?,
                open: decimal(&row.open)?,
                high: decimal(&row.high)?,
                low: decimal(&row.low)?,
                close: decimal(&row.close)?,
                volume: decimal(&row.volume)?,
                notional: None,
                count: None,
                taker_buy: None,
                closed: true,
                ts_event: None,
            });
        }
        Ok(())
    }
}

/// The channel of a subscription; the venue pushes no candles.
fn channel(subscription: &Subscription) -> Option<String> {
    let name = match subscription.channel {
        Channel::Book => "diff_order_book_",
        Channel::Trades => "live_trades_",
        Channel::Candles => return None,
    };
    Some(format!("{name}{}", subscription.native))
}

/// A channel's kind and pair.
fn of_channel(channel: &[u8]) -> Option<(Channel, u8, &[u8])> {
    let kinds: [(&[u8], Channel, u8); 4] = [
        (b"diff_order_book_", Channel::Book, DIFF),
        (b"order_book_", Channel::Book, ORDER_BOOK),
        (b"detail_order_book_", Channel::Book, DETAIL),
        (b"live_trades_", Channel::Trades, 0),
    ];
    kinds.into_iter().find_map(|(prefix, kind, feed)| Some((kind, feed, channel.strip_prefix(prefix)?)))
}

#[derive(Serialize, Deserialize)]
struct BitstampSession {
    subscriptions: Vec<Subscription>,
}

impl Session for BitstampSession {
    fn usual(&mut self, text: &[u8], out: &mut Sink<'_>) -> Option<()> {
        usual(text, out)
    }

    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            Frame::Open { .. } => {
                for channel in self.subscriptions.iter().filter_map(channel) {
                    out.send(&format!(r#"{{"event":"bts:subscribe","data":{{"channel":"{channel}"}}}}"#));
                }
                Ok(())
            }
            Frame::Text(text) => self.text(text, out),
            Frame::Http { request, status, body } => match request.route().strip_prefix("/api/v2/order_book/") {
                Some(pair) => {
                    common::success(status, body)?;
                    let id = out.instrument(pair.trim_end_matches('/').to_lowercase().as_bytes());
                    let mut c = Cursor::new(body);
                    book(id, DIFF, BookKind::Snapshot, &mut c, out)?;
                    Ok(c.end()?)
                }
                None => Ok(out.unknown()),
            },
            Frame::Binary(_) => Ok(out.unknown()),
            Frame::Close(_) => Ok(()),
        }
    }

    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match scope {
            Scope::Book(id, DIFF) => {
                let pair = out.instruments().get(id).native.clone();
                ask(&pair, out);
            }
            // The next image heals.
            Scope::Book(..) => {}
            Scope::Connection => {
                for subscription in self.subscriptions.iter().filter(|wanted| wanted.channel == Channel::Book) {
                    ask(&subscription.native, out);
                }
            }
        }
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        common::save(self, out);
    }
}

fn ask(pair: &str, out: &mut Sink<'_>) {
    out.get(HttpRequest::get(REST, format!("/api/v2/order_book/{pair}/?group=1")));
}

impl BitstampSession {
    /// `{"data":{..},"channel":"diff_order_book_btcusd","event":"data"}`: what the data are stands behind them.
    fn text(&mut self, text: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut event, mut name, mut data) = (&b""[..], &b""[..], None);
        let mut c = Cursor::new(text);
        let mut o = c.object()?;
        while let Some(key) = o.key(&mut c)? {
            match key {
                b"event" => {
                    seen.once(0, &c)?;
                    event = c.str()?;
                }
                b"channel" => {
                    seen.once(1, &c)?;
                    name = c.str()?;
                }
                b"data" => {
                    seen.once(2, &c)?;
                    data = Some(c);
                    c.skip()?;
                }
                _ => c.skip()?,
            }
        }
        c.end()?;
        match (event, of_channel(name), data) {
            (b"data", Some((Channel::Book, feed, pair)), Some(mut data)) => {
                let id = out.instrument(pair);
                let kind = if feed == DIFF { BookKind::Delta } else { BookKind::Image };
                book(id, feed, kind, &mut data, out)
            }
            (b"trade", Some((Channel::Trades, _, pair)), Some(mut data)) => {
                let id = out.instrument(pair);
                trade(id, &mut data, out)
            }
            (b"bts:subscription_succeeded", Some((channel, feed, pair)), _) => {
                let id = out.instrument(pair);
                Ok(out.subscribed(channel, feed, id))
            }
            (
                b"bts:heartbeat"
                | b"bts:unsubscription_succeeded"
                | b"bts:subscription_succeeded"
                | b"order_created"
                | b"order_changed"
                | b"order_deleted",
                ..,
            ) => Ok(out.known()),
            (b"bts:request_reconnect", ..) => Err(VenueError::venue(Class::Reconnect, b"bts:request_reconnect")),
            (b"bts:error", ..) => Err(VenueError::venue(common::refusal(!self.subscriptions.is_empty()), text)),
            _ => Ok(out.unknown()),
        }
    }
}

/// `{"data":{"timestamp":"s","microtimestamp":"us","bids":[["p","q"]],"asks":[..]},"channel":"diff_order_book_..",`
/// `"event":"data"}` to the letter, as nearly every frame is; `None` for any other.
fn usual(text: &[u8], out: &mut Sink<'_>) -> Option<()> {
    const CHANNEL: &[u8; 29] = br#"},"channel":"diff_order_book_"#;
    // Whose the data are stands behind them.
    let before = text.strip_suffix(br#"","event":"data"}"#)?;
    let pair = before.iter().rev().position(|byte| *byte == b'_')?;
    let (data, pair) = before.split_at(before.len() - pair);
    let data = data.strip_suffix(CHANNEL)?;
    let id = out.usual_instrument(pair)?;
    out.begin(id);
    let mut c = Cursor::new(data);
    c.literal(br#"{"data":{"timestamp":""#)?;
    c.digits()?;
    c.literal(br#"","microtimestamp":""#)?;
    let micros = c.digits()?;
    c.literal(br#"","bids":"#)?;
    out.usual_pairs(Side::Bid, &mut c)?;
    c.literal(br#","asks":"#)?;
    out.usual_pairs(Side::Ask, &mut c)?;
    c.done()?;
    let head = BookHead::new(DIFF, BookKind::Delta);
    let (sequence, ts_event) = (Some(Sequence::at(micros)), Some(nanos(micros, MICRO)?));
    out.book(BookHead { sequence, depth: SPEC.books[DIFF as usize].depth, ts_event, ..head });
    Some(())
}

/// `{"timestamp":"s","microtimestamp":"us","bids":[[price, size]],"asks":[..]}`; entries may be single orders.
fn book(id: InstrumentId, feed: u8, kind: BookKind, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    out.begin(id);
    let mut seen = Seen::default();
    let (mut micros, mut seconds) = (None, None);
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"bids" | b"asks" => {
                let side = if key == b"bids" { Side::Bid } else { Side::Ask };
                seen.once(side as u32, c)?;
                if kind == BookKind::Delta {
                    out.pairs(side, c)?;
                } else {
                    orders(side, c, out)?;
                }
            }
            b"microtimestamp" => {
                seen.once(2, c)?;
                micros = Some(c.int()?);
            }
            b"timestamp" => seconds = Some(c.int()?),
            _ => c.skip()?,
        }
    }
    common::require(seen, &["bids", "asks"])?;
    // Old snapshots only have seconds: up to a second of diffs is then applied again, which changes nothing.
    let micros = match (micros, seconds) {
        (Some(micros), _) => micros,
        (None, Some(seconds)) => seconds.checked_mul(1_000_000).ok_or_else(|| VenueError::unexpected("timestamp"))?,
        (None, None) => return Err(VenueError::missing("microtimestamp")),
    };
    let depth = SPEC.books[feed as usize].depth;
    let (sequence, ts_event) = (Some(Sequence::at(micros)), Some(common::time(micros, MICRO)?));
    Ok(out.book(BookHead { sequence, depth, ts_event, ..BookHead::new(feed, kind) }))
}

/// `[[price, size, ...]]`, where rows of one price that follow each other are orders of one level.
fn orders(side: Side, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut level: Option<(Decimal, Decimal)> = None;
    let mut rows = c.array()?;
    while rows.next(c)? {
        let mut row = c.array()?;
        row.more(c)?;
        let price = sink::price(c)?;
        row.more(c)?;
        let amount = sink::size(c)?;
        row.rest(c)?;
        level = match level {
            Some((at, sum)) if at.normal() == price.normal() => Some((at, add(sum, amount)?)),
            Some((at, sum)) => {
                out.level(side, at, sum)?;
                Some((price, amount))
            }
            None => Some((price, amount)),
        };
    }
    level.map_or(Ok(()), |(price, sum)| out.level(side, price, sum))
}

fn add(a: Decimal, b: Decimal) -> Result<Decimal, VenueError> {
    let scale = a.scale.max(b.scale).min(MAX_SCALE);
    let sum = match (a.at_scale(scale), b.at_scale(scale)) {
        (Ok(a), Ok(b)) => a.checked_add(b),
        _ => None,
    };
    let mantissa = sum.ok_or_else(|| VenueError::unexpected("size of the orders of a level"))?;
    Ok(Decimal::new(mantissa, scale))
}

/// `{"id":..,"amount_str":"..","price_str":"..","type":0,"microtimestamp":"us",..}`; `amount` and `price` are the
/// same as floats.
fn trade(id: InstrumentId, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
    let mut seen = Seen::default();
    let (mut trade_id, mut micros, mut seconds, mut taker) = (&b""[..], None, None, Side::Bid);
    let [mut price, mut price_text, mut size, mut size_text] = [None; 4];
    let mut o = c.object()?;
    while let Some(key) = o.key(c)? {
        match key {
            b"id" => {
                seen.once(0, c)?;
                trade_id = c.text()?;
            }
            b"type" => {
                seen.once(1, c)?;
                taker = match c.int()? {
                    0 => Side::Bid,
                    1 => Side::Ask,
                    _ => return Err(VenueError::unexpected("type of a trade")),
                };
            }
            b"price_str" => {
                seen.once(2, c)?;
                price_text = Some(c.decimal()?);
            }
            b"amount_str" => {
                seen.once(3, c)?;
                size_text = Some(c.decimal()?);
            }
            b"price" => price = Some(c.decimal()?),
            b"amount" => size = Some(c.decimal()?),
            b"microtimestamp" => micros = Some(common::time_at(c, MICRO)?),
            b"timestamp" => seconds = Some(common::time_at(c, SECOND)?),
            _ => c.skip()?,
        }
    }
    common::require(seen, &["id", "type"])?;
    out.trade(&TradeItem {
        feed: 0,
        id,
        price: price_text.or(price).ok_or_else(|| VenueError::missing("price_str"))?,
        size: size_text.or(size).ok_or_else(|| VenueError::missing("amount_str"))?,
        taker,
        trade_id,
        // Ids grow, but all pairs share them.
        sequence: None,
        history: false,
        ts_event: micros.or(seconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, subscriptions};

    #[test]
    fn one_channel_per_message_and_no_candles() {
        let wanted = subscriptions(&["btcusd", "ethusd"], &[Channel::Book, Channel::Trades, Channel::Candles]);
        let plans = Bitstamp.plan(&wanted, &Instruments::default());
        let bench = Bench::open(&Bitstamp, plans.first());
        let sent = |channel| format!(r#"{{"event":"bts:subscribe","data":{{"channel":"{channel}"}}}}"#);
        let channels = ["diff_order_book_btcusd", "live_trades_btcusd", "diff_order_book_ethusd", "live_trades_ethusd"];
        assert_eq!(bench.sent, channels.map(sent));
        let many: Vec<String> = (0..101).map(|number| format!("a{number}usd")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let plans = Bitstamp.plan(&subscriptions(&many, &[Channel::Book]), &Instruments::default());
        assert_eq!(plans.iter().map(|plan| plan.subscriptions.len()).collect::<Vec<_>>(), [100, 1]);
    }

    #[test]
    fn an_error_ends_what_we_planned_and_nothing_of_a_recording() {
        let error = r#"{"event":"bts:error","channel":"","data":{"code":null,"message":"Bad subscription string."}}"#;
        let plans = Bitstamp.plan(&subscriptions(&["btcusd"], &[Channel::Book]), &Instruments::default());
        for (plan, ends) in [(plans.first(), true), (None, false)] {
            let mut bench = Bench::open(&Bitstamp, plan);
            bench.text(error);
            assert_eq!(bench.sent.iter().any(|sent| sent.starts_with("reconnect fatal=true")), ends);
        }
    }

    #[test]
    fn orders_of_one_price_are_one_level() {
        let mut bench = Bench::open(&Bitstamp, None);
        let body = r#"{"microtimestamp":"9","bids":[["5.0","1","77"],["5.0","2.5","78"],["4","1","79"]],"asks":[["6","1","80"]]}"#;
        bench.http("/api/v2/order_book/btcusd?group=2", body);
        assert_eq!(bench.book("btcusd"), "Live 5:35 4:10 | 6:10");
    }

    #[test]
    fn both_instrument_lists_agree() {
        let old = br#"[{"name":"BTC/USD","url_symbol":"btcusd","base_decimals":8,"counter_decimals":0,"instant_order_counter_decimals":2,"minimum_order":"10 USD","trading":"Enabled","instant_and_market_orders":"Enabled","description":"Bitcoin / U.S. dollar"}]"#;
        let new = br#"[{"name":"BTC/USD","market_symbol":"btcusd","base_currency":"BTC","base_decimals":8,"counter_currency":"USD","counter_decimals":0,"trading":"Enabled","market_type":"SPOT"},{"name":"BTC/USD-PERP","market_symbol":"btcusd-perp","base_currency":"BTC","base_decimals":5,"counter_currency":"USD","counter_decimals":1,"trading":"Disabled","market_type":"PERPETUAL"}]"#;
        let [mut from_old, mut from_new] = [Vec::new(), Vec::new()];
        let requests = Bitstamp.instrument_requests();
        Bitstamp.parse_instruments(&requests[0], old, &mut from_old).unwrap();
        Bitstamp.parse_instruments(&requests[1], new, &mut from_new).unwrap();
        assert_eq!(from_old[0], from_new[0]);
        assert_eq!(from_old[0].tick_size, Some(Decimal::new(1, 0)));
        assert_eq!(from_new[1].symbol(), "BTC-USD-PERP");
        assert_eq!(from_new[1].status, Status::Halted);
    }

    #[test]
    fn candles() {
        let request = Bitstamp.candle_request("btcusd", 5 * MINUTE, 0, 600 * SECOND).unwrap();
        let query = "step=300&limit=1000&start=0&end=599&exclude_current_candle=true";
        assert_eq!(request.path, format!("/api/v2/ohlc/btcusd/?{query}"));
        let body = br#"{"data":{"ohlc":[{"timestamp":"300","open":"1","high":"3","low":"0.5","close":"2","volume":"10"}],"pair":"BTC/USD"}}"#;
        let mut candles = Vec::new();
        Bitstamp.parse_candles(&request, body, &mut candles).unwrap();
        assert_eq!((candles[0].open_time, candles[0].interval), (300 * SECOND, 5 * MINUTE));
        assert_eq!(candles[0].low, Decimal::new(5, 1));
        assert!(Bitstamp.candle_request("btcusd", 7 * MINUTE, 0, 1).is_none());
    }
}
