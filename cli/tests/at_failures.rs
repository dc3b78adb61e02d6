//! `--at`: what goes wrong, and how it is told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "support/application.rs"]
mod application;
mod support;

use application::{Application, TOKEN, at, filled, run, serve};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::{any, get};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use support::{Place, Run, session};

#[test]
fn no_access_and_no_administration_are_told_with_what_to_do() {
    let place = filled();
    let application = Application::with_all(&place);
    let address = &*application.address;
    let list = &["list"][..];
    for token in [None, Some("a wrong token of enough length")] {
        let run = run(at(&place, address, token, list));
        assert!(!run.err.contains("wrong token of"), "{run:?}");
        run.fails(3, "no administration at", "--token-file");
    }
    let root = address.trim_end_matches("/internal/sessions");
    run(at(&place, root, Some(TOKEN), list)).fails(3, "no administration at", "Check the address");
    run(at(&place, "http://127.0.0.1:9/x", Some(TOKEN), list)).fails(
        3,
        "cannot be reached",
        "Check the address",
    );
    run(at(&place, "ftp://x", Some(TOKEN), list)).fails(2, "no address", "https://");
    run(at(&place, "http://u:pw@h/", Some(TOKEN), list)).fails(2, "names a user", "--token-file");
    run(at(&place, address, Some(" "), list)).fails(2, "has no token", "TokenAccess");
    let mut both = at(&place, address, Some(TOKEN), list);
    both.arg("--store").arg(&place.path);
    run(both).fails(2, "name two stores", "one of them");
    // The path of the open store names the other way.
    place.run(list).fails(3, "sessions.redb", "--at URL");

    fs::write(place.file("token"), format!("{TOKEN}\n")).unwrap();
    let mut by_file = at(&place, address, Some("another"), list);
    by_file.args(["--token-file", "token"]);
    let told = run(by_file).exits(0);
    assert!(
        !cfg!(unix) || told.err.contains("chmod go= token"),
        "{told:?}"
    );

    for command in [
        &["salvage", "--to", "x"][..],
        &["compact"],
        &["migrate"],
        &["restore", "f", "--to", "x"],
        &["verify", "f"],
        &["bench"],
        &["admin"],
        &["completions", "bash"],
        &["man"],
    ] {
        let run = run(at(&place, address, Some(TOKEN), command));
        run.fails(2, "cannot be done through the administration", "");
    }
}

#[test]
fn answers_of_others_are_bounded_and_told_apart() {
    let json = |text: String| ([(header::CONTENT_TYPE, "application/json")], text).into_response();
    let app = Router::new()
        .route(
            "/html/status",
            get(|| async { axum::response::Html("<p>hello") }),
        )
        .route(
            "/rubbish/status",
            get(move || async move { json("{\"a\":[".to_owned()) }),
        )
        .route(
            "/later/status",
            get(move || async move {
                json(
                    "{\"program\":\"cloakroom-admin\",\"version\":\"9.1.0\",\"schema\":9}"
                        .to_owned(),
                )
            }),
        )
        .route(
            "/long/status",
            get(move || async move { json("[".repeat(80 << 20)) }),
        )
        .route(
            "/moved/status",
            any(|| async {
                (
                    StatusCode::FOUND,
                    [(header::LOCATION, "http://evil.example/status")],
                )
            }),
        )
        .route("/down/status", any(|| async { StatusCode::BAD_GATEWAY }))
        .route(
            "/slow/status",
            any(|| async { std::future::pending::<StatusCode>().await }),
        );
    let (_runtime, address) = serve(app);
    let place = Place::empty();
    for (path, says, advice) in [
        ("html", "not as an administration", "Check the address"),
        ("rubbish", "not as an administration", "Check the address"),
        ("later", "version 9", "9.1.0"),
        ("long", "longer than", "--limit"),
        ("moved", "evil.example", "give it with --at"),
        ("down", "502", "Look at the log"),
        ("slow", "has not answered within", "--answer-timeout"),
    ] {
        let url = format!("http://{address}/{path}");
        run(at(
            &place,
            &url,
            Some(TOKEN),
            &["list", "--answer-timeout", "2s"],
        ))
        .fails(3, says, advice);
    }
}

/// What an administration says of itself.
const STATUS: &str = "{\"program\":\"cloakroom-admin\",\"version\":\"0.1.0\",\"schema\":1,\"now\":\"2026-01-01T00:00:00Z\",\
    \"containers\":[\"\"],\"figures\":{\"file_bytes\":1,\"journal_bytes\":1,\"unreadable_parts\":0,\"commits\":0,\
    \"conflicts\":0,\"reruns\":0,\"bytes_written\":0,\"syncs\":0}}";

/// An administration whose sweep goes on until it is stopped.
fn endless() -> Router {
    let is_stopped = Arc::new(AtomicBool::new(false));
    let task = |is_stopped: bool| {
        let (ended, result) = match is_stopped {
            true => (
                "\"2026-01-01T00:00:00Z\"",
                "{\"removed\":5,\"unreadable\":0,\"complete\":false}",
            ),
            false => ("null", "null"),
        };
        let text = format!(
            "{{\"number\":7,\"label\":\"Sweep\",\"ended\":{ended},\"done\":1234,\"of\":null,\"outcome\":\"stopped\",\
             \"failed\":{is_stopped},\"stopped\":{is_stopped},\"result\":{result}}}"
        );
        ([(header::CONTENT_TYPE, "application/json")], text).into_response()
    };
    let (followed, stopping) = (is_stopped.clone(), is_stopped);
    Router::new()
        .route(
            "/status",
            get(move || async move { ([(header::CONTENT_TYPE, "application/json")], STATUS) }),
        )
        .route(
            "/maintenance/sweep",
            any(move || async move { task(false) }),
        )
        .route(
            "/maintenance/tasks/7",
            get(move || async move { task(followed.load(Ordering::SeqCst)) }),
        )
        .route(
            "/maintenance/tasks/7/stop",
            any(move || async move {
                stopping.store(true, Ordering::SeqCst);
                task(false)
            }),
        )
}

// C9.4
#[cfg(unix)]
#[test]
fn ctrl_c_stops_the_sweep_in_the_application_and_says_so() {
    use expectrl::process::unix::WaitStatus;
    use expectrl::{ControlCode, Eof, Expect as _, session::OsSession as Terminal};
    let (_runtime, address) = serve(endless());
    let place = Place::empty();
    let mut command = at(
        &place,
        &format!("http://{address}"),
        Some(TOKEN),
        &["sweep"],
    );
    command.env("TERM", "xterm");
    let mut terminal = Terminal::spawn(command).unwrap();
    terminal.set_expect_timeout(Some(Duration::from_secs(60)));
    terminal.expect("sessions examined 1,234").unwrap();
    terminal.send(ControlCode::EndOfText).unwrap();
    let rest = terminal.expect(Eof).unwrap();
    let text = String::from_utf8_lossy(rest.as_bytes()).into_owned();
    assert!(
        text.contains("the sweep was broken off; 5 expired sessions are removed"),
        "{text}"
    );
    let status = terminal.get_process().wait().unwrap();
    assert!(matches!(status, WaitStatus::Exited(_, 4)), "{status:?}");
}

/// A server of answers, which are made of the first line of each request.
fn raw(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = head.next().unwrap().unwrap();
            let rest = head.map(Result::unwrap);
            rest.take_while(|line| !line.is_empty()).for_each(drop);
            // A client that has gone does not matter.
            let _ = stream.write_all(&answer(&first));
        }
    });
    format!("http://{address}")
}

/// An answer with so much of its content.
fn answered(kind: &str, content: &[u8], len: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), content].concat()
}

// C9.1
#[test]
fn a_backup_that_is_cut_short_leaves_no_file() {
    let (place, _) = Place::with(&["ann", "bob"]);
    let mut backup = Vec::new();
    place.edit(|store| {
        let whole = store.backup_to(&mut backup, |_| ControlFlow::Continue(()));
        whole.map(drop).unwrap();
    });
    let half = backup[..backup.len() / 2].to_vec();
    let folder = place.file("target");
    fs::create_dir(&folder).unwrap();
    // The connection breaks; or the answer ends as if it were whole.
    for len in [backup.len(), half.len()] {
        let content = half.clone();
        let address = raw(move |first| match first.contains("/status ") {
            true => answered("application/json", STATUS.as_bytes(), STATUS.len()),
            false => answered("application/octet-stream", &content, len),
        });
        for target in ["target/new.backup", "-"] {
            let cut = run(at(&place, &address, Some(TOKEN), &["backup", target]));
            cut.fails(3, "cut short", "Try again");
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "{len}");
    }
    let address = raw(move |first| match first.contains("/status ") {
        true => answered("application/json", STATUS.as_bytes(), STATUS.len()),
        false => answered("application/octet-stream", &backup, backup.len()),
    });
    run(at(
        &place,
        &address,
        Some(TOKEN),
        &["backup", "target/new.backup"],
    ))
    .exits(0);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}

// C9.1
#[test]
fn a_server_that_is_killed_during_an_export_is_told() {
    let place = Place::empty();
    place.edit(|store| {
        for _ in 0..40 {
            session(store, |session| {
                session.pkg("p").insert("blob", vec![7_u8; 500_000])
            });
        }
    });
    fs::write(place.file("token"), TOKEN).unwrap();
    let mut serving = place.command(&[
        "--json",
        "admin",
        "--listen",
        "127.0.0.1:0",
        "--token-file",
        "token",
    ]);
    let mut serving = serving
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(serving.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    // A pipe that nobody reads holds the export up in the middle: the kill comes then.
    let mut exporting = at(
        &place,
        told["url"].as_str().unwrap(),
        Some(TOKEN),
        &["export"],
    );
    let mut exporting = exporting
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(exporting.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    serving.kill().unwrap();
    serving.wait().unwrap();
    std::io::copy(&mut out, &mut std::io::sink()).unwrap();
    let run_of = Run::of(&exporting.wait_with_output().unwrap());
    run_of.fails(3, "was cut short", "Try again");
}
