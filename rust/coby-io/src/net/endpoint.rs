//! Where a venue's hosts really are: on the internet, or a simulator on this machine.

/// Maps a venue's URLs.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    /// Authority of a simulator, such as `127.0.0.1:9000`; it serves venue `v` under the path `/v`.
    simulator: Option<String>,
}

impl Endpoints {
    /// The real hosts.
    pub fn real() -> Self {
        Self::default()
    }

    /// A simulator at this authority.
    pub fn simulated(authority: &str) -> Self {
        Self { simulator: Some(authority.into()) }
    }

    /// Whether they lead to a simulator.
    pub fn is_simulated(&self) -> bool {
        self.simulator.is_some()
    }

    /// Where `url` of `venue` is.
    pub fn locate(&self, venue: &str, url: &str) -> String {
        let Some(simulator) = &self.simulator else { return url.into() };
        let scheme = if url.starts_with("ws") { "ws" } else { "http" };
        let (_, path) = crate::import::split_url(url);
        let path = if path == "/" { "" } else { path };
        format!("{scheme}://{simulator}/{venue}{path}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulator_serves_venues_by_path() {
        let endpoints = Endpoints::simulated("127.0.0.1:9000");
        let located = endpoints.locate("binance_futures", "wss://fstream.binance.com/public/stream?a=1");
        assert_eq!(located, "ws://127.0.0.1:9000/binance_futures/public/stream?a=1");
        assert_eq!(endpoints.locate("kraken", "https://api.kraken.com/0/x"), "http://127.0.0.1:9000/kraken/0/x");
        assert_eq!(endpoints.locate("bitstamp", "wss://ws.bitstamp.net"), "ws://127.0.0.1:9000/bitstamp");
        assert_eq!(Endpoints::real().locate("kraken", "wss://ws.kraken.com/v2"), "wss://ws.kraken.com/v2");
    }
}
