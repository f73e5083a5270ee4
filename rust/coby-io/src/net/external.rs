//! Frames that no socket brings: a connector of the user's own hands them over, from any thread.

use std::sync::{Arc, Mutex};

use coby_core::record::{Cause, ConnId};
use coby_venues::external::{ID, instruments_of};
use tokio::sync::Semaphore;

use super::Input;
use super::driver::{Shared, locked};
use super::ingress::Refused;

/// The largest frame or list taken, bytes: what a socket takes too.
pub const LARGEST: usize = 64 << 20;

/// What has become of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// The engine has it.
    Taken,
    /// Too many wait: nothing was taken, and it has to be pushed again later.
    Full,
    /// The connection has ended, and takes nothing more.
    Ended,
    /// It is larger than [`LARGEST`].
    TooLong,
}

/// A connection whose frames are pushed. It ends when it is closed or dropped, when the engine wants its books to start
/// again, and with the engine.
pub struct External {
    pub(super) conn: ConnId,
    pub(super) exchange: String,
    pub(super) shared: Arc<Shared>,
    pub(super) places: Arc<Semaphore>,
    /// Whether it still takes frames; held while one is handed over, so that none comes behind the end.
    pub(super) open: Arc<Mutex<bool>>,
}

impl External {
    /// Hands over a frame.
    pub fn push(&self, text: &str) -> Push {
        self.hand_over(text, |text| {
            let places = Arc::clone(&self.places).try_acquire_owned().ok()?;
            let mut frames = self.shared.ingress.spare();
            frames.push(true, text.as_bytes());
            Some(Input::Frames { conn: self.conn, frames, recv: self.shared.config.clock.now(), places })
        })
    }

    /// Hands over a list of instruments, JSON.
    pub fn instruments(&self, text: &str) -> Push {
        self.hand_over(text, |text| {
            let (request, body) = (instruments_of(&self.exchange), text.as_bytes().to_vec());
            let recv = self.shared.config.clock.now();
            Some(Input::Http { venue: ID, conn: 0, request, status: 200, body, recv })
        })
    }

    fn hand_over(&self, text: &str, input: impl FnOnce(&str) -> Option<Input>) -> Push {
        if text.len() > LARGEST {
            return Push::TooLong;
        }
        let open = locked(&self.open);
        if !*open {
            return Push::Ended;
        }
        let Some(input) = input(text) else {
            // The engine may rest, and only it makes room.
            self.shared.ingress.nudge();
            return Push::Full;
        };
        match self.shared.ingress.push(&mut vec![input]) {
            Ok(()) => Push::Taken,
            Err(Refused::Full) => Push::Full,
            Err(Refused::Gone) => Push::Ended,
        }
    }

    /// Whether it takes nothing more.
    pub fn ended(&self) -> bool {
        !*locked(&self.open)
    }

    /// Ends it; again is harmless.
    pub fn close(&self) {
        *locked(&self.open) = false;
        self.shared.end(self.conn, Cause::Closed);
    }
}

impl Drop for External {
    fn drop(&mut self) {
        self.close();
    }
}
