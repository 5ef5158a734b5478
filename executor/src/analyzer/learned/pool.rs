//! Memory that is used again: what has grown in one block need not grow in the next one.
//!
//! *Must not know*: what the memory is for.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
};

/// What is kept for the next block.
const KEPT_MAX: usize = 16;

/// Something that keeps its memory when it forgets what is in there.
pub(super) trait Reusable: Default {
    /// Forgets everything that is of no use in another block.
    fn reset(&mut self);
}

/// Things that nobody uses at the moment.
#[derive(Debug, Default)]
pub(super) struct Pool<T>(Mutex<Vec<T>>);

impl<T: Reusable> Pool<T> {
    /// One of the things, or a new one. It comes back when it is dropped.
    pub(super) fn lend(&self) -> Lent<'_, T> {
        Lent { thing: self.things(|things| things.pop()).unwrap_or_default(), pool: self }
    }

    /// Drops what nobody uses at the moment, so that new things are lent.
    pub(super) fn forget(&self) {
        self.things(Vec::clear);
    }

    fn take_back(&self, mut thing: T) {
        thing.reset();
        self.things(|things| {
            if things.len() < KEPT_MAX {
                things.push(thing);
            }
        });
    }

    fn things<R>(&self, with: impl FnOnce(&mut Vec<T>) -> R) -> R {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A thing on loan from a [`Pool`].
#[derive(Debug)]
pub(super) struct Lent<'p, T: Reusable> {
    thing: T,
    pool: &'p Pool<T>,
}

impl<T: Reusable> Deref for Lent<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.thing
    }
}

impl<T: Reusable> DerefMut for Lent<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.thing
    }
}

impl<T: Reusable> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        self.pool.take_back(std::mem::take(&mut self.thing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Reusable for Vec<u8> {
        fn reset(&mut self) {
            self.clear();
        }
    }

    #[test]
    fn what_comes_back_is_empty_and_has_kept_its_memory() {
        let pool = Pool::<Vec<u8>>::default();
        let mut first = pool.lend();
        first.resize(100, 1);
        let second = pool.lend();
        assert_eq!(second.capacity(), 0);
        drop(first);
        let again = pool.lend();
        assert!(again.is_empty() && again.capacity() >= 100);
        let many: Vec<_> = (0..2 * KEPT_MAX).map(|_| pool.lend()).collect();
        drop(many);
        assert_eq!(pool.things(|things| things.len()), KEPT_MAX);
        pool.forget();
        assert_eq!(pool.lend().capacity(), 0);
    }
}
