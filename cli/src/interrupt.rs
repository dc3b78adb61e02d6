//! Ctrl-C. A command that can stop between two steps asks whether it is to. Any other ends at once: the store is then as
//! a kill leaves it, whole.

use crate::failure::INTERRUPTED;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Clone)]
pub(crate) struct Interrupt {
    /// The signal came.
    came: Arc<AtomicBool>,
    /// The process ends when it comes.
    at_once: Arc<AtomicBool>,
}

impl Interrupt {
    pub(crate) fn new() -> io::Result<Self> {
        let interrupt = Self {
            came: Arc::default(),
            at_once: Arc::new(AtomicBool::new(true)),
        };
        for signal in [SIGINT, SIGTERM] {
            let code = i32::from(INTERRUPTED);
            flag::register_conditional_shutdown(signal, code, interrupt.at_once.clone())?;
            // The second signal ends a command that does not stop.
            flag::register_conditional_shutdown(signal, code, interrupt.came.clone())?;
            flag::register(signal, interrupt.came.clone())?;
        }
        Ok(interrupt)
    }

    /// From now on the command asks.
    pub(crate) fn asks(&self) -> &Self {
        self.at_once.store(false, Ordering::SeqCst);
        self
    }

    /// Whether the command is to stop.
    pub(crate) fn has_come(&self) -> bool {
        self.came.load(Ordering::SeqCst)
    }

    pub(crate) fn flow(&self) -> ControlFlow<()> {
        match self.has_come() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}
