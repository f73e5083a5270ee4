//! What decoding and synchronising bring forth, and who listens.

use serde::{Deserialize, Serialize};

use crate::aggregate::bucket::Buckets;
use crate::book::Book;
use crate::decimal::Decimal;
use crate::instrument::{Instrument, InstrumentId};
use crate::level::{Level, Side};
use crate::record::{Cause, ConnId, Nanos, Pos};
use crate::sink::CandleItem;
use crate::venue::{Channel, Proof, VenueError, VenueSpec};

/// An instrument among all venues of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// Index of the venue in the order in which the tape first named them.
    pub venue: u16,
    /// Instrument of that venue.
    pub id: InstrumentId,
}

/// Where and when an event happened.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// Position of the record whose processing released it.
    pub pos: Pos,
    /// That record's receive time.
    pub recv: Nanos,
    /// That record's source frame, 0 outside imports.
    pub source: u64,
    /// The venue.
    pub venue: &'static VenueSpec,
    /// The instrument's key.
    pub key: Key,
    /// The instrument.
    pub instrument: &'a Instrument,
    /// The venue's time.
    pub ts_event: Option<Nanos>,
    /// What the feed can prove.
    pub proof: Proof,
}

/// A change of a book, as applied: absolute sizes, zero removes.
#[derive(Clone, Copy, Debug)]
pub struct BookChange<'a> {
    /// Whether the book was emptied first.
    pub snapshot: bool,
    /// Changed bids in the order applied.
    pub bids: &'a [Level],
    /// Changed asks in the order applied.
    pub asks: &'a [Level],
    /// Scale of the prices in this change.
    pub price_scale: u8,
    /// Scale of the sizes in this change.
    pub size_scale: u8,
    /// Each side was then cut to so many levels.
    pub depth: Option<u32>,
}

/// A trade.
#[derive(Clone, Copy, Debug)]
pub struct Trade<'a> {
    /// Price.
    pub price: Decimal,
    /// Size in the venue's unit.
    pub size: Decimal,
    /// The taker's side: `Bid` when the taker bought.
    pub taker: Side,
    /// The venue's id, as sent.
    pub trade_id: &'a str,
    /// Whether it happened before the subscription.
    pub history: bool,
}

/// Why data is missing or not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum GapCause {
    /// A message is missing by the venue's own numbering.
    Sequence,
    /// A snapshot and the deltas around it do not meet.
    Join,
    /// The venue's checksum differs from ours.
    Checksum,
    /// Bids stood at or above asks for seconds.
    Crossed,
    /// A second snapshot differs from the book at the same place in the order.
    Drift,
    /// A frame could not be read.
    Malformed,
    /// A number that an exact 64-bit decimal does not hold.
    Range,
    /// More deltas waited for a snapshot than the buffer holds.
    Buffer,
    /// The venue closed the connection.
    Closed,
    /// The connection was closed after an error.
    Error,
    /// The connection went silent.
    Silence,
    /// The connection was replaced.
    Planned,
    /// The process stopped or died.
    Restart,
    /// The recording ended.
    End,
    /// Frames were lost because ingress was full.
    Overflow,
    /// The tape could not be written.
    Tape,
    /// A block of the tape cannot be read.
    Damage,
}

impl GapCause {
    /// Its name in rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::Join => "join",
            Self::Checksum => "checksum",
            Self::Crossed => "crossed",
            Self::Drift => "drift",
            Self::Malformed => "malformed",
            Self::Range => "range",
            Self::Buffer => "buffer",
            Self::Closed => "closed",
            Self::Error => "error",
            Self::Silence => "silence",
            Self::Planned => "planned",
            Self::Restart => "restart",
            Self::End => "end",
            Self::Overflow => "overflow",
            Self::Tape => "tape",
            Self::Damage => "damage",
        }
    }
}

impl From<Cause> for GapCause {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Closed => Self::Closed,
            Cause::Error => Self::Error,
            Cause::Silence => Self::Silence,
            Cause::Planned => Self::Planned,
            Cause::Restart => Self::Restart,
            Cause::End => Self::End,
            Cause::Tape => Self::Tape,
        }
    }
}

/// One end of a gap.
#[derive(Clone, Copy, Debug)]
pub struct Gap<'a> {
    /// The same for both ends.
    pub id: u64,
    /// What is missing.
    pub channel: Channel,
    /// Why.
    pub cause: GapCause,
    /// When the channel was last known good.
    pub from: Nanos,
    /// When it was good again; `None` when the gap opens.
    pub to: Option<Nanos>,
    /// What was seen, for people.
    pub evidence: &'a str,
}

/// A change of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection<'a> {
    /// Made.
    Opened {
        /// Its URL.
        url: &'a str,
    },
    /// Ended.
    Closed {
        /// Why.
        cause: Cause,
        /// Close code, 0 where there was none.
        code: u16,
    },
}

/// Listens to what a feed brings forth. Every method defaults to nothing.
pub trait Observer {
    /// The buckets to keep with a book, level by level; asked for once per message.
    #[inline]
    fn buckets(&mut self, key: Key) -> &mut [Buckets] {
        let _ = key;
        &mut []
    }

    /// The book was emptied or brought to other scales: what is kept with it is made anew from it.
    fn rebuilt(&mut self, key: Key, book: &Book) {
        let _ = (key, book);
    }

    /// A message was applied to a live book.
    #[inline]
    fn book(&mut self, at: &At<'_>, change: &BookChange<'_>, book: &Book) {
        let _ = (at, change, book);
    }

    /// A book message as it stands, when nothing is synchronised.
    fn message(&mut self, at: &At<'_>, change: &BookChange<'_>) {
        let _ = (at, change);
    }

    /// The book is no longer live.
    fn lost(&mut self, at: &At<'_>, book: &Book) {
        let _ = (at, book);
    }

    /// A checksum was compared.
    fn checksum(&mut self, at: &At<'_>, ok: bool) {
        let _ = (at, ok);
    }

    /// A trade.
    #[inline]
    fn trade(&mut self, at: &At<'_>, trade: &Trade<'_>) {
        let _ = (at, trade);
    }

    /// A candle that the venue computed.
    fn candle(&mut self, at: &At<'_>, candle: &CandleItem) {
        let _ = (at, candle);
    }

    /// A gap opened or closed.
    fn gap(&mut self, at: &At<'_>, gap: &Gap<'_>) {
        let _ = (at, gap);
    }

    /// The venue's list named or changed the instrument.
    fn listed(&mut self, at: &At<'_>) {
        let _ = at;
    }

    /// A connection was made or ended.
    fn connection(&mut self, pos: Pos, recv: Nanos, venue: &'static VenueSpec, conn: ConnId, change: &Connection<'_>) {
        let _ = (pos, recv, venue, conn, change);
    }

    /// A frame could not be taken.
    fn error(&mut self, pos: Pos, recv: Nanos, venue: &'static VenueSpec, error: &VenueError) {
        let _ = (pos, recv, venue, error);
    }
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
