//! A list whose items are found by container and package. A short list is searched item by item, a long one by an
//! index. Knows nothing about the items.

use crate::transaction::registry::ContainerIndex;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::{Deref, DerefMut};

/// A list up to this length is searched item by item.
const FEW: usize = 8;

/// Common allocators cache blocks up to this size. Larger blocks take several times as long to allocate and to free.
const SMALL_BLOCK: usize = 1024;

/// The key of an item.
pub(crate) trait IndexedItem {
    fn container(&self) -> ContainerIndex;
    /// Empty for items of which each container has one.
    fn package(&self) -> &str;
}

/// See the module. The items are in the order in which they were added.
pub(crate) struct IndexedList<T> {
    items: Vec<T>,
    index: Option<Box<Index>>,
}

/// The positions of the items, by a hash that visitors cannot predict.
#[derive(Default)]
struct Index {
    state: RandomState,
    places: HashMap<u64, usize>,
}

impl Index {
    fn hash(&self, container: ContainerIndex, package: &str) -> u64 {
        self.state.hash_one((container, package))
    }
}

impl<T> Default for IndexedList<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            index: None,
        }
    }
}

impl<T: IndexedItem> IndexedList<T> {
    /// The position of the item of this container and package.
    pub(crate) fn position(&self, container: ContainerIndex, package: &str) -> Option<usize> {
        let is_it = |item: &T| {
            crate::steps::count(1);
            item.container() == container && item.package() == package
        };
        let Some(index) = &self.index else {
            return self.items.iter().position(is_it);
        };
        let at = *index.places.get(&index.hash(container, package))?;
        match self.items.get(at) {
            Some(item) if is_it(item) => Some(at),
            // Several items may have the same hash. The index has the first of them.
            _ => self.items.iter().position(is_it),
        }
    }

    pub(crate) fn find(&self, container: ContainerIndex, package: &str) -> Option<&T> {
        self.items.get(self.position(container, package)?)
    }

    pub(crate) fn find_mut(&mut self, container: ContainerIndex, package: &str) -> Option<&mut T> {
        let at = self.position(container, package)?;
        self.items.get_mut(at)
    }

    /// Adds an item that is not in the list yet, and returns its position.
    pub(crate) fn push(&mut self, item: T) -> usize {
        let at = self.items.len();
        // A new vector would allocate space for four.
        if at == 0 && 4 * size_of::<T>() > SMALL_BLOCK {
            self.items.reserve_exact(1);
        }
        self.items.push(item);
        match &mut self.index {
            Some(index) => {
                if let Some(item) = self.items.last() {
                    let hash = index.hash(item.container(), item.package());
                    index.places.entry(hash).or_insert(at);
                }
            }
            None if self.items.len() > FEW => {
                let mut index = Box::<Index>::default();
                for (at, item) in self.items.iter().enumerate() {
                    let hash = index.hash(item.container(), item.package());
                    index.places.entry(hash).or_insert(at);
                }
                self.index = Some(index);
            }
            None => {}
        }
        at
    }

    /// Removes the newest item.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let item = self.items.pop()?;
        if let Some(index) = &mut self.index {
            let hash = index.hash(item.container(), item.package());
            if index.places.get(&hash) == Some(&self.items.len()) {
                index.places.remove(&hash);
            }
        }
        Some(item)
    }
}

impl<T> Deref for IndexedList<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T> DerefMut for IndexedList<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items
    }
}

impl<T> IntoIterator for IndexedList<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Item(ContainerIndex, String);

    impl IndexedItem for Item {
        fn container(&self) -> ContainerIndex {
            self.0
        }

        fn package(&self) -> &str {
            &self.1
        }
    }

    fn item(n: usize) -> Item {
        Item(ContainerIndex::nth(n % 3), (n / 3).to_string())
    }

    fn position(list: &IndexedList<Item>, n: usize) -> Option<usize> {
        let item = item(n);
        list.position(item.0, &item.1)
    }

    #[test]
    fn each_item_is_found_where_it_is_and_none_that_is_not_there() {
        let mut list = IndexedList::default();
        for n in 0..100 {
            assert_eq!(position(&list, n), None);
            assert_eq!(list.push(item(n)), n);
            for known in 0..=n {
                assert_eq!(position(&list, known), Some(known));
            }
        }
        for n in (0..100).rev() {
            let popped = list.pop().unwrap();
            assert_eq!((popped.0, popped.1), (item(n).0, item(n).1));
            assert_eq!(position(&list, n), None);
            assert_eq!(position(&list, n / 2), Some(n / 2).filter(|at| *at < n));
        }
    }

    // C5.5
    #[test]
    fn finding_an_item_takes_as_many_steps_however_many_there_are() {
        let steps = |items: usize| {
            let mut list = IndexedList::default();
            for n in 0..items {
                list.push(item(n));
            }
            crate::steps::of(|| {
                for n in 0..items {
                    position(&list, n).unwrap();
                }
            })
        };
        assert!(steps(2000) <= 2 * steps(1000), "{} steps", steps(2000));
    }
}
