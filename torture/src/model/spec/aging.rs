//! What time, sweeps and restarts leave of sessions.

use super::{Id, ModelContainer, Policy, Row, Spec};

impl Spec {
    /// Somebody looks at these sessions as they are now.
    pub(in crate::model) fn look_over(&mut self, ids: &[Id]) {
        for id in ids {
            for container in ModelContainer::BOTH {
                if self.is_expired(*id, container) {
                    self.finds_expired(*id, container);
                }
            }
        }
    }

    pub(in crate::model) fn is_expired(&self, id: Id, container: ModelContainer) -> bool {
        let row = self.world.rows.get(&(container, id));
        row.is_some_and(|row| self.policy(container).expired(row, self.now))
    }

    pub(in crate::model) fn sweep(&mut self, container: ModelContainer) -> u64 {
        let (policy, now) = (self.policy(container), self.now);
        let before = self.world.rows.len();
        self.world
            .rows
            .retain(|(here, _), row| *here != container || !policy.expired(row, now));
        // It takes along what has had its time.
        self.world.refused.retain(|_, until| *until > now);
        (before - self.world.rows.len()) as u64
    }

    /// Other settings of a container.
    pub(in crate::model) fn configure(&mut self, container: ModelContainer, policy: Policy) {
        self.policies[container as usize] = policy;
    }

    /// All that is recorded is on the disk.
    pub(in crate::model) fn flushed(&mut self) {
        for row in self.world.rows.values_mut() {
            row.kept = row.accessed;
        }
    }

    /// An access time as a crash left it: that of the last flush, or a later one.
    pub(in crate::model) fn recovered(&mut self, id: Id, container: ModelContainer, accessed: u64) {
        let row = self.world.rows.get_mut(&(container, id)).unwrap();
        let (kept, latest) = (row.kept, row.accessed);
        assert!(
            kept <= accessed && accessed <= latest,
            "accessed at {accessed}, which is not between {kept} and {latest}"
        );
        row.accessed = accessed;
        row.kept = accessed;
    }

    /// Whether a crash may have ended a session: without the accesses that are not certainly on the disk
    /// it is over.
    pub(in crate::model) fn may_be_over(&self, id: Id, container: ModelContainer) -> bool {
        self.world.rows.get(&(container, id)).is_some_and(|row| {
            let accessed = row.kept;
            let row = Row {
                accessed,
                ..row.clone()
            };
            self.policy(container).expired(&row, self.now)
        })
    }

    /// A session is over.
    pub(in crate::model) fn is_over(&mut self, id: Id, container: ModelContainer) {
        self.world.rows.remove(&(container, id));
    }

    /// All transactions end.
    pub(in crate::model) fn abort_all(&mut self) {
        self.open.clear();
    }

    /// What a restart loses: containers in memory, and the freshness of ids.
    pub(in crate::model) fn restart(&mut self, ram: bool) {
        self.fresh.clear();
        if ram {
            self.world
                .rows
                .retain(|(container, _), _| *container != ModelContainer::Second);
            self.world
                .refused
                .retain(|(container, _), _| *container != ModelContainer::Second);
        }
    }
}
