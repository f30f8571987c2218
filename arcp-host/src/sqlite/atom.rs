//! What is written whole or not at all, by statements that stay prepared.

use std::ops::Deref;

use rusqlite::Connection;

/// A transaction that is under way; dropped, nothing of it is written.
pub(super) struct Atom<'c> {
    connection: &'c Connection,
    open: bool,
}

impl<'c> Atom<'c> {
    /// # Errors
    ///
    /// What SQLite says, such as that somebody else writes to the file.
    pub(super) fn begin(connection: &'c Connection) -> rusqlite::Result<Atom<'c>> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Atom { connection, open: true })
    }

    /// # Errors
    ///
    /// What SQLite says: then nothing of it is written.
    pub(super) fn commit(mut self) -> rusqlite::Result<()> {
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        self.open = false;
        Ok(())
    }
}

impl Deref for Atom<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl Drop for Atom<'_> {
    fn drop(&mut self) {
        if self.open && !self.connection.is_autocommit() {
            // Where that fails SQLite does it before it writes again.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }
}
