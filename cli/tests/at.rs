//! `--at`: the same commands on the store of a running application, through its administration.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::{any, get};
use cloakroom::{Clock, ContainerSettings, Store};
use cloakroom_admin::{Access, TokenAccess};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{Place, Run, session};
use tokio::runtime::Runtime;

const TOKEN: &str = "correct horse battery staple";

/// An application that mounts the administration under a path of its own.
struct Application {
    /// Ends the server when it is dropped.
    _runtime: Runtime,
    store: Store,
    address: String,
}

impl Application {
    fn serve(store: Store, access: Access) -> Self {
        let access = TokenAccess::new(TOKEN, access).unwrap();
        let pages = cloakroom_admin::router(store.clone(), access);
        let (runtime, address) = serve(Router::new().nest("/internal/sessions", pages));
        Self {
            _runtime: runtime,
            store,
            address: format!("http://{address}/internal/sessions"),
        }
    }

    fn with_all(place: &Place) -> Self {
        let store = Store::builder().implicit_sweeps(false).open(&place.path);
        Self::serve(store.unwrap(), Access::all("operator"))
    }
}

fn serve(app: Router) -> (Runtime, String) {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = listener.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    runtime.spawn(async move { axum::serve(listener, app).await });
    (runtime, address)
}

/// The program at this address, in this folder.
fn at(place: &Place, address: &str, token: Option<&str>, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloakroom"));
    command.args(["--at", address]).args(arguments);
    command.current_dir(place.folder());
    for name in ["CLOAKROOM_STORE", "CLOAKROOM_TOKEN", "CLOAKROOM_TOKEN_FILE"] {
        command.env_remove(name);
    }
    if let Some(token) = token {
        command.env("CLOAKROOM_TOKEN", token);
    }
    command
}

fn run(mut command: Command) -> Run {
    Run::of(&command.stdin(Stdio::null()).output().unwrap())
}

/// A store with three sessions in two containers, begun days ago, and one that has expired.
fn filled() -> Place {
    let place = Place::empty();
    let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    place.edit_at(clock.clone(), |store| {
        let never = ContainerSettings::new().timeout(Duration::ZERO);
        store
            .container("")
            .unwrap()
            .configure(never.clone())
            .unwrap();
        store.register("shop.cart", never).unwrap();
        store.register_alias("basket", "shop.cart").unwrap();
        let brief = ContainerSettings::new().timeout(Duration::from_secs(60));
        store.register("brief", brief).unwrap();
        let packages = [
            ("ann", "cart"),
            ("bob", "cart"),
            ("bob", "shop.cart"),
            ("cat", "brief"),
        ];
        for (owner, package) in packages {
            session(store, |session| {
                session.set_owner(Some(owner))?;
                session.set_label("red \u{202e} phone")?;
                session.pkg(package).insert("tea", "gr\u{7}een")?;
                session.pkg(package).insert("nothing", ())?;
                session
                    .pkg(package)
                    .insert("prices", vec![1.5_f32, f32::INFINITY])
            });
        }
    });
    place
}

/// Two equal stores: one is that of an application.
struct Both {
    ours: Place,
    theirs: Application,
    _place: Place,
}

impl Both {
    fn new() -> Self {
        let ours = filled();
        let copy = Place::empty();
        fs::copy(&ours.path, &copy.path).unwrap();
        Self {
            theirs: Application::with_all(&copy),
            ours,
            _place: copy,
        }
    }

    /// What both say, which is the same.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Run {
        let ours = self.ours.run(arguments);
        let theirs = run(at(&self.ours, &self.theirs.address, Some(TOKEN), arguments));
        let of = |run: &Run| (run.code, run.out.clone(), run.err.clone());
        assert_eq!(of(&ours), of(&theirs), "{arguments:?}");
        ours
    }
}

#[test]
fn every_command_says_the_same_of_a_path_and_of_a_running_application() {
    let both = Both::new();
    let list = both.run(&["list", "--json"]).exits(0).json();
    let key = |at: usize| list["sessions"][at]["client"].as_str().unwrap().to_owned();
    assert!(list["sessions"].as_array().unwrap().len() >= 3, "{list}");
    let (first, second) = (key(0), key(1));
    for arguments in [
        &["containers"][..],
        &["containers", "--json"],
        &["list"],
        &["list", "--limit", "1"],
        &["list", "--json", "--limit", "2"],
        &["list", "--json", "--from", "basket"],
        &["list", "--container", "", "--after", &first],
        &[
            "list",
            "--owner",
            "bob",
            "--size-at-least",
            "1",
            "--age-at-least",
            "1d",
            "--idle-at-most",
            "1000000d",
        ],
        &["list", "--label", "nothing like this"],
        &["list", "--key", &first[..4], "--json"],
        &["show", &first],
        &["show", &first[..8], "--json"],
        &["show", &first, "--values"],
        &["show", &first, "--values", "--json"],
        &["sweep"],
        &["sweep", "--json"],
        &[
            "containers",
            "set",
            "basket",
            "--timeout",
            "30m",
            "--max-lifetime",
            "7d",
        ],
        &["containers", "set", "basket", "--timeout", "30m"],
        &[
            "containers",
            "set",
            "",
            "--max-lifetime",
            "never",
            "--implicit-sweeps",
            "no",
            "--json",
        ],
        &["secrets", "rotate"],
        &["secrets", "list"],
        &["secrets", "list", "--json"],
        &["end", &first, &second, "--yes", "--json"],
        &["end", "--owner", "nobody", "--yes"],
    ] {
        both.run(arguments).exits(0);
    }
    for arguments in [
        &["list", "--container", "nowhere"][..],
        &["list", "--from", "nowhere"],
        &["list", "--after", &second],
        &["list", "--key", "xyz"],
        &["list", "--owner", ""],
        &["containers", "set", "nowhere", "--timeout", "1h"],
        &["containers", "set", ""],
        &["secrets", "retire", "1", "--yes"],
        &["end", "xyz", "--yes"],
        &["end", "--all"],
        &["list", "--json", "--container", "nowhere"],
    ] {
        let said = both.ours.run(arguments);
        let theirs = run(at(&both.ours, &both.theirs.address, Some(TOKEN), arguments));
        assert_eq!(
            (said.code, theirs.code),
            (2, 2),
            "{arguments:?}: {said:?} {theirs:?}"
        );
    }
    both.run(&["show", &first]).exits(1);
    both.run(&["end", &first, "--yes"]).exits(1);
    for arguments in [&["stats", "--json"][..], &["check", "--json"]] {
        let ours = both.ours.run(arguments).exits(0).json();
        let theirs = run(at(&both.ours, &both.theirs.address, Some(TOKEN), arguments));
        let theirs = theirs.exits(0).json();
        for member in [
            "containers",
            "container_names",
            "sessions",
            "packages",
            "findings",
            "unreadable_parts",
        ] {
            assert_eq!(ours[member], theirs[member], "{member}");
        }
    }
    // All but the first line, which tells the time.
    let rest = |run: Run| run.exits(0).out.split_once('\n').unwrap().1.to_owned();
    let theirs = run(at(
        &both.ours,
        &both.theirs.address,
        Some(TOKEN),
        &["export"],
    ));
    assert_eq!(rest(both.ours.run(&["export"])), rest(theirs));
    both.run(&["end", "--all", "--yes"]).exits(0);
    assert_eq!(both.run(&["list"]).out, "no sessions\n");
}

// C9.1
#[test]
fn backups_and_exports_are_fetched_whole_and_sessions_imported() {
    let place = filled();
    let application = Application::with_all(&place);
    let there = |arguments: &[&str]| run(at(&place, &application.address, Some(TOKEN), arguments));
    let told = there(&["backup", "new.backup", "--json"]).exits(0).json();
    let verified = place
        .run(&["verify", "new.backup", "--json"])
        .exits(0)
        .json();
    assert_eq!(told["id"], verified[0]["id"]);
    let again = there(&["backup", "new.backup"]);
    again.fails(2, "exists already", "Name a file");
    there(&["backup", "more.backup", "--since", "new.backup"]).fails(
        2,
        "incremental",
        "Leave --since out",
    );
    let told = there(&["export", "--output", "all.jsonl", "--json"])
        .exits(0)
        .json();
    let count = told["sessions"].as_u64().unwrap();
    assert!(count >= 3, "{told}");
    let lines = fs::read_to_string(place.file("all.jsonl")).unwrap();
    assert_eq!(told["bytes"], lines.len());

    there(&["import", "all.jsonl"]).fails(3, "line", "--on-duplicate");
    let skipped = there(&["import", "all.jsonl", "--on-duplicate", "skip"]).exits(0);
    let expected =
        format!("0 sessions imported\n{count} were there already, and stayed as they were\n");
    assert_eq!(skipped.out, expected);
    there(&["end", "--all", "--yes"]).exits(0);
    assert_eq!(
        there(&["import", "all.jsonl"]).exits(0).out,
        format!("{count} sessions imported\n")
    );
    let cut = &lines[..lines.len() - 20];
    fs::write(place.file("cut.jsonl"), cut).unwrap();
    there(&["import", "cut.jsonl", "--on-duplicate", "skip"]).fails(3, "", "Correct the file");
    assert_eq!(application.store.sessions_of("bob").unwrap().len(), 2);
    assert!(
        place.names().iter().all(|name| !name.starts_with('.')),
        "{:?}",
        place.names()
    );
}

// C9.3
#[test]
fn a_token_that_may_only_look_changes_nothing() {
    let place = filled();
    let store = Store::open(&place.path).unwrap();
    let application = Application::serve(store, Access::read_only("guest").without_values());
    let there = |arguments: &[&str]| run(at(&place, &application.address, Some(TOKEN), arguments));
    let list = there(&["list", "--json"]).exits(0).json();
    let key = list["sessions"][0]["client"].as_str().unwrap();
    there(&["stats"]).exits(0);
    there(&["show", key]).exits(0);
    for arguments in [
        &["show", key, "--values"][..],
        &["end", key, "--yes"],
        &["end", "--all", "--yes"],
        &["sweep"],
        &["check"],
        &["backup", "new"],
        &["export"],
        &["import", "-"],
        &["secrets", "rotate"],
        &["containers", "set", "", "--timeout", "1h"],
    ] {
        there(arguments).fails(3, "", "Use a token that gives the right");
    }
    assert_eq!(there(&["list", "--json"]).json(), list);
    assert!(!place.names().contains(&"new".to_owned()));
}

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
    let status = "{\"program\":\"cloakroom-admin\",\"version\":\"0.1.0\",\"schema\":1,\"now\":\"2026-01-01T00:00:00Z\",\
                  \"containers\":[\"\"],\"figures\":{\"file_bytes\":1,\"journal_bytes\":1,\"unreadable_parts\":0,\"commits\":0,\
                  \"conflicts\":0,\"reruns\":0,\"bytes_written\":0,\"syncs\":0}}";
    let (followed, stopping) = (is_stopped.clone(), is_stopped);
    Router::new()
        .route(
            "/status",
            get(move || async move { ([(header::CONTENT_TYPE, "application/json")], status) }),
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

// C9.1
#[test]
fn a_server_that_is_killed_during_a_backup_leaves_no_file() {
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
    let folder = place.file("target");
    fs::create_dir(&folder).unwrap();
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
    let url = told["url"].as_str().unwrap();
    let gone = run(at(
        &place,
        url,
        Some(TOKEN),
        &["backup", "target/new.backup"],
    ));
    gone.fails(3, "cannot be reached", "Check the address");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}
