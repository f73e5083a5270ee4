//! The crate's only unsafe code: lending memory to Arrow without copying it.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::panic::RefUnwindSafe;
use std::ptr::NonNull;
use std::sync::Arc;

use arrow_buffer::alloc::Allocation;
use arrow_buffer::{ArrowNativeType, Buffer};

/// Lends slices of one owner as Arrow buffers, which keep the owner alive.
///
/// The lifetime is a brand: [`lend`] works for *every* `'owner`, so the only slices that live exactly that long are those
/// of the owner that it hands out (or ones that live forever).
pub struct Lender<'owner> {
    owner: Arc<dyn Allocation>,
    brand: PhantomData<fn(&'owner ()) -> &'owner ()>,
}

/// Calls `work` with what `owner` holds and with a lender of it.
pub fn lend<O, R>(owner: &Arc<O>, work: impl for<'owner> FnOnce(&'owner O, Lender<'owner>) -> R) -> R
where
    O: RefUnwindSafe + Send + Sync + 'static,
{
    let lender = Lender { owner: Arc::<O>::clone(owner), brand: PhantomData };
    work(owner, lender)
}

impl<'owner> Lender<'owner> {
    /// The slice as a buffer, without a copy.
    pub fn buffer<T: ArrowNativeType>(&self, slice: &'owner [T]) -> Buffer {
        let start = NonNull::from(slice).cast();
        // SAFETY: the slice is the owner's (see the brand) or lives forever, the owner is not changed while it is
        // shared, and the buffer holds a reference to it: the memory stays valid and unchanged while the buffer
        // lives. Native types have no padding and no interior mutability.
        unsafe { Buffer::from_custom_allocation(start, size_of_val(slice), Arc::clone(&self.owner)) }
    }
}
