//! A made-up exchange with a line protocol: one venue per way of starting and numbering a book.
//!
//! A frame is one line of words: `number kind symbol first last previous time level...`, where a level is
//! `b100:5` or `a101:0` and `c123` a checksum; a dash stands for a number that is not sent. Trades are
//! `number trade symbol id price size side time`. `number` is the connection's own. `time` counts the
//! versions of the market, so that a test can tell which one a book claims to be.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(missing_docs, reason = "fields of test helpers say it by their names")]

pub mod world;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};

use coby_core::decimal::{Decimal, DecimalError};
use coby_core::instrument::{Instruments, Listing};
use coby_core::level::{Level, Side};
use coby_core::record::{HttpRequest, Nanos};
use coby_core::sink::BookKind;
use coby_core::venue::{
    BookFeed, BookHead, CandleItem, ChecksumSpec, Class, ConnectionPlan, Dial, Frame, Join, Limits, Ping, Proof, Rule,
    Scope, Sequence, Session, Sink, Subscription, TopLevels, TradeFeed, TradeItem, Venue, VenueError, VenueErrorKind,
    VenueSpec,
};

/// How many levels a side a checksum covers.
pub const CHECKED: usize = 4;
/// How many levels a side the snapshots of a toy called short show.
pub const SHORT: u32 = 4;
/// The instruments.
pub const SYMBOLS: [&str; 2] = ["X", "Y"];

/// One way of doing it.
#[derive(Debug)]
pub struct Toy {
    pub spec: &'static VenueSpec,
    pub rule: Rule,
    pub join: Join,
    pub checksum: bool,
    /// A book cannot be asked for again on the same connection.
    pub stubborn: bool,
    /// Its sessions stamp books from a counter of the process.
    pub leaky: bool,
}

const RULES: [Rule; 6] = [Rule::None, Rule::Monotone, Rule::Contiguous, Rule::Chain, Rule::Increment, Rule::Connection];
pub const REQUEST: Join = Join::Request { after: 2 };

/// All of them: every rule with every join, then the special ones.
pub static TOYS: LazyLock<Vec<Toy>> = LazyLock::new(|| {
    let mut toys = Vec::new();
    for rule in RULES {
        for join in [Join::Socket, REQUEST, Join::Image] {
            toys.push(Toy::new(rule, join, "", 0));
        }
    }
    toys.push(Toy::new(Rule::Contiguous, REQUEST, "refresh", 60));
    toys.push(Toy::new(Rule::Monotone, REQUEST, "refresh", 60));
    toys.push(Toy { stubborn: true, ..Toy::new(Rule::Contiguous, Join::Socket, "stubborn", 0) });
    toys.push(Toy { stubborn: true, ..Toy::new(Rule::Connection, Join::Socket, "stubborn", 0) });
    toys.push(Toy::new(Rule::None, Join::Socket, "checksum", 0));
    toys.push(Toy::new(Rule::Monotone, REQUEST, "checksum", 0));
    toys.push(Toy::new(Rule::Contiguous, REQUEST, "short", 0));
    toys.push(Toy { leaky: true, ..Toy::new(Rule::Contiguous, Join::Socket, "leaky", 0) });
    toys
});

/// The toy with this id.
pub fn find(id: &str) -> Option<&'static dyn Venue> {
    TOYS.iter().find(|toy| toy.spec.id == id).map(|toy| -> &'static dyn Venue { toy })
}

/// The toy with this id, as itself.
pub fn toy(id: &str) -> &'static Toy {
    TOYS.iter().find(|toy| toy.spec.id == id).unwrap_or_else(|| panic!("no toy {id}"))
}

impl Toy {
    fn new(rule: Rule, join: Join, special: &str, refresh: u32) -> Self {
        let joins = match join {
            Join::Socket => "socket",
            Join::Request { .. } => "request",
            Join::Image => "image",
        };
        let name = format!("{rule:?}_{joins}_{special}").to_lowercase();
        let name: &'static str = Box::leak(name.trim_end_matches('_').to_owned().into_boxed_str());
        let checksum = special == "checksum";
        let proof = match rule {
            _ if checksum => Proof::Checksum,
            Rule::None | Rule::Monotone => Proof::None,
            _ => Proof::Sequence,
        };
        let books: &'static [BookFeed] = Box::leak(Box::new([BookFeed {
            name: "book",
            join,
            rule,
            proof,
            checksum: checksum.then_some(ChecksumSpec { levels: CHECKED }),
            digits: false,
            depth: None,
            shows: (special == "short").then_some(SHORT),
            refresh,
            limits: "made up",
        }]));
        let spec = Box::leak(Box::new(VenueSpec {
            id: name,
            name,
            protocol: "2000-01-01",
            closed: None,
            sockets: &["wss://toy"],
            rest: "https://toy",
            ping: Ping::Protocol,
            silence: 60,
            limits: Limits { dials: (1, 1), messages: (1, 1), spacing: 0, streams: 1, rest: (1, 1), lifetime: 0 },
            books,
            trades: &[TradeFeed { name: "trade", proof: Proof::Sequence, aggregated: false }],
            candles: &[],
        }));
        Self { spec, rule, join, checksum, stubborn: false, leaky: false }
    }
}

/// A checksum of some best levels, each side best first.
pub fn checksum_of(bids: impl Iterator<Item = (i64, i64)>, asks: impl Iterator<Item = (i64, i64)>) -> u32 {
    let levels = bids.take(CHECKED).chain(std::iter::once((0, 0))).chain(asks.take(CHECKED));
    levels.fold(1, |sum, (price, size)| {
        let mixed = (u64::from(sum) * 31 + price as u64) * 31 + size as u64;
        (mixed ^ mixed >> 32) as u32
    })
}

impl Venue for Toy {
    fn spec(&self) -> &'static VenueSpec {
        self.spec
    }

    fn instrument_requests(&self) -> Vec<HttpRequest> {
        vec![HttpRequest::get("https://toy", "/list")]
    }

    fn parse_instruments(&self, _: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError> {
        let text = std::str::from_utf8(body).map_err(|_| VenueError::unexpected("list"))?;
        out.extend(text.split_whitespace().map(|native| Listing::spot(native, native, "USD")));
        Ok(())
    }

    fn plan(&self, _: &[Subscription], _: &Instruments) -> Vec<ConnectionPlan> {
        Vec::new()
    }

    fn dial(&self, _: &ConnectionPlan, _: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError> {
        Err(VenueError::unexpected("dial"))
    }

    fn session(&self, _: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError> {
        let asked = match saved {
            Some(bytes) => u32::from_le_bytes(bytes.try_into().map_err(|_| VenueError::unexpected("saved session"))?),
            None => 0,
        };
        Ok(Box::new(ToySession { join: self.join, stubborn: self.stubborn, leaky: self.leaky, asked }))
    }

    fn checksum(&self, _: u8, top: TopLevels<'_>) -> u32 {
        let pairs = |levels: &[Level]| levels.iter().map(|level| (level.price, level.size)).collect::<Vec<_>>();
        checksum_of(pairs(top.bids).into_iter(), pairs(top.asks).into_iter())
    }

    fn candle_request(&self, _: &str, _: Nanos, _: Nanos, _: Nanos) -> Option<HttpRequest> {
        None
    }

    fn parse_candles(&self, _: &HttpRequest, _: &[u8], _: &mut Vec<CandleItem>) -> Result<(), VenueError> {
        Ok(())
    }
}

struct ToySession {
    join: Join,
    stubborn: bool,
    leaky: bool,
    /// How many times it has asked for a book: a state that a checkpoint has to keep.
    asked: u32,
}

/// What a leaky session stamps.
static LEAK: AtomicI64 = AtomicI64::new(1);

impl ToySession {
    fn ask(&mut self, native: &str, out: &mut Sink<'_>) {
        self.asked += 1;
        match self.join {
            Join::Request { .. } => out.get(HttpRequest::get("https://toy", format!("/book?{native}"))),
            _ => out.send(&format!("sub {native} {}", self.asked)),
        }
    }

    fn ask_all(&mut self, out: &mut Sink<'_>) {
        for native in SYMBOLS {
            self.ask(native, out);
        }
    }

    fn line(&self, line: &str, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let mut words = line.split(' ');
        let mut word = || words.next().ok_or(VenueError::missing("word"));
        let number = |word: &str| match word {
            "-" => Ok(None),
            word => word.parse::<i64>().map(Some).map_err(|_| VenueError::unexpected("word")),
        };
        if let Some(number) = number(word()?)? {
            out.sequence(number);
        }
        let kind = word()?;
        let id = out.instrument(word()?.as_bytes());
        let kind = match kind {
            "snapshot" => BookKind::Snapshot,
            "delta" => BookKind::Delta,
            "image" => BookKind::Image,
            "trade" => {
                let trade_id = word()?.to_owned();
                let (price, size, side, time) = (decimal(word()?)?, decimal(word()?)?, word()?, number(word()?)?);
                return out.trade(&TradeItem {
                    feed: 0,
                    id,
                    price,
                    size,
                    taker: if side == "buy" { Side::Bid } else { Side::Ask },
                    trade_id: trade_id.as_bytes(),
                    sequence: None,
                    history: false,
                    ts_event: time,
                });
            }
            _ => return Err(VenueError::unexpected("kind")),
        };
        let (first, last, previous) = (number(word()?)?, number(word()?)?, number(word()?)?);
        let time = number(word()?)?;
        let mut head = BookHead::new(0, kind);
        head.sequence = last.map(|last| Sequence { first, last, previous });
        head.ts_event = if self.leaky { Some(LEAK.fetch_add(1, Ordering::Relaxed)) } else { time };
        out.begin(id);
        for level in words {
            let (side, rest) = level.split_at(1);
            if side == "c" {
                head.checksum = Some(rest.parse().map_err(|_| VenueError::unexpected("checksum"))?);
                continue;
            }
            let (price, size) = rest.split_once(':').ok_or(VenueError::missing("size"))?;
            out.level(if side == "b" { Side::Bid } else { Side::Ask }, decimal(price)?, decimal(size)?)?;
        }
        out.book(head);
        Ok(())
    }
}

fn decimal(text: &str) -> Result<Decimal, VenueError> {
    Decimal::parse(text.as_bytes()).map_err(|error| match error {
        DecimalError::Overflow | DecimalError::Precision => {
            VenueError::new(Class::Resync, VenueErrorKind::Number { field: "number", error })
        }
        DecimalError::Syntax => VenueError::unexpected("number"),
    })
}

impl Session for ToySession {
    fn on_frame(&mut self, frame: Frame<'_>, _: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError> {
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| VenueError::unexpected("bytes"));
        match frame {
            Frame::Open { .. } => {
                // Deltas flow without being asked for; a snapshot among them does not.
                if !matches!(self.join, Join::Request { .. }) {
                    self.ask_all(out);
                }
                Ok(())
            }
            Frame::Text(bytes) => self.line(text(bytes)?, out),
            Frame::Http { status: 200, body, .. } => self.line(text(body)?, out),
            Frame::Http { .. } => Err(VenueError::venue(Class::Resync, b"no answer")),
            Frame::Binary(_) => Err(VenueError::unexpected("binary frame")),
            Frame::Close(_) => Ok(()),
        }
    }

    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError> {
        if self.stubborn {
            return Err(VenueError::venue(Class::Reconnect, b"subscribed already"));
        }
        match scope {
            Scope::Book(id, _) => {
                let native = out.instruments().get(id).native.clone();
                self.ask(&native, out);
            }
            Scope::Connection => self.ask_all(out),
        }
        Ok(())
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.asked.to_le_bytes());
    }
}
