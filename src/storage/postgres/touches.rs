//! Access times on their way to the server. They are written in batches, and merged with the recorded ones by maximum.

use super::client_rows::StoredClient;
use super::connection::{Connection, Param, SqlKey};
use super::failure::Failure;
use super::load::column;
use super::pipeline::{Request, all};
use super::reading::read_until;
use super::seen::encode_seen;
use super::shared::{Shared, lock};
use super::statements::Statement;
use crate::client_id::ClientKey;
use crate::clock::Timestamp;
use crate::contain::contain_future;
use crate::error::Result;
use crate::storage::{Touch, TouchAt, TouchOutcome};
use futures_channel::oneshot;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// How many accesses may wait. More are lost: sessions may end earlier, and nothing worse.
const WAITING: usize = 65_536;
/// How many clients one statement concerns at most.
const BATCH: usize = 256;
/// How often a batch is tried again at most with newer rows, until others come in between.
const ROUNDS: u32 = 8;
/// The pause before the third round. Those before later ones are longer.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(10);
/// How long a batch waits after the server could not be reached.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(super) struct PendingTouches {
    waiting: Mutex<TouchQueue>,
    arrived: Notify,
    written: Notify,
}

#[derive(Default)]
struct TouchQueue {
    next: HashMap<ClientKey, Vec<WaitingTouch>>,
    /// The clients of these, in the order in which they came.
    order: VecDeque<ClientKey>,
    /// How many accesses there are in `next`.
    count: usize,
    /// Those of the batch that is being written.
    claimed: BTreeMap<ClientKey, Vec<WaitingTouch>>,
    is_closed: bool,
}

struct WaitingTouch {
    touch: Touch,
    reply: Option<oneshot::Sender<TouchOutcome>>,
}

/// The clients of a batch, and their known rows, which may be old.
type TouchedClients = BTreeMap<ClientKey, Option<Arc<StoredClient>>>;

impl WaitingTouch {
    /// The access. A time that lies too far ahead by the clock as it is counts as now from here on, so that it does not come
    /// back once somebody has met it (C3.5).
    fn met(&mut self, now: Timestamp) -> Touch {
        self.touch.at = self.touch.at.by(now);
        self.touch
    }

    /// Answers whoever waits that nothing is known yet.
    fn leave(&mut self) {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(TouchOutcome::Unknown);
        }
    }

    fn reply(self, outcome: TouchOutcome) {
        if let Some(reply) = self.reply {
            let _ = reply.send(outcome);
        }
    }
}

impl TouchQueue {
    fn add(&mut self, waiting: WaitingTouch) {
        let client = waiting.touch.session.client;
        self.count += 1;
        let touches = self.next.entry(client).or_insert_with(|| {
            self.order.push_back(client);
            Vec::new()
        });
        touches.push(waiting);
    }

    /// The accesses of a client, the earlier ones first.
    fn of(&mut self, client: ClientKey, now: Timestamp) -> impl Iterator<Item = Touch> {
        let claimed = self.claimed.get_mut(&client).into_iter().flatten();
        let next = self.next.get_mut(&client).into_iter().flatten();
        claimed.chain(next).map(move |it| it.met(now))
    }
}

impl PendingTouches {
    /// Sends an access.
    pub(super) fn add(&self, touch: Touch, reply: Option<oneshot::Sender<TouchOutcome>>) -> bool {
        let mut waiting = lock(&self.waiting);
        let fits = waiting.count < WAITING && !waiting.is_closed;
        if fits {
            waiting.add(WaitingTouch { touch, reply });
            drop(waiting);
            self.arrived.notify_one();
        }
        fits
    }

    /// The accesses of these clients that the server may not have yet.
    pub(super) fn under_way(
        &self,
        clients: impl IntoIterator<Item = ClientKey>,
        now: Timestamp,
    ) -> Vec<Touch> {
        let mut waiting = lock(&self.waiting);
        let mut found = Vec::new();
        for client in clients {
            found.extend(waiting.of(client, now));
        }
        crate::steps::count(found.len());
        found
    }

    fn claim(&self) -> Vec<ClientKey> {
        let mut waiting = lock(&self.waiting);
        while waiting.claimed.len() < BATCH {
            let Some(client) = waiting.order.pop_front() else {
                break;
            };
            let touches = waiting.next.remove(&client).unwrap_or_default();
            waiting.count -= touches.len();
            waiting.claimed.insert(client, touches);
        }
        waiting.claimed.keys().copied().collect()
    }

    /// The accesses of a client of the batch.
    fn claimed(&self, client: ClientKey, now: Timestamp) -> Vec<Touch> {
        let mut waiting = lock(&self.waiting);
        let touches = waiting.claimed.get_mut(&client).into_iter().flatten();
        touches.map(|it| it.met(now)).collect()
    }

    /// Puts accesses back that are not written yet. Nobody waits for them any longer: a request must not wait for as long as
    /// the server is away, or as another transaction locks the row.
    fn put_back(&self) {
        let mut waiting = lock(&self.waiting);
        for (client, mut touches) in std::mem::take(&mut waiting.claimed).into_iter().rev() {
            touches.iter_mut().for_each(WaitingTouch::leave);
            waiting.count += touches.len();
            match waiting.next.get_mut(&client) {
                Some(later) => {
                    touches.append(later);
                    *later = touches;
                }
                None => {
                    waiting.next.insert(client, touches);
                    waiting.order.push_front(client);
                }
            }
        }
    }

    /// Answers those who wait. Their accesses are written as soon as that is possible.
    fn leave_all(&self) {
        let mut waiting = lock(&self.waiting);
        let all = waiting.next.values_mut().flatten();
        all.for_each(WaitingTouch::leave);
    }

    /// Takes no more accesses, and answers those who wait. Nothing is written afterwards.
    pub(super) fn close(&self) {
        lock(&self.waiting).is_closed = true;
        self.leave_all();
    }

    fn is_empty(&self) -> bool {
        let waiting = lock(&self.waiting);
        waiting.next.is_empty() && waiting.claimed.is_empty()
    }

    /// Waits until no access is on its way, or the server cannot be reached.
    pub(super) async fn settle(&self, shared: &Shared) {
        loop {
            let written = self.written.notified();
            if self.is_empty() || shared.pool.is_down_for(Duration::ZERO) {
                return;
            }
            let _ = tokio::time::timeout(PAUSE, written).await;
        }
    }

    /// Writes accesses as they arrive, until the engine is closed.
    pub(super) async fn run(self: Arc<Self>, shared: Arc<Shared>) {
        loop {
            if lock(&self.waiting).next.is_empty() {
                self.arrived.notified().await;
            }
            let known = |client| (client, lock(&shared.cache).get(client));
            let batch = self.claim().into_iter().map(known).collect();
            match contain_future(self.write(&shared, batch)).await {
                Some(Ok(true)) => {}
                // A panic: to try again would lead to the next one.
                None => {
                    let lost = std::mem::take(&mut lock(&self.waiting).claimed);
                    let lost = lost.values().map(|it| it.len() as u64).sum();
                    let counter = &shared.counters.lost_touches;
                    counter.fetch_add(lost, Ordering::Relaxed);
                }
                // Others lock their rows.
                Some(Ok(false)) => {
                    self.put_back();
                    tokio::time::sleep(PAUSE).await;
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "accesses are not recorded yet");
                    self.put_back();
                    self.leave_all();
                    tokio::time::sleep(PAUSE).await;
                }
            }
            self.written.notify_waiters();
        }
    }

    /// Writes the accesses of clients, and answers those who wait for them. Returns whether all are written: the other rows
    /// have changed all the time, or are locked.
    async fn write(&self, shared: &Shared, mut batch: TouchedClients) -> Result<bool> {
        for round in 0..ROUNDS {
            // The first round starts from known rows, the second from the newest ones.
            tokio::time::sleep(BETWEEN_ROUNDS * round.saturating_sub(1)).await;
            let unknown = batch.iter().filter(|(_, known)| known.is_none());
            let unknown: Vec<_> = unknown.map(|(client, _)| *client).collect();
            let newest = self.load(shared, &mut batch, &unknown).await?;
            let changes = self.changes(shared, &mut batch, &newest);
            if !changes.is_empty() {
                let written = send(shared, &changes).await?;
                for (client, change) in changes {
                    let is_written = written.contains(&client);
                    if is_written {
                        lock(&shared.cache).put(client, change.after.clone());
                    }
                    match is_written && self.is_answered(shared, client, &change) {
                        true => drop(batch.remove(&client)),
                        false => drop(batch.insert(client, None)),
                    }
                }
            }
            if batch.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Loads the newest rows of clients of a batch. Returns whose it has loaded.
    async fn load(
        &self,
        shared: &Shared,
        batch: &mut TouchedClients,
        unknown: &[ClientKey],
    ) -> Result<BTreeSet<ClientKey>> {
        let mut newest = BTreeSet::new();
        if unknown.is_empty() {
            return Ok(newest);
        }
        for (client, rows) in shared.load(unknown).await? {
            newest.insert(client);
            match rows {
                Ok(rows) => drop(batch.insert(client, Some(rows))),
                // What is damaged records nothing.
                Err(_) => {
                    batch.remove(&client);
                    self.answer(shared, client, None);
                }
            }
        }
        Ok(newest)
    }

    /// What the accesses change, where the known rows show it. Answers those that change nothing, if the rows are the newest.
    fn changes(
        &self,
        shared: &Shared,
        batch: &mut TouchedClients,
        newest: &BTreeSet<ClientKey>,
    ) -> BTreeMap<ClientKey, SeenChange> {
        let mut found = BTreeMap::new();
        batch.retain(|&client, known| {
            let Some(rows) = known else { return true };
            let touches = self.claimed(client, shared.now());
            let change = change(shared, client, rows, &touches);
            let all_alive = change.as_ref().is_some_and(|change| {
                change.recorded > 0 && change.outcomes.iter().all(|it| *it == TouchOutcome::Alive)
            });
            match change {
                Some(change) if all_alive || (change.recorded > 0 && newest.contains(&client)) => {
                    found.insert(client, change);
                }
                Some(change) if newest.contains(&client) => {
                    let is_answered = self.is_answered(shared, client, &change);
                    *known = None;
                    return !is_answered;
                }
                None if newest.contains(&client) => {
                    self.answer(shared, client, None);
                    return false;
                }
                // The known rows may be old.
                _ => *known = None,
            }
            true
        });
        found
    }

    /// Answers those who wait for the accesses of a client that are written, unless one of them was lowered after it was sent:
    /// who has met it relies on that.
    fn is_answered(&self, shared: &Shared, client: ClientKey, change: &SeenChange) -> bool {
        let mut waiting = lock(&self.waiting);
        let touches = waiting.claimed.get(&client).into_iter().flatten();
        let is_as_sent = touches
            .map(|it| it.touch.at)
            .eq(change.sent.iter().copied());
        if is_as_sent {
            let touches = waiting.claimed.remove(&client);
            drop(waiting);
            answer(shared, touches, Some(change));
        }
        is_as_sent
    }

    /// Answers those who wait for the accesses of a client. These are no longer under way.
    fn answer(&self, shared: &Shared, client: ClientKey, change: Option<&SeenChange>) {
        let touches = lock(&self.waiting).claimed.remove(&client);
        answer(shared, touches, change);
    }
}

fn answer(shared: &Shared, touches: Option<Vec<WaitingTouch>>, change: Option<&SeenChange>) {
    let outcomes = change.map(|change| change.outcomes.as_slice());
    let mut outcomes = outcomes.unwrap_or_default().iter();
    for touch in touches.into_iter().flatten() {
        touch.reply(*outcomes.next().unwrap_or(&TouchOutcome::Ended));
    }
    let recorded = change.map_or(0, |change| change.recorded);
    shared
        .counters
        .touches
        .fetch_add(recorded, Ordering::Relaxed);
}

/// The new access times of a client.
struct SeenChange {
    sent: Vec<TouchAt>,
    before: Vec<u8>,
    after: Arc<StoredClient>,
    outcomes: Vec<TouchOutcome>,
    recorded: u64,
}

/// What accesses change in the rows of their client. `None`: there is no row.
fn change(
    shared: &Shared,
    client: ClientKey,
    rows: &StoredClient,
    touches: &[Touch],
) -> Option<SeenChange> {
    let stored = rows.stored.as_ref()?;
    let mut after = rows.clone();
    let (mut outcomes, mut recorded) = (Vec::with_capacity(touches.len()), 0);
    let events = lock(&shared.events);
    let now = shared.now();
    for touch in touches {
        let of = touch.session;
        let mut seen = after.seen.iter_mut();
        let seen = seen.find(|it| (it.container, it.incarnation) == (of.container, of.incarnation));
        let Some(seen) = seen else {
            outcomes.push(TouchOutcome::Ended);
            continue;
        };
        let mut part = seen.access;
        touch.at.put_on(&mut part, now);
        let is_over = seen
            .found_expired
            .is_some_and(|event| events.is_after(client, event, touch.since, shared.margin()));
        if part != seen.access {
            if is_over {
                outcomes.push(TouchOutcome::Ended);
                continue;
            }
            seen.access = part;
            recorded += 1;
        }
        outcomes.push(TouchOutcome::Alive);
    }
    drop(events);
    let seen = encode_seen(client, &after.seen).ok()?;
    after.show_times();
    if let Some(row) = &mut after.stored {
        row.seen = seen;
    }
    Some(SeenChange {
        sent: touches.iter().map(|touch| touch.at).collect(),
        before: stored.seen.clone(),
        after: Arc::new(after),
        outcomes,
        recorded,
    })
}

/// Writes the new times. Returns the clients whose times were those that were known.
async fn send(
    shared: &Shared,
    changes: &BTreeMap<ClientKey, SeenChange>,
) -> Result<BTreeSet<ClientKey>> {
    let clients: Vec<_> = changes.keys().copied().map(SqlKey).collect();
    let before: Vec<&[u8]> = changes.values().map(|it| &*it.before).collect();
    let after = changes.values().map(|it| {
        let row = it.after.stored.as_ref();
        row.map_or(&[][..], |row| &row.seen)
    });
    let after: Vec<&[u8]> = after.collect();
    let params: [Param<'_>; 3] = [&clients, &before, &after];
    let until = shared.deadline();
    let begin = format!(
        "{}; SET LOCAL synchronous_commit = off",
        Shared::begin(until)
    );
    read_until!(shared, until, |connection| send_on(
        &connection,
        &begin,
        &params
    ))
}

/// Writing the same times twice changes nothing, so a lost answer is no loss: the times are merged again.
async fn send_on(
    connection: &Connection,
    begin: &str,
    params: &[Param<'_>],
) -> Result<BTreeSet<ClientKey>, Failure> {
    connection.prepare_all(&[Statement::Touch]).await?;
    let mut written = Vec::new();
    let flight: Vec<Request<'_>> = vec![
        Box::pin(connection.simple(begin)),
        Box::pin(async {
            written = connection.run(Statement::Touch, params).await?;
            Ok(())
        }),
        Box::pin(connection.simple("COMMIT")),
    ];
    all(flight).await?;
    let written = written.iter().map(|row| {
        let SqlKey(client) = column(row, 0)?;
        Ok(client)
    });
    Ok(written.collect::<Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on::block_on;
    use crate::storage::{ContainerId, SessionRef, TouchAt, Version};

    const NOW: Timestamp = Timestamp(100);

    fn client(n: u8) -> ClientKey {
        ClientKey::from_bytes([n; 16])
    }

    fn touch(client: ClientKey, time: i64) -> Touch {
        Touch {
            session: SessionRef {
                container: ContainerId::UNNAMED,
                client,
                incarnation: Version(1),
            },
            since: super::super::event::mark(0, 0),
            at: TouchAt {
                time: Timestamp(time),
                slack: Duration::ZERO,
                founded: None,
                lowered_from: None,
            },
        }
    }

    fn times(touches: &PendingTouches, clients: &[ClientKey]) -> Vec<i64> {
        let found = touches.under_way(clients.iter().copied(), NOW);
        found.iter().map(|it| it.at.time.0).collect()
    }

    // C3.4, C5.5
    #[test]
    fn a_client_has_its_own_accesses_in_their_order_until_they_are_written() {
        let touches = PendingTouches::default();
        let all = [(1, 10), (2, 20), (1, 11), (3, 30)];
        for (n, time) in all {
            assert!(touches.add(touch(client(n), time), None));
        }
        assert_eq!(times(&touches, &[client(1)]), [10, 11]);
        assert_eq!(touches.claim(), [1, 2, 3].map(client));
        touches.add(touch(client(1), 12), None);
        touches.add(touch(client(4), 40), None);
        assert_eq!(times(&touches, &[client(1), client(4)]), [10, 11, 12, 40]);
        // The second is written.
        lock(&touches.waiting).claimed.remove(&client(2));
        touches.put_back();
        assert_eq!(times(&touches, &[client(2)]), Vec::<i64>::new());
        assert_eq!(times(&touches, &[client(1)]), [10, 11, 12]);
        let order: Vec<_> = lock(&touches.waiting).order.iter().copied().collect();
        assert_eq!(
            order,
            [3, 1, 4].map(client),
            "what was put back comes first"
        );
    }

    // C3.5
    #[test]
    fn a_time_that_lies_ahead_when_it_is_met_counts_as_now_from_then_on() {
        let touches = PendingTouches::default();
        touches.add(touch(client(1), 200), None);
        touches.claim();
        touches.add(touch(client(1), 300), None);
        touches.add(touch(client(2), 300), None);
        assert_eq!(times(&touches, &[client(1)]), [100, 100]);
        let later = Timestamp(250);
        let found = |n| touches.under_way([client(n)], later);
        assert!(found(1).iter().all(|it| it.at.time == NOW));
        let claimed = touches.claimed(client(1), later);
        assert_eq!(claimed.len(), 1, "the other waits for the next batch");
        assert!(claimed.iter().all(|it| it.at.time == NOW));
        touches.put_back();
        assert_eq!(times(&touches, &[client(1)]), [100, 100]);
        assert!(
            found(2).iter().all(|it| it.at.time == later),
            "nobody had met it"
        );
    }

    // C10.2: nobody waits for as long as the server is away.
    #[test]
    fn accesses_that_are_put_back_keep_nobody_waiting() {
        let touches = PendingTouches::default();
        let (reply, answer) = oneshot::channel();
        assert!(touches.add(touch(client(1), 0), Some(reply)));
        touches.claim();
        touches.put_back();
        assert_eq!(block_on(answer), Ok(TouchOutcome::Unknown));
        assert_eq!(times(&touches, &[client(1)]).len(), 1, "it is not lost");
    }

    // C10.2
    #[test]
    fn accesses_of_a_closed_engine_keep_nobody_waiting() {
        let touches = PendingTouches::default();
        let (reply, answer) = oneshot::channel();
        assert!(touches.add(touch(client(1), 0), Some(reply)));
        touches.close();
        assert_eq!(block_on(answer), Ok(TouchOutcome::Unknown));
        assert!(!touches.add(touch(client(1), 0), None));
    }
}
