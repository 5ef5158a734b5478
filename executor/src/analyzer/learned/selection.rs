//! The selectors of the functions that are worth foreseeing.
//!
//! Few of the functions that a block calls are. Which template speaks of a call follows from the code
//! that is called, and to find that out takes several looks at memory; the selector is in the calldata.
//! So whoever plans a block looks no further where it is none of these.
//!
//! *Must not know*: what makes a function worth it.

use alloy_primitives::map::HashMap;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// The first four bytes of calldata, where there are as many.
type Selector = Option<[u8; 4]>;

/// Counts functions by selector, in all codes.
#[derive(Debug, Default)]
pub(super) struct Selection(Mutex<Arc<HashMap<Selector, u32>>>);

/// Whether a function is selected.
#[derive(Debug, Default)]
pub(super) struct Mark(AtomicBool);

impl Selection {
    /// Selects a function, or no longer does. `mark` is its own.
    pub(super) fn set(&self, selector: Selector, mark: &Mark, is_selected: bool) {
        // Relaxed, here and below: marks change under the lock. Mostly there is nothing to do.
        if mark.0.load(Ordering::Relaxed) == is_selected {
            return;
        }
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if mark.0.swap(is_selected, Ordering::Relaxed) == is_selected {
            return;
        }
        let counts = Arc::make_mut(&mut counts);
        let count = counts.entry(selector).or_default();
        if is_selected {
            *count += 1;
        } else if *count > 1 {
            *count -= 1;
        } else {
            counts.remove(&selector);
        }
    }

    /// The selectors of the functions that are selected now.
    pub(super) fn get(&self) -> Selected {
        Selected(Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The selectors of functions that were selected at a time.
#[derive(Debug)]
pub(super) struct Selected(Arc<HashMap<Selector, u32>>);

impl Selected {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a function with this selector was selected.
    pub(super) fn contains(&self, selector: Selector) -> bool {
        self.0.contains_key(&selector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_stays_until_the_last_of_its_functions_is_gone() {
        let selection = Selection::default();
        let (one, other, third) = (Mark::default(), Mark::default(), Mark::default());
        let selectors = [None, Some([1; 4])];
        let are_in =
            |selection: &Selection| selectors.map(|selector| selection.get().contains(selector));
        selection.set(selectors[0], &one, false);
        assert!(selection.get().is_empty());
        for mark in [&one, &one, &other] {
            selection.set(selectors[1], mark, true);
        }
        selection.set(selectors[0], &third, true);
        let before = selection.get();
        selection.set(selectors[1], &one, false);
        selection.set(selectors[1], &one, false);
        assert_eq!(are_in(&selection), [true, true]);
        selection.set(selectors[1], &other, false);
        assert_eq!(are_in(&selection), [true, false]);
        selection.set(selectors[0], &third, false);
        assert!(selection.get().is_empty());
        // Who asked earlier keeps what there was.
        assert!(before.contains(selectors[0]) && before.contains(selectors[1]));
    }
}
