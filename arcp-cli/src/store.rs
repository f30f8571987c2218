//! `arcp store`.

use std::io::Write as _;
use std::path::Path;

use arcp_host::sqlite::{Damage, OpenError, backup, check, repair};

use crate::args::Store;
use crate::exit::{Exit, Failure};

/// Checks, repairs or backs up a store.
pub fn run(args: Store) -> Result<Exit, Failure> {
    match args {
        Store::Check { file } => tell(&file, &check(&file).map_err(failure)?),
        Store::Repair { file } => repaired(&file),
        Store::Backup { file, to } => {
            let to = to.unwrap_or_else(|| file.with_added_extension("backup"));
            let damage = backup(&file, &to).map_err(failure)?;
            writeln!(std::io::stdout(), "{} was copied to {}", file.display(), to.display())?;
            tell(&to, &damage)
        }
    }
}

fn repaired(file: &Path) -> Result<Exit, Failure> {
    let mut out = std::io::stdout();
    let shown = file.display();
    let Some(done) = repair(file).map_err(failure)? else {
        writeln!(out, "{shown}: nothing is damaged, and nothing was changed")?;
        return Ok(Exit::Success);
    };
    for damage in &done.damage {
        writeln!(out, "{damage}")?;
    }
    for (what, gone) in [("job", &done.jobs), ("session", &done.sessions)] {
        for id in gone {
            writeln!(out, "{what} {id} was taken out")?;
        }
    }
    writeln!(out, "{shown}: a runtime can start with it; as it was, it is kept in {}", done.kept.display())?;
    Ok(Exit::Success)
}

fn tell(file: &Path, damage: &[Damage]) -> Result<Exit, Failure> {
    let mut out = std::io::stdout();
    let shown = file.display();
    for damage in damage {
        writeln!(out, "{damage}")?;
    }
    if damage.is_empty() {
        writeln!(out, "{shown}: nothing is damaged")?;
        return Ok(Exit::Success);
    }
    let advice = format!("{shown}: {} places are damaged; `arcp store repair {shown}` takes them out", damage.len());
    Err(Failure::new(Exit::Failed, advice))
}

/// The failure for a store that cannot be opened. That another process has it open is no mistake of the command line.
pub fn failure(error: OpenError) -> Failure {
    let exit = match &error {
        OpenError::Damaged { .. } | OpenError::LogMissing { .. } | OpenError::InUse(_) | OpenError::DiskFull(_) => {
            Exit::Failed
        }
        OpenError::Newer { .. } | OpenError::Foreign(_) | OpenError::Unusable { .. } => Exit::Usage,
    };
    Failure::new(exit, error.to_string())
}
