//! Progress of long work, on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::Duration;

/// How often it is drawn while nothing happens.
const TICK: Duration = Duration::from_millis(120);

pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Of work whose end is known: this many `what`.
    pub(crate) fn of(total: u64, what: &'static str) -> Self {
        let template = "{msg} {wide_bar} {pos}/{len} {eta}";
        Self::drawn(ProgressBar::new(total), template, what)
    }

    /// Of work whose end is not known.
    pub(crate) fn open(what: &'static str) -> Self {
        Self::drawn(
            ProgressBar::no_length(),
            "{spinner} {msg} {human_pos} {elapsed}",
            what,
        )
    }

    fn drawn(bar: ProgressBar, template: &str, what: &'static str) -> Self {
        // The standard error may be drawn to a terminal that says it can do nothing.
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if !std::io::stderr().is_terminal() || is_dumb {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> ").tick_chars("|/-\\ "));
        }
        bar.set_message(what);
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    pub(crate) fn at(&self, position: u64) {
        self.0.set_position(position);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
