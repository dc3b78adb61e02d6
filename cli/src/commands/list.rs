//! `list`: the sessions, in pages.

use crate::args::{Global, ListArguments};
use crate::failure::{Failure, Found, Outcome};
use crate::interrupt::Interrupt;
use crate::json::ListedJson;
use crate::output::{Align, Table, dim, json, line};
use crate::progress::Progress;
use crate::text::{bytes, name, plain, roughly, short, since};
use cloakroom::{ClientKey, Container, ListedSession, SessionFilter, Store};
use serde_json::json;

/// How many characters of a text a table shows.
const SHOWN: usize = 32;

/// Where a page begins: in a container, after a key or with its first session.
struct Next {
    container: String,
    after: Option<ClientKey>,
}

struct Listed {
    sessions: Vec<(String, ListedSession)>,
    /// Where the next page begins, if there may be one.
    next: Option<Next>,
}

pub(crate) fn run(global: &Global, wanted: &ListArguments, interrupt: &Interrupt) -> Outcome {
    global.on_store(|store| {
        let listed = list(store, wanted, interrupt.asks())?;
        match global.json {
            true => print_json(&listed)?,
            false => print(store, wanted, &listed)?,
        }
        let damaged = listed.sessions.iter().filter(|(_, it)| it.error.is_some());
        Ok(Found::of(damaged.count() as u64))
    })
}

fn filter(wanted: &ListArguments) -> Outcome<SessionFilter> {
    let mut filter = SessionFilter::new();
    if let Some(owner) = &wanted.owner {
        filter = filter.owner(owner);
    }
    if let Some(label) = &wanted.label {
        filter = filter.label(label);
    }
    if let Some(idle) = wanted.idle_at_least {
        filter = filter.idle_at_least(idle);
    }
    if let Some(idle) = wanted.idle_at_most {
        filter = filter.idle_at_most(idle);
    }
    if let Some(age) = wanted.age_at_least {
        filter = filter.age_at_least(age);
    }
    if let Some(age) = wanted.age_at_most {
        filter = filter.age_at_most(age);
    }
    if let Some(size) = wanted.size_at_least {
        filter = filter.bytes_at_least(size);
    }
    if let Some(size) = wanted.size_at_most {
        filter = filter.bytes_at_most(size);
    }
    match &wanted.key {
        Some(digits) => Ok(filter.key_prefix(digits)?),
        None => Ok(filter),
    }
}

/// The containers that the list goes through: one; or all, or all from the one on that the page before ended in.
fn containers(store: &Store, wanted: &ListArguments) -> Outcome<Vec<Container>> {
    if let Some(name) = &wanted.container {
        return Ok(vec![store.container(name)?]);
    }
    let mut containers = store.containers();
    if let Some(first) = &wanted.from {
        let first = store.container(first)?;
        let own = first.names()?;
        let is_first = |it: &Container| own.iter().any(|name| name == it.name());
        let before = containers.iter().take_while(|it| !is_first(it)).count();
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

fn list(store: &Store, wanted: &ListArguments, interrupt: &Interrupt) -> Outcome<Listed> {
    let filter = filter(wanted)?;
    let mut after: Option<ClientKey> = wanted.after.as_deref().map(str::parse).transpose()?;
    let progress = Progress::open("sessions examined");
    let mut listed = Listed {
        sessions: Vec::new(),
        next: None,
    };
    let mut examined = 0;
    for container in containers(store, wanted)? {
        let of = container.name();
        loop {
            let left = wanted.limit.saturating_sub(listed.sessions.len() as u64);
            if left == 0 {
                listed.next = Some(Next {
                    container: of.to_owned(),
                    after,
                });
                return Ok(listed);
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let page = container.sessions(&filter, after, most)?;
            let sessions = page.sessions.into_iter();
            listed
                .sessions
                .extend(sessions.map(|session| (of.to_owned(), session)));
            examined += page.examined as u64;
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

fn print_json(listed: &Listed) -> Outcome<()> {
    let sessions = listed.sessions.iter();
    let sessions = sessions.map(|(container, session)| ListedJson::of(container, session));
    let next = listed.next.as_ref();
    let next = next.map(|next| {
        let after = next.after.map(|after| after.to_string());
        json!({ "container": next.container, "after": after })
    });
    json(&json!({ "sessions": sessions.collect::<Vec<_>>(), "next": next }))
}

fn print(store: &Store, wanted: &ListArguments, listed: &Listed) -> Outcome<()> {
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
    let now = store.now();
    for (container, session) in &listed.sessions {
        let text = |text: &Option<String>| short(&plain(text.as_deref().unwrap_or("-")), SHOWN);
        let ago = |time: Option<_>| time.map_or("-".to_owned(), |time| roughly(since(now, time)));
        table.row([
            session.client.to_string(),
            short(&name(container), SHOWN),
            text(&session.owner),
            text(&session.label),
            ago(session.created),
            ago(session.last_access),
            session.packages.to_string(),
            bytes(session.bytes),
            session
                .error
                .as_ref()
                .map_or_else(String::new, |_| "damaged".to_owned()),
        ]);
    }
    table.print()?;
    if let Some(next) = &listed.next {
        let from = match wanted.container.is_none() && store.containers().len() > 1 {
            true => format!(" --from {}", name(&next.container)),
            false => String::new(),
        };
        let after = next.after.map(|after| format!(" --after {after}"));
        let after = after.unwrap_or_default();
        line(&dim(&format!("There may be more: add{from}{after}")))?;
    }
    Ok(())
}
