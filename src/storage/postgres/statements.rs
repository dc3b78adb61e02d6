//! The SQL of this engine. A connection prepares each statement once, at its first use.

use tokio_postgres::types::Type;

/// A parameter that is an array, for `unnest`. With the parameter itself, the server knows how many elements it has. It then
/// takes a plan that is made anew for each use to be cheaper for fewer than ten, and making it takes longer than the rest.
macro_rules! keys {
    () => {
        "(SELECT $1)"
    };
}

/// A column of a client's row, unless the row has the version that the process knows.
macro_rules! unless_known {
    ($known:literal, $column:expr) => {
        concat!(
            " CASE WHEN c.version IS DISTINCT FROM ",
            $known,
            " THEN ",
            $column,
            " END"
        )
    };
}

/// A column of a client's packages with rows of their own.
macro_rules! packages {
    ($column:literal) => {
        concat!(
            "CASE WHEN c.spilled > 0 THEN ARRAY(SELECT ",
            $column,
            " FROM {s}cloakroom_package p WHERE p.client = c.client ORDER BY p.place) END"
        )
    };
}

/// What is read of a client, of which the process knows the row of a version, or none. Always one row at least, so that the
/// epoch and the server's time come along. The time is computed once, not for each row.
macro_rules! load {
    ($clients:expr, $known:literal) => {
        load!(
            $clients,
            $known,
            unless_known!($known, packages!("p.place")),
            unless_known!($known, packages!("p.body"))
        )
    };
    ($clients:expr, $known:literal, $places:expr, $bodies:expr) => {
        concat!(
            "SELECT m.epoch, m.now, c.client, c.version, c.seen, c.sweep_at,",
            unless_known!($known, "c.past"),
            ",",
            unless_known!($known, "c.body"),
            ",",
            unless_known!($known, "c.ended"),
            ",",
            unless_known!($known, "c.owners"),
            ",",
            $places,
            ",",
            $bodies,
            " FROM (SELECT epoch, (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now",
            " FROM {s}cloakroom_meta WHERE one = 1) m LEFT JOIN ",
            $clients
        )
    };
}

const EPOCH: &str = "SELECT epoch, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, sha256(settings) \
     FROM {s}cloakroom_meta WHERE one = 1";

const LOAD_ONE: &str = load!("{s}cloakroom_client c ON c.client = $1", "$2");

macro_rules! many {
    () => {
        concat!(
            "(unnest(",
            keys!(),
            ", $2) AS k(client, known) JOIN {s}cloakroom_client c ON c.client = k.client) ON true"
        )
    };
}

const LOAD_MANY: &str = load!(many!(), "k.known");

/// Without the packages that have rows of their own: to remove them, their names suffice.
const LOAD_SWEPT: &str = load!(many!(), "k.known", " NULL::bytea[]", " NULL::bytea[]");

/// No row at all, if clients that were read before have other versions, or others that were absent are there.
const LOAD_CHECKED: &str = concat!(
    load!(
        "{s}cloakroom_client c ON c.client = ANY($1)",
        "NULL::bigint"
    ),
    " WHERE cardinality($2) = (SELECT count(*) FROM unnest($2, $3) AS w(client, version)",
    " JOIN {s}cloakroom_client v ON v.client = w.client AND v.version = w.version)",
    " AND NOT EXISTS (SELECT 1 FROM {s}cloakroom_client v WHERE v.client = ANY($4))"
);

/// Rows that stand for absent clients, in the order in which rows are locked.
const PLACE: &str = "INSERT INTO {s}cloakroom_client (client, version, past, seen, sweep_at, spilled) \
     SELECT n.client, n.version, '', n.seen, $4, 0 \
     FROM unnest($1, $2, $3) AS n(client, version, seen) ORDER BY n.client \
     ON CONFLICT (client) DO NOTHING";

const LOCK: &str =
    "SELECT client FROM {s}cloakroom_client WHERE client = ANY($1) ORDER BY client FOR UPDATE";

/// The epoch, unless it is later than `$11`, in the server's time. Sets for how long the statement waits for locks: so that
/// the answer arrives before that, or for `$wait` milliseconds. It holds until the end of the transaction, so it passes a
/// connection pooler.
macro_rules! epoch_in_time {
    () => {
        epoch_in_time!(
            "least(1000000000, greatest(1, ($11 - (extract(epoch FROM clock_timestamp()) * 1000)::bigint) * 3 / 4))::text"
        )
    };
    ($wait:literal) => {
        concat!(
            "(SELECT epoch FROM {s}cloakroom_meta WHERE one = 1",
            " AND $11 > (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
            " AND set_config('lock_timeout', ",
            $wait,
            ", true) IS NOT NULL)"
        )
    };
}

/// The same for a statement on which other commits wait. Who holds the lock of a row is about to change it, so it would be
/// waited for in vain. The commit goes behind the lock by itself.
macro_rules! epoch_soon {
    () => {
        epoch_in_time!("'50'")
    };
}

macro_rules! found {
    () => {
        concat!(
            "INSERT INTO {s}cloakroom_client",
            " (client, version, past, seen, body, ended, owners, sweep_at, spilled)",
            " SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9 WHERE ",
            epoch_soon!(),
            " = $10 ON CONFLICT (client) DO NOTHING RETURNING client"
        )
    };
}

macro_rules! change {
    () => {
        concat!(
            "UPDATE {s}cloakroom_client SET version = $2, past = $3, seen = $4, body = $5, ended = $6,",
            " owners = $7, sweep_at = $8, spilled = $9 WHERE client = $1 AND version = $12 AND seen = $13 AND ",
            epoch_soon!(),
            " = $10 RETURNING client"
        )
    };
}

/// A statement that writes a row, with packages that have rows of their own.
macro_rules! large {
    ($row:expr, $places:literal, $bodies:literal) => {
        concat!(
            "WITH guard AS (",
            $row,
            "), packages AS (INSERT INTO {s}cloakroom_package (client, place, body)",
            " SELECT g.client, n.place, n.body FROM guard g, unnest(",
            $places,
            ", ",
            $bodies,
            ") AS n(place, body)",
            " ON CONFLICT (client, place) DO UPDATE SET body = excluded.body)",
            " SELECT client FROM guard"
        )
    };
}

const FOUND: &str = found!();

const CHANGE: &str = change!();

const FOUND_LARGE: &str = large!(found!(), "$12", "$13");

const CHANGE_LARGE: &str = large!(change!(), "$14", "$15");

const FOUND_MANY: &str = concat!(
    "INSERT INTO {s}cloakroom_client",
    " (client, version, past, seen, body, ended, owners, sweep_at, spilled)",
    " SELECT w.client, w.version, w.past, w.seen, w.body, w.ended, w.owners::bytea[], w.sweep_at, w.spilled",
    " FROM unnest(",
    keys!(),
    ", $2, $3, $4, $5, $6, $7, $8, $9)",
    " AS w(client, version, past, seen, body, ended, owners, sweep_at, spilled) WHERE ",
    epoch_soon!(),
    " = $10 ORDER BY w.client ON CONFLICT (client) DO NOTHING RETURNING client"
);

/// Waits for no lock: a row that is locked is left as it is.
const CHANGE_MANY: &str = concat!(
    "WITH held AS (SELECT w.*",
    " FROM unnest(",
    keys!(),
    ", $2, $3, $4, $5, $6, $7, $8, $9, $12, $13)",
    " AS w(client, version, past, seen, body, ended, owners, sweep_at, spilled, replaced, seen_before)",
    " JOIN {s}cloakroom_client c ON c.client = w.client",
    " WHERE c.version = w.replaced AND c.seen = w.seen_before AND ",
    epoch_soon!(),
    " = $10 FOR UPDATE OF c SKIP LOCKED)",
    " UPDATE {s}cloakroom_client c SET version = h.version, past = h.past, seen = h.seen, body = h.body,",
    " ended = h.ended, owners = h.owners::bytea[], sweep_at = h.sweep_at, spilled = h.spilled",
    " FROM held h WHERE c.client = h.client RETURNING c.client"
);

/// A statement of a transaction that is an error if it does not write this number of rows, so that nothing of the
/// transaction takes place. What it does must be a `RETURNING` statement.
macro_rules! rows {
    ($count:literal, $write:expr) => {
        concat!(
            "WITH done AS (",
            $write,
            ") SELECT 1 / CASE WHEN count(*) = ",
            $count,
            " THEN 1 ELSE 0 END FROM done"
        )
    };
}

/// Within a transaction, what must not be written is an error, too.
const INSERT: &str = concat!(
    "INSERT INTO {s}cloakroom_client",
    " (client, version, past, seen, body, ended, owners, sweep_at, spilled)",
    " SELECT w.client, CASE WHEN ",
    epoch_in_time!(),
    " = $10 THEN w.version END, w.past, w.seen, w.body, w.ended, w.owners::bytea[], w.sweep_at, w.spilled",
    " FROM unnest(",
    keys!(),
    ", $2, $3, $4, $5, $6, $7, $8, $9)",
    " AS w(client, version, past, seen, body, ended, owners, sweep_at, spilled)"
);

const REPLACE: &str = rows!(
    "cardinality($1)",
    concat!(
        "UPDATE {s}cloakroom_client c SET version = CASE WHEN ",
        epoch_in_time!(),
        " = $10 THEN w.version END, past = w.past, seen = w.seen, body = w.body, ended = w.ended,",
        " owners = w.owners::bytea[], sweep_at = w.sweep_at, spilled = w.spilled",
        " FROM unnest(",
        keys!(),
        ", $2, $3, $4, $5, $6, $7, $8, $9, $12, $13)",
        " AS w(client, version, past, seen, body, ended, owners, sweep_at, spilled, replaced, seen_before)",
        " WHERE c.client = w.client AND c.version = w.replaced AND c.seen = w.seen_before RETURNING c.client"
    )
);

const REMOVE: &str = rows!(
    "cardinality($1)",
    concat!(
        "DELETE FROM {s}cloakroom_client c USING unnest(",
        keys!(),
        ", $2, $3) AS w(client, version, seen)",
        " WHERE c.client = w.client AND c.version = w.version AND c.seen = w.seen RETURNING c.client"
    )
);

const PUT_PACKAGES: &str = concat!(
    "INSERT INTO {s}cloakroom_package (client, place, body)",
    " SELECT n.client, n.place, n.body FROM unnest(",
    keys!(),
    ", $2, $3) AS n(client, place, body)",
    " ON CONFLICT (client, place) DO UPDATE SET body = excluded.body"
);

const DROP_PACKAGES: &str = concat!(
    "DELETE FROM {s}cloakroom_package p USING unnest(",
    keys!(),
    ", $2) AS n(client, place) WHERE p.client = n.client AND p.place = n.place"
);

/// Waits for no lock: a row that is locked is left as it is.
const TOUCH: &str = concat!(
    "WITH held AS (SELECT c.client, t.seen FROM unnest(",
    keys!(),
    ", $2, $3) AS t(client, old, seen)",
    " JOIN {s}cloakroom_client c ON c.client = t.client WHERE c.seen = t.old",
    " ORDER BY c.client FOR UPDATE OF c SKIP LOCKED)",
    " UPDATE {s}cloakroom_client c SET seen = h.seen FROM held h WHERE c.client = h.client RETURNING c.client"
);

const NOTE: &str = rows!(
    "1",
    "UPDATE {s}cloakroom_client SET version = $2, past = $3, seen = $4 \
     WHERE client = $1 AND version = $5 AND seen = $6 RETURNING client"
);

const PAGE: &str = "SELECT client, version, seen, sweep_at, past, body, ended, owners \
     FROM {s}cloakroom_client WHERE body IS NOT NULL AND client > $1 ORDER BY client LIMIT $2";

const OWNED: &str = "SELECT client, version, seen, sweep_at, past, body, ended, owners \
     FROM {s}cloakroom_client WHERE owners && $1 ORDER BY client";

const SETTINGS: &str =
    "SELECT epoch, settings, identity, keys FROM {s}cloakroom_meta WHERE one = 1";

const CONFIGURE: &str = "UPDATE {s}cloakroom_meta SET epoch = $2, settings = $3 \
     WHERE one = 1 AND epoch = $1 RETURNING epoch";

const SET_KEYS: &str = "UPDATE {s}cloakroom_meta SET keys = $3 WHERE one = 1 AND epoch = $1 \
     AND keys IS NOT DISTINCT FROM $2 RETURNING epoch";

/// New keys with settings of a new number, so that no process that does not know them writes anything.
const FENCE: &str = "UPDATE {s}cloakroom_meta SET epoch = $2, settings = $3, keys = $5 \
     WHERE one = 1 AND epoch = $1 AND keys IS NOT DISTINCT FROM $4 RETURNING epoch";

const EXPIRED: &str = "DELETE FROM {s}cloakroom_client WHERE client IN (SELECT client FROM {s}cloakroom_client \
     WHERE sweep_at < $1 AND NOT has_sessions ORDER BY sweep_at LIMIT $2 FOR UPDATE SKIP LOCKED) \
     AND body IS NULL RETURNING client";

const AHEAD: &str = "SELECT client, version, seen, sweep_at, past, body, ended, owners \
     FROM {s}cloakroom_client WHERE sweep_at > $1 AND ended IS NOT NULL AND NOT has_sessions \
     ORDER BY sweep_at DESC LIMIT $2";

/// The clients whose sessions may be over, and those whose rows a wrong clock wrote.
const STALE: &str = "SELECT client FROM {s}cloakroom_client WHERE has_sessions AND client > $1 \
     AND (sweep_at <= $2 OR sweep_at > $3) ORDER BY client LIMIT $4";

const ROWS: &str = "SELECT client, version, seen, sweep_at, past, body, ended, owners \
     FROM {s}cloakroom_client WHERE client = ANY($1) AND body IS NOT NULL ORDER BY client";

/// About how many clients have sessions. To count many would take too long.
const COUNT: &str = "SELECT greatest((SELECT count(*) FROM \
     (SELECT FROM {s}cloakroom_client WHERE has_sessions LIMIT 100000) few), \
     (SELECT reltuples::bigint FROM pg_catalog.pg_class WHERE oid = (SELECT tableoid FROM {s}cloakroom_client LIMIT 1)))";

/// It waits for no commit, and none has to wait for it for long.
const MOVE_SWEEPS: &str = "UPDATE {s}cloakroom_client c SET sweep_at = t.at \
     FROM unnest($1, $2, $3) AS t(client, version, at) \
     WHERE c.client = t.client AND c.version = t.version AND c.client IN \
     (SELECT l.client FROM {s}cloakroom_client l WHERE l.client = ANY($1) FOR UPDATE SKIP LOCKED)";

const LEASE: &str = "INSERT INTO {s}cloakroom_lease AS l (what, holder, until) VALUES \
     (1, $1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint + $2) \
     ON CONFLICT (what) DO UPDATE SET holder = excluded.holder, until = excluded.until \
     WHERE l.holder = excluded.holder \
     OR l.until < (extract(epoch FROM clock_timestamp()) * 1000)::bigint RETURNING what";

const END_LEASE: &str = "UPDATE {s}cloakroom_lease SET until = 0 WHERE what = 1 AND holder = $1";

/// The parameters of a row, the epoch, and until when it may be written.
const COLUMNS: usize = 11;

/// The same, then the version and the times that are replaced, then the large packages.
const ROW: &[Type] = &[
    Type::UUID,
    Type::INT8,
    Type::BYTEA,
    Type::BYTEA,
    Type::BYTEA,
    Type::BYTEA,
    Type::BYTEA_ARRAY,
    Type::INT8,
    Type::INT4,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::BYTEA,
    Type::BYTEA_ARRAY,
    Type::BYTEA_ARRAY,
];

const NEW_LARGE_ROW: &[Type] = &[
    Type::UUID,
    Type::INT8,
    Type::BYTEA,
    Type::BYTEA,
    Type::BYTEA,
    Type::BYTEA,
    Type::BYTEA_ARRAY,
    Type::INT8,
    Type::INT4,
    Type::INT8,
    Type::INT8,
    Type::BYTEA_ARRAY,
    Type::BYTEA_ARRAY,
];

/// Those of many rows.
const MANY_ROWS: &[Type] = &[
    Type::UUID_ARRAY,
    Type::INT8_ARRAY,
    Type::BYTEA_ARRAY,
    Type::BYTEA_ARRAY,
    Type::BYTEA_ARRAY,
    Type::BYTEA_ARRAY,
    Type::TEXT_ARRAY,
    Type::INT8_ARRAY,
    Type::INT4_ARRAY,
    Type::INT8,
    Type::INT8,
    Type::INT8_ARRAY,
    Type::BYTEA_ARRAY,
];

const CLIENT: Type = Type::UUID;
const NUMBER: Type = Type::INT8;
const BYTES: Type = Type::BYTEA;
const CLIENTS: Type = Type::UUID_ARRAY;
const NUMBERS: Type = Type::INT8_ARRAY;
const MANY: Type = Type::BYTEA_ARRAY;

/// Each with its text and the types of its parameters.
macro_rules! statements {
    ($($name:ident: $text:ident, $types:expr;)*) => {
        /// A statement with parameters.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Statement {
            $($name,)*
        }

        /// All statements, by number.
        pub(super) const ALL: &[Statement] = &[$(Statement::$name,)*];

        impl Statement {
            /// The text, in which `{s}` stands for the schema.
            pub(super) fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The types of the parameters. They are stated, because a statement that is not prepared needs them.
            pub(super) fn types(self) -> &'static [Type] {
                match self {
                    $(Self::$name => $types,)*
                }
            }
        }
    };
}

statements! {
    Epoch: EPOCH, &[];
    LoadOne: LOAD_ONE, &[CLIENT, NUMBER];
    LoadMany: LOAD_MANY, &[CLIENTS, NUMBERS];
    LoadSwept: LOAD_SWEPT, &[CLIENTS, NUMBERS];
    LoadChecked: LOAD_CHECKED, &[CLIENTS, CLIENTS, NUMBERS, CLIENTS];
    Place: PLACE, &[CLIENTS, NUMBERS, MANY, NUMBER];
    Lock: LOCK, &[CLIENTS];
    Found: FOUND, ROW.split_at(COLUMNS).0;
    Change: CHANGE, ROW.split_at(COLUMNS + 2).0;
    FoundMany: FOUND_MANY, MANY_ROWS.split_at(COLUMNS).0;
    ChangeMany: CHANGE_MANY, MANY_ROWS;
    FoundLarge: FOUND_LARGE, NEW_LARGE_ROW;
    ChangeLarge: CHANGE_LARGE, ROW;
    Insert: INSERT, MANY_ROWS.split_at(COLUMNS).0;
    Replace: REPLACE, MANY_ROWS;
    Remove: REMOVE, &[CLIENTS, NUMBERS, MANY];
    PutPackages: PUT_PACKAGES, &[CLIENTS, MANY, MANY];
    DropPackages: DROP_PACKAGES, &[CLIENTS, MANY];
    Touch: TOUCH, &[CLIENTS, MANY, MANY];
    Note: NOTE, &[CLIENT, NUMBER, BYTES, BYTES, NUMBER, BYTES];
    Page: PAGE, &[CLIENT, NUMBER];
    Owned: OWNED, &[MANY];
    Settings: SETTINGS, &[];
    Configure: CONFIGURE, &[NUMBER, NUMBER, BYTES];
    SetKeys: SET_KEYS, &[NUMBER, BYTES, BYTES];
    Fence: FENCE, &[NUMBER, NUMBER, BYTES, BYTES, BYTES];
    Expired: EXPIRED, &[NUMBER, NUMBER];
    Ahead: AHEAD, &[NUMBER, NUMBER];
    Stale: STALE, &[CLIENT, NUMBER, NUMBER, NUMBER];
    Rows: ROWS, &[CLIENTS];
    Count: COUNT, &[];
    MoveSweeps: MOVE_SWEEPS, &[CLIENTS, NUMBERS, NUMBERS];
    Lease: LEASE, &[BYTES, NUMBER];
    EndLease: END_LEASE, &[BYTES];
}

/// How many statements there are.
pub(super) const STATEMENTS: usize = ALL.len();

/// The texts of all statements, for one schema.
#[derive(Debug)]
pub(super) struct SchemaTexts(Vec<String>);

impl SchemaTexts {
    /// The texts for the tables of a schema; of the connection's search path, if none is given.
    pub(super) fn new(schema: Option<&str>) -> Self {
        let prefix = schema.map_or(String::new(), |schema| quoted(schema) + ".");
        let texts = ALL.iter().map(|it| it.text().replace("{s}", &prefix));
        Self(texts.collect())
    }

    pub(super) fn of(&self, statement: Statement) -> &str {
        self.0.get(statement as usize).map_or("", String::as_str)
    }
}

/// A name as SQL quotes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_statement_has_the_types_of_its_parameters() {
        for statement in ALL {
            let text = statement.text();
            let largest = (1..=20).rev().find(|n| text.contains(&format!("${n}")));
            assert_eq!(
                largest.unwrap_or(0),
                statement.types().len(),
                "{statement:?}"
            );
        }
        let texts = SchemaTexts::new(Some("a\"b"));
        let text = texts.of(Statement::Epoch);
        assert!(text.contains(r#"FROM "a""b".cloakroom_meta"#), "{text}");
    }
}
