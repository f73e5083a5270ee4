//! Rows: what the pipeline derives, in columns.
//!
//! This module alone defines the kinds of rows, their columns, types and units; stores add physical layout
//! only. A row is identified by `pos`, its kind and `n`. The canonical encoding, which is hashed to show that
//! a replay equals its live run, writes the columns in schema order: little-endian numbers, float bits,
//! length-prefixed text and lists, and a presence byte before every nullable value.

use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use crate::event::GapCause;
use crate::record::{Nanos, Pos};
use crate::venue::{Channel, Proof};

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// Unsigned 64-bit.
    U64,
    /// Unsigned 32-bit.
    U32,
    /// Signed 64-bit.
    I64,
    /// 64-bit float.
    F64,
    /// Boolean.
    Bool,
    /// Text from a small set.
    Word,
    /// Text.
    Text,
    /// List of signed 64-bit.
    ListI64,
    /// List of unsigned 32-bit.
    ListU32,
    /// List of 64-bit floats.
    ListF64,
}

/// A column's definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnSpec {
    /// Name.
    pub name: &'static str,
    /// Type.
    pub kind: ColumnType,
    /// Whether a value may be missing.
    pub nullable: bool,
    /// Unit, empty where there is none.
    pub unit: &'static str,
    /// What it says.
    pub doc: &'static str,
}

/// The values of one column.
#[derive(Clone, Copy, Debug)]
pub enum Column<'a> {
    /// Unsigned 64-bit.
    U64(&'a [u64]),
    /// Unsigned 32-bit.
    U32(&'a [u32]),
    /// Signed 64-bit.
    I64(&'a [i64]),
    /// Signed 64-bit; [`MISSING`] where there is no value.
    MaybeI64(&'a [i64]),
    /// 64-bit float.
    F64(&'a [f64]),
    /// 64-bit float; NaN where there is no value.
    MaybeF64(&'a [f64]),
    /// Boolean.
    Bool(&'a [bool]),
    /// Index into words.
    Word(&'a [u8], &'static [&'static str]),
    /// Index into labels, and which of their texts.
    Label(&'a [u32], LabelField),
    /// End offsets and bytes (UTF-8).
    Text(&'a [u32], &'a [u8]),
    /// End offsets and values.
    ListI64(&'a [u32], &'a [i64]),
    /// End offsets and values.
    ListU32(&'a [u32], &'a [u32]),
    /// End offsets and values.
    ListF64(&'a [u32], &'a [f64]),
}

/// Stands for "no value" in a nullable column of whole numbers.
pub const MISSING: i64 = i64::MIN;

/// What rows call an instrument; append-only, so that a row keeps the symbol that was known at its time.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Label {
    /// Venue id.
    pub venue: String,
    /// Native symbol, empty for rows of a whole connection.
    pub native: String,
    /// Canonical symbol.
    pub symbol: Option<String>,
}

/// One text of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelField {
    /// Venue id.
    Venue,
    /// Native symbol.
    Native,
    /// Canonical symbol.
    Symbol,
}

impl LabelField {
    /// That text of `label`.
    pub fn of(self, label: &Label) -> Option<&str> {
        match self {
            Self::Venue => Some(&label.venue),
            Self::Native => Some(&label.native),
            Self::Symbol => label.symbol.as_deref(),
        }
    }
}

/// How the values of a column are kept.
pub trait Storage: Default {
    /// What is pushed.
    type Item<'a>;
    /// Type of the column.
    const KIND: ColumnType;
    /// Whether a value may be missing.
    const NULLABLE: bool = false;
    /// Appends a value.
    fn push(&mut self, item: Self::Item<'_>);
    /// The values.
    fn column(&self) -> Column<'_>;
}

macro_rules! plain_storage {
    ($($(#[$doc:meta])* $name:ident($item:ty) = $kind:ident, $column:ident, $nullable:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default)]
        pub struct $name(Vec<$item>);

        impl Storage for $name {
            type Item<'a> = $item;
            const KIND: ColumnType = ColumnType::$kind;
            const NULLABLE: bool = $nullable;
            #[inline]
            fn push(&mut self, item: $item) {
                self.0.push(item);
            }
            fn column(&self) -> Column<'_> {
                Column::$column(&self.0)
            }
        }
    )*};
}

plain_storage! {
    /// Unsigned 64-bit.
    U64(u64) = U64, U64, false;
    /// Unsigned 32-bit.
    U32(u32) = U32, U32, false;
    /// Signed 64-bit.
    I64(i64) = I64, I64, false;
    /// 64-bit float.
    F64(f64) = F64, F64, false;
    /// 64-bit float or NaN for none.
    MaybeF64(f64) = F64, MaybeF64, true;
    /// Boolean.
    Bool(bool) = Bool, Bool, false;
}

/// Signed 64-bit or none.
#[derive(Clone, Debug, Default)]
pub struct MaybeI64(Vec<i64>);

impl Storage for MaybeI64 {
    type Item<'a> = Option<i64>;
    const KIND: ColumnType = ColumnType::I64;
    const NULLABLE: bool = true;
    #[inline]
    fn push(&mut self, item: Option<i64>) {
        self.0.push(item.unwrap_or(MISSING));
    }
    fn column(&self) -> Column<'_> {
        Column::MaybeI64(&self.0)
    }
}

macro_rules! word_storage {
    ($($(#[$doc:meta])* $name:ident($item:ty) = $words:expr, $code:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default)]
        pub struct $name(Vec<u8>);

        impl Storage for $name {
            type Item<'a> = $item;
            const KIND: ColumnType = ColumnType::Word;
            #[inline]
            fn push(&mut self, item: $item) {
                let code: fn($item) -> u8 = $code;
                self.0.push(code(item));
            }
            fn column(&self) -> Column<'_> {
                Column::Word(&self.0, $words)
            }
        }
    )*};
}

/// Names of causes, in the order of [`GapCause`].
const CAUSES: &[&str] = &[
    "sequence",
    "join",
    "checksum",
    "crossed",
    "drift",
    "malformed",
    "range",
    "buffer",
    "closed",
    "error",
    "silence",
    "planned",
    "restart",
    "end",
    "overflow",
    "tape",
    "damage",
];

/// A book's state in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BookState {
    /// Equal to the venue's, as far as its protocol proves.
    Live,
    /// Live, with bids at or above asks.
    Crossed,
    /// Not valid.
    Gap,
}

/// A change of a connection or instrument in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A connection was made.
    Opened,
    /// A connection ended.
    Closed,
    /// A frame was refused.
    Refused,
}

word_storage! {
    /// Proof level.
    ProofWord(Proof) = &["none", "heartbeat", "checksum", "sequence"], |proof| proof as u8;
    /// Side of a book: `true` for asks.
    SideWord(bool) = &["bid", "ask"], u8::from;
    /// Side of a taker: `true` for sell.
    TakerWord(bool) = &["buy", "sell"], u8::from;
    /// State of a book.
    StateWord(BookState) = &["live", "crossed", "gap"], |state| state as u8;
    /// Channel.
    ChannelWord(Channel) = &["book", "trades", "candles"], |channel| channel as u8;
    /// Cause of a gap.
    CauseWord(GapCause) = CAUSES, |cause| cause as u8;
    /// End of a gap: `true` when it closes.
    PhaseWord(bool) = &["opened", "closed"], u8::from;
    /// Where a candle comes from: `true` from the venue.
    SourceWord(bool) = &["trades", "venue"], u8::from;
    /// What happened to a connection.
    HappeningWord(Happening) = &["opened", "closed", "refused"], |happening| happening as u8;
}

/// Text.
#[derive(Clone, Debug, Default)]
pub struct Text {
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl Storage for Text {
    type Item<'a> = &'a str;
    const KIND: ColumnType = ColumnType::Text;
    #[inline]
    fn push(&mut self, item: &str) {
        self.bytes.extend_from_slice(item.as_bytes());
        self.ends.push(self.bytes.len() as u32);
    }
    fn column(&self) -> Column<'_> {
        Column::Text(&self.ends, &self.bytes)
    }
}

macro_rules! list_storage {
    ($($(#[$doc:meta])* $name:ident($item:ty) = $kind:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default)]
        pub struct $name {
            ends: Vec<u32>,
            values: Vec<$item>,
        }

        impl Storage for $name {
            type Item<'a> = &'a [$item];
            const KIND: ColumnType = ColumnType::$kind;
            #[inline]
            fn push(&mut self, item: &[$item]) {
                self.values.extend_from_slice(item);
                self.ends.push(self.values.len() as u32);
            }
            fn column(&self) -> Column<'_> {
                Column::$kind(&self.ends, &self.values)
            }
        }
    )*};
}

list_storage! {
    /// List of signed 64-bit.
    ListI64(i64) = ListI64;
    /// List of unsigned 32-bit.
    ListU32(u32) = ListU32;
    /// List of 64-bit floats.
    ListF64(f64) = ListF64;
}

/// What every row begins with.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// Position of the record that released the row.
    pub pos: Pos,
    /// Index of the instrument's label.
    pub label: u32,
    /// The venue's time.
    pub ts_event: Option<Nanos>,
    /// Receive time of the record that released the row.
    pub ts_recv: Nanos,
    /// What the feed can prove.
    pub proof: Proof,
    /// Whether a value has more than 15 significant digits.
    pub rounded: bool,
}

/// Columns that every kind begins with.
#[derive(Clone, Debug, Default)]
struct Heads {
    pos: Vec<u64>,
    n: Vec<u32>,
    label: Vec<u32>,
    ts_event: MaybeI64,
    ts_recv: Vec<i64>,
    proof: ProofWord,
    rounded: Vec<bool>,
}

const HEAD_SPECS: [ColumnSpec; 9] = {
    const fn column(
        name: &'static str,
        kind: ColumnType,
        nullable: bool,
        unit: &'static str,
        doc: &'static str,
    ) -> ColumnSpec {
        ColumnSpec { name, kind, nullable, unit, doc }
    }
    [
        column("pos", ColumnType::U64, false, "tape position", "Position of the record that released the row."),
        column("n", ColumnType::U32, false, "", "Number of the row among those of its record and kind, from 0."),
        column("venue", ColumnType::Word, false, "", "Venue id."),
        column("native_symbol", ColumnType::Word, false, "", "The venue's symbol; empty for a whole connection."),
        column("symbol", ColumnType::Word, true, "", "Canonical symbol, once a list of instruments has named it."),
        column("ts_event", ColumnType::I64, true, "ns", "The venue's time."),
        column("ts_recv", ColumnType::I64, false, "ns", "Receive time of that record."),
        column("proof", ColumnType::Word, false, "", "What the feed can prove."),
        column("rounded", ColumnType::Bool, false, "", "Whether a value has more than 15 significant digits."),
    ]
};

impl Heads {
    #[inline]
    fn push(&mut self, head: &Head) {
        // Rows of one record are numbered from 0 in each kind.
        let n = match self.pos.last() {
            Some(last) if *last == head.pos => self.n.last().map_or(0, |n| n + 1),
            _ => 0,
        };
        self.pos.push(head.pos);
        self.n.push(n);
        self.label.push(head.label);
        self.ts_event.push(head.ts_event);
        self.ts_recv.push(head.ts_recv);
        self.proof.push(head.proof);
        self.rounded.push(head.rounded);
    }

    fn columns(&self) -> Vec<Column<'_>> {
        vec![
            Column::U64(&self.pos),
            Column::U32(&self.n),
            Column::Label(&self.label, LabelField::Venue),
            Column::Label(&self.label, LabelField::Native),
            Column::Label(&self.label, LabelField::Symbol),
            self.ts_event.column(),
            Column::I64(&self.ts_recv),
            self.proof.column(),
            Column::Bool(&self.rounded),
        ]
    }
}

/// Rows of one kind.
pub trait Table {
    /// The kind.
    fn name(&self) -> &'static str;
    /// The columns' definitions.
    fn specs(&self) -> Vec<ColumnSpec>;
    /// The columns.
    fn columns(&self) -> Vec<Column<'_>>;
    /// How many rows.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

macro_rules! tables {
    ($($(#[$doc:meta])* $table:ident, $row:ident, $name:literal { $($(#[doc = $column_doc:literal])+ $column:ident: $storage:ty = $unit:literal;)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default)]
        pub struct $table {
            heads: Heads,
            $($column: $storage,)*
        }

        $(#[$doc])*
        pub struct $row<'a> {
            $($(#[doc = $column_doc])+ pub $column: <$storage as Storage>::Item<'a>,)*
        }

        impl $table {
            /// Appends a row.
            #[inline]
            pub fn push(&mut self, head: &Head, row: $row<'_>) {
                self.heads.push(head);
                $(self.$column.push(row.$column);)*
            }
        }

        impl Table for $table {
            fn name(&self) -> &'static str {
                $name
            }
            fn specs(&self) -> Vec<ColumnSpec> {
                let mut specs = HEAD_SPECS.to_vec();
                $(specs.push(ColumnSpec {
                    name: stringify!($column),
                    kind: <$storage as Storage>::KIND,
                    nullable: <$storage as Storage>::NULLABLE,
                    unit: $unit,
                    doc: concat!($($column_doc),+).trim_ascii(),
                });)*
                specs
            }
            fn columns(&self) -> Vec<Column<'_>> {
                let mut columns = self.heads.columns();
                $(columns.push(self.$column.column());)*
                columns
            }
            fn len(&self) -> usize {
                self.heads.pos.len()
            }
        }
    )*};
}

tables! {
    /// Trades.
    Trades, TradeRow, "trades" {
        /// Price.
        price: F64 = "quote per base";
        /// Size.
        size: F64 = "venue size unit";
        /// The taker's side.
        side: TakerWord = "";
        /// The venue's id.
        trade_id: Text = "";
        /// Told again from before the subscription.
        history: Bool = "";
    }
    /// The best levels, at every change of them.
    Tops, TopRow, "tops" {
        /// Best bid.
        bid: MaybeF64 = "quote per base";
        /// Its size.
        bid_size: MaybeF64 = "venue size unit";
        /// Best ask.
        ask: MaybeF64 = "quote per base";
        /// Its size.
        ask_size: MaybeF64 = "venue size unit";
        /// State of the book.
        state: StateWord = "";
    }
    /// The best levels of a live book, each update interval.
    BookSnapshots, BookSnapshotRow, "book_snapshots" {
        /// State of the book.
        state: StateWord = "";
        /// Grid time of the snapshot.
        t: I64 = "ns";
        /// Bid prices, best first.
        bid_prices: ListF64 = "quote per base";
        /// Their sizes.
        bid_sizes: ListF64 = "venue size unit";
        /// Ask prices, best first.
        ask_prices: ListF64 = "quote per base";
        /// Their sizes.
        ask_sizes: ListF64 = "venue size unit";
    }
    /// The non-empty price buckets nearest to the touch, each update interval.
    PriceBuckets, PriceBucketRow, "price_buckets" {
        /// Grid time.
        t: I64 = "ns";
        /// Bucket size.
        bucket_size: F64 = "quote per base";
        /// Side.
        side: SideWord = "";
        /// Price divided by the bucket size: bids rounded down, asks up.
        index: ListI64 = "bucket sizes";
        /// Sum of sizes.
        quantity: ListF64 = "venue size unit";
        /// Sum of price times size.
        notional: ListF64 = "quote";
        /// Number of levels.
        levels: ListU32 = "";
    }
    /// A column of the depth heatmap, each update interval: bid row `i` is bucket `mid_index - i`, ask row `i` is
    /// bucket `mid_index + 1 + i`.
    HeatmapColumns, HeatmapColumnRow, "heatmap_columns" {
        /// Grid time.
        t: I64 = "ns";
        /// Bucket size.
        bucket_size: F64 = "quote per base";
        /// Mid price divided by the bucket size, rounded down.
        mid_index: I64 = "bucket sizes";
        /// Bid quantities from the mid price down.
        bid_quantity: ListF64 = "venue size unit";
        /// Ask quantities from the mid price up.
        ask_quantity: ListF64 = "venue size unit";
    }
    /// Candles; of several revisions of one candle the last counts.
    CandleRows, CandleRow, "candles" {
        /// Interval.
        interval: I64 = "ns";
        /// Open time, inclusive.
        open_time: I64 = "ns";
        /// First price.
        open: F64 = "quote per base";
        /// Highest price.
        high: F64 = "quote per base";
        /// Lowest price.
        low: F64 = "quote per base";
        /// Last price.
        close: F64 = "quote per base";
        /// Sum of sizes.
        volume: F64 = "venue size unit";
        /// Sum of price times size.
        notional: MaybeF64 = "quote";
        /// Number of trades.
        count: MaybeI64 = "";
        /// Sum of sizes that takers bought.
        taker_buy: MaybeF64 = "venue size unit";
        /// Revision, from 0.
        revision: U32 = "";
        /// Made from trades, or sent by the venue.
        source: SourceWord = "";
    }
    /// Gaps: a row when one opens and a row when it closes.
    Gaps, GapRow, "gaps" {
        /// The same in both rows.
        id: U64 = "";
        /// Opened or closed.
        phase: PhaseWord = "";
        /// Channel.
        channel: ChannelWord = "";
        /// Cause.
        cause: CauseWord = "";
        /// When the channel was last good.
        from: I64 = "ns";
        /// When it was good again.
        to: MaybeI64 = "ns";
        /// For people.
        evidence: Text = "";
    }
    /// What happened to connections.
    ConnectionEvents, ConnectionEventRow, "connection_events" {
        /// Connection.
        connection: U32 = "";
        /// What happened.
        event: HappeningWord = "";
        /// URL, cause or error.
        detail: Text = "";
    }
    /// Instruments as the venue lists them, at every change.
    InstrumentRows, InstrumentRow, "instruments" {
        /// Base asset.
        base: Text = "";
        /// Quote asset.
        quote: Text = "";
        /// `spot`, `perpetual` or `future`.
        kind: Text = "";
        /// Expiry of a future.
        expiry: MaybeI64 = "ns";
        /// Smallest price step.
        tick_size: MaybeF64 = "quote per base";
        /// Smallest size step.
        lot_size: MaybeF64 = "venue size unit";
        /// Base (quote, when inverse) per unit of size.
        contract_size: F64 = "";
        /// Whether size counts quote units.
        inverse: Bool = "";
        /// `trading`, `halted` or `delisted`.
        status: Text = "";
    }
}

/// How many kinds of rows there are.
pub const KINDS: usize = 9;

/// Rows of all kinds for the positions `first_pos..=last_pos`; it never splits a record.
#[derive(Clone, Debug, Default)]
pub struct Cut {
    /// First position covered.
    pub first_pos: Pos,
    /// Last position covered.
    pub last_pos: Pos,
    /// The position that the cut handed on before it ended at; set by the engine.
    pub follows: Pos,
    /// Whether its records are on no tape, so that no store may take it; set by the engine.
    pub untaped: bool,
    /// The labels that the rows refer to.
    pub labels: Arc<Vec<Label>>,
    /// Trades.
    pub trades: Trades,
    /// Best levels.
    pub tops: Tops,
    /// Book snapshots.
    pub book_snapshots: BookSnapshots,
    /// Price buckets.
    pub price_buckets: PriceBuckets,
    /// Heatmap columns.
    pub heatmap_columns: HeatmapColumns,
    /// Candles.
    pub candles: CandleRows,
    /// Gaps.
    pub gaps: Gaps,
    /// Connection events.
    pub connection_events: ConnectionEvents,
    /// Instruments.
    pub instruments: InstrumentRows,
}

impl Cut {
    /// The tables, in the order of their kinds.
    pub fn tables(&self) -> [&dyn Table; KINDS] {
        [
            &self.trades,
            &self.tops,
            &self.book_snapshots,
            &self.price_buckets,
            &self.heatmap_columns,
            &self.candles,
            &self.gaps,
            &self.connection_events,
            &self.instruments,
        ]
    }

    /// Rows of all kinds.
    pub fn len(&self) -> usize {
        self.tables().iter().map(|table| table.len()).sum()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.tables().iter().all(|table| table.is_empty())
    }
}

/// Hashes of the canonical encoding, one per kind: independent of where cuts fall.
#[derive(Clone, Default)]
pub struct RowHashes {
    hashers: [Xxh3; KINDS],
    scratch: Vec<u8>,
}

impl RowHashes {
    /// Adds the rows of a cut.
    pub fn update(&mut self, cut: &Cut) {
        for (hasher, table) in self.hashers.iter_mut().zip(cut.tables()) {
            let columns = table.columns();
            let specs = table.specs();
            for row in 0..table.len() {
                self.scratch.clear();
                for (column, spec) in columns.iter().zip(&specs) {
                    encode(column, spec.nullable, row, &cut.labels, &mut self.scratch);
                }
                hasher.update(&self.scratch);
            }
        }
    }

    /// The hashes so far, 128 bits in hexadecimal, by kind.
    pub fn digest(&self) -> Vec<(&'static str, String)> {
        let empty = Cut::default();
        let tables = empty.tables();
        tables
            .iter()
            .zip(&self.hashers)
            .map(|(table, hasher)| (table.name(), format!("{:032x}", hasher.digest128())))
            .collect()
    }
}

fn range(ends: &[u32], row: usize) -> std::ops::Range<usize> {
    let start = if row == 0 { 0 } else { ends[row - 1] };
    start as usize..ends[row] as usize
}

fn encode(column: &Column<'_>, nullable: bool, row: usize, labels: &[Label], out: &mut Vec<u8>) {
    let text = |out: &mut Vec<u8>, text: &[u8]| {
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text);
    };
    let present = |out: &mut Vec<u8>, present: bool| {
        if nullable {
            out.push(u8::from(present));
        }
        present
    };
    match column {
        Column::U64(values) => out.extend_from_slice(&values[row].to_le_bytes()),
        Column::U32(values) => out.extend_from_slice(&values[row].to_le_bytes()),
        Column::I64(values) => out.extend_from_slice(&values[row].to_le_bytes()),
        Column::MaybeI64(values) => {
            if present(out, values[row] != MISSING) {
                out.extend_from_slice(&values[row].to_le_bytes());
            }
        }
        Column::F64(values) => out.extend_from_slice(&values[row].to_bits().to_le_bytes()),
        Column::MaybeF64(values) => {
            if present(out, !values[row].is_nan()) {
                out.extend_from_slice(&values[row].to_bits().to_le_bytes());
            }
        }
        Column::Bool(values) => out.push(u8::from(values[row])),
        Column::Word(codes, words) => text(out, words[codes[row] as usize].as_bytes()),
        Column::Label(ids, field) => match field.of(&labels[ids[row] as usize]) {
            Some(label) => {
                present(out, true);
                text(out, label.as_bytes());
            }
            None => drop(present(out, false)),
        },
        Column::Text(ends, bytes) => text(out, &bytes[range(ends, row)]),
        Column::ListI64(ends, values) => {
            let values = &values[range(ends, row)];
            out.extend_from_slice(&(values.len() as u32).to_le_bytes());
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Column::ListU32(ends, values) => {
            let values = &values[range(ends, row)];
            out.extend_from_slice(&(values.len() as u32).to_le_bytes());
            out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Column::ListF64(ends, values) => {
            let values = &values[range(ends, row)];
            out.extend_from_slice(&(values.len() as u32).to_le_bytes());
            out.extend(values.iter().flat_map(|value| value.to_bits().to_le_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(rows: &[(Pos, &str)]) -> Cut {
        let labels = Arc::new(vec![Label { venue: "v".into(), native: "N".into(), symbol: None }]);
        let mut cut = Cut { labels, ..Cut::default() };
        for (pos, trade_id) in rows {
            let head = Head { pos: *pos, label: 0, ts_event: None, ts_recv: 7, proof: Proof::Sequence, rounded: false };
            let row = TradeRow { price: 1.5, size: 2.0, side: false, trade_id, history: false };
            cut.trades.push(&head, row);
        }
        cut
    }

    #[test]
    fn hashes_do_not_see_where_cuts_fall() {
        let rows = [(1, "a"), (1, "b"), (2, "c")];
        let mut whole = RowHashes::default();
        whole.update(&cut(&rows));
        let mut parts = RowHashes::default();
        parts.update(&cut(&rows[..2]));
        parts.update(&cut(&rows[2..]));
        assert_eq!(whole.digest(), parts.digest());
        let mut other = RowHashes::default();
        other.update(&cut(&[(1, "a"), (1, "b"), (3, "c")]));
        assert_ne!(whole.digest(), other.digest());
    }

    #[test]
    fn rows_of_one_record_are_numbered() {
        let cut = cut(&[(1, "a"), (1, "b"), (2, "c")]);
        assert!(matches!(cut.trades.columns()[1], Column::U32([0, 1, 0])));
        for table in cut.tables() {
            assert_eq!(table.specs().len(), table.columns().len(), "{}", table.name());
        }
    }

    #[test]
    fn words_match_their_enums() {
        use GapCause as C;
        let causes = [
            C::Sequence,
            C::Join,
            C::Checksum,
            C::Crossed,
            C::Drift,
            C::Malformed,
            C::Range,
            C::Buffer,
            C::Closed,
            C::Error,
            C::Silence,
            C::Planned,
            C::Restart,
            C::End,
            C::Overflow,
            C::Tape,
            C::Damage,
        ];
        assert!(causes.iter().map(|cause| cause.name()).eq(CAUSES.iter().copied()));
        assert!(causes.iter().all(|cause| CAUSES[*cause as usize] == cause.name()));
        assert_eq!(
            [Proof::None, Proof::Heartbeat, Proof::Checksum, Proof::Sequence].map(|proof| proof as u8),
            [0, 1, 2, 3]
        );
        assert_eq!([Channel::Book, Channel::Trades, Channel::Candles].map(|channel| channel as u8), [0, 1, 2]);
    }
}
