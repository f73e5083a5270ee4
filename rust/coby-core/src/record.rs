//! Records: everything that may influence a row, in the order in which it did.
//!
//! A live socket, a recorded tape and an import all yield records; the pipeline steps them. The tape
//! stores the header fields beside [`Body::encode`]'s bytes.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Nanoseconds since the Unix epoch, UTC.
pub type Nanos = i64;

/// A position on the tape: `run << 40 | n`; never used twice.
pub type Pos = u64;

/// A connection, new per dial; 0 where a record belongs to none.
pub type ConnId = u32;

/// How many low bits of a [`Pos`] count records inside a run.
pub const RUN_SHIFT: u32 = 40;

/// The position of record `n` of `run`.
pub fn position(run: u64, n: u64) -> Pos {
    (run << RUN_SHIFT) | n
}

/// The run that a position belongs to.
pub fn run_of(pos: Pos) -> u64 {
    pos >> RUN_SHIFT
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The venue closed.
    Closed,
    /// We closed after a session's error.
    Error,
    /// Nothing arrived for longer than the venue's policy allows.
    Silence,
    /// A planned cut: a newer connection has taken over.
    Planned,
    /// The process stopped or died while the connection was open.
    Restart,
    /// The recording ended.
    End,
    /// The tape could not be written: what the connection brought since is on no tape.
    Tape,
}

/// An HTTP request, identified by what it asks and never by an id of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HttpRequest {
    /// `GET` or `POST`.
    pub method: String,
    /// Scheme and host, empty when a recording does not tell.
    pub host: String,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// Request body, empty for GET.
    pub body: String,
}

impl HttpRequest {
    /// A GET of `path` at `host`.
    pub fn get(host: &str, path: impl Into<String>) -> Self {
        Self { method: "GET".into(), host: host.into(), path: path.into(), body: String::new() }
    }

    /// A POST of `body` to `path` at `host`.
    pub fn post(host: &str, path: impl Into<String>, body: impl Into<String>) -> Self {
        Self { method: "POST".into(), host: host.into(), path: path.into(), body: body.into() }
    }

    /// Whether `other` asks the same of the same route: recorders print JSON bodies with spaces and without.
    pub fn asks_as(&self, other: &Self) -> bool {
        let dense = |body: &str| body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<_>>();
        self.method == other.method && self.route() == other.route() && dense(&self.body) == dense(&other.body)
    }

    /// The path without its query.
    pub fn route(&self) -> &str {
        self.path.split('?').next().unwrap_or("")
    }

    /// The value of the query parameter `name`, as written.
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.path.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// What a record says. `Start` and `Config` carry JSON texts, so that a tape stays readable when
/// settings grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body<'a> {
    /// A run begins.
    Start {
        /// Version of the code that wrote the run.
        code: &'a str,
        /// `live`, `import` or `simulate`.
        origin: &'a str,
        /// The pipeline settings as JSON.
        settings: &'a str,
        /// Wall clock at the start (for an import: the first `recv_ns`).
        anchor: Nanos,
    },
    /// Subscriptions changed; JSON.
    Config(&'a str),
    /// A connection was made.
    Open {
        /// Venue id.
        venue: &'a str,
        /// The plan that was dialled, encoded; `None` for a foreign recording.
        plan: Option<&'a [u8]>,
        /// The URL, secrets masked.
        url: &'a str,
        /// Ping interval in nanoseconds; 0 where the venue names none.
        ping: i64,
    },
    /// A text frame arrived.
    Text(&'a [u8]),
    /// A binary frame arrived.
    Binary(&'a [u8]),
    /// A session's frame was sent (pings are not recorded).
    Sent(&'a [u8]),
    /// An HTTP answer arrived, or the request failed for good (status 0, body the error text).
    Http {
        /// The venue that was asked.
        venue: &'a str,
        /// Method.
        method: &'a str,
        /// Scheme and host.
        host: &'a str,
        /// Path and query.
        path: &'a str,
        /// Request body.
        request: &'a str,
        /// Status code.
        status: u16,
        /// Response body.
        body: &'a [u8],
    },
    /// A tick of the 100 ms UTC grid; its time is in the payload, when it ran in the header.
    Timer(Nanos),
    /// A connection ended.
    Close {
        /// Why.
        cause: Cause,
        /// WebSocket close code, 0 where there was none.
        code: u16,
    },
    /// Frames of this connection were lost because ingress was full.
    Overflow {
        /// How many frames.
        frames: u64,
    },
    /// The wall clock stepped by this many nanoseconds; receive times go on without a jump back.
    Clock(i64),
}

/// A record with its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Position; grows strictly.
    pub pos: Pos,
    /// Receive time; never decreases.
    pub recv: Nanos,
    /// Connection.
    pub conn: ConnId,
    /// Number of the source frame, from 1, in an imported run; 0 elsewhere.
    pub source: u64,
    /// Content.
    pub body: Body<'a>,
}

/// A record's payload could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("record of kind {kind} has a payload that this version cannot read")]
pub struct RecordError {
    /// The kind byte.
    pub kind: u8,
}

/// Frames are stored raw under kinds of their own; everything else is small and goes through serde.
const KIND_TEXT: u8 = 1;
const KIND_BINARY: u8 = 2;
const KIND_SENT: u8 = 3;
/// The kind byte of everything that is no frame.
pub const KIND_OTHER: u8 = 4;

impl<'a> Body<'a> {
    /// Appends the payload to `out` and returns the kind byte that goes with it.
    pub fn encode(&self, out: &mut Vec<u8>) -> u8 {
        let (kind, bytes) = match self {
            Self::Text(bytes) => (KIND_TEXT, *bytes),
            Self::Binary(bytes) => (KIND_BINARY, *bytes),
            Self::Sent(bytes) => (KIND_SENT, *bytes),
            other => {
                // Plain data into a growing vector: this cannot fail.
                out.extend(postcard::to_extend(other, Vec::new()).unwrap_or_default());
                return KIND_OTHER;
            }
        };
        out.extend_from_slice(bytes);
        kind
    }

    /// Reads a payload of `kind`.
    pub fn decode(kind: u8, payload: &'a [u8]) -> Result<Self, RecordError> {
        match kind {
            KIND_TEXT => Ok(Self::Text(payload)),
            KIND_BINARY => Ok(Self::Binary(payload)),
            KIND_SENT => Ok(Self::Sent(payload)),
            KIND_OTHER => postcard::from_bytes(payload).map_err(|_| RecordError { kind }),
            _ => Err(RecordError { kind }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_survive_their_encoding() {
        let bodies = [
            Body::Start { code: "v", origin: "import", settings: "{}", anchor: 5 },
            Body::Config("{}"),
            Body::Open { venue: "kraken", plan: Some(b"p"), url: "wss://x", ping: 0 },
            Body::Text(b"{}"),
            Body::Binary(&[0, 255]),
            Body::Sent(b"s"),
            Body::Http { venue: "v", method: "GET", host: "h", path: "/p?a=1", request: "", status: 200, body: b"{}" },
            Body::Timer(-1),
            Body::Close { cause: Cause::Silence, code: 1006 },
            Body::Overflow { frames: 3 },
            Body::Clock(-9),
        ];
        for body in bodies {
            let mut bytes = Vec::new();
            let kind = body.encode(&mut bytes);
            assert_eq!(Body::decode(kind, &bytes), Ok(body));
        }
        assert_eq!(Body::decode(200, b""), Err(RecordError { kind: 200 }));
    }

    #[test]
    fn spaces_in_a_body_ask_nothing_else() {
        let asked = HttpRequest::post("https://h", "/info", r#"{"type":"meta"}"#);
        let recorded = |path: &str, body: &str| HttpRequest::post("", path, body);
        assert!(asked.asks_as(&recorded("/info?x=1", r#"{"type": "meta"}"#)));
        assert!(!asked.asks_as(&recorded("/info", r#"{"type": "spotMeta"}"#)));
        assert!(!asked.asks_as(&recorded("/other", r#"{"type":"meta"}"#)));
        assert!(!asked.asks_as(&HttpRequest::get("https://h", "/info")));
    }

    #[test]
    fn a_request_knows_its_route_and_query() {
        let request = HttpRequest::get("https://h", "/depth?symbol=BTCUSDT&limit=1000");
        assert_eq!(request.route(), "/depth");
        assert_eq!(request.query("limit"), Some("1000"));
        assert_eq!(request.query("lim"), None);
    }
}
