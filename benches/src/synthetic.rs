//! Recordings for where there are no captures: a made-up market with a fixed seed, in each venue's own spelling.

use coby_core::level::Side;
use coby_io::recording::{FrameKind, RecordedFrame};

/// Instruments of a recording.
const INSTRUMENTS: usize = 4;
/// Levels a side.
const DEPTH: i64 = 1_000;
/// Book messages.
const MESSAGES: i64 = 2_000;
/// Levels a side of a message.
const CHANGES: usize = 4;

/// A generator with a fixed seed (xorshift64*, Vigna 2016): every run measures the same changes.
pub struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }
}

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number from 0 up to, not including, `end`.
    pub fn below(&mut self, end: i64) -> i64 {
        (self.next() >> 1) as i64 % end
    }

    /// How far from the touch a change is: halves every 8 ticks for near changes, which is what venues send.
    pub fn near(&mut self) -> i64 {
        i64::from(self.next().trailing_zeros()) * 8 + self.below(8)
    }
}

/// One book message, before it is spelled.
struct Message {
    instrument: usize,
    snapshot: bool,
    /// Its number and that of the one before it.
    number: i64,
    previous: i64,
    /// Milliseconds.
    time: i64,
    bids: Vec<(String, String)>,
    asks: Vec<(String, String)>,
}

fn level(side: Side, instrument: usize, offset: i64, random: &mut Random) -> (String, String) {
    let mid = 60_000 * (1 + instrument as i64);
    let price = if side == Side::Bid { mid - 1 - offset } else { mid + 1 + offset };
    let size = if random.below(5) < 4 { 1 + random.below(1_000_000) } else { 0 };
    (format!("{}.{:02}", price / 100, price % 100), format!("{}.{:03}", size / 1_000, size % 1_000))
}

fn rows(levels: &[(String, String)], behind: &str) -> String {
    let rows: Vec<String> = levels.iter().map(|(price, size)| format!(r#"["{price}","{size}"{behind}]"#)).collect();
    format!("[{}]", rows.join(","))
}

fn spelled(venue: &str, message: &Message) -> RecordedFrame {
    let Message { instrument, snapshot, number, previous, time, bids, asks } = message;
    let first = previous + 1;
    let base = ["BTC", "ETH", "SOL", "XRP"][*instrument];
    let (kind, url, body) = match (venue, *snapshot) {
        ("binance_futures", true) => (
            FrameKind::Http,
            format!("https://fapi.binance.com/fapi/v1/depth?symbol={base}USDT&limit=1000"),
            format!(
                r#"{{"lastUpdateId":{number},"E":{time},"T":{time},"bids":{},"asks":{}}}"#,
                rows(bids, ""),
                rows(asks, "")
            ),
        ),
        ("binance_futures", false) => (
            FrameKind::Text,
            "wss://fstream.binance.com/stream".into(),
            format!(
                concat!(
                    r#"{{"stream":"{}usdt@depth@100ms","data":{{"e":"depthUpdate","E":{},"T":{},"s":"{}USDT","#,
                    r#""U":{},"u":{},"pu":{},"b":{},"a":{}}}}}"#
                ),
                base.to_lowercase(),
                time,
                time,
                base,
                first,
                number,
                previous,
                rows(bids, ""),
                rows(asks, "")
            ),
        ),
        ("coinbase", true) => (
            FrameKind::Text,
            "wss://ws-feed.exchange.coinbase.com".into(),
            format!(
                r#"{{"type":"snapshot","product_id":"{base}-USD","asks":{},"bids":{}}}"#,
                rows(asks, ""),
                rows(bids, "")
            ),
        ),
        ("coinbase", false) => {
            let side = |name: &str, levels: &[(String, String)]| -> Vec<String> {
                levels.iter().map(|(price, size)| format!(r#"["{name}","{price}","{size}"]"#)).collect()
            };
            let changes = [side("buy", bids), side("sell", asks)].concat().join(",");
            let (second, millisecond) = (time / 1_000 % 60, time % 1_000);
            (
                FrameKind::Text,
                "wss://ws-feed.exchange.coinbase.com".into(),
                format!(
                    concat!(
                        r#"{{"type":"l2update","product_id":"{}-USD","changes":[{}],"#,
                        r#""time":"2023-11-14T22:13:{:02}.{:03}000Z"}}"#
                    ),
                    base, changes, second, millisecond
                ),
            )
        }
        ("kucoin", true) => (
            FrameKind::Http,
            format!("https://api.kucoin.com/api/v3/market/orderbook/level2?symbol={base}-USDT"),
            format!(
                r#"{{"code":"200000","data":{{"time":{time},"sequence":"{number}","bids":{},"asks":{}}}}}"#,
                rows(bids, ""),
                rows(asks, "")
            ),
        ),
        ("kucoin", false) => {
            let behind = format!(r#","{number}""#);
            (
                FrameKind::Text,
                "wss://ws-api-spot.kucoin.com/".into(),
                format!(
                    concat!(
                        r#"{{"data":{{"sequenceStart":{},"symbol":"{}-USDT","changes":{{"asks":{},"bids":{}}},"#,
                        r#""sequenceEnd":{}}},"subject":"trade.l2update","topic":"/market/level2:{}-USDT","type":"message"}}"#
                    ),
                    first,
                    base,
                    rows(asks, &behind),
                    rows(bids, &behind),
                    number,
                    base
                ),
            )
        }
        ("binance", true) => (
            FrameKind::Http,
            format!("https://api.binance.com/api/v3/depth?symbol={base}USDT&limit=5000"),
            format!(r#"{{"lastUpdateId":{number},"bids":{},"asks":{}}}"#, rows(bids, ""), rows(asks, "")),
        ),
        ("binance", false) => (
            FrameKind::Text,
            "wss://stream.binance.com:9443/stream".into(),
            format!(
                concat!(
                    r#"{{"stream":"{}usdt@depth@100ms","data":{{"e":"depthUpdate","E":{},"s":"{}USDT","#,
                    r#""U":{},"u":{},"b":{},"a":{}}}}}"#
                ),
                base.to_lowercase(),
                time,
                base,
                first,
                number,
                rows(bids, ""),
                rows(asks, "")
            ),
        ),
        ("bybit", _) => (
            FrameKind::Text,
            "wss://stream.bybit.com/v5/public/spot".into(),
            format!(
                concat!(
                    r#"{{"topic":"orderbook.1000.{}USDT","ts":{},"type":"{}","data":{{"s":"{}USDT","b":{},"a":{},"#,
                    r#""u":{},"seq":{}}},"cts":{}}}"#
                ),
                base,
                time + 2,
                if *snapshot { "snapshot" } else { "delta" },
                base,
                rows(bids, ""),
                rows(asks, ""),
                // Its numbers grow by one, and 1 would be a snapshot.
                1_000 + number / CHANGES as i64,
                number,
                time
            ),
        ),
        ("okx", _) => (
            FrameKind::Text,
            "wss://ws.okx.com:8443/ws/v5/public".into(),
            format!(
                concat!(
                    r#"{{"arg":{{"channel":"books","instId":"{}-USDT"}},"action":"{}","data":[{{"asks":{},"bids":{},"#,
                    r#""ts":"{}","checksum":0,"seqId":{},"prevSeqId":{}}}]}}"#
                ),
                base,
                if *snapshot { "snapshot" } else { "update" },
                rows(asks, r#","0","3""#),
                rows(bids, r#","0","3""#),
                time,
                number,
                if *snapshot { -1 } else { *previous }
            ),
        ),
        (_, true) => (
            FrameKind::Http,
            format!("https://www.bitstamp.net/api/v2/order_book/{}usd/?group=1", base.to_lowercase()),
            format!(
                r#"{{"timestamp":"{}","microtimestamp":"{}000","bids":{},"asks":{}}}"#,
                time / 1_000,
                time,
                rows(bids, ""),
                rows(asks, "")
            ),
        ),
        (_, false) => (
            FrameKind::Text,
            "wss://ws.bitstamp.net/".into(),
            format!(
                concat!(
                    r#"{{"data":{{"timestamp":"{}","microtimestamp":"{}000","bids":{},"asks":{}}},"#,
                    r#""channel":"diff_order_book_{}usd","event":"data"}}"#
                ),
                time / 1_000,
                time,
                rows(bids, ""),
                rows(asks, ""),
                base.to_lowercase()
            ),
        ),
    };
    frame(kind, url, body, *time)
}

fn frame(kind: FrameKind, url: String, body: String, time: i64) -> RecordedFrame {
    RecordedFrame {
        recv_ns: time * 1_000_000,
        kind,
        url,
        body: body.into_bytes(),
        conn: Some("1".into()),
        method: None,
        status: 200,
        request: String::new(),
    }
}

/// The venues whose spelling is known here.
const VENUES: [&str; 7] = ["binance_futures", "coinbase", "kucoin", "bitstamp", "binance", "bybit", "okx"];

/// A recording of `venue`, if its spelling is known: per instrument an old change and a snapshot, then changes near the touch.
pub fn recording(venue: &str) -> Option<Vec<RecordedFrame>> {
    VENUES.contains(&venue).then(|| long_recording(venue, MESSAGES))
}

/// The same with so many book messages.
pub fn long_recording(venue: &str, messages: i64) -> Vec<RecordedFrame> {
    let mut random = Random::default();
    let mut numbers = [1; INSTRUMENTS];
    let mut time = 1_700_000_000_000;
    let url = spelled(
        venue,
        &Message { instrument: 0, snapshot: false, number: 0, previous: 0, time, bids: Vec::new(), asks: Vec::new() },
    )
    .url;
    let mut frames = vec![frame(FrameKind::Open, url, String::new(), time)];
    let first = (0..INSTRUMENTS).flat_map(|instrument| [(instrument, false), (instrument, true)]);
    let later = (0..messages).map(|n| (n as usize % INSTRUMENTS, false));
    for (instrument, snapshot) in first.chain(later) {
        time += 10;
        let mut side = |side| -> Vec<_> {
            if snapshot {
                return (0..DEPTH).map(|offset| level(side, instrument, offset, &mut random)).collect();
            }
            let mut offsets = [0; CHANGES].map(|_: i64| random.near());
            offsets.sort_unstable();
            offsets.map(|offset| level(side, instrument, offset, &mut random)).to_vec()
        };
        let (bids, asks) = (side(Side::Bid), side(Side::Ask));
        let previous = numbers[instrument];
        // A snapshot stands at the number of the change before it.
        let number = if snapshot { previous } else { previous + CHANGES as i64 };
        numbers[instrument] = number;
        frames.push(spelled(venue, &Message { instrument, snapshot, number, previous, time, bids, asks }));
    }
    frames
}
