//! Requests that change nothing, or that may take effect twice. They are repeated if the connection is lost.

use super::backoff::Backoff;
use super::failure::Failure;
use super::pool::Borrowed;
use super::shared::Shared;
use crate::error::Result;
use tokio::time::Instant;

/// A request that is repeated until the deadline.
pub(super) struct Reading<'a> {
    pub(super) shared: &'a Shared,
    pub(super) until: Instant,
    pub(super) backoff: Backoff,
}

impl Reading<'_> {
    pub(super) async fn connection(&self) -> Result<Borrowed> {
        let connection = self.shared.connection(self.until).await;
        connection.map_err(Failure::into_error)
    }

    /// The answer to an attempt. `None` if there is to be another one.
    pub(super) async fn end<T>(
        &mut self,
        connection: Borrowed,
        answer: Result<T, Failure>,
    ) -> Result<Option<T>> {
        match answer {
            Ok(answer) => {
                connection.give_back();
                Ok(Some(answer))
            }
            Err(failure) => {
                connection.after(&failure);
                match failure.may_be_repeated() && self.backoff.pause(self.until).await {
                    true => Ok(None),
                    false => Err(failure.into_error()),
                }
            }
        }
    }
}

/// Runs a request, with a connection of this name, as often as it takes within the deadline.
macro_rules! read {
    ($shared:expr, |$connection:ident| $request:expr) => {{
        let until = $shared.deadline();
        $crate::storage::postgres::reading::read_until!($shared, until, |$connection| $request)
    }};
}
pub(super) use read;

/// The same until some moment.
macro_rules! read_until {
    ($shared:expr, $until:expr, |$connection:ident| $request:expr) => {{
        let mut reading = $crate::storage::postgres::reading::Reading {
            shared: $shared,
            until: $until,
            backoff: $crate::storage::postgres::backoff::Backoff::after_second(),
        };
        loop {
            let $connection = match reading.connection().await {
                Ok(connection) => connection,
                Err(error) => break Err(error),
            };
            let answer = reading.shared.within(reading.until, $request).await;
            match reading.end($connection, answer).await {
                Ok(Some(answer)) => break Ok(answer),
                Ok(None) => {}
                Err(error) => break Err(error),
            }
        }
    }};
}
pub(super) use read_until;
