//! What a venue's benches work on: a recording as records, the state in which its books are live, and the frames from
//! there on that change a book.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use coby_core::book::Book;
use coby_core::decimal::Decimal;
use coby_core::event::{At, BookChange, Key, Observer};
use coby_core::feed::Feed;
use coby_core::keeper::Keeper;
use coby_core::level::{Level, Side};
use coby_core::pipeline::Pipeline;
use coby_core::record::{Body, Record};
use coby_core::settings::PipelineSettings;
use coby_io::import::Importer;
use coby_io::recording::{FrameKind, RecordedFrame, Recording};
use coby_venues::registry::find;

use crate::ceiling::{Ceiling, Inflater, Market};
use crate::synthetic;
use crate::venue::{fed, warmed};

/// A record that outlives its recording; payloads lie side by side, as in a block of a tape.
pub struct Stored {
    pos: u64,
    recv: i64,
    conn: u32,
    source: u64,
    kind: u8,
    payload: Range<usize>,
}

/// A frame that arrived.
#[derive(Clone, Copy)]
pub struct Change<'w> {
    /// Position.
    pub pos: u64,
    recv: i64,
    conn: u32,
    binary: bool,
    /// What is in the frame.
    pub text: &'w [u8],
}

impl<'w> Change<'w> {
    /// As a record.
    #[inline]
    pub fn record(&self) -> Record<'w> {
        let body = if self.binary { Body::Binary(self.text) } else { Body::Text(self.text) };
        Record { pos: self.pos, recv: self.recv, conn: self.conn, source: 0, body }
    }
}

/// One venue's recording, prepared.
pub struct Workload {
    /// The venue's id.
    pub venue: &'static str,
    /// Every record.
    pub records: Vec<Stored>,
    /// Of each record, the line of the recording that it came from, from 0.
    pub lines: Vec<usize>,
    /// How many of them come before the books are live.
    pub warm: usize,
    /// Frames behind those that change a book, as indices of `records`; all that arrived, where a venue numbers frames
    /// of all channels.
    pub frames: Vec<usize>,
    /// Level changes in `frames`.
    pub levels: u64,
    /// The pipeline behind the warm records, saved.
    pub saved: Vec<u8>,
    /// What the ceiling starts from.
    pub market: Market,
    /// The books behind `frames`, by the venue's symbols, to compare others' with.
    pub after: Vec<(String, Book)>,
    bytes: Vec<u8>,
}

/// Counts level changes and learns how many decimals each instrument prints.
#[derive(Default)]
struct Counter {
    changes: u64,
    levels: u64,
    digits: BTreeMap<Key, (u8, u8)>,
}

impl Observer for Counter {
    fn book(&mut self, at: &At<'_>, change: &BookChange<'_>, _: &Book) {
        self.changes += 1;
        self.levels += (change.bids.len() + change.asks.len()) as u64;
        let digits = self.digits.entry(at.key).or_default();
        for level in change.bids.iter().chain(change.asks) {
            *digits = (digits.0.max(level.digits.price), digits.1.max(level.digits.size));
        }
    }
}

/// The frames of a file.
pub fn frames_of(path: &Path) -> impl Iterator<Item = RecordedFrame> {
    let mut recording = Recording::open(path).expect("a recording");
    std::iter::from_fn(move || recording.next_frame().expect("a recorded frame"))
}

/// The capture of `venue`, or else a generated recording, or else a simulated one, if there is any.
pub fn recorded(venue: &str, captures: &Path, simulated: &Path) -> Option<Vec<RecordedFrame>> {
    let in_folder = |folder: &Path| {
        let path = folder.join(format!("{venue}.jsonl.gz"));
        path.exists().then(|| frames_of(&path).collect())
    };
    in_folder(captures).or_else(|| synthetic::recording(venue)).or_else(|| in_folder(simulated))
}

/// The recording as if the venue compressed nothing; `None` if it does not.
pub fn inflated(recorded: &[RecordedFrame]) -> Option<Vec<RecordedFrame>> {
    let mut inflater = Inflater::default();
    let compressed = |frame: &RecordedFrame| frame.kind == FrameKind::BinaryB64 && frame.body.starts_with(b"\x1f\x8b");
    recorded.iter().any(compressed).then(|| {
        let plain = |frame: &RecordedFrame| {
            if !compressed(frame) {
                return frame.clone();
            }
            RecordedFrame { kind: FrameKind::Text, body: inflater.inflate(&frame.body).to_vec(), ..frame.clone() }
        };
        recorded.iter().map(plain).collect()
    })
}

impl Workload {
    /// Prepares a recording of `venue`.
    pub fn of(venue: &'static str, recorded: impl IntoIterator<Item = RecordedFrame>) -> Self {
        let (mut records, mut lines, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        let settings = PipelineSettings::default().to_json();
        let mut importer = Importer::new(find(venue).expect("a venue"), 1, "", &settings);
        for (line, frame) in recorded.into_iter().enumerate() {
            let mut store = |record: &Record<'_>| -> Result<_, ()> {
                let start = bytes.len();
                let kind = record.body.encode(&mut bytes);
                let Record { pos, recv, conn, source, .. } = *record;
                records.push(Stored { pos, recv, conn, source, kind, payload: start..bytes.len() });
                Ok(Vec::new())
            };
            importer.frame(0, &frame, &mut store).expect("records of a frame");
            lines.resize(records.len(), line);
        }
        let mut this = Self {
            venue,
            records,
            lines,
            warm: 0,
            frames: Vec::new(),
            levels: 0,
            saved: Vec::new(),
            market: Market::default(),
            after: Vec::new(),
            bytes,
        };
        this.prepare();
        if !this.complete() {
            let arrived = |at: &usize| matches!(this.record(*at).body, Body::Text(_) | Body::Binary(_));
            this.frames = (this.warm..this.records.len()).filter(arrived).collect();
        }
        this
    }

    /// Whether the frames alone lead to the books that the whole recording leads to.
    fn complete(&self) -> bool {
        let mut feed = warmed(self, true);
        fed(&mut feed, &self.changes());
        // Scales may be wider: they learn from trades too.
        let exact = |book: &Book| {
            let numbers = (book.price_scale(), book.size_scale());
            let normal = |mantissa, scale| Decimal::new(mantissa, scale).normal();
            let level = |level: Level| (normal(level.price, numbers.0), normal(level.size, numbers.1));
            [Side::Bid, Side::Ask].map(|side| book.levels(side).map(level).collect::<Vec<_>>())
        };
        feed.keepers().map(|(_, keeper)| exact(keeper.book())).eq(self.after.iter().map(|(_, book)| exact(book)))
    }

    fn prepare(&mut self) {
        // Up to where the last book goes live.
        let live = |feed: &Feed| feed.keepers().filter(|(_, keeper)| !keeper.book().is_empty()).count();
        let (mut feed, mut actions, mut most) = (Feed::new(find, true), Vec::new(), 0);
        for at in 0..self.records.len() {
            feed.step(&self.record(at), &mut Counter::default(), &mut actions).expect("a step");
            if live(&feed) > most {
                most = live(&feed);
                self.warm = at + 1;
            }
        }
        let mut pipeline = Pipeline::new(find, None);
        let mut feed = Feed::new(find, true);
        let mut counter = Counter::default();
        for at in 0..self.warm {
            pipeline.step(&self.record(at), &mut actions).expect("a step");
            feed.step(&self.record(at), &mut counter, &mut actions).expect("a step");
        }
        self.saved = pipeline.save().expect("a checkpoint");
        let before: Vec<Book> = feed.keepers().map(|(_, keeper)| keeper.book().clone()).collect();
        counter.levels = 0;
        for at in self.warm..self.records.len() {
            let changes = counter.changes;
            let record = self.record(at);
            feed.step(&record, &mut counter, &mut actions).expect("a step");
            if counter.changes > changes && matches!(record.body, Body::Text(_) | Body::Binary(_)) {
                self.frames.push(at);
            }
        }
        self.levels = counter.levels;
        let instruments = feed.instruments(0).expect("the venue's instruments");
        let named = |(key, keeper): (Key, &Keeper)| (instruments.get(key.id).native.clone(), keeper.book().clone());
        self.after = feed.keepers().map(named).collect();
        for ((key, _), book) in feed.keepers().zip(&before) {
            let digits = counter.digits.get(&key).copied().unwrap_or_default();
            self.market.add(instruments.get(key.id).native.as_bytes(), digits, book);
        }
        for at in 0..self.warm {
            let Stored { kind, ref payload, .. } = self.records[at];
            if let Ok(Body::Text(text)) = Body::decode(kind, &self.bytes[payload.clone()]) {
                self.market.learn(text);
            }
        }
    }

    /// Record `at`.
    pub fn record(&self, at: usize) -> Record<'_> {
        let Stored { pos, recv, conn, source, kind, .. } = self.records[at];
        let body = Body::decode(kind, &self.bytes[self.records[at].payload.clone()]).expect("a body just encoded");
        Record { pos, recv, conn, source, body }
    }

    /// The records of `frames`, small enough to read as they come: position, receive time, connection, text.
    pub fn changes(&self) -> Vec<Change<'_>> {
        let change = |at: &usize| {
            let Stored { pos, recv, conn, ref payload, .. } = self.records[*at];
            let binary = matches!(self.record(*at).body, Body::Binary(_));
            Change { pos, recv, conn, binary, text: &self.bytes[payload.clone()] }
        };
        self.frames.iter().map(change).collect()
    }

    /// Panics unless the ceiling came to the same books: a ceiling that reads something else measures nothing.
    pub fn check(&self, ceiling: &Ceiling) {
        for (at, (_, book)) in self.after.iter().enumerate() {
            for side in [Side::Bid, Side::Ask] {
                let exact = |price, size, scales: (u8, u8)| {
                    (Decimal::new(price, scales.0).normal(), Decimal::new(size, scales.1).normal())
                };
                let scales = (book.price_scale(), book.size_scale());
                let ours = book.levels(side).map(|level| exact(level.price, level.size, scales));
                let theirs = ceiling.levels(at, side).map(|(price, size)| exact(price, size, self.market.digits(at)));
                assert!(ours.eq(theirs), "{}: the ceiling's book {at} differs", self.venue);
            }
        }
    }

    /// Bytes a frame.
    pub fn frame_bytes(&self) -> u64 {
        self.frames.iter().map(|at| self.records[*at].payload.len() as u64).sum::<u64>()
            / self.frames.len().max(1) as u64
    }

    /// Reads every frame once, so that all contestants start with the frames as near as a socket leaves them.
    pub fn touch(&self) {
        std::hint::black_box(self.bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)));
    }
}
