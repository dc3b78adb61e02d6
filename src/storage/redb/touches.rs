//! Access times that wait to be written (C3.4): bounded, merged by maximum, and visible to loads,
//! commits and sweeps from the moment they are recorded.

use crate::client_id::ClientKey;
use crate::storage::{ContainerId, Touch, TouchAt};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

pub(super) type Pending = Touch;

/// Beyond this many the writer is woken at once.
pub(super) const MANY: usize = 8192;

#[derive(Default)]
pub(super) struct Touches {
    waiting: Mutex<HashMap<(ContainerId, ClientKey), (u64, TouchAt)>>,
    /// How many wait, so that the common case - none - takes no lock.
    count: AtomicUsize,
}

impl Touches {
    /// Records a touch; returns how many wait now.
    pub(super) fn add(&self, touch: Touch) -> usize {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = waiting
            .entry((touch.container, touch.client))
            .or_insert((touch.generation, touch.at));
        if entry.0 == touch.generation {
            entry.1.time = touch.at.merged_with(entry.1.time);
            entry.1.instead_of = entry.1.instead_of.or(touch.at.instead_of);
        } else if entry.0 < touch.generation {
            // The earlier session is over.
            *entry = (touch.generation, touch.at);
        }
        self.count.store(waiting.len(), Ordering::Release);
        waiting.len()
    }

    pub(super) fn get(
        &self,
        container: ContainerId,
        client: ClientKey,
        generation: u64,
    ) -> Option<TouchAt> {
        if self.len() == 0 {
            return None;
        }
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting
            .get(&(container, client))
            .filter(|(waiting, _)| *waiting == generation)
            .map(|(_, at)| *at)
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Those that wait, in the order of their rows; they stay until they are settled.
    pub(super) fn list(&self) -> Vec<Pending> {
        if self.len() == 0 {
            return Vec::new();
        }
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<_> = waiting
            .iter()
            .map(|(&(container, client), &(generation, at))| Touch {
                container,
                client,
                generation,
                at,
            })
            .collect();
        drop(waiting);
        list.sort_unstable_by_key(|touch| (touch.container, touch.client));
        list
    }

    /// Forgets touches that are in the rows now, unless another one came in between.
    pub(super) fn settle(&self, written: &[Pending]) {
        if written.is_empty() {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for touch in written {
            let key = (touch.container, touch.client);
            if waiting.get(&key) == Some(&(touch.generation, touch.at)) {
                waiting.remove(&key);
            }
        }
        self.count.store(waiting.len(), Ordering::Release);
    }
}
