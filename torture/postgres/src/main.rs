//! `cargo run -p cloakroom-postgres-server -- COMMAND…` runs a command beside a PostgreSQL server of its own, whose address
//! is in `CLOAKROOM_TEST_POSTGRES`. The server ends with the command. It does not wait for its disk: such commands test what
//! is promised of a server that runs.

use cloakroom_postgres_server::{Server, is_available};
use std::env::args_os;
use std::io::{Write, stderr};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut arguments = args_os().skip(1);
    let Some(program) = arguments.next() else {
        return failed("usage: cloakroom-postgres-server COMMAND [ARGUMENT…]");
    };
    if !is_available() {
        return ExitCode::FAILURE;
    }
    let server = Server::builder()
        .set("fsync", "off")
        .set("full_page_writes", "off")
        .start();
    let status = Command::new(&program)
        .args(arguments)
        .env("CLOAKROOM_TEST_POSTGRES", server.url())
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => failed(&format!("{}: {error}", program.display())),
    }
}

fn failed(why: &str) -> ExitCode {
    drop(writeln!(stderr(), "{why}"));
    ExitCode::FAILURE
}
