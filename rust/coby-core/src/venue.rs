//! The contract between a venue and everything else.
//!
//! A venue is a pure state machine. It is fed with frames and stages what they mean in a [`Sink`]; it
//! asks for I/O through the same sink and performs none. Buffering, joining, sequence rules, truncation,
//! checksum comparison, gaps and resyncs belong to the keeper, not to venues.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::decimal::DecimalError;
use crate::instrument::{InstrumentId, Instruments, Listing};
use crate::level::Level;
use crate::record::{Cause, HttpRequest, Nanos};
use crate::scan::ScanError;
pub use crate::sink::{BookHead, CandleItem, Sequence, Sink, TradeItem};

/// A kind of market data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Channel {
    /// Order book.
    Book,
    /// Trades.
    Trades,
    /// Candles that the venue itself computes.
    Candles,
}

impl Channel {
    /// Its name in rows and settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Book => "book",
            Self::Trades => "trades",
            Self::Candles => "candles",
        }
    }
}

/// What a feed's protocol can prove about itself, from weak to strong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Proof {
    /// A lost message goes unnoticed.
    None,
    /// A dead channel is noticed, a lost message is not.
    Heartbeat,
    /// A wrong book is noticed when its checksum comes.
    Checksum,
    /// A lost message is noticed by the next one.
    Sequence,
}

impl Proof {
    /// Its name in rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Heartbeat => "heartbeat",
            Self::Checksum => "checksum",
            Self::Sequence => "sequence",
        }
    }
}

/// How consecutive messages of one book prove that none is missing.
///
/// `first`, `last` and `previous` are the fields of [`Sequence`]; `applied` is the `last` of the message
/// applied before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing to check.
    None,
    /// Times or versions that only grow: a message that is not newer is dropped. Proves nothing.
    Monotone,
    /// `first <= applied + 1` and `last > applied`.
    Contiguous,
    /// `first <= applied + 1`; a message that ends before `applied` is passed over.
    Overlapping,
    /// `previous == applied`.
    Chain,
    /// `last == applied + 1`.
    Increment,
    /// The connection numbers its frames ([`Sink::sequence`]); the book has no numbers of its own.
    Connection,
}

/// How a book starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// A snapshot arrives among the deltas and replaces the book; deltas before it are dropped.
    Socket,
    /// A snapshot is asked for; deltas are buffered and joined to it. The request goes out once this many
    /// deltas are buffered, so that the snapshot falls inside the buffer.
    Request {
        /// How many.
        after: u32,
    },
    /// Every message is the whole book down to its depth.
    Image,
}

/// Checksums that a book feed carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksumSpec {
    /// How many levels a side it covers.
    pub levels: usize,
}

/// One kind of book stream of a venue. Its place in [`VenueSpec::books`] is its rank: where several
/// arrive for one instrument, the first of them in that list makes the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookFeed {
    /// The venue's name for the stream.
    pub name: &'static str,
    /// How it starts.
    pub join: Join,
    /// How it continues.
    pub rule: Rule,
    /// What that proves.
    pub proof: Proof,
    /// Checksums, where the venue sends them.
    pub checksum: Option<ChecksumSpec>,
    /// Whether printed digits are kept for the checksum.
    pub digits: bool,
    /// Levels a side that the feed covers at most; `None` for the whole book.
    pub depth: Option<u32>,
    /// A snapshot with so many levels a side may have been cut off though changes come for any level; `None` where
    /// it shows every level that changes come for.
    pub shows: Option<u32>,
    /// A live book is read anew every so many seconds, 0 for never: what its protocol cannot prove is
    /// healed so.
    pub refresh: u32,
    /// What it cannot prove and what is done instead, for `coby venues`.
    pub limits: &'static str,
}

/// One kind of trade stream; its place in [`VenueSpec::trades`] is its rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TradeFeed {
    /// The venue's name for the stream.
    pub name: &'static str,
    /// What it proves: `Sequence` where trades carry a running number.
    pub proof: Proof,
    /// Whether one row may sum several fills.
    pub aggregated: bool,
}

/// The venue's own candles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CandleFeed {
    /// The venue's name for the stream.
    pub name: &'static str,
    /// Interval, nanoseconds.
    pub interval: Nanos,
}

/// How a connection is kept alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ping {
    /// WebSocket pings and pongs suffice.
    Protocol,
    /// The client sends this text at the interval the dial names.
    Text(&'static str),
    /// The server pings inside the protocol and the session answers.
    Server,
}

/// Limits that the driver observes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// New connections per window (count, window in seconds).
    pub dials: (u32, u32),
    /// Client messages per window on one connection.
    pub messages: (u32, u32),
    /// Milliseconds between two of them at least, 0 for none.
    pub spacing: u32,
    /// Subscribed streams per connection.
    pub streams: u32,
    /// REST weight per window.
    pub rest: (u32, u32),
    /// Longest life of a connection in seconds, 0 where unlimited.
    pub lifetime: u32,
}

/// Facts about a venue that are not protocol code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VenueSpec {
    /// The id used everywhere.
    pub id: &'static str,
    /// The name people know.
    pub name: &'static str,
    /// Date of the protocol description that the code follows.
    pub protocol: &'static str,
    /// Why nobody can connect to it, if so.
    pub closed: Option<&'static str>,
    /// WebSocket bases that a plan may name.
    pub sockets: &'static [&'static str],
    /// REST base.
    pub rest: &'static str,
    /// Liveness.
    pub ping: Ping,
    /// Without any frame for so many seconds, the connection is dead.
    pub silence: u32,
    /// Limits.
    pub limits: Limits,
    /// Book streams by rank.
    pub books: &'static [BookFeed],
    /// Trade streams by rank.
    pub trades: &'static [TradeFeed],
    /// Candle streams by rank.
    pub candles: &'static [CandleFeed],
}

/// What a user wants of a venue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Native symbol.
    pub native: String,
    /// Channel.
    pub channel: Channel,
    /// Levels a side wanted, 0 for all that the venue gives.
    pub depth: u32,
}

/// What one connection will carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionPlan {
    /// WebSocket base.
    pub base: String,
    /// The subscriptions it carries.
    pub subscriptions: Vec<Subscription>,
}

/// How to reach a planned connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dial {
    /// First ask this and call `dial` again with the answer.
    Ask(HttpRequest),
    /// Connect.
    Connect {
        /// WebSocket URL.
        url: String,
        /// Interval of client pings in nanoseconds, 0 for none.
        ping: Nanos,
    },
}

/// An input of a session.
#[derive(Clone, Copy, Debug)]
pub enum Frame<'a> {
    /// The connection is made; the first frame of every session.
    Open {
        /// Its URL.
        url: &'a str,
    },
    /// A text frame, valid UTF-8.
    Text(&'a [u8]),
    /// A binary frame.
    Binary(&'a [u8]),
    /// An HTTP answer, recognised by what was asked.
    Http {
        /// What was asked.
        request: &'a HttpRequest,
        /// Status code.
        status: u16,
        /// Body.
        body: &'a [u8],
    },
    /// The connection has ended; nothing follows.
    Close(Cause),
}

/// What a resync is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One book, by its feed's rank.
    Book(InstrumentId, u8),
    /// All that the connection carries.
    Connection,
}

/// What has to happen after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Nothing: the frame is known to carry no market data.
    Ignore,
    /// The books that the frame named, or all of the connection, start again.
    Resync,
    /// The connection starts again.
    Reconnect,
    /// The connection starts again, and someone should look.
    Fatal,
}

/// A frame that a session could not take.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{kind}")]
pub struct VenueError {
    /// What has to happen.
    pub class: Class,
    /// What was wrong.
    pub kind: VenueErrorKind,
}

/// What was wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VenueErrorKind {
    /// Not the JSON that the protocol describes.
    #[error("malformed frame: {0}")]
    Scan(#[from] ScanError),
    /// A number out of range.
    #[error("{field}: {error}")]
    Number {
        /// Field.
        field: &'static str,
        /// What was wrong with it.
        error: DecimalError,
    },
    /// A required field is missing.
    #[error("missing field {0}")]
    Missing(&'static str),
    /// A field has a value that the protocol does not know.
    #[error("unexpected {0}")]
    Unexpected(&'static str),
    /// A price that is not positive, or a negative size.
    #[error("{0}")]
    Level(&'static str),
    /// Compressed data that does not decompress.
    #[error("frame does not decompress: {0}")]
    Compression(&'static str),
    /// The venue reported an error.
    #[error("venue says: {0}")]
    Venue(String),
    /// A saved session that this code cannot read.
    #[error("saved session cannot be read")]
    Saved,
    /// Live use of a venue that nobody can connect to.
    #[error("{0}")]
    Gone(&'static str),
}

impl VenueError {
    /// An error of `class`.
    pub fn new(class: Class, kind: VenueErrorKind) -> Self {
        Self { class, kind }
    }

    /// A required field is missing.
    #[cold]
    pub fn missing(field: &'static str) -> Self {
        Self::new(Class::Resync, VenueErrorKind::Missing(field))
    }

    /// A value that the protocol does not know.
    #[cold]
    pub fn unexpected(what: &'static str) -> Self {
        Self::new(Class::Resync, VenueErrorKind::Unexpected(what))
    }

    /// The venue reported an error.
    #[cold]
    pub fn venue(class: Class, message: &[u8]) -> Self {
        let text: String = String::from_utf8_lossy(message).chars().take(500).collect();
        Self::new(class, VenueErrorKind::Venue(text))
    }
}

impl From<ScanError> for VenueError {
    #[cold]
    fn from(error: ScanError) -> Self {
        Self::new(Class::Resync, VenueErrorKind::Scan(error))
    }
}

/// The best levels of a book, for a venue's checksum.
#[derive(Clone, Copy, Debug)]
pub struct TopLevels<'a> {
    /// Best bid first.
    pub bids: &'a [Level],
    /// Best ask first.
    pub asks: &'a [Level],
    /// Scale of the prices.
    pub price_scale: u8,
    /// Scale of the sizes.
    pub size_scale: u8,
}

/// An exchange.
pub trait Venue: Send + Sync {
    /// Facts.
    fn spec(&self) -> &'static VenueSpec;

    /// The requests whose answers list the venue's instruments.
    fn instrument_requests(&self) -> Vec<HttpRequest>;

    /// Reads one of those answers.
    fn parse_instruments(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<Listing>) -> Result<(), VenueError>;

    /// Splits subscriptions over connections.
    fn plan(&self, subscriptions: &[Subscription], instruments: &Instruments) -> Vec<ConnectionPlan>;

    /// Where to connect for `plan`; `answer` is what [`Dial::Ask`] brought.
    fn dial(&self, plan: &ConnectionPlan, answer: Option<(&HttpRequest, &[u8])>) -> Result<Dial, VenueError>;

    /// A session for one connection. Without a plan it accepts everything and learns channels, depth and
    /// ids from what it sees; `saved` is what [`Session::save`] wrote.
    fn session(&self, plan: Option<&ConnectionPlan>, saved: Option<&[u8]>) -> Result<Box<dyn Session>, VenueError>;

    /// Whether the books of a feed come crossed, because the venue merges sources that are not in step. The keeper
    /// then takes out what is older than what crossed it, after every message.
    fn uncrosses(&self, feed: u8) -> bool {
        let _ = feed;
        false
    }

    /// The checksum of a book, as the venue computes it; signed venues give the same 32 bits.
    fn checksum(&self, feed: u8, top: TopLevels<'_>) -> u32 {
        let _ = (feed, top);
        0
    }

    /// The request for candles of `native` from `from` to `to` (nanoseconds, half-open), where REST has them.
    fn candle_request(&self, native: &str, interval: Nanos, from: Nanos, to: Nanos) -> Option<HttpRequest>;

    /// Reads such an answer; candles carry their open time, in any order.
    fn parse_candles(&self, request: &HttpRequest, body: &[u8], out: &mut Vec<CandleItem>) -> Result<(), VenueError>;
}

/// The protocol state of one connection: a pure function of its inputs.
pub trait Session: Send {
    /// Takes a text frame that has the one spelling in which the venue sends nearly all of its book changes (see
    /// [`crate::scan::Cursor::literal`]); `None` for any other, which [`Session::on_frame`] then gets. It means and
    /// stages what that would, and what it takes is ASCII.
    fn usual(&mut self, text: &[u8], out: &mut Sink<'_>) -> Option<()> {
        let _ = (text, out);
        None
    }

    /// Takes one frame. What was staged in `out` counts only if this returns `Ok`.
    fn on_frame(&mut self, frame: Frame<'_>, recv: Nanos, out: &mut Sink<'_>) -> Result<(), VenueError>;

    /// Asks the venue for a fresh start of `scope`; `Err` with [`Class::Reconnect`] where only a new
    /// connection can give it.
    fn resync(&mut self, scope: Scope, out: &mut Sink<'_>) -> Result<(), VenueError>;

    /// Appends the state to `out`, for [`Venue::session`].
    fn save(&self, out: &mut Vec<u8>);
}
