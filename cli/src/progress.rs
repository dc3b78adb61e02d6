//! Progress of long work, on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::Duration;

/// How often it is drawn while nothing happens.
const TICK: Duration = Duration::from_millis(120);

/// Of work whose end is known.
const BAR: &str = "{msg} {wide_bar} {pos}/{len} {eta}";

pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Of work whose end is known: this many `what`.
    pub(crate) fn of(total: u64, what: &'static str) -> Self {
        Self::drawn(ProgressBar::new(total), BAR, what)
    }

    /// Of work whose end is not known, or not yet.
    pub(crate) fn open(what: &'static str) -> Self {
        Self::drawn(
            ProgressBar::no_length(),
            "{spinner} {msg} {human_pos} {elapsed}",
            what,
        )
    }

    /// How far it is, and how far it goes, if that is known.
    pub(crate) fn at_of(&self, position: u64, end: Option<u64>) {
        if let Some(end) = end.filter(|end| *end > 0)
            && self.0.length() != Some(end)
        {
            self.0.set_length(end);
            self.0.set_style(style(BAR));
        }
        self.0.set_position(position);
    }

    /// Whether anybody sees it.
    pub(crate) fn is_shown(&self) -> bool {
        !self.0.is_hidden()
    }

    fn drawn(bar: ProgressBar, template: &str, what: &'static str) -> Self {
        // The standard error may be drawn to a terminal that says it can do nothing.
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if !std::io::stderr().is_terminal() || is_dumb {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.set_style(style(template));
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

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ").tick_chars("|/-\\ ")
}
