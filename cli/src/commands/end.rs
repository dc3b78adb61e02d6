//! `end`: ends sessions.

use crate::args::{EndArguments, Global};
use crate::backend::{Backend, Ended};
use crate::failure::{Found, Outcome};
use crate::output::{error_line, json, line};
use crate::prompt::confirm;
use crate::text::{name, plain, sessions};
use cloakroom::{ClientKey, Result};
use serde_json::json;
use std::collections::BTreeSet;

pub(crate) fn run(global: &Global, wanted: &EndArguments) -> Outcome {
    // A key that is wrong is told before anything is asked or done.
    let keys: Result<BTreeSet<ClientKey>> = wanted.keys.iter().map(|key| key.parse()).collect();
    let keys = keys?;
    global.on_backend(|store| {
        let mut expired = 0;
        let ended = match &wanted.owner {
            Some(owner) => of_owner(store, owner, wanted)?,
            None if wanted.all => {
                let question = format!("End all sessions of {}?", store.place());
                confirm(wanted.yes.into(), &question)?;
                store.end_all()?
            }
            None => {
                let question = match keys.len() {
                    1 => "End this session?".to_owned(),
                    count => format!("End these {count} sessions?"),
                };
                confirm(wanted.yes.into(), &question)?;
                by_key(store, &keys, &mut expired)?
            }
        };
        let damage = ended.damage;
        match global.json {
            true => json(&json!({
                "ended": ended.sessions, "removed_expired": expired, "damage": damage,
            }))?,
            false => {
                line(&format!("{} ended", sessions(ended.sessions)))?;
                match expired {
                    0 => {}
                    1 => line("1 session had expired before, and is removed")?,
                    more => line(&format!("{more} sessions had expired before, and are removed"))?,
                }
            }
        }
        let missed = (keys.len() as u64).saturating_sub(ended.sessions + expired);
        let Some(damage) = damage else {
            return Ok(Found::of(missed));
        };
        error_line(&format!(
            "some are damaged and have not ended: {}\n`cloakroom check` names them; `cloakroom salvage --to NEW` leaves them behind.",
            plain(&damage)
        ))?;
        Ok(Found::Something)
    })
}

/// Ends the sessions of these keys. Counts those that had expired, which are removed.
fn by_key(store: &dyn Backend, keys: &BTreeSet<ClientKey>, expired: &mut u64) -> Outcome<Ended> {
    let mut all = Ended::default();
    for key in keys {
        // What ends no session may still remove one.
        let entry = store.entry(*key)?;
        let ended = store.end(*key)?;
        let was_expired = entry.is_some_and(|entry| entry.has_expired());
        *expired += u64::from(was_expired && ended.sessions == 0 && ended.damage.is_none());
        all = all.and(ended);
    }
    Ok(all)
}

fn of_owner(store: &dyn Backend, owner: &str, wanted: &EndArguments) -> Outcome<Ended> {
    let count = store.count_of(owner)?;
    if count > 0 {
        let question = match count {
            1 => format!("End the session of {}?", name(owner)),
            count => format!("End the {count} sessions of {}?", name(owner)),
        };
        confirm(wanted.yes.into(), &question)?;
    }
    store.end_all_of(owner)
}
