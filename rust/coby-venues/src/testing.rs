//! A feed of one venue for unit tests: frames in, what happened and what was sent out.

use coby_core::book::Book;
use coby_core::event::{At, BookChange, Gap, Key, Observer, Trade};
use coby_core::feed::{Action, Feed};
use coby_core::level::Side;
use coby_core::record::{Body, Nanos, Pos, Record};
use coby_core::sink::CandleItem;
use coby_core::venue::{Channel, ConnectionPlan, Subscription, Venue, VenueError, VenueSpec};

pub struct Bench {
    feed: Feed,
    venue: &'static str,
    count: Pos,
    recv: Nanos,
    /// What the feed told, one line each.
    pub told: Log,
    /// What was sent or asked, as text.
    pub sent: Vec<String>,
}

#[derive(Default)]
pub struct Log(pub Vec<String>);

impl Bench {
    /// A feed with one connection, number 1, of `plan`.
    pub fn open(venue: &'static dyn Venue, plan: Option<&ConnectionPlan>) -> Self {
        Self::open_at(venue, plan, plan.map_or(venue.spec().sockets[0], |plan| &plan.base))
    }

    /// The same at another URL.
    pub fn open_at(venue: &'static dyn Venue, plan: Option<&ConnectionPlan>, url: &str) -> Self {
        let id = venue.spec().id;
        let feed = Feed::new(crate::registry::find, true);
        let mut bench = Self { feed, venue: id, count: 0, recv: 0, told: Log::default(), sent: Vec::new() };
        let plan = plan.map(|plan| postcard::to_extend(plan, Vec::new()).unwrap());
        bench.step(1, Body::Open { venue: id, plan: plan.as_deref(), url, ping: 0 });
        bench
    }

    pub fn text(&mut self, text: &str) {
        self.step(1, Body::Text(text.as_bytes()));
    }

    pub fn texts(&mut self, texts: &[&str]) {
        for text in texts {
            self.text(text);
        }
    }

    pub fn binary(&mut self, bytes: &[u8]) {
        self.step(1, Body::Binary(bytes));
    }

    pub fn http(&mut self, path: &str, body: &str) {
        let venue = self.venue;
        let (method, host, request, status) = ("GET", "", "", 200);
        self.step(0, Body::Http { venue, method, host, path, request, status, body: body.as_bytes() });
    }

    /// Lets so many seconds pass, in one tick.
    pub fn pass(&mut self, seconds: i64) {
        self.recv += seconds * 1_000_000_000;
        self.step(0, Body::Timer(self.recv));
    }

    fn step(&mut self, conn: u32, body: Body<'_>) {
        self.count += 1;
        self.recv += 1_000_000;
        let record = Record { pos: self.count, recv: self.recv, conn, source: 0, body };
        let mut actions = Vec::new();
        self.feed.step(&record, &mut self.told, &mut actions).unwrap();
        self.sent.extend(actions.into_iter().map(|action| match action {
            Action::Send { text, .. } => text,
            Action::Get { request, .. } => format!("{} {}", request.method, request.path),
            Action::Reconnect { fatal, why, .. } => format!("reconnect fatal={fatal}: {why}"),
        }));
    }

    /// Saves the feed and goes on with what was saved.
    pub fn reload(&mut self) {
        self.feed = Feed::load(crate::registry::find, &self.feed.save().unwrap()).unwrap();
    }

    /// The best levels of an instrument's book as text, bids then asks.
    pub fn book(&self, native: &str) -> String {
        let id = self.feed.instruments(0).and_then(|instruments| instruments.find(native.as_bytes())).unwrap();
        let keeper = self.feed.keeper(Key { venue: 0, id }).unwrap();
        let book = keeper.book();
        let side = |side| {
            let levels = book.levels(side).map(|level| format!("{}:{}", level.price, level.size));
            levels.collect::<Vec<_>>().join(" ")
        };
        format!("{:?} {} | {}", keeper.state(), side(Side::Bid), side(Side::Ask))
    }
}

/// Subscriptions to `native` on `channels`, without a wish for a depth.
pub fn subscriptions(natives: &[&str], channels: &[Channel]) -> Vec<Subscription> {
    let of = |native: &&str| {
        let native = (*native).to_owned();
        channels.iter().map(move |channel| Subscription { native: native.clone(), channel: *channel, depth: 0 })
    };
    natives.iter().flat_map(of).collect()
}

impl Observer for Log {
    fn book(&mut self, at: &At<'_>, change: &BookChange<'_>, _: &Book) {
        let (bids, asks) = (change.bids.len(), change.asks.len());
        self.0.push(format!("book {} snapshot={} {bids}+{asks}", at.instrument.native, change.snapshot));
    }

    fn checksum(&mut self, at: &At<'_>, ok: bool) {
        self.0.push(format!("checksum {} {ok}", at.instrument.native));
    }

    fn trade(&mut self, at: &At<'_>, trade: &Trade<'_>) {
        let Trade { price, size, taker, trade_id, history } = *trade;
        self.0.push(format!("trade {} {taker:?} {size}@{price} {trade_id} history={history}", at.instrument.native));
    }

    fn candle(&mut self, at: &At<'_>, candle: &CandleItem) {
        self.0.push(format!("candle {} {}", at.instrument.native, candle.open_time));
    }

    fn gap(&mut self, at: &At<'_>, gap: &Gap<'_>) {
        let phase = if gap.to.is_some() { "closed" } else { "opened" };
        self.0.push(format!("gap {} {} {phase} {}", at.instrument.native, gap.channel.name(), gap.cause.name()));
    }

    fn error(&mut self, _: Pos, _: Nanos, _: &'static VenueSpec, error: &VenueError) {
        self.0.push(format!("error {:?} {error}", error.class));
    }
}
