//! A concurrent table that only grows.
//!
//! Entries are found without taking a lock and never move or vanish while the table lives, so that
//! a read set can keep plain references to them. Each bucket is a singly linked list whose links
//! are set once; an insertion that loses the race for a link goes on from the winner.

use std::sync::OnceLock;

/// Buckets per expected entry. Chains stay short up to several times the expected number.
const BUCKETS_PER_ENTRY: usize = 2;

/// Entries by the hash of their key. The caller compares full keys.
pub(super) struct LocationTable<V> {
    buckets: Box<[Link<V>]>,
}

type Link<V> = OnceLock<Box<Node<V>>>;

struct Node<V> {
    value: V,
    next: Link<V>,
}

impl<V> LocationTable<V> {
    /// A table for about `expected` entries.
    pub(super) fn with_capacity(expected: usize) -> Self {
        let buckets = expected.saturating_mul(BUCKETS_PER_ENTRY).next_power_of_two().max(64);
        Self { buckets: (0..buckets).map(|_| OnceLock::new()).collect() }
    }

    /// So many parts of the table, or fewer, each of which can be [cleared](Part::clear) by itself.
    pub(super) fn parts(&mut self, count: usize) -> impl Iterator<Item = Part<'_, V>> {
        let size = self.buckets.len().div_ceil(count.max(1));
        self.buckets.chunks_mut(size).map(|buckets| Part { buckets })
    }

    /// The entry with this hash that `is_key` accepts; where there is none, the one that `make`
    /// gives. `make` may run in vain when another thread inserts the same key.
    #[inline]
    pub(super) fn get_or_insert_with(
        &self,
        hash: u64,
        is_key: impl Fn(&V) -> bool,
        make: impl FnOnce() -> V,
    ) -> &V {
        let mut link = &self.buckets[hash as usize & (self.buckets.len() - 1)];
        while let Some(node) = link.get() {
            if is_key(&node.value) {
                return &node.value;
            }
            link = &node.next;
        }
        Self::insert(link, is_key, make())
    }

    /// Appends to a chain whose end was seen at `link`.
    fn insert(mut link: &Link<V>, is_key: impl Fn(&V) -> bool, value: V) -> &V {
        let mut new = Box::new(Node { value, next: OnceLock::new() });
        loop {
            match link.set(new) {
                Ok(()) => return &link.get().expect("set just now").value,
                Err(lost) => new = lost,
            }
            // Another thread was faster: its node is there now, and may hold the same key.
            let node = link.get().expect("set by another thread");
            if is_key(&node.value) {
                return &node.value;
            }
            link = &node.next;
        }
    }
}

/// A part of a table.
pub(super) struct Part<'table, V> {
    buckets: &'table mut [Link<V>],
}

impl<V> Part<'_, V> {
    /// Removes all entries.
    pub(super) fn clear(self) {
        self.buckets.iter_mut().for_each(|link| drop(link.take()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn one_entry_a_key_even_when_all_collide() {
        let table = LocationTable::with_capacity(1);
        let first: *const u32 = table.get_or_insert_with(7, |v| *v == 1, || 1);
        table.get_or_insert_with(7, |v| *v == 2, || 2);
        assert!(std::ptr::eq(first, table.get_or_insert_with(7, |v| *v == 1, || unreachable!())));
    }

    #[test]
    fn parts_hold_all_entries() {
        let mut table = LocationTable::with_capacity(1);
        let entry = Arc::new(());
        for key in 0..1000 {
            table.get_or_insert_with(key, |_| false, || Arc::clone(&entry));
        }
        assert_eq!(Arc::strong_count(&entry), 1001);
        table.parts(3).for_each(Part::clear);
        assert_eq!(Arc::strong_count(&entry), 1);
    }

    #[test]
    fn threads_agree_on_the_entries() {
        const KEYS: u64 = 500;
        let table = LocationTable::<u64>::with_capacity(16);
        let seen: Vec<Vec<usize>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..KEYS)
                            .map(|key| {
                                let entry = table.get_or_insert_with(
                                    key % 11,
                                    |value| *value == key,
                                    || key,
                                );
                                std::ptr::from_ref(entry) as usize
                            })
                            .collect()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(seen.iter().all(|addresses| *addresses == seen[0]));
    }
}
