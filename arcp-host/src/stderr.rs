//! Messages to the person at the terminal. A closed stderr is ignored, where `eprintln!` would
//! panic.

use std::fmt::Arguments;
use std::io::Write as _;

/// Writes a line to stderr, and ignores errors. It waits for a slow reader, so a server writes to
/// [`server_log`](crate::server_log) instead.
///
/// ```
/// arcp_host::stderr::say(format_args!("arcp: {} jobs", 3));
/// ```
pub fn say(line: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// The text with every control character escaped, and every character that changes the writing
/// direction. So the text can neither control a terminal nor pretend to be another line or text.
///
/// ```
/// assert_eq!(arcp_host::stderr::visible("a\x1b[2J\nb"), "a\\u{1b}[2J\\nb");
/// assert_eq!(arcp_host::stderr::visible("a\u{202e}b"), "a\\u{202e}b");
/// ```
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

fn steers(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns
}
