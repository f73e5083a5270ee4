//! The feed: records in, synchronised market data out.
//!
//! It owns the sessions, the instruments and the keepers of all venues on a tape. Live, replay, import and
//! `coby.decode` all step this one piece of code.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::event::{At, BookChange, Connection, GapCause, Key, Observer, Trade};
use crate::instrument::{InstrumentId, Instruments};
use crate::keeper::{BookMessage, Counts, Env, Keeper, State};
use crate::record::{Body, Cause, ConnId, HttpRequest, Nanos, Pos, Record};
use crate::sink::{BookItem, Item, Sink, Staged, StagedTrade};
use crate::stream::{RecentIds, Stream};
use crate::swar;
use crate::table::Table;
use crate::venue::{
    Channel, Class, ConnectionPlan, Frame, Proof, Scope, Session, Venue, VenueError, VenueErrorKind, VenueSpec,
};

/// Finds a venue by its id.
pub type Lookup = fn(&str) -> Option<&'static dyn Venue>;

/// HTTP answers that are held until their venue's first connection opens.
const HELD: usize = 1_000;
/// Bytes of their bodies that are.
const HELD_BYTES: usize = 64 << 20;

/// What has to be done outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a text frame.
    Send {
        /// On this connection.
        conn: ConnId,
        /// The text.
        text: String,
    },
    /// Ask over HTTP.
    Get {
        /// For this venue.
        venue: &'static str,
        /// On behalf of this connection.
        conn: ConnId,
        /// What.
        request: HttpRequest,
    },
    /// Close this connection and dial anew.
    Reconnect {
        /// The connection.
        conn: ConnId,
        /// Whether someone should look.
        fatal: bool,
        /// Why, for people.
        why: String,
    },
}

/// A tape names something that this code does not have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FeedError {
    /// No such venue.
    #[error("unknown venue {0:?}")]
    Venue(String),
    /// A saved state that this code cannot read.
    #[error("saved feed cannot be read: {0}")]
    Saved(String),
}

/// What is kept of an instrument that was subscribed to or had data.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Slot {
    book: Keeper,
    trades: Stream,
    recent: RecentIds,
    candles: Stream,
}

/// A venue on the tape and all that is known of it.
struct Market {
    venue: &'static dyn Venue,
    /// Its facts: looked up once, not per frame.
    spec: &'static VenueSpec,
    instruments: Instruments,
    /// What each list had when it last came, ascending: by the request's number and its path.
    lists: BTreeMap<(usize, String), Vec<InstrumentId>>,
    slots: Table<Slot>,
    counts: Counts,
    /// How many instruments the last list that came had, or why it could not be read.
    last_list: Result<usize, String>,
}

#[derive(Serialize, Deserialize)]
struct SavedMarket {
    venue: String,
    instruments: Instruments,
    /// What each list had when it last came, ascending: by the request's number and its path.
    lists: BTreeMap<(usize, String), Vec<InstrumentId>>,
    slots: Table<Slot>,
    counts: Counts,
}

/// An open connection.
struct Link {
    market: usize,
    session: Box<dyn Session>,
    plan: Option<Vec<u8>>,
    /// After a reconnect or fatal error its frames are taped but not stepped.
    dead: bool,
    /// The connection's own numbering, where it has one.
    number: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct SavedLink {
    conn: ConnId,
    market: usize,
    session: Vec<u8>,
    plan: Option<Vec<u8>>,
    dead: bool,
    number: Option<i64>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Held {
    market: usize,
    request: HttpRequest,
    status: u16,
    body: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    sync: bool,
    markets: Vec<SavedMarket>,
    links: Vec<SavedLink>,
    last_conn: ConnId,
    held: Vec<Held>,
    gap_ids: u64,
}

/// Sessions, instruments and keepers of all venues of a tape.
pub struct Feed {
    lookup: Lookup,
    sync: bool,
    markets: Vec<Market>,
    links: BTreeMap<ConnId, Link>,
    /// The newest connection so far.
    last_conn: ConnId,
    held: Vec<Held>,
    gap_ids: u64,
    /// The book of instruments that never had one.
    no_book: Keeper,
    /// What frames are staged in; taken while one is stepped.
    staged: Option<Box<Staged>>,
}

/// Where a step happens.
#[derive(Clone, Copy)]
struct Moment {
    pos: Pos,
    recv: Nanos,
    source: u64,
}

impl Market {
    fn new(venue: &'static dyn Venue) -> Self {
        Self {
            venue,
            spec: venue.spec(),
            instruments: Instruments::default(),
            lists: BTreeMap::new(),
            slots: Table::default(),
            counts: Counts::default(),
            last_list: Ok(0),
        }
    }

    /// Takes what a list has now; what is on none any more.
    fn gone(&mut self, list: (usize, String), mut ids: Vec<InstrumentId>) -> Vec<InstrumentId> {
        ids.sort_unstable();
        ids.dedup();
        let before = self.lists.remove(&list).unwrap_or_default();
        let mut gone: Vec<_> = before.iter().filter(|id| ids.binary_search(id).is_err()).copied().collect();
        if gone.len() * 2 > before.len() {
            // No venue gives up half of what it trades within an hour: this is part of a list.
            ids.append(&mut gone);
            ids.sort_unstable();
        }
        self.lists.insert(list, ids);
        gone.retain(|id| self.lists.values().all(|ids| ids.binary_search(id).is_err()));
        gone
    }
}

/// Builds the environment of one item; a macro because it borrows fields of a market apart from others.
macro_rules! env {
    ($market:expr, $index:expr, $gap_ids:expr, $moment:expr, $id:expr, $ts_event:expr, $proof:expr, $observer:expr) => {
        Env {
            venue: $market.venue,
            at: At {
                pos: $moment.pos,
                recv: $moment.recv,
                source: $moment.source,
                venue: $market.spec,
                key: Key { venue: $index as u16, id: $id },
                instrument: $market.instruments.get($id),
                ts_event: $ts_event,
                proof: $proof,
            },
            observer: &mut *$observer,
            gap_ids: $gap_ids,
            counts: &mut $market.counts,
        }
    };
}

impl Feed {
    /// A feed without any venue yet; tapes name them. Without `sync`, book messages are handed on as they
    /// stand: no sequence rules, no joining.
    pub fn new(lookup: Lookup, sync: bool) -> Self {
        Self {
            lookup,
            sync,
            markets: Vec::new(),
            links: BTreeMap::new(),
            last_conn: 0,
            held: Vec::new(),
            gap_ids: 0,
            no_book: Keeper::default(),
            staged: None,
        }
    }

    /// The index of a venue, which is [`Key::venue`] of its instruments.
    pub fn market(&mut self, id: &str) -> Result<usize, FeedError> {
        if let Some(index) = self.markets.iter().position(|market| market.venue.spec().id == id) {
            return Ok(index);
        }
        let venue = (self.lookup)(id).ok_or_else(|| FeedError::Venue(id.into()))?;
        self.markets.push(Market::new(venue));
        Ok(self.markets.len() - 1)
    }

    /// The venues so far, in the order of their indices.
    pub fn venues(&self) -> impl Iterator<Item = &'static dyn Venue> + '_ {
        self.markets.iter().map(|market| market.venue)
    }

    /// The instruments of a venue.
    pub fn instruments(&self, venue: usize) -> Option<&Instruments> {
        self.markets.get(venue).map(|market| &market.instruments)
    }

    /// The keeper of an instrument's book, an empty one where nothing has come.
    pub fn keeper(&self, key: Key) -> Option<&Keeper> {
        let market = self.markets.get(key.venue as usize)?;
        let known = key.id.index() < market.instruments.len();
        known.then(|| market.slots.get(key.id).map_or(&self.no_book, |slot| &slot.book))
    }

    /// The books of a venue's instruments that were subscribed to or had data, in the order of their ids.
    pub fn books(&self, venue: usize) -> impl Iterator<Item = (InstrumentId, &Keeper)> {
        let slots = self.markets.get(venue).map(|market| market.slots.iter());
        slots.into_iter().flatten().map(|(id, slot)| (id, &slot.book))
    }

    /// The books of all venues, in the order of their keys.
    pub fn keepers(&self) -> impl Iterator<Item = (Key, &Keeper)> {
        let books = move |venue| self.books(venue).map(move |(id, keeper)| (Key { venue: venue as u16, id }, keeper));
        (0..self.markets.len()).flat_map(books)
    }

    /// The connections that are open, oldest first.
    pub fn connections(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.links.keys().copied()
    }

    /// The newest connection that there has been, 0 for none: the next one has a greater number.
    pub fn last_conn(&self) -> ConnId {
        self.last_conn
    }

    /// How many instruments the list of a venue that came last had, or why it could not be read; for whoever has asked
    /// for it, and no part of the state.
    pub fn last_list(&self, venue: &str) -> Result<usize, String> {
        let market = self.markets.iter().find(|market| market.spec.id == venue);
        market.map_or(Ok(0), |market| market.last_list.clone())
    }

    /// What was passed over at a venue.
    pub fn counts(&self, venue: usize) -> Counts {
        self.markets.get(venue).map(|market| market.counts).unwrap_or_default()
    }

    /// Steps one record; what has to be done outside is appended to `actions`.
    #[inline(always)]
    pub fn step<O: Observer>(
        &mut self,
        record: &Record<'_>,
        observer: &mut O,
        actions: &mut Vec<Action>,
    ) -> Result<(), FeedError> {
        let moment = Moment { pos: record.pos, recv: record.recv, source: record.source };
        if let Body::Text(bytes) = record.body {
            self.frame(moment, record.conn, Frame::Text(bytes), observer, actions);
            return Ok(());
        }
        self.seldom(moment, record, observer, actions)
    }

    /// Steps a record that is no text frame.
    #[inline(never)]
    fn seldom<O: Observer>(
        &mut self,
        moment: Moment,
        record: &Record<'_>,
        observer: &mut O,
        actions: &mut Vec<Action>,
    ) -> Result<(), FeedError> {
        match record.body {
            Body::Binary(bytes) => self.seldom_frame(moment, record.conn, Frame::Binary(bytes), observer, actions),
            Body::Timer(_) => self.timer(moment, observer, actions),
            Body::Open { venue, plan, url, .. } => {
                return self.open(moment, record.conn, venue, plan, url, observer, actions);
            }
            Body::Close { cause, code } => self.close(moment, record.conn, cause, code, observer, actions),
            Body::Http { venue, method, host, path, request, status, body } => {
                let market = self.market(venue)?;
                let text = |text: &str| text.to_owned();
                let request =
                    HttpRequest { method: text(method), host: text(host), path: text(path), body: text(request) };
                self.http(moment, record.conn, market, &request, status, body, observer, actions);
            }
            Body::Overflow { frames } => {
                let evidence = format!("{frames} frames lost");
                self.lose_all(moment, record.conn, GapCause::Overflow, &evidence, observer);
                self.resync(moment, record.conn, Scope::Connection, observer, actions);
            }
            // A run begins with no connection: those that were open have ended with their process.
            Body::Start { .. } => {
                let open: Vec<ConnId> = self.links.keys().copied().collect();
                for conn in open {
                    self.close(moment, conn, Cause::Restart, 0, observer, actions);
                }
            }
            Body::Text(_) | Body::Config(_) | Body::Sent(_) | Body::Clock(_) => {}
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one record kind")]
    fn open<O: Observer>(
        &mut self,
        moment: Moment,
        conn: ConnId,
        venue: &str,
        plan: Option<&[u8]>,
        url: &str,
        observer: &mut O,
        actions: &mut Vec<Action>,
    ) -> Result<(), FeedError> {
        let market = self.market(venue)?;
        let venue = self.markets[market].venue;
        let decoded: Option<ConnectionPlan> = match plan.map(postcard::from_bytes) {
            Some(Ok(plan)) => Some(plan),
            Some(Err(error)) => return Err(FeedError::Saved(format!("plan of {}: {error}", venue.spec().id))),
            None => None,
        };
        let session = match venue.session(decoded.as_ref(), None) {
            Ok(session) => session,
            Err(error) => return Err(FeedError::Saved(error.to_string())),
        };
        let plan = plan.map(<[u8]>::to_vec);
        self.links.insert(conn, Link { market, session, plan, dead: false, number: None });
        self.last_conn = self.last_conn.max(conn);
        observer.connection(moment.pos, moment.recv, venue.spec(), conn, &Connection::Opened { url });
        self.seldom_frame(moment, conn, Frame::Open { url }, observer, actions);
        let (now, later) = std::mem::take(&mut self.held).into_iter().partition(|held| held.market == market);
        self.held = later;
        let now: Vec<Held> = now;
        for held in now {
            self.http(moment, conn, market, &held.request, held.status, &held.body, observer, actions);
        }
        Ok(())
    }

    fn close<O: Observer>(
        &mut self,
        moment: Moment,
        conn: ConnId,
        cause: Cause,
        code: u16,
        observer: &mut O,
        actions: &mut Vec<Action>,
    ) {
        self.seldom_frame(moment, conn, Frame::Close(cause), observer, actions);
        let Some(link) = self.links.remove(&conn) else { return };
        let spec = self.markets[link.market].venue.spec();
        observer.connection(moment.pos, moment.recv, spec, conn, &Connection::Closed { cause, code });
        let last = self.links.values().all(|other| other.market != link.market);
        let market = &mut self.markets[link.market];
        for (id, Slot { book, trades, candles, .. }) in market.slots.iter_mut() {
            let mut env = env!(market, link.market, &mut self.gap_ids, moment, id, None, Proof::None, observer);
            book.closed(conn, cause.into(), &mut env);
            // A book that nothing but an answer made has no connection of its own: it ends with the venue's last one.
            if last && book.conn() == 0 {
                book.closed(0, cause.into(), &mut env);
            }
            trades.closed(Channel::Trades, conn, cause.into(), &mut env);
            candles.closed(Channel::Candles, conn, cause.into(), &mut env);
        }
    }

    /// Puts everything that a connection carries in a gap.
    fn lose_all<O: Observer>(&mut self, moment: Moment, conn: ConnId, cause: GapCause, why: &str, observer: &mut O) {
        let Some(link) = self.links.get(&conn) else { return };
        let market = &mut self.markets[link.market];
        for (id, Slot { book, trades, candles, .. }) in market.slots.iter_mut() {
            let mut env = env!(market, link.market, &mut self.gap_ids, moment, id, None, Proof::None, observer);
            // A book that nothing but an answer made may be carried by any connection.
            if book.conn() == 0 && book.state() == State::Live {
                book.doubt(0, cause, why, &mut env);
            }
            book.doubt(conn, cause, why, &mut env);
            for (channel, stream) in [(Channel::Trades, trades), (Channel::Candles, candles)] {
                if stream.conn() == conn {
                    stream.lose(channel, cause, why, &mut env);
                }
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one record kind")]
    fn http<O: Observer>(
        &mut self,
        moment: Moment,
        conn: ConnId,
        market: usize,
        request: &HttpRequest,
        status: u16,
        body: &[u8],
        observer: &mut O,
        actions: &mut Vec<Action>,
    ) {
        let venue = self.markets[market].venue;
        let lists = venue.instrument_requests();
        if let Some(list) = lists.iter().position(|asked| asked.asks_as(request)) {
            self.list(moment, market, list, request, status, body, observer, actions);
            return;
        }
        let conn = match self.links.get(&conn) {
            Some(link) if link.market == market => Some(conn),
            _ => self.links.iter().find(|(_, link)| link.market == market).map(|(conn, _)| *conn),
        };
        match conn {
            Some(conn) => self.seldom_frame(moment, conn, Frame::Http { request, status, body }, observer, actions),
            None if self.holds(body.len()) => {
                self.held.push(Held { market, request: request.clone(), status, body: body.to_vec() });
            }
            None => self.markets[market].counts.stale += 1,
        }
    }

    /// Whether there is room to hold another answer.
    fn holds(&self, bytes: usize) -> bool {
        let held: usize = self.held.iter().map(|held| held.body.len()).sum();
        self.held.len() < HELD && held.saturating_add(bytes) <= HELD_BYTES
    }

    /// An instrument list has come.
    #[expect(clippy::too_many_arguments, reason = "the fields of one record kind")]
    fn list<O: Observer>(
        &mut self,
        moment: Moment,
        index: usize,
        list: usize,
        request: &HttpRequest,
        status: u16,
        body: &[u8],
        observer: &mut O,
        actions: &mut Vec<Action>,
    ) {
        let market = &mut self.markets[index];
        let mut listings = Vec::new();
        if !(200..300).contains(&status) {
            return;
        }
        if let Err(error) = market.venue.parse_instruments(request, body, &mut listings) {
            market.counts.errors += 1;
            observer.error(moment.pos, moment.recv, market.venue.spec(), &error);
            market.last_list = Err(error.to_string());
            return;
        }
        market.last_list = Ok(listings.len());
        let mut ids = Vec::with_capacity(listings.len());
        for listing in listings {
            let (id, changed) = market.instruments.list(listing);
            ids.push(id);
            if changed {
                let env = env!(market, index, &mut self.gap_ids, moment, id, None, Proof::None, observer);
                env.observer.listed(&env.at);
            }
        }
        for id in market.gone((list, request.path.clone()), ids) {
            if market.instruments.delist(id) {
                let env = env!(market, index, &mut self.gap_ids, moment, id, None, Proof::None, observer);
                env.observer.listed(&env.at);
            }
        }
        let mut revived = Vec::new();
        for (id, Slot { book, .. }) in market.slots.iter_mut() {
            if book.listed(moment.recv) {
                revived.push((book.conn(), id, book.feed()));
            }
        }
        for (conn, id, feed) in revived {
            self.resync(moment, conn, Scope::Book(id, feed), observer, actions);
        }
    }

    /// [`Self::frame`] where it is not the hot path.
    #[inline(never)]
    fn seldom_frame<O: Observer>(
        &mut self,
        moment: Moment,
        conn: ConnId,
        frame: Frame<'_>,
        observer: &mut O,
        actions: &mut Vec<Action>,
    ) {
        self.frame(moment, conn, frame, observer, actions);
    }

    /// One frame through its session, and what it staged through the keepers.
    #[inline(always)]
    fn frame<O: Observer>(
        &mut self,
        moment: Moment,
        conn: ConnId,
        frame: Frame<'_>,
        observer: &mut O,
        actions: &mut Vec<Action>,
    ) {
        let mut staged = self.staged.take().unwrap_or_default();
        staged.clear();
        self.staged_frame(moment, conn, frame, &mut staged, observer, actions);
        self.staged = Some(staged);
    }

    #[inline(always)]
    fn staged_frame<O: Observer>(
        &mut self,
        moment: Moment,
        conn: ConnId,
        frame: Frame<'_>,
        staged: &mut Staged,
        observer: &mut O,
        actions: &mut Vec<Action>,
    ) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        if link.dead {
            return;
        }
        let index = link.market;
        let market = &mut self.markets[index];
        market.counts.frames += 1;
        let mut sink = Sink::new(&mut market.instruments, staged);
        let usual = match frame {
            Frame::Text(bytes) => link.session.usual(bytes, &mut sink),
            _ => None,
        };
        let result = match frame {
            _ if usual.is_some() => Ok(()),
            // Everything that is compared or interned later is then known to be UTF-8.
            Frame::Text(bytes) if !swar::is_ascii(bytes) && std::str::from_utf8(bytes).is_err() => {
                Err(VenueError::unexpected("bytes: not UTF-8"))
            }
            frame => {
                sink.restart();
                link.session.on_frame(frame, moment.recv, &mut sink)
            }
        };
        let requested = matches!(frame, Frame::Http { .. });
        if let Err(error) = result {
            // Whatever a refused frame said, it did arrive: the connection's numbering goes on behind it.
            let number = staged.items.iter().find_map(|item| match item {
                Item::Sequence(number) => Some(*number),
                _ => None,
            });
            if let Some(number) = number {
                self.number(moment, conn, number, observer, actions);
            }
            self.refused(moment, conn, requested, &error, staged, observer, actions);
            return;
        }
        market.counts.unknown += staged.unknown;
        self.take(moment, conn, index, requested, staged, observer, actions);
    }

    /// Applies staged items in order.
    #[expect(clippy::too_many_arguments, reason = "the whole context of a step")]
    #[inline]
    fn take<O: Observer>(
        &mut self,
        moment: Moment,
        conn: ConnId,
        index: usize,
        requested: bool,
        staged: &Staged,
        observer: &mut O,
        actions: &mut Vec<Action>,
    ) {
        let owner = if requested { 0 } else { conn };
        for item in &staged.items {
            match item {
                Item::Book(book) => {
                    if self.book(moment, owner, index, book, staged, observer) {
                        self.ask(moment, index, conn, book.id, observer, actions);
                        if self.is_dead(conn) {
                            return;
                        }
                    }
                }
                Item::Trade(trade) => self.trade(moment, conn, index, trade, staged, observer),
                Item::Candle(candle) => {
                    let market = &mut self.markets[index];
                    let mut env = env!(
                        market,
                        index,
                        &mut self.gap_ids,
                        moment,
                        candle.id,
                        candle.ts_event,
                        Proof::None,
                        observer
                    );
                    let stream = &mut market.slots.at(candle.id).candles;
                    if stream.accepts(Channel::Candles, conn, candle.feed, &mut env) {
                        stream.good(moment.recv);
                        env.observer.candle(&env.at, candle);
                    }
                }
                Item::Checksum { id, feed, value } => {
                    let market = &mut self.markets[index];
                    let Some(spec) = market.spec.books.get(*feed as usize) else { continue };
                    let mut env = env!(market, index, &mut self.gap_ids, moment, *id, None, spec.proof, observer);
                    if self.sync && market.slots.at(*id).book.checksum(conn, *value, &mut env) {
                        self.ask(moment, index, conn, *id, observer, actions);
                    }
                }
                Item::Sequence(number) => {
                    self.number(moment, conn, *number, observer, actions);
                    if self.is_dead(conn) {
                        return;
                    }
                }
                Item::Subscribed { channel, feed, id } => {
                    let market = &mut self.markets[index];
                    let mut env = env!(market, index, &mut self.gap_ids, moment, *id, None, Proof::None, observer);
                    let slot = market.slots.at(*id);
                    match channel {
                        Channel::Book => slot.book.subscribed(conn, *feed, &mut env),
                        Channel::Trades => slot.trades.subscribed(*channel, conn, *feed, &mut env),
                        Channel::Candles => slot.candles.subscribed(*channel, conn, *feed, &mut env),
                    }
                }
                Item::Refresh { id } => {
                    let market = &mut self.markets[index];
                    let mut env = env!(market, index, &mut self.gap_ids, moment, *id, None, Proof::None, observer);
                    if market.slots.at(*id).book.refresh(&mut env) {
                        self.ask(moment, index, conn, *id, observer, actions);
                    }
                }
                Item::Send(_) | Item::Get(_) => {}
            }
        }
        if staged.outgoing {
            self.outward(conn, index, staged, actions);
        }
    }

    /// Whether a connection waits for its end: nothing that it brings counts any more, in the same frame or later.
    fn is_dead(&self, conn: ConnId) -> bool {
        self.links.get(&conn).is_none_or(|link| link.dead)
    }

    /// Hands what a session wants sent or asked to the driver.
    #[cold]
    fn outward(&self, conn: ConnId, index: usize, staged: &Staged, actions: &mut Vec<Action>) {
        for item in &staged.items {
            match item {
                Item::Send(range) => {
                    let text = String::from_utf8_lossy(&staged.text[range.clone()]).into_owned();
                    actions.push(Action::Send { conn, text });
                }
                Item::Get(request) => {
                    let venue = self.markets[index].venue.spec().id;
                    actions.push(Action::Get { venue, conn, request: HttpRequest::clone(request) });
                }
                _ => {}
            }
        }
    }

    #[inline]
    fn book<O: Observer>(
        &mut self,
        moment: Moment,
        conn: ConnId,
        index: usize,
        item: &BookItem,
        staged: &Staged,
        observer: &mut O,
    ) -> bool {
        let market = &mut self.markets[index];
        let Some(spec) = market.spec.books.get(item.head.feed as usize) else { return false };
        let mut env = env!(market, index, &mut self.gap_ids, moment, item.id, item.head.ts_event, spec.proof, observer);
        let [bids, asks] = item.levels(staged);
        let (price_scale, size_scale) = (item.price_scale, item.size_scale);
        if !self.sync {
            let snapshot = item.head.kind != crate::sink::BookKind::Delta;
            let change = BookChange { snapshot, bids, asks, price_scale, size_scale, depth: item.head.depth };
            env.observer.message(&env.at, &change);
            return false;
        }
        let message = BookMessage { conn, head: &item.head, bids, asks, price_scale, size_scale };
        market.slots.at(item.id).book.message(&message, &mut env)
    }

    #[inline]
    fn trade<O: Observer>(
        &mut self,
        moment: Moment,
        conn: ConnId,
        index: usize,
        item: &StagedTrade,
        staged: &Staged,
        observer: &mut O,
    ) {
        let market = &mut self.markets[index];
        let Some(spec) = market.spec.trades.get(item.feed as usize) else { return };
        let mut env = env!(market, index, &mut self.gap_ids, moment, item.id, item.ts_event, spec.proof, observer);
        let Slot { trades: stream, recent, .. } = market.slots.at(item.id);
        let trade_id = &staged.text[item.trade_id.clone()];
        if self.sync {
            let key = &staged.text[item.key.clone()];
            let late = !key.is_empty() && stream.outlives(conn, item.feed, moment.recv);
            if !late && !stream.accepts(Channel::Trades, conn, item.feed, &mut env) {
                return;
            }
            if !key.is_empty() && !recent.insert(key) {
                env.counts.duplicates += 1;
                return;
            }
            if !late {
                if let Some(number) = item.sequence {
                    stream.number(number, &mut env);
                }
                stream.good(moment.recv);
            }
        }
        // Frames were checked to be UTF-8 before their session saw them.
        let trade_id = std::str::from_utf8(trade_id).unwrap_or_default();
        let StagedTrade { price, size, taker, history, .. } = *item;
        env.observer.trade(&env.at, &Trade { price, size, taker, trade_id, history });
    }

    /// Checks the connection's own numbering.
    fn number<O: Observer>(
        &mut self,
        moment: Moment,
        conn: ConnId,
        number: i64,
        observer: &mut O,
        actions: &mut Vec<Action>,
    ) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        let before = link.number.replace(number);
        // A frame that comes twice loses nothing: sizes are absolute, and trades are known by their ids.
        let follows = |before: i64| before == number || before.checked_add(1) == Some(number);
        let Some(before) = before.filter(|before| self.sync && !follows(*before)) else { return };
        let evidence = format!("connection: after {before} came {number}");
        self.lose_all(moment, conn, GapCause::Sequence, &evidence, observer);
        self.resync(moment, conn, Scope::Connection, observer, actions);
    }

    /// Asks the venue for the book that waits at an instrument.
    fn ask<O: Observer>(
        &mut self,
        moment: Moment,
        index: usize,
        conn: ConnId,
        id: InstrumentId,
        observer: &mut O,
        actions: &mut Vec<Action>,
    ) {
        let (owner, feed) = self.markets[index].slots.at(id).book.wants();
        let conn = if owner == 0 { conn } else { owner };
        self.resync(moment, conn, Scope::Book(id, feed), observer, actions);
    }

    /// Has a session ask for a fresh start; only its sends and requests count.
    fn resync<O: Observer>(
        &mut self,
        moment: Moment,
        conn: ConnId,
        scope: Scope,
        observer: &mut O,
        actions: &mut Vec<Action>,
    ) {
        if !self.sync {
            return;
        }
        let Some(link) = self.links.get_mut(&conn).filter(|link| !link.dead) else { return };
        let index = link.market;
        let mut staged = Staged::default();
        let mut sink = Sink::new(&mut self.markets[index].instruments, &mut staged);
        match link.session.resync(scope, &mut sink) {
            Ok(()) => self.outward(conn, index, &staged, actions),
            Err(error) => self.kill(moment, conn, &error, observer, actions),
        }
    }

    /// Marks a connection for a new dial.
    fn kill<O: Observer>(
        &mut self,
        moment: Moment,
        conn: ConnId,
        error: &VenueError,
        observer: &mut O,
        actions: &mut Vec<Action>,
    ) {
        let Some(link) = self.links.get_mut(&conn).filter(|link| !link.dead) else { return };
        link.dead = true;
        let why = error.to_string();
        self.lose_all(moment, conn, GapCause::Error, &why, observer);
        actions.push(Action::Reconnect { conn, fatal: error.class == Class::Fatal, why });
    }

    /// A session has refused a frame.
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "the whole context of a step")]
    fn refused<O: Observer>(
        &mut self,
        moment: Moment,
        conn: ConnId,
        requested: bool,
        error: &VenueError,
        staged: &mut Staged,
        observer: &mut O,
        actions: &mut Vec<Action>,
    ) {
        let Some(link) = self.links.get(&conn) else { return };
        let index = link.market;
        let market = &mut self.markets[index];
        market.counts.errors += 1;
        observer.error(moment.pos, moment.recv, market.venue.spec(), error);
        match error.class {
            Class::Ignore => {}
            Class::Reconnect | Class::Fatal => self.kill(moment, conn, error, observer, actions),
            Class::Resync => {
                let evidence = error.to_string();
                // A level that no 64-bit decimal holds will come again: its book has to wait for another list.
                let out_of_range = staged.begun().filter(|_| matches!(error.kind, VenueErrorKind::Number { .. }));
                let mut named = std::mem::take(&mut staged.named);
                named.sort_unstable();
                named.dedup();
                if named.is_empty() && !requested {
                    self.lose_all(moment, conn, GapCause::Malformed, &evidence, observer);
                    self.resync(moment, conn, Scope::Connection, observer, actions);
                }
                for id in named {
                    let market = &mut self.markets[index];
                    let mut env = env!(market, index, &mut self.gap_ids, moment, id, None, Proof::None, observer);
                    let Slot { book: keeper, trades, .. } = market.slots.at(id);
                    if out_of_range == Some(id) && (requested || keeper.conn() == conn || keeper.conn() == 0) {
                        keeper.set_aside(&evidence, &mut env);
                        continue;
                    }
                    // A bad answer loses nothing: it is asked for again in time.
                    if requested {
                        continue;
                    }
                    // What the frame said is unknown: it may have been a trade.
                    if trades.conn() == conn {
                        trades.lose(Channel::Trades, GapCause::Malformed, &evidence, &mut env);
                    }
                    if keeper.doubt(conn, GapCause::Malformed, &evidence, &mut env) {
                        self.ask(moment, index, conn, id, observer, actions);
                    }
                }
            }
        }
    }

    fn timer<O: Observer>(&mut self, moment: Moment, observer: &mut O, actions: &mut Vec<Action>) {
        for index in 0..self.markets.len() {
            for place in 0..self.markets[index].slots.ids().len() {
                let market = &mut self.markets[index];
                let id = market.slots.ids()[place];
                let mut env = env!(market, index, &mut self.gap_ids, moment, id, None, Proof::None, observer);
                if market.slots.at(id).book.timer(&mut env) {
                    self.ask(moment, index, 0, id, observer, actions);
                }
            }
        }
    }

    /// Records are missing here: nothing that was connected can be trusted until it starts again.
    pub fn hole<O: Observer>(&mut self, pos: Pos, recv: Nanos, evidence: &str, observer: &mut O) {
        let moment = Moment { pos, recv, source: 0 };
        let open: Vec<ConnId> = self.links.keys().copied().collect();
        for conn in open {
            self.lose_all(moment, conn, GapCause::Damage, evidence, observer);
            if let Some(link) = self.links.get_mut(&conn) {
                link.number = None;
            }
        }
    }

    /// The whole state, for a checkpoint.
    pub fn save(&self) -> Result<Vec<u8>, FeedError> {
        let markets = self.markets.iter().map(|market| SavedMarket {
            venue: market.venue.spec().id.into(),
            instruments: market.instruments.clone(),
            lists: market.lists.clone(),
            slots: market.slots.clone(),
            counts: market.counts,
        });
        let links = self.links.iter().map(|(conn, link)| {
            let mut session = Vec::new();
            link.session.save(&mut session);
            let Link { market, dead, number, .. } = *link;
            SavedLink { conn: *conn, market, session, plan: link.plan.clone(), dead, number }
        });
        let saved = Saved {
            sync: self.sync,
            markets: markets.collect(),
            links: links.collect(),
            last_conn: self.last_conn,
            held: self.held.clone(),
            gap_ids: self.gap_ids,
        };
        postcard::to_extend(&saved, Vec::new()).map_err(|error| FeedError::Saved(error.to_string()))
    }

    /// The feed that [`Feed::save`] wrote.
    pub fn load(lookup: Lookup, bytes: &[u8]) -> Result<Self, FeedError> {
        let unreadable = |error: &dyn std::fmt::Display| FeedError::Saved(error.to_string());
        let saved: Saved = postcard::from_bytes(bytes).map_err(|error| unreadable(&error))?;
        let mut feed = Self::new(lookup, saved.sync);
        for market in saved.markets {
            let venue = lookup(&market.venue).ok_or(FeedError::Venue(market.venue))?;
            let SavedMarket { instruments, lists, slots, counts, .. } = market;
            feed.markets.push(Market { instruments, lists, slots, counts, ..Market::new(venue) });
        }
        for link in saved.links {
            let market =
                feed.markets.get(link.market).ok_or_else(|| FeedError::Saved("venue of a connection".into()))?;
            let plan: Option<ConnectionPlan> =
                link.plan.as_deref().map(postcard::from_bytes).transpose().map_err(|error| unreadable(&error))?;
            let session =
                market.venue.session(plan.as_ref(), Some(&link.session)).map_err(|error| unreadable(&error))?;
            let SavedLink { conn, market, plan, dead, number, .. } = link;
            feed.links.insert(conn, Link { market, session, plan, dead, number });
        }
        feed.last_conn = saved.last_conn;
        feed.held = saved.held;
        feed.gap_ids = saved.gap_ids;
        Ok(feed)
    }
}
