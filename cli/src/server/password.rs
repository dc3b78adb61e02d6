//! The password for a server whose address has none: from the environment, or from the file of libpq.

use crate::failure::Outcome;
use crate::output::error_line;
use crate::text::plain;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// The variables that libpq reads, too.
const PASSWORD: &str = "PGPASSWORD";
const FILE: &str = "PGPASSFILE";

/// The password for this server, if there is one outside its address.
pub(super) fn password(config: &Config) -> Outcome<Option<Vec<u8>>> {
    if let Some(password) = env::var_os(PASSWORD) {
        return Ok(Some(password.into_encoded_bytes()));
    }
    let file = match env::var_os(FILE) {
        Some(path) => Some(PathBuf::from(path)),
        None => env::home_dir().map(|home| home.join(".pgpass")),
    };
    let Some(text) = file
        .as_deref()
        .and_then(|path| fs::read_to_string(path).ok().zip(file.clone()))
    else {
        return Ok(None);
    };
    let (text, path) = text;
    if is_open_to_others(&path) {
        let path = plain(&path.display().to_string());
        error_line(&format!(
            "warning: {path} is ignored, as libpq does: other users of this machine can read it. Take that right away: \
             chmod go= {path}"
        ))?;
        return Ok(None);
    }
    Ok(find(&text, &wanted(config)).map(String::into_bytes))
}

#[cfg(unix)]
fn is_open_to_others(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata()
        .is_ok_and(|it| it.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_: &Path) -> bool {
    false
}

/// The first four fields of a line.
struct Wanted {
    /// Of several servers, any.
    servers: Vec<(String, String)>,
    database: String,
    user: String,
}

fn wanted(config: &Config) -> Wanted {
    let ports = config.get_ports();
    let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
    let host = |host: &Host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(_) => "localhost".to_owned(),
    };
    let servers = config.get_hosts().iter().enumerate();
    let servers = servers.map(|(at, it)| (host(it), port(at).to_string()));
    let user = config.get_user().map(str::to_owned);
    let user = user.or_else(|| env::var("USER").ok()).unwrap_or_default();
    Wanted {
        servers: servers.collect(),
        database: config.get_dbname().unwrap_or(&user).to_owned(),
        user,
    }
}

/// The password of the first line that matches.
fn find(text: &str, wanted: &Wanted) -> Option<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(fields).find_map(|fields| {
        let [host, port, database, user, password] = <[String; 5]>::try_from(fields).ok()?;
        let is = |field: &str, value: &str| field == "*" || field == value;
        let mut servers = wanted.servers.iter();
        let is_server = servers.any(|(name, number)| is(&host, name) && is(&port, number));
        (is_server && is(&database, &wanted.database) && is(&user, &wanted.user))
            .then_some(password)
    })
}

/// The fields of a line, divided by colons. A backslash takes the meaning of what follows.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (c, fields.last_mut()) {
            (':', _) => fields.push(String::new()),
            ('\\', Some(field)) => field.extend(characters.next()),
            (c, Some(field)) => field.push(c),
            (_, None) => {}
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_matches_has_the_password() {
        let config = |url: &str| wanted(&url.parse::<Config>().unwrap());
        let text = "# db1:5432:shop:ann:comment\n\
                    db1:5433:shop:ann:other port\n\
                    db1:5432:shop:ann:a\\:b\\\\c\n\
                    *:*:*:ann:last";
        let found = |url: &str| find(text, &config(url));
        assert_eq!(found("postgres://ann@db1/shop").as_deref(), Some("a:b\\c"));
        assert_eq!(
            found("postgres://ann@db0,db1:5433/shop").as_deref(),
            Some("other port")
        );
        assert_eq!(found("postgres://ann@db9/x").as_deref(), Some("last"));
        assert_eq!(found("postgres://bob@db1/shop"), None);
    }
}
