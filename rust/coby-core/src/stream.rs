//! The keeper of a stream of trades or candles: ownership, duplicates, running numbers, gaps.

use std::collections::{HashSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::event::{GapCause, Observer};
use crate::instrument::FixedState;
use crate::keeper::{Env, OpenGap};
use crate::record::{ConnId, Nanos};
use crate::time::SECOND;
use crate::venue::Channel;

/// Trade ids that are remembered per instrument.
const REMEMBERED: usize = 4_096;

/// One instrument's trades or candles.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stream {
    conn: ConnId,
    feed: u8,
    /// The running number of the last trade.
    last: Option<i64>,
    good: Nanos,
    gap: Option<OpenGap>,
    /// When a newer connection last took over.
    taken: Nanos,
}

/// How long the connection that was replaced may still bring what the newer one was too late for.
const OVERLAP: Nanos = 10 * SECOND;

impl Stream {
    /// Whether this is the feed of a connection that was replaced just now: whatever the newer one has not brought
    /// came before that was subscribed.
    #[inline]
    pub fn outlives(&self, conn: ConnId, feed: u8, recv: Nanos) -> bool {
        conn < self.conn && feed == self.feed && recv - self.taken <= OVERLAP
    }

    pub fn conn(&self) -> ConnId {
        self.conn
    }

    /// Whether an item of this connection and feed counts; a newer connection or a better feed takes over.
    #[inline]
    pub fn accepts<O: Observer>(&mut self, channel: Channel, conn: ConnId, feed: u8, env: &mut Env<'_, O>) -> bool {
        if (conn, feed) != (self.conn, self.feed) {
            let better = self.conn == 0 || conn > self.conn || conn == self.conn && feed < self.feed;
            if !better {
                env.counts.stale += 1;
                return false;
            }
            if feed != self.feed {
                self.last = None;
            }
            if conn != self.conn {
                self.taken = env.at.recv;
            }
            (self.conn, self.feed) = (conn, feed);
        }
        if let Some(gap) = self.gap.take() {
            env.close(channel, gap);
            self.last = None;
        }
        true
    }

    /// An item has come, and everything before it is accounted for.
    #[inline]
    pub fn good(&mut self, recv: Nanos) {
        self.good = recv;
    }

    /// The venue has confirmed the subscription: the stream is whole from here on.
    pub fn subscribed<O: Observer>(&mut self, channel: Channel, conn: ConnId, feed: u8, env: &mut Env<'_, O>) {
        if self.conn == 0 || conn > self.conn {
            self.accepts(channel, conn, feed, env);
            self.good(env.at.recv);
        }
    }

    /// Checks a trade's running number.
    #[inline]
    pub fn number<O: Observer>(&mut self, number: i64, env: &mut Env<'_, O>) {
        if let Some(last) = self.last {
            if number > last.saturating_add(1) {
                let evidence = format!("after {last} came {number}");
                let gap = env.open(Channel::Trades, GapCause::Sequence, self.good, &evidence);
                env.close(Channel::Trades, gap);
            }
            if number <= last {
                return;
            }
        }
        self.last = Some(number);
    }

    /// The stream's connection is lost or its data may be incomplete.
    pub fn lose<O: Observer>(&mut self, channel: Channel, cause: GapCause, evidence: &str, env: &mut Env<'_, O>) {
        if self.gap.is_none() && self.conn != 0 {
            self.gap = Some(env.open(channel, cause, self.good, evidence));
        }
    }

    /// A connection has ended.
    pub fn closed<O: Observer>(&mut self, channel: Channel, conn: ConnId, cause: GapCause, env: &mut Env<'_, O>) {
        if self.conn == conn {
            self.lose(channel, cause, "the connection ended", env);
            self.conn = 0;
        }
    }
}

/// The last trade ids of one instrument.
///
/// An id of up to 15 bytes is remembered exactly; a longer one by 128 bits that depend on all of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "VecDeque<u128>", into = "VecDeque<u128>")]
pub(crate) struct RecentIds {
    order: VecDeque<u128>,
    known: HashSet<u128, FixedState>,
}

impl From<VecDeque<u128>> for RecentIds {
    fn from(order: VecDeque<u128>) -> Self {
        let known = order.iter().copied().collect();
        Self { order, known }
    }
}

impl From<RecentIds> for VecDeque<u128> {
    fn from(recent: RecentIds) -> Self {
        recent.order
    }
}

impl RecentIds {
    /// Remembers `id`; `false` when it was there.
    #[inline]
    pub fn insert(&mut self, id: &[u8]) -> bool {
        let id = compact(id);
        if !self.known.insert(id) {
            return false;
        }
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(id);
        true
    }
}

#[inline]
fn compact(id: &[u8]) -> u128 {
    if id.len() <= 15 {
        let bytes = id.iter().fold(0, |word: u128, byte| word << 8 | u128::from(*byte));
        return bytes | (id.len() as u128) << 120;
    }
    xxhash_rust::xxh3::xxh3_128(id) | 0xff << 120
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn remembers_the_last_ids(ids in prop::collection::vec("[0-9a-f]{1,2}|[0-9a-f]{16,17}", 0..300)) {
            let mut recent = RecentIds::default();
            let mut naive: Vec<String> = Vec::new();
            for id in ids {
                prop_assert_eq!(recent.insert(id.as_bytes()), !naive.contains(&id));
                if !naive.contains(&id) {
                    naive.push(id);
                }
            }
        }
    }

    #[test]
    fn forgets_the_oldest() {
        let mut recent = RecentIds::default();
        for id in 0..=REMEMBERED {
            assert!(recent.insert(id.to_string().as_bytes()));
        }
        assert!(recent.insert(b"0"));
        assert!(!recent.insert(REMEMBERED.to_string().as_bytes()));
        let mut copy = RecentIds::from(VecDeque::from(recent));
        assert!(!copy.insert(b"0"));
    }
}
