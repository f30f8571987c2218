//! Commands over HTTP/2 and QUIC, which only the tokio adapter has.

use arcp_tests::home::{Home, code, stderr, stdout};
use arcp_tests::kept::Folder;
use arcp_tests::pages;

const ARCP: &str = env!("CARGO_BIN_EXE_arcp");

/// A server at this place, with a certificate; its URL and the file.
fn serve(home: &mut Home, place: &str) -> (String, String) {
    let out = home.dir.join("pair");
    let folder = out.to_str().expect("text").to_string();
    let made = home.run(&["tls", "self-signed", "--overwrite", "--out", &folder]);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let (certificate, key) = (format!("{folder}/arcp-cert.pem"), format!("{folder}/arcp-key.pem"));
    let url = home.serve_at(place, &["--samples", "--tls-cert", &certificate, "--tls-key", &key]);
    (url, certificate)
}

#[test]
fn every_kind_of_command_goes_over_http2_and_quic() {
    for (place, begins) in [("h2c://:0", "h2c://"), ("h2://:0", "h2://"), ("quic://:0", "quic://")] {
        let mut home = Home::new(ARCP);
        let (url, _) = serve(&mut home, place);
        assert!(url.starts_with(begins), "{url}");
        let run = |args: &[&str]| {
            let output = home.run(args);
            assert_eq!(code(&output), 0, "{place} {args:?}: {}", stderr(&output));
            stdout(&output)
        };
        assert!(run(&["submit", "echo", "--input", "[1,2]"]).contains("[1,2]"));
        assert!(run(&["submit", "chatty", "--input", r#"{"count":3000}"#, "--url", &url]).contains("3000"));
        let job = run(&["submit", "gate", "--detach"]);
        assert!(run(&["list"]).contains(job.trim()));
        run(&["cancel", job.trim()]);
        // Each has said goodbye before its program ended.
        let sessions = run(&["sessions", "list"]);
        assert_eq!(sessions.lines().filter(|line| line.contains(" yes ")).count(), 1, "{place}: {sessions}");
        assert!(run(&["runtimes"]).contains(&url));
        assert_eq!(home.signal("TERM").code(), Some(0), "{place}");
    }
}

#[test]
fn whoever_has_no_reason_to_trust_a_server_is_told_so_over_each() {
    for place in ["h2://:0", "quic://:0"] {
        let mut home = Home::new(ARCP);
        let (url, certificate) = serve(&mut home, place);
        let stranger = Home::new(ARCP);
        let ask = |more: &[&str]| stranger.run(&[&["list", "--url", &url, "--token", "t"], more].concat());
        let refused = ask(&[]);
        assert_eq!(code(&refused), 7, "{place}: {}", stderr(&refused));
        let said = stderr(&refused);
        assert!(said.contains("issued by nobody who is trusted here") && said.contains("--ca FILE"), "{said}");
        // Trusted, but not known there.
        let unknown = ask(&["--ca", &certificate]);
        assert_eq!(code(&unknown), 8, "{place}: {}", stderr(&unknown));
    }
}

#[test]
fn a_place_with_tls_needs_a_certificate_and_one_without_this_machine() {
    let home = Home::new(ARCP);
    for (place, mend) in [("h2://:0", "--tls-cert"), ("quic://:0", "--tls-cert"), ("h2c://0.0.0.0:0", "--insecure")] {
        let output = home.run(&["serve", "--samples", "--listen", place]);
        assert!(code(&output) == 2 && stderr(&output).contains(mend), "{place}: {}", stderr(&output));
    }
}

#[test]
fn what_the_pages_say_can_be_pasted() {
    for page in [include_str!("../../docs/http2.md"), include_str!("../../docs/quic.md")] {
        pages::paste(ARCP, &Folder::new("transports-page"), &pages::script(page));
    }
}
