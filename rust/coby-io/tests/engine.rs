//! Import, replay, checkpoints, interrupted imports, damaged tapes: the same records give the same rows.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coby_core::rows::{Column, Cut, RowHashes};
use coby_core::settings::PipelineSettings;
use coby_io::checker;
use coby_io::disk::{Disk, RealDisk, TestDisk};
use coby_io::engine::{Engine, ImportConfig, ReplayConfig, Status};
use coby_io::tape::TapeOptions;
use coby_venues::registry::find;

/// A recording with everything that happens to a feed: gaps, resyncs, refused frames, closes and reopens.
fn recording(folder: &Path, seconds: i64) -> PathBuf {
    let mut lines = String::new();
    let url = "wss://fstream.binance.com/public/stream";
    let mut random = 12345_u64;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let start = 1_700_000_000_000_000_000_i64;
    let mut line = |at: i64, kind: &str, url: &str, body: Option<String>| {
        let frame = serde_json::json!({"recv_ns": start + at, "kind": kind, "url": url, "body": body});
        writeln!(lines, "{frame}").unwrap();
    };
    let info = r#"{"symbols":[{"symbol":"BTCUSDT","contractType":"PERPETUAL","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT","filters":[{"filterType":"PRICE_FILTER","tickSize":"0.10"},{"filterType":"LOT_SIZE","stepSize":"0.001"}]}]}"#;
    line(0, "http", "https://fapi.binance.com/fapi/v1/exchangeInfo", Some(info.into()));
    let (mut last, mut trade, mut step) = (1_000_u64, 1_u64, 0);
    for tenth in 0..seconds * 10 {
        let at = tenth * 100_000_000 + 7;
        if tenth % 150 == 0 {
            line(at, if tenth == 0 { "open" } else { "close" }, url, None);
        }
        let mid = 50_000 + (tenth % 300) as u64;
        for symbol in ["BTCUSDT", "ETHUSDT", "NEWUSDT"] {
            let (first, end) = (last + 3, last + 9);
            // One message in forty is lost, one in sixty comes twice, one in ninety is cut off.
            let bid = mid - 1 - next(40);
            let ask = mid + 1 + next(40);
            let body = format!(
                r#"{{"stream":"{}@depth@100ms","data":{{"e":"depthUpdate","E":{ms},"T":{ms},"s":"{symbol}","U":{first},"u":{end},"pu":{last},"b":[["{bid}.{}","{}"],["{}.0","0"]],"a":[["{ask}.{}","{}"],["{}.0","0"]]}}}}"#,
                symbol.to_lowercase(),
                next(10),
                next(5),
                mid + 1,
                next(10),
                next(5),
                mid - 1,
                ms = (start + at) / 1_000_000,
            );
            match next(180) {
                0..=4 => {}
                5..=7 => {
                    line(at + 1, "text", url, Some(body.clone()));
                    line(at + 2, "text", url, Some(body));
                }
                8 | 9 => line(at + 1, "text", url, Some(body[..body.len() / 2].into())),
                _ => line(at + 1, "text", url, Some(body)),
            }
            if step % 25 == 3 {
                let levels = |range: std::ops::Range<u64>, offset: i64| {
                    let one =
                        |i: u64| format!(r#"["{}.5","{}"]"#, mid.wrapping_add_signed(offset * i as i64), i % 7 + 1);
                    range.map(one).collect::<Vec<_>>().join(",")
                };
                let (bids, asks) = (levels(1..60, -1), levels(1..60, 1));
                let url = format!("https://fapi.binance.com/fapi/v1/depth?symbol={symbol}&limit=1000");
                line(
                    at + 3,
                    "http",
                    &url,
                    Some(format!(r#"{{"lastUpdateId":{last},"bids":[{bids}],"asks":[{asks}]}}"#)),
                );
            }
            last = end;
            step += 1;
        }
        if next(3) > 0 {
            trade += 1 + u64::from(next(50) == 0);
            let ms = (start + at) / 1_000_000 - next(3_000) as i64;
            let body = format!(
                r#"{{"stream":"btcusdt@aggTrade","data":{{"e":"aggTrade","E":{ms},"a":{trade},"s":"BTCUSDT","p":"{mid}.1","q":"0.{}","T":{ms},"m":{}}}}}"#,
                1 + next(900),
                next(2) == 0
            );
            line(at + 5, "text", url, Some(body));
        }
    }
    let path = folder.join("recording.jsonl");
    fs::write(&path, lines).unwrap();
    path
}

/// Small blocks and segments, so that a short recording has many.
fn options() -> TapeOptions {
    TapeOptions { block_bytes: 8 << 10, segment_bytes: 24 << 10, ..TapeOptions::default() }
}

fn import(disk: &Arc<dyn Disk>, file: &Path, tape: &Path) -> Engine {
    let settings = PipelineSettings { update_interval_ms: 300, heatmap_depth: 7, ..PipelineSettings::default() };
    let config = ImportConfig {
        venue: "binance_futures".into(),
        files: vec![file.into()],
        tape: tape.into(),
        settings,
        options: options(),
        check: true,
    };
    Engine::importing(find, Arc::clone(disk), config, Arc::new(|| {})).unwrap()
}

fn replay(disk: &Arc<dyn Disk>, tape: &Path, after: u64, settings: Option<PipelineSettings>) -> Engine {
    let config = ReplayConfig { tape: tape.into(), after, until: None, settings, hash: true };
    Engine::replaying(find, Arc::clone(disk), config, Arc::new(|| {})).unwrap()
}

/// All cuts and the last status.
fn finish(engine: &Engine) -> (Vec<Cut>, Status) {
    let mut cuts = Vec::new();
    while !engine.finished() {
        cuts.extend(engine.wait());
    }
    let status = engine.status();
    assert_eq!(status.failed, None);
    (cuts, status)
}

fn hashes(cuts: &[Cut]) -> BTreeMap<String, String> {
    let mut hashes = RowHashes::default();
    for cut in cuts {
        hashes.update(cut);
    }
    hashes.digest().into_iter().map(|(kind, hash)| (kind.into(), hash)).collect()
}

fn rows(cuts: &[Cut], kind: &str) -> usize {
    cuts.iter().flat_map(Cut::tables).filter(|table| table.name() == kind).map(coby_core::rows::Table::len).sum()
}

fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    drop(fs::remove_dir_all(&path));
    fs::create_dir_all(&path).unwrap();
    path
}

fn real() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

#[test]
fn replays_and_checkpoints_give_the_rows_of_the_import() {
    let folder = folder("replays");
    let file = recording(&folder, 60);
    let (disk, tape) = (real(), folder.join("tape"));
    let (cuts, imported) = finish(&import(&disk, &file, &tape));
    for kind in
        ["trades", "tops", "book_snapshots", "price_buckets", "heatmap_columns", "candles", "gaps", "instruments"]
    {
        assert!(rows(&cuts, kind) > 0, "no {kind}");
    }
    assert!(imported.errors > 0 && imported.duplicates == 0);
    assert_eq!(hashes(&cuts), imported.row_hashes);
    assert_eq!(imported.broken, Vec::<String>::new());
    assert!(imported.checked > 3, "{} segments", imported.checked);
    for _ in 0..2 {
        let (again, status) = finish(&replay(&disk, &tape, 0, None));
        assert_eq!(status.row_hashes, imported.row_hashes);
        assert_eq!(hashes(&again), imported.row_hashes);
    }
    // From each checkpoint: the same rows as a replay from the start that skips what is before.
    let mut checkpoints = 0;
    for manifest in coby_io::tape::manifests(&*disk, &tape, 0).unwrap() {
        let after = manifest.1.last_pos;
        let (_, from_checkpoint) = finish(&replay(&disk, &tape, after, None));
        let taped = PipelineSettings { update_interval_ms: 300, heatmap_depth: 7, ..PipelineSettings::default() };
        let (_, from_start) = finish(&replay(&disk, &tape, after, Some(taped)));
        assert_eq!(from_checkpoint.row_hashes, from_start.row_hashes, "after {after}");
        assert!(from_checkpoint.records < from_start.records, "no checkpoint was used after {after}");
        checkpoints += 1;
    }
    assert!(checkpoints > 3);
    // Other settings give other columns and the same trades.
    let (_, other) = finish(&replay(&disk, &tape, 0, Some(PipelineSettings::default())));
    assert_ne!(other.row_hashes["heatmap_columns"], imported.row_hashes["heatmap_columns"]);
    assert_eq!(other.row_hashes["trades"], imported.row_hashes["trades"]);
}

#[test]
fn an_import_that_lost_its_power_goes_on() {
    let folder = folder("power");
    let file = recording(&folder, 30);
    let tape = PathBuf::from("/tape");
    let whole: Arc<dyn Disk> = Arc::new(TestDisk::new(0));
    let (cuts, expected) = finish(&import(&whole, &file, &tape));
    let total = TestDisk::operations(&{
        let counted = TestDisk::new(0);
        let disk: Arc<dyn Disk> = Arc::new(counted.clone());
        finish(&import(&disk, &file, &tape));
        counted
    });
    for seed in 0..40_u64 {
        let died = TestDisk::new(seed);
        died.die_after(1 + seed * total / 40);
        let disk: Arc<dyn Disk> = Arc::new(died.clone());
        // What was acknowledged as durable before the cut must be there after it.
        let engine = import(&disk, &file, &tape);
        while !engine.finished() {
            engine.wait();
        }
        let durable = engine.durable_pos();
        drop(engine);
        let survived: Arc<dyn Disk> = Arc::new(died.power_cut(seed));
        let recovered = coby_io::tape::recover(&survived, &tape).unwrap();
        assert!(recovered.last_pos >= durable, "seed {seed}: {} < {durable}", recovered.last_pos);
        let (again, status) = finish(&import(&survived, &file, &tape));
        assert_eq!(status.row_hashes, expected.row_hashes, "seed {seed}");
        assert_eq!(hashes(&again), hashes(&cuts), "seed {seed}");
        assert_eq!(status.broken, Vec::<String>::new(), "seed {seed}");
        let (_, replayed) = finish(&replay(&survived, &tape, 0, None));
        assert_eq!(replayed.row_hashes, expected.row_hashes, "seed {seed}");
        // And once more, now that it is complete: nothing is added.
        let before = recovered_records(&survived, &tape);
        finish(&import(&survived, &file, &tape));
        assert_eq!(recovered_records(&survived, &tape), before);
    }
}

fn recovered_records(disk: &Arc<dyn Disk>, tape: &Path) -> u64 {
    coby_io::tape::info(disk, tape).unwrap().records
}

#[test]
fn a_different_recording_is_refused() {
    let folder = folder("different");
    let (disk, tape) = (real(), folder.join("tape"));
    let file = recording(&folder, 5);
    finish(&import(&disk, &file, &tape));
    let text = fs::read_to_string(&file).unwrap().replace("aggTrade", "AggTrade");
    fs::write(&file, text).unwrap();
    let engine = import(&disk, &file, &tape);
    while !engine.finished() {
        engine.wait();
    }
    let failed = engine.status().failed.unwrap();
    assert!(failed.contains("holds another run"), "{failed}");
}

#[test]
fn a_damaged_block_is_a_gap_and_the_rest_is_read() {
    let folder = folder("damaged");
    let file = recording(&folder, 30);
    let tape = PathBuf::from("/tape");
    let test = TestDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(test.clone());
    let (_, whole) = finish(&import(&disk, &file, &tape));
    let segments = coby_io::tape::info(&disk, &tape).unwrap().segments;
    assert!(test.corrupt(&tape.join(&segments[1].segment), 4_000, 0x40));
    let (cuts, status) = finish(&replay(&disk, &tape, 0, None));
    assert_eq!(status.holes, 1);
    assert_eq!(status.pos, whole.pos);
    let damage = cuts.iter().filter(|cut| {
        cut.gaps.columns().iter().any(|column| {
            matches!(column, Column::Word(codes, words) if codes.iter().any(|code| words[*code as usize] == "damage"))
        })
    });
    assert!(damage.count() > 0, "the hole is in no gap row");
    // The same hole gives the same rows again.
    let (_, again) = finish(&replay(&disk, &tape, 0, None));
    assert_eq!(again.row_hashes, status.row_hashes);
    assert_ne!(again.row_hashes, whole.row_hashes);
    // The background replay notices that the rows are not those of the live run.
    // From there on: once everything has started again, later segments may well have the same rows.
    assert_eq!(checker::check(find, &disk, &tape).unwrap().broken.first(), Some(&segments[1].segment));
}

use coby_core::rows::Table as _;
