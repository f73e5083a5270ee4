//! Connectors of the user's own: frames in COBY's own JSON, handed over by a program and not by a socket.
//!
//! Names, units and shapes are those of the models in `coby.models`. Prices and sizes are decimal texts, times are
//! nanoseconds, as texts or numbers. `kind` says what a frame is:
//!
//! | kind | must have | may have |
//! |---|---|---|
//! | `book` | `symbol snapshot bids asks` | `sequence previous depth ts_event` |
//! | `trade` | `symbol price size side` | `trade_id history sequence ts_event` |
//! | `candle` | `symbol interval open_time open high low close volume` | `closed notional count taker_buy ts_event` |
//! | `subscribed` | `symbol channel` | |
//! | `heartbeat` | | |
//!
//! A book begins with a snapshot, within ten seconds. If that has a `sequence`, so has every later message of the book,
//! and each follows the one before it: it is greater by one, or its `previous` says that nothing lies between. If not,
//! nothing proves that no message was lost. Only a new connection starts a book again.
//!
//! One venue stands for all connectors: a connection's URL `external://<exchange>` names the one that feeds it, and
//! its instruments are `<exchange>|<symbol>`.

use std::collections::BTreeSet;

use coby_core::decimal::Decimal;
use coby_core::instrument::{InstrumentId, InstrumentKind, Instruments, Listing, Status};
use coby_core::level::Side;
use coby_core::record::{HttpRequest, Nanos};
use coby_core::scan::{Cursor, Object, Seen};
use coby_core::sink::{BookKind, Sequence};
use coby_core::time::MINUTE;
use coby_core::venue::{
    BookFeed, BookHead, CandleFeed, CandleItem, Channel, Class, ConnectionPlan, Dial, Frame, Join, Limits, Ping, Proof,
    Rule, Scope, Session, Sink, Subscription, TradeFeed, TradeItem, Venue, VenueError, VenueErrorKind, VenueSpec,
};
use serde::{Deserialize, Serialize};

use crate::common;

/// The venue's id.
pub const ID: &str = "external";

const SCHEME: &str = "external://";
const ROUTE: &str = "/instruments";
const CLOSED: &str = "connectors of your own bring its data: name them in the setting `connectors`";

/// Books, and trades, with numbers come before those without.
const NUMBERED: u8 = 0;
const PLAIN: u8 = 1;
const CANDLE: u8 = 0;

static SPEC: VenueSpec = VenueSpec {
    id: ID,
    name: "Connectors",
    protocol: "1",
    closed: Some(CLOSED),
    sockets: &[],
    rest: SCHEME,
    ping: Ping::Protocol,
    silence: 0,
    limits: Limits { dials: (0, 0), messages: (0, 0), spacing: 0, streams: 0, rest: (0, 0), lifetime: 0 },
    books: &[
        BookFeed { name: "book with sequence", rule: Rule::Contiguous, proof: Proof::Sequence, limits: "", ..BOOK },
        BOOK,
    ],
    trades: &[
        TradeFeed { name: "trade with sequence", proof: Proof::Sequence, aggregated: false },
        TradeFeed { name: "trade", proof: Proof::None, aggregated: false },
    ],
    candles: &[CandleFeed { name: "candle", interval: MINUTE }],
};

const BOOK: BookFeed = BookFeed {
    name: "book",
    join: Join::Socket,
    rule: Rule::None,
    proof: Proof::None,
    checksum: None,
    digits: false,
    depth: None,
    shows: None,
    refresh: 0,
    limits: "a message that the connector loses goes unnoticed until its next snapshot",
};

/// All connectors of the user's own.
#[derive(Clone, Copy, Debug)]
pub struct External;

/// Whether this may be the name of a connector: lower-case letters, digits, `_`, `-` and `.`, at most 40.
pub fn is_exchange(name: &str) -> bool {
    let fits = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.');
    (1..=40).contains(&name.len()) && name.bytes().all(fits)
}

/// URL of the connections of a connector.
pub fn url(exchange: &str) -> String {
    format!("{SCHEME}{exchange}")
}

/// The request that a connector's list of instruments is the answer to.
pub fn instruments_of(exchange: &str) -> HttpRequest {
    HttpRequest::get(SCHEME, format!("{ROUTE}?exchange={exchange}"))
}

/// A row of a connector's list of instruments.
#[derive(Deserialize)]
struct Info {
    symbol: String,
    base: String,
    quote: String,
    #[serde(default)]
    kind: Kind,
    expiry: Option<serde_json::Value>,
    tick_size: Option<serde_json::Value>,
    lot_size: Option<serde_json::Value>,
    contract_size: Option<serde_json::Value>,
    #[serde(default)]
    inverse: bool,
    #[serde(default)]
    status: State,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Spot,
    Perpetual,
    Future,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    #[default]
    Trading,
    Halted,
    Delisted,
}

impl Info {
    fn listing(&self, exchange: &str) -> Option<Listing> {
        if [&self.symbol, &self.base, &self.quote].into_iter().any(String::is_empty) {
            return None;
        }
        let step = |given: &Option<serde_json::Value>| match given {
            None => Some(None),
            Some(value) => common::amount(value).map(Some),
        };
        let mut listing = Listing::spot(&format!("{exchange}|{}", self.symbol), &self.base, &self.quote);
        listing.kind = match self.kind {
            Kind::Spot => InstrumentKind::Spot,
            Kind::Perpetual => InstrumentKind::Perpetual,
            Kind::Future => InstrumentKind::Future(whole(self.expiry.as_ref()?)?),
        };
        listing.tick_size = step(&self.tick_size)?;
        listing.lot_size = step(&self.lot_size)?;
        listing.contract_size = step(&self.contract_size)?.unwrap_or(listing.contract_size);
        listing.inverse = self.inverse;
        listing.status = match self.status {
            State::Trading => Status::Trading,
            State::Halted => Status::Halted,
            State::Delisted => Status::Delisted,
        };
        Some(listing)
    }
}

/// A whole number, as text or as number.
fn whole(value: &serde_json::Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn closed() -> VenueError {
    VenueError::new(Class::Fatal, VenueErrorKind::Gone(CLOSED))
}

impl Venue for External {
    fn spec(&self) -> &'static VenueSpec {
        &SPEC
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        vec![HttpRequest::get(SCHEME, ROUTE)]
    }

    fn parse_instruments(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let exchange = request.query("exchange").filter(|name| is_exchange(name));
        let exchange = exchange.ok_or_else(|| VenueError::unexpected("name of an exchange"))?;
        for info in common::read::<Vec<Info>>(body)? {
            let listing = info.listing(exchange).ok_or_else(|| {
                VenueError::venue(Class::Ignore, format!("instrument {:?} cannot be used", info.symbol).as_bytes())
            })?;
            out.push(listing);
        }
        Ok(())
    }

    fn plan(&self, _: &[Subscription], _: &Instruments) -> Vec<ConnectionPlan> {
        Vec::new()
    }

    fn dial(&self, _: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Err(closed())
    }

    fn session(&self, _: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        Ok(Box::new(common::load(saved, ExternalSession::default)?))
    }

    fn candle_request(&self, _: &str, _: Nanos, _: Nanos, _: Nanos) -> Option<HttpRequest> {
        None
    }

    fn parse_candles(&self, _: &HttpRequest, _: &[u8], _: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        Err(closed())
    }
}

#[derive(Default, Serialize, Deserialize)]
struct ExternalSession {
    /// `<exchange>|`, and behind it the symbol that was read last.
    native: Vec<u8>,
    /// Length of the former.
    prefix: usize,
    /// Books whose snapshot had a number.
    books: BTreeSet<InstrumentId>,
    /// Instruments whose trades have had a number.
    trades: BTreeSet<InstrumentId>,
}

impl Session for ExternalSession {
    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        match frame {
            Frame::Open { url } => {
                let exchange = url.strip_prefix(SCHEME).filter(|name| is_exchange(name));
                let wrong = || VenueError::new(Class::Fatal, VenueErrorKind::Unexpected("URL of a connector"));
                let exchange = exchange.ok_or_else(wrong)?;
                self.native = format!("{exchange}|").into_bytes();
                self.prefix = self.native.len();
                Ok(())
            }
            Frame::Text(bytes) => self.text(bytes, out),
            Frame::Binary(_) => Err(VenueError::unexpected("binary frame")),
            Frame::Http { .. } => Ok(out.unknown()),
            Frame::Close(_) => Ok(()),
        }
    }

    fn resync(&mut self, _: Scope, _: &mut Sink<'_>) -> Result<(), VenueError> {
        Err(VenueError::venue(Class::Reconnect, b"only a new connection starts a book again"))
    }

    fn save(&self, out: &mut Vec<u8>) {
        common::save(self, out);
    }
}

impl ExternalSession {
    fn text(&mut self, bytes: &[u8], out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut c = Cursor::new(bytes);
        // Looked at as a whole first: no half of a frame changes what later ones mean.
        let mut whole = c;
        whole.skip()?;
        whole.end()?;
        let (mut o, kind) = c.tagged(b"kind")?;
        match kind {
            Some(b"book") => self.book(&mut o, &mut c, out),
            Some(b"trade") => self.trade(&mut o, &mut c, out),
            Some(b"candle") => self.candle(&mut o, &mut c, out),
            Some(b"subscribed") => self.subscribed(&mut o, &mut c, out),
            Some(b"heartbeat") => Ok(out.known()),
            Some(_) => Ok(out.unknown()),
            None => Err(VenueError::missing("kind")),
        }
    }

    #[inline]
    fn instrument(&mut self, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<InstrumentId, VenueError> {
        let symbol = c.str()?;
        if symbol.is_empty() {
            return Err(VenueError::unexpected("empty symbol"));
        }
        self.native.truncate(self.prefix);
        self.native.extend_from_slice(symbol);
        Ok(out.instrument(&self.native))
    }

    fn book(&mut self, o: &mut Object, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut id, mut snapshot, mut depth) = (None, false, None);
        let (mut number, mut previous, mut ts_event) = (None, None, None);
        let mut late = [None; 2];
        while let Some(key) = o.key(c)? {
            match key {
                b"symbol" => {
                    seen.once(0, c)?;
                    let found = self.instrument(c, out)?;
                    out.begin(found);
                    id = Some(found);
                }
                b"snapshot" => {
                    seen.once(1, c)?;
                    snapshot = c.bool()?;
                }
                b"bids" | b"asks" => {
                    let (bit, side) = if key == b"bids" { (2, Side::Bid) } else { (3, Side::Ask) };
                    seen.once(bit, c)?;
                    if id.is_some() {
                        out.pairs(side, c)?;
                    } else {
                        late[side as usize] = Some(*c);
                        c.skip()?;
                    }
                }
                b"sequence" => {
                    seen.once(4, c)?;
                    number = int_or_null(c)?;
                }
                b"previous" => {
                    seen.once(5, c)?;
                    previous = int_or_null(c)?;
                }
                b"depth" => {
                    seen.once(6, c)?;
                    depth = int_or_null(c)?;
                }
                b"ts_event" => {
                    seen.once(7, c)?;
                    ts_event = int_or_null(c)?;
                }
                _ => c.skip()?,
            }
        }
        common::require(seen, &["symbol", "snapshot", "bids", "asks"])?;
        for (side, late) in [Side::Bid, Side::Ask].into_iter().zip(late) {
            if let Some(mut late) = late {
                out.pairs(side, &mut late)?;
            }
        }
        let Some(id) = id else { return Err(VenueError::missing("symbol")) };
        let first = match (number, previous) {
            (None, None) => None,
            (None, Some(_)) => return Err(VenueError::missing("sequence")),
            (number, None) => number,
            (Some(number), Some(previous)) if previous < number => Some(previous + 1),
            _ => return Err(VenueError::unexpected("previous: not before sequence")),
        };
        let depth = match depth.map(u32::try_from) {
            None => None,
            Some(Ok(depth @ 1..)) => Some(depth),
            Some(_) => return Err(VenueError::unexpected("depth")),
        };
        if snapshot && number.is_some() {
            self.books.insert(id);
        }
        // A message without the number that its book began with shows the keeper that something is missing.
        let numbered = self.books.contains(&id);
        if snapshot && numbered && number.is_none() {
            return Err(VenueError::missing("sequence"));
        }
        let feed = if numbered { NUMBERED } else { PLAIN };
        let kind = if snapshot { BookKind::Snapshot } else { BookKind::Delta };
        let sequence = number.filter(|_| numbered).map(|last| Sequence { first, last, previous: None });
        out.book(BookHead { sequence, depth, ts_event, ..BookHead::new(feed, kind) });
        Ok(())
    }

    fn trade(&mut self, o: &mut Object, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut id, mut price, mut size, mut taker) = (None, Decimal::default(), Decimal::default(), Side::Bid);
        let (mut trade_id, mut history, mut sequence, mut ts_event) = (&b""[..], false, None, None);
        while let Some(key) = o.key(c)? {
            match key {
                b"symbol" => {
                    seen.once(0, c)?;
                    id = Some(self.instrument(c, out)?);
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
                        b"buy" => Side::Bid,
                        b"sell" => Side::Ask,
                        _ => return Err(VenueError::unexpected("side")),
                    };
                }
                b"trade_id" => {
                    seen.once(4, c)?;
                    trade_id = if c.null()? { b"" } else { c.text()? };
                }
                b"history" => {
                    seen.once(5, c)?;
                    history = c.bool()?;
                }
                b"sequence" => {
                    seen.once(6, c)?;
                    sequence = int_or_null(c)?;
                }
                b"ts_event" => {
                    seen.once(7, c)?;
                    ts_event = int_or_null(c)?;
                }
                _ => c.skip()?,
            }
        }
        common::require(seen, &["symbol", "price", "size", "side"])?;
        let Some(id) = id else { return Err(VenueError::missing("symbol")) };
        let numbered = self.trades.contains(&id);
        // Trades told again were numbered by nobody.
        if numbered && sequence.is_none() && !history {
            return Err(VenueError::missing("sequence"));
        }
        let feed = if numbered || sequence.is_some() { NUMBERED } else { PLAIN };
        out.trade(&TradeItem { feed, id, price, size, taker, trade_id, sequence, history, ts_event })?;
        if sequence.is_some() {
            self.trades.insert(id);
        }
        Ok(())
    }

    fn candle(&mut self, o: &mut Object, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut id, mut interval, mut open_time, mut closed) = (None, 0, 0, true);
        let [mut open, mut high, mut low, mut close, mut volume] = [Decimal::default(); 5];
        let (mut notional, mut taker_buy, mut count, mut ts_event) = (None, None, None, None);
        while let Some(key) = o.key(c)? {
            let (bit, field) = match key {
                b"open" => (3, &mut open),
                b"high" => (4, &mut high),
                b"low" => (5, &mut low),
                b"close" => (6, &mut close),
                b"volume" => (7, &mut volume),
                b"symbol" => {
                    seen.once(0, c)?;
                    id = Some(self.instrument(c, out)?);
                    continue;
                }
                b"interval" => {
                    seen.once(1, c)?;
                    interval = c.int()?;
                    continue;
                }
                b"open_time" => {
                    seen.once(2, c)?;
                    open_time = c.int()?;
                    continue;
                }
                b"closed" => {
                    seen.once(8, c)?;
                    closed = c.bool()?;
                    continue;
                }
                b"notional" => {
                    seen.once(9, c)?;
                    notional = c.decimal_or_null()?;
                    continue;
                }
                b"taker_buy" => {
                    seen.once(10, c)?;
                    taker_buy = c.decimal_or_null()?;
                    continue;
                }
                b"count" => {
                    seen.once(11, c)?;
                    count = int_or_null(c)?;
                    continue;
                }
                b"ts_event" => {
                    seen.once(12, c)?;
                    ts_event = int_or_null(c)?;
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
        common::require(seen, &["symbol", "interval", "open_time", "open", "high", "low", "close", "volume"])?;
        let Some(id) = id else { return Err(VenueError::missing("symbol")) };
        if interval <= 0 {
            return Err(VenueError::unexpected("interval"));
        }
        let feed = CANDLE;
        out.candle(CandleItem {
            feed,
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
        });
        Ok(())
    }

    fn subscribed(&mut self, o: &mut Object, c: &mut Cursor<'_>, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut seen = Seen::default();
        let (mut id, mut what) = (None, (Channel::Book, PLAIN));
        while let Some(key) = o.key(c)? {
            match key {
                b"symbol" => {
                    seen.once(0, c)?;
                    id = Some(self.instrument(c, out)?);
                }
                b"channel" => {
                    seen.once(1, c)?;
                    what = match c.str()? {
                        b"book" => (Channel::Book, PLAIN),
                        b"trades" => (Channel::Trades, PLAIN),
                        b"candles" => (Channel::Candles, CANDLE),
                        _ => return Err(VenueError::unexpected("channel")),
                    };
                }
                _ => c.skip()?,
            }
        }
        common::require(seen, &["symbol", "channel"])?;
        let Some(id) = id else { return Err(VenueError::missing("symbol")) };
        let (channel, feed) = what;
        out.subscribed(channel, feed, id);
        Ok(())
    }
}

fn int_or_null(c: &mut Cursor<'_>) -> Result<Option<i64>, VenueError> {
    if c.null()? { Ok(None) } else { Ok(Some(c.int()?)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    fn open() -> Bench {
        Bench::open_at(&External, None, "external://demo")
    }

    fn book(rest: &str) -> String {
        format!(r#"{{"kind":"book","symbol":"BTC-USDT","asks":[["11","1"]],{rest}}}"#)
    }

    #[test]
    fn a_numbered_book_notices_what_is_missing() {
        for (delta, fits) in [
            (r#""snapshot":false,"bids":[["9","2"]],"sequence":8"#, true),
            (r#""snapshot":false,"bids":[["9","2"]],"sequence":"20","previous":7"#, true),
            (r#""snapshot":false,"bids":[["9","2"]],"sequence":20,"previous":5"#, true),
            (r#""snapshot":false,"bids":[["9","2"]],"sequence":9"#, false),
            (r#""snapshot":false,"bids":[["9","2"]],"sequence":20,"previous":8"#, false),
            (r#""snapshot":false,"bids":[["9","2"]],"sequence":6"#, false),
            (r#""snapshot":false,"bids":[["9","2"]]"#, false),
            (r#""snapshot":true,"bids":[["9","2"]]"#, false),
            (r#""snapshot":false,"bids":[["9","2"]],"sequence":20,"previous":20"#, false),
        ] {
            let mut bench = open();
            // A subscription is told before the first number comes.
            bench.text(r#"{"kind":"subscribed","symbol":"BTC-USDT","channel":"book"}"#);
            bench.text(&book(r#""snapshot":true,"bids":[["10","1"]],"sequence":7"#));
            bench.reload();
            bench.text(&book(delta));
            let opened = bench.told.0.iter().any(|line| line.starts_with("gap demo|BTC-USDT book opened"));
            assert_eq!((bench.sent.is_empty(), opened), (fits, !fits), "{delta}: {:?} {:?}", bench.told.0, bench.sent);
            assert!(bench.sent.iter().all(|sent| sent.starts_with("reconnect fatal=false")), "{:?}", bench.sent);
            if fits {
                assert_eq!(bench.book("demo|BTC-USDT"), "Live 10:1 9:2 | 11:1");
            }
        }
    }

    #[test]
    fn a_book_without_numbers_goes_on_whatever_they_say() {
        let mut bench = open();
        bench.text(&book(r#""snapshot":true,"bids":[["10","1"]]"#));
        for number in [5, 9, 2] {
            bench.text(&book(&format!(r#""snapshot":false,"bids":[["9","{number}"]],"sequence":{number}"#)));
        }
        assert_eq!((bench.book("demo|BTC-USDT"), &bench.sent[..]), ("Live 10:1 9:2 | 11:1".into(), &[][..]));
        // From a snapshot with a number on it is kept to them.
        bench.text(&book(r#""snapshot":true,"bids":[["8","1"]],"sequence":7,"depth":1"#));
        assert_eq!(bench.book("demo|BTC-USDT"), "Live 8:1 | 11:1");
        bench.text(&book(r#""snapshot":false,"bids":[["9","1"]],"sequence":9"#));
        assert!(bench.sent[0].starts_with("reconnect fatal=false"), "{:?}", bench.sent);
    }

    #[test]
    fn a_book_that_never_begins_ends_its_connection() {
        let mut bench = open();
        bench.text(&book(r#""snapshot":false,"bids":[]"#));
        bench.pass(9);
        assert!(bench.sent.is_empty());
        bench.pass(2);
        assert!(bench.sent[0].starts_with("reconnect fatal=false"), "{:?}", bench.sent);
    }

    #[test]
    fn trades_keep_to_their_numbers() {
        let trade = |rest: &str| {
            format!(
                r#"{{"kind":"trade","symbol":"BTC-USDT","price":"10","size":"1","side":"sell","ts_event":null{rest}}}"#
            )
        };
        let mut bench = open();
        bench.text(&trade(""));
        bench.text(&trade(r#","trade_id":7,"sequence":1"#));
        bench.text(&trade(r#","trade_id":"old","history":true"#));
        bench.text(&trade(r#","trade_id":"9","sequence":3"#));
        bench.text(&trade(r#","trade_id":"10""#));
        let told = &bench.told.0;
        assert_eq!(told[0], "trade demo|BTC-USDT Ask 1@10  history=false");
        assert_eq!(told[1], "trade demo|BTC-USDT Ask 1@10 7 history=false");
        assert_eq!(told[2], "trade demo|BTC-USDT Ask 1@10 old history=true");
        assert_eq!(told[3], "gap demo|BTC-USDT trades opened sequence");
        assert_eq!(told[4], "gap demo|BTC-USDT trades closed sequence");
        assert_eq!(told[6], "error Resync missing field sequence");
    }

    #[test]
    fn only_connectors_connect() {
        assert_eq!(External.plan(&[], &Instruments::default()), []);
        let error = External.dial(&ConnectionPlan::default(), None).unwrap_err();
        assert_eq!((error.class, error.kind), (Class::Fatal, VenueErrorKind::Gone(CLOSED)));
        for url in ["external://", "external://A", "external://a|b", "wss://demo", &format!("external://{:041}", 0)] {
            let bench = Bench::open_at(&External, None, url);
            assert!(bench.sent[0].starts_with("reconnect fatal=true"), "{url}");
        }
    }

    #[test]
    fn lists_are_checked() {
        let read = |exchange: &str, body: &str| {
            let mut listings = Vec::new();
            External.parse_instruments(&instruments_of(exchange), body.as_bytes(), &mut listings).map(|()| listings)
        };
        let body = r#"[{"symbol":"F","base":"BTC","quote":"USD","kind":"future","expiry":"1798185600000000000",
            "tick_size":0.5,"lot_size":"1","contract_size":"100","inverse":true,"status":"halted"}]"#;
        let [listing] = &read("demo", body).unwrap()[..] else { panic!("one instrument") };
        assert_eq!((&listing.native[..], &listing.symbol()[..]), ("demo|F", "BTC-USD-261225"));
        assert_eq!((listing.tick_size, listing.contract_size), (Some(Decimal::new(5, 1)), Decimal::new(100, 0)));
        assert_eq!((listing.inverse, listing.status), (true, Status::Halted));
        for body in [
            r#"[{"symbol":"","base":"BTC","quote":"USD"}]"#,
            r#"[{"symbol":"X","base":"BTC"}]"#,
            r#"[{"symbol":"X","base":"BTC","quote":"USD","kind":"future"}]"#,
            r#"[{"symbol":"X","base":"BTC","quote":"USD","kind":"option"}]"#,
            r#"[{"symbol":"X","base":"BTC","quote":"USD","tick_size":"0"}]"#,
            r#"{"symbol":"X"}"#,
        ] {
            assert_eq!(read("demo", body).unwrap_err().class, Class::Ignore, "{body}");
        }
        assert!(read("not a name", "[]").is_err());
    }
}
