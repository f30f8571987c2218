//! Transactions, by statements that stay prepared.

use std::ops::Deref;

use rusqlite::Connection;

/// An open transaction, which is rolled back on drop.
pub(super) struct Atom<'c> {
    connection: &'c Connection,
    open: bool,
}

impl<'c> Atom<'c> {
    /// # Errors
    ///
    /// The error of SQLite, such as that another process writes to the file.
    pub(super) fn begin(connection: &'c Connection) -> rusqlite::Result<Atom<'c>> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Atom { connection, open: true })
    }

    /// # Errors
    ///
    /// The error of SQLite; nothing is then written.
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
            // If that fails, SQLite rolls back before its next write.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }
}
