//! `secrets`: what signs the ids, by number. The secrets themselves are never shown.

use crate::args::{Global, SecretsCommand};
use crate::failure::{Found, Outcome};
use crate::output::{json, line};
use crate::prompt::confirm;
use serde_json::json;

pub(crate) fn run(global: &Global, command: SecretsCommand) -> Outcome {
    global.on_store(|store| {
        match command {
            SecretsCommand::List => {
                let secrets = store.secrets()?;
                if global.json {
                    let secrets = secrets.iter();
                    let secrets = secrets.map(|it| json!({ "number": it.name, "is_issuing": it.is_issuing }));
                    json(&secrets.collect::<Vec<_>>())?;
                    return Ok(Found::Nothing);
                }
                for secret in secrets {
                    let use_ = match secret.is_issuing {
                        true => "signs new ids",
                        false => "verifies older ids",
                    };
                    line(&format!("secret {:<4} {use_}", secret.name))?;
                }
            }
            SecretsCommand::Rotate => {
                let number = store.rotate_secret()?;
                match global.json {
                    true => json(&json!({ "number": number, "is_issuing": true }))?,
                    false => line(&format!(
                        "secret {number} signs new ids. Retire the older ones when the sessions that they signed are over."
                    ))?,
                }
            }
            SecretsCommand::Retire { number, yes } => {
                let question =
                    format!("Retire secret {number}? Every visitor whose id it signed is logged out.");
                confirm(yes.into(), &question)?;
                store.retire_secret(number)?;
                match global.json {
                    true => json(&json!({ "retired": number }))?,
                    false => line(&format!("secret {number} is retired"))?,
                }
            }
        }
        Ok(Found::Nothing)
    })
}
