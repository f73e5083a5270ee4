//! Keeps planned connections connected.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coby_core::feed::Lookup;
use coby_core::record::{Cause, ConnId, HttpRequest, Nanos};
use coby_core::venue::{ConnectionPlan, Dial, Venue};
use coby_venues::external::{ID, url};
use serde::Serialize;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::clock::Clock;
use super::endpoint::Endpoints;
use super::external::External;
use super::ingress::Ingress;
use super::network::Network;
use super::quota::Quota;
use super::rest::{Answer, ask};
use super::socket::{HANDSHAKE, Link, handshake, serve};
use super::{Command, Input};

/// Dials of one venue are apart by at least this.
const STAGGER: Duration = Duration::from_millis(100);
/// Instrument lists are asked for again after this.
const LISTS: Duration = Duration::from_hours(1);
/// A connection is replaced this long before the venue would cut it.
const BEFORE_CUT: Duration = Duration::from_mins(10);
/// The old connection stays so long beside the new one.
const OVERLAP: Duration = Duration::from_secs(10);
/// A connection that held for so long counts as a success.
const HELD: Duration = Duration::from_secs(10);
/// How often a session's request is tried; lists and token requests have waits of their own.
const ATTEMPTS: u32 = 4;
/// How long connections have to end when the driver does.
const LEAVE: Duration = Duration::from_secs(3);
/// A silence that cuts connections is doubled at most so often.
const MOST_QUIET: u32 = 4;
/// A connection that held for so long without going silent shows that its market is not quiet.
const LOUD: Duration = Duration::from_hours(1);
/// Texts that may wait to be sent on one connection.
const OUTBOX: usize = 1_024;

/// What a driver works with.
pub struct DriverConfig {
    /// The venues.
    pub lookup: Lookup,
    /// Where their hosts are.
    pub endpoints: Endpoints,
    /// The network.
    pub network: Arc<dyn Network>,
    /// Receive times.
    pub clock: Clock,
    /// Frames of one connection that may wait in ingress.
    pub places: usize,
    /// The connection before the first.
    pub first_conn: ConnId,
}

/// Where a planned connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Being dialled.
    Dialling,
    /// Connected.
    Connected,
    /// Waiting for the next attempt.
    Waiting,
}

/// A planned connection, for `/status`.
#[derive(Clone, Debug, Serialize)]
pub struct LinkStatus {
    /// Venue.
    pub venue: &'static str,
    /// Number of the plan.
    pub plan: u64,
    /// Streams it carries.
    pub streams: usize,
    /// Where it stands.
    pub state: LinkState,
    /// Connection, 0 for none.
    pub conn: ConnId,
    /// Attempts since it last held.
    pub attempts: u32,
    /// Why it last ended or failed.
    pub error: Option<String>,
    /// When the next attempt is, nanoseconds UTC.
    pub next_attempt: Option<Nanos>,
}

impl LinkStatus {
    fn new(venue: &'static str, plan: u64, streams: usize) -> Self {
        let state = LinkState::Dialling;
        Self { venue, plan, streams, state, conn: 0, attempts: 0, error: None, next_attempt: None }
    }
}

/// How the instrument lists of a venue stand, for `/status`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ListStatus {
    /// Failures since the last success.
    pub attempts: u32,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When the next attempt is, nanoseconds UTC.
    pub next_attempt: Option<Nanos>,
}

/// What is shared by the tasks of one venue.
struct Shop {
    venue: &'static dyn Venue,
    dials: Quota,
    stagger: Quota,
    rest: Quota,
}

struct Handle {
    outbox: mpsc::Sender<String>,
    stop: Option<oneshot::Sender<Cause>>,
}

/// What all tasks share.
pub(super) struct Shared {
    pub(super) config: DriverConfig,
    pub(super) ingress: Ingress,
    shops: Mutex<BTreeMap<&'static str, Arc<Shop>>>,
    handles: Mutex<BTreeMap<ConnId, Handle>>,
    status: Mutex<BTreeMap<u64, LinkStatus>>,
    lists: Mutex<BTreeMap<&'static str, ListStatus>>,
    last_conn: AtomicU32,
    /// Told when a connection has ended.
    ended: Notify,
}

/// The driver of one engine. Its future ends when the command channel closes; connections then end with it.
#[derive(Clone)]
pub struct Driver {
    shared: Arc<Shared>,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver {
    /// A driver that feeds `ingress`.
    pub fn new(config: DriverConfig, ingress: Ingress) -> Self {
        let last_conn = AtomicU32::new(config.first_conn);
        let (shops, handles, status, lists) = Default::default();
        Self {
            shared: Arc::new(Shared {
                config,
                ingress,
                shops,
                handles,
                status,
                lists,
                last_conn,
                ended: Notify::new(),
            }),
        }
    }

    /// Where every planned connection stands.
    pub fn status(&self) -> Vec<LinkStatus> {
        locked(&self.shared.status).values().cloned().collect()
    }

    /// How the instrument lists of every venue stand.
    pub fn lists(&self) -> BTreeMap<&'static str, ListStatus> {
        locked(&self.shared.lists).clone()
    }

    /// Serves commands until their sender is gone; then ends all connections and, at the latest after three seconds,
    /// itself.
    pub async fn run(self, mut commands: mpsc::Receiver<Command>) {
        let mut tasks = JoinSet::new();
        let mut plans = 0;
        loop {
            let command = tokio::select! {
                command = commands.recv() => command,
                Some(_) = tasks.join_next() => continue,
            };
            let Some(command) = command else { break };
            let shared = Arc::clone(&self.shared);
            match command {
                Command::List(venue) => {
                    if let Some(shop) = shared.shop(venue) {
                        tasks.spawn(async move { shared.lists(&shop).await });
                    }
                }
                Command::Dial { venue, plans: wanted } => {
                    let Some(shop) = shared.shop(venue) else { continue };
                    for plan in wanted {
                        plans += 1;
                        let (shared, shop, plan) = (Arc::clone(&shared), Arc::clone(&shop), Arc::new(plan));
                        let number = plans;
                        tasks.spawn(async move { shared.keep(number, &shop, plan).await });
                    }
                }
                Command::Feed { exchange, reply } => {
                    plans += 1;
                    shared.feed(plans, exchange, reply);
                }
                Command::Send { conn, text } => {
                    let outbox = locked(&shared.handles).get(&conn).map(|handle| handle.outbox.clone());
                    if outbox.is_some_and(|outbox| outbox.try_send(text).is_err()) {
                        // A connection that does not take what it must is of no use.
                        shared.end(conn, Cause::Error);
                    }
                }
                Command::Get { venue, conn, request } => {
                    if let Some(shop) = shared.shop(venue) {
                        // The session hears of a failure as of any answer.
                        tasks.spawn(async move { shared.get(&shop, conn, request, ATTEMPTS).await });
                    }
                }
                Command::Reconnect(conn) => shared.end(conn, Cause::Error),
                Command::ReconnectAll => shared.end_all(),
            }
        }
        // No new connection from here on; those that are open say farewell, and the engine takes their ends.
        tasks.shutdown().await;
        self.shared.end_all();
        let left = async {
            while !locked(&self.shared.handles).is_empty() {
                self.shared.ended.notified().await;
            }
        };
        drop(tokio::time::timeout(LEAVE, left).await);
    }
}

impl Shared {
    fn shop(&self, id: &str) -> Option<Arc<Shop>> {
        let venue = (self.config.lookup)(id)?;
        let mut shops = locked(&self.shops);
        let shop = shops.entry(venue.spec().id).or_insert_with(|| {
            let limits = &venue.spec().limits;
            Arc::new(Shop {
                venue,
                dials: Quota::new(limits.dials),
                stagger: Quota::new((0, 0)),
                rest: Quota::new(limits.rest),
            })
        });
        Some(Arc::clone(shop))
    }

    /// `false` when the engine has ended.
    async fn deliver(&self, input: Input) -> bool {
        self.ingress.deliver(&mut vec![input]).await
    }

    pub(super) fn end(&self, conn: ConnId, cause: Cause) {
        if let Some(stop) = locked(&self.handles).get_mut(&conn).and_then(|handle| handle.stop.take()) {
            let _ = stop.send(cause);
        }
    }

    /// Ends all connections: the process stops, or begins a new run.
    fn end_all(&self) {
        for handle in locked(&self.handles).values_mut() {
            if let Some(stop) = handle.stop.take() {
                let _ = stop.send(Cause::Restart);
            }
        }
    }

    async fn ask(&self, shop: &Shop, request: &HttpRequest, attempts: u32) -> Answer {
        let id = shop.venue.spec().id;
        let url = self.config.endpoints.locate(id, &format!("{}{}", request.host, request.path));
        ask(&*self.config.network, &shop.rest, id, &url, request, attempts).await
    }

    /// Brings an answer to the engine.
    async fn get(&self, shop: &Shop, conn: ConnId, request: HttpRequest, attempts: u32) {
        let Answer { status, body } = self.ask(shop, &request, attempts).await;
        let recv = self.config.clock.now();
        self.deliver(Input::Http { venue: shop.venue.spec().id, conn, request, status, body, recv }).await;
    }

    /// Brings an instrument list to the engine; how many instruments it had, or why it is none.
    async fn list(&self, shop: &Shop, request: HttpRequest) -> Result<usize, String> {
        let Answer { status, body } = self.ask(shop, &request, 1).await;
        let answered = answered(&request, status, &body);
        let (route, recv) = (request.route().to_owned(), self.config.clock.now());
        let (heard, read) = oneshot::channel();
        self.deliver(Input::List { venue: shop.venue.spec().id, request, status, body, recv, heard }).await;
        let read = read.await.unwrap_or_else(|_| Err("the engine has ended".into()));
        answered.and(read.map_err(|error| format!("{route}: {error}")))
    }

    /// Instrument lists: until they have come, and from then on every hour.
    async fn lists(&self, shop: &Shop) {
        let id = shop.venue.spec().id;
        let seed = id.bytes().fold(1, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        let mut backoff = Backoff::new(seed);
        loop {
            let (mut failed, mut listed) = (None, 0);
            for request in shop.venue.instrument_requests() {
                match self.list(shop, request).await {
                    Ok(count) => listed += count,
                    Err(error) => drop(failed.get_or_insert(error)),
                }
            }
            // A page that a venue under maintenance answers with, too: it is not waited for an hour.
            if listed == 0 {
                failed.get_or_insert_with(|| "no instrument is listed".into());
            }
            let wait = if failed.is_some() {
                backoff.failed()
            } else {
                backoff.succeeded();
                LISTS
            };
            let next_attempt = Some(self.config.clock.now() + wait.as_nanos() as Nanos);
            let status = ListStatus { attempts: backoff.failures(), error: failed, next_attempt };
            locked(&self.lists).insert(id, status);
            tokio::time::sleep(wait).await;
        }
    }

    fn tell(&self, number: u64, change: impl FnOnce(&mut LinkStatus)) {
        if let Some(status) = locked(&self.status).get_mut(&number) {
            change(status);
        }
    }

    fn next_conn(&self) -> ConnId {
        self.last_conn.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Opens a connection whose frames are pushed, and sees to its end.
    fn feed(self: &Arc<Self>, number: u64, exchange: String, reply: SyncSender<External>) {
        let (conn, venue) = (self.next_conn(), ID);
        // Nothing is ever sent on it.
        let (outbox, _) = mpsc::channel(1);
        let (stop, stopped) = oneshot::channel();
        locked(&self.handles).insert(conn, Handle { outbox, stop: Some(stop) });
        let status = LinkStatus { state: LinkState::Connected, conn, ..LinkStatus::new(venue, number, 0) };
        locked(&self.status).insert(number, status);
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let (url, recv) = (url(&exchange), shared.config.clock.now());
            let open = Arc::new(Mutex::new(true));
            if shared.deliver(Input::Open { conn, venue, plan: None, url, ping: 0, recv }).await {
                let places = Arc::new(Semaphore::new(shared.config.places));
                let external =
                    External { conn, exchange, shared: Arc::clone(&shared), places, open: Arc::clone(&open) };
                // Where nobody waits for it any more, it is dropped, and that closes it.
                drop(reply.try_send(external));
                let cause = stopped.await.unwrap_or(Cause::Restart);
                *locked(&open) = false;
                let recv = shared.config.clock.now();
                shared.deliver(Input::Close { conn, cause, code: 0, recv }).await;
            }
            locked(&shared.handles).remove(&conn);
            locked(&shared.status).remove(&number);
            shared.ended.notify_one();
        });
    }

    /// Keeps one plan connected.
    async fn keep(self: &Arc<Self>, number: u64, shop: &Arc<Shop>, plan: Arc<ConnectionPlan>) {
        let spec = shop.venue.spec();
        let streams = plan.subscriptions.len();
        locked(&self.status).insert(number, LinkStatus::new(spec.id, number, streams));
        let lifetime = Duration::from_secs(spec.limits.lifetime.into()).saturating_sub(BEFORE_CUT);
        let mut backoff = Backoff::new(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut running: Option<Running> = None;
        let mut quiet = 0;
        loop {
            self.tell(number, |status| {
                status.state = LinkState::Dialling;
                status.attempts = backoff.failures();
                status.next_attempt = None;
            });
            let begun = Instant::now();
            match self.dial(shop, &plan, quiet).await {
                Ok(mut next) => {
                    self.tell(number, |status| {
                        status.state = LinkState::Connected;
                        status.conn = next.conn;
                    });
                    let mut gone = None;
                    // The old connection goes once the new one has had time to take its books over, and has held.
                    if let Some(old) = running.take() {
                        tokio::select! {
                            ended = &mut next.ended => {
                                gone = Some(ended);
                                running = Some(old);
                            }
                            () = tokio::time::sleep(OVERLAP) => self.end(old.conn, Cause::Planned),
                        }
                    }
                    if gone.is_none() {
                        let held = if lifetime.is_zero() { Duration::MAX / 4 } else { lifetime };
                        tokio::select! {
                            ended = &mut next.ended => gone = Some(ended),
                            () = tokio::time::sleep(held) => {
                                running = Some(next);
                                continue;
                            }
                        }
                    }
                    if begun.elapsed() >= HELD {
                        backoff.succeeded();
                    }
                    let (cause, code) = gone.and_then(Result::ok).unwrap_or((Cause::Error, 0));
                    // A market may be quiet for long; one that was not is dead.
                    quiet = match cause {
                        Cause::Silence => MOST_QUIET.min(quiet + 1),
                        _ if begun.elapsed() >= LOUD => 0,
                        _ => quiet,
                    };
                    self.tell(number, |status| status.error = Some(ending(cause, code)));
                }
                Err(error) => self.tell(number, |status| status.error = Some(error)),
            }
            let wait = backoff.failed();
            let at = self.config.clock.now() + wait.as_nanos() as Nanos;
            self.tell(number, |status| {
                status.state = LinkState::Waiting;
                status.conn = running.as_ref().map_or(0, |old| old.conn);
                status.attempts = backoff.failures();
                status.next_attempt = Some(at);
            });
            tokio::time::sleep(wait).await;
        }
    }

    /// Dials once; each of the `quiet` last connections that went silent doubles the silence that this one may keep.
    async fn dial(
        self: &Arc<Self>,
        shop: &Arc<Shop>,
        plan: &Arc<ConnectionPlan>,
        quiet: u32,
    ) -> Result<Running, String> {
        shop.dials.take(1).await;
        shop.stagger.take(1).await;
        shop.stagger.pause(STAGGER);
        let spec = shop.venue.spec();
        let (network, endpoints) = (&self.config.network, &self.config.endpoints);
        let mut dial = shop.venue.dial(plan, None).map_err(|error| error.to_string())?;
        if let Dial::Ask(request) = &dial {
            let answer = self.ask(shop, request, 1).await;
            answered(request, answer.status, &answer.body)?;
            dial = shop.venue.dial(plan, Some((request, &answer.body))).map_err(|error| error.to_string())?;
        }
        let Dial::Connect { url, ping } = dial else {
            return Err("the venue asks again after its answer".into());
        };
        let located = endpoints.locate(spec.id, &url);
        let connecting = async {
            let stream = network.connect(spec.id, &located).await.map_err(|error| error.to_string())?;
            handshake(&located, stream).await.map_err(|error| error.to_string())
        };
        let socket =
            tokio::time::timeout(HANDSHAKE, connecting).await.unwrap_or_else(|_| Err("handshake: 10 s".into()))?;
        let conn = self.next_conn();
        let (outbox, texts) = mpsc::channel(OUTBOX);
        let (stop, stopped) = oneshot::channel();
        let (done, ended) = oneshot::channel();
        let recv = self.config.clock.now();
        let input = Input::Open { conn, venue: spec.id, plan: Some(Arc::clone(plan)), url, ping, recv };
        // The engine answers an opening with what is to be sent: the handle is there before.
        locked(&self.handles).insert(conn, Handle { outbox, stop: Some(stop) });
        if !self.deliver(input).await {
            locked(&self.handles).remove(&conn);
            return Err("the engine has ended".into());
        }
        let link = Link {
            conn,
            spec,
            ping: Duration::from_nanos(ping.max(0) as u64),
            silence: Duration::from_secs(spec.silence.into()) * (1 << quiet),
            clock: self.config.clock.clone(),
            ingress: self.ingress.clone(),
            places: Arc::new(Semaphore::new(self.config.places)),
            outbox: texts,
            stop: stopped,
        };
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let (cause, code) = serve(link, socket).await;
            let recv = shared.config.clock.now();
            shared.deliver(Input::Close { conn, cause, code, recv }).await;
            locked(&shared.handles).remove(&conn);
            shared.ended.notify_one();
            // Nobody waits for a connection that was replaced.
            let _ = done.send((cause, code));
        });
        Ok(Running { conn, ended })
    }
}

/// A connection that is served by its own task.
struct Running {
    conn: ConnId,
    /// Why it ended, and the close code.
    ended: oneshot::Receiver<(Cause, u16)>,
}

/// Why an HTTP answer is none, if so.
fn answered(request: &HttpRequest, status: u16, body: &[u8]) -> Result<(), String> {
    if (200..300).contains(&status) {
        return Ok(());
    }
    let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
    let route = request.route();
    Err(if status == 0 { format!("{route}: {text}") } else { format!("{route}: HTTP {status} {text}") })
}

/// Why a connection ended, for people.
fn ending(cause: Cause, code: u16) -> String {
    match cause {
        Cause::Closed if code == 1006 => "the connection broke".into(),
        Cause::Closed => format!("the venue closed the connection, code {code}"),
        Cause::Silence => "nothing came for too long".into(),
        Cause::Error => "given up after an error".into(),
        Cause::Planned => "replaced before its end".into(),
        Cause::Restart | Cause::End | Cause::Tape => "ended by COBY".into(),
    }
}
