//! A naive Kraken: a book of printed texts, and its checksum letter by letter.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::exact::fixed;
use coby_io::recording::{FrameKind, RecordedFrame};

/// Price and size as printed.
pub type Printed = (String, String);

/// A book of printed levels, side 0 being bids.
#[derive(Clone, Default)]
pub struct PrintedBook {
    pub sides: [BTreeMap<i128, Printed>; 2],
}

impl PrintedBook {
    /// Sets a level; a size of zero, however printed, removes it.
    pub fn set(&mut self, side: usize, level: &Printed) {
        let price = fixed(&level.0);
        if fixed(&level.1) == 0 {
            self.sides[side].remove(&price);
        } else {
            self.sides[side].insert(price, level.clone());
        }
    }

    /// The best levels of a side, best first.
    pub fn top(&self, side: usize, count: usize) -> Vec<Printed> {
        let levels = self.sides[side].values();
        if side == 0 { levels.rev().take(count).cloned().collect() } else { levels.take(count).cloned().collect() }
    }

    /// Forgets what lies below the subscribed depth.
    pub fn truncate(&mut self, depth: usize) {
        while self.sides[0].len() > depth {
            self.sides[0].pop_first();
        }
        while self.sides[1].len() > depth {
            self.sides[1].pop_last();
        }
    }

    /// Asks low to high, then bids high to low, ten each; of every text the digits without point and
    /// leading zeros.
    pub fn checksum(&self) -> u32 {
        let mut text = String::new();
        for (price, size) in self.top(1, 10).iter().chain(&self.top(0, 10)) {
            for number in [price, size] {
                text.push_str(number.replace('.', "").trim_start_matches('0'));
            }
        }
        crc32(text.as_bytes())
    }
}

/// CRC-32 (IEEE 802.3), bit by bit.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut register = !0_u32;
    for byte in bytes {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            register = if register & 1 == 1 { register >> 1 ^ 0xedb8_8320 } else { register >> 1 };
        }
    }
    !register
}

/// One book message.
#[derive(Clone)]
pub struct Message {
    pub snapshot: bool,
    pub sides: [Vec<Printed>; 2],
    pub checksum: u32,
}

impl Message {
    /// The frame that carries it.
    pub fn frame(&self, recv_ns: i64, symbol: &str) -> RecordedFrame {
        let side = |levels: &[Printed]| {
            let levels = levels.iter().map(|(price, size)| format!(r#"{{"price":{price},"qty":{size}}}"#));
            levels.collect::<Vec<_>>().join(",")
        };
        let mut body = String::new();
        let kind = if self.snapshot { "snapshot" } else { "update" };
        write!(
            body,
            r#"{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":[{}],"asks":[{}],"checksum":{},"timestamp":"2026-08-24T22:21:57.110183Z"}}]}}"#,
            side(&self.sides[0]),
            side(&self.sides[1]),
            self.checksum
        )
        .expect("text grows");
        frame(FrameKind::Text, recv_ns, body)
    }

    /// What it makes of a book.
    pub fn apply(&self, book: &mut PrintedBook, depth: usize) {
        if self.snapshot {
            *book = PrintedBook::default();
        }
        for (side, levels) in self.sides.iter().enumerate() {
            for level in levels {
                book.set(side, level);
            }
        }
        book.truncate(depth);
    }
}

pub fn frame(kind: FrameKind, recv_ns: i64, body: String) -> RecordedFrame {
    let url = "wss://ws.kraken.com/v2".into();
    let body = body.into_bytes();
    RecordedFrame { recv_ns, kind, url, body, conn: None, method: None, status: 200, request: String::new() }
}

/// A connection and the acknowledged subscription of one book.
pub fn opening(recv_ns: i64, symbol: &str, depth: usize) -> [RecordedFrame; 2] {
    let ack = format!(
        r#"{{"method":"subscribe","result":{{"channel":"book","depth":{depth},"snapshot":true,"symbol":"{symbol}"}},"success":true,"time_in":"2026-08-24T22:21:56.724795Z","time_out":"2026-08-24T22:21:56.724853Z","req_id":1}}"#
    );
    [frame(FrameKind::Open, recv_ns, String::new()), frame(FrameKind::Text, recv_ns + 1, ack)]
}
