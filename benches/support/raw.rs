//! The same rows in plain redb, to see what the engine itself costs.

use super::{Dice, KEY, Outcome, PACKAGES};
use redb::{Database, TableDefinition};

/// Four bytes of container and sixteen of client; for a package, its id behind them.
pub(crate) type Client = [u8; 20];
pub(crate) const SESSIONS: TableDefinition<&Client, &[u8]> = TableDefinition::new("sessions");
pub(crate) const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("packages");

pub(crate) struct Raw {
    pub(crate) database: Database,
    pub(crate) clients: Vec<Client>,
}

impl Raw {
    /// `count` sessions of two packages, 1,000 a commit.
    pub(crate) fn fill(database: Database, count: usize) -> Outcome<Self> {
        let mut dice = Dice::new(2);
        let mut clients = Vec::with_capacity(count);
        while clients.len() < count {
            let txn = database.begin_write()?;
            {
                let mut sessions = txn.open_table(SESSIONS)?;
                let mut rows = txn.open_table(ROWS)?;
                for _ in 0..(count - clients.len()).min(1000) {
                    let client = client(&mut dice);
                    sessions.insert(&client, [7; 90].as_slice())?;
                    for package in PACKAGES {
                        rows.insert(&*key(&client, package), &*row(&mut dice))?;
                    }
                    clients.push(client);
                }
            }
            txn.commit()?;
        }
        Ok(Self { database, clients })
    }
}

fn client(dice: &mut Dice) -> Client {
    let mut client = [0; 20];
    let (_, random) = client.split_at_mut(4);
    for bytes in random.chunks_mut(8) {
        bytes.copy_from_slice(&dice.roll().to_le_bytes());
    }
    client
}

pub(crate) fn key(client: &Client, package: &str) -> Vec<u8> {
    [client.as_slice(), package.as_bytes()].concat()
}

/// About as long as a row of ours: the value, its key, and some thirty bytes around them.
pub(crate) fn row(dice: &mut Dice) -> Vec<u8> {
    let mut row = dice.value().into_bytes();
    row.extend_from_slice(KEY.as_bytes());
    row.extend_from_slice(&[7; 33]);
    row
}
