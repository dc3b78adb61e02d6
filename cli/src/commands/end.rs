//! `end`: ends sessions.

use crate::args::{EndArguments, Global};
use crate::failure::{Found, Outcome};
use crate::output::{error_line, json, line};
use crate::prompt::confirm;
use crate::text::{name, plain, sessions};
use cloakroom::{ClientKey, Error, ErrorKind, Result, Store};
use serde_json::json;
use std::collections::BTreeSet;

/// What was ended, and what could not be.
#[derive(Default)]
struct Ended {
    sessions: u64,
    /// The first damage.
    damage: Option<Error>,
}

impl Ended {
    /// Notes what a call has ended. Damage ends no command: what is sound has ended.
    fn note(&mut self, ended: Result<u64>) -> Result<()> {
        match ended {
            Ok(sessions) => self.sessions += sessions,
            Err(error) => match (error.kind(), error.sessions_ended()) {
                (ErrorKind::Corrupt, Some(sessions)) => {
                    self.sessions += sessions;
                    self.damage.get_or_insert(error);
                }
                _ => return Err(error),
            },
        }
        Ok(())
    }
}

pub(crate) fn run(global: &Global, wanted: &EndArguments) -> Outcome {
    // A key that is wrong is told before anything is asked or done.
    let keys: Result<BTreeSet<ClientKey>, _> = wanted.keys.iter().map(|key| key.parse()).collect();
    let keys = keys?;
    global.on_store(|store| {
        let mut ended = Ended::default();
        match &wanted.owner {
            Some(owner) => of_owner(store, owner, wanted, &mut ended)?,
            None if wanted.all => {
                let question = format!("End all sessions of {}?", global.path()?.display());
                confirm(wanted.yes.into(), &question)?;
                ended.note(store.end_all())?;
            }
            None => {
                let question = match keys.len() {
                    1 => "End this session?".to_owned(),
                    count => format!("End these {count} sessions?"),
                };
                confirm(wanted.yes.into(), &question)?;
                for key in &keys {
                    ended.note(store.end(*key))?;
                }
            }
        }
        let damage = ended.damage.as_ref().map(ToString::to_string);
        match global.json {
            true => json(&json!({ "ended": ended.sessions, "damage": damage }))?,
            false => line(&format!("{} ended", sessions(ended.sessions)))?,
        }
        let missed = (keys.len() as u64).saturating_sub(ended.sessions);
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

fn of_owner(store: &Store, owner: &str, wanted: &EndArguments, ended: &mut Ended) -> Outcome<()> {
    let count = store.sessions_of(owner)?.len();
    if count > 0 {
        let question = match count {
            1 => format!("End the session of {}?", name(owner)),
            count => format!("End the {count} sessions of {}?", name(owner)),
        };
        confirm(wanted.yes.into(), &question)?;
    }
    Ok(ended.note(store.end_all_of(owner))?)
}
