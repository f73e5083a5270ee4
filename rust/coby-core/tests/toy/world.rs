//! Two random markets and everything that can happen between them and a feed.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(missing_docs, reason = "fields of test helpers say it by their names")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

use coby_core::aggregate::bucket::Buckets;
use coby_core::book::Book;
use coby_core::event::{At, BookChange, Connection, Gap, GapCause, Key, Observer};
use coby_core::feed::{Action, Feed};
use coby_core::keeper::{Keeper, State};
use coby_core::level::Side;
use coby_core::record::{Body, Cause, ConnId, Nanos, Record};
use coby_core::venue::{Channel, Join, Proof, Rule, VenueError, VenueSpec};
use proptest::prelude::*;

use super::{REQUEST, SYMBOLS, Toy, checksum_of, find};

pub const MILLI: Nanos = 1_000_000;
pub const SECOND: Nanos = 1_000 * MILLI;
/// The instrument that unannounced faults hit. The other one only shares its connections.
pub const FAULTY: usize = 0;

/// Bids and asks, price to size.
pub type Ladders = [BTreeMap<i64, i64>; 2];

/// What happens to the next frame of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Arrives,
    Lost,
    Doubled,
    Swapped,
    Garbled,
}

#[derive(Clone, Debug)]
pub enum Op {
    /// The market moves.
    Move {
        instrument: usize,
        changes: Vec<(usize, i64, i64)>,
        ids: i64,
    },
    /// Someone trades, and it takes so long to be told.
    Trade {
        instrument: usize,
        price: i64,
        size: i64,
        millis: i64,
    },
    /// The next frame of a connection.
    Frame {
        connection: usize,
        fate: Fate,
    },
    /// The oldest request is answered: by the book of when it was asked or, if not `late`, of now; or by one
    /// so many versions older.
    Answer {
        late: bool,
        stale: usize,
        jitter: bool,
    },
    /// The oldest request fails.
    Fail,
    /// The same is answered again, or something is answered that nobody asked for.
    Unasked {
        instrument: usize,
        stale: usize,
    },
    /// Time passes.
    Wait {
        millis: i64,
    },
    Open,
    Close {
        connection: usize,
    },
    /// Ingress was full: frames are gone, and this is known.
    Overflow {
        connection: usize,
        frames: usize,
    },
    /// The process starts anew.
    Restart,
}

/// A frame on its way.
#[derive(Clone, Debug)]
pub struct Sent {
    pub instrument: usize,
    pub version: usize,
    pub number: i64,
    pub text: String,
}

pub struct Link {
    pub id: ConnId,
    pub queue: VecDeque<Sent>,
    pub number: i64,
}

/// A market: each version of its book, and the id of the last change in it.
pub struct Market {
    pub versions: Vec<Ladders>,
    pub spans: Vec<(i64, i64)>,
}

/// Listens, and remembers all it heard.
#[derive(Default)]
pub struct Log {
    pub events: Vec<String>,
    pub buckets: BTreeMap<Key, Buckets>,
    pub version: [usize; 2],
    /// What the last change proves.
    pub proof: [Option<Proof>; 2],
    pub lived: [bool; 2],
    /// What a listener takes the books for.
    pub live: [bool; 2],
    /// A delta was applied that was not newer than what the book held.
    pub regressed: bool,
    pub open: [BTreeMap<u64, GapCause>; 2],
    pub ids: BTreeSet<u64>,
    pub causes: [Vec<GapCause>; 2],
}

impl Observer for Log {
    fn buckets(&mut self, key: Key) -> &mut [Buckets] {
        std::slice::from_mut(self.buckets.entry(key).or_insert_with(|| Buckets::new(BUCKET_SIZE)))
    }

    fn rebuilt(&mut self, key: Key, book: &Book) {
        self.buckets.insert(key, bucketed(book));
        self.events.push(format!("rebuilt {key:?} {} {}", book.len(Side::Bid), book.len(Side::Ask)));
    }

    fn book(&mut self, at: &At<'_>, change: &BookChange<'_>, _: &Book) {
        let instrument = instrument_of(at);
        let version = at.ts_event.unwrap() as usize;
        self.regressed |= !change.snapshot && version <= self.version[instrument];
        self.version[instrument] = version;
        self.proof[instrument] = Some(at.proof);
        self.lived[instrument] = true;
        self.live[instrument] = true;
        self.events.push(format!("book {} {:?} {change:?}", at.pos, at.key));
    }

    fn lost(&mut self, at: &At<'_>, _: &Book) {
        self.live[instrument_of(at)] = false;
        self.events.push(format!("lost {} {:?}", at.pos, at.key));
    }

    fn checksum(&mut self, at: &At<'_>, ok: bool) {
        self.events.push(format!("checksum {} {:?} {ok}", at.pos, at.key));
    }

    fn gap(&mut self, at: &At<'_>, gap: &Gap<'_>) {
        self.events.push(format!("gap {} {:?} {gap:?}", at.pos, at.key));
        if gap.channel != Channel::Book {
            return;
        }
        let (instrument, open) = (instrument_of(at), &mut self.open[instrument_of(at)]);
        assert!(gap.from <= at.recv, "a gap begins before it is seen");
        match gap.to {
            None => {
                assert!(self.ids.insert(gap.id), "gap {} opens twice", gap.id);
                open.insert(gap.id, gap.cause);
                self.causes[instrument].push(gap.cause);
            }
            Some(to) => {
                assert!(gap.from <= to && to <= at.recv, "a gap ends after it began and before it is seen");
                assert_eq!(open.remove(&gap.id), Some(gap.cause), "gap {} closes for the cause it opened for", gap.id);
            }
        }
    }

    fn connection(&mut self, pos: u64, _: Nanos, _: &'static VenueSpec, conn: ConnId, change: &Connection<'_>) {
        self.events.push(format!("connection {pos} {conn} {change:?}"));
    }

    fn error(&mut self, pos: u64, _: Nanos, _: &'static VenueSpec, error: &VenueError) {
        self.events.push(format!("error {pos} {error}"));
    }
}

/// Width of the buckets that a listener lends.
const BUCKET_SIZE: i64 = 3;

/// The buckets of a book, made at once.
fn bucketed(book: &Book) -> Buckets {
    let mut buckets = Buckets::new(BUCKET_SIZE);
    buckets.rebuild(book);
    buckets
}

pub fn instrument_of(at: &At<'_>) -> usize {
    SYMBOLS.iter().position(|native| *native == at.instrument.native).unwrap()
}

/// A record, kept.
#[derive(Clone, Debug)]
pub struct Taped {
    pos: u64,
    recv: Nanos,
    conn: ConnId,
    kind: u8,
    payload: Vec<u8>,
}

impl Taped {
    pub fn of(record: &Record<'_>) -> Self {
        let mut payload = Vec::new();
        let kind = record.body.encode(&mut payload);
        Self { pos: record.pos, recv: record.recv, conn: record.conn, kind, payload }
    }

    /// The same record, had another venue brought it.
    pub fn of_venue(&self, id: &str) -> Self {
        let mut record = self.record();
        match &mut record.body {
            Body::Open { venue, .. } | Body::Http { venue, .. } => *venue = id,
            _ => {}
        }
        Self::of(&record)
    }

    pub fn record(&self) -> Record<'_> {
        let body = Body::decode(self.kind, &self.payload).unwrap();
        Record { pos: self.pos, recv: self.recv, conn: self.conn, source: 0, body }
    }
}

pub struct World {
    pub toy: &'static Toy,
    pub feed: Feed,
    pub log: Log,
    /// All records so far.
    pub tape: Vec<Taped>,
    /// Whether there is a twin: it costs a whole state per record.
    pub twinned: bool,
    /// The same, saved and loaded before every record.
    pub twin: Feed,
    pub twin_log: Log,
    pub pos: u64,
    pub now: Nanos,
    pub tick: Nanos,
    pub markets: [Market; 2],
    pub links: Vec<Link>,
    pub dialled: ConnId,
    /// Requests that the venue has not answered: by which connection, for which instrument, at which version.
    pub asked: VecDeque<(ConnId, usize, usize)>,
    /// When something was asked, ever.
    pub requests: Vec<(Nanos, usize)>,
    /// Something went wrong with [`FAULTY`]'s frames or answers that nobody announced.
    pub faulted: bool,
    pub overflowed: bool,
    pub trades: u64,
    pub redials: Vec<ConnId>,
}

impl World {
    pub fn new(toy: &'static Toy) -> Self {
        let market = || Market {
            versions: vec![[BTreeMap::from([(99, 5), (98, 2)]), BTreeMap::from([(101, 4), (103, 1)])]],
            spans: vec![(100, 100)],
        };
        let feed = || Feed::new(find, true);
        Self {
            toy,
            feed: feed(),
            log: Log::default(),
            tape: Vec::new(),
            twinned: true,
            twin: feed(),
            twin_log: Log::default(),
            pos: 0,
            now: 1_000 * SECOND,
            tick: 1_000 * SECOND,
            markets: [market(), market()],
            links: Vec::new(),
            dialled: 0,
            asked: VecDeque::new(),
            requests: Vec::new(),
            faulted: false,
            overflowed: false,
            trades: 0,
            redials: Vec::new(),
        }
    }

    /// Steps one record through both feeds, takes what they ask for, and checks everything.
    pub fn step(&mut self, conn: ConnId, body: Body<'_>) {
        self.pos += 1;
        let record = Record { pos: self.pos, recv: self.now, conn, source: 0, body };
        let (mut actions, mut twins) = (Vec::new(), Vec::new());
        let ownerless = [0, 1].map(|instrument| self.owner(instrument) == 0);
        self.feed.step(&record, &mut self.log, &mut actions).unwrap();
        if self.twinned {
            self.twin = Feed::load(find, &self.twin.save().unwrap()).unwrap();
            self.twin.step(&record, &mut self.twin_log, &mut twins).unwrap();
            assert_eq!(actions, twins, "a loaded feed asks for other things at {record:?}");
            assert_eq!(self.log.events, self.twin_log.events, "a loaded feed brings forth other events at {record:?}");
        }
        self.tape.push(Taped::of(&record));
        for (causes, ownerless) in self.log.causes.iter_mut().zip(ownerless) {
            // A book that only an answer has made belongs to no connection yet: what its connection lost before
            // the first delta is found out by that delta.
            causes.retain(|cause| !(ownerless && *cause == GapCause::Join));
        }
        self.log.events.clear();
        self.twin_log.events.clear();
        for action in actions {
            match action {
                Action::Send { conn, text } => {
                    let native = text.split(' ').nth(1).unwrap();
                    self.take_request(conn, native);
                }
                Action::Get { conn, request, .. } => {
                    let native = request.path.strip_prefix("/book?").unwrap().to_owned();
                    self.take_request(conn, &native);
                }
                Action::Reconnect { conn, .. } => self.redials.push(conn),
            }
        }
        self.check();
        while let Some(conn) = self.redials.pop() {
            if let Some(place) = self.links.iter().position(|link| link.id == conn) {
                // What was on its way arrives before the end, and is not to be listened to.
                for sent in self.links.remove(place).queue.into_iter().take(3) {
                    self.step(conn, Body::Text(sent.text.as_bytes()));
                }
                self.step(conn, Body::Close { cause: Cause::Error, code: 0 });
                self.open();
            }
        }
    }

    pub fn take_request(&mut self, conn: ConnId, native: &str) {
        let instrument = SYMBOLS.iter().position(|symbol| *symbol == native).unwrap();
        self.asked.push_back((conn, instrument, self.latest(instrument)));
        self.requests.push((self.now, instrument));
    }

    pub fn key(&self, instrument: usize) -> Option<Key> {
        let id = self.feed.instruments(0)?.find(SYMBOLS[instrument].as_bytes())?;
        Some(Key { venue: 0, id })
    }

    pub fn state(&self, instrument: usize) -> State {
        self.key(instrument).and_then(|key| self.feed.keeper(key)).map_or(State::Empty, Keeper::state)
    }

    pub fn owner(&self, instrument: usize) -> ConnId {
        self.key(instrument).and_then(|key| self.feed.keeper(key)).map_or(0, Keeper::conn)
    }

    /// Whether the venue's rule proves that a live book is the true one, after all that has happened.
    pub fn proved(&self, instrument: usize) -> bool {
        let plain = !self.toy.checksum;
        match (self.toy.rule, self.toy.join) {
            // Its lines are written by hand, and no market lies behind them.
            _ if self.toy.spec.books[0].shows.is_some() => false,
            // Images are the whole book each time.
            (_, Join::Image)
            | (Rule::Contiguous | Rule::Chain | Rule::Increment, _)
            | (Rule::Connection, Join::Socket) => true,
            // Nothing places the requested snapshot among the deltas.
            (Rule::None | Rule::Connection, Join::Request { .. }) if plain => false,
            _ => !plain || instrument != FAULTY || !self.faulted,
        }
    }

    pub fn check(&self) {
        for (instrument, symbol) in SYMBOLS.into_iter().enumerate() {
            let state = self.state(instrument);
            let open = &self.log.open[instrument];
            // A book that has never been live may have a gap: its start may have been lost.
            let expected = if state == State::Live { 0..=0 } else { usize::from(self.log.lived[instrument])..=1 };
            assert!(expected.contains(&open.len()), "{symbol}: {state:?} with open gaps {open:?}");
            assert_eq!(self.log.live[instrument], state == State::Live, "{symbol}: what was told of {state:?}");
            if state == State::Live {
                assert!(!self.links.is_empty(), "{symbol} is live without any connection");
                let owner = self.owner(instrument);
                assert!(owner == 0 || self.links.iter().any(|link| link.id == owner), "{owner} is closed");
                let key = self.key(instrument).unwrap();
                let kept = &self.log.buckets[&key];
                assert_eq!(*kept, bucketed(self.feed.keeper(key).unwrap().book()), "{symbol}: buckets");
                if self.proved(instrument) {
                    self.same(instrument);
                }
            }
        }
        let ordered = !matches!(self.toy.rule, Rule::None | Rule::Connection);
        assert!(!(ordered && self.log.regressed), "an old message was applied");
        if self.toy.rule != Rule::Connection {
            let causes = &self.log.causes[1 - FAULTY];
            assert!(
                causes.iter().all(|cause| self.announced(*cause)),
                "a neighbour's fault is no reason for {causes:?}"
            );
        }
    }

    /// Whether this is a cause where nothing goes wrong but what is announced.
    pub fn announced(&self, cause: GapCause) -> bool {
        match cause {
            GapCause::Closed | GapCause::Error | GapCause::Restart | GapCause::Overflow => true,
            // Times prove that a snapshot is young enough only once a delta older than it was seen.
            // An answer may be older than a loss that was announced after it was asked for.
            GapCause::Join => (self.toy.rule, self.toy.join) == (Rule::Monotone, REQUEST) || self.overflowed,
            _ => false,
        }
    }

    /// The book is the true one of the version it says.
    pub fn same(&self, instrument: usize) {
        let version = self.log.version[instrument];
        let book = self.feed.keeper(self.key(instrument).unwrap()).unwrap().book();
        for (side, truth) in [Side::Bid, Side::Ask].into_iter().zip(&self.markets[instrument].versions[version]) {
            let mut found: Vec<_> = book.levels(side).map(|level| (level.price, level.size)).collect();
            found.sort_unstable();
            let truth: Vec<_> = truth.iter().map(|(price, size)| (*price, *size)).collect();
            assert_eq!(found, truth, "{} {side:?} at version {version}", SYMBOLS[instrument]);
        }
    }

    /// The line of one version: the whole book, or its difference to the version before.
    pub fn line(&self, instrument: usize, version: usize, kind: &str, number: i64, at: Option<i64>) -> String {
        let market = &self.markets[instrument];
        let (first, last) = market.spans[version];
        let last = at.unwrap_or(last);
        let delta = kind == "delta";
        let numbered = |wanted: bool, value: i64| if wanted { value.to_string() } else { "-".into() };
        let rule = self.toy.rule;
        let anywhere = !matches!(rule, Rule::None | Rule::Connection);
        let mut line = format!(
            "{} {kind} {} {} {} {} {version}",
            numbered(number > 0, number),
            SYMBOLS[instrument],
            numbered(version > 0 && kind != "snapshot" && matches!(rule, Rule::Contiguous | Rule::Chain), first),
            numbered(anywhere, last),
            numbered(version > 0 && kind != "snapshot" && rule == Rule::Chain, market.spans[version.max(1) - 1].1),
        );
        for (side, letter) in ["b", "a"].into_iter().enumerate() {
            let book = &market.versions[version][side];
            let before = if delta { &market.versions[version - 1][side] } else { &BTreeMap::new() };
            for price in before.keys().filter(|price| !book.contains_key(price)) {
                write!(line, " {letter}{price}:0").unwrap();
            }
            for (price, size) in book.iter().filter(|(price, size)| before.get(price) != Some(size)) {
                write!(line, " {letter}{price}:{size}").unwrap();
            }
        }
        if self.toy.checksum {
            let [bids, asks] = &market.versions[version];
            let pair = |(price, size): (&i64, &i64)| (*price, *size);
            write!(line, " c{}", checksum_of(bids.iter().rev().map(pair), asks.iter().map(pair))).unwrap();
        }
        line
    }

    /// Puts a message on a connection's way.
    pub fn send(&mut self, place: usize, instrument: usize, version: usize, kind: &str) {
        let number = if self.toy.rule == Rule::Connection { self.links[place].number + 1 } else { 0 };
        let text = self.line(instrument, version, kind, number, None);
        let link = &mut self.links[place];
        link.number = number;
        link.queue.push_back(Sent { instrument, version, number, text });
    }

    pub fn latest(&self, instrument: usize) -> usize {
        self.markets[instrument].versions.len() - 1
    }

    pub fn open(&mut self) {
        self.dialled += 1;
        let id = self.dialled;
        self.links.push(Link { id, queue: VecDeque::new(), number: 0 });
        self.step(id, Body::Open { venue: self.toy.spec.id, plan: None, url: "wss://toy", ping: 0 });
    }

    /// The answer to a request for a book: on the connection, or over HTTP.
    pub fn answer(&mut self, conn: ConnId, instrument: usize, version: usize, jitter: bool) {
        // Who asked is gone, and with it the request.
        if !self.links.iter().any(|link| link.id == conn) {
            return;
        }
        let latest = self.latest(instrument);
        if matches!(self.toy.join, Join::Request { .. }) {
            // A requested book may stand in the middle of a message's span of ids.
            let (first, last) = self.markets[instrument].spans[(version + 1).min(latest)];
            let spans = matches!(self.toy.rule, Rule::Contiguous | Rule::Chain);
            let inside = jitter && spans && version < latest && first < last;
            let body = self.line(instrument, version, "snapshot", 0, inside.then_some(first));
            self.http(conn, instrument, 200, &body);
            return;
        }
        let kind = if self.toy.join == Join::Image { "image" } else { "snapshot" };
        if let Some(place) = self.links.iter().position(|link| link.id == conn) {
            self.send(place, instrument, version, kind);
        }
    }

    pub fn http(&mut self, conn: ConnId, instrument: usize, status: u16, body: &str) {
        let path = format!("/book?{}", SYMBOLS[instrument]);
        let (venue, host) = (self.toy.spec.id, "https://toy");
        let body = body.as_bytes();
        self.step(conn, Body::Http { venue, method: "GET", host, path: &path, request: "", status, body });
    }

    /// Delivers a frame as it is.
    pub fn deliver(&mut self, place: usize, sent: &Sent) {
        let (conn, instrument) = (self.links[place].id, sent.instrument);
        let before = (self.state(instrument), self.owner(instrument));
        self.step(conn, Body::Text(sent.text.as_bytes()));
        let after = (self.state(instrument), self.owner(instrument));
        if !self.faulted && self.proved(instrument) && before == (State::Live, conn) && after == before {
            assert!(self.log.version[instrument] >= sent.version, "{} falls behind", SYMBOLS[instrument]);
        }
    }

    pub fn frame(&mut self, connection: usize, fate: Fate) {
        if self.links.is_empty() {
            return;
        }
        let place = connection % self.links.len();
        let conn = self.links[place].id;
        let Some(sent) = self.links[place].queue.pop_front() else { return };
        let fate = if sent.instrument == FAULTY { fate } else { Fate::Arrives };
        match fate {
            Fate::Arrives => self.deliver(place, &sent),
            Fate::Lost => self.faulted = true,
            Fate::Doubled => {
                self.faulted = true;
                self.deliver(place, &sent);
                if self.links.get(place).is_some_and(|link| link.id == conn) {
                    self.deliver(place, &sent);
                }
            }
            Fate::Swapped => {
                self.faulted = true;
                if let Some(second) = self.links[place].queue.pop_front() {
                    self.deliver(place, &second);
                }
                if self.links.get(place).is_some_and(|link| link.id == conn) {
                    self.deliver(place, &sent);
                }
            }
            Fate::Garbled => {
                let number = if sent.number > 0 { sent.number.to_string() } else { "-".into() };
                let text = format!("{number} nonsense {}", SYMBOLS[sent.instrument]);
                self.step(conn, Body::Text(text.as_bytes()));
                if self.owner(sent.instrument) == conn {
                    assert_ne!(self.state(sent.instrument), State::Live, "a frame about it could not be read");
                }
            }
        }
    }

    pub fn wait(&mut self, millis: i64) {
        let until = self.now + millis * MILLI;
        // Long waits in steps of a second, which are late timers; what is retried is retried then.
        let grid = if millis > 10_000 { SECOND } else { 100 * MILLI };
        while self.tick + grid <= until {
            self.tick += grid;
            self.now = self.now.max(self.tick);
            self.step(0, Body::Timer(self.tick));
        }
        self.now = until;
    }

    pub fn shift(&mut self, instrument: usize, changes: &[(usize, i64, i64)], ids: i64) {
        let market = &mut self.markets[instrument];
        let mut book = market.versions[market.versions.len() - 1].clone();
        for (side, distance, size) in changes {
            // Few prices, so that a checksum covers all of a side; never crossed.
            let price = if *side == 0 { 99 - distance } else { 101 + distance };
            let old = book[*side].remove(&price);
            let size = if old == Some(*size) { size + 1 } else { *size };
            if size > 0 {
                book[*side].insert(price, size);
            }
        }
        let ids = if self.toy.rule == Rule::Increment { 1 } else { ids };
        let last = market.spans[market.spans.len() - 1].1;
        market.versions.push(book);
        market.spans.push((last + 1, last + ids));
        let version = market.versions.len() - 1;
        let kind = if self.toy.join == Join::Image { "image" } else { "delta" };
        for place in 0..self.links.len() {
            self.send(place, instrument, version, kind);
        }
    }

    /// A trade, told on every connection under the same id.
    pub fn trade(&mut self, instrument: usize, price: i64, size: i64, millis: i64) {
        self.trades += 1;
        let side = if size % 2 == 0 { "buy" } else { "sell" };
        let time = self.now - millis * MILLI;
        for link in &mut self.links {
            let numbered = self.toy.rule == Rule::Connection;
            link.number += i64::from(numbered);
            let number = if numbered { link.number.to_string() } else { "-".into() };
            let text = format!("{number} trade {} t{} {price} {size} {side} {time}", SYMBOLS[instrument], self.trades);
            link.queue.push_back(Sent { instrument, version: 0, number: link.number, text });
        }
    }

    pub fn run(&mut self, op: &Op) {
        self.now += MILLI;
        match op {
            Op::Move { instrument, changes, ids } => self.shift(*instrument, changes, *ids),
            Op::Trade { instrument, price, size, millis } => self.trade(*instrument, *price, *size, *millis),
            Op::Frame { connection, fate } => self.frame(*connection, *fate),
            Op::Answer { late, stale, jitter } => {
                if let Some((conn, instrument, then)) = self.asked.pop_front() {
                    // On a socket the answer stands in order, so it is never late.
                    let late = *late && matches!(self.toy.join, Join::Request { .. });
                    let version = if late { then } else { self.latest(instrument) };
                    let version = self.older(instrument, version, *stale);
                    self.answer(conn, instrument, version, *jitter);
                }
            }
            Op::Fail => {
                if let Some((conn, instrument, _)) = self.asked.pop_front()
                    && matches!(self.toy.join, Join::Request { .. })
                {
                    self.http(conn, instrument, 503, "busy");
                }
            }
            Op::Unasked { instrument, stale } => {
                let conn = self.links.first().map_or(0, |link| link.id);
                let version = self.older(*instrument, self.latest(*instrument), *stale);
                self.answer(conn, *instrument, version, false);
            }
            Op::Wait { millis } => self.wait(*millis),
            Op::Open if self.links.len() < 3 => self.open(),
            Op::Close { connection } if !self.links.is_empty() => {
                let link = self.links.remove(connection % self.links.len());
                self.step(link.id, Body::Close { cause: Cause::Closed, code: 1006 });
            }
            Op::Overflow { connection, frames } if !self.links.is_empty() => {
                let place = connection % self.links.len();
                let link = &mut self.links[place];
                let gone = link.queue.drain(..(*frames).min(link.queue.len())).count() as u64;
                let conn = link.id;
                self.overflowed = true;
                self.step(conn, Body::Overflow { frames: gone });
            }
            Op::Restart => {
                self.links.clear();
                self.asked.clear();
                let anchor = self.now;
                self.step(0, Body::Start { code: "", origin: "live", settings: "{}", anchor });
            }
            Op::Open | Op::Close { .. } | Op::Overflow { .. } => {}
        }
    }

    /// So many versions older, for the instrument that faults hit.
    pub fn older(&mut self, instrument: usize, version: usize, stale: usize) -> usize {
        // Where only frames are numbered, a snapshot stands in their order or cannot be placed at all.
        if instrument != FAULTY || self.toy.rule == Rule::Connection {
            return version;
        }
        self.faulted |= stale > 0;
        version.saturating_sub(stale)
    }

    /// Delivers all that is on its way and answers all that was asked.
    pub fn drain(&mut self) {
        loop {
            if let Some((conn, instrument, _)) = self.asked.pop_front() {
                self.answer(conn, instrument, self.latest(instrument), false);
            } else if let Some(place) = self.links.iter().position(|link| !link.queue.is_empty()) {
                self.frame(place, Fate::Arrives);
            } else {
                return;
            }
        }
    }

    /// From now on all goes well: every book must come back, within the longest pause between two requests.
    pub fn recover(&mut self) {
        self.open();
        for round in 0.. {
            assert!(round < 40, "X is {:?}, Y is {:?}", self.state(0), self.state(1));
            for instrument in 0..2 {
                self.shift(instrument, &[(0, round % 4, round)], 2);
            }
            self.drain();
            if (0..2).all(|instrument| self.state(instrument) == State::Live) {
                break;
            }
            self.wait(11_000);
        }
        for instrument in 0..2 {
            self.shift(instrument, &[(1, 0, 77)], 1);
        }
        self.drain();
        for (instrument, symbol) in SYMBOLS.into_iter().enumerate() {
            if self.state(instrument) == State::Live {
                assert_eq!(self.log.version[instrument], self.latest(instrument), "{symbol}");
            } else {
                // An unproved start may be found out only now.
                assert!(self.faulted && instrument == FAULTY, "{symbol}");
            }
        }
    }
}

pub fn movement() -> impl Strategy<Value = Op> {
    let change = (0..2_usize, 0..4_i64, 0..3_i64);
    (0..2_usize, prop::collection::vec(change, 1..4), 1..4_i64).prop_map(|(instrument, changes, ids)| Op::Move {
        instrument,
        changes,
        ids,
    })
}

/// What happens where nothing goes wrong unannounced.
pub fn peace() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => movement(),
        2 => (0..2_usize, 95..105_i64, 1..9_i64, 0..3_000_i64)
            .prop_map(|(instrument, price, size, millis)| Op::Trade { instrument, price, size, millis }),
        12 => (0..3_usize).prop_map(|connection| Op::Frame { connection, fate: Fate::Arrives }),
        4 => any::<bool>().prop_map(|late| Op::Answer { late, stale: 0, jitter: false }),
        1 => (0..2_usize).prop_map(|instrument| Op::Unasked { instrument, stale: 0 }),
        1 => Just(Op::Fail),
        2 => (1..15_000_i64).prop_map(|millis| Op::Wait { millis }),
        1 => Just(Op::Open),
        1 => (0..3_usize).prop_map(|connection| Op::Close { connection }),
    ]
}

/// What happens where anything can.
pub fn trouble() -> impl Strategy<Value = Op> {
    let fate = prop_oneof![
        10 => Just(Fate::Arrives),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Doubled),
        1 => Just(Fate::Swapped),
        1 => Just(Fate::Garbled),
    ];
    prop_oneof![
        20 => peace(),
        20 => (0..3_usize, fate).prop_map(|(connection, fate)| Op::Frame { connection, fate }),
        3 => (any::<bool>(), 0..6_usize, any::<bool>())
            .prop_map(|(late, stale, jitter)| Op::Answer { late, stale, jitter }),
        1 => (0..2_usize, 0..6_usize).prop_map(|(instrument, stale)| Op::Unasked { instrument, stale }),
        1 => (0..3_usize, 0..6_usize).prop_map(|(connection, frames)| Op::Overflow { connection, frames }),
        1 => Just(Op::Restart),
    ]
}
