//! What a session's frame means, staged until the session returns `Ok`.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::decimal::{Decimal, DecimalError, POW10};
use crate::instrument::{InstrumentId, Instruments};
use crate::level::{Digits, Level, Side};
use crate::record::{HttpRequest, Nanos};
use crate::scan::{Array, Cursor, ScanErrorKind};
use crate::swar;
use crate::venue::{Channel, Class, VenueError, VenueErrorKind};

/// A message's place in the order of one book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// First id that the message covers, where the venue says so.
    pub first: Option<i64>,
    /// Last id that it covers (for a snapshot: the id it stands at).
    pub last: i64,
    /// The `last` of the message before it, where the venue says so.
    pub previous: Option<i64>,
}

impl Sequence {
    /// A message that only has a number.
    pub fn at(last: i64) -> Self {
        Self { first: None, last, previous: None }
    }

    /// A message that covers `first..=last`.
    pub fn range(first: i64, last: i64) -> Self {
        Self { first: Some(first), last, previous: None }
    }

    /// A message that names its predecessor.
    pub fn after(previous: i64, last: i64) -> Self {
        Self { first: None, last, previous: Some(previous) }
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(previous) = self.previous {
            write!(f, "{previous} < ")?;
        }
        match self.first {
            Some(first) => write!(f, "{first}..={}", self.last),
            None => write!(f, "{}", self.last),
        }
    }
}

/// What a book message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BookKind {
    /// The book; it replaces what was there.
    Snapshot,
    /// Changed levels with their absolute sizes.
    Delta,
    /// The book down to its depth, sent again and again.
    Image,
}

/// A book message apart from its levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookHead {
    /// Rank of its feed in the venue's spec.
    pub feed: u8,
    /// What it is.
    pub kind: BookKind,
    /// Its place in the order.
    pub sequence: Option<Sequence>,
    /// Levels a side that the venue keeps: the book is cut to them after the message.
    pub depth: Option<u32>,
    /// The venue's checksum of the book after the message.
    pub checksum: Option<u32>,
    /// The venue's time.
    pub ts_event: Option<Nanos>,
}

impl BookHead {
    /// A head of `kind` on the feed of rank `feed`, with nothing else known.
    pub fn new(feed: u8, kind: BookKind) -> Self {
        Self { feed, kind, sequence: None, depth: None, checksum: None, ts_event: None }
    }
}

/// A staged book message.
#[derive(Clone, Debug)]
pub(crate) struct BookItem {
    pub id: InstrumentId,
    pub head: BookHead,
    pub bids: Range<u32>,
    pub asks: Range<u32>,
    pub price_scale: u8,
    pub size_scale: u8,
}

impl BookItem {
    /// The message's bids and asks among those staged.
    #[inline]
    pub fn levels<'s>(&self, staged: &'s Staged) -> [&'s [Level]; 2] {
        let of = |levels: &'s [Level], range: &Range<u32>| {
            levels.get(range.start as usize..range.end as usize).unwrap_or_default()
        };
        [of(&staged.bids, &self.bids), of(&staged.asks, &self.asks)]
    }
}

/// A trade.
#[derive(Clone, Copy, Debug)]
pub struct TradeItem<'a> {
    /// Rank of its feed in the venue's spec.
    pub feed: u8,
    /// Instrument.
    pub id: InstrumentId,
    /// Price, positive.
    pub price: Decimal,
    /// Size in the venue's unit, positive.
    pub size: Decimal,
    /// The taker's side: `Bid` when the taker bought.
    pub taker: Side,
    /// The venue's id, as sent.
    pub trade_id: &'a [u8],
    /// A number that grows by one per trade of this instrument, where the venue has one.
    pub sequence: Option<i64>,
    /// Whether it happened before the subscription and is told again.
    pub history: bool,
    /// The venue's time.
    pub ts_event: Option<Nanos>,
}

/// A candle that the venue computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandleItem {
    /// Rank of its feed in the venue's spec.
    pub feed: u8,
    /// Instrument; meaningless in answers to a candle request.
    pub id: InstrumentId,
    /// Interval in nanoseconds.
    pub interval: Nanos,
    /// Open time, inclusive.
    pub open_time: Nanos,
    /// First price.
    pub open: Decimal,
    /// Highest price.
    pub high: Decimal,
    /// Lowest price.
    pub low: Decimal,
    /// Last price.
    pub close: Decimal,
    /// Base volume.
    pub volume: Decimal,
    /// Quote volume, where the venue sends it.
    pub notional: Option<Decimal>,
    /// Number of trades, where the venue sends it.
    pub count: Option<i64>,
    /// Base volume bought by takers, where the venue sends it.
    pub taker_buy: Option<Decimal>,
    /// Whether the venue says that it is final.
    pub closed: bool,
    /// The venue's time of the message.
    pub ts_event: Option<Nanos>,
}

/// A staged trade: its id lies in the text arena.
#[derive(Clone, Debug)]
pub(crate) struct StagedTrade {
    pub feed: u8,
    pub id: InstrumentId,
    pub price: Decimal,
    pub size: Decimal,
    pub taker: Side,
    pub trade_id: Range<usize>,
    /// What no other trade of the instrument has.
    pub key: Range<usize>,
    pub sequence: Option<i64>,
    pub history: bool,
    pub ts_event: Option<Nanos>,
}

#[derive(Clone, Debug)]
pub(crate) enum Item {
    Send(Range<usize>),
    Get(Box<HttpRequest>),
    Book(BookItem),
    Trade(StagedTrade),
    Candle(Box<CandleItem>),
    Checksum { id: InstrumentId, feed: u8, value: u32 },
    Sequence(i64),
    Subscribed { channel: Channel, feed: u8, id: InstrumentId },
    Refresh { id: InstrumentId },
}

/// Buffers behind a [`Sink`], reused from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    pub items: Vec<Item>,
    pub bids: Vec<Level>,
    pub asks: Vec<Level>,
    pub text: Vec<u8>,
    pub named: Vec<InstrumentId>,
    pub unknown: u64,
    /// Whether `items` has any that go out.
    pub outgoing: bool,
    /// The message begun: an error then is one of a book.
    open: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    id: InstrumentId,
    bids: usize,
    asks: usize,
    price_scale: u8,
    size_scale: u8,
}

impl Pending {
    /// A level at the message's scales; `None` where it has more decimals, does not fit, or is no level.
    #[inline(always)]
    fn fitted(&self, price: Decimal, size: Decimal) -> Option<Level> {
        let digits = Digits { price: price.scale, size: size.scale };
        let (price, size) = (price.at_scale(self.price_scale).ok()?, size.at_scale(self.size_scale).ok()?);
        (price > 0 && size >= 0).then_some(Level { price, size, digits })
    }
}

impl Staged {
    /// The instrument whose book message was begun and not finished.
    pub fn begun(&self) -> Option<InstrumentId> {
        self.open.as_ref().map(|pending| pending.id)
    }

    #[inline(always)]
    pub fn clear(&mut self) {
        self.items.clear();
        self.bids.clear();
        self.asks.clear();
        self.text.clear();
        self.named.clear();
        self.unknown = 0;
        self.outgoing = false;
        self.open = None;
    }
}

/// Where a session puts what a frame means.
#[derive(Debug)]
pub struct Sink<'s> {
    instruments: &'s mut Instruments,
    staged: &'s mut Staged,
}

impl<'s> Sink<'s> {
    pub(crate) fn new(instruments: &'s mut Instruments, staged: &'s mut Staged) -> Self {
        Self { instruments, staged }
    }

    /// Forgets what this frame has staged, so that it can be read anew.
    #[inline]
    pub fn restart(&mut self) {
        self.staged.clear();
    }

    /// The id of a native symbol; an unknown one is interned.
    #[inline]
    pub fn instrument(&mut self, native: &[u8]) -> InstrumentId {
        let id = self.instruments.intern(native);
        if self.staged.named.last() != Some(&id) {
            self.staged.named.push(id);
        }
        id
    }

    /// [`Self::instrument`] for a frame in its usual spelling (see [`Cursor::literal`]); `None` for an unknown symbol.
    #[inline]
    pub fn usual_instrument(&mut self, native: &[u8]) -> Option<InstrumentId> {
        let id = self.instruments.recall(native)?;
        self.staged.named.push(id);
        Some(id)
    }

    /// The venue's instruments.
    pub fn instruments(&self) -> &Instruments {
        self.instruments
    }

    /// Sends a text frame on this connection.
    pub fn send(&mut self, text: &str) {
        let range = self.store(text.as_bytes());
        self.staged.outgoing = true;
        self.staged.items.push(Item::Send(range));
    }

    /// Asks for an HTTP answer, which arrives as a [`crate::venue::Frame::Http`].
    pub fn get(&mut self, request: HttpRequest) {
        self.staged.outgoing = true;
        self.staged.items.push(Item::Get(Box::new(request)));
    }

    fn store(&mut self, text: &[u8]) -> Range<usize> {
        let start = self.staged.text.len();
        self.staged.text.extend_from_slice(text);
        start..self.staged.text.len()
    }

    /// Begins a book message of `id`. Levels follow, then [`Sink::book`]; a message begun but not
    /// finished counts for nothing, so that a session may parse levels before it knows what they are.
    #[inline(always)]
    pub fn begin(&mut self, id: InstrumentId) {
        self.abandon();
        let instrument = self.instruments.get(id);
        self.staged.open = Some(Pending {
            id,
            bids: self.staged.bids.len(),
            asks: self.staged.asks.len(),
            price_scale: instrument.price_scale,
            size_scale: instrument.size_scale,
        });
    }

    /// Drops the message begun.
    #[inline(always)]
    pub fn abandon(&mut self) {
        if let Some(pending) = self.staged.open.take() {
            self.staged.bids.truncate(pending.bids);
            self.staged.asks.truncate(pending.asks);
        }
    }

    /// Reads levels `[[price, size, ...], ...]`.
    #[inline]
    pub fn pairs(&mut self, side: Side, cursor: &mut Cursor<'_>) -> Result<(), VenueError> {
        let mut levels = cursor.array()?;
        while let Some((price, size)) = self.fitting_pairs::<false>(side, &mut levels, cursor)? {
            self.level(side, price, size)?;
        }
        Ok(())
    }

    /// [`Self::pairs`] for a frame in its usual spelling (see [`Cursor::literal`]); `None` where a level does not fit or
    /// something is not ASCII.
    #[inline]
    pub fn usual_pairs(&mut self, side: Side, cursor: &mut Cursor<'_>) -> Option<()> {
        let mut levels = cursor.array().ok()?;
        self.fitting_pairs::<true>(side, &mut levels, cursor).ok()?.is_none().then_some(())
    }

    /// Adds levels up to the first that does not fit the scales that the message has so far, or is not `ASCII`: that one
    /// is given back.
    #[inline]
    fn fitting_pairs<const ASCII: bool>(
        &mut self,
        side: Side,
        levels: &mut Array,
        cursor: &mut Cursor<'_>,
    ) -> Result<Option<(Decimal, Decimal)>, VenueError> {
        let Staged { open, bids, asks, .. } = &mut *self.staged;
        let Some(pending) = open else { return Err(VenueError::missing("instrument before its levels")) };
        let out = match side {
            Side::Bid => bids,
            Side::Ask => asks,
        };
        loop {
            let mut misfit = None;
            levels.quoted_pairs(cursor, |price, size| {
                let level = pending.fitted(price, size);
                out.extend(level);
                if level.is_none() {
                    misfit = Some((price, size));
                }
                level.is_some()
            });
            if misfit.is_some() {
                return Ok(misfit);
            }
            if !levels.next(cursor)? {
                return Ok(None);
            }
            let before = *cursor;
            let (price, size) = pair(cursor)?;
            match pending.fitted(price, size) {
                Some(level) if !ASCII || swar::is_ascii(cursor.since(&before)) => out.push(level),
                _ => return Ok(Some((price, size))),
            }
        }
    }

    /// [`Self::level`] for a frame in its usual spelling (see [`Cursor::literal`]); `None` where it does not fit.
    #[inline(always)]
    pub fn usual_level(&mut self, side: Side, price: Decimal, size: Decimal) -> Option<()> {
        let level = self.staged.open.as_ref()?.fitted(price, size)?;
        match side {
            Side::Bid => self.staged.bids.push(level),
            Side::Ask => self.staged.asks.push(level),
        }
        Some(())
    }

    /// Reads levels `[{"price": …, "size": …}, …]` under the names the venue gives them.
    pub fn objects(
        &mut self,
        side: Side,
        cursor: &mut Cursor<'_>,
        price_key: &[u8],
        size_key: &[u8],
    ) -> Result<(), VenueError> {
        let mut levels = cursor.array()?;
        while levels.next(cursor)? {
            let (mut level_price, mut level_size) = (None, None);
            let mut level = cursor.object()?;
            while let Some(key) = level.key(cursor)? {
                if key == price_key {
                    if level_price.replace(price(cursor)?).is_some() {
                        return Err(VenueError::unexpected("second price in a level"));
                    }
                } else if key == size_key {
                    if level_size.replace(size(cursor)?).is_some() {
                        return Err(VenueError::unexpected("second size in a level"));
                    }
                } else {
                    cursor.skip()?;
                }
            }
            match (level_price, level_size) {
                (Some(price), Some(size)) => self.level(side, price, size)?,
                _ => return Err(VenueError::missing("price or size of a level")),
            }
        }
        Ok(())
    }

    /// Adds one level to the message begun. A size of zero removes the level.
    #[inline]
    pub fn level(&mut self, side: Side, price: Decimal, size: Decimal) -> Result<(), VenueError> {
        let Some(pending) = self.staged.open.as_ref() else {
            return Err(VenueError::missing("instrument before its levels"));
        };
        let level = match pending.fitted(price, size) {
            Some(level) => level,
            None => self.unfitted(price, size)?,
        };
        match side {
            Side::Bid => self.staged.bids.push(level),
            Side::Ask => self.staged.asks.push(level),
        }
        Ok(())
    }

    /// A level that is none, or does not fit the scales of the message begun.
    #[cold]
    fn unfitted(&mut self, price: Decimal, size: Decimal) -> Result<Level, VenueError> {
        if price.mantissa <= 0 {
            return Err(VenueError::new(Class::Resync, VenueErrorKind::Level("price of a level is not positive")));
        }
        if size.mantissa < 0 {
            return Err(VenueError::new(Class::Resync, VenueErrorKind::Level("size of a level is negative")));
        }
        let digits = Digits { price: price.scale, size: size.scale };
        let (price, size) = self.widen(price, size)?;
        Ok(Level { price, size, digits })
    }

    /// The instrument needs more decimals than it had: the message moves to the wider scale.
    #[cold]
    fn widen(&mut self, price: Decimal, size: Decimal) -> Result<(i64, i64), VenueError> {
        let Some(pending) = self.staged.open.as_mut() else {
            return Err(VenueError::missing("instrument before its levels"));
        };
        let price_scale = pending.price_scale.max(price.normal().scale);
        let size_scale = pending.size_scale.max(size.normal().scale);
        let price_factor = POW10[(price_scale - pending.price_scale) as usize];
        let size_factor = POW10[(size_scale - pending.size_scale) as usize];
        let sides = [&mut self.staged.bids[pending.bids..], &mut self.staged.asks[pending.asks..]];
        for level in sides.into_iter().flatten() {
            level.price =
                level.price.checked_mul(price_factor).ok_or_else(|| out_of_range("price", DecimalError::Overflow))?;
            level.size =
                level.size.checked_mul(size_factor).ok_or_else(|| out_of_range("size", DecimalError::Overflow))?;
        }
        pending.price_scale = price_scale;
        pending.size_scale = size_scale;
        let price = price.at_scale(price_scale).map_err(|error| out_of_range("price", error))?;
        let size = size.at_scale(size_scale).map_err(|error| out_of_range("size", error))?;
        self.instruments.widen(pending.id, price_scale, size_scale);
        Ok((price, size))
    }

    /// Finishes the message begun.
    #[inline(always)]
    pub fn book(&mut self, head: BookHead) {
        let Some(pending) = self.staged.open.take() else { return };
        self.staged.items.push(Item::Book(BookItem {
            id: pending.id,
            head,
            bids: pending.bids as u32..self.staged.bids.len() as u32,
            asks: pending.asks as u32..self.staged.asks.len() as u32,
            price_scale: pending.price_scale,
            size_scale: pending.size_scale,
        }));
    }

    /// A checksum that the venue sends apart from book messages.
    pub fn checksum(&mut self, id: InstrumentId, feed: u8, value: u32) {
        self.staged.items.push(Item::Checksum { id, feed, value });
    }

    /// A trade.
    #[inline]
    pub fn trade(&mut self, trade: &TradeItem<'_>) -> Result<(), VenueError> {
        self.trade_known_by(trade, trade.trade_id)
    }

    /// A trade whose id others may have too: repeated ones are told by `key`, which no other has.
    #[inline]
    pub fn trade_known_by(&mut self, trade: &TradeItem<'_>, key: &[u8]) -> Result<(), VenueError> {
        if trade.price.mantissa <= 0 {
            return Err(VenueError::new(Class::Resync, VenueErrorKind::Level("price of a trade is not positive")));
        }
        if trade.size.mantissa <= 0 {
            return Err(VenueError::new(Class::Resync, VenueErrorKind::Level("size of a trade is not positive")));
        }
        let trade_id = self.store(trade.trade_id);
        let key = if key == trade.trade_id { trade_id.clone() } else { self.store(key) };
        self.staged.items.push(Item::Trade(StagedTrade {
            feed: trade.feed,
            id: trade.id,
            price: trade.price,
            size: trade.size,
            taker: trade.taker,
            trade_id,
            key,
            sequence: trade.sequence,
            history: trade.history,
            ts_event: trade.ts_event,
        }));
        Ok(())
    }

    /// A candle that the venue computed.
    pub fn candle(&mut self, candle: CandleItem) {
        self.staged.items.push(Item::Candle(Box::new(candle)));
    }

    /// This frame's number on the connection, which grows by one. Call it before staging anything else.
    pub fn sequence(&mut self, number: i64) {
        self.staged.items.push(Item::Sequence(number));
    }

    /// The venue has confirmed a subscription: from here on, silence means that nothing happened.
    pub fn subscribed(&mut self, channel: Channel, feed: u8, id: InstrumentId) {
        self.staged.items.push(Item::Subscribed { channel, feed, id });
    }

    /// Checks the book of `id` against a new snapshot while it goes on.
    pub fn refresh(&mut self, id: InstrumentId) {
        self.staged.items.push(Item::Refresh { id });
    }

    /// The frame is understood and carries no market data.
    #[inline]
    pub fn known(&mut self) {}

    /// The frame, or a part of it, is of a kind that the protocol description does not have.
    #[inline]
    pub fn unknown(&mut self) {
        self.staged.unknown += 1;
    }
}

/// Reads a level `[price, size, ...]`; venues lengthen their rows.
fn pair(cursor: &mut Cursor<'_>) -> Result<(Decimal, Decimal), VenueError> {
    let mut pair = cursor.array()?;
    pair.more(cursor)?;
    let price = price(cursor)?;
    pair.more(cursor)?;
    let size = size(cursor)?;
    pair.rest(cursor)?;
    Ok((price, size))
}

/// Reads a level's price.
#[inline]
pub fn price(cursor: &mut Cursor<'_>) -> Result<Decimal, VenueError> {
    cursor.decimal().map_err(|error| number("price", error.kind).unwrap_or_else(|| error.into()))
}

/// Reads a level's size.
#[inline]
pub fn size(cursor: &mut Cursor<'_>) -> Result<Decimal, VenueError> {
    cursor.decimal().map_err(|error| number("size", error.kind).unwrap_or_else(|| error.into()))
}

fn number(field: &'static str, kind: ScanErrorKind) -> Option<VenueError> {
    match kind {
        ScanErrorKind::Number(error @ (DecimalError::Overflow | DecimalError::Precision)) => {
            Some(out_of_range(field, error))
        }
        _ => None,
    }
}

#[cold]
fn out_of_range(field: &'static str, error: DecimalError) -> VenueError {
    VenueError::new(Class::Resync, VenueErrorKind::Number { field, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_widens_as_a_whole() {
        let (mut instruments, mut staged) = (Instruments::default(), Staged::default());
        let mut sink = Sink::new(&mut instruments, &mut staged);
        let id = sink.instrument(b"X");
        sink.begin(id);
        sink.pairs(Side::Bid, &mut Cursor::new(br#"[["10","1"],["9.50","2.125"]]"#)).unwrap();
        sink.book(BookHead::new(0, BookKind::Delta));
        let Item::Book(book) = &staged.items[0] else { panic!("a book was staged") };
        assert_eq!((book.price_scale, book.size_scale), (1, 3));
        let levels: Vec<_> = staged.bids.iter().map(|level| (level.price, level.size)).collect();
        assert_eq!(levels, [(100, 1000), (95, 2125)]);
        assert_eq!(instruments.get(id).price_scale, 1);
    }

    #[test]
    fn longer_rows_are_levels_too() {
        let mut staged = Staged::default();
        for (text, usual) in [
            (r#"[["1.5","2.5"],["1.4","3.5"]] "#, true),
            (r#"[["1.5","2.5","0","12345678901"],["1.4","3.5","",""]] "#, true),
            (r#"[["1.5","2.5","0",7],["1.4",3.5,{}]] "#, true),
            (r#"[["1.5","2.5","\"]"],[ "1.4","3.5" , "a\\" ]] "#, true),
            (r#"[["1.5","2.5"],["1.4","3.5","é"]] "#, false),
            (r#"[["1.5","2.5"],["1.45","3.5"]] "#, false),
        ] {
            for usually in [false, true] {
                let mut instruments = Instruments::default();
                staged.clear();
                let id = instruments.intern(b"X");
                instruments.widen(id, 1, 1);
                let mut sink = Sink::new(&mut instruments, &mut staged);
                sink.begin(id);
                let mut cursor = Cursor::new(text.as_bytes());
                if usually {
                    assert_eq!(sink.usual_pairs(Side::Bid, &mut cursor).is_some(), usual, "{text}");
                } else {
                    sink.pairs(Side::Bid, &mut cursor).unwrap();
                }
                if usual || !usually {
                    assert_eq!(cursor.end(), Ok(()), "{text}");
                    let sizes: Vec<i64> = staged.bids.iter().map(|level| level.size).collect();
                    assert_eq!(sizes, [25, 35], "{text}");
                }
            }
        }
    }

    #[test]
    fn bad_levels_are_typed_errors() {
        let (mut instruments, mut staged) = (Instruments::default(), Staged::default());
        let mut sink = Sink::new(&mut instruments, &mut staged);
        let id = sink.instrument(b"X");
        sink.begin(id);
        for (text, number) in [
            (r#"[["0","1"]]"#, false),
            (r#"[["-1","1"]]"#, false),
            (r#"[["1","-1"]]"#, false),
            (r#"[["1"]]"#, false),
            (r#"[["NaN","1"]]"#, false),
            (r#"[["1e400","1"]]"#, true),
            (r#"[["0.0000000000000000001","1"]]"#, true),
        ] {
            let error = sink.pairs(Side::Ask, &mut Cursor::new(text.as_bytes())).unwrap_err();
            assert_eq!(matches!(error.kind, VenueErrorKind::Number { .. }), number, "{text}: {error}");
            assert_eq!(error.class, Class::Resync);
        }
    }
}
