//! What a frame costs from a socket to rows, beside its parts: reading and dropping it, the pure path, the tape.
//!
//! The exchange is this program in a process of its own, so that its work is not counted.

use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coby_core::pipeline::Pipeline;
use coby_core::record::{Body, Nanos, Record, position};
use coby_core::settings::PipelineSettings;
use coby_io::disk::RealDisk;
use coby_io::engine::{Engine, LiveConfig};
use coby_io::import::GRID;
use coby_io::net::{Clock, Endpoints, RealNetwork};
use coby_io::recording::{FrameKind, RecordedFrame};
use coby_io::tape::{TapeOptions, TapeWriter};
use coby_venues::registry::find;
use futures_util::{SinkExt, StreamExt};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::measure::{Contestant, Line, Plan, Sample};
use crate::synthetic::long_recording;

/// The flag by which this program becomes the exchange.
pub const SERVE: &str = "--exchange";
const VENUE: &str = "binance_futures";
const BASES: [&str; 4] = ["BTC", "ETH", "SOL", "XRP"];
/// Frames of a round.
const FRAMES: i64 = 20_000;
/// Frames of a burst.
const BURST: usize = 10;
/// From burst to burst.
const EVERY: Nanos = 1_000_000;
const ROWS: usize = 4_096;
/// No round takes longer.
const LIMIT: Duration = Duration::from_mins(1);

fn frames() -> Vec<RecordedFrame> {
    long_recording(VENUE, FRAMES)
}

/// Nanoseconds that this process has run.
fn cpu() -> u128 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u128 * 1_000_000_000 + time.tv_nsec as u128
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The exchange: prints its address and serves until standard input ends.
pub fn serve() {
    let frames: &'static [RecordedFrame] = frames().leak();
    // A name of its own tells profilers whose work it is.
    let named = std::thread::Builder::new().name("exchange".into()).spawn(move || serve_frames(frames));
    named.expect("a thread").join().expect("the exchange");
}

fn serve_frames(frames: &'static [RecordedFrame]) {
    runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a client");
                stream.set_nodelay(true).expect("an option");
                tokio::spawn(client(stream, frames));
            }
        });
        // It ends with whoever has started it.
        let mut nothing = [0; 1];
        drop(tokio::io::AsyncReadExt::read(&mut stdin(), &mut nothing).await);
    });
}

/// Standard input, for tokio.
fn stdin() -> impl tokio::io::AsyncRead + Unpin {
    let (read, write) = tokio::io::duplex(16);
    std::thread::spawn(move || {
        let mut line = String::new();
        // Its end is what is waited for.
        drop(std::io::stdin().read_line(&mut line));
        drop(write);
    });
    read
}

async fn client(stream: TcpStream, frames: &'static [RecordedFrame]) {
    let mut head = [0; 512];
    let read = stream.peek(&mut head).await.expect("a request");
    let head = String::from_utf8_lossy(&head[..read]).into_owned();
    if head.to_lowercase().contains("upgrade: websocket") {
        socket(stream, head.contains("/raw"), frames).await;
    } else {
        http(stream, &head, frames).await;
    }
}

async fn http(mut stream: TcpStream, head: &str, frames: &[RecordedFrame]) {
    let body = if head.contains("exchangeInfo") {
        let symbols = BASES.map(|base| format!(
            concat!(
                r#"{{"symbol":"{0}USDT","contractType":"PERPETUAL","status":"TRADING","baseAsset":"{0}","quoteAsset":"USDT","#,
                r#""filters":[{{"filterType":"PRICE_FILTER","tickSize":"0.01"}},{{"filterType":"LOT_SIZE","stepSize":"0.001"}}]}}"#
            ),
            base
        ));
        format!(r#"{{"symbols":[{}]}}"#, symbols.join(",")).into_bytes()
    } else {
        let asked = |frame: &&RecordedFrame| {
            let symbol = frame.url.split("symbol=").nth(1).and_then(|rest| rest.split('&').next());
            frame.kind == FrameKind::Http && symbol.is_some_and(|symbol| head.contains(symbol))
        };
        frames.iter().find(asked).map(|frame| frame.body.clone()).unwrap_or_default()
    };
    let mut asked = vec![0; head.len()];
    stream.read_exact(&mut asked).await.expect("a request");
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(answer.as_bytes()).await.expect("an answer");
    stream.write_all(&body).await.expect("an answer");
}

async fn socket(stream: TcpStream, raw: bool, frames: &'static [RecordedFrame]) {
    let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a handshake");
    let texts: Vec<&str> = frames
        .iter()
        .filter(|frame| frame.kind == FrameKind::Text)
        .map(|frame| std::str::from_utf8(&frame.body).expect("text"))
        .collect();
    if !raw {
        // Only the connection that asks for books gets them.
        let asked = loop {
            match socket.next().await {
                Some(Ok(Message::Text(text))) => break text.contains("@depth"),
                Some(Ok(_)) => {}
                _ => return,
            }
        };
        if !asked {
            while socket.next().await.is_some_and(|message| message.is_ok()) {}
            return;
        }
    }
    let mut ticks = tokio::time::interval(Duration::from_nanos(EVERY.cast_unsigned()));
    for (at, burst) in texts.chunks(BURST).enumerate() {
        ticks.tick().await;
        for text in burst {
            if socket.feed(Message::text(*text)).await.is_err() {
                return;
            }
        }
        if socket.flush().await.is_err() {
            return;
        }
        if at == 0 && !raw {
            // Time for the snapshots.
            tokio::time::sleep(Duration::from_millis(500)).await;
            ticks.reset();
        }
    }
    drop(socket.close(None).await);
}

/// The exchange's process.
struct Exchange {
    child: Child,
    address: String,
}

impl Exchange {
    fn start() -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .arg(SERVE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the exchange");
        let mut address = String::new();
        let out = child.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut address).expect("its address");
        Self { child, address: address.trim().into() }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Reads all frames and drops them.
fn read_and_drop(exchange: &Exchange) -> Sample {
    runtime().block_on(async {
        let url = format!("ws://{}/raw", exchange.address);
        let stream = TcpStream::connect(&exchange.address).await.expect("a connection");
        stream.set_nodelay(true).expect("an option");
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("a handshake");
        let (begin, mut items) = (cpu(), 0);
        while let Some(Ok(message)) = socket.next().await {
            items += u64::from(message.is_text());
            black_box(message);
        }
        Sample { items, nanos: cpu() - begin }
    })
}

/// The records that live would make of the frames, ticks of the grid included.
fn records(frames: &[RecordedFrame]) -> Vec<Record<'_>> {
    let mut records = Vec::new();
    let mut add = |recv, conn, body| {
        records.push(Record { pos: position(1, 1 + records.len() as u64), recv, conn, source: 0, body });
    };
    let (mut recv, mut tick) = (0, 0);
    for frame in frames {
        let body = match frame.kind {
            FrameKind::Text => Body::Text(&frame.body),
            FrameKind::Open => Body::Open { venue: VENUE, plan: None, url: &frame.url, ping: 0 },
            FrameKind::Http => {
                let (host, path) = coby_io::import::split_url(&frame.url);
                Body::Http { venue: VENUE, method: "GET", host, path, request: "", status: 200, body: &frame.body }
            }
            _ => continue,
        };
        recv += EVERY / BURST as i64;
        if recv >= tick + GRID {
            tick += GRID;
            add(recv, 0, Body::Timer(tick));
        }
        add(recv, 1, body);
    }
    records
}

fn texts(records: &[Record<'_>]) -> u64 {
    records.iter().filter(|record| matches!(record.body, Body::Text(_))).count() as u64
}

fn pure(records: &[Record<'_>]) -> Sample {
    let (mut pipeline, mut actions) = (Pipeline::new(find, None), Vec::new());
    let begin = cpu();
    for record in records {
        pipeline.step(record, &mut actions).expect("a step");
        if pipeline.waiting() >= ROWS {
            black_box(pipeline.cut());
        }
    }
    Sample { items: texts(records), nanos: cpu() - begin }
}

fn taped(records: &[Record<'_>], dir: &Path) -> Sample {
    // It is not there the first time.
    drop(std::fs::remove_dir_all(dir));
    // Blocks close when they would live, by receive time or size; live each comes alone and has a sync of its own.
    let options = TapeOptions { sync_blocks: 1, ..TapeOptions::default() };
    let mut tape = TapeWriter::start(Arc::new(RealDisk), dir, 0, options, Arc::new(|| {})).expect("a tape");
    let begin = cpu();
    for record in records {
        tape.append(record).expect("an append");
    }
    tape.close().expect("a tape that works");
    Sample { items: texts(records), nanos: cpu() - begin }
}

/// A live engine, from its first frame to its last.
fn live(exchange: &Exchange, dir: &Path) -> Sample {
    drop(std::fs::remove_dir_all(dir));
    let config = LiveConfig {
        venues: vec![VENUE.into()],
        symbols: BASES.map(Into::into).into(),
        tape: dir.into(),
        settings: PipelineSettings::default(),
        options: TapeOptions::default(),
        check: false,
        places: 10_000,
        endpoints: Endpoints::simulated(&exchange.address),
        network: Arc::new(RealNetwork::new(&std::collections::BTreeMap::new(), None).expect("a network")),
        clock: Clock::start(),
    };
    let begun = Instant::now();
    let mut engine = Engine::live(find, Arc::new(RealDisk), config, Arc::new(|| {})).expect("an engine");
    let status = |engine: &Engine| {
        let status = engine.status();
        assert_eq!(status.failed, None);
        assert!(begun.elapsed() < LIMIT, "{status:?}");
        status
    };
    // The user takes the rows as they come, and asks no more than it has to.
    let mut position = 0;
    let mut until = |engine: &Engine, end: u64| {
        while position < end {
            position = engine.wait().last().map_or(u64::MAX, |cut| cut.last_pos);
        }
    };
    let mut first = status(&engine);
    // The books are live before the frames that count come.
    while first.frames < 50 {
        until(&engine, first.pos + 1);
        first = status(&engine);
    }
    let begin = cpu();
    let mut last = first.clone();
    while last.frames < FRAMES as u64 {
        // As many records are to come, if not more.
        until(&engine, last.pos + FRAMES as u64 - last.frames);
        last = status(&engine);
    }
    // What is only in an open block is not done.
    while status(&engine).durable_pos < last.pos {
        std::thread::sleep(Duration::from_millis(20));
    }
    let items = last.frames - first.frames;
    let nanos = cpu() - begin;
    engine.stop();
    Sample { items, nanos }
}

/// The lines of the socket.
pub fn run(plan: &Plan, scratch: &Path) -> Vec<Line> {
    let exchange = Exchange::start();
    let frames = frames();
    let records = records(&frames);
    let dir = scratch.join("socket");
    let sum = "sum of the parts";
    let plan = Plan { rounds: plan.rounds.div_ceil(10), only: plan.only.clone() };
    let lines = plan.run(
        &format!(
            "socket to rows, made-up {VENUE}, {} frames/s, CPU of all threads",
            BURST as i64 * 1_000_000_000 / EVERY
        ),
        "ns/frame",
        vec![
            Contestant::new("read with tokio-tungstenite and drop", || read_and_drop(&exchange)),
            Contestant::new("bytes -> rows", || pure(&records)),
            Contestant::new("tape", || taped(&records, &dir)),
            Contestant::new(sum, || {
                let parts = [read_and_drop(&exchange), pure(&records), taped(&records, &dir)];
                let each = |part: &Sample| part.nanos / u128::from(part.items.max(1));
                Sample { items: 1, nanos: parts.iter().map(each).sum() }
            }),
            Contestant::new("live engine", || live(&exchange, &dir)).against(sum),
        ],
    );
    drop(std::fs::remove_dir_all(&dir));
    lines
}
