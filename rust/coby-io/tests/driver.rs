//! The driver in paused time, with an injected network.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed step fails the test")]

mod support;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use coby_core::record::Cause;
use coby_core::venue::{Channel, ConnectionPlan, Subscription};
use coby_io::net::{
    Clock, Command, Driver, DriverConfig, Endpoints, External, Inbox, Input, LARGEST, LinkState, Push, ingress,
};
use coby_venues::registry::find;
use support::exchange::Exchange;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

struct Running {
    driver: Driver,
    commands: mpsc::Sender<Command>,
    ingress: Inbox,
    task: tokio::task::JoinHandle<()>,
}

fn start(exchange: &Exchange) -> Running {
    let (sender, ingress) = ingress(10_000);
    let config = DriverConfig {
        lookup: find,
        endpoints: Endpoints::real(),
        network: Arc::new(exchange.clone()),
        clock: Clock::start(),
        places: 100,
        first_conn: 7,
    };
    let driver = Driver::new(config, sender);
    let (commands, orders) = mpsc::channel(10);
    let task = tokio::spawn(driver.clone().run(orders));
    Running { driver, commands, ingress, task }
}

/// What waits now. As an engine does, it reads the lists, which then look like other answers.
fn waiting(ingress: &Inbox) -> VecDeque<Input> {
    let mut inputs = VecDeque::new();
    ingress.take(&mut inputs, Duration::ZERO, Duration::ZERO);
    let taken = inputs.into_iter().map(|input| match input {
        Input::List { venue, request, status, body, recv, heard } => {
            let mut listings = Vec::new();
            let read = find(venue).unwrap().parse_instruments(&request, &body, &mut listings);
            drop(heard.send(read.map(|()| listings.len()).map_err(|error| error.to_string())));
            Input::Http { venue, conn: 0, request, status, body, recv }
        }
        other => other,
    });
    taken.collect()
}

impl Running {
    async fn dial(&self, venue: &'static str) {
        let subscription = Subscription { native: "XBT/USD".into(), channel: Channel::Book, depth: 0 };
        let base = find(venue).unwrap().spec().sockets[0].into();
        let plans = vec![ConnectionPlan { base, subscriptions: vec![subscription] }];
        self.commands.send(Command::Dial { venue, plans }).await.unwrap();
    }

    /// A connection `conn` whose frames are pushed.
    async fn feed(&self, conn: u32) -> External {
        let (reply, answer) = sync_channel(1);
        self.commands.send(Command::Feed { exchange: "demo".into(), reply }).await.unwrap();
        let opened = |input: &Input| matches!(input, Input::Open { conn: of, plan: None, url, .. } if *of == conn && url == "external://demo");
        self.until(Duration::from_secs(1), opened).await;
        answer.try_recv().unwrap()
    }

    /// Takes whatever comes for so long.
    async fn pass(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            drop(waiting(&self.ingress));
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// What has come, once something wanted has; frames are let go.
    async fn until(&self, limit: Duration, wanted: impl Fn(&Input) -> bool) -> Vec<Input> {
        let end = Instant::now() + limit;
        let mut inputs = Vec::new();
        let mut found_it = false;
        loop {
            for input in waiting(&self.ingress) {
                let found = wanted(&input);
                if !matches!(input, Input::Frames { .. }) {
                    inputs.push(input);
                }
                if found {
                    found_it = true;
                }
            }
            if found_it {
                return inputs;
            }
            assert!(Instant::now() < end, "not within {limit:?}: {inputs:?}");
            sleep((limit / 10_000).max(Duration::from_millis(5))).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_venue_that_refuses_for_45_minutes_is_back_within_35_seconds() {
    let exchange = Exchange::busy();
    exchange.told.refuse.store(true, Ordering::Relaxed);
    let running = start(&exchange);
    running.commands.send(Command::List("kraken")).await.unwrap();
    running.dial("kraken").await;
    running.pass(Duration::from_mins(45)).await;
    let dials = exchange.told.dials.lock().unwrap().clone();
    let (limit, seconds) = find("kraken").unwrap().spec().limits.dials;
    for window in dials.windows(limit as usize + 1) {
        assert!(window[limit as usize] - window[0] > Duration::from_secs(seconds.into()));
    }
    // It went on trying all the time.
    assert!(dials.windows(2).all(|pair| pair[1] - pair[0] <= Duration::from_secs(31)), "{dials:?}");
    assert!(dials.len() >= 45 * 60 / 31 && dials.len() < 200, "{}", dials.len());
    let link = running.driver.status().remove(0);
    assert!(link.state == LinkState::Waiting && link.attempts > 80 && link.next_attempt.is_some(), "{link:?}");
    assert!(link.error.unwrap().contains("refused"));
    let list = running.driver.lists().remove("kraken").unwrap();
    assert!(list.error.is_some() && list.next_attempt.is_some());
    drop(waiting(&running.ingress));

    exchange.told.refuse.store(false, Ordering::Relaxed);
    let back = Instant::now();
    running.until(Duration::from_secs(35), |input| matches!(input, Input::Open { conn: 8, .. })).await;
    let list = |input: &Input| matches!(input, Input::Http { status: 200, .. });
    if !waiting(&running.ingress).iter().any(list) && running.driver.lists()["kraken"].error.is_some() {
        running.until(Duration::from_secs(35).saturating_sub(back.elapsed()), list).await;
    }
    // The driver hears of it next.
    running.pass(Duration::from_millis(100)).await;
    assert!(running.driver.lists()["kraken"].error.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_replaced_before_the_venue_would_cut_it() {
    let exchange = Exchange::default();
    let running = start(&exchange);
    let lifetime = Duration::from_secs(find("mexc").unwrap().spec().limits.lifetime.into());
    assert_eq!(lifetime, Duration::from_hours(24));
    running.dial("mexc").await;
    let begun = Instant::now();
    running.until(Duration::from_secs(1), |input| matches!(input, Input::Open { conn: 8, .. })).await;
    // The exchange says nothing, so silence must not end it meanwhile: pings are answered by frames.
    let inputs = running.until(lifetime, |input| matches!(input, Input::Open { conn: 9, .. })).await;
    assert_eq!(inputs.len(), 1, "{inputs:?}");
    assert!(begun.elapsed() < lifetime && begun.elapsed() + Duration::from_hours(1) > lifetime);
    let closed = |input: &Input| matches!(input, Input::Close { conn: 8, cause: Cause::Planned, .. });
    running.until(Duration::from_secs(20), closed).await;
    assert_eq!(exchange.told.open.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_replacement_does_not_hold_stays() {
    let exchange = Exchange::default();
    let running = start(&exchange);
    let lifetime = Duration::from_secs(find("mexc").unwrap().spec().limits.lifetime.into());
    running.dial("mexc").await;
    running.until(Duration::from_secs(1), |input| matches!(input, Input::Open { conn: 8, .. })).await;
    exchange.told.hang_up.store(true, Ordering::Relaxed);
    let ended = |input: &Input| matches!(input, Input::Close { .. });
    let inputs = running.until(lifetime, ended).await;
    let first = |input: &Input| matches!(input, Input::Close { conn: 8, .. });
    assert!(!inputs.iter().any(first), "{inputs:?}");
    assert_eq!(exchange.told.open.load(Ordering::Relaxed), 1, "the first one goes on");
    exchange.told.hang_up.store(false, Ordering::Relaxed);
    let replaced = |input: &Input| matches!(input, Input::Close { conn: 8, cause: Cause::Planned, .. });
    running.until(Duration::from_mins(2), replaced).await;
    assert_eq!(exchange.told.open.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_goes_mute_is_cut_and_dialled_again() {
    let exchange = Exchange::default();
    let running = start(&exchange);
    // Binance's only sign of life besides data are the WebSocket's own pings.
    running.dial("binance").await;
    let begun = Instant::now();
    let silence = Duration::from_secs(find("binance").unwrap().spec().silence.into());
    let cut = |input: &Input| matches!(input, Input::Close { cause: Cause::Silence, .. });
    running.until(silence * 2, cut).await;
    assert!(begun.elapsed() >= silence);
    running.until(Duration::from_secs(5), |input| matches!(input, Input::Open { conn: 9, .. })).await;
    // A quiet market: the next one may keep silent for longer.
    let again = Instant::now();
    running.until(silence * 3, cut).await;
    assert!(again.elapsed() >= silence * 2);
}

#[tokio::test(start_paused = true)]
async fn the_end_closes_every_connection_and_tells_it() {
    let exchange = Exchange::default();
    let running = start(&exchange);
    running.dial("kraken").await;
    running.until(Duration::from_secs(1), |input| matches!(input, Input::Open { .. })).await;
    let Running { commands, ingress, task, .. } = running;
    drop(commands);
    task.await.unwrap();
    let inputs = waiting(&ingress);
    assert!(matches!(inputs.back(), Some(Input::Close { cause: Cause::Restart, .. })), "{inputs:?}");
}

#[tokio::test(start_paused = true)]
async fn frames_that_are_pushed_wait_for_a_place_and_end_with_their_connection() {
    let running = start(&Exchange::default());
    running.dial("kraken").await;
    running.until(Duration::from_secs(1), |input| matches!(input, Input::Open { conn: 8, .. })).await;
    let external = running.feed(9).await;
    assert_eq!(external.push(&" ".repeat(LARGEST + 1)), Push::TooLong);
    assert!((0..100).all(|_| external.push("{}") == Push::Taken));
    assert_eq!((external.push("{}"), external.push("{}")), (Push::Full, Push::Full));
    let frames = waiting(&running.ingress);
    let text = |input: &Input| matches!(input, Input::Frames { conn: 9, frames, .. } if frames.iter().eq([(true, &b"{}"[..])]));
    assert!(frames.iter().all(text), "{frames:?}");
    // Their places are free once the frames are done with.
    assert_eq!((frames.len(), external.push("{}")), (100, Push::Full));
    drop(frames);
    assert_eq!(external.push("{}"), Push::Taken);
    assert_eq!(external.instruments("[]"), Push::Taken);
    let listed =
        |input: &Input| matches!(input, Input::Http { request, .. } if request.path == "/instruments?exchange=demo");
    running.until(Duration::from_secs(1), listed).await;
    assert!(running.driver.status().iter().any(|link| link.venue == "external" && link.conn == 9));

    // The engine wants its books to start again.
    running.commands.send(Command::Reconnect(9)).await.unwrap();
    let closed = |conn: u32, cause: Cause| move |input: &Input| matches!(input, Input::Close { conn: of, cause: why, .. } if (*of, *why) == (conn, cause));
    running.until(Duration::from_secs(1), closed(9, Cause::Error)).await;
    assert!(external.ended());
    assert_eq!((external.push("{}"), external.instruments("[]")), (Push::Ended, Push::Ended));
    assert!(waiting(&running.ingress).is_empty());

    // Its user lets it go.
    drop(running.feed(10).await);
    running.until(Duration::from_secs(1), closed(10, Cause::Closed)).await;
    let last = running.feed(11).await;
    assert_eq!(running.driver.status().iter().filter(|link| link.venue == "external").count(), 1);

    // Everything ends, without a wait for those who push.
    let Running { commands, ingress, task, .. } = running;
    let begun = Instant::now();
    drop(commands);
    task.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(waiting(&ingress).iter().any(closed(11, Cause::Restart)));
    assert_eq!(last.push("{}"), Push::Ended);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_none_is_asked_for_again_soon() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n<html>later</html>",
        "HTTP/1.1 200 OK\r\ncontent-length: 24\r\n\r\n{\"error\":[],\"result\":{}}",
        // A pause that no clock can hold.
        "HTTP/1.1 503 No\r\nretry-after: 18446744073709551615\r\ncontent-length: 2\r\n\r\nno",
    ] {
        let exchange = Exchange::default();
        *exchange.told.answer.lock().unwrap() = Some(answer);
        let running = start(&exchange);
        running.commands.send(Command::List("kraken")).await.unwrap();
        running.pass(Duration::from_secs(20)).await;
        let list = running.driver.lists().remove("kraken").unwrap();
        assert!(list.error.is_some() && list.attempts > 0, "{list:?}");
        *exchange.told.answer.lock().unwrap() = None;
        if answer.contains("503") {
            continue;
        }
        running.pass(Duration::from_secs(35)).await;
        assert_eq!(running.driver.lists()["kraken"].error, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_used_up_quota_does_not_keep_a_connection_from_reading() {
    let running = start(&Exchange::busy());
    // 480 messages an hour.
    running.dial("okx").await;
    let send = async |text: &str| {
        running.commands.send(Command::Send { conn: 8, text: text.into() }).await.unwrap();
    };
    running.until(Duration::from_secs(1), |input| matches!(input, Input::Open { conn: 8, .. })).await;
    send(r#"{"params":{"symbol":["BTC/USD"],"channel":"book"}}"#).await;
    for _ in 0..500 {
        send("{}").await;
    }
    let mut frames = Vec::new();
    for _ in 0..400 {
        sleep(Duration::from_millis(5)).await;
        frames.push(waiting(&running.ingress).len());
    }
    let late = frames[200..].iter().filter(|count| **count > 0).count();
    assert!(late > 190, "{frames:?}");
}
