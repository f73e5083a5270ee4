//! Byte streams to hosts: TCP, a proxy if one is set for the venue, TLS for `wss` and `https`.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use base64::Engine as _;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_socks::tcp::Socks5Stream;

/// A byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Any byte stream.
pub type BoxStream = Box<dyn Stream>;

/// A stream being made.
pub type Connecting<'n> = Pin<Box<dyn Future<Output = io::Result<BoxStream>> + Send + 'n>>;

/// Makes byte streams; tests put their own in its place.
pub trait Network: Send + Sync {
    /// A stream to the host of `url` on behalf of a venue, encrypted where the scheme says so.
    fn connect<'n>(&'n self, venue: &'n str, url: &'n str) -> Connecting<'n>;
}

/// The key of the proxy for venues that have none of their own.
const ALL_VENUES: &str = "all";

/// The machine's network.
pub struct RealNetwork {
    tls: TlsConnector,
    proxies: BTreeMap<String, Proxy>,
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
    let (host, port) = host_and_port(authority, port)?;
    Ok((host, port, secure))
}

/// `host`, `host:port`, `[address]` or `[address]:port`.
fn host_and_port(authority: &str, default: u16) -> io::Result<(&str, u16)> {
    let number = |port: &str| port.parse().map_err(|_| invalid(format!("{authority}: port {port} is no number")));
    if let Some((address, rest)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return Ok((address, rest.strip_prefix(':').map_or(Ok(default), number)?));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => Ok((host, number(port)?)),
        None => Ok((authority, default)),
    }
}

/// A proxy, as its URL says.
#[derive(Clone, PartialEq, Eq)]
struct Proxy {
    kind: ProxyKind,
    host: String,
    port: u16,
    /// User and password.
    user: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProxyKind {
    Http,
    Https,
    Socks5 {
        /// Whether the proxy looks names up.
        names: bool,
    },
}

impl Proxy {
    /// Reads `http://user:password@host:port`, also `https`, `socks5` and `socks5h`. Errors never show the password.
    fn parse(url: &str) -> io::Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("a proxy's URL lacks its scheme"))?;
        let (kind, default) = match scheme {
            "http" => (ProxyKind::Http, 80),
            "https" => (ProxyKind::Https, 443),
            "socks5" => (ProxyKind::Socks5 { names: false }, 1080),
            "socks5h" => (ProxyKind::Socks5 { names: true }, 1080),
            _ => {
                return Err(invalid(format!(
                    "a proxy's scheme is {scheme}: it must be http, https, socks5 or socks5h"
                )));
            }
        };
        let rest = rest.split(['/', '?']).next().unwrap_or_default();
        let (user, authority) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
        let user = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            (unescaped(name), unescaped(password))
        });
        let (host, port) = host_and_port(authority, default)?;
        Ok(Self { kind, host: host.into(), port, user })
    }
}

/// Percent escapes undone.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        let escaped = hex.filter(|_| *first == b'%');
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl RealNetwork {
    /// The network, through the proxies (URLs by venue, `all` for the rest) that are given, trusting the usual roots
    /// and those in the PEM file `roots`.
    pub fn new(proxies: &BTreeMap<String, String>, roots: Option<&Path>) -> io::Result<Self> {
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
        let proxies = proxies.iter().map(|(venue, url)| Ok((venue.clone(), Proxy::parse(url)?)));
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), proxies: proxies.collect::<io::Result<_>>()? })
    }

    async fn open(&self, venue: &str, url: &str) -> io::Result<BoxStream> {
        let (host, port, secure) = target(url)?;
        let stream = match self.proxies.get(venue).or_else(|| self.proxies.get(ALL_VENUES)) {
            Some(proxy) => self.through(proxy, host, port).await?,
            None => Box::new(direct(host, port).await?),
        };
        if secure { self.encrypted(host, stream).await } else { Ok(stream) }
    }

    async fn through(&self, proxy: &Proxy, host: &str, port: u16) -> io::Result<BoxStream> {
        let stream = direct(&proxy.host, proxy.port).await?;
        match proxy.kind {
            ProxyKind::Http => tunnel(Box::new(stream), proxy, host, port).await,
            ProxyKind::Https => {
                let stream = self.encrypted(&proxy.host, Box::new(stream)).await?;
                tunnel(stream, proxy, host, port).await
            }
            ProxyKind::Socks5 { names } => {
                let refused = |error: tokio_socks::Error| {
                    io::Error::new(io::ErrorKind::ConnectionRefused, format!("proxy: {error}"))
                };
                let address = if names { None } else { tokio::net::lookup_host((host, port)).await?.next() };
                let stream = match (&proxy.user, address) {
                    (None, None) => Socks5Stream::connect_with_socket(stream, (host, port)).await,
                    (None, Some(address)) => Socks5Stream::connect_with_socket(stream, address).await,
                    (Some((user, password)), None) => {
                        Socks5Stream::connect_with_password_and_socket(stream, (host, port), user, password).await
                    }
                    (Some((user, password)), Some(address)) => {
                        Socks5Stream::connect_with_password_and_socket(stream, address, user, password).await
                    }
                };
                Ok(Box::new(stream.map_err(refused)?))
            }
        }
    }

    async fn encrypted(&self, host: &str, stream: BoxStream) -> io::Result<BoxStream> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| invalid(error.to_string()))?;
        Ok(Box::new(self.tls.connect(name, stream).await?))
    }
}

async fn direct(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Network for RealNetwork {
    fn connect<'n>(&'n self, venue: &'n str, url: &'n str) -> Connecting<'n> {
        Box::pin(self.open(venue, url))
    }
}

/// Asks an HTTP proxy for a tunnel (RFC 9110, CONNECT).
async fn tunnel(mut stream: BoxStream, proxy: &Proxy, host: &str, port: u16) -> io::Result<BoxStream> {
    let user = proxy.user.as_ref().map(|(user, password)| {
        let token = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        format!("Proxy-Authorization: Basic {token}\r\n")
    });
    let user = user.unwrap_or_default();
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{user}\r\n");
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

    #[test]
    fn proxies() {
        let proxy = Proxy::parse("socks5h://me:p%40ss@[::1]:1081").unwrap();
        assert_eq!((proxy.kind, proxy.host.as_str(), proxy.port), (ProxyKind::Socks5 { names: true }, "::1", 1081));
        assert_eq!(proxy.user, Some(("me".into(), "p@ss".into())));
        let proxy = Proxy::parse("http://h").unwrap();
        assert_eq!((proxy.kind, proxy.port, proxy.user), (ProxyKind::Http, 80, None));
        for bad in ["ftp://secret@h", "h:1", "http://me:secret@h:x"] {
            assert!(Proxy::parse(bad).is_err_and(|error| !error.to_string().contains("secret")), "{bad}");
        }
    }

    /// Reads one tunnel request and answers it.
    async fn serve_tunnel(listener: tokio::net::TcpListener, answer: &'static str) -> (String, TcpStream) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        (String::from_utf8(asked).unwrap(), stream)
    }

    #[tokio::test]
    async fn a_venue_goes_through_its_proxy() {
        for (answer, good) in [("HTTP/1.1 200 OK\r\n\r\nhello", true), ("HTTP/1.1 407 Who\r\n\r\n", false)] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://me:pw@{}", listener.local_addr().unwrap());
            let network = RealNetwork::new(&BTreeMap::from([("kraken".into(), url)]), None).unwrap();
            let serving = tokio::spawn(serve_tunnel(listener, answer));
            let stream = network.connect("kraken", "ws://venue.example/v2").await;
            let (asked, _open) = serving.await.unwrap();
            assert!(asked.starts_with("CONNECT venue.example:80 HTTP/1.1\r\n"), "{asked}");
            assert!(asked.contains("Proxy-Authorization: Basic bWU6cHc=\r\n"), "{asked}");
            match stream {
                Ok(mut stream) => {
                    let mut hello = [0; 5];
                    stream.read_exact(&mut hello).await.unwrap();
                    assert!(good && &hello == b"hello");
                }
                Err(error) => assert!(!good && error.to_string().contains("407"), "{error}"),
            }
        }
    }
}
