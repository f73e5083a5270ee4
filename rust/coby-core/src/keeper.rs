//! The keeper of one instrument's book: it does for all venues what venues usually get wrong. It buffers,
//! joins, checks the sequence rule, truncates, compares checksums, opens and closes gaps, and says when
//! the venue has to be asked again.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::aggregate::bucket::Buckets;
use crate::book::{Book, widening};
use crate::decimal::Decimal;
use crate::event::{At, BookChange, Gap, GapCause, Observer, Silent};
use crate::level::{Level, Side};
use crate::record::{ConnId, Nanos};
use crate::sink::{BookHead, BookKind, Sequence};
use crate::time::SECOND;
use crate::venue::{BookFeed, Channel, Join, Proof, Rule, TopLevels, Venue};

/// Deltas that may wait for a snapshot.
const BUFFER: usize = 10_000;
/// A book that is not live is asked for again after this long, doubling up to [`RETRY_MOST`].
const RETRY: Nanos = 10 * SECOND;
/// The longest wait between two requests.
const RETRY_MOST: Nanos = 300 * SECOND;
/// A snapshot is asked for after this long even when fewer deltas came than the feed wants first.
const QUIET: Nanos = 3 * SECOND;
/// A book whose best price nears the end of a cut-off snapshot is read anew at most this often.
const NEARING: Nanos = 5 * SECOND;
/// How long a book may stand crossed: some venues send both halves of a move in separate messages.
const CROSSED: Nanos = 5 * SECOND;

/// Where a book stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Nothing has come yet.
    Empty,
    /// A snapshot is waited for.
    Buffering,
    /// Equal to the venue's book, as far as its protocol proves.
    Live,
    /// Lost, and nothing that could restore it is connected.
    Gap,
}

/// A book message, staged or buffered.
#[derive(Clone, Copy, Debug)]
pub struct BookMessage<'a> {
    /// The connection that brought it; 0 for an HTTP answer.
    pub conn: ConnId,
    /// All but the levels.
    pub head: &'a BookHead,
    /// Bids.
    pub bids: &'a [Level],
    /// Asks.
    pub asks: &'a [Level],
    /// Scale of the prices.
    pub price_scale: u8,
    /// Scale of the sizes.
    pub size_scale: u8,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Buffered {
    head: BookHead,
    bids: Vec<Level>,
    asks: Vec<Level>,
    price_scale: u8,
    size_scale: u8,
}

impl Buffered {
    fn view(&self, conn: ConnId) -> BookMessage<'_> {
        BookMessage {
            conn,
            head: &self.head,
            bids: &self.bids,
            asks: &self.asks,
            price_scale: self.price_scale,
            size_scale: self.size_scale,
        }
    }
}

impl From<&BookMessage<'_>> for Buffered {
    fn from(message: &BookMessage<'_>) -> Self {
        Self {
            head: *message.head,
            bids: message.bids.to_vec(),
            asks: message.asks.to_vec(),
            price_scale: message.price_scale,
            size_scale: message.size_scale,
        }
    }
}

/// A gap that has opened and not closed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct OpenGap {
    pub id: u64,
    pub cause: GapCause,
    pub from: Nanos,
}

/// What a keeper works with, besides itself.
pub(crate) struct Env<'e, O: Observer> {
    pub venue: &'static dyn Venue,
    pub at: At<'e>,
    pub observer: &'e mut O,
    pub gap_ids: &'e mut u64,
    pub counts: &'e mut Counts,
}

impl<O: Observer> Env<'_, O> {
    fn feed(&self, feed: u8) -> &'static BookFeed {
        &self.at.venue.books[feed as usize]
    }

    /// Opens a gap.
    pub fn open(&mut self, channel: Channel, cause: GapCause, from: Nanos, evidence: &str) -> OpenGap {
        *self.gap_ids += 1;
        let gap = OpenGap { id: *self.gap_ids, cause, from };
        self.observer.gap(&self.at, &Gap { id: gap.id, channel, cause, from, to: None, evidence });
        gap
    }

    /// Closes a gap now.
    pub fn close(&mut self, channel: Channel, gap: OpenGap) {
        let OpenGap { id, cause, from } = gap;
        self.observer.gap(&self.at, &Gap { id, channel, cause, from, to: Some(self.at.recv), evidence: "" });
    }
}

/// How deep the snapshot went that a side of a book began with, at the book's price scale. Beyond it only what has
/// changed since is known.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Shown {
    /// Its worst price.
    worst: i64,
    /// Half way from its best price there.
    half: i64,
    /// Whether it may have been cut off: it had as many levels as the feed's snapshots show.
    cut: bool,
}

/// Whether a side's best price, `None` without any, lies beyond another.
fn is_beyond(side: Side, best: Option<Level>, price: i64) -> bool {
    best.is_none_or(|best| match side {
        Side::Bid => best.price < price,
        Side::Ask => best.price > price,
    })
}

/// What was passed over, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Frames stepped.
    pub frames: u64,
    /// Frames, or parts of them, of a kind that the protocol description does not have.
    pub unknown: u64,
    /// Frames refused with an error.
    pub errors: u64,
    /// Messages older than what was applied, or of a connection or feed that no longer owns the book.
    pub stale: u64,
    /// Trades whose id was among the instrument's last.
    pub duplicates: u64,
    /// Comparisons of checksums.
    pub checksums: u64,
}

/// The keeper of one book.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keeper {
    book: Book,
    state: State,
    conn: ConnId,
    feed: u8,
    /// Place in the order of what was applied last.
    last: i64,
    /// The venue's time of what was applied last.
    time: Option<Nanos>,
    /// Whether a newer delta has met the snapshot.
    joined: bool,
    /// Whether a delta not newer than the snapshot was seen, which proves that the snapshot is not older
    /// than the subscription.
    older: bool,
    /// What the snapshot showed of either side that the book began with.
    shown: [Option<Shown>; 2],
    /// When that was, or the book was last read anew since.
    read: Nanos,
    buffer: VecDeque<Buffered>,
    /// Whether a snapshot was asked for since the connection took the book.
    asked: bool,
    /// When to ask (again) for a snapshot; while live, when to read the book anew.
    ask_at: Option<Nanos>,
    retry: Nanos,
    /// When the book was last good.
    good: Nanos,
    crossed: Option<Nanos>,
    gap: Option<OpenGap>,
    /// Set aside: a number did not fit. Only a new instrument list brings it back.
    aside: bool,
    /// A second book that will take this one's place: of a newer connection, a better feed, or the same
    /// feed read anew.
    next: Option<Box<Keeper>>,
}

enum Verdict {
    Apply,
    Old,
    Break(GapCause),
}

impl Default for Keeper {
    fn default() -> Self {
        Self {
            book: Book::new(0, 0, false),
            state: State::Empty,
            conn: 0,
            feed: 0,
            last: i64::MIN,
            time: None,
            joined: false,
            older: false,
            shown: [None; 2],
            read: 0,
            buffer: VecDeque::new(),
            asked: false,
            ask_at: None,
            retry: RETRY,
            good: 0,
            crossed: None,
            gap: None,
            aside: false,
            next: None,
        }
    }
}

impl Keeper {
    /// The book; meaningful while live.
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// The connection that owns it, 0 for none.
    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// Rank of the feed that makes it.
    pub fn feed(&self) -> u8 {
        self.feed
    }

    /// Whether it stands crossed.
    pub fn is_crossed(&self) -> bool {
        self.crossed.is_some()
    }

    /// Whether it waits for a new instrument list, because a number did not fit.
    pub fn is_aside(&self) -> bool {
        self.aside
    }

    /// What its rows prove: nothing while the best price lies where a cut-off snapshot has shown nothing, since older
    /// orders may rest nearer.
    pub fn proof(&self, feed: &BookFeed) -> Proof {
        if self.beyond(|shown| shown.worst) { Proof::None } else { feed.proof }
    }

    /// Whether the best price of a side whose snapshot may have been cut off lies beyond some price.
    #[inline]
    fn beyond(&self, price: impl Fn(Shown) -> i64) -> bool {
        [Side::Bid, Side::Ask].into_iter().any(|side| {
            self.shown[side as usize]
                .is_some_and(|shown| shown.cut && is_beyond(side, self.book.best(side), price(shown)))
        })
    }

    /// The venue's time of what was applied last.
    pub fn time(&self) -> Option<Nanos> {
        self.time
    }

    /// When the book was last known good.
    pub fn good(&self) -> Nanos {
        self.good
    }

    /// The connection and feed that a request for a snapshot is due for: the second book's if there is one.
    pub(crate) fn wants(&self) -> (ConnId, u8) {
        self.next.as_ref().map_or((self.conn, self.feed), |next| (next.conn, next.feed))
    }

    fn adopt(&mut self, conn: ConnId, feed: u8, spec: &BookFeed, recv: Nanos) {
        let live = self.state == State::Live;
        if (!live || feed != self.feed) && self.book.keeps_digits() != spec.digits {
            self.book = Book::new(self.book.price_scale(), self.book.size_scale(), spec.digits);
        }
        self.conn = conn;
        self.feed = feed;
        if !live {
            self.state = State::Buffering;
            self.buffer.clear();
            // A socket's session has asked when it subscribed.
            self.asked = !matches!(spec.join, Join::Request { .. });
            self.ask_at = Some(recv + if self.asked { RETRY } else { QUIET });
            self.retry = RETRY;
        }
    }

    /// A subscription was confirmed: silence now means that nothing happens.
    pub(crate) fn subscribed<O: Observer>(&mut self, conn: ConnId, feed: u8, env: &mut Env<'_, O>) {
        if self.aside {
            return;
        }
        let spec = env.feed(feed);
        if self.conn == 0 {
            self.adopt(conn, feed, spec, env.at.recv);
        } else if conn > self.conn {
            self.second(conn, feed, spec, env.at.recv);
        }
    }

    fn second(&mut self, conn: ConnId, feed: u8, spec: &BookFeed, recv: Nanos) -> &mut Keeper {
        let next = self.next.get_or_insert_default();
        if conn > next.conn || (conn == next.conn && feed < next.feed) {
            **next = Self::default();
            next.adopt(conn, feed, spec, recv);
        }
        next
    }

    /// Takes a message; `true` when the venue has to be asked for a fresh start.
    pub(crate) fn message<O: Observer>(&mut self, message: &BookMessage<'_>, env: &mut Env<'_, O>) -> bool {
        let (conn, feed) = (message.conn, message.head.feed);
        if conn != 0 && self.conn == conn && self.feed == feed && self.next.is_none() && !self.aside {
            return self.step(message, env);
        }
        self.routed(conn, feed, message, env)
    }

    fn routed<O: Observer>(&mut self, conn: ConnId, feed: u8, message: &BookMessage<'_>, env: &mut Env<'_, O>) -> bool {
        if self.aside {
            env.counts.stale += 1;
            return false;
        }
        let spec = env.feed(feed);
        if conn == 0 {
            // An HTTP answer never moves a book to another connection.
            if self.next.as_ref().is_some_and(|next| next.feed == feed && next.state == State::Buffering) {
                return self.step_second(message, env);
            }
            if self.state == State::Empty {
                self.feed = feed;
                self.adopt(0, feed, spec, env.at.recv);
            }
            if self.feed != feed || self.state == State::Gap {
                env.counts.stale += 1;
                return false;
            }
            return self.step(message, env);
        }
        if self.conn == 0 {
            self.adopt(conn, feed, spec, env.at.recv);
        }
        if conn < self.conn || (conn == self.conn && feed > self.feed) {
            env.counts.stale += 1;
            return false;
        }
        if (conn, feed) == (self.conn, self.feed) {
            let mut ask = self.step(message, env);
            if self.next.as_ref().is_some_and(|next| (next.conn, next.feed) == (conn, feed)) {
                ask |= self.step_second(message, env);
            }
            return ask;
        }
        self.second(conn, feed, spec, env.at.recv);
        if self.next.as_ref().is_some_and(|next| (next.conn, next.feed) == (conn, feed)) {
            return self.step_second(message, env);
        }
        env.counts.stale += 1;
        false
    }

    /// Steps the second book, and puts it in the first one's place once it is live.
    fn step_second<O: Observer>(&mut self, message: &BookMessage<'_>, env: &mut Env<'_, O>) -> bool {
        let Some(mut next) = self.next.take() else { return false };
        let mut silent = Silent;
        let mut ids = 0;
        let mut quiet =
            Env { venue: env.venue, at: env.at, observer: &mut silent, gap_ids: &mut ids, counts: &mut *env.counts };
        let ask = next.step(message, &mut quiet);
        let same_feed = (next.conn, next.feed) == (self.conn, self.feed);
        let due = next.state == State::Live && (!same_feed || self.state != State::Live || next.last >= self.last);
        if !due {
            self.next = Some(next);
            return ask;
        }
        if same_feed && self.state == State::Live && next.last == self.last && !self.agrees_with(&next) {
            let gap = env.open(Channel::Book, GapCause::Drift, self.good, "a second snapshot differs");
            env.close(Channel::Book, gap);
        }
        if same_feed && self.state == State::Live {
            // The deltas applied so far are older than the book read anew.
            next.older |= self.joined || self.older;
        }
        next.gap = self.gap.take();
        // An answer proves nothing of the stream: whatever it has lost was lost since it was last heard.
        let heard = message.conn != 0 || self.state != State::Live;
        next.good = if heard { env.at.recv } else { self.good };
        *self = *next;
        env.observer.rebuilt(env.at.key, &self.book);
        let (mut bids, mut asks) = (Vec::new(), Vec::new());
        self.book.top(Side::Bid, usize::MAX, &mut bids);
        self.book.top(Side::Ask, usize::MAX, &mut asks);
        let (price_scale, size_scale) = (self.book.price_scale(), self.book.size_scale());
        let change =
            BookChange { snapshot: true, bids: &bids, asks: &asks, price_scale, size_scale, depth: message.head.depth };
        // Deltas that waited may have brought the book beyond the message that completed it.
        let at = At { ts_event: self.time, proof: self.proof(env.feed(self.feed)), ..env.at };
        env.observer.book(&at, &change, &self.book);
        if message.head.checksum.is_some() {
            // Had it not matched, the book would not be live.
            env.observer.checksum(&env.at, true);
        }
        self.revived(env);
        ask
    }

    /// Whether both books are the same where both reach; requested snapshots are often cut off.
    fn agrees_with(&self, other: &Self) -> bool {
        let (mut mine, mut theirs) = (self.book.clone(), other.book.clone());
        let price_scale = mine.price_scale().max(theirs.price_scale());
        let size_scale = mine.size_scale().max(theirs.size_scale());
        if mine.rescale(price_scale, size_scale).is_err() || theirs.rescale(price_scale, size_scale).is_err() {
            return false;
        }
        [Side::Bid, Side::Ask].into_iter().all(|side| {
            let worst = |keeper: &Self| {
                let worst = Decimal::new(keeper.shown[side as usize]?.worst, keeper.book.price_scale());
                worst.at_scale(price_scale).ok()
            };
            let (Some(mine_worst), Some(their_worst)) = (worst(self), worst(other)) else { return true };
            let within = |level: &Level| match side {
                Side::Bid => level.price >= mine_worst.max(their_worst),
                Side::Ask => level.price <= mine_worst.min(their_worst),
            };
            let plain = |level: Level| (level.price, level.size);
            mine.levels(side).take_while(within).map(plain).eq(theirs.levels(side).take_while(within).map(plain))
        })
    }

    #[inline(always)]
    fn step<O: Observer>(&mut self, message: &BookMessage<'_>, env: &mut Env<'_, O>) -> bool {
        let feed = env.feed(self.feed);
        match (message.head.kind, feed.join) {
            (BookKind::Delta, _) if self.state == State::Live => self.delta(feed, message, env),
            (BookKind::Delta, Join::Request { after }) => self.buffer(after, message, env),
            (BookKind::Delta, _) => {
                env.counts.stale += 1;
                false
            }
            (BookKind::Snapshot, Join::Request { .. }) if self.state == State::Live => {
                if message.head.sequence.is_none_or(|sequence| sequence.last <= self.last) {
                    env.counts.stale += 1;
                    return false;
                }
                // The deltas applied so far are older than this snapshot.
                self.older |= self.joined;
                self.joined = false;
                let good = self.good;
                let ask = self.install(feed, message, env);
                if message.conn == 0 {
                    // It proves nothing of the stream.
                    self.good = good;
                }
                ask
            }
            (BookKind::Snapshot, Join::Request { .. }) => self.join(feed, message, env),
            (BookKind::Snapshot | BookKind::Image, _) => {
                let old = feed.rule == Rule::Monotone
                    && self.state == State::Live
                    && message.head.sequence.is_some_and(|sequence| sequence.last < self.last);
                if old && message.head.kind == BookKind::Image {
                    env.counts.stale += 1;
                    return false;
                }
                self.joined = true;
                self.install(feed, message, env)
            }
        }
    }

    #[inline(always)]
    fn delta<O: Observer>(&mut self, feed: &BookFeed, message: &BookMessage<'_>, env: &mut Env<'_, O>) -> bool {
        match self.verdict(feed, message.head.sequence) {
            Verdict::Apply => self.apply(feed, false, message, env),
            Verdict::Old => {
                env.counts.stale += 1;
                false
            }
            Verdict::Break(cause) => {
                let evidence = match message.head.sequence {
                    Some(sequence) => format!("after {} came {sequence}", self.last),
                    None => format!("after {} came a message without a number", self.last),
                };
                self.lose(cause, &evidence, env);
                if matches!(feed.join, Join::Request { .. }) {
                    self.buffer.push_back(message.into());
                }
                true
            }
        }
    }

    #[inline(always)]
    fn verdict(&mut self, feed: &BookFeed, sequence: Option<Sequence>) -> Verdict {
        if matches!(feed.rule, Rule::None | Rule::Connection) {
            return Verdict::Apply;
        }
        let Some(sequence) = sequence else { return Verdict::Break(GapCause::Sequence) };
        let last = self.last;
        if sequence.last == last && feed.rule != Rule::Chain || !self.joined && sequence.last <= last {
            self.older = true;
            return Verdict::Old;
        }
        if !self.joined {
            let meets = match feed.rule {
                Rule::Monotone => self.older,
                Rule::Contiguous | Rule::Overlapping => {
                    sequence.first.unwrap_or(sequence.last) <= last.saturating_add(1)
                }
                Rule::Chain => sequence.previous == Some(last) || sequence.first.is_some_and(|first| first <= last),
                Rule::Increment => last.checked_add(1) == Some(sequence.first.unwrap_or(sequence.last)),
                Rule::None | Rule::Connection => true,
            };
            self.joined = meets;
            return if meets { Verdict::Apply } else { Verdict::Break(GapCause::Join) };
        }
        let follows = match feed.rule {
            Rule::Monotone | Rule::Overlapping if sequence.last < last => return Verdict::Old,
            Rule::Monotone | Rule::None | Rule::Connection => true,
            Rule::Contiguous if sequence.last < last => false,
            Rule::Contiguous | Rule::Overlapping => sequence.first.unwrap_or(sequence.last) <= last.saturating_add(1),
            // A message repeated to the letter changes nothing.
            Rule::Chain if sequence.last == last && sequence.previous != Some(last) => return Verdict::Old,
            Rule::Chain => sequence.previous == Some(last),
            Rule::Increment => last.checked_add(1) == Some(sequence.last),
        };
        if follows { Verdict::Apply } else { Verdict::Break(GapCause::Sequence) }
    }

    fn buffer<O: Observer>(&mut self, after: u32, message: &BookMessage<'_>, env: &mut Env<'_, O>) -> bool {
        let recv = env.at.recv;
        if self.buffer.len() == BUFFER {
            self.buffer.clear();
            if self.gap.is_none() {
                self.gap = Some(env.open(Channel::Book, GapCause::Buffer, recv, "10,000 deltas waited for a snapshot"));
            }
            self.ask_at = Some(recv + self.retry);
            return true;
        }
        self.buffer.push_back(message.into());
        if !self.asked && self.buffer.len() >= after as usize {
            self.asked = true;
            self.ask_at = Some(recv + self.retry);
            return true;
        }
        false
    }

    /// A requested snapshot has come while deltas wait.
    fn join<O: Observer>(&mut self, feed: &BookFeed, message: &BookMessage<'_>, env: &mut Env<'_, O>) -> bool {
        let Some(snapshot) = message.head.sequence else { return self.install(feed, message, env) };
        // Look at the first newer delta before anything is served that it would refute.
        let kept = (self.last, self.joined, self.older);
        (self.last, self.joined, self.older) = (snapshot.last, false, false);
        let mut newer = self.buffer.iter().map(|buffered| buffered.head.sequence).collect::<Vec<_>>().into_iter();
        let refuted = newer.find_map(|sequence| match self.verdict(feed, sequence) {
            Verdict::Old => None,
            Verdict::Apply => Some(None),
            Verdict::Break(cause) => Some(Some(cause)),
        });
        if let Some(Some(cause)) = refuted {
            (self.last, self.joined, self.older) = kept;
            if self.gap.is_none() {
                let evidence = format!("the snapshot at {} does not meet the deltas", snapshot.last);
                self.gap = Some(env.open(Channel::Book, cause, env.at.recv, &evidence));
            }
            self.retry = (self.retry * 2).min(RETRY_MOST);
            self.ask_at = Some(env.at.recv + self.retry / 10);
            return false;
        }
        self.joined = false;
        let waiting = std::mem::take(&mut self.buffer);
        let mut ask = self.install(feed, message, env);
        for buffered in waiting {
            if self.state == State::Live {
                let mut at = env.at;
                at.ts_event = buffered.head.ts_event;
                let view = buffered.view(message.conn);
                let mut env = Env {
                    venue: env.venue,
                    at,
                    observer: &mut *env.observer,
                    gap_ids: &mut *env.gap_ids,
                    counts: &mut *env.counts,
                };
                ask |= self.delta(feed, &view, &mut env);
            } else {
                self.buffer.push_back(buffered);
            }
        }
        ask
    }

    /// A snapshot or image becomes the book.
    fn install<O: Observer>(&mut self, feed: &BookFeed, message: &BookMessage<'_>, env: &mut Env<'_, O>) -> bool {
        if message.head.kind != BookKind::Image {
            self.buffer.clear();
        }
        self.book.clear();
        self.state = State::Live;
        env.observer.rebuilt(env.at.key, &self.book);
        let ask = self.apply(feed, true, message, env);
        self.read = env.at.recv;
        self.shown = [None; 2];
        if message.head.kind == BookKind::Snapshot {
            self.shown = [Side::Bid, Side::Ask].map(|side| {
                let (best, worst) = (self.book.best(side)?.price, self.book.levels(side).next_back()?.price);
                let cut = feed.shows.is_some_and(|most| self.book.len(side) >= most as usize);
                Some(Shown { worst, half: best.midpoint(worst), cut })
            });
        }
        if self.state == State::Live {
            self.revived(env);
        }
        ask
    }

    fn revived<O: Observer>(&mut self, env: &mut Env<'_, O>) {
        self.ask_at = (feed_refresh(env.feed(self.feed)) > 0).then(|| env.at.recv + feed_refresh(env.feed(self.feed)));
        self.retry = RETRY;
        if let Some(gap) = self.gap.take() {
            env.close(Channel::Book, gap);
        }
    }

    #[inline]
    fn apply<O: Observer>(
        &mut self,
        feed: &BookFeed,
        snapshot: bool,
        message: &BookMessage<'_>,
        env: &mut Env<'_, O>,
    ) -> bool {
        let scales = (message.price_scale, message.size_scale);
        let wide;
        let mut levels = [message.bids, message.asks];
        if scales != (self.book.price_scale(), self.book.size_scale()) {
            match self.widen(message, env) {
                Some(widened) => wide = widened,
                None => return false,
            }
            levels = wide.each_ref().map(Vec::as_slice);
        }
        let buckets = env.observer.buckets(env.at.key);
        let depth = message.head.depth;
        change(&mut self.book, Side::Bid, levels[0], depth, buckets);
        change(&mut self.book, Side::Ask, levels[1], depth, buckets);
        let mut crossed = self.book.is_crossed();
        let mut uncrossed = None;
        if crossed && env.venue.uncrosses(self.feed) {
            uncrossed = Some(self.uncross(levels, buckets));
            crossed = self.book.is_crossed();
        }
        if let Some(sequence) = message.head.sequence {
            self.last = sequence.last;
        }
        self.time = message.head.ts_event;
        let right = message.head.checksum.map(|value| self.matches(feed, value, env));
        if right == Some(false) {
            return self.mistaken(env);
        }
        self.good = env.at.recv;
        if crossed {
            self.crossed.get_or_insert(env.at.recv);
        } else {
            self.crossed = None;
        }
        let at = At { proof: self.proof(feed), ..env.at };
        let mut change = BookChange {
            snapshot,
            bids: message.bids,
            asks: message.asks,
            price_scale: message.price_scale,
            size_scale: message.size_scale,
            depth: message.head.depth,
        };
        if let Some([bids, asks]) = &uncrossed {
            (change.price_scale, change.size_scale) = (self.book.price_scale(), self.book.size_scale());
            (change.bids, change.asks) = (bids, asks);
        }
        env.observer.book(&at, &change, &self.book);
        if right.is_some() {
            env.observer.checksum(&env.at, true);
        }
        false
    }

    /// A message has crossed the book. What it did not name is older and goes; of two levels that it both named, the
    /// smaller goes and the larger keeps the difference. Returns the message's levels (given at the book's scales) and
    /// then these changes.
    #[cold]
    fn uncross(&mut self, levels: [&[Level]; 2], buckets: &mut [Buckets]) -> [Vec<Level>; 2] {
        let named = levels.map(<[Level]>::len);
        let mut changes = levels.map(<[Level]>::to_vec);
        while let (Some(bid), Some(ask)) = (self.book.best(Side::Bid), self.book.best(Side::Ask))
            && bid.price >= ask.price
        {
            let newer = [(Side::Bid, bid), (Side::Ask, ask)].map(|(side, best)| {
                let levels = &changes[side as usize][..named[side as usize]];
                levels.iter().any(|level| level.price == best.price)
            });
            let common = bid.size.min(ask.size);
            let (bid_left, ask_left) = match newer {
                [true, false] => (bid.size, 0),
                [false, true] => (0, ask.size),
                _ => (bid.size - common, ask.size - common),
            };
            for (side, best, size) in [(Side::Bid, bid, bid_left), (Side::Ask, ask, ask_left)] {
                if size == best.size {
                    continue;
                }
                let level = Level { size, ..best };
                self.book.set(side, level);
                for buckets in &mut *buckets {
                    buckets.change(side, level.price, best.size, size);
                }
                changes[side as usize].push(level);
            }
        }
        changes
    }

    /// The venue's checksum of the book as it stands, sent apart; `true` when the venue has to be asked.
    pub(crate) fn checksum<O: Observer>(&mut self, conn: ConnId, value: u32, env: &mut Env<'_, O>) -> bool {
        if self.state != State::Live || self.conn != conn {
            return false;
        }
        if self.matches(env.feed(self.feed), value, env) {
            env.observer.checksum(&env.at, true);
            return false;
        }
        self.mistaken(env)
    }

    fn matches<O: Observer>(&mut self, feed: &BookFeed, value: u32, env: &mut Env<'_, O>) -> bool {
        let Some(spec) = feed.checksum else { return true };
        env.counts.checksums += 1;
        let (mut bids, mut asks) = (Vec::with_capacity(spec.levels), Vec::with_capacity(spec.levels));
        self.book.top(Side::Bid, spec.levels, &mut bids);
        self.book.top(Side::Ask, spec.levels, &mut asks);
        let (price_scale, size_scale) = (self.book.price_scale(), self.book.size_scale());
        let top = TopLevels { bids: &bids, asks: &asks, price_scale, size_scale };
        env.venue.checksum(self.feed, top) == value
    }

    #[cold]
    fn mistaken<O: Observer>(&mut self, env: &mut Env<'_, O>) -> bool {
        env.observer.checksum(&env.at, false);
        self.lose(GapCause::Checksum, "the venue's checksum differs", env);
        true
    }

    /// Brings the book to scales that fit the message as well, and gives the message's bids and asks at these.
    #[cold]
    fn widen<O: Observer>(&mut self, message: &BookMessage<'_>, env: &mut Env<'_, O>) -> Option<[Vec<Level>; 2]> {
        let (price_scale, size_scale) = (self.book.price_scale(), self.book.size_scale());
        let scales = (price_scale.max(message.price_scale), size_scale.max(message.size_scale));
        if scales != (price_scale, size_scale) {
            if self.book.rescale(scales.0, scales.1).is_err() {
                self.set_aside("the book does not fit 64 bits at the scale that the venue now needs", env);
                return None;
            }
            let factor = widening(price_scale, scales.0).ok()?;
            for shown in self.shown.iter_mut().flatten() {
                // A price that is no longer held may not fit.
                shown.worst = shown.worst.saturating_mul(factor);
                shown.half = shown.half.saturating_mul(factor);
            }
            env.observer.rebuilt(env.at.key, &self.book);
        }
        let price_factor = widening(message.price_scale, scales.0).ok()?;
        let size_factor = widening(message.size_scale, scales.1).ok()?;
        let widen = |level: &Level| {
            let price = level.price.checked_mul(price_factor)?;
            Some(Level { price, size: level.size.checked_mul(size_factor)?, ..*level })
        };
        let sides = [message.bids, message.asks].map(|levels| levels.iter().map(widen).collect());
        let [Some(bids), Some(asks)] = sides else {
            self.set_aside("a level does not fit 64 bits at the book's scale", env);
            return None;
        };
        Some([bids, asks])
    }

    /// The book is lost: a gap opens, and deltas wait for a snapshot.
    pub(crate) fn lose<O: Observer>(&mut self, cause: GapCause, evidence: &str, env: &mut Env<'_, O>) {
        if self.aside || self.state == State::Empty {
            return;
        }
        if self.gap.is_none() {
            let from = if self.good == 0 { env.at.recv } else { self.good };
            self.gap = Some(env.open(Channel::Book, cause, from, evidence));
        }
        if self.state == State::Live {
            env.observer.lost(&env.at, &self.book);
        }
        self.state = if self.conn == 0 { State::Gap } else { State::Buffering };
        self.buffer.clear();
        self.joined = false;
        self.older = false;
        self.crossed = None;
        self.asked = true;
        self.ask_at = Some(env.at.recv + self.retry);
    }

    /// What a connection brought is lost or could not be read, so that whatever it carries of this book is in
    /// doubt; `true` when the venue has to be asked now.
    pub(crate) fn doubt<O: Observer>(
        &mut self,
        conn: ConnId,
        cause: GapCause,
        evidence: &str,
        env: &mut Env<'_, O>,
    ) -> bool {
        let mut ask = false;
        if let Some(next) = self.next.as_mut().filter(|next| next.conn == conn) {
            // The deltas that wait have a hole, which not every rule finds.
            let (feed, spec) = (next.feed, env.feed(next.feed));
            **next = Self::default();
            next.adopt(conn, feed, spec, env.at.recv);
            ask = !matches!(spec.join, Join::Request { .. });
        }
        if self.conn == conn {
            self.lose(cause, evidence, env);
            ask = true;
        }
        ask
    }

    /// A number does not fit: the book waits for a new instrument list.
    #[cold]
    pub(crate) fn set_aside<O: Observer>(&mut self, evidence: &str, env: &mut Env<'_, O>) {
        if self.state == State::Empty {
            self.state = State::Buffering;
        }
        self.lose(GapCause::Range, evidence, env);
        self.next = None;
        self.ask_at = None;
        self.aside = true;
    }

    /// A new instrument list has come; `true` when a book set aside has to be asked for.
    pub(crate) fn listed(&mut self, recv: Nanos) -> bool {
        if !self.aside {
            return false;
        }
        self.aside = false;
        self.book = Book::new(0, 0, self.book.keeps_digits());
        self.ask_at = Some(recv + self.retry);
        true
    }

    /// Time has come to look whether the book has to be asked for (again).
    pub(crate) fn timer<O: Observer>(&mut self, env: &mut Env<'_, O>) -> bool {
        let now = env.at.recv;
        if self.state == State::Live && self.crossed.is_some_and(|since| now - since >= CROSSED) {
            self.lose(GapCause::Crossed, "bids at or above asks for 5 s", env);
            return true;
        }
        if let Some(next) = self.next.as_mut() {
            return next.due(now);
        }
        let nearing = self.state == State::Live && now - self.read >= NEARING && self.beyond(|shown| shown.half);
        if !nearing && !self.due(now) {
            return false;
        }
        if self.state == State::Live {
            self.read = now;
            return self.refresh(env);
        }
        true
    }

    fn due(&mut self, now: Nanos) -> bool {
        if self.conn == 0 || self.ask_at.is_none_or(|at| now < at) {
            return false;
        }
        if self.asked {
            self.retry = (self.retry * 2).min(RETRY_MOST);
        }
        self.asked = true;
        self.ask_at = Some(now + self.retry);
        true
    }

    /// Reads the book anew while it goes on; `true` when the venue has to be asked.
    pub(crate) fn refresh<O: Observer>(&mut self, env: &mut Env<'_, O>) -> bool {
        if self.state != State::Live || self.conn == 0 || self.next.is_some() {
            return false;
        }
        let feed = env.feed(self.feed);
        self.ask_at = (feed_refresh(feed) > 0).then(|| env.at.recv + feed_refresh(feed));
        if matches!(feed.join, Join::Request { .. }) {
            // It asks when deltas wait for the answer.
            let (conn, rank) = (self.conn, self.feed);
            self.second(conn, rank, feed, env.at.recv);
            return false;
        }
        true
    }

    /// A connection has ended.
    pub(crate) fn closed<O: Observer>(&mut self, conn: ConnId, cause: GapCause, env: &mut Env<'_, O>) {
        if self.next.as_ref().is_some_and(|next| next.conn == conn) {
            self.next = None;
        }
        if self.conn != conn {
            return;
        }
        self.conn = 0;
        self.lose(cause, "the connection ended", env);
        if self.state != State::Empty {
            self.state = State::Gap;
        }
        self.ask_at = None;
        if let Some(mut next) = self.next.take() {
            next.gap = self.gap.take();
            next.good = self.good;
            *self = *next;
        }
    }
}

/// Sets levels of a side, cuts it to `depth`, and keeps the buckets with it.
#[inline(always)]
fn change(book: &mut Book, side: Side, levels: &[Level], depth: Option<u32>, buckets: &mut [Buckets]) {
    if !levels.is_empty() {
        let old = book.set_all(side, levels);
        for buckets in &mut *buckets {
            buckets.change_all(side, levels, old);
        }
    }
    if let Some(depth) = depth {
        book.truncate(side, depth as usize, |level| {
            for buckets in &mut *buckets {
                buckets.change(side, level.price, level.size, 0);
            }
        });
    }
}

fn feed_refresh(feed: &BookFeed) -> Nanos {
    Nanos::from(feed.refresh) * SECOND
}
