//! REST requests with bounded retry.

use std::io;
use std::time::Duration;

use coby_core::record::HttpRequest;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper_util::rt::TokioIo;

use super::network::Network;
use super::quota::Quota;

/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read.
const LARGEST: usize = 64 << 20;
/// What a refused request waits where the venue names no time.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest time that a venue can ask to be left alone for: bans of some last three days.
const LONGEST_PAUSE: Duration = Duration::from_hours(72);

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Status; 0 when no attempt brought an answer.
    pub status: u16,
    /// Body, or the last error's text.
    pub body: Vec<u8>,
}

/// Asks up to `attempts` times until there is an answer that another attempt would not change. A venue that says
/// "too many" is left alone for as long as it asks, by everyone who shares `quota`.
pub async fn ask(
    network: &dyn Network,
    quota: &Quota,
    venue: &str,
    url: &str,
    request: &HttpRequest,
    attempts: u32,
) -> Answer {
    let mut last = Answer { status: 0, body: Vec::new() };
    for attempt in 0..attempts {
        let again = attempt + 1 < attempts;
        quota.take(1).await;
        match tokio::time::timeout(TIMEOUT, once(network, venue, url, request)).await {
            Ok(Ok((status, body, retry_after))) => {
                last = Answer { status, body };
                match status {
                    418 | 429 | 503 => quota.pause(retry_after.unwrap_or(PAUSE * (1 << attempt))),
                    500.. if again => tokio::time::sleep(PAUSE * (1 << attempt)).await,
                    _ => return last,
                }
            }
            Ok(Err(error)) => {
                last = Answer { status: 0, body: error.to_string().into_bytes() };
                if again {
                    tokio::time::sleep(PAUSE * (1 << attempt)).await;
                }
            }
            Err(_) => last = Answer { status: 0, body: b"no answer within 10 s".to_vec() },
        }
    }
    last
}

async fn once(
    network: &dyn Network,
    venue: &str,
    url: &str,
    request: &HttpRequest,
) -> io::Result<(u16, Vec<u8>, Option<Duration>)> {
    let other = |error: &dyn std::fmt::Display| io::Error::other(error.to_string());
    let stream = network.connect(venue, url).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| other(&error))?;
    let (host, path) = crate::import::split_url(url);
    let authority = host.split_once("://").map_or(host, |(_, authority)| authority);
    let mut builder = hyper::Request::builder()
        .method(request.method.as_str())
        .uri(path)
        .header(HOST, authority)
        .header(USER_AGENT, concat!("coby/", env!("CARGO_PKG_VERSION")));
    if !request.body.is_empty() {
        builder = builder.header(CONTENT_TYPE, "application/json");
    }
    let body = Full::new(hyper::body::Bytes::from(request.body.clone().into_bytes()));
    let message = builder.body(body).map_err(|error| other(&error))?;
    // The connection serves this exchange only and ends with it.
    let connection = Aborted(tokio::spawn(connection));
    let response = sender.send_request(message).await.map_err(|error| other(&error))?;
    let status = response.status().as_u16();
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = Limited::new(response.into_body(), LARGEST).collect().await.map_err(|error| other(&error))?;
    drop(connection);
    let pause = seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE));
    Ok((status, body.to_bytes().to_vec(), pause))
}

/// A task that ends with its owner.
struct Aborted<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Aborted<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
