//! The keeper against a venue whose true book is known at every moment.
//!
//! A made-up venue per rule and join streams the changes of two random markets over up to three
//! connections. Frames are lost, doubled, swapped and garbled, answers come late, stale, twice or never,
//! connections come and go. Whatever happens, a live book must be the true one of the version it claims to
//! be, and a gap must be open exactly while a book that was live is not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod toy;

use coby_core::event::GapCause;
use coby_core::keeper::State;
use coby_core::record::{Body, Cause, Nanos};
use coby_core::venue::Proof;
use proptest::prelude::*;

use toy::world::{FAULTY, Fate, Op, SECOND, World, peace, trouble};
use toy::{TOYS, toy};

fn play(toy: usize, ops: &[Op], peaceful: bool) {
    let mut world = World::new(&TOYS[toy]);
    world.open();
    for op in ops {
        world.run(op);
    }
    if peaceful {
        let causes = world.log.causes.iter().flatten();
        let announced = causes.clone().all(|cause| world.announced(*cause));
        assert!(!world.faulted && announced, "{:?}", world.log.causes);
    }
    world.recover();
}

/// The toys without the one that breaks the law on purpose.
const PLAYED: std::ops::Range<usize> = 0..24;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_live_book_is_the_true_one_whatever_happens(
        toy in PLAYED,
        ops in prop::collection::vec(trouble(), 0..120),
    ) {
        play(toy, &ops, false);
    }

    #[test]
    fn in_peace_only_closed_connections_open_gaps(
        toy in PLAYED,
        ops in prop::collection::vec(peace(), 0..120),
    ) {
        play(toy, &ops, true);
    }
}

/// A world in which both books are live, and nothing is on its way.
fn live(id: &str) -> World {
    let mut world = World::new(toy(id));
    world.open();
    world.recover();
    world.log.causes = Default::default();
    world.requests.clear();
    world
}

/// Loses one frame of the faulty instrument and delivers the next.
fn lose_one(world: &mut World) {
    for (fate, distance) in [(Fate::Lost, 2), (Fate::Arrives, 3)] {
        world.shift(FAULTY, &[(1, distance, 50)], 1);
        let last = world.links.len() - 1;
        world.frame(last, fate);
    }
}

/// When the faulty instrument's book was asked for.
fn asked(world: &World) -> Vec<Nanos> {
    world.requests.iter().filter(|(_, instrument)| *instrument == FAULTY).map(|(time, _)| *time).collect()
}

#[test]
fn a_lost_book_is_asked_for_after_10_s_doubling_to_5_min() {
    for id in ["contiguous_request", "chain_request", "increment_request", "contiguous_socket", "chain_socket"] {
        let mut world = live(id);
        lose_one(&mut world);
        assert_eq!(world.state(FAULTY), State::Buffering, "{id}");
        assert_eq!(world.log.causes[FAULTY], [GapCause::Sequence], "{id}");
        assert_eq!(asked(&world).len(), 1, "{id} asks at once");
        for _ in 0..15_000 {
            world.wait(100);
        }
        let waits: Vec<_> = asked(&world).windows(2).map(|pair| (pair[1] - pair[0]) / SECOND).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300], "{id}");
        // An answer ends it; the next loss starts again from 10 s.
        world.drain();
        assert_eq!(world.state(FAULTY), State::Live, "{id}");
        world.requests.clear();
        lose_one(&mut world);
        for _ in 0..400 {
            world.wait(100);
        }
        let waits: Vec<_> = asked(&world).windows(2).map(|pair| (pair[1] - pair[0]) / SECOND).collect();
        assert_eq!(waits, [10, 20], "{id}");
    }
}

#[test]
fn a_book_that_never_started_is_asked_for_too() {
    let mut world = World::new(toy("contiguous_request"));
    world.open();
    world.shift(FAULTY, &[(0, 0, 1)], 1);
    world.frame(0, Fate::Arrives);
    assert_eq!(asked(&world).len(), 0, "the snapshot is to fall inside the buffer");
    for _ in 0..100 {
        world.wait(100);
    }
    assert_eq!(asked(&world).len(), 1, "a quiet market has its book too");
    world.drain();
    assert_eq!((world.state(FAULTY), world.log.causes[FAULTY].len()), (State::Live, 0));
}

#[test]
fn a_snapshot_that_a_socket_does_not_send_is_asked_for() {
    let mut world = World::new(toy("contiguous_socket"));
    world.open();
    world.asked.clear();
    world.shift(FAULTY, &[(0, 0, 1)], 1);
    world.frame(0, Fate::Arrives);
    for _ in 0..800 {
        world.wait(100);
    }
    let waits: Vec<_> = asked(&world).windows(2).map(|pair| (pair[1] - pair[0]) / SECOND).collect();
    assert_eq!(waits, [10, 20, 40]);
}

#[test]
fn a_second_answer_to_a_live_book_is_no_reason_for_a_gap() {
    for id in ["monotone_request", "contiguous_request"] {
        let mut world = live(id);
        for round in 0..4 {
            world.shift(FAULTY, &[(0, round, 80 + round)], 3);
            world.drain();
            // Read a moment later than the last delta: newer, with nothing in between.
            let (latest, conn) = (world.latest(FAULTY), world.links[0].id);
            let moment = world.markets[FAULTY].spans[latest].1 + 1;
            let body = world.line(FAULTY, latest, "snapshot", 0, Some(moment));
            world.http(conn, FAULTY, 200, &body);
        }
        world.shift(FAULTY, &[(0, 0, 1)], 3);
        world.drain();
        assert_eq!((world.state(FAULTY), world.log.causes[FAULTY].len()), (State::Live, 0), "{id}");
        world.same(FAULTY);
    }
}

#[test]
fn a_refresh_of_a_quiet_book_is_no_reason_for_a_gap() {
    let mut world = live("monotone_request_refresh");
    for round in 0..4 {
        for _ in 0..640 {
            world.wait(100);
        }
        let ours = world.asked.iter().position(|(_, instrument, _)| *instrument == FAULTY);
        let (conn, ..) = world.asked.remove(ours.expect("a minute has passed")).unwrap();
        let latest = world.latest(FAULTY);
        let moment = world.markets[FAULTY].spans[latest].1 + 1;
        let body = world.line(FAULTY, latest, "snapshot", 0, Some(moment));
        world.http(conn, FAULTY, 200, &body);
        world.shift(FAULTY, &[(0, round, 80 + round)], 3);
        world.drain();
        assert_eq!((world.state(FAULTY), world.log.causes[FAULTY].len()), (State::Live, 0));
    }
}

#[test]
fn more_deltas_than_the_buffer_holds_start_the_join_again() {
    for id in ["contiguous_request", "monotone_request"] {
        for lived in [false, true] {
            let mut world = if lived { live(id) } else { World::new(toy(id)) };
            world.twinned = false;
            if lived {
                world.shift(FAULTY, &[(0, 1, 7)], 1);
                world.frame(1, Fate::Garbled);
                assert_eq!(world.log.causes[FAULTY], [GapCause::Malformed]);
            } else {
                world.open();
            }
            let place = world.links.len() - 1;
            for number in 0..10_000 {
                world.shift(FAULTY, &[(0, number % 4, number)], 1);
                world.frame(place, Fate::Arrives);
            }
            assert_eq!(asked(&world).len(), 1, "{id}");
            let before = world.latest(FAULTY);
            world.shift(FAULTY, &[(0, 0, 1)], 1);
            world.frame(place, Fate::Arrives);
            assert_eq!(asked(&world).len(), 2, "{id} asks again");
            let causes = if lived { GapCause::Malformed } else { GapCause::Buffer };
            assert_eq!(world.log.causes[FAULTY], [causes], "{id}");
            // An answer to the first request: the deltas that would have joined it are gone. Whatever is made of
            // it, the next delta does not follow it.
            let conn = world.links[place].id;
            world.answer(conn, FAULTY, before - 5, false);
            world.shift(FAULTY, &[(0, 0, 2)], 1);
            world.frame(place, Fate::Arrives);
            assert_ne!(world.state(FAULTY), State::Live, "{id}");
            world.recover();
        }
    }
}

#[test]
fn a_refresh_heals_what_cannot_be_proved_and_says_so() {
    let mut world = live("monotone_request_refresh");
    lose_one(&mut world);
    assert_eq!((world.state(FAULTY), world.log.causes[FAULTY].len()), (State::Live, 0), "times prove nothing");
    for _ in 0..640 {
        world.wait(100);
    }
    assert_eq!(asked(&world).len(), 1, "a minute has passed, and three seconds in which no delta came");
    // The answer meets the book at the same place in the order, where a difference is one.
    for number in 0..3 {
        world.shift(FAULTY, &[(0, 1, 90 + number)], 1);
        for place in 0..world.links.len() {
            world.frame(place, Fate::Arrives);
        }
    }
    world.drain();
    assert_eq!((world.state(FAULTY), &world.log.causes[FAULTY][..]), (State::Live, &[GapCause::Drift][..]));
    assert_eq!(world.log.version[FAULTY], world.latest(FAULTY));
    world.same(FAULTY);
}

#[test]
fn a_refresh_of_a_right_book_is_not_seen() {
    for id in ["monotone_request_refresh", "contiguous_request_refresh"] {
        let mut world = live(id);
        for round in 0..50 {
            world.wait(9_000);
            world.shift(FAULTY, &[(0, round % 4, round)], 2);
            world.drain();
            assert_eq!(world.log.version[FAULTY], world.latest(FAULTY), "{id}");
        }
        assert!(asked(&world).len() > 5, "{id} was read anew");
        assert_eq!(world.log.causes, <[Vec<GapCause>; 2]>::default(), "{id}");
    }
}

#[test]
fn a_book_whose_price_leaves_a_cut_off_snapshot_proves_nothing_until_it_is_read_anew() {
    let mut world = World::new(toy("contiguous_request_short"));
    world.open();
    let conn = world.links[0].id;
    let delta = |world: &mut World, number: i64, levels: &str| {
        world.step(conn, Body::Text(format!("- delta X {number} {number} - {number} {levels}").as_bytes()));
    };
    delta(&mut world, 1, "b100:1");
    delta(&mut world, 2, "b100:2");
    let asks = "a101:1 a102:1 a103:1 a104:1";
    world.http(conn, FAULTY, 200, &format!("- snapshot X - 2 - 2 b100:2 b99:1 b98:1 b97:1 {asks}"));
    world.requests.clear();
    delta(&mut world, 3, "b100:0 b99:0");
    world.wait(6_000);
    assert_eq!((world.log.proof[FAULTY], asked(&world).len()), (Some(Proof::Sequence), 0), "half way");
    delta(&mut world, 4, "b98:0");
    world.wait(100);
    assert_eq!((world.log.proof[FAULTY], asked(&world).len()), (Some(Proof::Sequence), 0), "deltas are to wait first");
    delta(&mut world, 5, "b97:0 b95:1");
    assert_eq!(world.log.proof[FAULTY], Some(Proof::None), "older bids may rest at 96");
    assert_eq!(world.state(FAULTY), State::Live);
    delta(&mut world, 6, "b95:2");
    assert_eq!(asked(&world).len(), 1);
    world.wait(9_000);
    assert_eq!(asked(&world).len(), 1, "an answer is waited for");
    world.wait(6_000);
    assert_eq!(asked(&world).len(), 2, "though not for ever");
    world.http(conn, FAULTY, 200, &format!("- snapshot X - 6 - 6 b96:7 b95:2 b94:1 b93:1 {asks}"));
    assert_eq!(world.log.proof[FAULTY], Some(Proof::Sequence));
    delta(&mut world, 7, "a101:2");
    assert_eq!((world.log.proof[FAULTY], world.state(FAULTY)), (Some(Proof::Sequence), State::Live));
    world.wait(60_000);
    assert_eq!(asked(&world).len(), 2, "a price that stays is no reason to ask");
    // Whole at three levels: no bid can rest beyond.
    delta(&mut world, 8, "b96:0 b95:0 b94:0");
    world.wait(100);
    world.http(conn, FAULTY, 200, &format!("- snapshot X - 8 - 8 b93:1 b92:1 {asks}"));
    world.requests.clear();
    delta(&mut world, 9, "b93:0 b92:0 b50:1");
    world.wait(60_000);
    assert_eq!((world.log.proof[FAULTY], asked(&world).len()), (Some(Proof::Sequence), 0));
}

#[test]
fn a_number_beyond_64_bits_sets_one_book_aside_until_the_next_list() {
    // A price that no decimal holds, and a size that the book's other sizes leave no room for.
    for levels in ["b1e30:5", "b99:9000000000000000000 b98:0.5"] {
        let mut world = live("contiguous_socket");
        let conn = world.links[world.links.len() - 1].id;
        let (first, last) = (world.markets[FAULTY].spans[world.latest(FAULTY)].1 + 1, 1_000_000);
        world.step(conn, Body::Text(format!("- delta X {first} {last} - 0 {levels}").as_bytes()));
        assert_ne!(world.state(FAULTY), State::Live, "{levels}");
        assert_eq!(world.log.causes[FAULTY], [GapCause::Range], "{levels}");
        world.shift(FAULTY, &[(0, 0, 3)], 1);
        world.drain();
        world.wait(1_000_000);
        assert_eq!(asked(&world).len(), 0, "{levels}: asking would not help");
        assert_eq!(world.state(1 - FAULTY), State::Live, "{levels}");
        let (venue, host, body) = (world.toy.spec.id, "https://toy", &b"X Y"[..]);
        world.step(0, Body::Http { venue, method: "GET", host, path: "/list", request: "", status: 200, body });
        assert_eq!(asked(&world).len(), 1, "{levels}: a new list gives it another chance");
        world.drain();
        assert_eq!(world.state(FAULTY), State::Live, "{levels}");
        assert!(world.log.open[FAULTY].is_empty(), "{levels}");
    }
}

#[test]
fn a_book_crossed_for_5_s_is_lost() {
    for id in ["monotone_socket", "none_socket"] {
        let mut world = live(id);
        world.faulted = true;
        let conn = world.links[world.links.len() - 1].id;
        let number = if id == "none_socket" { "-" } else { "9000" };
        let cross = |size: i64| format!("- delta X - {number} - 9000 b102:{size}");
        world.step(conn, Body::Text(cross(1).as_bytes()));
        for _ in 0..49 {
            world.wait(100);
        }
        assert_eq!(world.state(FAULTY), State::Live, "{id}: the other half of a move may be on its way");
        world.wait(300);
        assert_eq!(world.log.causes[FAULTY], [GapCause::Crossed], "{id}");
        assert_eq!(asked(&world).len(), 1, "{id}");
        world.faulted = false;
        world.drain();
        assert_eq!(world.state(FAULTY), State::Live, "{id}");
    }
}

#[test]
fn a_book_that_only_an_answer_made_ends_with_the_last_connection() {
    let mut world = World::new(toy("contiguous_request"));
    world.open();
    world.run(&Op::Unasked { instrument: FAULTY, stale: 0 });
    assert_eq!((world.state(FAULTY), world.owner(FAULTY)), (State::Live, 0));
    let conn = world.links.remove(0).id;
    world.step(conn, Body::Close { cause: Cause::Closed, code: 1006 });
    assert_eq!((world.state(FAULTY), &world.log.causes[FAULTY][..]), (State::Gap, &[GapCause::Closed][..]));
}

#[test]
fn a_newer_connection_takes_over_without_a_gap() {
    for toy in &TOYS[PLAYED] {
        let mut world = live(toy.spec.id);
        world.open();
        let newest = world.dialled;
        for round in 0..4 {
            world.shift(FAULTY, &[(0, round, 60 + round)], 1);
            world.shift(1 - FAULTY, &[(0, round, 60 + round)], 1);
            world.drain();
        }
        for instrument in 0..2 {
            let id = toy.spec.id;
            assert_eq!((world.state(instrument), world.owner(instrument)), (State::Live, newest), "{id}");
        }
        // The older ones end and nothing happens.
        while world.links.len() > 1 {
            let conn = world.links.remove(0).id;
            world.step(conn, Body::Close { cause: Cause::Planned, code: 1000 });
        }
        assert_eq!(world.log.causes, <[Vec<GapCause>; 2]>::default(), "{}", toy.spec.id);
    }
}

#[test]
fn a_frame_lost_on_the_connection_that_is_about_to_take_over_is_not_forgotten() {
    // Times order the messages, so nothing but the news of the loss can tell.
    let mut world = live("monotone_request");
    world.open();
    let newest = world.links.len() - 1;
    world.shift(FAULTY, &[(0, 0, 71)], 1);
    world.frame(newest, Fate::Arrives);
    let version = world.latest(FAULTY);
    world.shift(FAULTY, &[(0, 1, 72)], 1);
    world.frame(newest, Fate::Garbled);
    world.shift(FAULTY, &[(0, 2, 73)], 1);
    world.frame(newest, Fate::Arrives);
    // A snapshot older than the loss joins what was buffered before it, if that is still there.
    let conn = world.links[newest].id;
    world.answer(conn, FAULTY, version, false);
    assert_ne!(world.owner(FAULTY), conn);
    world.recover();
}

#[test]
fn a_frame_lost_while_a_snapshot_is_waited_for_is_not_forgotten() {
    for overflow in [false, true] {
        let mut world = World::new(toy("monotone_request"));
        world.open();
        world.shift(FAULTY, &[(0, 0, 71)], 1);
        world.frame(0, Fate::Arrives);
        let version = world.latest(FAULTY);
        world.shift(FAULTY, &[(0, 1, 72)], 1);
        if overflow {
            world.run(&Op::Overflow { connection: 0, frames: 1 });
        } else {
            world.frame(0, Fate::Garbled);
        }
        world.shift(FAULTY, &[(0, 2, 73)], 1);
        world.frame(0, Fate::Arrives);
        // It meets what was buffered before the loss, and hides the hole.
        world.answer(world.links[0].id, FAULTY, version, false);
        world.recover();
    }
}
