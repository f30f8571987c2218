//! The table of the page is that of the tests: what a case comes to, or why it cannot
//! be.

use crate::scheme::{self, Case, Revoked, Scheme};
use crate::transport;

const PAGE: &str = include_str!("../../../docs/attackers.md");

fn told(case: Case, comes_to: &str) -> String {
    match case {
        Case::Of(_) => comes_to.to_string(),
        Case::Never(why) => format!("cannot be: {why}"),
    }
}

fn row(scheme: &Scheme) -> String {
    let refused = if scheme.secured { "no connection" } else { "refused" };
    let revoked = match scheme.revoked {
        Revoked::Taken(_) => "taken with `UNAUTHENTICATED`".to_string(),
        Revoked::Kept(_, how) => format!("{how}: nobody comes in, sessions stay until they expire"),
        Revoked::Never(why) => format!("cannot be: {why}"),
    };
    let asked = if scheme.answer.is_some() { "yes" } else { "no" };
    let columns = [
        scheme.name.to_string(),
        told(scheme.expired, refused),
        told(scheme.early, refused),
        told(scheme.other_audience, refused),
        told(scheme.other_key, refused),
        told(scheme.brief, "taken with `LEASE_EXPIRED`"),
        revoked,
        asked.to_string(),
    ];
    format!("| {} |", columns.join(" | "))
}

#[test]
fn the_page_says_of_each_scheme_what_the_tests_have_seen() {
    let head = "| scheme | expired | not yet valid | for another runtime | by another key | expires meanwhile | revoked meanwhile | open asks for a proof |";
    let rows: Vec<String> = scheme::ALL.map(row).to_vec();
    let table = [&[head.to_string(), format!("|{}", "---|".repeat(8))][..], &rows].concat().join("\n");
    assert!(PAGE.contains(&table), "docs/attackers.md has another table than\n\n{table}\n");
    for transport in transport::ALL {
        assert!(PAGE.contains(&format!("\n* `{transport:?}`: ")), "the page says what there is of {transport:?}");
    }
}
