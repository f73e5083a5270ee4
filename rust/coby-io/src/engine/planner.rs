//! What a live engine wants of its venues, and how far it has come with each.

use std::collections::BTreeMap;

use coby_core::event::Key;
use coby_core::feed::{Feed, Lookup};
use coby_core::instrument::Instruments;
use coby_core::keeper::State;
use coby_core::record::{ConnId, HttpRequest, Nanos, Pos};
use coby_core::symbol::{SymbolError, resolve};
use coby_core::venue::{Channel, ConnectionPlan, Subscription, Venue};
use serde::Serialize;

use super::view::state_name;
use crate::net::{LinkState, LinkStatus, ListStatus};
use crate::tape::TapeStats;

/// What only a live engine has to tell.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LiveStatus {
    /// The run.
    pub run: u64,
    /// When it began, nanoseconds UTC.
    pub started: Nanos,
    /// The last position on the tape before the run.
    pub before: Pos,
    /// Why the tape cannot be written, if so.
    pub untaped: Option<String>,
    /// Counters of the tape since the run began.
    pub tape: TapeStats,
    /// The venues, in the order of the settings.
    pub venues: Vec<VenueStatus>,
}

/// How a venue is.
#[derive(Clone, Debug, Serialize)]
pub struct VenueStatus {
    /// Its id.
    pub venue: &'static str,
    /// `closed`, `listing`, `refused`, `disconnected`, `connecting`, `live` or `degraded`.
    pub state: &'static str,
    /// Why it is not better.
    pub error: Option<String>,
    /// Failed attempts since the last success.
    pub attempts: u32,
    /// When the next attempt is, nanoseconds UTC.
    pub next_attempt: Option<Nanos>,
    /// Instruments that it lists.
    pub instruments: usize,
    /// Frames that came, over all runs on the tape.
    pub frames: u64,
    /// About when the last one came.
    pub last_frame: Option<Nanos>,
    /// Frames refused.
    pub errors: u64,
    /// Frames, or parts of them, of an unknown kind.
    pub unknown: u64,
    /// Trades dropped because their id had been seen.
    pub duplicates: u64,
    /// Its connections.
    pub links: Vec<LinkStatus>,
    /// Symbols that it does not have.
    pub unresolved: Vec<Unresolved>,
    /// The books that were asked for.
    pub books: Vec<BookStatus>,
}

/// A symbol that a venue does not have.
#[derive(Clone, Debug, Serialize)]
pub struct Unresolved {
    /// As given.
    pub symbol: String,
    /// What is wrong with it.
    pub message: String,
    /// What it may have meant.
    pub nearest: Vec<String>,
}

/// How a book is.
#[derive(Clone, Debug, Serialize)]
pub struct BookStatus {
    /// The venue's name.
    pub native: String,
    /// The canonical one.
    pub symbol: Option<String>,
    /// `empty`, `buffering`, `live`, `gap` or `aside`.
    pub state: &'static str,
    /// Whether it stands crossed.
    pub crossed: bool,
    /// About when it came into this state.
    pub since: Nanos,
    /// When it was last known good.
    pub last: Nanos,
}

/// How a list was answered: well, or so often not.
#[derive(Clone, Copy)]
enum Answered {
    Well,
    Badly(u32),
}

/// A list that was refused so often is no longer waited for: the venue's other markets may have what is wanted.
const PATIENCE: u32 = 3;

/// One venue that is wanted.
struct Wanted {
    venue: &'static dyn Venue,
    /// The requests for its lists, and how each was answered.
    lists: Vec<(HttpRequest, Answered)>,
    /// What is subscribed to, and how its book was when last looked at.
    natives: BTreeMap<String, (&'static str, Nanos)>,
    unresolved: Vec<Unresolved>,
    frames: u64,
    last_frame: Option<Nanos>,
    /// Why a session last gave its connection up.
    trouble: Option<String>,
    been_live: bool,
    /// Whether connectors of the user's own feed it: they decide what is subscribed to.
    fed: bool,
}

/// Turns symbols into subscriptions when lists have come.
pub(super) struct Planner {
    symbols: Vec<String>,
    wanted: Vec<Wanted>,
    venues: BTreeMap<ConnId, &'static str>,
}

/// What is to be subscribed to now.
pub(super) struct Planned {
    pub venue: &'static str,
    pub subscriptions: Vec<Subscription>,
    pub plans: Vec<ConnectionPlan>,
}

impl Planner {
    pub fn new(lookup: Lookup, venues: &[String], symbols: &[String]) -> Self {
        let wanted = venues.iter().filter_map(|id| lookup(id)).map(Wanted::new);
        Self { symbols: symbols.to_vec(), wanted: wanted.collect(), venues: BTreeMap::new() }
    }

    /// The venues whose lists are to be asked for: all that still exist.
    pub fn listed_venues(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.wanted.iter().map(|wanted| wanted.venue.spec()).filter(|spec| spec.closed.is_none()).map(|spec| spec.id)
    }

    /// A connector of the user's own feeds this venue.
    pub fn fed(&mut self, lookup: Lookup, venue: &str) {
        if !self.wanted.iter().any(|wanted| wanted.venue.spec().id == venue) {
            self.wanted.extend(lookup(venue).map(Wanted::new));
        }
        for wanted in self.wanted.iter_mut().filter(|wanted| wanted.venue.spec().id == venue) {
            wanted.fed = true;
        }
    }

    pub fn opened(&mut self, conn: ConnId, venue: &'static str) {
        self.venues.insert(conn, venue);
    }

    pub fn closed(&mut self, conn: ConnId) {
        self.venues.remove(&conn);
    }

    /// A session has given its connection up.
    pub fn given_up(&mut self, conn: ConnId, why: &str) {
        let venue = self.venues.get(&conn).copied();
        if let Some(wanted) = self.wanted.iter_mut().find(|wanted| Some(wanted.venue.spec().id) == venue) {
            wanted.trouble = Some(why.into());
        }
    }

    /// An answer has come and was stepped: if it was the last list that a venue's plan waits for, the plan.
    pub fn answered(&mut self, venue: &str, request: &HttpRequest, status: u16, feed: &Feed) -> Option<Planned> {
        let wanted = self.wanted.iter_mut().find(|wanted| wanted.venue.spec().id == venue)?;
        let (_, answered) = wanted.lists.iter_mut().find(|(asked, _)| asked == request)?;
        *answered = match *answered {
            _ if (200..300).contains(&status) => Answered::Well,
            Answered::Badly(times) => Answered::Badly(times + 1),
            Answered::Well => Answered::Well,
        };
        let settled = |(_, answered): &(HttpRequest, Answered)| match answered {
            Answered::Well => true,
            Answered::Badly(times) => *times >= PATIENCE,
        };
        if wanted.lists.iter().all(settled) { wanted.plan(&self.symbols, feed) } else { None }
    }

    /// What can be planned from lists that the tape already has.
    pub fn known(&mut self, feed: &Feed) -> Vec<Planned> {
        self.wanted.iter_mut().filter_map(|wanted| wanted.plan(&self.symbols, feed)).collect()
    }

    /// How the venues are.
    pub fn status(
        &mut self,
        feed: &Feed,
        links: &[LinkStatus],
        lists: &BTreeMap<&'static str, ListStatus>,
        now: Nanos,
    ) -> Vec<VenueStatus> {
        self.wanted.iter_mut().map(|wanted| wanted.status(feed, links, lists, now)).collect()
    }
}

impl Wanted {
    fn new(venue: &'static dyn Venue) -> Self {
        Self {
            venue,
            lists: venue.instrument_requests().into_iter().map(|request| (request, Answered::Badly(0))).collect(),
            natives: BTreeMap::new(),
            unresolved: Vec::new(),
            frames: 0,
            last_frame: None,
            trouble: None,
            been_live: false,
            fed: false,
        }
    }

    fn market(&self, feed: &Feed) -> Option<usize> {
        let id = self.venue.spec().id;
        feed.venues().position(|known| known.spec().id == id)
    }

    /// Subscribes to what the lists have and was not subscribed to before.
    fn plan(&mut self, symbols: &[String], feed: &Feed) -> Option<Planned> {
        let spec = self.venue.spec();
        if spec.closed.is_some() {
            return None;
        }
        let instruments = feed.instruments(self.market(feed)?)?;
        if instruments.listed() == 0 {
            return None;
        }
        self.unresolved.clear();
        let mut subscriptions = Vec::new();
        for symbol in symbols {
            let native = match resolve(instruments, symbol) {
                Ok(id) => instruments.get(id).native.clone(),
                Err(error) => {
                    let message = error.to_string();
                    let nearest = match error {
                        SymbolError::Unknown { nearest, .. } => nearest,
                        SymbolError::Ambiguous { candidates, .. } => candidates,
                    };
                    self.unresolved.push(Unresolved { symbol: symbol.clone(), message, nearest });
                    continue;
                }
            };
            if self.natives.contains_key(&native) {
                continue;
            }
            self.natives.insert(native.clone(), ("empty", 0));
            let channels = [
                (Channel::Book, !spec.books.is_empty()),
                (Channel::Trades, !spec.trades.is_empty()),
                (Channel::Candles, !spec.candles.is_empty()),
            ];
            for (channel, _) in channels.into_iter().filter(|(_, there)| *there) {
                subscriptions.push(Subscription { native: native.clone(), channel, depth: 0 });
            }
        }
        if subscriptions.is_empty() {
            return None;
        }
        let plans = self.venue.plan(&subscriptions, instruments);
        Some(Planned { venue: spec.id, subscriptions, plans })
    }

    fn books(&mut self, feed: &Feed, now: Nanos) -> Vec<BookStatus> {
        let Some(market) = self.market(feed) else { return Vec::new() };
        let Some(instruments) = feed.instruments(market) else { return Vec::new() };
        if self.fed {
            for (id, _) in feed.books(market).filter(|(_, keeper)| keeper.state() != State::Empty) {
                let native = &instruments.get(id).native;
                if !self.natives.contains_key(native) {
                    self.natives.insert(native.clone(), ("empty", 0));
                }
            }
        }
        let status = |(native, seen): (&String, &mut (&'static str, Nanos))| {
            let id = instruments.find(native.as_bytes());
            let keeper = id.and_then(|id| feed.keeper(Key { venue: market as u16, id }));
            let state = keeper.map_or("empty", state_name);
            if seen.0 != state || seen.1 == 0 {
                *seen = (state, now);
            }
            BookStatus {
                native: native.clone(),
                symbol: id.and_then(|id| instruments.get(id).symbol.clone()),
                state,
                crossed: keeper.is_some_and(|keeper| keeper.is_crossed() && keeper.state() == State::Live),
                since: seen.1,
                last: keeper.map_or(0, coby_core::keeper::Keeper::good),
            }
        };
        self.natives.iter_mut().map(status).collect()
    }

    fn status(
        &mut self,
        feed: &Feed,
        links: &[LinkStatus],
        lists: &BTreeMap<&'static str, ListStatus>,
        now: Nanos,
    ) -> VenueStatus {
        let spec = self.venue.spec();
        let market = self.market(feed);
        let counts = market.map(|market| feed.counts(market)).unwrap_or_default();
        if counts.frames != self.frames {
            self.frames = counts.frames;
            self.last_frame = Some(now);
        }
        let instruments = market.and_then(|market| feed.instruments(market));
        let listed = instruments.map_or(0, Instruments::listed);
        let books = self.books(feed, now);
        let links: Vec<LinkStatus> = links.iter().filter(|link| link.venue == spec.id).cloned().collect();
        let list = lists.get(spec.id);
        let connected = links.iter().filter(|link| link.state == LinkState::Connected).count();
        let worst = links.iter().filter(|link| link.state != LinkState::Connected).max_by_key(|link| link.attempts);
        let failing = worst.filter(|link| link.error.is_some());
        let all_live = (self.fed || !books.is_empty()) && books.iter().all(|book| book.state == "live");
        let state = if self.fed && connected == 0 {
            "disconnected"
        } else if spec.closed.is_some() && !self.fed {
            "closed"
        } else if self.natives.is_empty() && !self.fed {
            if listed > 0 && !self.unresolved.is_empty() { "refused" } else { "listing" }
        } else if connected == 0 {
            if failing.is_some() { "disconnected" } else { "connecting" }
        } else if all_live {
            self.been_live = true;
            self.trouble = None;
            "live"
        } else if self.been_live || failing.is_some() {
            "degraded"
        } else {
            "connecting"
        };
        let error = match state {
            "closed" => spec.closed.map(Into::into),
            "refused" => self.unresolved.first().map(|one| one.message.clone()),
            "listing" => list.and_then(|list| list.error.clone()),
            "live" => None,
            _ => self.trouble.clone().or_else(|| failing.and_then(|link| link.error.clone())),
        };
        let (attempts, next_attempt) = match (state, list) {
            ("listing", Some(list)) => (list.attempts, list.next_attempt.filter(|_| list.error.is_some())),
            _ => worst.map_or((0, None), |link| (link.attempts, link.next_attempt)),
        };
        VenueStatus {
            venue: spec.id,
            state,
            error,
            attempts,
            next_attempt,
            instruments: listed,
            frames: counts.frames,
            last_frame: self.last_frame,
            errors: counts.errors,
            unknown: counts.unknown,
            duplicates: counts.duplicates,
            links,
            unresolved: self.unresolved.clone(),
            books,
        }
    }
}
