//! What is printed, and how times and strangers' texts are.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write as _};
use std::time::Duration;

use session_core::{Lineage, Timestamp};

use crate::failure::Failure;

/// Prints an answer. That nobody reads it to its end (`sessions list 7 | head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::failed(format_args!(
            "cannot write the answer: {error}"
        ))),
        _ => Ok(()),
    }
}

/// Says something beside the answer.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// An instant, and how far off it is.
pub(crate) fn when(instant: Timestamp, now: Timestamp) -> String {
    match instant > now {
        true => format!("{instant} (in {})", rough(instant.since(now))),
        false => format!("{instant} ({} ago)", rough(now.since(instant))),
    }
}

/// A duration by its two largest units.
pub(crate) fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m"),
        3600..86_400 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// A lineage is a random number, told apart at a glance by its digits.
pub(crate) fn lineage(lineage: Lineage) -> String {
    format!("{:016x}", lineage.get())
}

/// A text that a client chose, such as its user agent: nothing in it moves the cursor, nor turns
/// what stands around it.
pub(crate) fn harmless(text: &str) -> String {
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match odd(c) {
            true => shown.extend(c.escape_unicode()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_by_two_units() {
        let told = |seconds| rough(Duration::from_secs(seconds));
        assert_eq!(
            [told(0), told(61), told(3_661), told(90_000)],
            ["0s", "1m", "1h 1m", "1d 1h"]
        );
    }

    #[test]
    fn what_moves_the_cursor_is_escaped() {
        assert_eq!(
            harmless("a\u{1b}[2J\u{202e}é\n"),
            r"a\u{1b}[2J\u{202e}é\u{a}"
        );
    }
}
