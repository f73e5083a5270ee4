//! Arrow arrays as the Arrow C data interface lays them out, over memory that is lent instead of copied.
//!
//! The crate's only unsafe code. Everything that a consumer trusts is checked while an array is built: lengths,
//! offsets and dictionary keys. See <https://arrow.apache.org/docs/format/CDataInterface.html>.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::{null, null_mut};
use std::sync::Arc;

/// Marks a field whose values may be missing.
const NULLABLE: i64 = 2;

/// `struct ArrowSchema`.
#[repr(C)]
pub struct ArrowSchema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *mut *mut ArrowSchema,
    dictionary: *mut ArrowSchema,
    release: Option<unsafe extern "C" fn(*mut ArrowSchema)>,
    private_data: *mut c_void,
}

/// `struct ArrowArray`.
#[repr(C)]
pub struct ArrowArray {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *const *const c_void,
    children: *mut *mut ArrowArray,
    dictionary: *mut ArrowArray,
    release: Option<unsafe extern "C" fn(*mut ArrowArray)>,
    private_data: *mut c_void,
}

// SAFETY: a schema owns what it points to, or points to statics.
unsafe impl Send for ArrowSchema {}
// SAFETY: an array owns what it points to, or points to memory of an owner that is `Send` and `Sync`.
unsafe impl Send for ArrowArray {}

// A consumer that has taken the content leaves `release` empty.
impl Drop for ArrowSchema {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: `release` is ours and has not been called: it empties the field.
            unsafe { release(self) }
        }
    }
}

impl Drop for ArrowArray {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: as for the schema.
            unsafe { release(self) }
        }
    }
}

/// What a node owns. The structs of its children are its own, and what they point to is theirs: a consumer may take a
/// child out and keep it longer than its parent.
struct SchemaOwned {
    children: Box<[ArrowSchema]>,
    pointers: Box<[*mut ArrowSchema]>,
    dictionary: Option<Box<ArrowSchema>>,
}

struct ArrayOwned {
    buffers: [*const c_void; 3],
    children: Box<[ArrowArray]>,
    pointers: Box<[*mut ArrowArray]>,
    dictionary: Option<Box<ArrowArray>>,
    /// What some of the buffers are.
    _memory: Memory,
    /// What the others are lent from.
    _owner: Owner,
}

type Owner = Arc<dyn Send + Sync>;

unsafe extern "C" fn release_schema(schema: *mut ArrowSchema) {
    // SAFETY: the interface calls this once, with a struct that `ArrowSchema::new` filled; it was at most moved.
    unsafe {
        drop(Box::from_raw((*schema).private_data.cast::<SchemaOwned>()));
        (*schema).release = None;
    }
}

unsafe extern "C" fn release_array(array: *mut ArrowArray) {
    // SAFETY: the interface calls this once, with a struct that `Lender::node` filled; it was at most moved.
    unsafe {
        drop(Box::from_raw((*array).private_data.cast::<ArrayOwned>()));
        (*array).release = None;
    }
}

impl ArrowSchema {
    /// A field with the children or the dictionary of its type.
    pub fn new(
        format: &'static CStr,
        name: &'static CStr,
        nullable: bool,
        children: Vec<Self>,
        dictionary: Option<Self>,
    ) -> Self {
        let children = children.into_boxed_slice();
        let dictionary = dictionary.map(Box::new);
        let mut owned = Box::new(SchemaOwned { children, pointers: Box::default(), dictionary });
        owned.pointers = owned.children.iter_mut().map(|child| &raw mut *child).collect();
        Self {
            format: format.as_ptr(),
            name: name.as_ptr(),
            metadata: null(),
            flags: if nullable { NULLABLE } else { 0 },
            n_children: owned.children.len() as i64,
            children: owned.pointers.as_mut_ptr(),
            dictionary: owned.dictionary.as_deref_mut().map_or(null_mut(), |dictionary| &raw mut *dictionary),
            release: Some(release_schema),
            private_data: Box::into_raw(owned).cast(),
        }
    }
}

/// Columns of numbers that may be lent as they lie in memory.
pub trait Plain {}
impl Plain for u64 {}
impl Plain for u32 {}
impl Plain for i64 {}
impl Plain for f64 {}

/// An array that an Arrow consumer would read wrongly.
#[derive(Debug, thiserror::Error)]
#[error("not a valid Arrow array: {0}")]
pub struct Invalid(&'static str);

type Built = Result<ArrowArray, Invalid>;

/// Which values are there: a set bit for each.
pub struct Validity {
    bits: Vec<u8>,
    missing: usize,
}

impl Validity {
    /// `None` if no value is missing.
    pub fn of<T>(values: &[T], missing: impl Fn(&T) -> bool) -> Option<Self> {
        // Counting first is cheap, and mostly none is missing.
        let count = count(values.iter().map(&missing));
        (count > 0).then(|| Self { bits: pack(values, |value| !missing(value)), missing: count })
    }
}

/// How many are true. The sum is narrow and has no early exit, so that several are looked at at once.
fn count(tests: impl Iterator<Item = bool>) -> usize {
    tests.map(u32::from).sum::<u32>() as usize
}

/// One bit for each value, the lowest first.
fn pack<T>(values: &[T], bit: impl Fn(&T) -> bool) -> Vec<u8> {
    let (whole, rest) = values.as_chunks::<8>();
    // The product gathers the lowest bits of eight bytes in its highest byte.
    let byte = |bits: [u8; 8]| (u64::from_le_bytes(bits).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
    let mut bits: Vec<u8> =
        whole.iter().map(|values| byte(values.each_ref().map(|value| u8::from(bit(value))))).collect();
    bits.extend((!rest.is_empty()).then(|| {
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(last, value)| *last = u8::from(bit(value)));
        byte(last)
    }));
    bits
}

/// Memory that belongs to one array.
#[derive(Default)]
struct Memory {
    validity: Vec<u8>,
    bytes: Vec<u8>,
    words: Vec<i32>,
}

/// What an array consists of besides its children.
#[derive(Default)]
struct Parts {
    length: usize,
    missing: usize,
    /// The buffers behind the validity.
    data: [*const c_void; 2],
    data_buffers: usize,
    memory: Memory,
}

/// Builds arrays over slices of one owner, and keeps the owner alive in each.
///
/// The lifetime is a brand: [`lend`] calls its closure for *every* `'owner`, so the only slices that live exactly so
/// long are those of the owner that it hands out (or ones that live forever).
pub struct Lender<'owner> {
    owner: Owner,
    brand: PhantomData<fn(&'owner ()) -> &'owner ()>,
}

/// Calls `work` with what `owner` holds and with a lender of it.
pub fn lend<O, R>(owner: &Arc<O>, work: impl for<'owner> FnOnce(&'owner O, &Lender<'owner>) -> R) -> R
where
    O: Send + Sync + 'static,
{
    let lender = Lender { owner: Arc::<O>::clone(owner), brand: PhantomData };
    work(owner, &lender)
}

impl<'owner> Lender<'owner> {
    /// Numbers.
    pub fn numbers<T: Plain>(&self, values: &'owner [T], validity: Option<Validity>) -> ArrowArray {
        let mut parts =
            Parts { length: values.len(), data: [start(values), null()], data_buffers: 1, ..Parts::default() };
        if let Some(validity) = validity {
            parts.missing = validity.missing;
            parts.memory.validity = validity.bits;
        }
        self.node(parts, Vec::new(), None)
    }

    /// Booleans.
    pub fn booleans(&self, values: &[bool]) -> ArrowArray {
        let memory = Memory { bytes: pack(values, |value| *value), ..Memory::default() };
        let data = [start(&memory.bytes), null()];
        self.node(Parts { length: values.len(), data, data_buffers: 1, memory, missing: 0 }, Vec::new(), None)
    }

    /// Texts by their ends in `bytes`, which are UTF-8.
    pub fn texts(&self, ends: &[u32], bytes: &'owner [u8]) -> Built {
        let memory = Memory { words: offsets(ends, bytes.len())?, ..Memory::default() };
        let data = [start(&memory.words), start(bytes)];
        Ok(self.node(Parts { length: ends.len(), data, data_buffers: 2, memory, missing: 0 }, Vec::new(), None))
    }

    /// A few texts, copied.
    pub fn words(&self, words: &[&str]) -> Built {
        let ends: Vec<u32> = words.iter().scan(0, |end, word| Some(add(end, word.len()))).collect();
        let bytes = words.concat().into_bytes();
        let memory = Memory { words: offsets(&ends, bytes.len())?, bytes, ..Memory::default() };
        let data = [start(&memory.words), start(&memory.bytes)];
        Ok(self.node(Parts { length: words.len(), data, data_buffers: 2, memory, missing: 0 }, Vec::new(), None))
    }

    /// Lists of numbers by their ends in `items`.
    pub fn lists<T: Plain>(&self, ends: &[u32], items: &'owner [T]) -> Built {
        let memory = Memory { words: offsets(ends, items.len())?, ..Memory::default() };
        let data = [start(&memory.words), null()];
        let parts = Parts { length: ends.len(), data, data_buffers: 1, memory, missing: 0 };
        Ok(self.node(parts, vec![self.numbers(items, None)], None))
    }

    /// Indices into `values`, a byte each; signed, as pandas wants them.
    pub fn codes(&self, codes: &'owner [u8], values: ArrowArray) -> Built {
        let highest = codes.iter().copied().fold(0, u8::max);
        let most = values.length.min(1 << 7);
        in_range(codes.is_empty() || i64::from(highest) < most)?;
        let parts = Parts { length: codes.len(), data: [start(codes), null()], data_buffers: 1, ..Parts::default() };
        Ok(self.node(parts, Vec::new(), Some(values)))
    }

    /// Indices into `values`, as they lie in memory.
    pub fn indices(&self, indices: &'owner [u32], values: ArrowArray) -> Built {
        let most = keys_of(&values);
        in_range(count(indices.iter().map(|index| (*index as i32) < 0 || *index as i32 >= most)) == 0)?;
        let parts =
            Parts { length: indices.len(), data: [start(indices), null()], data_buffers: 1, ..Parts::default() };
        Ok(self.node(parts, Vec::new(), Some(values)))
    }

    /// Indices into `values`; a negative one stands for a missing value where `optional`.
    pub fn keys(&self, keys: Vec<i32>, optional: bool, values: ArrowArray) -> Built {
        let most = keys_of(&values);
        in_range(count(keys.iter().map(|key| *key >= most)) == 0)?;
        let validity = Validity::of(&keys, |key| *key < 0);
        if validity.is_some() && !optional {
            return Err(Invalid("a negative key"));
        }
        let mut parts = Parts { length: keys.len(), data_buffers: 1, ..Parts::default() };
        if let Some(validity) = validity {
            parts.missing = validity.missing;
            parts.memory.validity = validity.bits;
        }
        parts.data[0] = start(&keys);
        parts.memory.words = keys;
        Ok(self.node(parts, Vec::new(), Some(values)))
    }

    /// Rows of columns that have `rows` values each.
    pub fn rows(&self, rows: usize, columns: Vec<ArrowArray>) -> Built {
        if columns.iter().any(|column| column.length != rows as i64) {
            return Err(Invalid("columns of different lengths"));
        }
        Ok(self.node(Parts { length: rows, ..Parts::default() }, columns, None))
    }

    fn node(&self, parts: Parts, children: Vec<ArrowArray>, dictionary: Option<ArrowArray>) -> ArrowArray {
        let validity = if parts.missing == 0 { null() } else { start(&parts.memory.validity) };
        let mut owned = Box::new(ArrayOwned {
            buffers: [validity, parts.data[0], parts.data[1]],
            children: children.into_boxed_slice(),
            pointers: Box::default(),
            dictionary: dictionary.map(Box::new),
            _memory: parts.memory,
            _owner: Arc::clone(&self.owner),
        });
        owned.pointers = owned.children.iter_mut().map(|child| &raw mut *child).collect();
        ArrowArray {
            length: parts.length as i64,
            null_count: parts.missing as i64,
            offset: 0,
            n_buffers: 1 + parts.data_buffers as i64,
            n_children: owned.children.len() as i64,
            buffers: owned.buffers.as_ptr(),
            children: owned.pointers.as_mut_ptr(),
            dictionary: owned.dictionary.as_deref_mut().map_or(null_mut(), |dictionary| &raw mut *dictionary),
            release: Some(release_array),
            private_data: Box::into_raw(owned).cast(),
        }
    }
}

fn start<T>(values: &[T]) -> *const c_void {
    values.as_ptr().cast()
}

fn add(end: &mut u32, length: usize) -> u32 {
    *end = end.saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
    *end
}

/// How many keys of 32 bits a dictionary has.
fn keys_of(values: &ArrowArray) -> i32 {
    i32::try_from(values.length).unwrap_or(i32::MAX)
}

fn in_range(fit: bool) -> Result<(), Invalid> {
    if fit { Ok(()) } else { Err(Invalid("a key beyond its dictionary")) }
}

/// Arrow's offsets begin with the first start.
fn offsets(ends: &[u32], limit: usize) -> Result<Vec<i32>, Invalid> {
    let last = ends.last().map_or(0, |end| *end as usize);
    if last > limit || i32::try_from(last).is_err() {
        return Err(Invalid("an end beyond its values"));
    }
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.extend(ends.iter().map(|end| *end as i32));
    // An end beyond `i32` has become negative, and so has fallen too.
    if count(offsets.iter().zip(&offsets[1..]).map(|(one, next)| one > next)) > 0 {
        return Err(Invalid("ends that do not grow"));
    }
    Ok(offsets)
}
