//! The load generator finds no fault in the program: a little of every row of `cargo bench --bench load`.

use std::path::{Path, PathBuf};

use arcp_load::frames::Family;
use arcp_load::rows::ROWS;
use arcp_load::server::{Program, Store};

fn is_counted(tokio: bool) {
    let program = Program::Arcp { path: PathBuf::from(env!("CARGO_BIN_EXE_arcp")), tokio };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("load-{}-{tokio}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    for store in [Store::Memory, Store::File] {
        let server = program.start(store, &folder).expect("it starts");
        for row in ROWS.iter().filter(|row| row.store == store) {
            for family in Family::ALL {
                let round = row.round(&program, &server, family, 0.001);
                let figure = round.unwrap_or_else(|fault| panic!("{}, {}: {fault}", row.name, family.name())).figure;
                // Ten sessions may find the memory that others gave back.
                assert!(figure > 0.0 || row.name.starts_with("memory"), "{}, {}: {figure}", row.name, family.name());
            }
        }
    }
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn every_row_is_counted_with_threads() {
    is_counted(false);
}

#[test]
fn every_row_is_counted_with_tokio() {
    is_counted(true);
}
