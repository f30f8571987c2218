//! What an operation is about, in the one form that patterns are compared with.
//!
//! What has no such form is refused, not repaired: a path with `..` may mean
//! something else to whoever opens it.

use alloc::string::{String, ToString as _};
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::namespace::{Namespace, Shape};

/// Longest target and pattern, in bytes.
pub(super) const LONGEST: usize = 4096;
/// Between the parts of a URL. No part can hold it, and no wildcard means it.
pub(super) const PART: char = '\0';

/// What an operation is about: a path, a URL or a name, checked.
///
/// ```
/// use arcp_proto::lease::{Namespace, Target};
/// let target = Target::new(&Namespace::NetFetch, "HTTPS://Example.com:443/a%20b")?;
/// assert_eq!(target, Target::new(&Namespace::NetFetch, "https://example.com/a%20b")?);
/// assert!(Target::new(&Namespace::FsRead, "/home/../etc/passwd").is_err());
/// # Ok::<(), arcp_proto::lease::Refused>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target(String);

/// Why a target or a pattern has no form that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Nothing stands there.
    #[error("it is empty")]
    Empty,
    /// More than 4,096 bytes.
    #[error("it has more than 4096 bytes")]
    TooLong,
    /// A path that does not begin with `/`.
    #[error("a path begins with `/`")]
    NotAbsolute,
    /// A name that begins with `/`.
    #[error("a name does not begin with `/`")]
    Absolute,
    /// `//`, or a `/` at the end.
    #[error("it has an empty segment")]
    EmptySegment,
    /// `.` or `..` as a segment.
    #[error("it has a segment `.` or `..`")]
    DotSegment,
    /// `\`, which some read as `/`.
    #[error("it has a backslash")]
    Backslash,
    /// A control character.
    #[error("it has a control character")]
    Control,
    /// `%2f`, `%2e`, `%5c` or `%25`: whoever decodes it sees something else.
    #[error("it has an encoded `/`, `.`, `\\` or `%`")]
    EncodedSeparator,
    /// `%` that no two hexadecimal digits of UTF-8 follow.
    #[error("it has a `%` that encodes no text")]
    BadEncoding,
    /// No `scheme://`.
    #[error("a URL begins with a scheme and `://`")]
    NoScheme,
    /// `user@` before the host.
    #[error("a URL may not name a user")]
    UserInfo,
    /// A host that is no list of labels and no address in its usual form.
    #[error("the host is not written as lower-case labels or a usual address")]
    BadHost,
    /// A port that is no number from 1 to 65535.
    #[error("the port is not 1 to 65535")]
    BadPort,
    /// `*` with other characters than the segment's own, as in `a**`.
    #[error("`**` is a whole segment")]
    BadWildcard,
    /// A space or a `#` in a URL.
    #[error("a URL has no spaces and no fragment")]
    BadUrl,
    /// More than 255 characters and wildcards behind the first wildcard.
    #[error("it has more than 255 characters behind its first wildcard")]
    TooComplex,
}

impl Target {
    /// Checks what an operation in this namespace is about.
    ///
    /// # Errors
    ///
    /// Why it cannot be compared with patterns.
    pub fn new(namespace: &Namespace, text: &str) -> Result<Target, Refused> {
        bounded(text)?;
        match namespace.shape() {
            Shape::Path => path(text).map(Target),
            Shape::Name => name(text).map(Target),
            Shape::Url => url(text).map(Target),
        }
    }

    /// What a walk over patterns found.
    pub(super) fn from_canonical(text: String) -> Target {
        Target(text)
    }

    /// The form that patterns are compared with.
    pub(super) fn canonical(&self) -> &str {
        &self.0
    }
}

/// As a person writes it. What is encoded in a URL's path stands there decoded.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.0.split(PART);
        let (Some(scheme), Some(port), Some(labels), Some(path)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return f.write_str(&self.0);
        };
        write!(f, "{scheme}://{}", labels.replace('/', "."))?;
        if !port.is_empty() && default_port(scheme) != Some(port) {
            write!(f, ":{port}")?;
        }
        write!(f, "/{path}")
    }
}

pub(super) fn bounded(text: &str) -> Result<(), Refused> {
    match text {
        "" => Err(Refused::Empty),
        _ if text.len() > LONGEST => Err(Refused::TooLong),
        _ if text.contains('\\') => Err(Refused::Backslash),
        _ if text.contains(char::is_control) => Err(Refused::Control),
        _ => Ok(()),
    }
}

fn path(text: &str) -> Result<String, Refused> {
    let rest = text.strip_prefix('/').ok_or(Refused::NotAbsolute)?;
    if !rest.is_empty() {
        rest.split('/').try_for_each(segment)?;
    }
    Ok(text.to_string())
}

fn name(text: &str) -> Result<String, Refused> {
    if text.starts_with('/') {
        return Err(Refused::Absolute);
    }
    text.split('/').try_for_each(segment)?;
    Ok(text.to_string())
}

/// A segment of a path or a name as it stands, encoded or not.
pub(super) fn segment(text: &str) -> Result<(), Refused> {
    match text {
        "" => Err(Refused::EmptySegment),
        "." | ".." => Err(Refused::DotSegment),
        _ if hides_a_separator(text) => Err(Refused::EncodedSeparator),
        _ => Ok(()),
    }
}

fn hides_a_separator(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.windows(3).any(|w| w[0] == b'%' && is_separator(w[1], w[2]))
}

fn is_separator(high: u8, low: u8) -> bool {
    matches!((high, low.to_ascii_lowercase()), (b'2', b'f' | b'e' | b'5') | (b'5', b'c'))
}

/// The parts of a URL or of a pattern of URLs, as they stand.
pub(super) struct Url<'a> {
    /// In lower case.
    pub(super) scheme: String,
    pub(super) host: &'a str,
    pub(super) port: Option<&'a str>,
    /// What stands behind the `/` that ends the host.
    pub(super) path: &'a str,
}

impl<'a> Url<'a> {
    /// Takes a URL apart at its separators.
    pub(super) fn split(text: &'a str) -> Result<Url<'a>, Refused> {
        if text.contains([' ', '#']) {
            return Err(Refused::BadUrl);
        }
        let (scheme, rest) = text.split_once("://").ok_or(Refused::NoScheme)?;
        let is_scheme = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(is_scheme) {
            return Err(Refused::NoScheme);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(Refused::UserInfo);
        }
        let after_address = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority[after_address..].rfind(':') {
            Some(at) => (&authority[..after_address + at], Some(&authority[after_address + at + 1..])),
            None => (authority, None),
        };
        Ok(Url { scheme: scheme.to_ascii_lowercase(), host, port, path })
    }
}

fn url(text: &str) -> Result<String, Refused> {
    // What a query asks for is the server's to judge: patterns cannot name it.
    let asked = text.split_once('?').map_or(text, |(resource, _)| resource);
    let url = Url::split(asked)?;
    let mut out = String::with_capacity(text.len() + 8);
    out.push_str(&url.scheme);
    out.push(PART);
    match url.port {
        Some(port) => out.push_str(checked_port(port)?),
        None => out.push_str(default_port(&url.scheme).unwrap_or_default()),
    }
    out.push(PART);
    host(url.host, &mut out)?;
    out.push(PART);
    let mut segments = url.path.split('/').peekable();
    while let Some(segment) = segments.next() {
        // Behind the last `/` there may be nothing: that is another resource.
        if !segment.is_empty() || segments.peek().is_some() {
            self::segment(segment)?;
        }
        for character in decoded(segment)? {
            out.push(character);
        }
        if segments.peek().is_some() {
            out.push('/');
        }
    }
    Ok(out)
}

pub(super) fn checked_port(text: &str) -> Result<&str, Refused> {
    let number = text.parse::<u16>().ok().filter(|number| *number > 0 && text.as_bytes()[0].is_ascii_digit());
    // `080` would be another text for the same port.
    number.filter(|_| !text.starts_with('0')).map(|_| text).ok_or(Refused::BadPort)
}

pub(super) fn default_port(scheme: &str) -> Option<&'static str> {
    match scheme {
        "http" | "ws" => Some("80"),
        "https" | "wss" => Some("443"),
        _ => None,
    }
}

/// Adds a host without wildcards: its labels with `/` between them, or an IPv6
/// address in brackets.
pub(super) fn host(text: &str, out: &mut String) -> Result<(), Refused> {
    if let Some(address) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| Refused::BadHost)?;
        out.push_str(&alloc::format!("[{address}]"));
        return Ok(());
    }
    let lower = text.to_ascii_lowercase();
    if !lower.split('.').all(is_label) {
        return Err(Refused::BadHost);
    }
    // `0x7f.1`, `127.1` and `2130706433` are addresses to some readers.
    let last = lower.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|c| c.is_ascii_digit()) || last.starts_with("0x");
    if numeric && lower.parse::<Ipv4Addr>().is_err() {
        return Err(Refused::BadHost);
    }
    out.push_str(&lower.replace('.', "/"));
    Ok(())
}

pub(super) fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|c| is_host_byte(c.to_ascii_lowercase()))
}

/// What a label of a host may hold.
pub(super) fn is_host_byte(c: u8) -> bool {
    matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_')
}

/// The characters of a piece of a URL's path, decoded once.
pub(super) fn decoded(segment: &str) -> Result<alloc::vec::Vec<char>, Refused> {
    let mut bytes = alloc::vec::Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (Some(&high), Some(&low)) = (tail.first(), tail.get(1)) else { return Err(Refused::BadEncoding) };
        if is_separator(high, low) {
            return Err(Refused::EncodedSeparator);
        }
        let digits = core::str::from_utf8(&tail[..2]).map_err(|_| Refused::BadEncoding)?;
        if !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
            return Err(Refused::BadEncoding);
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| Refused::BadEncoding)?);
        rest = &tail[2..];
    }
    let text = String::from_utf8(bytes).map_err(|_| Refused::BadEncoding)?;
    if text.contains(char::is_control) {
        return Err(Refused::Control);
    }
    Ok(text.chars().collect())
}
