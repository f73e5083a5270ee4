//! One WebSocket connection, from its handshake to its end.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use coby_core::record::{Cause, ConnId};
use coby_core::venue::{Ping, VenueSpec};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::clock::Clock;
use super::network::BoxStream;
use super::quota::Quota;
use super::{Input, Payload};

/// How long a handshake may take.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// Protocol pings, where the venue wants none of its own, find dead connections.
const PROTOCOL_PING: Duration = Duration::from_secs(15);
/// A connection whose ingress stays full for so long is given up.
const STUCK: Duration = Duration::from_secs(5);
/// How long a clean close may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// The largest message taken: whole books come in one.
const LARGEST: usize = 64 << 20;

/// What a connection needs.
pub struct Link {
    /// Its id.
    pub conn: ConnId,
    /// Facts about its venue.
    pub spec: &'static VenueSpec,
    /// Interval of client pings, zero for the protocol's own.
    pub ping: Duration,
    /// Receive times.
    pub clock: Clock,
    /// Where frames go.
    pub ingress: SyncSender<Input>,
    /// Frames that may wait in ingress.
    pub places: Arc<Semaphore>,
    /// Texts to send.
    pub outbox: mpsc::Receiver<String>,
    /// Ends the connection for this cause.
    pub stop: oneshot::Receiver<Cause>,
}

/// A connected WebSocket.
pub type Socket = tokio_tungstenite::WebSocketStream<BoxStream>;

/// The WebSocket handshake.
pub async fn handshake(url: &str, stream: BoxStream) -> Result<Socket, SocketError> {
    let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
    tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await.map(|(socket, _)| socket)
}

/// Puts an input into ingress; `false` when the engine is gone.
pub async fn deliver(ingress: &SyncSender<Input>, mut input: Input) -> bool {
    loop {
        match ingress.try_send(input) {
            Ok(()) => return true,
            Err(TrySendError::Disconnected(_)) => return false,
            Err(TrySendError::Full(back)) => {
                input = back;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

/// Serves a connection until it ends; why it did, and the close code.
pub async fn serve(mut link: Link, socket: Socket) -> (Cause, u16) {
    let (mut writer, mut reader) = socket.split();
    let quota = Quota::new(link.spec.limits.messages);
    let silence = Duration::from_secs(link.spec.silence.into());
    let own = link.ping > Duration::ZERO;
    let mut pings = tokio::time::interval(if own { link.ping } else { PROTOCOL_PING });
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.reset();
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            message = reader.next() => {
                heard = Instant::now();
                let (text, bytes) = match message {
                    Some(Ok(Message::Text(text))) => (true, Payload::from(text)),
                    Some(Ok(Message::Binary(bytes))) => (false, bytes),
                    Some(Ok(Message::Close(frame))) => return (Cause::Closed, frame.map_or(1005, |frame| frame.code.into())),
                    Some(Ok(_)) => continue,
                    Some(Err(_)) | None => return (Cause::Closed, 1006),
                };
                let recv = link.clock.now();
                // Without a free place the socket is not read: the venue feels it.
                let Ok(Ok(place)) = timeout(STUCK, Arc::clone(&link.places).acquire_owned()).await else {
                    deliver(&link.ingress, Input::Overflow { conn: link.conn, recv: link.clock.now() }).await;
                    return (Cause::Error, 0);
                };
                if !deliver(&link.ingress, Input::Frame { conn: link.conn, text, bytes, recv, place }).await {
                    return (Cause::Restart, 0);
                }
            }
            Some(text) = link.outbox.recv() => {
                quota.take(1).await;
                if writer.send(Message::text(text)).await.is_err() {
                    return (Cause::Closed, 1006);
                }
            }
            _ = pings.tick() => {
                let ping = match link.spec.ping {
                    Ping::Text(text) if own => Message::text(text),
                    Ping::Server | Ping::Text(_) | Ping::Protocol => Message::Ping(Payload::new()),
                };
                if writer.send(ping).await.is_err() {
                    return (Cause::Closed, 1006);
                }
            }
            () = tokio::time::sleep_until(heard + silence), if !silence.is_zero() => return (Cause::Silence, 0),
            cause = &mut link.stop => {
                let farewell = CloseFrame { code: 1000.into(), reason: "".into() };
                drop(timeout(FAREWELL, writer.send(Message::Close(Some(farewell)))).await);
                return (cause.unwrap_or(Cause::Restart), 0);
            }
        }
    }
}
