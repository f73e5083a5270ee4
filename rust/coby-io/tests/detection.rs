//! Lost frames and altered levels: what a venue's protocol can prove is noticed at once, and what it cannot
//! prove is not claimed.

#![allow(clippy::expect_used, reason = "a test may panic")]

mod support;

use coby_core::keeper::{Keeper, State};
use coby_core::rows::{Cut, Table};
use coby_core::venue::Channel;
use coby_io::recording::{FrameKind, RecordedFrame};

use support::Random;
use support::exact::raise;
use support::kraken::{Message, Printed, PrintedBook, opening};
use support::naive::NaiveVenue;
use support::replay::Replay;
use support::rows::rows;

/// The connection's opening, and the frames about one instrument's book.
fn frames_of(venue: &str, frames: &[RecordedFrame], native: &str) -> Vec<RecordedFrame> {
    let mut naive = NaiveVenue::new(venue);
    let about = |frame: &&RecordedFrame| {
        frame.kind == FrameKind::Open || naive.frame(frame).is_some_and(|about| about == native)
    };
    frames.iter().filter(about).cloned().collect()
}

fn natives(venue: &str, frames: &[RecordedFrame]) -> Vec<String> {
    let mut naive = NaiveVenue::new(venue);
    for frame in frames {
        naive.frame(frame);
    }
    naive.instruments.into_keys().collect()
}

/// Replays `frames` without the one at `lost`, beside the naive reader, until either finds a hole; tells how
/// many frames later it was found, `None` when it never was.
fn notices(venue: &str, frames: &[RecordedFrame], lost: usize, native: &str) -> Option<usize> {
    let (mut replay, mut naive) = (Replay::new(venue), NaiveVenue::new(venue));
    for (number, frame) in frames.iter().enumerate().filter(|(number, _)| *number != lost) {
        naive.frame(frame);
        replay.frame(frame);
        let broken = naive.instruments.get(native).is_some_and(|naive| naive.broken);
        let opened: Vec<_> = replay.watch.gaps.iter().map(|gap| (gap.channel, gap.cause, gap.opened)).collect();
        let at = format!("{venue} {native} without frame {lost}, at frame {number}");
        if broken {
            assert!(
                matches!(opened[..], [(Channel::Book, "sequence" | "join", true)]),
                "{at}: a hole, and the gaps are {opened:?}"
            );
            assert_ne!(replay.keeper(native).map(Keeper::state), Some(State::Live), "{at}");
            return Some(number - lost);
        }
        assert_eq!(opened, [], "{at}: no hole");
    }
    None
}

/// Loses one book message at a time, some of every instrument; each one that the book needs must be missed by
/// the next message of that book.
fn lost_frames(venue: &str) {
    let Some(frames) = support::capture(venue) else { return };
    let mut random = Random(7);
    let (mut needed, mut contained) = (0, 0);
    for native in natives(venue, &frames) {
        let frames = frames_of(venue, &frames, &native);
        let is_delta = |index: usize| frames[index].kind == FrameKind::Text;
        // The last message is followed by none, so its loss is no business of the sequence.
        let deltas: Vec<usize> = (0..frames.len() - 1).filter(|index| is_delta(*index)).collect();
        if !frames.iter().any(|frame| frame.kind == FrameKind::Http) || deltas.is_empty() {
            continue;
        }
        let mut choice: Vec<usize> = (0..40).map(|_| deltas[random.below(deltas.len())]).collect();
        // Those around the snapshot, and the last one that is followed by another.
        let snapshot = frames.iter().position(|frame| frame.kind == FrameKind::Http).expect("looked for above");
        choice.extend(deltas.iter().filter(|delta| delta.abs_diff(snapshot) <= 6));
        choice.extend(deltas.last());
        for lost in choice {
            if let Some(later) = notices(venue, &frames, lost, &native) {
                // Between two deltas only the snapshot may stand; deltas before it wait for it.
                assert!(later == 1 || lost < snapshot, "{venue} {native}: frame {lost} missed {later} later");
                needed += 1;
            } else {
                assert!(contained_in_snapshot(venue, &frames, lost, &native), "{native}: frame {lost} not missed");
                contained += 1;
            }
        }
    }
    assert!(needed > 100, "only {needed} losses were tried");
    println!("{venue}: {needed} lost messages noticed, {contained} were contained in the snapshot");
}

/// Whether the naive book is the same without the message.
fn contained_in_snapshot(venue: &str, frames: &[RecordedFrame], lost: usize, native: &str) -> bool {
    let book = |skip: Option<usize>| {
        let mut naive = NaiveVenue::new(venue);
        let kept = frames.iter().enumerate().filter(|(number, _)| Some(*number) != skip);
        kept.for_each(|(_, frame)| drop(naive.frame(frame)));
        naive.instruments.remove(native).and_then(|naive| naive.book)
    };
    book(None) == book(Some(lost))
}

#[test]
fn a_lost_frame_of_binance_futures_is_missed() {
    lost_frames("binance_futures");
}

#[test]
fn a_lost_frame_of_kucoin_is_missed() {
    lost_frames("kucoin");
}

/// The proofs that the rows of books carry.
fn proofs(cut: &Cut) -> Vec<String> {
    let tables: [&dyn Table; 4] = [&cut.tops, &cut.book_snapshots, &cut.price_buckets, &cut.heatmap_columns];
    let mut found: Vec<String> = Vec::new();
    for table in tables {
        assert!(!table.is_empty(), "{} has no rows", table.name());
        found.extend(rows(cut, table, ["proof"]).into_iter().map(|[proof]| proof.text().to_owned()));
    }
    found.sort();
    found.dedup();
    found
}

#[test]
fn rows_say_what_their_feed_can_prove() {
    for (venue, proof) in
        [("binance_futures", "sequence"), ("kucoin", "sequence"), ("coinbase", "none"), ("bitstamp", "none")]
    {
        let Some(frames) = support::capture(venue) else { return };
        let mut replay = Replay::new(venue);
        replay.frames(&frames);
        assert_eq!(proofs(&replay.pipeline.cut().expect("records were stepped")), [proof], "{venue}");
    }
}

/// Coinbase and Bitstamp number nothing: a lost message stays unnoticed, so nothing is claimed.
#[test]
fn what_cannot_be_proved_is_not_claimed() {
    for venue in ["coinbase", "bitstamp"] {
        let Some(frames) = support::capture(venue) else { return };
        let mut naive = NaiveVenue::new(venue);
        let about: Vec<Option<String>> = frames.iter().map(|frame| naive.frame(frame)).collect();
        // Snapshots stand at the beginning; what follows about a book are deltas.
        let is_delta = |index: &usize| about[*index].is_some() && frames[*index].kind == FrameKind::Text;
        let lost = (frames.len() / 2..frames.len()).find(is_delta).expect("there are deltas");
        let native = about[lost].clone().expect("it is about a book");
        let mut replay = Replay::new(venue);
        replay.frames(&frames[..lost]);
        replay.frames(&frames[lost + 1..]);
        assert_eq!(replay.watch.gaps, [], "{venue}");
        assert_eq!(replay.keeper(&native).map(Keeper::state), Some(State::Live), "{venue}");
        assert_eq!(proofs(&replay.pipeline.cut().expect("records were stepped")), ["none"], "{venue}");
    }
}

const SYMBOL: &str = "BTC/USD";
const START: i64 = 1_787_610_117_000_000_000;

fn printed(levels: &str) -> Vec<Printed> {
    let pair = |level: &str| {
        let (price, size) = level.trim().split_once(' ').expect("price and size");
        (price.to_owned(), size.to_owned())
    };
    levels.split('|').map(pair).collect()
}

/// Kraken's live values of 2026-08-24: a snapshot of depth 10 and three updates.
fn vector() -> Vec<Message> {
    let asks = "78871.6 4.21103066|78872.2 0.41892437|78872.5 0.08877452|78873.7 0.64976822|78875.5 0.63391066|\
                78876.2 0.02287157|78877.2 0.00810675|78877.8 0.65087492|78877.9 1.89408049|78878.0 4.52243185";
    let bids = "78871.5 0.01266503|78868.4 0.00005100|78867.3 0.00059789|78865.8 0.00030000|78865.7 0.01532403|\
                78864.5 0.00005100|78860.6 0.04618528|78860.5 0.00005100|78859.2 0.20128607|78858.8 0.63404462";
    let update = |bids: &str, checksum| Message { snapshot: false, sides: [printed(bids), Vec::new()], checksum };
    vec![
        Message { snapshot: true, sides: [printed(bids), printed(asks)], checksum: 1_406_471_562 },
        update("78858.8 0.00000000|78857.0 0.34775324", 2_416_540_570),
        update("78859.2 0.01378631", 2_136_263_304),
        update("78859.2 0.00000000|78856.8 0.60870868", 2_126_323_084),
    ]
}

/// Steps the messages beside a book of texts until a checksum is wrong. The message at which the book of
/// texts misses its checksum must be the one at which the gap opens, and until then the books are equal.
fn kraken(messages: &[Message], depth: usize) -> Option<usize> {
    let (mut replay, mut naive) = (Replay::new("kraken"), PrintedBook::default());
    replay.frames(&opening(START, SYMBOL, depth));
    for (number, message) in messages.iter().enumerate() {
        message.apply(&mut naive, depth);
        replay.frame(&message.frame(START + 1_000_000 * (number as i64 + 1), SYMBOL));
        let keeper = replay.keeper(SYMBOL).expect("the symbol was named");
        let gaps: Vec<_> = replay.watch.gaps.iter().map(|gap| (gap.channel, gap.cause, gap.opened)).collect();
        assert_eq!(replay.watch.errors, <[String; 0]>::default());
        if naive.checksum() != message.checksum {
            assert_eq!(gaps, [(Channel::Book, "checksum", true)], "message {number} is wrong");
            assert_ne!(keeper.state(), State::Live);
            return Some(number);
        }
        assert_eq!((keeper.state(), gaps), (State::Live, Vec::new()), "message {number} is right");
        let book = keeper.book();
        for (side, expected) in [coby_core::level::Side::Bid, coby_core::level::Side::Ask].into_iter().zip(0..) {
            let level = |level: coby_core::level::Level| {
                (raise(level.price, book.price_scale()), raise(level.size, book.size_scale()))
            };
            let fixed = |(price, size): Printed| (support::exact::fixed(&price), support::exact::fixed(&size));
            let expected: Vec<_> = naive.top(expected, usize::MAX).into_iter().map(fixed).collect();
            assert_eq!(book.levels(side).map(level).collect::<Vec<_>>(), expected, "message {number} {side:?}");
        }
        assert_eq!(replay.watch.checksums, [0, number as u64 + 1], "every message carries one");
    }
    let cut = replay.pipeline.cut().expect("records were stepped");
    let proofs: Vec<_> = rows(&cut, &cut.tops, ["proof"]).into_iter().map(|[proof]| proof.text().to_owned()).collect();
    assert!(!proofs.is_empty() && proofs.iter().all(|proof| proof == "checksum"), "{proofs:?}");
    None
}

/// All texts that differ from `text` in one digit.
fn other_digits(text: &str) -> impl Iterator<Item = String> + '_ {
    let places = text.char_indices().filter(|(_, digit)| digit.is_ascii_digit());
    places.flat_map(move |(place, digit)| {
        let others = ('0'..='9').filter(move |other| *other != digit);
        others.map(move |other| format!("{}{other}{}", &text[..place], &text[place + 1..]))
    })
}

#[test]
fn kraken_s_own_checksums_are_right_and_any_other_digit_is_noticed() {
    let messages = vector();
    assert_eq!(kraken(&messages, 10), None);
    let mut tried = 0;
    for number in 0..messages.len() {
        for side in 0..2 {
            for place in 0..messages[number].sides[side].len() {
                let (price, size) = messages[number].sides[side][place].clone();
                let prices = other_digits(&price).map(|price| (price, size.clone()));
                let sizes = other_digits(&size).map(|size| (price.clone(), size));
                for altered in prices.chain(sizes) {
                    let mut messages = messages.clone();
                    messages[number].sides[side][place] = altered.clone();
                    assert_eq!(kraken(&messages, 10), Some(number), "message {number}: {price} {size} as {altered:?}");
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 2_000, "only {tried} alterations were tried");
}

/// The venue's side of a random market: a deep book, of which a subscriber sees the best levels.
struct Market {
    random: Random,
    whole: PrintedBook,
    depth: usize,
    decimals: [usize; 2],
}

impl Market {
    fn new(seed: u64, depth: usize) -> Self {
        let mut random = Random(seed);
        let decimals = [random.below(6), random.below(9)];
        let mut market = Self { random, whole: PrintedBook::default(), depth, decimals };
        for side in 0..2 {
            // Some markets have fewer than ten levels a side.
            let levels = [5, depth + 30][market.random.below(2)];
            for _ in 0..levels {
                market.change(side);
            }
        }
        market
    }

    fn print(mantissa: usize, decimals: usize) -> String {
        let digits = format!("{mantissa:0>width$}", width = decimals + 1);
        let (whole, fraction) = digits.split_at(digits.len() - decimals);
        if decimals == 0 { whole.into() } else { format!("{whole}.{fraction}") }
    }

    fn change(&mut self, side: usize) {
        let distance = 1 + self.random.below(2 * self.depth + 40);
        let price = if side == 0 { 50_000 - distance } else { 50_000 + distance };
        let size = if self.random.below(3) == 0 { 0 } else { 1 + self.random.below(100_000_000) };
        let level = (Self::print(price, self.decimals[0]), Self::print(size, self.decimals[1]));
        self.whole.set(side, &level);
    }

    fn seen(&self) -> [Vec<Printed>; 2] {
        [0, 1].map(|side| self.whole.top(side, self.depth))
    }

    fn snapshot(&self) -> Message {
        Message { snapshot: true, sides: self.seen(), checksum: self.whole.checksum() }
    }

    fn update(&mut self) -> Message {
        loop {
            let before = self.seen();
            for _ in 0..=self.random.below(6) {
                let side = self.random.below(2);
                self.change(side);
            }
            let after = self.seen();
            let mut sides = [Vec::new(), Vec::new()];
            for side in 0..2 {
                for level in &before[side] {
                    // A level pushed out of scope is not told; one that is gone is.
                    if !self.whole.sides[side].values().any(|left| left.0 == level.0) {
                        let zero = Self::print(0, self.decimals[1]);
                        sides[side].push((level.0.clone(), zero));
                    }
                }
                sides[side].extend(after[side].iter().filter(|level| !before[side].contains(level)).cloned());
            }
            if sides.iter().any(|side| !side.is_empty()) {
                return Message { snapshot: false, sides, checksum: self.whole.checksum() };
            }
        }
    }
}

#[test]
fn kraken_keeps_random_markets_and_notices_alterations_and_losses() {
    let mut found = [0; 2];
    for seed in 0..300 {
        let depth = [10, 25, 100][seed as usize % 3];
        let mut market = Market::new(seed, depth);
        let mut messages = vec![market.snapshot()];
        messages.extend((0..40).map(|_| market.update()));
        assert_eq!(kraken(&messages, depth), None, "seed {seed}");

        let mut random = Random(seed);
        let lost = 1 + random.below(messages.len() - 2);
        let mut without = messages.clone();
        without.remove(lost);
        found[0] += usize::from(kraken(&without, depth).is_some());

        let altered = random.below(messages.len());
        let side = usize::from(messages[altered].sides[0].is_empty());
        let side = if messages[altered].sides[1].is_empty() { 0 } else { side.max(random.below(2)) };
        let levels = &mut messages[altered].sides[side];
        if let Some(level) = levels.first_mut() {
            let others: Vec<String> = other_digits(&level.1).collect();
            level.1.clone_from(&others[random.below(others.len())]);
        }
        let first = kraken(&messages, depth);
        assert!(first.is_none_or(|first| first >= altered));
        found[1] += usize::from(first.is_some());
    }
    assert!(found.iter().all(|found| *found > 200), "{found:?} of 300 surfaced");
}
