//! Every venue against input that no venue should send: its own fixtures, damaged.
//!
//! Whatever comes, nothing panics, books stay sorted with positive prices and sizes, and a saved feed goes on
//! like the one it was saved from. What JSON leaves open (white space, the order of keys, fields that nobody knows)
//! changes nothing at all.
//!
//! `COBY_FUZZ_CASES` and `COBY_FUZZ_SEED` set how many cases per venue and from which seed.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::ops::Range;
use std::path::Path;

use coby_core::book::Book;
use coby_core::event::{At, BookChange, Gap, Observer, Trade};
use coby_core::feed::{Action, Feed, FeedError};
use coby_core::level::Side;
use coby_core::record::{Nanos, Pos};
use coby_core::sink::CandleItem;
use coby_core::venue::{Venue, VenueError, VenueSpec};
use coby_io::import::Importer;
use coby_io::recording::{FrameKind, RecordedFrame};
use coby_venues::registry::{VENUES, find};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// What happened, without the texts of errors, which show bytes and offsets.
#[derive(Default)]
struct Watch {
    lines: Vec<String>,
    errors: u64,
}

impl Watch {
    fn tell(&mut self, at: &At<'_>, what: &str) {
        let time = at.ts_event.unwrap_or_default();
        self.lines.push(format!("{} {} {time} {what}", at.venue.id, at.instrument.native));
    }
}

fn check(at: &At<'_>, book: &Book) {
    for side in [Side::Bid, Side::Ask] {
        let levels: Vec<_> = book.levels(side).collect();
        let native = &at.instrument.native;
        assert!(levels.iter().all(|level| level.price > 0 && level.size > 0), "{native} {side:?}: {levels:?}");
        let sorted = levels.is_sorted_by(|a, b| if side == Side::Bid { a.price > b.price } else { a.price < b.price });
        assert!(sorted, "{native} {side:?}: {levels:?}");
    }
}

impl Observer for Watch {
    fn book(&mut self, at: &At<'_>, change: &BookChange<'_>, book: &Book) {
        check(at, book);
        let mut text = format!("book {} {:?}", change.snapshot, change.depth);
        for side in [Side::Bid, Side::Ask] {
            for level in book.levels(side) {
                write!(text, " {}@{}", level.size, level.price).unwrap();
            }
            text.push('|');
        }
        self.tell(at, &text);
    }

    fn trade(&mut self, at: &At<'_>, trade: &Trade<'_>) {
        assert!(trade.price.mantissa > 0 && trade.size.mantissa > 0, "{trade:?}");
        self.tell(at, &format!("{trade:?}"));
    }

    fn candle(&mut self, at: &At<'_>, candle: &CandleItem) {
        self.tell(at, &format!("{candle:?}"));
    }

    fn checksum(&mut self, at: &At<'_>, ok: bool) {
        self.tell(at, &format!("checksum {ok}"));
    }

    fn lost(&mut self, at: &At<'_>, _: &Book) {
        self.tell(at, "lost");
    }

    fn gap(&mut self, at: &At<'_>, gap: &Gap<'_>) {
        self.tell(at, &format!("gap {} {:?} {} {:?}", gap.id, gap.channel, gap.cause.name(), gap.to));
    }

    fn listed(&mut self, at: &At<'_>) {
        self.tell(at, "listed");
    }

    fn error(&mut self, _: Pos, _: Nanos, venue: &'static VenueSpec, error: &VenueError) {
        self.errors += 1;
        self.lines.push(format!("{} error {:?}", venue.id, error.class));
    }
}

/// A feed that is being stepped.
struct Run {
    importer: Importer,
    feed: Feed,
    watch: Watch,
    /// What the venue was asked or sent.
    asked: Vec<Action>,
}

impl Run {
    fn new(venue: &'static dyn Venue) -> Self {
        let importer = Importer::new(venue, 1, "", "{}");
        Self { importer, feed: Feed::new(find, true), watch: Watch::default(), asked: Vec::new() }
    }

    fn frame(&mut self, frame: &RecordedFrame) {
        let Self { importer, feed, watch, asked } = self;
        let stepped = importer.frame(0, frame, &mut |record| -> Result<_, FeedError> {
            let mut actions = Vec::new();
            feed.step(record, watch, &mut actions)?;
            asked.extend(actions.iter().cloned());
            Ok(actions)
        });
        stepped.unwrap();
    }

    fn frames(mut self, frames: &[RecordedFrame]) -> Self {
        for frame in frames {
            self.frame(frame);
        }
        self
    }

    /// Puts the feed through its saved form.
    fn reload(&mut self) {
        let saved = self.feed.save().unwrap();
        self.feed = Feed::load(find, &saved).unwrap();
        assert_eq!(self.feed.save().unwrap(), saved, "a loaded feed saves to the same bytes");
    }
}

/// Compares line by line: whole runs are too long to read.
fn same(found: &[String], expected: &[String], case: &str) {
    for (number, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found, expected, "{case}: line {number}");
    }
    assert_eq!(found.len(), expected.len(), "{case}");
}

struct Case {
    name: String,
    venue: &'static dyn Venue,
    frames: Vec<RecordedFrame>,
}

/// All recorded cases of all venues.
fn cases() -> Vec<Case> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../coby-venues/fixtures");
    let mut cases = Vec::new();
    for venue in VENUES.iter().copied() {
        let folder = fixtures.join(venue.spec().id);
        let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|end| end == "jsonl"));
        paths.sort();
        assert!(!paths.is_empty(), "{}: no fixtures", folder.display());
        cases.extend(paths.into_iter().map(|path| Case {
            name: format!("{}/{}", venue.spec().id, path.file_stem().unwrap().to_string_lossy()),
            venue,
            frames: {
                let text = fs::read_to_string(&path).unwrap();
                text.lines().map(|line| RecordedFrame::parse(line.as_bytes()).unwrap()).collect()
            },
        }));
    }
    cases
}

fn is_content(frame: &RecordedFrame) -> bool {
    matches!(frame.kind, FrameKind::Text | FrameKind::BinaryB64 | FrameKind::Http) && !frame.body.is_empty()
}

/// One thing wrong with a frame.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Number(Index, &'static str),
    DuplicateKey(Index),
    DropKey(Index),
    Nest(Index, bool),
    Twice,
    AsBinary,
    Route(String),
    Status(u16),
}

const NUMBERS: [&str; 16] = [
    "NaN",
    "1e400",
    "-1",
    "-0.5",
    "0",
    "0.0",
    "1e-400",
    "null",
    "true",
    "[]",
    "9007199254740993",
    "9223372036854775806",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "184467440737095516160",
];

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        3 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Flip(at, byte)),
        2 => any::<Index>().prop_map(Damage::Cut),
        1 => (any::<Index>(), prop::collection::vec(any::<u8>(), 1..4)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        6 => (any::<Index>(), prop::sample::select(&NUMBERS[..])).prop_map(|(at, number)| Damage::Number(at, number)),
        2 => any::<Index>().prop_map(Damage::DuplicateKey),
        2 => any::<Index>().prop_map(Damage::DropKey),
        1 => (any::<Index>(), any::<bool>()).prop_map(|(at, object)| Damage::Nest(at, object)),
        2 => Just(Damage::Twice),
        1 => Just(Damage::AsBinary),
        1 => "/[a-z0-9/]{0,12}([?][a-z=&]{0,12})?".prop_map(Damage::Route),
        1 => any::<u16>().prop_map(Damage::Status),
    ]
}

/// Runs of a number's characters, quoted or not.
fn numbers(body: &[u8]) -> Vec<Range<usize>> {
    let part = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E');
    let mut found = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let end = at + body[at..].iter().take_while(|byte| part(**byte)).count();
        if body[at..end].iter().any(u8::is_ascii_digit) {
            found.push(at..end);
        }
        at = end + 1;
    }
    found
}

/// Keys with their quotes, where an object has them.
fn keys(body: &[u8]) -> Vec<Range<usize>> {
    let ends = body.windows(2).enumerate().filter(|(_, pair)| *pair == b"\":").map(|(at, _)| at);
    ends.filter_map(|end| Some(body[..end].iter().rposition(|byte| *byte == b'"')?..end + 1)).collect()
}

fn pick<T: Clone>(from: &[T], at: Index) -> Option<T> {
    if from.is_empty() { None } else { Some(from[at.index(from.len())].clone()) }
}

impl Damage {
    /// Damages `frame`; whether it then comes twice.
    fn apply(&self, frame: &mut RecordedFrame) -> bool {
        let body = &mut frame.body;
        let anywhere = |at: &Index, body: &[u8]| at.index(body.len().max(1)).min(body.len());
        match self {
            Self::Flip(at, byte) => {
                let at = anywhere(at, body);
                if let Some(found) = body.get_mut(at) {
                    *found = *byte;
                }
            }
            Self::Cut(at) => body.truncate(anywhere(at, body)),
            Self::Insert(at, bytes) => {
                let at = anywhere(at, body);
                body.splice(at..at, bytes.iter().copied());
            }
            Self::Number(at, number) => {
                if let Some(range) = pick(&numbers(body), *at) {
                    body.splice(range, number.bytes());
                }
            }
            Self::DuplicateKey(at) => {
                if let Some(key) = pick(&keys(body), *at) {
                    let member = [&body[key.clone()], b":0,"].concat();
                    body.splice(key.start..key.start, member);
                }
            }
            Self::DropKey(at) => {
                if let Some(key) = pick(&keys(body), *at) {
                    body.splice(key, *b"\"dropped\"");
                }
            }
            Self::Nest(at, object) => {
                if let Some(range) = pick(&numbers(body), *at) {
                    body.splice(range, if *object { "{\"a\":" } else { "[" }.repeat(100_000).bytes());
                }
            }
            Self::Twice => return true,
            Self::AsBinary => {
                frame.kind = match frame.kind {
                    FrameKind::Text => FrameKind::BinaryB64,
                    FrameKind::BinaryB64 => FrameKind::Text,
                    other => other,
                }
            }
            Self::Route(path) => {
                if frame.kind == FrameKind::Http {
                    let host: Vec<&str> = frame.url.splitn(4, '/').take(3).collect();
                    frame.url = host.join("/") + path;
                }
            }
            Self::Status(status) => frame.status = *status,
        }
        false
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn damaged_frames_break_nothing() {
    let count = setting("COBY_FUZZ_CASES", 64) as u32;
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&setting("COBY_FUZZ_SEED", 1).to_le_bytes());
    let errors = Cell::new(0);
    for case in cases() {
        let content: Vec<usize> = (0..case.frames.len()).filter(|at| is_content(&case.frames[*at])).collect();
        let plan = prop::collection::vec((any::<Index>(), damage()), 1..8);
        let config = Config { cases: count, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        let result = runner.run(&plan, |plan| {
            let mut frames = case.frames.clone();
            let mut twice = BTreeSet::new();
            for (at, damage) in &plan {
                let at = content[at.index(content.len())];
                if damage.apply(&mut frames[at]) {
                    twice.insert(at);
                }
            }
            let frames: Vec<_> = (0..frames.len())
                .flat_map(|at| std::iter::repeat_n(frames[at].clone(), 1 + usize::from(twice.contains(&at))))
                .collect();
            let mut run = Run::new(case.venue).frames(&frames);
            errors.set(errors.get() + run.watch.errors);
            // The sound recording once more, in the feed that lived through this and in its copy.
            let saved = run.feed.save().unwrap();
            let (lines, asked) = (run.watch.lines.len(), run.asked.len());
            let mut copy = Run::new(case.venue);
            copy.importer = Importer::new(case.venue, 2, "", "{}");
            copy.feed = Feed::load(find, &saved).unwrap();
            run.importer = Importer::new(case.venue, 2, "", "{}");
            let (run, copy) = (run.frames(&case.frames), copy.frames(&case.frames));
            prop_assert_eq!(&run.watch.lines[lines..], &copy.watch.lines[..]);
            prop_assert_eq!(&run.asked[asked..], &copy.asked[..]);
            Ok(())
        });
        if let Err(error) = result {
            panic!("{}: {error}", case.name);
        }
    }
    assert!(errors.get() > 0, "nothing was damaged");
}

#[test]
fn a_feed_saved_between_any_two_frames_goes_on_alike() {
    for case in cases() {
        let whole = Run::new(case.venue).frames(&case.frames);
        let mut parts = Run::new(case.venue);
        for frame in &case.frames {
            parts.reload();
            parts.frame(frame);
        }
        same(&parts.watch.lines, &whole.watch.lines, &case.name);
        assert_eq!(parts.asked, whole.asked, "{}", case.name);
    }
}

#[test]
fn a_huge_frame_is_a_frame() {
    for case in cases() {
        let mut run = Run::new(case.venue);
        let longest =
            case.frames.iter().filter(|frame| is_content(frame)).max_by_key(|frame| frame.body.len()).unwrap();
        for frame in &case.frames {
            run.frame(frame);
            if frame == longest {
                let mut huge = frame.clone();
                huge.body.resize(64 << 20, b' ');
                run.frame(&huge);
                huge.body.fill(b'[');
                run.frame(&huge);
            }
        }
        run.reload();
    }
}

/// The members of an object or the elements of an array, or `None` for anything else.
fn members(text: &[u8]) -> Option<(u8, Vec<&[u8]>)> {
    let text = text.trim_ascii();
    let (open, inside) = (*text.first()?, text.get(1..text.len().checked_sub(1)?)?);
    if !matches!(open, b'{' | b'[') {
        return None;
    }
    let (mut found, mut start, mut depth, mut quoted, mut escaped) = (Vec::new(), 0, 0, false, false);
    for (at, byte) in inside.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => {
                found.push(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !inside[start..].trim_ascii().is_empty() {
        found.push(&inside[start..]);
    }
    Some((open, found))
}

/// The same JSON with every object's members in the opposite order, space between all tokens, and in every object a
/// member more (`extra`).
fn rewritten(text: &[u8], reverse: bool, extra: &str) -> Vec<u8> {
    let Some((open, mut parts)) = members(text) else { return text.to_vec() };
    let object = open == b'{';
    if object && reverse {
        parts.reverse();
    }
    let mut written: Vec<Vec<u8>> = Vec::new();
    for part in parts {
        // Keys here are free of escapes: the third piece begins with the colon behind the key.
        let colon = part.splitn(3, |byte| *byte == b'"').nth(2).filter(|_| object).and_then(|rest| {
            let at = rest.iter().position(|byte| *byte == b':')?;
            Some(part.len() - rest.len() + at + 1)
        });
        let (key, value) = part.split_at(colon.unwrap_or(0));
        written.push([key, b" \n", &rewritten(value, reverse, extra), b"\t"].concat());
    }
    if object && !extra.is_empty() && !written.is_empty() {
        written.push(extra.as_bytes().to_vec());
    }
    let close = if object { b" } " } else { b" ] " };
    [&[b' ', open][..], &written.join(&b" , "[..]), close].concat()
}

#[test]
fn what_json_leaves_open_changes_nothing() {
    for case in cases() {
        // Frames that are refused tell of offsets, and name what they had read until then.
        let mut run = Run::new(case.venue);
        let mut sound = Vec::new();
        for frame in &case.frames {
            let errors = run.watch.errors;
            run.frame(frame);
            let json = serde_json::from_slice::<serde::de::IgnoredAny>(&frame.body).is_ok();
            sound.push(run.watch.errors == errors && json && matches!(frame.kind, FrameKind::Text | FrameKind::Http));
        }
        for (what, reverse, extra) in [
            ("white space", false, ""),
            ("the order of keys", true, ""),
            ("unknown fields", false, r#""coby unknown" : {"a":[1,null,"x\"}"],"b":-1.5e-3}"#),
        ] {
            let mut other = Run::new(case.venue);
            for (frame, sound) in case.frames.iter().zip(&sound) {
                let mut frame = frame.clone();
                // Lists of instruments are maps at some venues: a member more is an entry more.
                let list = frame.kind == FrameKind::Http && !extra.is_empty();
                if *sound && !list {
                    frame.body = rewritten(&frame.body, reverse, extra);
                }
                other.frame(&frame);
            }
            same(&other.watch.lines, &run.watch.lines, &format!("{}: {what}", case.name));
            assert_eq!(other.asked, run.asked, "{}: {what}", case.name);
            assert_eq!(other.feed.counts(0), run.feed.counts(0), "{}: {what}", case.name);
        }
    }
}

#[test]
fn rewriting_keeps_the_value() {
    let text = br#"{"a":[1,{"b":"x,\"]}","c":{}}],"d":null}"#;
    let value: serde_json::Value = serde_json::from_slice(text).unwrap();
    for reverse in [false, true] {
        let other = rewritten(text, reverse, "");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&other).unwrap(), value);
        let position = |text: &[u8], key: &[u8]| text.windows(key.len()).position(|window| window == key);
        assert_eq!(position(&other, b"\"d\"") < position(&other, b"\"a\""), reverse);
    }
    assert_eq!(numbers(b"[1,\"2.5e3\",-x]"), [1..2, 4..9]);
    assert_eq!(keys(br#"{"a":{"b":1}}"#), [1..4, 6..9]);
}
