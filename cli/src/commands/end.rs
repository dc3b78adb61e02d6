//! `end`: ends sessions.

use crate::args::{EndArguments, Global};
use crate::failure::{Found, Outcome};
use crate::output::{json, line};
use crate::prompt::confirm;
use crate::text::{name, sessions};
use cloakroom::{ClientKey, Store};
use serde_json::json;
use std::collections::BTreeSet;

pub(crate) fn run(global: &Global, wanted: &EndArguments) -> Outcome {
    // A key that is wrong is told before anything is asked or done.
    let keys: Result<BTreeSet<ClientKey>, _> = wanted.keys.iter().map(|key| key.parse()).collect();
    let keys = keys?;
    global.on_store(|store| {
        let ended = match &wanted.owner {
            Some(owner) => of_owner(store, owner, wanted)?,
            None if wanted.all => {
                let question = format!("End all sessions of {}?", global.path()?.display());
                confirm(wanted.yes.into(), &question)?;
                store.end_all()?
            }
            None => {
                let question = match keys.len() {
                    1 => "End this session?".to_owned(),
                    count => format!("End these {count} sessions?"),
                };
                confirm(wanted.yes.into(), &question)?;
                let mut ended = 0;
                for key in &keys {
                    ended += store.end(*key)?;
                }
                ended
            }
        };
        match global.json {
            true => json(&json!({ "ended": ended }))?,
            false => line(&format!("{} ended", sessions(ended)))?,
        }
        Ok(Found::of((keys.len() as u64).saturating_sub(ended)))
    })
}

fn of_owner(store: &Store, owner: &str, wanted: &EndArguments) -> Outcome<u64> {
    let count = store.sessions_of(owner)?.len();
    if count > 0 {
        let question = match count {
            1 => format!("End the session of {}?", name(owner)),
            count => format!("End the {count} sessions of {}?", name(owner)),
        };
        confirm(wanted.yes.into(), &question)?;
    }
    Ok(store.end_all_of(owner)?)
}
