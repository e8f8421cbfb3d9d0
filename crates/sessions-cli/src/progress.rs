//! How far a warm-up has come, for whoever watches.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tier_cache::WarmedUp;

use crate::output::note;

/// On standard error: a bar on a terminal, else a line for each tenth.
pub(crate) enum Progress {
    Bar(ProgressBar),
    Lines { tenths: Option<u64> },
}

impl Progress {
    pub(crate) fn new() -> Self {
        if !io::stderr().is_terminal() {
            return Self::Lines { tenths: None };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = "{bar:40} {human_pos} of {human_len} sessions, {per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    pub(crate) fn tell(&mut self, so_far: WarmedUp) {
        match self {
            Self::Bar(bar) => {
                bar.set_length(so_far.of);
                bar.set_position(so_far.done);
            }
            Self::Lines { tenths } => {
                let now = (so_far.done * 10).checked_div(so_far.of).unwrap_or(10);
                if *tenths != Some(now) {
                    *tenths = Some(now);
                    note(format_args!("{} of {} sessions", so_far.done, so_far.of));
                }
            }
        }
    }
}

impl Drop for Progress {
    /// Whatever ends the command leaves no half bar behind.
    fn drop(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
