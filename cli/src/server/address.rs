//! Where a store is, as the arguments name it.

use super::password::password;
use super::url::{decoded, encoded, is_server, split, without_passwords};
use crate::failure::{Failure, Outcome};
use crate::text::parse_patience;
use cloakroom::{PostgresSettings, Result, Store, StoreBuilder};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::Config;

/// A store in a file, or in a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StorePlace {
    File(PathBuf),
    Server(ServerAddress),
}

/// The address of a server as it was given. Its password is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ServerAddress(String);

impl fmt::Debug for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

impl From<OsString> for StorePlace {
    fn from(text: OsString) -> Self {
        match text.to_str() {
            Some(address) if is_server(address) => Self::Server(ServerAddress(address.to_owned())),
            _ => Self::File(text.into()),
        }
    }
}

impl StorePlace {
    /// How people know it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Server(address) => address.shown(),
        }
    }

    /// Opens the store there with what the builder says.
    pub(crate) fn open(&self, builder: StoreBuilder) -> Outcome<Store> {
        match self {
            Self::File(path) => builder.open(path).map_err(Failure::of_opening),
            Self::Server(address) => {
                let target = address.target()?;
                let builder = builder.postgres(target.settings);
                wait(builder.connect(&target.url))
            }
        }
    }

    pub(crate) fn as_file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Server(_) => None,
        }
    }
}

/// What the library is given.
struct Target {
    url: String,
    settings: PostgresSettings,
}

impl ServerAddress {
    pub(crate) fn shown(&self) -> String {
        without_passwords(&self.0)
    }

    /// Makes or migrates the tables there.
    pub(crate) fn migrate(&self, builder: StoreBuilder) -> Outcome<()> {
        let target = self.target()?;
        wait(builder.postgres(target.settings).migrate(&target.url))
    }

    /// Takes the parameters out that are meant for the store. The others are those of the server's client.
    fn target(&self) -> Outcome<Target> {
        let (base, parameters) = split(&self.0);
        let mut settings = PostgresSettings::new();
        let mut others = Vec::new();
        for (name, value) in parameters {
            let wrong = |why: &str| {
                let what = format!("the parameter {name} of the server's address is wrong: {why}");
                Failure::usage(what, ADVICE)
            };
            let value_text = decoded(value).ok_or_else(|| wrong("it is no UTF-8"))?;
            settings = match name {
                "schema" => settings.schema(value_text),
                "deadline" => {
                    settings.deadline(parse_patience(&value_text).map_err(|it| wrong(&it))?)
                }
                "prepared-statements" => match &*value_text {
                    "yes" => settings,
                    "no" => settings.without_prepared_statements(),
                    _ => return Err(wrong("write yes or no")),
                },
                "root-certificates" => settings.root_certificates(
                    std::fs::read(&value_text).map_err(|error| wrong(&error.to_string()))?,
                ),
                _ => {
                    others.push(format!("{name}={value}"));
                    settings
                }
            };
        }
        let mut url = match others.is_empty() {
            true => base.to_owned(),
            false => format!("{base}?{}", others.join("&")),
        };
        // What the library calls that, its parser does not know. And its error may quote the password.
        let known = url.replace("sslmode=verify-full", "sslmode=require");
        let config = Config::from_str(&known).map_err(|_| {
            let what = format!("{} is no address of a PostgreSQL server", self.shown());
            Failure::usage(what, ADVICE)
        })?;
        if config.get_password().is_none()
            && let Some(password) = password(&config)?
        {
            url.push(if others.is_empty() { '?' } else { '&' });
            url.push_str("password=");
            url.push_str(&encoded(&password));
        }
        Ok(Target { url, settings })
    }
}

const ADVICE: &str = "Write postgres://USER@HOST:PORT/DATABASE, and what is not usual after a question mark: schema=NAME, \
                      deadline=10s, prepared-statements=no, sslmode=verify-full, root-certificates=FILE, and the \
                      parameters of the server's client.";

/// Waits for a server.
fn wait<T>(asked: impl Future<Output = Result<T>>) -> Outcome<T> {
    let runtime: Runtime = Builder::new_current_thread().build()?;
    let answer = runtime.block_on(asked);
    answer.map_err(|error| Failure::of_opening(error).on_server())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> ServerAddress {
        match StorePlace::from(OsString::from(text)) {
            StorePlace::Server(address) => address,
            StorePlace::File(path) => panic!("{path:?}"),
        }
    }

    // C9.2
    #[test]
    fn an_address_is_shown_without_its_password() {
        let address = address("postgres://ann:secret@db/shop?schema=x");
        assert_eq!(address.shown(), "postgres://ann:***@db/shop?schema=x");
        assert!(!format!("{address:?}").contains("secret"));
        let target = address.target().unwrap();
        assert_eq!(target.url, "postgres://ann:secret@db/shop");
        assert!(format!("{:?}", target.settings).contains("\"x\""));
    }

    #[test]
    fn wrong_parameters_are_wrong_usage() {
        for wrong in [
            "deadline=soon",
            "prepared-statements=perhaps",
            "colour=red",
            "schema=%FF",
        ] {
            let address = address(&format!("postgres://ann:secret@db/shop?{wrong}"));
            let failure = address.target().map(drop).unwrap_err();
            assert_eq!(failure.code(), crate::failure::USAGE);
            assert!(!format!("{failure:?}").contains("secret"), "{failure:?}");
        }
    }

    #[test]
    fn a_path_is_no_address() {
        let place = StorePlace::from(OsString::from("postgres.redb"));
        assert_eq!(place.as_file(), Some(Path::new("postgres.redb")));
    }
}
