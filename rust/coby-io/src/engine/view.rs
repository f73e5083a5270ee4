//! What the engine answers between two records: books, buckets, instruments.

use coby_core::aggregate::bucket::{Bucket, Buckets};
use coby_core::decimal::{Decimal, DecimalError, write_wide};
use coby_core::event::Key;
use coby_core::instrument::InstrumentId;
use coby_core::keeper::{Keeper, State};
use coby_core::level::{Level, Side};
use coby_core::pipeline::Pipeline;
use coby_core::record::{Nanos, Pos};
use coby_core::symbol::{SymbolError, resolve};
use serde::Serialize;
use thiserror::Error;

/// A question that has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ViewError {
    /// The symbol.
    #[error(transparent)]
    Symbol(#[from] SymbolError),
    /// The bucket size.
    #[error("bucket_size is {text}: {message}")]
    BucketSize {
        /// As given.
        text: String,
        /// What is allowed.
        message: String,
    },
}

/// What every view begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ViewHead {
    /// Venue id.
    pub venue: &'static str,
    /// The venue's name of the instrument.
    pub native: String,
    /// The canonical one, where the venue's list has named it.
    pub symbol: Option<String>,
    /// Where the book stands.
    pub state: &'static str,
    /// Whether bids stand at or above asks.
    pub crossed: bool,
    /// The last record that was stepped.
    pub pos: Pos,
    /// When it was received.
    pub ts_recv: Nanos,
    /// The venue's time of the last change.
    pub ts_event: Option<Nanos>,
    /// Scale of the prices.
    pub price_scale: u8,
    /// Scale of the sizes.
    pub size_scale: u8,
}

/// The best levels of a book: price and size as exact texts, the best first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BookView {
    /// Which book, and how it is.
    #[serde(flatten)]
    pub head: ViewHead,
    /// Bids.
    pub bids: Vec<(String, String)>,
    /// Asks.
    pub asks: Vec<(String, String)>,
}

/// The best buckets of a book: index, quantity, notional and number of levels, the best first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BucketView {
    /// Which book, and how it is.
    #[serde(flatten)]
    pub head: ViewHead,
    /// Size of a bucket, in quote units.
    pub bucket_size: String,
    /// Bids.
    pub bids: Vec<(i64, String, String, u32)>,
    /// Asks.
    pub asks: Vec<(i64, String, String, u32)>,
}

/// An instrument that a venue lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstrumentView {
    /// Venue id.
    pub venue: &'static str,
    /// The venue's name of it.
    pub native: String,
    /// The canonical one.
    pub symbol: Option<String>,
    /// Base asset.
    pub base: String,
    /// Quote asset.
    pub quote: String,
    /// `spot`, `perpetual` or `future`.
    pub kind: &'static str,
    /// When it expires, nanoseconds.
    pub expiry: Option<Nanos>,
    /// Smallest price step.
    pub tick_size: Option<String>,
    /// Smallest size step.
    pub lot_size: Option<String>,
    /// How much of the base (of the quote when inverse) one unit of size is.
    pub contract_size: String,
    /// Whether sizes count quote units.
    pub inverse: bool,
    /// `trading`, `halted` or `delisted`.
    pub status: &'static str,
    /// Whether a book of it is kept.
    pub subscribed: bool,
}

/// Where an engine stands when it answers.
#[derive(Clone, Copy)]
pub struct Moment<'p> {
    /// Its pipeline.
    pub pipeline: &'p Pipeline,
    /// The last position stepped.
    pub pos: Pos,
    /// When that record was received.
    pub recv: Nanos,
}

/// A keeper's state, as rows and `/status` name it.
pub fn state_name(keeper: &Keeper) -> &'static str {
    match keeper.state() {
        _ if keeper.is_aside() => "aside",
        State::Empty => "empty",
        State::Buffering => "buffering",
        State::Live => "live",
        State::Gap => "gap",
    }
}

fn wide(mantissa: i128, scale: u8) -> String {
    let mut text = String::new();
    // Writing into a text cannot fail.
    let _ = write_wide(&mut text, mantissa, scale);
    text
}

impl<'p> Moment<'p> {
    fn market(&self, venue: &str) -> Option<usize> {
        self.pipeline.feed().venues().position(|known| known.spec().id == venue)
    }

    fn find(&self, venue: &str, name: &str) -> Result<Option<(ViewHead, &'p Keeper, Key)>, SymbolError> {
        let feed = self.pipeline.feed();
        let Some(market) = self.market(venue) else { return Ok(None) };
        let Some(instruments) = feed.instruments(market) else { return Ok(None) };
        let id = resolve(instruments, name)?;
        let key = Key { venue: market as u16, id };
        let Some(keeper) = feed.keeper(key) else { return Ok(None) };
        let Some(spec) = feed.venues().nth(market).map(coby_core::venue::Venue::spec) else { return Ok(None) };
        let (instrument, book) = (instruments.get(id), keeper.book());
        let head = ViewHead {
            venue: spec.id,
            native: instrument.native.clone(),
            symbol: instrument.symbol.clone(),
            state: state_name(keeper),
            crossed: keeper.is_crossed(),
            pos: self.pos,
            ts_recv: self.recv,
            ts_event: keeper.time(),
            price_scale: book.price_scale(),
            size_scale: book.size_scale(),
        };
        Ok(Some((head, keeper, key)))
    }

    /// The best levels of a book; `None` where the venue has no book of that name.
    pub fn book(&self, venue: &str, name: &str, levels: usize) -> Result<Option<BookView>, ViewError> {
        let Some((head, keeper, _)) = self.find(venue, name)? else { return Ok(None) };
        let book = keeper.book();
        let text = |level: Level| {
            let price = Decimal::new(level.price, book.price_scale());
            (price.to_string(), Decimal::new(level.size, book.size_scale()).to_string())
        };
        let side = |side| book.levels(side).take(levels).map(text).collect();
        Ok(Some(BookView { bids: side(Side::Bid), asks: side(Side::Ask), head }))
    }

    /// The best buckets of a book, of the first size that is kept with it or of any other one.
    pub fn buckets(
        &self,
        venue: &str,
        name: &str,
        size: Option<&str>,
        rows: usize,
    ) -> Result<Option<BucketView>, ViewError> {
        let Some((head, keeper, key)) = self.find(venue, name)? else { return Ok(None) };
        let book = keeper.book();
        let kept = self.pipeline.buckets(key);
        let wanted = size.map(|text| bucket_size(text, book.price_scale())).transpose()?;
        let found = kept.iter().find(|buckets| wanted.is_none_or(|wanted| buckets.size() == wanted));
        let made;
        let buckets = match (found, wanted) {
            (Some(buckets), _) => buckets,
            (None, Some(wanted)) => {
                let mut buckets = Buckets::new(wanted);
                buckets.rebuild(book);
                made = buckets;
                &made
            }
            // The book has never been live.
            (None, None) => return Ok(None),
        };
        let (price_scale, size_scale) = (book.price_scale(), book.size_scale());
        let row = |bucket: Bucket| {
            let notional = wide(bucket.notional, price_scale + size_scale);
            (bucket.index, wide(bucket.quantity, size_scale), notional, bucket.levels)
        };
        let side = |side| buckets.iter(side).take(rows).map(row).collect();
        let bucket_size = Decimal::new(buckets.size(), price_scale).normal().to_string();
        Ok(Some(BucketView { bids: side(Side::Bid), asks: side(Side::Ask), bucket_size, head }))
    }

    /// The instruments that a venue lists, or all venues.
    pub fn instruments(&self, venue: Option<&str>) -> Vec<InstrumentView> {
        let feed = self.pipeline.feed();
        let mut views = Vec::new();
        for (market, spec) in feed.venues().map(coby_core::venue::Venue::spec).enumerate() {
            if venue.is_some_and(|venue| venue != spec.id) {
                continue;
            }
            let Some(instruments) = feed.instruments(market) else { continue };
            for (id, instrument) in instruments.iter() {
                let Some(listing) = &instrument.listing else { continue };
                views.push(InstrumentView {
                    venue: spec.id,
                    native: instrument.native.clone(),
                    symbol: instrument.symbol.clone(),
                    base: listing.base.clone(),
                    quote: listing.quote.clone(),
                    kind: listing.kind.name(),
                    expiry: listing.kind.expiry(),
                    tick_size: listing.tick_size.map(|size| size.to_string()),
                    lot_size: listing.lot_size.map(|size| size.to_string()),
                    contract_size: listing.contract_size.to_string(),
                    inverse: listing.inverse,
                    status: listing.status.name(),
                    subscribed: self.is_kept(market, id),
                });
            }
        }
        views
    }

    fn is_kept(&self, market: usize, id: InstrumentId) -> bool {
        let keeper = self.pipeline.feed().keeper(Key { venue: market as u16, id });
        keeper.is_some_and(|keeper| keeper.state() != State::Empty)
    }
}

/// A bucket size as a mantissa at the scale of the book's prices.
fn bucket_size(text: &str, price_scale: u8) -> Result<i64, ViewError> {
    let wrong = |message: String| ViewError::BucketSize { text: text.into(), message };
    let size = Decimal::parse(text.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    match size.normal().at_scale(price_scale) {
        Ok(size) if size > 0 => Ok(size),
        Ok(_) => Err(wrong("it must be above 0".into())),
        Err(DecimalError::Precision) => Err(wrong(format!("prices have {price_scale} decimals, it has more"))),
        Err(error) => Err(wrong(error.to_string())),
    }
}
