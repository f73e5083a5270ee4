//! One WebSocket connection, from its handshake to its end.

use std::sync::Arc;
use std::time::Duration;

use coby_core::record::{Cause, ConnId, Nanos};
use coby_core::venue::{Ping, VenueSpec};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error as SocketError, Message};

use super::clock::Clock;
use super::ingress::Ingress;
use super::network::BoxStream;
use super::quota::Quota;
use super::{Frames, Input, LARGEST};

/// How long a handshake may take.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// Protocol pings, where the venue wants none of its own, find dead connections.
const PROTOCOL_PING: Duration = Duration::from_secs(15);
/// A connection whose ingress stays full, or that takes nothing more, for so long is given up.
const STUCK: Duration = Duration::from_secs(5);
/// Messages, or bytes, that are taken before anything else is looked at.
const BURST: usize = 64;
const BURST_BYTES: usize = 64 << 10;
/// Bytes read at once. Every read clears what it may fill, however little comes: much more than a burst has costs more
/// than it saves.
const READ_BUFFER: usize = 16 << 10;
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
    /// Frames that may wait in ingress; nobody else takes places.
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
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_message_size(Some(LARGEST))
        .max_frame_size(Some(LARGEST));
    tokio_tungstenite::client_async_with_config(url, stream, Some(config)).await.map(|(socket, _)| socket)
}

/// Serves a connection until it ends; why it did, and the close code.
pub async fn serve(mut link: Link, mut socket: Socket) -> (Cause, u16) {
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
    let mut burst = Burst::default();
    loop {
        tokio::select! {
            message = socket.next() => {
                // What has arrived by now is taken with it, has its time, and goes to the engine at once.
                burst.recv = link.clock.now();
                let mut next = Some(message);
                let mut end = None;
                let mut frames = false;
                while let Some(message) = next {
                    match link.take(message, &mut burst).await {
                        Taken::Frame => frames = true,
                        Taken::Control => {}
                        Taken::End(cause, code) => {
                            end = Some((cause, code));
                            break;
                        }
                    }
                    next = if burst.has_room() { socket.next().now_or_never() } else { None };
                }
                if frames {
                    heard = Instant::now();
                }
                if !link.deliver(&mut burst).await {
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
                if !sent(&mut socket, Message::text(text)).await {
                    return (Cause::Closed, 1006);
                }
            }
            _ = pings.tick() => {
                let ping = match link.spec.ping {
                    Ping::Text(text) if own => Message::text(text),
                    Ping::Server | Ping::Text(_) | Ping::Protocol => Message::Ping(Bytes::new()),
                };
                if !sent(&mut socket, ping).await {
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
                drop(timeout(FAREWELL, socket.send(Message::Close(Some(farewell)))).await);
                return (cause.unwrap_or(Cause::Restart), 0);
            }
        }
    }
}

/// Sends a message; `false` when the connection is broken, or takes nothing for too long.
async fn sent(socket: &mut Socket, message: Message) -> bool {
    timeout(STUCK, socket.send(message)).await.is_ok_and(|sent| sent.is_ok())
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

/// What has arrived at once.
#[derive(Default)]
struct Burst {
    frames: Frames,
    /// When.
    recv: Nanos,
    /// On its way into ingress.
    inputs: Vec<Input>,
}

impl Burst {
    fn has_room(&self) -> bool {
        self.frames.len() < BURST && self.frames.size() < BURST_BYTES
    }
}

impl Link {
    /// Puts a message with what has arrived.
    async fn take(&self, message: Option<Result<Message, SocketError>>, burst: &mut Burst) -> Taken {
        let (text, frame) = match &message {
            Some(Ok(Message::Text(text))) => (true, text.as_bytes()),
            Some(Ok(Message::Binary(bytes))) => (false, bytes.as_ref()),
            Some(Ok(Message::Close(frame))) => {
                return Taken::End(Cause::Closed, frame.as_ref().map_or(1005, |frame| frame.code.into()));
            }
            Some(Ok(_)) => return Taken::Control,
            Some(Err(_)) | None => return Taken::End(Cause::Closed, 1006),
        };
        // Only this task takes places: those that are free now still are when the burst is handed over.
        if self.places.available_permits() <= burst.frames.len() && !self.room(burst).await {
            burst.inputs.push(Input::Overflow { conn: self.conn, recv: self.clock.now() });
            return Taken::End(Cause::Error, 0);
        }
        burst.frames.push(text, frame);
        Taken::Frame
    }

    /// Waits for a place in ingress. Until there is one the socket is not read, and the venue feels it; `false` when that
    /// has lasted too long.
    async fn room(&self, burst: &mut Burst) -> bool {
        // What is held back here would hold its places for ever; the engine may rest, and only it frees places.
        self.deliver(burst).await;
        self.ingress.nudge();
        timeout(STUCK, self.places.acquire()).await.is_ok_and(|place| place.is_ok())
    }

    /// Hands over what has arrived; `false` when the engine has ended.
    async fn deliver(&self, burst: &mut Burst) -> bool {
        if !burst.frames.is_empty() {
            let count = burst.frames.len() as u32;
            let Ok(places) = Arc::clone(&self.places).acquire_many_owned(count).await else { return false };
            let (conn, recv) = (self.conn, burst.recv);
            let frames = std::mem::replace(&mut burst.frames, self.ingress.spare());
            burst.inputs.push(Input::Frames { conn, frames, recv, places });
        }
        burst.inputs.is_empty() || self.ingress.deliver(&mut burst.inputs).await
    }
}
