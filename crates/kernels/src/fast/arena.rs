//! Memory that is kept between steps.

use std::cell::RefCell;
use std::sync::Mutex;

/// Buffers that are taken for a step and given back, so that no step returns memory to the system.
///
/// A buffer's content is whatever its last user left; a new one is zeroed.
#[derive(Default)]
pub(crate) struct Arena<T = f32> {
    free: Mutex<Vec<Vec<T>>>,
}

impl<T: Copy + Default> Arena<T> {
    /// A buffer of `len` values: the smallest free one that is large enough, unless it is more than twice as large.
    pub(crate) fn take(&self, len: usize) -> Vec<T> {
        let mut free = self.free.lock().expect("no user of the list panics");
        let best = (0..free.len())
            .filter(|&index| (len..=2 * len).contains(&free[index].capacity()))
            .min_by_key(|&index| free[index].capacity());
        match best {
            Some(index) => {
                let mut buffer = free.swap_remove(index);
                buffer.resize(len, T::default());
                buffer
            }
            None => vec![T::default(); len],
        }
    }

    /// Takes a buffer back.
    pub(crate) fn give(&self, buffer: Vec<T>) {
        self.free.lock().expect("no user of the list panics").push(buffer);
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Runs `task` with this thread's scratch memory of `len` numbers of any content. Must not be nested.
pub(crate) fn with_scratch<T>(len: usize, task: impl FnOnce(&mut [f32]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < len {
            // In whole MiB, so that a thread's scratch settles after the first step.
            scratch.resize(len.next_multiple_of(1 << 18), 0.0);
        }
        task(&mut scratch[..len])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back() {
        let arena = Arena::default();
        let mut first = arena.take(100);
        first.fill(1.0);
        let address = first.as_ptr();
        arena.give(first);
        let other = arena.take(40);
        assert_ne!(other.as_ptr(), address, "a buffer more than twice as large is kept for others");
        let again = arena.take(80);
        assert_eq!((again.as_ptr(), again.len()), (address, 80));
    }
}
