//! Python mappings to recorded frames, without a detour over JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coby_io::recording::{FrameKind, RECEIVED, RecordedFrame};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyString};

use crate::errors::{Error, Result};

/// The frame that `mapping` describes; `index` is for the error.
pub fn recorded(mapping: &Bound<'_, PyAny>, index: u64) -> Result<RecordedFrame> {
    Reader { mapping, dict: mapping.cast().ok(), index }.frame()
}

struct Reader<'a, 'py> {
    mapping: &'a Bound<'py, PyAny>,
    dict: Option<&'a Bound<'py, PyDict>>,
    index: u64,
}

impl<'py> Reader<'_, 'py> {
    fn frame(&self) -> Result<RecordedFrame> {
        if self.dict.is_none() && self.mapping.cast::<PyMapping>().is_err() {
            return Err(self.wrong("frame", "not a mapping"));
        }
        let py = self.mapping.py();
        let recv_ns = self.get(intern!(py, "recv_ns"))?.ok_or_else(|| self.wrong("recv_ns", "missing"))?;
        let recv_ns = recv_ns.extract().ok().filter(|recv_ns| RECEIVED.contains(recv_ns));
        let recv_ns =
            recv_ns.ok_or_else(|| self.wrong("recv_ns", "not an integer of nanoseconds from 1970 to 2116"))?;
        let kind = self.text("kind", intern!(py, "kind"))?.ok_or_else(|| self.wrong("kind", "missing"))?;
        let kind = match kind.as_str() {
            "open" => FrameKind::Open,
            "send" => FrameKind::Send,
            "text" => FrameKind::Text,
            "binary_b64" => FrameKind::BinaryB64,
            "http" => FrameKind::Http,
            "close" => FrameKind::Close,
            _ => return Err(self.wrong("kind", "not one of open, send, text, binary_b64, http, close")),
        };
        let body = self.text("body", intern!(py, "body"))?.unwrap_or_default();
        let body = match kind {
            FrameKind::BinaryB64 => STANDARD.decode(body).map_err(|error| self.wrong("body", &error.to_string()))?,
            _ => body.into_bytes(),
        };
        let conn = match self.get(intern!(py, "conn"))? {
            Some(conn) => Some(conn.str()?.to_cow()?.into_owned()),
            None => None,
        };
        let status = match self.get(intern!(py, "status"))? {
            Some(status) => status.extract().map_err(|_| self.wrong("status", "not an HTTP status"))?,
            None => 200,
        };
        Ok(RecordedFrame {
            recv_ns,
            kind,
            url: self.text("url", intern!(py, "url"))?.unwrap_or_default(),
            body,
            conn,
            method: self.text("method", intern!(py, "method"))?,
            status,
            request: self.text("request", intern!(py, "request"))?.unwrap_or_default(),
        })
    }

    /// The value of a key; None counts as missing, as `null` does in a recording.
    fn get(&self, key: &Bound<'py, PyString>) -> Result<Option<Bound<'py, PyAny>>> {
        let value = match self.dict {
            Some(dict) => dict.get_item(key)?,
            None => Some(self.mapping.call_method1(intern!(key.py(), "get"), (key,))?),
        };
        Ok(value.filter(|value| !value.is_none()))
    }

    fn text(&self, field: &'static str, key: &Bound<'py, PyString>) -> Result<Option<String>> {
        let Some(value) = self.get(key)? else { return Ok(None) };
        let text = value.cast::<PyString>().map_err(|_| self.wrong(field, "not a string"))?;
        match text.to_cow() {
            Ok(text) => Ok(Some(text.into_owned())),
            Err(_) => Err(self.wrong(field, "not valid Unicode")),
        }
    }

    fn wrong(&self, field: &'static str, message: &str) -> Error {
        Error::Frame { frame: self.index, field, message: message.into() }
    }
}
