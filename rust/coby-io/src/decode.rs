//! Recorded frames to events: what `coby.decode` does.

use coby_core::book::Book;
use coby_core::decimal::Decimal;
use coby_core::event::{At, BookChange, Connection, Gap, GapCause, Observer, Trade};
use coby_core::feed::{Action, Feed, FeedError};
use coby_core::level::{Level, Side};
use coby_core::record::{ConnId, Nanos, Pos};
use coby_core::sink::CandleItem;
use coby_core::venue::{Venue, VenueError, VenueSpec};

use crate::import::Importer;
use crate::recording::RecordedFrame;

/// One decoded event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Index of the frame whose processing released it, from 0.
    pub frame: u64,
    /// Native symbol, `None` for events of a connection.
    pub native: Option<String>,
    /// Canonical symbol, once an instrument list has named it.
    pub symbol: Option<String>,
    /// The venue's time.
    pub ts_event: Option<Nanos>,
    /// Receive time of the releasing frame.
    pub ts_recv: Nanos,
    /// What happened.
    pub detail: Detail,
}

/// A changed level as exact decimal strings.
pub type TextLevel = (String, String);

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Detail {
    /// A trade.
    Trade {
        /// Price.
        price: String,
        /// Size.
        size: String,
        /// `buy` or `sell`, the taker's.
        side: &'static str,
        /// As sent.
        trade_id: String,
        /// From before the subscription.
        history: bool,
    },
    /// A change of a book.
    Book {
        /// Whether the book was emptied first.
        snapshot: bool,
        /// Bids.
        bids: Vec<TextLevel>,
        /// Asks.
        asks: Vec<TextLevel>,
        /// Cut to so many levels a side afterwards.
        depth: Option<u32>,
    },
    /// A gap opened or closed.
    Gap {
        /// `opened` or `closed`.
        phase: &'static str,
        /// Channel.
        channel: &'static str,
        /// Cause.
        cause: &'static str,
        /// When the channel was last good.
        from: Nanos,
        /// When it was good again.
        to: Option<Nanos>,
        /// For people.
        evidence: String,
    },
    /// A checksum was compared.
    Checksum {
        /// Whether it was right.
        ok: bool,
    },
    /// A candle of the venue.
    Candle(Box<CandleItem>),
    /// A connection was made or ended, an instrument was listed, or a frame was refused.
    Status {
        /// `opened`, `closed`, `listed` or `error`.
        status: &'static str,
        /// For people.
        message: String,
    },
}

impl Detail {
    /// The event's kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Trade { .. } => "trade",
            Self::Book { .. } => "book",
            Self::Gap { .. } => "gap",
            Self::Checksum { .. } => "checksum",
            Self::Candle(_) => "candle",
            Self::Status { .. } => "status",
        }
    }
}

/// Decodes the recorded frames of one venue.
pub struct Decoder {
    importer: Importer,
    feed: Feed,
    collected: Collector,
}

#[derive(Default)]
struct Collector {
    events: Vec<Event>,
    /// Index of the frame being decoded.
    frame: u64,
}

impl Decoder {
    /// A decoder; without `sync` each book message is handed on as it stands.
    pub fn new(venue: &'static dyn Venue, sync: bool) -> Self {
        Self {
            importer: Importer::new(venue, 1, "", "{}"),
            feed: Feed::new(coby_venues::registry::find, sync),
            collected: Collector::default(),
        }
    }

    /// Decodes one frame; its events are appended to `out`.
    pub fn frame(&mut self, frame: &RecordedFrame, out: &mut Vec<Event>) -> Result<(), FeedError> {
        let (feed, collected) = (&mut self.feed, &mut self.collected);
        collected.frame = self.importer.frames();
        self.importer.frame(0, frame, &mut |record| -> Result<Vec<Action>, FeedError> {
            let mut actions = Vec::new();
            feed.step(record, collected, &mut actions)?;
            Ok(actions)
        })?;
        out.append(&mut self.collected.events);
        Ok(())
    }

    /// The feed behind it.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }
}

impl Collector {
    fn push(&mut self, at: &At<'_>, detail: Detail) {
        self.events.push(Event {
            frame: self.frame,
            native: Some(at.instrument.printed_native().to_owned()),
            symbol: at.instrument.symbol.clone(),
            ts_event: at.ts_event,
            ts_recv: at.recv,
            detail,
        });
    }

    fn change(&mut self, at: &At<'_>, change: &BookChange<'_>) {
        let text = |levels: &[Level]| {
            let one = |level: &Level| {
                let price = Decimal::new(level.price, change.price_scale).to_string();
                (price, Decimal::new(level.size, change.size_scale).to_string())
            };
            levels.iter().map(one).collect()
        };
        let (bids, asks) = (text(change.bids), text(change.asks));
        self.push(at, Detail::Book { snapshot: change.snapshot, bids, asks, depth: change.depth });
    }

    fn status(&mut self, recv: Nanos, status: &'static str, message: String) {
        let detail = Detail::Status { status, message };
        self.events.push(Event {
            frame: self.frame,
            native: None,
            symbol: None,
            ts_event: None,
            ts_recv: recv,
            detail,
        });
    }
}

impl Observer for Collector {
    fn book(&mut self, at: &At<'_>, change: &BookChange<'_>, _: &Book) {
        self.change(at, change);
    }

    fn message(&mut self, at: &At<'_>, change: &BookChange<'_>) {
        self.change(at, change);
    }

    fn checksum(&mut self, at: &At<'_>, ok: bool) {
        self.push(at, Detail::Checksum { ok });
    }

    fn trade(&mut self, at: &At<'_>, trade: &Trade<'_>) {
        let detail = Detail::Trade {
            price: trade.price.to_string(),
            size: trade.size.to_string(),
            side: if trade.taker == Side::Bid { "buy" } else { "sell" },
            trade_id: trade.trade_id.into(),
            history: trade.history,
        };
        self.push(at, detail);
    }

    fn candle(&mut self, at: &At<'_>, candle: &CandleItem) {
        self.push(at, Detail::Candle(Box::new(*candle)));
    }

    fn gap(&mut self, at: &At<'_>, gap: &Gap<'_>) {
        let detail = Detail::Gap {
            phase: if gap.to.is_none() { "opened" } else { "closed" },
            channel: gap.channel.name(),
            cause: gap.cause.name(),
            from: gap.from,
            to: gap.to,
            evidence: gap.evidence.into(),
        };
        self.push(at, detail);
    }

    fn listed(&mut self, at: &At<'_>) {
        let message = at.instrument.symbol.clone().unwrap_or_default();
        self.push(at, Detail::Status { status: "listed", message });
    }

    fn connection(&mut self, _: Pos, recv: Nanos, _: &'static VenueSpec, _: ConnId, change: &Connection<'_>) {
        match change {
            Connection::Opened { url } => self.status(recv, "opened", (*url).into()),
            Connection::Closed { cause, code } => {
                self.status(recv, "closed", format!("{}, code {code}", GapCause::from(*cause).name()));
            }
        }
    }

    fn error(&mut self, pos: Pos, recv: Nanos, _: &'static VenueSpec, error: &VenueError) {
        let _ = pos;
        self.status(recv, "error", error.to_string());
    }
}
