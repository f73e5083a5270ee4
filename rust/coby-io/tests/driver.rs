//! The driver in paused time, with an injected network.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed step fails the test")]

mod support;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use coby_core::record::Cause;
use coby_core::venue::{Channel, ConnectionPlan, Subscription};
use coby_io::net::{Clock, Command, Driver, DriverConfig, Endpoints, Inbox, Input, LinkState, ingress};
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

/// What waits now.
fn waiting(ingress: &Inbox) -> VecDeque<Input> {
    let mut inputs = VecDeque::new();
    ingress.take(&mut inputs, Duration::ZERO);
    inputs
}

impl Running {
    async fn dial(&self, venue: &'static str) {
        let subscription = Subscription { native: "XBT/USD".into(), channel: Channel::Book, depth: 0 };
        let base = find(venue).unwrap().spec().sockets[0].into();
        let plans = vec![ConnectionPlan { base, subscriptions: vec![subscription] }];
        self.commands.send(Command::Dial { venue, plans }).await.unwrap();
    }

    /// What has come, once something wanted has; frames are let go.
    async fn until(&self, limit: Duration, wanted: impl Fn(&Input) -> bool) -> Vec<Input> {
        let end = Instant::now() + limit;
        let mut inputs = Vec::new();
        let mut found_it = false;
        loop {
            for input in waiting(&self.ingress) {
                let found = wanted(&input);
                if !matches!(input, Input::Frame { .. }) {
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
    sleep(Duration::from_mins(45)).await;
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
