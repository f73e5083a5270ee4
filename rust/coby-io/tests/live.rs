//! A live engine against an exchange in the same process: the law, restarts, a disk that fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed step fails the test")]

mod support;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use coby_core::rows::{Column, Cut, RowHashes, Table};
use coby_core::settings::PipelineSettings;
use coby_io::checker;
use coby_io::disk::{DirEntry, Disk, DiskLock, DiskRead, DiskWrite, TestDisk};
use coby_io::engine::{Engine, EngineError, LiveConfig, LiveStatus, ReplayConfig};
use coby_io::net::{Clock, Endpoints, External, Push};
use coby_io::tape::{TapeOptions, manifests};
use coby_venues::registry::find;
use support::exchange::Exchange;

const TAPE: &str = "/data/tape";
/// No step of these tests takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

fn config(exchange: &Exchange, settings: PipelineSettings) -> LiveConfig {
    LiveConfig {
        venues: vec!["kraken".into()],
        symbols: vec!["BTC-USD".into()],
        tape: TAPE.into(),
        settings,
        options: TapeOptions { segment_time: 700_000_000, ..TapeOptions::default() },
        check: true,
        places: 1_000,
        endpoints: Endpoints::real(),
        network: Arc::new(exchange.clone()),
        clock: Clock::start(),
    }
}

/// A running engine whose wake-ups can be waited for.
struct Running {
    engine: Engine,
    wakes: mpsc::Receiver<()>,
    cuts: Vec<Cut>,
}

impl Running {
    fn start(disk: &Arc<dyn Disk>, config: LiveConfig) -> Self {
        let (wake, wakes) = mpsc::sync_channel(1);
        let engine = Engine::live(find, Arc::clone(disk), config, Arc::new(move || _ = wake.try_send(()))).unwrap();
        Self { engine, wakes, cuts: Vec::new() }
    }

    /// Takes cuts until the status, or the cuts themselves, are as wanted.
    fn until(&mut self, what: &str, mut reached: impl FnMut(&LiveStatus, &[Cut]) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            self.cuts.append(&mut self.engine.drain());
            let status = self.engine.status();
            assert_eq!(status.failed, None);
            if status.live.as_ref().is_some_and(|live| reached(live, &self.cuts)) {
                return;
            }
            assert!(Instant::now() < end, "{what}: {:?}", status.live);
            // A wake-up, or the time at which the status may have changed.
            let _ = self.wakes.recv_timeout(Duration::from_millis(100));
        }
    }

    /// Stops it; all its cuts.
    fn stop(mut self) -> Vec<Cut> {
        self.engine.stop();
        self.cuts.append(&mut self.engine.drain());
        assert_eq!(self.engine.status().failed, None);
        self.cuts
    }
}

fn is_live(live: &LiveStatus, _: &[Cut]) -> bool {
    live.venues.iter().all(|venue| venue.state == "live")
}

fn replayed(disk: &Arc<dyn Disk>, after: u64, until: Option<u64>) -> Vec<Cut> {
    let config = ReplayConfig { tape: TAPE.into(), after, until, settings: None, hash: false };
    let engine = Engine::replaying(find, Arc::clone(disk), config, Arc::new(|| ())).unwrap();
    let mut cuts = Vec::new();
    while !engine.finished() {
        cuts.append(&mut engine.wait());
    }
    assert_eq!(engine.status().failed, None);
    cuts
}

/// Hashes of the rows of cuts, wherever they are cut.
fn hashes<'c>(cuts: impl IntoIterator<Item = &'c Cut>) -> BTreeMap<&'static str, String> {
    let mut hashes = RowHashes::default();
    cuts.into_iter().for_each(|cut| hashes.update(cut));
    hashes.digest().into_iter().collect()
}

/// Every cut continues the one before it.
fn assert_contiguous(cuts: &[Cut], mut seen: u64) -> u64 {
    for cut in cuts {
        assert_eq!(cut.follows, seen);
        seen = cut.last_pos;
    }
    seen
}

fn causes(cuts: &[Cut]) -> Vec<&'static str> {
    let words = |cut: &Cut| -> Vec<&'static str> {
        let at = cut.gaps.specs().iter().position(|spec| spec.name == "cause").unwrap();
        match cut.gaps.columns()[at] {
            Column::Word(codes, words) => codes.iter().map(|code| words[*code as usize]).collect(),
            _ => Vec::new(),
        }
    };
    cuts.iter().flat_map(words).collect()
}

#[test]
fn replay_gives_the_rows_that_live_gave_across_runs_and_settings() {
    let disk: Arc<dyn Disk> = Arc::new(TestDisk::new(1));
    let mut cuts = Vec::new();
    let mut seen = 0;
    for (update_interval_ms, heatmap_depth) in [(200, 7), (100, 30), (300, 12)] {
        let settings = PipelineSettings { update_interval_ms, heatmap_depth, ..PipelineSettings::default() };
        let exchange = Exchange::busy();
        let mut live = Running::start(&disk, config(&exchange, settings));
        live.until("the book is live", is_live);
        let sent = exchange.told.updates.load(Ordering::Relaxed);
        live.until("updates came", |_, _| exchange.told.updates.load(Ordering::Relaxed) > sent + 400);
        let asked = live.engine.ask(|moment| moment.book("kraken", "XBT/USD", 3)).unwrap().unwrap().unwrap();
        assert_eq!((asked.head.state, asked.bids.len(), asked.asks.len()), ("live", 3, 3));
        let run = live.stop();
        seen = assert_contiguous(&run, seen);
        assert!(run.iter().map(|cut| cut.heatmap_columns.len()).sum::<usize>() > 1);
        assert!(run.iter().all(|cut| !cut.untaped));
        cuts.extend(run);
    }
    assert_eq!(hashes(&cuts), hashes(&replayed(&disk, 0, None)));
    // From anywhere: what lies behind a position, and nothing else.
    let middle = cuts[cuts.len() / 2].last_pos;
    let until = cuts[cuts.len() * 3 / 4].last_pos;
    let part = replayed(&disk, middle, Some(until));
    assert_eq!(part.first().unwrap().follows, middle);
    assert_eq!(hashes(&part), hashes(cuts.iter().filter(|cut| cut.last_pos > middle && cut.last_pos <= until)));
    // The background replay found the same.
    let report = checker::check(find, &disk, Path::new(TAPE)).unwrap();
    assert_eq!(report.broken, Vec::<String>::new());
    assert_eq!(report.checked as usize, manifests(&*disk, Path::new(TAPE), 0).unwrap().len());
    // Each end is a gap, but for the books of the first run nothing came before it.
    assert!(causes(&cuts).iter().all(|cause| *cause == "restart"), "{:?}", causes(&cuts));
}

#[test]
fn what_a_power_cut_leaves_is_continued() {
    let test_disk = TestDisk::new(2);
    let disk: Arc<dyn Disk> = Arc::new(test_disk.clone());
    let exchange = Exchange::busy();
    let mut live = Running::start(&disk, config(&exchange, PipelineSettings::default()));
    live.until("the book is live", is_live);
    live.until("some of it is durable", |_, cuts| cuts.iter().map(|cut| cut.tops.len()).sum::<usize>() > 50);
    let durable = live.engine.durable_pos();
    let after: Arc<dyn Disk> = Arc::new(test_disk.power_cut(3));
    let before = live.stop();

    let exchange = Exchange::busy();
    let mut again = Running::start(&after, config(&exchange, PipelineSettings::default()));
    again.until("the book is live again", is_live);
    let next = again.stop();
    let follows = next.first().unwrap().follows;
    assert!(follows >= durable, "{follows:x} {durable:x}");
    assert_contiguous(&next, follows);
    let kept = replayed(&after, 0, Some(follows));
    // What survived of the first run has its rows, and the second has them with it.
    assert!(before.iter().any(|cut| cut.last_pos > follows) || before.last().unwrap().last_pos == follows);
    assert_eq!(hashes(kept.iter().chain(&next)), hashes(&replayed(&after, 0, None)));
    assert!(causes(&next).contains(&"restart"));
}

#[test]
fn a_disk_that_fails_for_a_while_leaves_a_gap_and_nothing_else() {
    type Fault = fn(&TestDisk, bool);
    let faults: [(&str, Fault); 3] = [
        ("full", |disk, on| disk.set_capacity(on.then(|| disk.used() + 100))),
        ("read-only", TestDisk::set_read_only),
        ("failing", TestDisk::set_failing_writes),
    ];
    for (name, fault) in faults {
        let test_disk = TestDisk::new(4);
        let disk: Arc<dyn Disk> = Arc::new(test_disk.clone());
        let exchange = Exchange::busy();
        let mut live = Running::start(&disk, config(&exchange, PipelineSettings::default()));
        live.until("the book is live", is_live);
        live.until("rows came", |_, cuts| cuts.iter().map(|cut| cut.tops.len()).sum::<usize>() > 20);
        fault(&test_disk, true);
        live.until("the tape is lost", |live, _| live.untaped.is_some());
        let sent = exchange.told.updates.load(Ordering::Relaxed);
        live.until("it goes on", |_, cuts| {
            exchange.told.updates.load(Ordering::Relaxed) > sent + 200 && cuts.last().is_some_and(|cut| cut.untaped)
        });
        let durable = live.engine.durable_pos();
        fault(&test_disk, false);
        let run = live.engine.status().live.unwrap().run;
        live.until("the tape is back", |live, _| live.untaped.is_none() && live.run > run);
        live.until("the book is live again", |live, cuts| is_live(live, cuts) && live.venues[0].books[0].since > 0);
        let mark = live.cuts.iter().rposition(|cut| cut.untaped).unwrap();
        live.until("rows of the new run came", |_, cuts| {
            cuts[mark + 1..].iter().map(|cut| cut.tops.len()).sum::<usize>() > 20
        });
        let cuts = live.stop();

        // As a store takes them: nothing of what is on no tape.
        let (mut seen, mut taken) = (0, Vec::<Cut>::new());
        for cut in cuts {
            if cut.follows < seen {
                taken.retain(|taken| taken.last_pos <= cut.follows);
                seen = taken.last().map_or(0, |last| last.last_pos);
            }
            if cut.untaped {
                continue;
            }
            if cut.follows > seen {
                taken.extend(replayed(&disk, seen, Some(cut.follows)));
            }
            seen = cut.last_pos;
            taken.push(cut);
        }
        assert!(taken.iter().any(|cut| cut.last_pos <= durable));
        assert_eq!(hashes(&taken), hashes(&replayed(&disk, 0, None)), "{name}");
        let causes = causes(&taken);
        assert!(causes.contains(&"tape"), "{name}: {causes:?}");
        let report = checker::check(find, &disk, Path::new(TAPE)).unwrap();
        assert_eq!(report.broken, Vec::<String>::new(), "{name}");
    }
}

/// A disk that fails to open one segment for reading, when so many were opened before.
#[derive(Debug)]
struct Unreadable {
    disk: TestDisk,
    left: AtomicI64,
}

impl Disk for Unreadable {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskWrite>> {
        self.disk.create(path)
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskWrite>> {
        self.disk.append(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskRead>> {
        let segment = path.extension().is_some_and(|extension| extension == "tape");
        if segment && self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(io::Error::other("the disk is away"));
        }
        self.disk.open(path)
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.disk.truncate(path, bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock(path)
    }
}

#[test]
fn a_disk_that_fails_again_while_the_tape_is_begun_anew_is_tried_again() {
    for opened in 0..4 {
        let test_disk = TestDisk::new(8);
        let unreadable = Arc::new(Unreadable { disk: test_disk.clone(), left: AtomicI64::new(i64::MAX) });
        let disk: Arc<dyn Disk> = Arc::clone(&unreadable) as Arc<dyn Disk>;
        let exchange = Exchange::busy();
        // Nothing else reads the tape meanwhile.
        let config = LiveConfig { check: false, ..config(&exchange, PipelineSettings::default()) };
        let mut live = Running::start(&disk, config);
        live.until("the book is live", is_live);
        live.until("rows came", |_, cuts| cuts.iter().map(|cut| cut.tops.len()).sum::<usize>() > 20);
        test_disk.set_failing_writes(true);
        live.until("the tape is lost", |live, _| live.untaped.is_some());
        unreadable.left.store(opened, Ordering::Relaxed);
        let run = live.engine.status().live.unwrap().run;
        test_disk.set_failing_writes(false);
        live.until("the tape is back", |live, _| live.untaped.is_none() && live.run > run);
        let failed = unreadable.left.load(Ordering::Relaxed) < 0;
        live.until("the book is live again", |live, cuts| is_live(live, cuts) && live.venues[0].books[0].since > 0);
        live.stop();
        let report = checker::check(find, &disk, Path::new(TAPE)).unwrap();
        assert_eq!(report.broken, Vec::<String>::new(), "{opened}");
        // Two are opened at least: to be repaired, and for the state.
        assert!(failed || opened >= 2, "{opened}");
    }
}

#[test]
fn a_user_that_does_not_drain_is_not_waited_for() {
    let disk: Arc<dyn Disk> = Arc::new(TestDisk::new(5));
    let exchange = Exchange::busy();
    let mut live = Running::start(&disk, config(&exchange, PipelineSettings::default()));
    live.until("the book is live", is_live);
    let end = Instant::now() + PATIENCE;
    while live.engine.status().dropped_cuts == 0 {
        assert!(Instant::now() < end, "{:?}", live.engine.status());
        // Without draining: 64 cuts of 50 ms have to pass.
        let _ = live.wakes.recv_timeout(Duration::from_millis(100));
    }
    live.cuts.append(&mut live.engine.drain());
    let sent = exchange.told.updates.load(Ordering::Relaxed);
    live.until("it goes on", |_, _| exchange.told.updates.load(Ordering::Relaxed) > sent + 200);
    let cuts = live.stop();
    let holes: Vec<_> = cuts.windows(2).filter(|pair| pair[1].follows != pair[0].last_pos).collect();
    assert_eq!(holes.len(), 1);
    let filled = replayed(&disk, holes[0][0].last_pos, Some(holes[0][1].follows));
    let at = cuts.iter().position(|cut| cut.last_pos == holes[0][0].last_pos).unwrap() + 1;
    let whole = cuts[..at].iter().chain(&filled).chain(&cuts[at..]);
    assert_eq!(hashes(whole), hashes(&replayed(&disk, 0, None)));
}

/// Pushes a frame until it is taken; `false` once the connection has ended.
fn push(external: &External, text: &str) -> bool {
    let end = Instant::now() + PATIENCE;
    loop {
        match external.push(text) {
            Push::Taken => return true,
            Push::Ended => return false,
            Push::Full => assert!(Instant::now() < end, "the engine takes nothing"),
            Push::TooLong => panic!("{} bytes", text.len()),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn book(snapshot: bool, sequence: i64, size: i64) -> String {
    let content = format!(r#""bids":[["100","{size}"]],"asks":[["101","1"]],"sequence":{sequence}"#);
    format!(r#"{{"kind":"book","symbol":"BTC-USDT","snapshot":{snapshot},{content}}}"#)
}

#[test]
fn what_connectors_push_is_taped_like_what_venues_send() {
    let disk: Arc<dyn Disk> = Arc::new(TestDisk::new(6));
    let exchange = Exchange::busy();
    let mut live = Running::start(&disk, config(&exchange, PipelineSettings::default()));
    assert!(matches!(live.engine.external("No name"), Err(EngineError::Exchange(_))));
    let connectors = ["demo", "other"].map(|name| live.engine.external(name).unwrap());
    let list = r#"[{"symbol":"BTC-USDT","base":"BTC","quote":"USDT","tick_size":"1"}]"#;
    std::thread::scope(|scope| {
        for external in &connectors {
            scope.spawn(move || {
                assert_eq!(external.instruments(list), Push::Taken);
                assert!(push(external, &book(true, 0, 1)));
                for number in 1..5_000 {
                    assert!(push(external, &book(false, number, number)));
                    let trade =
                        format!(r#""price":"100.5","size":"1","side":"buy","trade_id":{number},"sequence":{number}"#);
                    assert!(push(external, &format!(r#"{{"kind":"trade","symbol":"BTC-USDT",{trade}}}"#)));
                }
            });
        }
    });
    live.until("all books are live", |live, cuts| live.venues.len() == 2 && is_live(live, cuts));
    live.until("all trades came", |_, cuts| cuts.iter().map(|cut| cut.trades.len()).sum::<usize>() >= 9_998);
    for native in ["demo|BTC-USDT", "other|BTC-USDT"] {
        let view = live.engine.ask(move |moment| moment.book("external", native, 5)).unwrap().unwrap().unwrap();
        assert_eq!(
            (view.head.state, view.bids, view.head.symbol),
            ("live", vec![("100".into(), "4999".into())], Some("BTC-USDT".into()))
        );
    }

    // One loses a message: it has to begin again, the other goes on.
    let [demo, other] = connectors;
    assert!(push(&demo, &book(false, 7_000, 1)));
    let ended = |live: &LiveStatus| live.venues[1].links.len() == 1 && live.venues[1].state == "degraded";
    live.until("its connection ends", |live, _| demo.ended() && ended(live));
    assert!(!push(&demo, &book(true, 1, 1)) && push(&other, &book(false, 5_000, 1)));
    let again = live.engine.external("demo").unwrap();
    assert!(push(&again, &book(true, 1, 1)));
    live.until("all books are live again", |live, cuts| is_live(live, cuts) && live.venues[1].links.len() == 2);
    // An instrument list that cannot be read is an error, and no more.
    assert_eq!(again.instruments("{}"), Push::Taken);
    live.until("it is counted", |live, _| live.venues[1].errors == 1);

    let cuts = live.stop();
    assert_eq!((push(&again, "{}"), push(&other, "{}")), (false, false));
    assert_contiguous(&cuts, 0);
    assert_eq!(hashes(&cuts), hashes(&replayed(&disk, 0, None)));
    let causes = causes(&cuts);
    assert_eq!(causes.iter().filter(|cause| **cause == "sequence").count(), 2, "{causes:?}");
    assert!(causes.contains(&"restart"));
    let report = checker::check(find, &disk, Path::new(TAPE)).unwrap();
    assert_eq!(report.broken, Vec::<String>::new());
}

#[test]
fn only_a_live_engine_is_fed() {
    let disk: Arc<dyn Disk> = Arc::new(TestDisk::new(7));
    let exchange = Exchange::default();
    let live = Running::start(&disk, config(&exchange, PipelineSettings::default()));
    let asking = live.engine.asking();
    live.stop();
    assert!(matches!(asking.external("demo"), Err(EngineError::NotLive)));
    let config = ReplayConfig { tape: TAPE.into(), after: 0, until: None, settings: None, hash: false };
    let engine = Engine::replaying(find, disk, config, Arc::new(|| ())).unwrap();
    assert!(matches!(engine.external("demo"), Err(EngineError::NotLive)));
}
