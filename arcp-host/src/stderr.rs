//! What a person at the terminal is told. Perhaps nobody is there any more:
//! that ends nothing, where `eprintln!` would end a thread.

use std::fmt::Arguments;
use std::io::Write as _;

/// Writes a line to stderr, if that can be.
///
/// ```
/// arcp_host::stderr::say(format_args!("arcp: {} jobs", 3));
/// ```
pub fn say(line: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
