//! Transfers of a file over a connection that breaks: no byte that arrived is sent twice.

use std::fs::File;
use std::io::{Cursor, Read as _, Seek as _};
use std::time::Duration;

use arcp_blocking::artifacts::{self, PART_BYTES, TransferError};
use arcp_blocking::{Client, Target};
use arcp_proto::client::ClientConfig;
use arcp_proto::model::artifact::ArtifactRef;
use arcp_proto::model::request::Credential;
use arcp_proto::secret::Secret;
use arcp_tests::cut::{Carried, Carrier};
use arcp_tests::server::Running;

const PART: u64 = PART_BYTES as u64;
/// What else goes over a connection than the bytes of a file.
const TALK: u64 = PART / 4;

fn client(url: &str) -> Client {
    let target: Target = url.parse().expect("a URL");
    let config = ClientConfig::new("it", "1", Credential::Bearer(Secret::new("tok-a".into())));
    // Whoever is cut off gives up at once.
    Client::connect(target, ClientConfig { give_up_after: Some(Duration::ZERO), ..config }).expect("a session")
}

/// A runtime that keeps artifacts for an hour.
fn keeping() -> Running {
    Running::start(&[], |config| config.timing.artifact_retention = Some(Duration::from_secs(3600)))
}

/// Six parts of which no two bytes in a row are the same.
fn left(server: &Running) -> (ArtifactRef, Vec<u8>) {
    let bytes: Vec<u8> = (0..6 * PART / 4).flat_map(|n| (n as u32).to_le_bytes()).collect();
    let mut source = Cursor::new(&bytes);
    let terms = artifacts::terms_of("a/b".parse().expect("a media type"), &mut source).expect("readable");
    (artifacts::upload(&client(&server.url()), terms, &mut source).expect("kept"), bytes)
}

fn came(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().expect("it is a file");
    file.read_to_end(&mut bytes).expect("readable");
    bytes
}

#[test]
fn a_download_that_was_cut_in_its_middle_goes_on_from_where_it_was() {
    let server = keeping();
    let (kept, bytes) = left(&server);
    let carrier = Carrier::to(server.address);
    let mut file = tempfile::tempfile().expect("a file");
    carrier.cut_after(Carried { up: u64::MAX, down: 4 * PART + PART / 2 });
    let cut = artifacts::download(&client(&carrier.url()), &kept.id, &mut file);
    assert!(carrier.is_cut() && matches!(cut, Err(TransferError::Client(_))), "{cut:?}");
    let there = came(&mut file);
    assert!(there.len() as u64 == 4 * PART && bytes.starts_with(&there), "{} bytes came", there.len());

    carrier.mend(server.address);
    let before = carrier.carried();
    artifacts::download(&client(&carrier.url()), &kept.id, &mut file).expect("it comes");
    assert!(came(&mut file) == bytes);
    let down = carrier.carried().down - before.down;
    assert!((2 * PART..2 * PART + TALK).contains(&down), "two parts were missing, {down} bytes came");

    // There is nothing left to fetch, and that is held against the digest.
    let before = carrier.carried();
    artifacts::download(&client(&carrier.url()), &kept.id, &mut file).expect("it is there");
    let down = carrier.carried().down - before.down;
    assert!(came(&mut file) == bytes && down < TALK, "{down} bytes came for nothing");
}

#[test]
fn an_upload_that_was_cut_in_its_middle_goes_on_from_where_it_was() {
    let server = keeping();
    let bytes: Vec<u8> = (0..6 * PART / 4).flat_map(|n| (n as u32).to_le_bytes()).collect();
    let mut source = Cursor::new(&bytes);
    let terms = artifacts::terms_of("a/b".parse().expect("a media type"), &mut source).expect("readable");
    let carrier = Carrier::to(server.address);
    carrier.cut_after(Carried { up: 4 * PART + PART / 2, down: u64::MAX });
    let cut = artifacts::upload(&client(&carrier.url()), terms.clone(), &mut source);
    assert!(carrier.is_cut() && matches!(cut, Err(TransferError::Client(_))), "{cut:?}");
    carrier.mend(server.address);
    let before = carrier.carried();
    let kept = artifacts::upload(&client(&carrier.url()), terms, &mut source).expect("kept");
    let up = carrier.carried().up - before.up;
    assert!((2 * PART..2 * PART + TALK).contains(&up), "two parts were missing, {up} bytes were sent");
    let mut file = tempfile::tempfile().expect("a file");
    artifacts::download(&client(&server.url()), &kept.id, &mut file).expect("it comes");
    assert!(came(&mut file) == bytes);
}
