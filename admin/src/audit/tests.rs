use super::*;

fn action(subject: &str) -> Action {
    Action {
        who: "ann".to_owned(),
        action: "end session",
        subject: subject.to_owned(),
    }
}

#[test]
fn a_file_keeps_what_was_done_over_a_restart_and_a_line_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::in_file(&path).unwrap();
    assert_eq!(
        log.record(action("a"), Ok("ended 1".to_owned())).unwrap(),
        1
    );
    assert_eq!(
        log.record(action("b\n<"), Err("disk full".to_owned()))
            .unwrap(),
        2
    );
    drop(log);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(br#"{"number": 3, "at": "#);
    std::fs::write(&path, bytes).unwrap();

    let log = AuditLog::in_file(&path).unwrap();
    assert_eq!(log.record(action("c"), Ok(String::new())).unwrap(), 3);
    let log = AuditLog::in_file(&path).unwrap();
    let entries = log.entries();
    let subjects: Vec<_> = entries.iter().map(|it| &*it.subject).collect();
    assert_eq!(subjects, ["c", "b\n<", "a"]);
    let failed: Vec<_> = entries.iter().map(|it| it.failed).collect();
    assert_eq!(failed, [false, true, false]);
}

// C9.3
#[test]
fn a_file_keeps_that_an_action_began_and_then_its_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::in_file(&path).unwrap();
    let states = |log: &AuditLog| {
        let entries = log.entries().into_iter();
        let states = entries.map(|it| (it.number, it.subject, it.outcome, it.ended));
        states.collect::<Vec<_>>()
    };
    let state = |number, subject: &str, outcome: &str, ended| {
        (number, subject.to_owned(), outcome.to_owned(), ended)
    };
    let (a, b) = (
        log.begin(action("a")).unwrap(),
        log.begin(action("b")).unwrap(),
    );
    let reopened = AuditLog::in_file(&path).unwrap();
    let begun = [state(2, "b", BEGUN, false), state(1, "a", BEGUN, false)];
    assert_eq!(states(&log), begun);
    assert_eq!(states(&reopened), begun);

    log.end(b, Ok("ended 1".to_owned())).unwrap();
    assert_eq!(log.record(action("c"), Ok("done".to_owned())).unwrap(), 3);
    assert_eq!(log.end(a, Err("full".to_owned())).unwrap(), 1);
    let ended = [
        state(3, "c", "done", true),
        state(2, "b", "ended 1", true),
        state(1, "a", "full", true),
    ];
    assert_eq!(states(&log), ended);
    assert_eq!(states(&AuditLog::in_file(&path).unwrap()), ended);
    // Another program that counts alike hides nothing.
    log.inner.entries.lock().unwrap().last = 0;
    let other = log.begin(action("d")).unwrap();
    drop(other);
    assert_eq!(AuditLog::in_file(&path).unwrap().entries().len(), 4);
}

#[test]
fn memory_keeps_the_last_thousand() {
    let log = AuditLog::in_memory();
    for _ in 0..KEPT + 5 {
        log.record(action("a"), Ok(String::new())).unwrap();
    }
    let entries = log.entries();
    assert_eq!((entries.len(), entries[0].number), (KEPT, KEPT as u64 + 5));
    let (mut before, mut numbers) = (u64::MAX, Vec::new());
    loop {
        let (page, next) = log.page(before, 300);
        assert!(page.len() <= 300);
        numbers.extend(page.iter().map(|it| it.number));
        match next {
            Some(next) => before = next,
            None => break,
        }
    }
    let all: Vec<_> = entries.iter().map(|it| it.number).collect();
    assert_eq!(numbers, all);
    assert_eq!(log.entry(6).unwrap().number, 6);
    assert_eq!(log.entry(5), None);
}

#[test]
fn a_file_that_cannot_be_written_is_told_and_the_next_line_is_whole() {
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
        eprintln!("not tested: there is no /dev/full");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::in_file(&path).unwrap();
    log.record(action("a"), Ok(String::new())).unwrap();
    let file = {
        let mut file = log.inner.file.lock().unwrap();
        std::mem::replace(&mut file.as_mut().unwrap().target, Target::File(full))
    };
    log.record(action("b"), Ok(String::new())).unwrap_err();
    assert!(log.is_failing());
    log.inner.file.lock().unwrap().as_mut().unwrap().target = file;
    log.record(action("c"), Ok("茶".repeat(33_334))).unwrap();
    assert!(!log.is_failing());
    let entries = AuditLog::in_file(&path).unwrap().entries();
    let numbers: Vec<_> = entries.iter().map(|it| it.number).collect();
    assert_eq!(numbers, [3, 1]);
    assert!(entries[0].outcome.ends_with("… (100002 bytes in all)"));
}
