//! One WebSocket connection, from its handshake to its end.

use std::sync::Arc;
use std::time::Duration;

use coby_core::record::{Cause, ConnId, Nanos};
use coby_core::venue::{Ping, VenueSpec};
use futures_util::stream::SplitSink;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::clock::Clock;
use super::ingress::Ingress;
use super::network::BoxStream;
use super::quota::Quota;
use super::{Input, LARGEST, Payload};

/// How long a handshake may take.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// Protocol pings, where the venue wants none of its own, find dead connections.
const PROTOCOL_PING: Duration = Duration::from_secs(15);
/// A connection whose ingress stays full, or that takes nothing more, for so long is given up.
const STUCK: Duration = Duration::from_secs(5);
/// Messages that are taken before anything else is looked at.
const BURST: usize = 64;
/// Between two looks at the silence of a connection.
const SHORTEST_LOOK: Duration = Duration::from_millis(100);
/// How long a clean close may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a connection needs.
pub struct Link {
    /// Its id.
    pub conn: ConnId,
    /// Facts about its venue.
    pub spec: &'static VenueSpec,
    /// Interval of client pings, zero for the protocol's own.
    pub ping: Duration,
    /// Without a frame for so long it is dead; zero for never.
    pub silence: Duration,
    /// Receive times.
    pub clock: Clock,
    /// Where frames go.
    pub ingress: Ingress,
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

/// Serves a connection until it ends; why it did, and the close code.
pub async fn serve(mut link: Link, socket: Socket) -> (Cause, u16) {
    let (mut writer, mut reader) = socket.split();
    let quota = Quota::new(link.spec.limits.messages);
    let own = link.ping > Duration::ZERO;
    let mut pings = tokio::time::interval(if own { link.ping } else { PROTOCOL_PING });
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.reset();
    // Looking now and then costs less than a timer that every frame moves.
    let mut looks = tokio::time::interval((link.silence / 8).max(SHORTEST_LOOK));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    let mut waiting = None;
    let mut burst = Vec::with_capacity(BURST);
    loop {
        tokio::select! {
            message = reader.next() => {
                // What has arrived by now is taken with it, has its time, and goes to the engine at once.
                let (recv, now) = (link.clock.now(), Instant::now());
                let mut next = Some(message);
                let mut end = None;
                while let Some(message) = next {
                    match link.take(message, recv, &mut burst).await {
                        Taken::Frame => heard = now,
                        Taken::Control => {}
                        Taken::End(cause, code) => {
                            end = Some((cause, code));
                            break;
                        }
                    }
                    next = if burst.len() < BURST { reader.next().now_or_never() } else { None };
                }
                if !burst.is_empty() && !link.ingress.deliver(&mut burst).await {
                    return (Cause::Restart, 0);
                }
                if let Some(end) = end {
                    return end;
                }
            }
            Some(text) = link.outbox.recv(), if waiting.is_none() => waiting = Some(text),
            // A quota may be used up for an hour: reading goes on, and so do pings and the watch over silence.
            () = quota.take(1), if waiting.is_some() => {
                quota.pause(Duration::from_millis(link.spec.limits.spacing.into()));
                let text = waiting.take().unwrap_or_default();
                if !sent(&mut writer, Message::text(text)).await {
                    return (Cause::Closed, 1006);
                }
            }
            _ = pings.tick() => {
                let ping = match link.spec.ping {
                    Ping::Text(text) if own => Message::text(text),
                    Ping::Server | Ping::Text(_) | Ping::Protocol => Message::Ping(Payload::new()),
                };
                if !sent(&mut writer, ping).await {
                    return (Cause::Closed, 1006);
                }
            }
            _ = looks.tick() => {
                if !link.silence.is_zero() && heard.elapsed() >= link.silence {
                    return (Cause::Silence, 0);
                }
            }
            cause = &mut link.stop => {
                let farewell = CloseFrame { code: 1000.into(), reason: "".into() };
                drop(timeout(FAREWELL, writer.send(Message::Close(Some(farewell)))).await);
                return (cause.unwrap_or(Cause::Restart), 0);
            }
        }
    }
}

/// Sends a message; `false` when the connection is broken, or takes nothing for too long.
async fn sent(writer: &mut SplitSink<Socket, Message>, message: Message) -> bool {
    timeout(STUCK, writer.send(message)).await.is_ok_and(|sent| sent.is_ok())
}

/// What a message was.
enum Taken {
    /// A frame of the venue's protocol.
    Frame,
    /// A ping or pong of the WebSocket's own: it shows that a machine is there, and not that the venue still sends.
    Control,
    /// The last one.
    End(Cause, u16),
}

impl Link {
    /// Makes an input of a message.
    async fn take(&self, message: Option<Result<Message, SocketError>>, recv: Nanos, burst: &mut Vec<Input>) -> Taken {
        let (text, bytes) = match message {
            Some(Ok(Message::Text(text))) => (true, Payload::from(text)),
            Some(Ok(Message::Binary(bytes))) => (false, bytes),
            Some(Ok(Message::Close(frame))) => {
                return Taken::End(Cause::Closed, frame.map_or(1005, |frame| frame.code.into()));
            }
            Some(Ok(_)) => return Taken::Control,
            Some(Err(_)) | None => return Taken::End(Cause::Closed, 1006),
        };
        let Some(place) = self.place(burst).await else {
            burst.push(Input::Overflow { conn: self.conn, recv: self.clock.now() });
            return Taken::End(Cause::Error, 0);
        };
        burst.push(Input::Frame { conn: self.conn, text, bytes, recv, place });
        Taken::Frame
    }

    /// A place in ingress. Without a free one the socket is not read, and the venue feels it; `None` when that has lasted
    /// too long.
    async fn place(&self, burst: &mut Vec<Input>) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        // What is held back here would hold its places for ever.
        if !burst.is_empty() {
            self.ingress.deliver(burst).await;
        }
        timeout(STUCK, Arc::clone(&self.places).acquire_owned()).await.ok()?.ok()
    }
}
