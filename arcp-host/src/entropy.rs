//! The only file that draws randomness.

use std::io;

use arcp_proto::entropy::Seeds;

/// Fresh seeds from the operating system.
///
/// # Errors
///
/// If the system has no randomness.
pub fn seeds() -> io::Result<Seeds> {
    let mut seeds = Seeds { public: [0; 32], secret: [0; 32] };
    getrandom::fill(&mut seeds.public).map_err(io::Error::other)?;
    getrandom::fill(&mut seeds.secret).map_err(io::Error::other)?;
    Ok(seeds)
}

/// A token of 256 random bits, in hexadecimal.
///
/// # Errors
///
/// If the system has no randomness.
pub fn token() -> io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A random number, such as the id of a span.
///
/// # Errors
///
/// If the system has no randomness.
pub fn number() -> io::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u128::from_be_bytes(bytes))
}
