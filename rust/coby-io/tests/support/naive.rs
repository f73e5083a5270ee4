//! The most naive reader of each recorded venue: a map per side, the rules as the venue's documentation
//! words them.

use std::collections::BTreeMap;

use coby_io::recording::{FrameKind, RecordedFrame};
use serde_json::Value;

use super::exact::{fixed, nanos_of, plain};

/// Bids, then asks: price to size.
pub type Ladders = [BTreeMap<i128, i128>; 2];

/// A trade as the venue's documentation reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NaiveTrade {
    pub native: String,
    pub price: String,
    pub size: String,
    pub taker_buys: bool,
    pub id: String,
    pub history: bool,
    pub ts_event: i64,
    pub ts_recv: i64,
}

/// What a venue's book messages are numbered by.
#[derive(Clone, Copy)]
enum Order {
    /// `U`, `u`, `pu`.
    Binance,
    /// `sequenceStart`, `sequenceEnd`.
    Kucoin,
    /// `microtimestamp`.
    Bitstamp,
    /// Nothing.
    Coinbase,
}

/// A book message: the numbers it carries and its levels, side 0 being bids.
#[derive(Clone, Default)]
struct Message {
    first: i64,
    last: i64,
    previous: i64,
    levels: Vec<(usize, String, String)>,
}

/// One instrument.
#[derive(Default)]
pub struct Naive {
    /// `None` until a snapshot has come.
    pub book: Option<Ladders>,
    /// Deltas that were applied since.
    pub applied: u64,
    /// A message did not continue what was applied: there is no book any more.
    pub broken: bool,
    waiting: Vec<Message>,
    last: i64,
    joined: bool,
}

/// One venue.
pub struct NaiveVenue {
    order: Order,
    pub instruments: BTreeMap<String, Naive>,
    pub trades: Vec<NaiveTrade>,
    recv: i64,
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is no text in {value}"))
}

fn whole(value: &Value, key: &str) -> i64 {
    let found = &value[key];
    found.as_i64().or_else(|| found.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{key} is no number in {value}"))
}

fn levels(value: &Value, keys: [&str; 2]) -> Vec<(usize, String, String)> {
    let side = |side: usize| {
        let rows = value[keys[side]].as_array().unwrap_or_else(|| panic!("{} is no list in {value}", keys[side]));
        rows.iter().map(move |row| {
            let field = |index: usize| row[index].as_str().expect("levels are texts").to_owned();
            (side, field(0), field(1))
        })
    };
    side(0).chain(side(1)).collect()
}

fn apply(book: &mut Ladders, levels: &[(usize, String, String)]) {
    for (side, price, size) in levels {
        let (price, size) = (fixed(price), fixed(size));
        if price == 0 {
            // KuCoin: "PRICE 0 = no level change".
        } else if size == 0 {
            book[*side].remove(&price);
        } else {
            book[*side].insert(price, size);
        }
    }
}

impl Order {
    /// Whether a message is contained in what was applied already.
    fn old(self, message: &Message, naive: &Naive) -> bool {
        match self {
            // "Drop events with u < lastUpdateId (strictly less)."
            Self::Binance => !naive.joined && message.last < naive.last,
            // "Drop messages with sequenceEnd <= snapshot.sequence."
            Self::Kucoin => !naive.joined && message.last <= naive.last,
            // "Thereafter drop any diff not newer than the last applied."
            Self::Bitstamp => message.last <= naive.last,
            Self::Coinbase => false,
        }
    }

    /// Whether a message continues what was applied.
    fn continues(self, message: &Message, naive: &Naive) -> bool {
        let last = naive.last;
        match self {
            Self::Binance if naive.joined => message.previous == last,
            Self::Binance => (message.first <= last && last <= message.last) || message.previous == last,
            Self::Kucoin => message.first <= last + 1 && message.last > last,
            Self::Bitstamp | Self::Coinbase => true,
        }
    }
}

impl NaiveVenue {
    pub fn new(venue: &str) -> Self {
        let order = match venue {
            "binance_futures" => Order::Binance,
            "kucoin" => Order::Kucoin,
            "bitstamp" => Order::Bitstamp,
            "coinbase" => Order::Coinbase,
            other => panic!("no oracle for {other}"),
        };
        Self { order, instruments: BTreeMap::new(), trades: Vec::new(), recv: i64::MIN }
    }

    fn snapshot(&mut self, native: &str, message: &Message) {
        let naive = self.instruments.entry(native.into()).or_default();
        let mut book = Ladders::default();
        apply(&mut book, &message.levels);
        (naive.book, naive.last, naive.joined) = (Some(book), message.last, false);
        for waiting in std::mem::take(&mut naive.waiting) {
            self.delta(native, waiting);
        }
    }

    fn delta(&mut self, native: &str, message: Message) {
        let naive = self.instruments.entry(native.into()).or_default();
        if naive.broken {
            return;
        }
        if naive.book.is_none() {
            // Coinbase's snapshot comes among the updates: those before it are of no use.
            if !matches!(self.order, Order::Coinbase) {
                naive.waiting.push(message);
            }
            return;
        }
        if self.order.old(&message, naive) {
            return;
        }
        if !self.order.continues(&message, naive) {
            (naive.book, naive.broken) = (None, true);
            return;
        }
        apply(naive.book.as_mut().expect("looked at above"), &message.levels);
        (naive.last, naive.joined) = (message.last, true);
        naive.applied += 1;
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a trade")]
    fn trade(&mut self, native: &str, price: &str, size: &str, taker_buys: bool, id: String, history: bool, at: i64) {
        let seen = self.trades.iter().any(|trade| trade.native == native && trade.id == id);
        if !seen {
            self.trades.push(NaiveTrade {
                native: native.into(),
                price: plain(price),
                size: plain(size),
                taker_buys,
                id,
                history,
                ts_event: at,
                ts_recv: self.recv,
            });
        }
    }

    /// Takes one recorded frame; tells the instrument whose book it was about.
    pub fn frame(&mut self, frame: &RecordedFrame) -> Option<String> {
        self.recv = self.recv.max(frame.recv_ns);
        if !matches!(frame.kind, FrameKind::Text | FrameKind::Http) {
            return None;
        }
        let body: Value = serde_json::from_slice(&frame.body).expect("recorded frames are JSON");
        match self.order {
            Order::Binance => self.binance(frame, &body),
            Order::Kucoin => self.kucoin(frame, &body),
            Order::Bitstamp => self.bitstamp(frame, &body),
            Order::Coinbase => self.coinbase(&body),
        }
    }

    fn binance(&mut self, frame: &RecordedFrame, body: &Value) -> Option<String> {
        if frame.kind == FrameKind::Http {
            let (_, rest) = frame.url.split_once("symbol=")?;
            let native = rest.split('&').next()?.to_owned();
            let levels = levels(body, ["bids", "asks"]);
            self.snapshot(&native, &Message { last: whole(body, "lastUpdateId"), levels, ..Message::default() });
            return Some(native);
        }
        let data = &body["data"];
        let native = text(data, "s").to_owned();
        match text(data, "e") {
            "depthUpdate" => {
                let (first, last, previous) = (whole(data, "U"), whole(data, "u"), whole(data, "pu"));
                self.delta(&native, Message { first, last, previous, levels: levels(data, ["b", "a"]) });
                Some(native)
            }
            "aggTrade" => {
                let buyer_is_maker = data["m"].as_bool().expect("m is a boolean");
                let (id, at) = (whole(data, "a").to_string(), whole(data, "T") * 1_000_000);
                self.trade(&native, text(data, "p"), text(data, "q"), !buyer_is_maker, id, false, at);
                None
            }
            _ => None,
        }
    }

    fn kucoin(&mut self, frame: &RecordedFrame, body: &Value) -> Option<String> {
        let data = &body["data"];
        if frame.kind == FrameKind::Http {
            let native = frame.url.split_once("symbol=")?.1.to_owned();
            let message =
                Message { last: whole(data, "sequence"), levels: levels(data, ["bids", "asks"]), ..Message::default() };
            self.snapshot(&native, &message);
            return Some(native);
        }
        match body["subject"].as_str()? {
            "trade.l2update" => {
                let native = text(data, "symbol").to_owned();
                let (first, last) = (whole(data, "sequenceStart"), whole(data, "sequenceEnd"));
                let levels = levels(&data["changes"], ["bids", "asks"]);
                self.delta(&native, Message { first, last, levels, ..Message::default() });
                Some(native)
            }
            "trade.l3match" => {
                let buys = text(data, "side") == "buy";
                let (native, id) = (text(data, "symbol"), text(data, "tradeId").to_owned());
                self.trade(native, text(data, "price"), text(data, "size"), buys, id, false, whole(data, "time"));
                None
            }
            _ => None,
        }
    }

    fn bitstamp(&mut self, frame: &RecordedFrame, body: &Value) -> Option<String> {
        if frame.kind == FrameKind::Http {
            let native = frame.url.split_once("/order_book/")?.1.trim_end_matches('/').to_owned();
            let levels = levels(body, ["bids", "asks"]);
            self.snapshot(&native, &Message { last: whole(body, "microtimestamp"), levels, ..Message::default() });
            return Some(native);
        }
        let (channel, data) = (text(body, "channel"), &body["data"]);
        match text(body, "event") {
            "data" => {
                let native = channel.strip_prefix("diff_order_book_")?.to_owned();
                let last = whole(data, "microtimestamp");
                self.delta(&native, Message { last, levels: levels(data, ["bids", "asks"]), ..Message::default() });
                Some(native)
            }
            "trade" => {
                let native = channel.strip_prefix("live_trades_")?;
                let (id, at) = (whole(data, "id").to_string(), whole(data, "microtimestamp") * 1_000);
                let (price, size) = (text(data, "price_str"), text(data, "amount_str"));
                self.trade(native, price, size, whole(data, "type") == 0, id, false, at);
                None
            }
            _ => None,
        }
    }

    fn coinbase(&mut self, body: &Value) -> Option<String> {
        let native = body["product_id"].as_str()?.to_owned();
        match text(body, "type") {
            "snapshot" => {
                self.snapshot(&native, &Message { levels: levels(body, ["bids", "asks"]), ..Message::default() });
                Some(native)
            }
            "l2update" => {
                let rows = body["changes"].as_array().expect("changes are a list");
                let levels = rows.iter().map(|row| {
                    let field = |index: usize| row[index].as_str().expect("changes are texts").to_owned();
                    (usize::from(field(0) == "sell"), field(1), field(2))
                });
                self.delta(&native, Message { levels: levels.collect(), ..Message::default() });
                Some(native)
            }
            kind @ ("match" | "last_match") => {
                // "side = MAKER side"; "last_match = the most recent trade at subscribe time: stale".
                let buys = text(body, "side") == "sell";
                let (id, at) = (whole(body, "trade_id").to_string(), nanos_of(text(body, "time")));
                let (price, size) = (text(body, "price"), text(body, "size"));
                self.trade(&native, price, size, buys, id, kind == "last_match", at);
                None
            }
            _ => None,
        }
    }
}
