//! The driver: everything between a planned connection and the engine's ingress.
//!
//! It dials, watches, pings, backs off, observes quotas, asks over REST and refreshes lists, for all venues
//! alike; what differs stands in a venue's spec. Whatever it decides by clock or queue reaches the engine
//! only as an [`Input`], which becomes a record.

mod backoff;
mod clock;
mod driver;
mod endpoint;
mod external;
mod frames;
mod ingress;
mod network;
mod quota;
mod rest;
mod socket;

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use coby_core::record::{Cause, ConnId, HttpRequest, Nanos};
use coby_core::venue::ConnectionPlan;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

pub use backoff::Backoff;
pub use clock::Clock;
pub use driver::{Driver, DriverConfig, LinkState, LinkStatus, ListStatus};
pub use endpoint::Endpoints;
pub use external::{External, LARGEST, Push};
pub use frames::Frames;
pub use ingress::{Inbox, Ingress, Refused, ingress};
pub use network::{BoxStream, Connecting, Network, RealNetwork};
pub use quota::Quota;

/// What the driver brings to the engine.
#[derive(Debug)]
pub enum Input {
    /// A connection was made.
    Open {
        /// Connection.
        conn: ConnId,
        /// Venue id.
        venue: &'static str,
        /// What it carries; `None` where a connector of the user's own decides.
        plan: Option<Arc<ConnectionPlan>>,
        /// URL, secrets and all: the engine masks them.
        url: String,
        /// Ping interval, nanoseconds.
        ping: Nanos,
        /// When.
        recv: Nanos,
    },
    /// Frames arrived.
    Frames {
        /// Connection.
        conn: ConnId,
        /// What arrived at once, at least one.
        frames: Frames,
        /// When.
        recv: Nanos,
        /// Their places in the connection's ingress, free again once the frames are stepped.
        places: OwnedSemaphorePermit,
    },
    /// An HTTP answer arrived, or the request failed for good (status 0).
    Http {
        /// Venue id.
        venue: &'static str,
        /// Connection on whose behalf it was asked, 0 for none.
        conn: ConnId,
        /// What was asked.
        request: HttpRequest,
        /// Status.
        status: u16,
        /// Body, or the error's text.
        body: Vec<u8>,
        /// When.
        recv: Nanos,
    },
    /// The answer to a request for an instrument list.
    List {
        /// Venue id.
        venue: &'static str,
        /// What was asked.
        request: HttpRequest,
        /// Status.
        status: u16,
        /// Body, or the error's text.
        body: Vec<u8>,
        /// When.
        recv: Nanos,
        /// Takes how many instruments it had, or why it could not be read: only the pipeline reads lists.
        heard: oneshot::Sender<Result<usize, String>>,
    },
    /// A connection ended.
    Close {
        /// Connection.
        conn: ConnId,
        /// Why.
        cause: Cause,
        /// WebSocket close code, 0 for none.
        code: u16,
        /// When.
        recv: Nanos,
    },
    /// A connection's ingress stayed full for too long: what the venue sends meanwhile is not read.
    Overflow {
        /// Connection.
        conn: ConnId,
        /// When.
        recv: Nanos,
    },
}

/// What the engine wants of the driver.
#[derive(Debug)]
pub enum Command {
    /// Ask for the instrument lists of a venue.
    List(&'static str),
    /// Connect to these plans and keep them connected.
    Dial {
        /// Venue id.
        venue: &'static str,
        /// Plans.
        plans: Vec<ConnectionPlan>,
    },
    /// Open a connection whose frames are pushed.
    Feed {
        /// Name of the connector.
        exchange: String,
        /// Takes the connection.
        reply: SyncSender<External>,
    },
    /// Send a text frame.
    Send {
        /// Connection.
        conn: ConnId,
        /// Text.
        text: String,
    },
    /// Ask over HTTP.
    Get {
        /// Venue id.
        venue: &'static str,
        /// On behalf of.
        conn: ConnId,
        /// What.
        request: HttpRequest,
    },
    /// Close and dial anew.
    Reconnect(ConnId),
    /// Close all connections and dial anew.
    ReconnectAll,
}
