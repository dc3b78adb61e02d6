//! The size of a run.

use crate::run::Span;
use clap::Args;
use std::time::Duration;

#[derive(Args, Clone)]
pub(crate) struct Settings {
    /// How many sessions there are. Default: 100,000; for `sweep` 1,000,000, for `http` 10,000.
    #[arg(long)]
    sessions: Option<usize>,
    /// How long each measurement runs; a tenth of it before, to warm up. Default: 10.
    #[arg(long)]
    seconds: Option<f64>,
    /// Run for as many operations instead.
    #[arg(long, conflicts_with = "seconds")]
    commits: Option<usize>,
    /// How often all is measured. Default: 3.
    #[arg(long)]
    rounds: Option<usize>,
    /// How many writers commit at a time, one after another. Default: 1, 16, 64.
    #[arg(long, value_delimiter = ',')]
    writers: Vec<usize>,
    /// Only these engines.
    #[arg(long, value_delimiter = ',')]
    pub(crate) engines: Vec<String>,
    /// One round of a second each, to see that it runs.
    #[arg(long)]
    pub(crate) quick: bool,
}

impl Settings {
    pub(crate) fn sessions(&self) -> usize {
        self.sessions_or(100_000)
    }

    pub(crate) fn sessions_or(&self, default: usize) -> usize {
        self.sessions.unwrap_or(default)
    }

    pub(crate) fn writers(&self) -> Vec<usize> {
        match &*self.writers {
            [] => vec![1, 16, 64],
            named => named.to_vec(),
        }
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    pub(crate) fn span(&self) -> Span {
        match (self.commits, self.seconds) {
            (Some(commits), _) => Span::Operations(commits),
            (None, Some(seconds)) => Span::For(Duration::from_secs_f64(seconds)),
            (None, None) if self.quick => Span::For(Duration::from_secs(1)),
            (None, None) => Span::For(Duration::from_secs(10)),
        }
    }
}
