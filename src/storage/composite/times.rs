//! Asks each engine for the times of its sessions.

use crate::storage::{Answer, NewestTimes, SessionRef};

/// The answers of both engines about their sessions, in the order of `sessions`.
pub(super) fn ask_each<'a>(
    sessions: &[SessionRef],
    memory: impl FnOnce(&[SessionRef]) -> NewestTimes,
    durable: impl FnOnce(&[SessionRef]) -> Answer<'a, NewestTimes>,
) -> Answer<'a, NewestTimes> {
    let is_in_memory = |session: &SessionRef| session.container.is_in_memory();
    if !sessions.iter().any(is_in_memory) {
        return durable(sessions);
    }
    let (in_memory, others): (Vec<_>, Vec<_>) = sessions.iter().copied().partition(is_in_memory);
    let mut from_memory = memory(&in_memory).into_iter();
    if others.is_empty() {
        return Answer::now(from_memory.collect());
    }
    let order: Vec<_> = sessions.iter().map(is_in_memory).collect();
    durable(&others).map(move |from_durable| {
        let mut from_durable = from_durable.into_iter();
        let times = order
            .into_iter()
            .filter_map(|is_in_memory| match is_in_memory {
                true => from_memory.next(),
                false => from_durable.next(),
            });
        times.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_id::ClientKey;
    use crate::clock::Timestamp;
    use crate::storage::{ContainerHome, ContainerId, RecordedTimes, Version};
    use std::cell::Cell;

    fn session(number: u32, home: ContainerHome) -> SessionRef {
        SessionRef {
            container: ContainerId::new(number, home),
            client: ClientKey::from_bytes([7; 16]),
            incarnation: Version(1),
        }
    }

    /// Times that contain the number of the container.
    fn times(sessions: &[SessionRef]) -> NewestTimes {
        let times = sessions.iter().map(|session| {
            let at = Timestamp(i64::from(session.container.number()));
            Ok(Some(RecordedTimes {
                created: at,
                last_access: at,
                is_id_confirmed: true,
            }))
        });
        times.collect()
    }

    // C1.7
    #[test]
    fn each_engine_is_asked_once_and_the_answers_stand_in_the_order_of_the_sessions() {
        use ContainerHome::{Durable, Memory};
        let cases = [
            (vec![(1, Durable), (2, Durable)], [0, 1]),
            (vec![(1, Memory), (2, Memory)], [1, 0]),
            (
                vec![
                    (1, Memory),
                    (2, Durable),
                    (3, Durable),
                    (4, Memory),
                    (5, Durable),
                ],
                [1, 1],
            ),
        ];
        for (sessions, asked) in cases {
            let of = |(number, home): &(u32, _)| session(*number, *home);
            let all: Vec<_> = sessions.iter().map(of).collect();
            let calls = [Cell::new(0), Cell::new(0)];
            let memory = |sessions: &[SessionRef]| {
                calls[0].set(calls[0].get() + 1);
                assert!(sessions.iter().all(|it| it.container.is_in_memory()));
                times(sessions)
            };
            let durable = |sessions: &[SessionRef]| {
                calls[1].set(calls[1].get() + 1);
                assert!(!sessions.iter().any(|it| it.container.is_in_memory()));
                Answer::now(times(sessions))
            };
            let answers = ask_each(&all, memory, durable).wait();
            let created = |answer: &NewestTimes| -> Vec<_> {
                let times = answer.iter().map(|it| it.as_ref().unwrap().unwrap());
                times.map(|times| times.created).collect()
            };
            assert_eq!(created(&answers), created(&times(&all)));
            assert_eq!(calls.map(Cell::into_inner), asked);
        }
    }
}
