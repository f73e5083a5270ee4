//! Recorded traffic in COBY's interchange format: JSON lines, plain, gzip or zstd.
//!
//! `{"recv_ns": int, "kind": "open" | "send" | "text" | "binary_b64" | "http" | "close", "url": str,
//! "body": str | null}`, optionally `conn`, `method`, `status`, `request`.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use thiserror::Error;

/// What a recorded line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameKind {
    /// A connection was made.
    Open,
    /// The recorder sent a frame.
    Send,
    /// A text frame arrived.
    Text,
    /// A binary frame arrived, in base 64.
    BinaryB64,
    /// An HTTP answer arrived.
    Http,
    /// A connection ended.
    Close,
}

/// Receive times that leave room for arithmetic.
pub const RECEIVED: std::ops::RangeInclusive<i64> = 0..=1 << 62;

/// One recorded line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedFrame {
    /// Receive time, nanoseconds.
    pub recv_ns: i64,
    /// What it is.
    pub kind: FrameKind,
    /// URL of the connection or request.
    pub url: String,
    /// Content, decoded from base 64 where it was.
    pub body: Vec<u8>,
    /// Connection, where the recording tells.
    pub conn: Option<String>,
    /// HTTP method, where the recording tells.
    pub method: Option<String>,
    /// HTTP status, 200 where the recording does not tell.
    pub status: u16,
    /// HTTP request body.
    pub request: String,
}

#[derive(Deserialize)]
struct Line {
    recv_ns: i64,
    kind: FrameKind,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    conn: Option<serde_json::Value>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    request: Option<String>,
}

/// A recording that cannot be read.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// The file cannot be read.
    #[error("{path}: {error}")]
    Io {
        /// File.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// A line is no recorded frame.
    #[error("{path}, line {line}: {error}")]
    Line {
        /// File.
        path: String,
        /// Number of the line, from 1.
        line: u64,
        /// What was wrong.
        error: String,
    },
}

impl RecordedFrame {
    /// Reads one line.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if !RECEIVED.contains(&line.recv_ns) {
            return Err(format!("recv_ns is {}: expected nanoseconds from 1970 to 2116", line.recv_ns));
        }
        let body = line.body.unwrap_or_default();
        let body = match line.kind {
            FrameKind::BinaryB64 => STANDARD.decode(body.as_bytes()).map_err(|error| format!("body: {error}"))?,
            _ => body.into_bytes(),
        };
        let conn = line.conn.filter(|conn| !conn.is_null()).map(|conn| match conn {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        });
        Ok(Self {
            recv_ns: line.recv_ns,
            kind: line.kind,
            url: line.url.unwrap_or_default(),
            body,
            conn,
            method: line.method,
            status: line.status.unwrap_or(200),
            request: line.request.unwrap_or_default(),
        })
    }
}

/// Reads recorded frames from a file.
pub struct Recording {
    path: PathBuf,
    lines: Box<dyn BufRead + Send>,
    line: u64,
    buffer: Vec<u8>,
}

impl Recording {
    /// Opens a recording; the compression is found by its first bytes.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let failed = |error| RecordingError::Io { path: path.display().to_string(), error };
        let mut head = [0; 4];
        let mut file = File::open(path).map_err(failed)?;
        let read = file.read(&mut head).map_err(failed)?;
        let file = File::open(path).map_err(failed)?;
        let lines: Box<dyn BufRead + Send> = match &head[..read] {
            [0x1f, 0x8b, ..] => Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(file))),
            [0x28, 0xb5, 0x2f, 0xfd] => Box::new(BufReader::new(zstd::Decoder::new(file).map_err(failed)?)),
            _ => Box::new(BufReader::new(file)),
        };
        Ok(Self { path: path.into(), lines, line: 0, buffer: Vec::new() })
    }

    /// The next frame, `None` at the end.
    pub fn next_frame(&mut self) -> Result<Option<RecordedFrame>, RecordingError> {
        loop {
            self.buffer.clear();
            self.line += 1;
            let read = self.lines.read_until(b'\n', &mut self.buffer);
            let path = || self.path.display().to_string();
            match read {
                Ok(0) => return Ok(None),
                Ok(_) if self.buffer.trim_ascii().is_empty() => {}
                Ok(_) => {
                    let frame = RecordedFrame::parse(&self.buffer);
                    return frame.map(Some).map_err(|error| RecordingError::Line {
                        path: path(),
                        line: self.line,
                        error,
                    });
                }
                Err(error) => return Err(RecordingError::Io { path: path(), error }),
            }
        }
    }
}

/// Several recordings as one, ordered by receive time, then by file.
pub struct Merged {
    files: Vec<(Recording, Option<RecordedFrame>)>,
}

impl Merged {
    /// Opens all files.
    pub fn open(paths: &[PathBuf]) -> Result<Self, RecordingError> {
        let mut files = Vec::new();
        for path in paths {
            let mut recording = Recording::open(path)?;
            let first = recording.next_frame()?;
            files.push((recording, first));
        }
        Ok(Self { files })
    }

    /// The next frame and the index of its file.
    pub fn next_frame(&mut self) -> Result<Option<(usize, RecordedFrame)>, RecordingError> {
        let waiting = self.files.iter().enumerate();
        let earliest = waiting.filter_map(|(index, (_, frame))| Some((frame.as_ref()?.recv_ns, index))).min();
        let Some((_, index)) = earliest else { return Ok(None) };
        let (recording, slot) = &mut self.files[index];
        let next = recording.next_frame()?;
        Ok(std::mem::replace(slot, next).map(|frame| (index, frame)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_no_frames_say_why() {
        for (line, why) in [
            (r#"{"recv_ns":-1,"kind":"open"}"#, "recv_ns is -1"),
            (r#"{"recv_ns":9223372036854775807,"kind":"open"}"#, "expected nanoseconds"),
            (r#"{"recv_ns":1,"kind":"nonsense"}"#, "unknown variant"),
            (r#"{"recv_ns":1,"kind":"binary_b64","body":"*"}"#, "body"),
            (r#"{"kind":"open"}"#, "recv_ns"),
            ("{", "EOF"),
        ] {
            let error = RecordedFrame::parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
        assert_eq!(RecordedFrame::parse(br#"{"recv_ns":1,"kind":"text","body":"{}"}"#).unwrap().status, 200);
    }
}
