//! A foreign recording becomes one run of records.
//!
//! Connections are told apart by `conn`, else by file and URL up to `?`. Opens that a recording lacks, the
//! timer grid, and the closes and opens after a session's error are synthesised; the result is a function
//! of the recording and of what stepping its records answers, so that an import that died can be done
//! again and comes to the same records.

use std::collections::BTreeMap;

use coby_core::feed::Action;
use coby_core::record::{Body, Cause, ConnId, HttpRequest, Nanos, Record, position};
use coby_core::venue::Venue;

use crate::recording::{FrameKind, RecordedFrame};

/// The timer grid, nanoseconds.
pub const GRID: Nanos = 100_000_000;
/// Up to so many ticks in a row are records of their own; a longer silence is one late tick.
const TICKS: i64 = 100;

struct Link {
    conn: ConnId,
    url: String,
    /// Whether a frame came since it was opened.
    fed: bool,
}

/// Turns recorded frames into records.
pub struct Importer {
    venue: &'static dyn Venue,
    code: String,
    settings: String,
    run: u64,
    count: u64,
    recv: Nanos,
    tick: Nanos,
    source: u64,
    links: BTreeMap<String, Link>,
    last_conn: ConnId,
}

impl Importer {
    /// An importer whose records belong to `run`; `settings` (JSON) and `code` go into its `Start`.
    pub fn new(venue: &'static dyn Venue, run: u64, code: &str, settings: &str) -> Self {
        Self {
            venue,
            code: code.into(),
            settings: settings.into(),
            run,
            count: 0,
            recv: i64::MIN,
            tick: 0,
            source: 0,
            links: BTreeMap::new(),
            last_conn: 0,
        }
    }

    /// How many source frames have been taken.
    pub fn frames(&self) -> u64 {
        self.source
    }

    fn emit<E>(&mut self, conn: ConnId, body: Body<'_>, step: &mut Step<'_, E>) -> Result<Vec<Action>, E> {
        self.count += 1;
        let record = Record { pos: position(self.run, self.count), recv: self.recv, conn, source: self.source, body };
        step(&record)
    }

    /// Takes one frame of the file with index `file`; `step` is called with each record and answers what its
    /// stepping asked for.
    pub fn frame<E>(&mut self, file: usize, frame: &RecordedFrame, step: &mut Step<'_, E>) -> Result<(), E> {
        self.source += 1;
        if self.count == 0 {
            self.recv = frame.recv_ns;
            self.tick = frame.recv_ns.div_euclid(GRID) * GRID;
            let (code, settings) = (self.code.clone(), self.settings.clone());
            let body = Body::Start { code: &code, origin: "import", settings: &settings, anchor: frame.recv_ns };
            self.emit(0, body, step)?;
        }
        self.ticks(frame.recv_ns, step)?;
        self.recv = self.recv.max(frame.recv_ns);
        if frame.kind == FrameKind::Http {
            return self.http(frame, step);
        }
        let base = frame.url.split('?').next().unwrap_or_default();
        let key = frame.conn.as_ref().map_or_else(|| format!("{file} {base}"), |conn| format!("conn {conn}"));
        match frame.kind {
            FrameKind::Open => {
                if self.links.get(&key).is_some_and(|link| link.fed) {
                    self.close(&key, Cause::Closed, step)?;
                }
                if self.links.contains_key(&key) {
                    return Ok(());
                }
                self.open(&key, &frame.url, step)
            }
            FrameKind::Close => self.close(&key, Cause::Closed, step),
            FrameKind::Send | FrameKind::Text | FrameKind::BinaryB64 => {
                if !self.links.contains_key(&key) {
                    self.open(&key, &frame.url, step)?;
                }
                let Some(link) = self.links.get_mut(&key) else { return Ok(()) };
                link.fed |= frame.kind != FrameKind::Send;
                let conn = link.conn;
                let body = match frame.kind {
                    FrameKind::Send => Body::Sent(&frame.body),
                    FrameKind::Text => Body::Text(&frame.body),
                    _ => Body::Binary(&frame.body),
                };
                let actions = self.emit(conn, body, step)?;
                self.reopen(&actions, step)
            }
            FrameKind::Http => Ok(()),
        }
    }

    /// The recording has ended: so have its connections.
    pub fn end<E>(&mut self, step: &mut Step<'_, E>) -> Result<(), E> {
        let keys: Vec<String> = self.links.keys().cloned().collect();
        for key in keys {
            self.close(&key, Cause::End, step)?;
        }
        Ok(())
    }

    fn ticks<E>(&mut self, until: Nanos, step: &mut Step<'_, E>) -> Result<(), E> {
        let last = until.div_euclid(GRID) * GRID;
        if last - self.tick > TICKS * GRID {
            self.tick = last - GRID;
        }
        while self.tick < last {
            self.tick += GRID;
            self.recv = self.recv.max(self.tick);
            let actions = self.emit(0, Body::Timer(self.tick), step)?;
            self.reopen(&actions, step)?;
        }
        Ok(())
    }

    fn open<E>(&mut self, key: &str, url: &str, step: &mut Step<'_, E>) -> Result<(), E> {
        self.last_conn += 1;
        let conn = self.last_conn;
        let url = masked(url);
        self.links.insert(key.into(), Link { conn, url: url.clone(), fed: false });
        let body = Body::Open { venue: self.venue.spec().id, plan: None, url: &url, ping: 0 };
        let actions = self.emit(conn, body, step)?;
        self.reopen(&actions, step)
    }

    fn close<E>(&mut self, key: &str, cause: Cause, step: &mut Step<'_, E>) -> Result<(), E> {
        let Some(link) = self.links.remove(key) else { return Ok(()) };
        self.emit(link.conn, Body::Close { cause, code: 0 }, step).map(drop)
    }

    /// A session wanted a new connection: it gets one at once.
    fn reopen<E>(&mut self, actions: &[Action], step: &mut Step<'_, E>) -> Result<(), E> {
        for action in actions {
            let Action::Reconnect { conn, .. } = action else { continue };
            let Some((key, link)) = self.links.iter().find(|(_, link)| link.conn == *conn) else { continue };
            let (key, url) = (key.clone(), link.url.clone());
            self.close(&key, Cause::Error, step)?;
            self.open(&key, &url, step)?;
        }
        Ok(())
    }

    fn http<E>(&mut self, frame: &RecordedFrame, step: &mut Step<'_, E>) -> Result<(), E> {
        let (host, path) = split_url(&frame.url);
        let asked = HttpRequest::get(host, path);
        let known = self.venue.instrument_requests();
        let method = match &frame.method {
            Some(method) => method.to_uppercase(),
            None => known
                .iter()
                .find(|request| request.route() == asked.route())
                .map_or_else(|| "GET".into(), |request| request.method.clone()),
        };
        let path = masked(path);
        let body = Body::Http {
            venue: self.venue.spec().id,
            method: &method,
            host,
            path: &path,
            request: &frame.request,
            status: frame.status,
            body: &frame.body,
        };
        let actions = self.emit(0, body, step)?;
        self.reopen(&actions, step)
    }
}

/// What an importer calls with each record.
pub type Step<'s, E> = dyn FnMut(&Record<'_>) -> Result<Vec<Action>, E> + 's;

/// `https://host/path?query` to `https://host` and `/path?query`.
pub fn split_url(url: &str) -> (&str, &str) {
    let start = url.find("://").map_or(0, |at| at + 3);
    let slash = url[start..].find(['/', '?']).map_or(url.len(), |at| start + at);
    let path = &url[slash..];
    (&url[..slash], if path.is_empty() { "/" } else { path })
}

/// Query parameters whose values are secrets.
const SECRETS: [&str; 6] = ["token", "signature", "apikey", "api_key", "listenkey", "secret"];

/// The URL with the values of secret query parameters masked.
pub fn masked(url: &str) -> String {
    let Some((base, query)) = url.split_once('?') else { return url.into() };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if SECRETS.contains(&name.to_lowercase().as_str()) => format!("{name}=***"),
        _ => pair.into(),
    });
    format!("{base}?{}", pairs.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        assert_eq!(split_url("https://h/p?q=1"), ("https://h", "/p?q=1"));
        assert_eq!(split_url("https://h"), ("https://h", "/"));
        assert_eq!(masked("wss://h/e?token=abc&connectId=1"), "wss://h/e?token=***&connectId=1");
    }
}
