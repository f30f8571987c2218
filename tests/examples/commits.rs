//! Commits a number of batches to a store in a file, so that the cost can be counted: `commits FILE BATCHES`.

use arcp_host::sqlite::{Durability, SqliteStore};
use arcp_host::store::Store as _;
use arcp_proto::id::{LogPos, SessionId};
use arcp_proto::runtime::{Batch, Record};
use arcp_proto::secret::Secret;
use ulid::Ulid;

fn main() {
    let mut args = std::env::args().skip(1);
    let (file, batches) = (args.next().expect("FILE"), args.next().expect("BATCHES"));
    let mut store = SqliteStore::open(file.as_ref(), Durability::Full).expect("it opens");
    store.load(&mut |_, _| {}).expect("loaded");
    for n in 1..=batches.parse().expect("a number") {
        let session = SessionId::from_ulid(Ulid::from_parts(n, 1));
        let token = Secret::new(n.to_string()).digest();
        let records = vec![Record::TokenRotated { session, token }];
        store.commit(&[Batch { first: LogPos(n), records: records.into() }]).expect("committed");
    }
}
