//! What published clients need from the transport, over real sockets.

use arcp_tests::server::{Running, expect, next, send};
use serde_json::json;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

const SWIFT: &str = r#"{"id":"msg_01M7VD85KQ9SZXPW6NX4X2SFJ9","timestamp":"2026-11-21T10:00:00.000Z","priority":"normal",
    "type":"session.open","payload":{"auth":{"scheme":"bearer","token":"tok-a"},
    "capabilities":{"heartbeat_interval_seconds":30,"binary_encoding":["base64"]}}}"#;

/// A WebSocket that takes no frame above 16 KiB, as its library does.
fn of_small_frames(server: &Running) -> WebSocket<std::net::TcpStream> {
    let config = WebSocketConfig::default().max_frame_size(Some(16 << 10)).max_message_size(Some(1 << 20));
    let url = format!("ws://{}/", server.address);
    tungstenite::client::client_with_config(url, server.connect(), Some(config)).expect("`/` is served").0
}

#[test]
fn a_swift_client_gets_a_large_result_in_frames_that_its_reader_takes() {
    let server = Running::start(&[], |_| {});
    let mut socket = of_small_frames(&server);
    socket.send(Message::text(SWIFT)).expect("sent");
    expect(&mut socket, "session.accepted");
    // No character of three bytes is cut in two.
    let text = "\u{20ac}".repeat(30_000);
    send(&mut socket, "i", "tool.invoke", json!({"tool": "echo", "arguments": {"text": text}}));
    assert_eq!(expect(&mut socket, "job.completed")["payload"]["result"]["text"], text);
}

#[test]
fn a_message_over_the_limit_is_answered_with_the_limit_and_then_1009() {
    let server = Running::start(&[], |config| config.limits.frame.frame_bytes = 100_000);
    let (mut socket, _) = server.session("tok-a");
    send(&mut socket, "s", "job.submit", json!({"agent": "echo", "input": "x".repeat(100_000)}));
    let error = next(&mut socket).expect("an error first");
    assert_eq!((&error["type"], &error["payload"]["code"]), (&json!("session.error"), &json!("INVALID_REQUEST")));
    assert!(error["payload"]["message"].as_str().is_some_and(|text| text.contains("100000 bytes")), "{error}");
    let Ok(Message::Close(Some(close))) = socket.read() else {
        panic!("no close with a code");
    };
    assert_eq!(u16::from(close.code), 1009);
}
