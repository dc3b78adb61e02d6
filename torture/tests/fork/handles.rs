//! What the handles of a store give in a child.

use super::{PATIENCE, beside_others, builder, end_at_once, in_a_child, kind, others, writing};
use crate::support::files::image;
use crate::support::visitors::{get, put};
use crate::support::wait::SetOnDrop;
use cloakroom::{ContainerSettings, Error, ErrorKind};
use fork::Fork;
use rustix::process::{Pid, WaitOptions, waitpid};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

// C7.5
#[test]
fn in_a_child_begin_commit_and_close_give_an_error_and_dropping_does_nothing() {
    let _beside = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = builder().open(&path).unwrap();
    let container = store.container("").unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    let before = image(folder.path());
    let [sync, later, dropped] = [(); 3].map(|()| writing(&store, &id));
    let read = store.begin().unwrap();
    read.session(&id).unwrap().exists().unwrap();
    let hooked = writing(&store, &id);
    hooked.after_abort(|| ());
    let committing = writing(&store, &id).commit_async();
    let mut kept = Some((
        store, container, sync, later, dropped, read, hooked, committing,
    ));

    let said = in_a_child(|| {
        let (store, container, sync, later, dropped, read, hooked, committing) =
            kept.take().unwrap();
        let results = [
            ("begin", kind(store.begin())),
            ("begin_async", kind(pollster::block_on(store.begin_async()))),
            ("commit", kind(sync.commit())),
            (
                "commit_async",
                kind(pollster::block_on(later.commit_async())),
            ),
            ("begun before", kind(pollster::block_on(committing))),
            ("commit of nothing", kind(read.commit())),
            ("transact", kind(store.transact(|_| Ok::<_, Error>(())))),
            ("checkpoint", kind(store.checkpoint())),
            ("check", kind(store.check())),
            ("sessions_of", kind(store.sessions_of("ann"))),
            ("statistics", kind(store.statistics())),
            ("sweep", kind(container.sweep())),
            (
                "register",
                kind(store.register("other", ContainerSettings::new())),
            ),
            ("close", kind(store.clone().close())),
        ];
        let locked = kind(builder().open(&path));
        let text = store.begin().map(drop).unwrap_err().to_string();
        drop((dropped, hooked));
        drop((store, container));
        format!("{}, {locked:?}, {text}", others(&results))
    });
    let (results, text) = said.split_once(", Some(Locked), ").unwrap();
    assert_eq!(results, "[]");
    assert!(text.contains("daemonize before opening"), "{said}");

    // All is as it was, and goes on.
    let (store, container, sync, later, ..) = kept.unwrap();
    assert!(image(folder.path()) == before, "a file was changed");
    assert_eq!(kind(builder().open(&path)), Some(ErrorKind::Locked));
    assert_eq!(get(&store, &id), Some(1));
    sync.commit().unwrap();
    pollster::block_on(later.commit_async()).unwrap();
    put(&store, &id, 2);
    container.sweep().unwrap();
    store.close().unwrap();
    assert_eq!(image(folder.path()).len(), 1);
    let store = builder().open(&path).unwrap();
    assert_eq!(get(&store, &id), Some(2));
    assert!(store.check().unwrap().is_clean());
}

// C7.5: what other threads held at the moment of the fork stays locked in the child.
#[test]
fn a_child_of_a_busy_process_answers_at_once_and_changes_nothing() {
    let _beside = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = builder().open(&path).unwrap();
    let is_over = AtomicBool::new(false);
    let committed = std::thread::scope(|scope| {
        let busy: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let id = store.client_ids().issue();
                    let mut n = 0;
                    while n == 0 || !is_over.load(Ordering::Relaxed) {
                        n += 1;
                        put(&store, &id, n);
                    }
                    (id, n)
                })
            })
            .collect();
        let over = SetOnDrop(&is_over);
        for _ in 0..25 {
            let id = store.client_ids().issue();
            let mut txn = Some(writing(&store, &id));
            let mut clone = Some(store.clone());
            let said = in_a_child(|| {
                let clone = clone.take().unwrap();
                let results = [
                    ("begin", kind(clone.begin())),
                    ("commit", kind(txn.take().unwrap().commit())),
                    ("close", kind(clone.close())),
                ];
                others(&results)
            });
            assert_eq!(said, "[]");
        }
        drop(over);
        let busy = busy.into_iter().map(|thread| thread.join().unwrap());
        busy.collect::<Vec<_>>()
    });
    let reopened = store.statistics().unwrap().reopened();
    assert_eq!(reopened, 0);
    store.close().unwrap();
    let store = builder().open(&path).unwrap();
    for (id, n) in committed {
        assert_eq!(get(&store, &id), Some(n));
    }
    assert!(store.check().unwrap().is_clean());
}

// C7.1, C7.5: opened before daemonizing, and not closed by the process that opened it.
#[cfg(target_os = "linux")]
#[test]
fn who_inherited_a_lock_is_named() {
    let _beside = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    let (mut end, mut ended) = std::io::pipe().map(|(r, w)| (r, Some(w))).unwrap();
    let first = match fork::fork().unwrap() {
        Fork::Child => {
            drop(ended);
            let store = builder().open(&path).unwrap();
            if let Fork::Parent(_) = fork::fork().unwrap() {
                // As one that daemonizes: nothing is dropped.
                end_at_once();
            }
            // Until that one is gone.
            end.read_exact(&mut [0]).unwrap();
            let said = kind(store.begin());
            drop(store);
            let again = builder().open(&path).unwrap_err();
            let said = format!("{}\n{said:?}\n{again}", std::process::id());
            writer.write_all(said.as_bytes()).unwrap();
            drop(writer);
            // Until the test is done.
            let _ = end.read(&mut [0]);
            end_at_once();
        }
        Fork::Parent(child) => Pid::from_raw(child).unwrap(),
    };
    drop((writer, end));
    waitpid(Some(first), WaitOptions::empty()).unwrap();
    ended.as_mut().unwrap().write_all(&[0]).unwrap();
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    let outside = builder().open(&path).unwrap_err();
    drop(ended.take());

    let lines: Vec<_> = said.lines().collect();
    let [second, begin, again] = lines[..] else {
        panic!("{said}");
    };
    assert_eq!(begin, "Some(OtherProcess)");
    let first = first.as_raw_nonzero();
    assert!(again.contains("by this process itself"), "{again}");
    assert_eq!(outside.kind(), ErrorKind::Locked);
    let outside = outside.to_string();
    assert!(
        outside.contains(&format!("by process {second} (")),
        "{outside}"
    );
    // Where the system shows processes that have ended.
    let origin = format!("forked from process {first}, which took the lock");
    let is_shown = outside.contains("forked");
    assert!(!is_shown || outside.contains(&origin), "{outside}");
    // Once nobody has it, it opens.
    let waiting = builder().wait_for_lock(PATIENCE);
    waiting.open(&path).unwrap().close().unwrap();
}

// C7.5: a store that is opened after the fork works.
#[test]
fn a_child_may_open_a_store_of_its_own() {
    let _beside = beside_others();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = builder().open(&path).unwrap();
    let id = store.client_ids().issue();
    put(&store, &id, 1);
    store.close().unwrap();
    let said = in_a_child(|| {
        let store = builder().open(&path).unwrap();
        put(&store, &id, 2);
        store.close().unwrap();
        "done".to_owned()
    });
    assert_eq!(said, "done");
    assert_eq!(get(&builder().open(&path).unwrap(), &id), Some(2));
}
