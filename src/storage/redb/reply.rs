//! How the threads of the engine answer those who ask them.

use crate::error::Result;
use futures_channel::oneshot;

/// Where the answer to a question goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;
