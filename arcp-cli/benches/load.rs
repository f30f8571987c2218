//! The program `arcp` under load, beside the ceiling and published servers.
//!
//! ```text
//! cargo bench --bench load
//! cargo bench --bench load -- --quick
//! cargo bench --bench load -- --write
//! ```

use std::process::ExitCode;

fn main() -> ExitCode {
    arcp_load::bench::main(env!("CARGO_BIN_EXE_arcp"), env!("CARGO_TARGET_TMPDIR"))
}
