//! Atomic replacement of files.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::NamedTempFile;

/// Replaces the contents of a file, or creates it, with these permissions less the umask. A reader
/// finds either the old contents or all of `bytes`, also after a crash of the machine. No other
/// process can open the new file before it is complete. A link at the path is replaced, not
/// followed.
///
/// # Errors
///
/// If the folder cannot be written to. The old contents then stay, and no other file is left
/// behind.
///
/// ```
/// use arcp_host::replace_file::replace_file;
///
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("cursor.json");
/// replace_file(&file, 0o600, b"7")?;
/// replace_file(&file, 0o600, b"8")?;
/// assert_eq!(std::fs::read(&file)?, b"8");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn replace_file(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut fresh = beside(path, mode)?;
    fresh.write_all(bytes)?;
    fresh.as_file().sync_all()?;
    fresh.persist(path)?;
    Ok(())
}

/// Checks whether a file can be replaced, without changing it.
///
/// # Errors
///
/// If the path is a folder, or its folder cannot be written to.
pub fn can_replace(path: &Path) -> io::Result<()> {
    beside(path, 0o600)?;
    if path.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(()) }
}

/// A temporary file beside `path`, which is removed unless it replaces it.
fn beside(path: &Path, mode: u32) -> io::Result<NamedTempFile> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.permissions(Permissions::from_mode(mode)).prefix(name).suffix(".new").tempfile_in(folder)
}
