//! The frames of HTTP/2 that peers send.

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const END_HEADERS: u8 = 4;

/// The preface of a connection, and empty settings.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// The size of a frame that every peer accepts.
const FRAME: usize = 15 << 10;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it is short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The id of a stream that was opened after so many others.
fn number(streams: u32) -> u32 {
    2 * streams + 1
}

/// The beginning of a connection.
pub(super) fn begun() -> Vec<u8> {
    [PREFACE, SETTINGS].concat()
}

/// The headers of a request for a session, as literals.
fn block() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let given = [(":path", "/arcp"), (":authority", "localhost"), ("content-type", "application/x-ndjson")];
    for (name, value) in given {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("it is short"));
            block.extend(text.bytes());
        }
    }
    block
}

/// The request for a session, on a stream that is opened after so many others.
pub(super) fn request(streams: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, number(streams), &block())
}

/// A request with a long header that does not end.
pub(super) fn half_request() -> Vec<u8> {
    // A name of one byte, and a value whose length does not fit the seven bits of its first byte.
    let (mut long, mut left) = (vec![0, 1, b'x', 0x7f], FRAME - 1024 - 0x7f);
    while left >= 0x80 {
        long.push(u8::try_from(left % 0x80).expect("seven bits") | 0x80);
        left /= 0x80;
    }
    long.push(u8::try_from(left).expect("seven bits"));
    frame(HEADERS, 0, 1, &[block(), long, vec![b'x'; FRAME - 1024]].concat())
}

/// The frame header of a request, which announces the length.
pub(super) fn announced_request() -> Vec<u8> {
    frame(HEADERS, END_HEADERS, 1, &[0; 1000])[..9].to_vec()
}

/// Bytes on the stream that was opened after so many others.
pub(super) fn data(streams: u32, bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(FRAME).flat_map(|chunk| frame(DATA, 0, number(streams), chunk)).collect()
}

/// Resets the stream that was opened after so many others.
pub(super) fn reset(streams: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, number(streams), &[0, 0, 0, 8])
}

pub(super) fn ping() -> Vec<u8> {
    frame(PING, 0, 0, &[7; 8])
}
