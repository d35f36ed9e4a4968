//! Many small pieces of memory from few allocations.
//!
//! To a driver allocating and freeing are calls that may cost as much as a launch. What a backward pass needs of small
//! pieces comes from slabs: a piece is a view of a slab, and a slab goes back to the driver with the last of them.

use std::cell::RefCell;

use candle_core::op::BackpropOp;
use candle_core::{DType, Device, Shape, Storage, Tensor};

use crate::Result;

/// Bytes of a slab.
const SLAB: usize = 32 << 20;
/// Larger pieces have memory of their own, so that few of them do not hold much of what others have left.
const LARGEST: usize = 2 << 20;
/// Pieces begin at multiples of so many elements: whole vectors of any type.
const STEP: usize = 64;

#[derive(Default)]
struct Arena {
    /// How many scopes are open.
    open: usize,
    slabs: Vec<Slab>,
}

/// The slab of a device and type that pieces come from now.
struct Slab {
    whole: Tensor,
    used: usize,
}

thread_local! {
    static ARENA: RefCell<Arena> = RefCell::default();
}

/// Runs `f` with small pieces of memory from slabs.
pub(crate) fn with_slabs<T>(f: impl FnOnce() -> T) -> T {
    with_open(|open| open + 1, f)
}

/// Runs `f` with memory of its own for every piece.
pub(crate) fn without_slabs<T>(f: impl FnOnce() -> T) -> T {
    with_open(|_| 0, f)
}

/// Runs `f` with another number of open scopes.
fn with_open<T>(change: impl FnOnce(usize) -> usize, f: impl FnOnce() -> T) -> T {
    /// Puts back the number that was, on a panic too.
    struct Before(usize);
    impl Drop for Before {
        fn drop(&mut self) {
            ARENA.with_borrow_mut(|arena| arena.open = self.0);
        }
    }
    let _before = ARENA.with_borrow_mut(|arena| {
        let before = Before(arena.open);
        arena.open = change(arena.open);
        before
    });
    f()
}

/// A piece of `n` elements, flat, of a slab that `allocate` gives; `None` outside of scopes and where it is large.
// Called by the runtimes whose allocations cost as much as a launch.
#[allow(dead_code)]
pub(super) fn piece(
    device: &Device,
    dtype: DType,
    n: usize,
    allocate: impl FnOnce(&Shape) -> Result<Storage>,
) -> Result<Option<Tensor>> {
    if n == 0 || n * dtype.size_in_bytes() > LARGEST {
        return Ok(None);
    }
    ARENA.with_borrow_mut(|arena| {
        if arena.open == 0 {
            return Ok(None);
        }
        let size = n.next_multiple_of(STEP);
        let slabs = &mut arena.slabs;
        let fits =
            |slab: &Slab| slab.whole.dtype() == dtype && slab.whole.device().same_device(device);
        let at = slabs.iter().position(fits);
        let full = |i: &usize| slabs[*i].used + size > slabs[*i].whole.elem_count();
        if let Some(i) = at.filter(full) {
            slabs.swap_remove(i);
        }
        let i = match slabs.iter().position(fits) {
            Some(i) => i,
            None => {
                let shape = Shape::from(SLAB / dtype.size_in_bytes());
                let storage = allocate(&shape)?;
                let whole = Tensor::from_storage(storage, shape, BackpropOp::none(), false);
                slabs.push(Slab { whole, used: 0 });
                slabs.len() - 1
            }
        };
        let slab = &mut slabs[i];
        let piece = slab.whole.narrow(0, slab.used, n)?;
        slab.used += size;
        Ok(Some(piece))
    })
}
