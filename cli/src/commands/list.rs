//! `list`: the sessions, in pages.

use crate::args::{Global, ListArguments};
use crate::backend::{Backend, Filter};
use crate::failure::{Failure, Found, Outcome};
use crate::interrupt::Interrupt;
use crate::json::ListedJson;
use crate::output::{Align, Table, dim, json, line};
use crate::progress::Progress;
use crate::text::{bytes, name, plain, roughly, short, since};
use cloakroom::{ClientKey, SessionFilter};
use serde_json::json;

/// How many characters of a text a table shows.
const SHOWN: usize = 32;

/// Where a page begins: in a container, after a key or with its first session.
struct Next {
    container: String,
    after: Option<ClientKey>,
}

struct Listed {
    sessions: Vec<ListedJson>,
    /// Where the next page begins, if there may be one.
    next: Option<Next>,
}

pub(crate) fn run(global: &Global, wanted: &ListArguments, interrupt: &Interrupt) -> Outcome {
    let filter = filter(wanted)?;
    global.on_backend(|store| {
        let containers = store.containers()?;
        let listed = list(store, &containers, (wanted, &filter), interrupt.asks())?;
        match global.json {
            true => print_json(&listed)?,
            false => print(store, &containers, wanted, &listed)?,
        }
        let damaged = listed.sessions.iter().filter(|it| it.error.is_some());
        Ok(Found::of(damaged.count() as u64))
    })
}

fn filter(wanted: &ListArguments) -> Outcome<Filter> {
    if let Some(digits) = &wanted.key {
        // Digits that are wrong are told before anything is asked.
        SessionFilter::new().key_prefix(digits)?;
    }
    Ok(Filter {
        owner: wanted.owner.clone(),
        label: wanted.label.clone(),
        idle_at_least: wanted.idle_at_least,
        idle_at_most: wanted.idle_at_most,
        age_at_least: wanted.age_at_least,
        age_at_most: wanted.age_at_most,
        bytes_at_least: wanted.size_at_least,
        bytes_at_most: wanted.size_at_most,
        key: wanted.key.clone(),
        with_expired: wanted.expired,
    })
}

/// The containers that the list goes through: one; or all, or all from the one on that the page before ended in.
fn containers(store: &dyn Backend, all: &[String], wanted: &ListArguments) -> Outcome<Vec<String>> {
    if let Some(name) = &wanted.container {
        return Ok(vec![name.clone()]);
    }
    let mut containers = all.to_vec();
    if let Some(first) = &wanted.from {
        let first = store.settings(first)?.name;
        let before = containers.iter().take_while(|name| **name != first).count();
        containers.drain(..before);
    } else if wanted.after.is_some() && containers.len() > 1 {
        let advice = "Name the container: --container lists it alone, --from goes on into the following ones. \"\" is the \
                      unnamed one.";
        return Err(Failure::usage(
            "--after begins in one of several containers",
            advice,
        ));
    }
    Ok(containers)
}

fn list(
    store: &dyn Backend,
    all: &[String],
    (wanted, filter): (&ListArguments, &Filter),
    interrupt: &Interrupt,
) -> Outcome<Listed> {
    let mut after: Option<ClientKey> = wanted.after.as_deref().map(str::parse).transpose()?;
    let progress = Progress::open("sessions examined");
    let mut listed = Listed {
        sessions: Vec::new(),
        next: None,
    };
    let mut examined = 0;
    for container in containers(store, all, wanted)? {
        loop {
            let left = wanted.limit.saturating_sub(listed.sessions.len() as u64);
            if left == 0 {
                listed.next = Some(Next { container, after });
                return Ok(listed);
            }
            let page = store.sessions(&container, filter, after, left)?;
            listed.sessions.extend(page.sessions);
            examined += page.examined;
            progress.at(examined);
            after = page.next;
            if interrupt.has_come() {
                let advice = "Nothing was changed. --limit lists fewer.";
                return Err(Failure::interrupted("the list was broken off", advice));
            }
            if after.is_none() {
                break;
            }
        }
    }
    Ok(listed)
}

/// The last column of the table.
fn state(session: &ListedJson) -> &'static str {
    match (&session.error, session.is_expired) {
        (Some(_), _) => "damaged",
        (None, true) => "expired",
        (None, false) => "",
    }
}

fn print_json(listed: &Listed) -> Outcome<()> {
    let next = listed.next.as_ref();
    let next = next.map(|next| {
        let after = next.after.map(|after| after.to_string());
        json!({ "container": next.container, "after": after })
    });
    json(&json!({ "sessions": listed.sessions, "next": next }))
}

fn print(
    store: &dyn Backend,
    containers: &[String],
    wanted: &ListArguments,
    listed: &Listed,
) -> Outcome<()> {
    if listed.sessions.is_empty() {
        return line("no sessions");
    }
    let right = |head| (head, Align::Right);
    let left = |head| (head, Align::Left);
    let mut table = Table::new(&[
        left("KEY"),
        left("CONTAINER"),
        left("OWNER"),
        left("LABEL"),
        right("AGE"),
        right("IDLE"),
        right("PACKAGES"),
        right("SIZE"),
        left(""),
    ]);
    let now = store.now()?;
    for session in &listed.sessions {
        let text = |text: &Option<String>| short(&plain(text.as_deref().unwrap_or("-")), SHOWN);
        let ago = |time: Option<_>| time.map_or("-".to_owned(), |time| roughly(since(now, time)));
        table.row([
            plain(&session.client),
            short(&name(&session.container), SHOWN),
            text(&session.owner),
            text(&session.label),
            ago(session.created),
            ago(session.last_access),
            session.packages.to_string(),
            bytes(session.bytes),
            state(session).to_owned(),
        ]);
    }
    table.fit(&[1, 2, 3]);
    table.print()?;
    if let Some(next) = &listed.next {
        let from = match wanted.container.is_none() && containers.len() > 1 {
            true => format!(" --from {}", name(&next.container)),
            false => String::new(),
        };
        let after = next.after.map(|after| format!(" --after {after}"));
        let after = after.unwrap_or_default();
        line(&dim(&format!("There may be more: add{from}{after}")))?;
    }
    Ok(())
}
