//! `secrets`: what signs the ids, by number. The secrets themselves are never shown.

use crate::args::{Global, SecretsCommand};
use crate::failure::{Found, Outcome};
use crate::output::{error_line, json, line};
use crate::prompt::confirm;
use crate::text::time;
use serde_json::json;

/// The command cannot know whether an application gives its secrets itself.
const KEPT: &str = "These are the secrets that the store keeps. An application that gives secrets of its own \
                    (StoreBuilder::secret) does not use them: change them there.";

pub(crate) fn run(global: &Global, command: SecretsCommand) -> Outcome {
    global.on_backend(|store| {
        match command {
            SecretsCommand::List => {
                let secrets = store.secrets()?;
                if global.json {
                    json(&secrets)?;
                    return Ok(Found::Nothing);
                }
                for secret in secrets {
                    let use_ = match secret.is_issuing {
                        true => "signs new ids",
                        false => "verifies older ids",
                    };
                    let age = match secret.created {
                        Some(created) => format!("made {}", time(created)),
                        None => "age unknown".to_owned(),
                    };
                    line(&format!("secret {:<4} {use_:<19} {age}", secret.number))?;
                }
                error_line(KEPT)?;
            }
            SecretsCommand::Rotate => {
                let number = store.rotate_secret()?;
                match global.json {
                    true => json(&json!({ "number": number, "is_issuing": true, "note": KEPT }))?,
                    false => {
                        line(&format!(
                            "secret {number} signs new ids. Retire the older ones when the sessions that they signed are over."
                        ))?;
                        error_line(KEPT)?;
                    }
                }
            }
            SecretsCommand::Retire { number, yes } => {
                let question =
                    format!("Retire secret {number}? Every visitor whose id it signed is logged out.");
                confirm(yes.into(), &question)?;
                store.retire_secret(number)?;
                match global.json {
                    true => json(&json!({ "retired": number, "note": KEPT }))?,
                    false => {
                        line(&format!("secret {number} is retired"))?;
                        error_line(KEPT)?;
                    }
                }
            }
        }
        Ok(Found::Nothing)
    })
}
