//! A Kraken in the same process: it answers over pipes instead of sockets, and refuses when it is told to.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coby_io::net::{BoxStream, Connecting, Network};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message as Socket;

use super::kraken::{Message, PrintedBook};

const LIST: &str = r#"{"error":[],"result":{"XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT/USD","base":"XXBT","quote":"ZUSD","pair_decimals":1,"lot_decimals":8,"ordermin":"0.00005","costmin":"0.5","tick_size":"0.1","status":"online"}}}"#;
const DEPTH: usize = 1_000;

/// What tests see of it and tell it.
#[derive(Default)]
pub struct Told {
    /// New connections are refused.
    pub refuse: AtomicBool,
    /// New connections end at once.
    pub hang_up: AtomicBool,
    /// Sockets that are open now.
    pub open: AtomicU64,
    /// Updates sent in all.
    pub updates: AtomicU64,
    /// When WebSocket connections were tried.
    pub dials: Mutex<Vec<Instant>>,
    /// What HTTP requests are answered with instead of the list: all of the response.
    pub answer: Mutex<Option<&'static str>>,
    /// Whether sockets send one update per millisecond.
    pub busy: AtomicBool,
}

/// The network that leads to it and nowhere else.
#[derive(Clone, Default)]
pub struct Exchange {
    pub told: Arc<Told>,
}

impl Exchange {
    pub fn busy() -> Self {
        let exchange = Self::default();
        exchange.told.busy.store(true, Ordering::Relaxed);
        exchange
    }
}

impl Network for Exchange {
    fn connect<'n>(&'n self, _: &'n str, url: &'n str) -> Connecting<'n> {
        Box::pin(async move {
            let socket = url.starts_with("ws");
            if socket {
                self.told.dials.lock().unwrap().push(Instant::now());
            }
            if self.told.refuse.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = duplex(1 << 16);
            if socket {
                tokio::spawn(serve(theirs, Arc::clone(&self.told)));
            } else {
                tokio::spawn(answer(theirs, *self.told.answer.lock().unwrap()));
            }
            Ok(Box::new(ours) as BoxStream)
        })
    }
}

/// One HTTP exchange.
async fn answer(mut stream: DuplexStream, other: Option<&'static str>) {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        asked.push(byte);
    }
    let list = || format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{LIST}", LIST.len());
    let response = other.map_or_else(list, str::to_owned);
    // A client that is gone does not want it.
    drop(stream.write_all(response.as_bytes()).await);
}

/// One WebSocket connection: acknowledges, sends a snapshot, and then an update per millisecond if it is busy.
async fn serve(stream: DuplexStream, told: Arc<Told>) {
    let Ok(mut socket) = accept_async(stream).await else { return };
    if told.hang_up.load(Ordering::Relaxed) {
        return;
    }
    told.open.fetch_add(1, Ordering::Relaxed);
    let mut book = PrintedBook::default();
    let mut subscribed = false;
    let mut random = super::Random(7);
    let mut ticks = interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            message = socket.next() => {
                let Some(Ok(message)) = message else { break };
                let Socket::Text(text) = message else { continue };
                let asked: serde_json::Value = serde_json::from_str(&text).unwrap();
                let Some(symbols) = asked["params"]["symbol"].as_array() else {
                    // A ping, of whatever venue.
                    if socket.send(Socket::text(r#"{"method":"pong"}"#)).await.is_err() { break }
                    continue;
                };
                let channel = &asked["params"]["channel"];
                for symbol in symbols {
                    let ack = format!(
                        r#"{{"method":"subscribe","result":{{"channel":{channel},"depth":{DEPTH},"snapshot":true,"symbol":{symbol}}},"success":true}}"#
                    );
                    if socket.send(Socket::text(ack)).await.is_err() { break }
                    if channel == "book" {
                        subscribed = true;
                        let levels = |from: i64, step: i64| {
                            (0..50).map(|n| (format!("{}.0", from + n * step), "1.50000000".into())).collect::<Vec<_>>()
                        };
                        let mut snapshot =
                            Message { snapshot: true, sides: [levels(49_999, -1), levels(50_001, 1)], checksum: 0 };
                        snapshot.apply(&mut book, DEPTH);
                        snapshot.checksum = book.checksum();
                        let frame = String::from_utf8(snapshot.frame(0, "BTC/USD").body).unwrap();
                        if socket.send(Socket::text(frame)).await.is_err() { break }
                    }
                }
            }
            _ = ticks.tick(), if subscribed && told.busy.load(Ordering::Relaxed) => {
                let side = random.below(2);
                let away = random.below(60) as i64;
                let price = if side == 0 { 49_999 - away } else { 50_001 + away };
                let mut sides = [Vec::new(), Vec::new()];
                sides[side].push((format!("{price}.0"), format!("0.{:08}", random.below(3) * 10_000_000)));
                let mut update = Message { snapshot: false, sides, checksum: 0 };
                update.apply(&mut book, DEPTH);
                update.checksum = book.checksum();
                let frame = String::from_utf8(update.frame(0, "BTC/USD").body).unwrap();
                if socket.send(Socket::text(frame)).await.is_err() { break }
                told.updates.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    told.open.fetch_sub(1, Ordering::Relaxed);
}
