//! The arguments.

use crate::foreign::SourceFormat;
use crate::opening::STORE_VARIABLE;
use crate::server::StorePlace;
use crate::text::{parse_bytes, parse_duration, parse_patience, parse_timeout};
use clap::builder::{NonEmptyStringValueParser, OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Looks into a store of web sessions, tends it and moves it.
///
/// A store is named by its path, if no application has it open; by the address of its PostgreSQL server; or by the address
/// of the administration page that a running application mounts. Sessions are named by the keys of their clients, 32 hexadecimal digits, from which no id can be had.
#[derive(Debug, Parser)]
#[command(name = "cloakroom", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 done, and something was found (damage, losses, no such session); 2 wrong usage; 3 the store, a \
file or the administration cannot be used; 4 interrupted, or the answer was no.";

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The store's file, or the address of its server: postgres://USER@HOST/DATABASE?schema=NAME. The password comes from
    /// the variable PGPASSWORD, or from ~/.pgpass or the file that PGPASSFILE names: other users see arguments
    #[arg(
        short,
        long,
        global = true,
        value_name = "PATH|URL",
        env = STORE_VARIABLE,
        // It may hold a password.
        hide_env_values = true,
        value_parser = place()
    )]
    pub(crate) store: Option<StorePlace>,
    /// Instead: the address of the administration page of the application that has the store open, such as
    /// https://shop.example/internal/sessions. The token comes from --token-file or the variable CLOAKROOM_TOKEN
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) at: Option<String>,
    /// A file with the token of the administration that --at names, or that `admin` serves
    #[arg(long, global = true, value_name = "FILE", env = "CLOAKROOM_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// With --at: how long a connection may take
    #[arg(long, global = true, value_name = "TIME", default_value = "10s", value_parser = parse_patience)]
    pub(crate) connect_timeout: Duration,
    /// With --at: how long nothing may come
    #[arg(long, global = true, value_name = "TIME", default_value = "60s", value_parser = parse_patience)]
    pub(crate) answer_timeout: Duration,
    /// Opens the store of another user, although that user could be locked out of files that a kill leaves
    #[arg(long, global = true)]
    pub(crate) any_user: bool,
    /// Prints JSON, described in docs/cli-json.md
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The keys of an encrypted store: a number and 64 hexadecimal digits a line, the current key first
    #[arg(long, global = true, value_name = "FILE", env = "CLOAKROOM_KEY_FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

/// Every text is a path or an address.
fn place() -> impl TypedValueParser<Value = StorePlace> {
    OsStringValueParser::new().map(StorePlace::from)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows how many sessions there are, how old and how large
    Stats {
        /// Only what is known without reading every session
        #[arg(long)]
        quick: bool,
    },
    /// Lists the containers, or changes one
    Containers {
        #[command(subcommand)]
        command: Option<ContainersCommand>,
    },
    /// Lists sessions
    List(ListArguments),
    /// Shows one session
    Show {
        /// Its key, or the first digits of it
        key: String,
        /// Shows the values too: they are the visitor's data
        #[arg(long)]
        values: bool,
    },
    /// Ends sessions
    End(EndArguments),
    /// Removes expired sessions
    Sweep,
    /// Reads everything and reports damage
    Check,
    /// Copies what can be read of a damaged store into a new one
    Salvage {
        /// The new store, which must not exist
        #[arg(long, value_name = "PATH")]
        to: PathBuf,
        /// The secret that signs ids, 64 hexadecimal digits, if the store has lost its own
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
    },
    /// Gives the space back that the store's file does not need any more
    Compact,
    /// Migrates a store of an older format, or makes the tables of a new one in a server. Afterwards, a role that may make
    /// no tables can use them
    Migrate {
        /// The store, as --store names it
        #[arg(value_name = "STORE", value_parser = place())]
        place: Option<StorePlace>,
        /// Does not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Moves a store from a file into a PostgreSQL server, or back. Sessions, ids and secrets stay as they are
    #[command(after_long_help = MOVE_HELP)]
    Move(MoveArguments),
    /// Writes a backup, verified
    Backup(BackupArguments),
    /// Verifies backups
    Verify {
        /// The backups
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Makes a new store of a backup, or of a chain of them
    Restore(RestoreArguments),
    /// Writes all sessions as lines of JSON
    Export {
        /// The new file; the standard output without it
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Reads sessions that `export` wrote, or that another session library keeps in SQLite
    #[command(after_long_help = FROM_HELP)]
    Import {
        /// The file; - is the standard input
        file: PathBuf,
        /// What happens to sessions that are there already
        #[arg(long, value_enum, default_value_t = Duplicates::Fail)]
        on_duplicate: Duplicates,
        /// Goes on after this line, where an earlier import ended
        #[arg(
            long,
            value_name = "LINE",
            default_value_t = 0,
            conflicts_with = "from"
        )]
        after_line: u64,
        /// How long a line may be. To read one takes many times the memory
        #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_bytes)]
        max_line: u64,
        #[command(flatten)]
        from: FromArguments,
    },
    /// Lists, rotates or retires the secrets that the store keeps to sign ids. An application that gives secrets of its
    /// own does not use these
    Secrets {
        #[command(subcommand)]
        command: SecretsCommand,
    },
    /// Shows the sizes of the store's files as they change, while an application has it open too
    Watch {
        /// How often
        #[arg(long, default_value = "1s", value_parser = parse_duration)]
        interval: Duration,
        /// Ends after so many times
        #[arg(long, value_name = "TIMES")]
        count: Option<u64>,
    },
    /// Measures durable commits on a disk, in a store of its own
    Bench {
        /// A folder on the disk
        #[arg(long, default_value = ".", value_name = "FOLDER")]
        folder: PathBuf,
        /// For how long
        #[arg(long, default_value = "3s", value_parser = parse_duration)]
        time: Duration,
    },
    /// Serves the administration page of a store that no application has open. It asks for the token in --token-file, 16
    /// characters or more; without it, one is made and printed
    Admin(AdminArguments),
    /// Prints the completions for a shell
    Completions { shell: Shell },
    /// Prints the manual page, or writes one per command into a folder
    Man { folder: Option<PathBuf> },
}

#[derive(Debug, Args)]
pub(crate) struct MoveArguments {
    /// The store: a file, or the address of a server
    #[arg(value_name = "FROM", value_parser = place())]
    pub(crate) from: StorePlace,
    /// Where it goes. There is no store yet, or the beginning of this copy
    #[arg(value_name = "TO", value_parser = place())]
    pub(crate) to: StorePlace,
}

const MOVE_HELP: &str = "\
Stop the application first, on all machines: what it changes meanwhile is not in the copy. The store that is moved stays \
as it is. All live sessions are copied, and then both stores are read again and compared. A move that was broken off or \
killed goes on when the command is run again.

  cloakroom move sessions.redb postgres://app@db/shop?schema=sessions
  cloakroom move postgres://app@db/shop?schema=sessions sessions.redb

The keys in --key-file are those of both stores.";

/// Where the sessions of another library are, and where they go.
#[derive(Debug, Args)]
pub(crate) struct FromArguments {
    /// Reads the sessions of another library from a file of SQLite, which is not changed
    #[arg(long, value_enum, value_name = "LIBRARY")]
    pub(crate) from: Option<SourceFormat>,
    /// The table, if the application has named it otherwise than the library does
    #[arg(long, value_name = "NAME", requires = "from")]
    pub(crate) table: Option<String>,
    /// The container and the package that the values go to: tower-sessions, axum-session or express-session
    #[arg(long, value_name = "NAME", requires = "from")]
    pub(crate) container: Option<String>,
    /// A file with the secret that express-session signs its cookie with, in its first line. The whole cookie is the
    /// id then
    #[arg(long, value_name = "FILE", requires = "from")]
    pub(crate) cookie_secret_file: Option<PathBuf>,
    /// Creates the store if there is none
    #[arg(long, requires = "from")]
    pub(crate) create: bool,
}

const FROM_HELP: &str = "\
With --from, ids are adopted as they are, so that the visitors' cookies go on working:

  tower-sessions-sqlite   An application with tower-sessions changes its store to that of
                          tower-sessions-cloakroom-store, and nobody is logged out. Cookies that it signs or
                          encrypts work too.
  axum-session-sqlite     The id is the value of the cookie, where axum_session has no key (with_key). With one, the
                          application checks the signature, and adopts what it signs. Content that is encrypted
                          (with_database_key) cannot be read.
  express-session-sqlite  With --cookie-secret-file, the whole signed cookie is the id. Without it, the id is what the
                          cookie signs: the application checks the signature, and adopts the rest.

An application with a layer of cloakroom reads the cookie with CookieSettings::third_party(\"connect.sid\") and \
existing_only(), and the values in the package that is called as the container. Sessions keep their ends; those of \
express-session go on lasting for their maxAge after each use. docs/guide/import.md has an example for each.

Expired sessions are left out. A row that cannot be read is named by the beginning of its id, and the exit code is 1. An \
import that was broken off goes on with --on-duplicate skip. Stop the application for the last import: what it changes \
afterwards is not in the store.";

#[derive(Debug, Args)]
pub(crate) struct AdminArguments {
    /// The store, as --store names it
    #[arg(value_name = "STORE", value_parser = place())]
    pub(crate) place: Option<StorePlace>,
    /// Where to listen. Beyond this machine, put a proxy with TLS in front
    #[arg(long, default_value = "127.0.0.1:7077", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// The token lets look at everything, and change nothing
    #[arg(long)]
    pub(crate) read_only: bool,
    /// A file that keeps who did what, one JSON object a line; without it, the record ends with the command
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContainersCommand {
    /// Changes settings of a container, in force when an application opens the store
    Set(SetArguments),
}

#[derive(Debug, Args)]
pub(crate) struct SetArguments {
    /// The container; "" is the unnamed one
    pub(crate) name: String,
    /// A session that is idle for longer expires, for example 30m; or never
    #[arg(long, value_parser = parse_timeout)]
    pub(crate) timeout: Option<Duration>,
    /// How precisely accesses are recorded
    #[arg(long, value_parser = parse_timeout)]
    pub(crate) resolution: Option<Duration>,
    /// The age at which a session ends; never: none
    #[arg(long, value_parser = parse_timeout)]
    pub(crate) max_lifetime: Option<Duration>,
    /// Whether the application sweeps it by itself
    #[arg(long, value_name = "YES|NO")]
    pub(crate) implicit_sweeps: Option<YesNo>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum YesNo {
    Yes,
    No,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only of this container
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Only of this owner
    #[arg(short, long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) owner: Option<String>,
    /// Only with this text in the label
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) label: Option<String>,
    /// Only idle for this long or longer
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) idle_at_least: Option<Duration>,
    /// Only idle for this long or shorter
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) idle_at_most: Option<Duration>,
    /// Only this old or older
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) age_at_least: Option<Duration>,
    /// Only this old or younger
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) age_at_most: Option<Duration>,
    /// Only this large or larger
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) size_at_least: Option<u64>,
    /// Only this large or smaller
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub(crate) size_at_most: Option<u64>,
    /// Only with a key that begins with these digits
    #[arg(long, value_name = "DIGITS")]
    pub(crate) key: Option<String>,
    /// Also sessions that have expired and are not removed yet
    #[arg(long)]
    pub(crate) expired: bool,
    /// How many at most
    #[arg(long, default_value_t = 50, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: u64,
    /// Begins with this container, and goes on into the following ones
    #[arg(long, value_name = "NAME", conflicts_with = "container")]
    pub(crate) from: Option<String>,
    /// Begins after this key; with --container or --from, unless there is one container only
    #[arg(long, value_name = "KEY")]
    pub(crate) after: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct EndArguments {
    /// Their keys
    #[arg(value_name = "KEY", required_unless_present_any = ["owner", "all"])]
    pub(crate) keys: Vec<String>,
    /// All sessions of this owner
    #[arg(long, conflicts_with_all = ["keys", "all"])]
    pub(crate) owner: Option<String>,
    /// All sessions of the store
    #[arg(long, conflicts_with = "keys")]
    pub(crate) all: bool,
    /// Does not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArguments {
    /// The new file; - is the standard output
    pub(crate) file: PathBuf,
    /// Writes only what changed since this backup. Given once for each backup so far, the whole one first
    #[arg(long, value_name = "FILE")]
    pub(crate) since: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArguments {
    /// The whole backup, then the incremental ones in their order
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// The new store, which must not exist
    #[arg(long, value_name = "PATH")]
    pub(crate) to: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Duplicates {
    /// They stay as they are
    Skip,
    /// The imported ones replace them
    Replace,
    /// The import ends with an error
    Fail,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// Lists them by their numbers, never the secrets
    List,
    /// Makes a new one, which signs new ids. Older ids go on working
    Rotate,
    /// Retires an older one: its ids do not work any more
    Retire {
        /// Its number
        number: u8,
        /// Does not ask
        #[arg(short, long)]
        yes: bool,
    },
}
