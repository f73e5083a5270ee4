//! Byte streams to hosts: TCP, an HTTP proxy if set, TLS for `wss` and `https`.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Any byte stream.
pub type BoxStream = Box<dyn Stream>;

/// A stream being made.
pub type Connecting<'n> = Pin<Box<dyn Future<Output = io::Result<BoxStream>> + Send + 'n>>;

/// Makes byte streams; tests put their own in its place.
pub trait Network: Send + Sync {
    /// A stream to the host of `url`, encrypted where the scheme says so.
    fn connect<'n>(&'n self, url: &'n str) -> Connecting<'n>;
}

/// The machine's network.
pub struct RealNetwork {
    tls: TlsConnector,
    proxy: Option<String>,
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}

/// Host, port and whether to encrypt.
fn target(url: &str) -> io::Result<(&str, u16, bool)> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid(format!("{url} is no URL")))?;
    let (secure, port) = match scheme {
        "wss" | "https" => (true, 443),
        "ws" | "http" => (false, 80),
        _ => return Err(invalid(format!("{url}: unknown scheme"))),
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) => {
            let port = port.parse().map_err(|_| invalid(format!("{url}: port {port} is no number")))?;
            Ok((host, port, secure))
        }
        None => Ok((authority, port, secure)),
    }
}

impl RealNetwork {
    /// The network, through an HTTP proxy (`host:port`) if given, trusting the usual roots and those in the
    /// PEM file `roots`.
    pub fn new(proxy: Option<&str>, roots: Option<&Path>) -> io::Result<Self> {
        let mut store = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(path) = roots {
            let bad = |error: &dyn std::fmt::Display| invalid(format!("root certificates {}: {error}", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(&error))? {
                let certificate = certificate.map_err(|error| bad(&error))?;
                store.add(certificate).map_err(|error| bad(&error))?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(error.to_string()))?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), proxy: proxy.map(Into::into) })
    }

    async fn open(&self, url: &str) -> io::Result<BoxStream> {
        let (host, port, secure) = target(url)?;
        let stream = match &self.proxy {
            Some(proxy) => tunnel(TcpStream::connect(proxy.as_str()).await?, host, port).await?,
            None => TcpStream::connect((host, port)).await?,
        };
        stream.set_nodelay(true)?;
        if !secure {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|error| invalid(error.to_string()))?;
        Ok(Box::new(self.tls.connect(name, stream).await?))
    }
}

impl Network for RealNetwork {
    fn connect<'n>(&'n self, url: &'n str) -> Connecting<'n> {
        Box::pin(self.open(url))
    }
}

/// Asks an HTTP proxy for a tunnel (RFC 9110, CONNECT).
async fn tunnel(mut stream: TcpStream, host: &str, port: u16) -> io::Result<TcpStream> {
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() > 8_192 {
            return Err(invalid("the proxy's answer is too long"));
        }
        answer.push(stream.read_u8().await?);
    }
    let status = answer.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    if status.first() == Some(&b'2') {
        return Ok(stream);
    }
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    Err(io::Error::new(io::ErrorKind::ConnectionRefused, format!("proxy: {}", String::from_utf8_lossy(line))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        assert_eq!(target("wss://h/p").unwrap(), ("h", 443, true));
        assert_eq!(target("http://127.0.0.1:80?x").unwrap(), ("127.0.0.1", 80, false));
        assert!(target("ftp://h").is_err() && target("h").is_err() && target("ws://h:x").is_err());
    }
}
