//! The law: the same records give the same rows, wherever cuts fall and wherever the state is saved and
//! loaded.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod toy;

use std::collections::BTreeMap;
use std::sync::Mutex;

use coby_core::pipeline::Pipeline;
use coby_core::record::Body;
use coby_core::rows::{Cut, RowHashes};
use proptest::prelude::*;

use toy::world::{Taped, World, trouble};
use toy::{TOYS, Toy, find};

const SETTINGS: &str = r#"{"update_interval_ms":200,"heatmap_depth":4,"snapshot_levels":3,
    "bucket_sizes":[{"base":"X","sizes":["2","5"]}]}"#;

/// What is done between two records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Between {
    Nothing,
    Cut,
    /// A checkpoint is made and gone on from; rows that wait are cut first.
    Reload,
}

/// The tape of a random run, with settings at its start and a list of instruments somewhere on it.
fn tape(toy: &'static Toy, ops: &[toy::world::Op], listed: usize) -> Vec<Taped> {
    let mut world = World::new(toy);
    world.twinned = false;
    let anchor = world.now;
    world.step(0, Body::Start { code: "", origin: "live", settings: SETTINGS, anchor });
    world.open();
    for (number, op) in ops.iter().enumerate() {
        if number == listed {
            let (venue, host, body) = (toy.spec.id, "https://toy", &b"X Y"[..]);
            world.step(0, Body::Http { venue, method: "GET", host, path: "/list", request: "", status: 200, body });
        }
        world.run(op);
    }
    // Let candles close.
    world.wait(8_000);
    world.tape
}

/// Hashes and counts of the rows of each kind.
type Rows = BTreeMap<&'static str, (String, usize)>;

fn replay(tape: &[Taped], between: impl Fn(usize) -> Between) -> Rows {
    let mut pipeline = Pipeline::new(find, None);
    let (mut hashes, mut counts) = (RowHashes::default(), BTreeMap::<&str, usize>::new());
    let mut take = |cut: Option<Cut>| {
        let Some(cut) = cut else { return };
        hashes.update(&cut);
        for table in cut.tables() {
            *counts.entry(table.name()).or_default() += table.len();
        }
    };
    for (number, taped) in tape.iter().enumerate() {
        pipeline.step(&taped.record(), &mut Vec::new()).unwrap();
        match between(number) {
            Between::Nothing => {}
            Between::Cut => take(pipeline.cut()),
            Between::Reload => {
                take(pipeline.cut());
                pipeline = Pipeline::load(find, &pipeline.save().unwrap()).unwrap();
            }
        }
    }
    take(pipeline.cut());
    hashes.digest().into_iter().map(|(kind, hash)| (kind, (hash, counts[kind]))).collect()
}

/// Replays the tape as a whole and with cuts and checkpoints; names the kinds whose rows differ.
fn compare(tape: &[Taped], between: &[Between]) -> Result<Rows, Vec<&'static str>> {
    let whole = replay(tape, |_| Between::Nothing);
    let parts = replay(tape, |number| between[number % between.len()]);
    let differ: Vec<_> = whole.keys().filter(|kind| whole[*kind] != parts[*kind]).copied().collect();
    if differ.is_empty() { Ok(whole) } else { Err(differ) }
}

fn betweens() -> impl Strategy<Value = Vec<Between>> {
    let between = prop_oneof![6 => Just(Between::Nothing), 2 => Just(Between::Cut), 1 => Just(Between::Reload)];
    prop::collection::vec(between, 1..40)
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Row counts over all cases, so that no kind is compared only empty.
static SEEN: Mutex<BTreeMap<&'static str, usize>> = Mutex::new(BTreeMap::new());

#[test]
fn rows_do_not_depend_on_cuts_or_checkpoints() {
    let honest = 0..TOYS.len() - 1;
    let inputs = (honest, prop::collection::vec(trouble(), 20..120), 0..20_usize, betweens());
    let mut runner = proptest::test_runner::TestRunner::new(config(400));
    let result = runner.run(&inputs, |(toy, ops, listed, between)| {
        let tape = tape(&TOYS[toy], &ops, listed);
        match compare(&tape, &between) {
            Ok(rows) => {
                let mut seen = SEEN.lock().unwrap();
                for (kind, (_, count)) in rows {
                    *seen.entry(kind).or_default() += count;
                }
                Ok(())
            }
            Err(kinds) => Err(TestCaseError::fail(format!("{} differ", kinds.join(", ")))),
        }
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    let seen = SEEN.lock().unwrap();
    assert_eq!(seen.len(), coby_core::rows::KINDS);
    assert!(seen.values().all(|count| *count > 100), "{seen:?}");
}

#[test]
fn a_clock_that_leaks_into_rows_is_found() {
    let leaky = &TOYS[TOYS.len() - 1];
    assert!(leaky.leaky);
    let honest = toy::toy("contiguous_socket");
    let inputs = (prop::collection::vec(trouble(), 40..120), betweens());
    let mut runner = proptest::test_runner::TestRunner::new(config(20));
    let result = runner.run(&inputs, |(ops, between)| {
        // The world cannot follow versions that are stamped from outside, so the tape is an honest toy's.
        let tape = tape(honest, &ops, 0);
        let leaked: Vec<Taped> = tape.iter().map(|taped| taped.of_venue(leaky.spec.id)).collect();
        prop_assert_eq!(compare(&tape, &between).is_ok(), true);
        let rows = replay(&tape, |_| Between::Nothing);
        let found = compare(&leaked, &between).err().unwrap_or_default();
        // Wherever a book's change made a row, the leak is in it; trades carry the venue's own time.
        prop_assert_eq!(found.contains(&"tops"), rows["tops"].1 > 0);
        prop_assert!(!found.contains(&"trades"));
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}
