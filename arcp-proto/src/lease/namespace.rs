//! The kinds of operations that a lease grants (1.1 §9.2).

use alloc::boxed::Box;
use core::fmt;
use core::str::FromStr;

use crate::error::ParseError;

/// One kind of operation. `cost.budget` is not one of them: it bounds what the others may cost, see
/// [`Budget`](super::Budget).
///
/// ```
/// use arcp_proto::lease::Namespace;
/// assert_eq!("fs.read".parse(), Ok(Namespace::FsRead));
/// assert!("fs.delete".parse::<Namespace>().is_err());
/// assert_eq!("x-vendor.acme.door".parse::<Namespace>().map(|n| n.to_string()), Ok("x-vendor.acme.door".into()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespace {
    /// Reading files; patterns are paths.
    FsRead,
    /// Writing files; patterns are paths.
    FsWrite,
    /// Requests over the network; patterns are URLs.
    NetFetch,
    /// Calling tools; patterns are names.
    ToolCall,
    /// Delegating to agents; patterns are names.
    AgentDelegate,
    /// Using models; patterns are names.
    ModelUse,
    /// `x-vendor.<vendor>.<name>`; patterns are names.
    Vendor(Box<str>),
}

/// The form of the targets of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `/home/me/notes.txt`
    Path,
    /// `https://example.com:8443/v1/items`
    Url,
    /// `vendor/tool`
    Name,
}

impl Namespace {
    /// Every namespace except those of vendors.
    pub const NAMED: [Namespace; 6] = [
        Namespace::FsRead,
        Namespace::FsWrite,
        Namespace::NetFetch,
        Namespace::ToolCall,
        Namespace::AgentDelegate,
        Namespace::ModelUse,
    ];

    /// The name, as in a lease.
    pub fn as_str(&self) -> &str {
        match self {
            Namespace::FsRead => "fs.read",
            Namespace::FsWrite => "fs.write",
            Namespace::NetFetch => "net.fetch",
            Namespace::ToolCall => "tool.call",
            Namespace::AgentDelegate => "agent.delegate",
            Namespace::ModelUse => "model.use",
            Namespace::Vendor(name) => name,
        }
    }

    pub(super) fn shape(&self) -> Shape {
        match self {
            Namespace::FsRead | Namespace::FsWrite => Shape::Path,
            Namespace::NetFetch => Shape::Url,
            Namespace::ToolCall | Namespace::AgentDelegate | Namespace::ModelUse | Namespace::Vendor(_) => Shape::Name,
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Namespace {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Namespace, ParseError> {
        const EXPECTED: ParseError = ParseError::new(
            "fs.read, fs.write, net.fetch, tool.call, agent.delegate, model.use or x-vendor.<vendor>.<name>",
        );
        if let Some(named) = Namespace::NAMED.into_iter().find(|named| named.as_str() == text) {
            return Ok(named);
        }
        let own = text.strip_prefix("x-vendor.").ok_or(EXPECTED)?;
        let word =
            |word: &str| !word.is_empty() && word.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
        let fits = text.len() <= 128 && own.contains('.') && own.split('.').all(word);
        fits.then(|| Namespace::Vendor(text.into())).ok_or(EXPECTED)
    }
}
