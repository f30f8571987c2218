//! The configuration file of `arcp serve`: TOML, whose keys are the long options.
//!
//! A flag has priority over an environment variable, the variable over the file, and the file over the default. What
//! the file sets, and neither a flag nor a variable does, is added to the command line. So an option means the same
//! wherever it is given, and requirements and conflicts between options are checked once for all sources.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::exit::Failure;

/// The option for places to listen at; unused with `--stdio`.
const LISTEN: &str = "listen";
/// The prefix of options for TLS at those places.
const TLS: &str = "tls-";

/// Options that concern one start of the program: a file cannot set them.
const OF_A_START: [&str; 6] = ["config", "check", "background", "detached", "help", "stdio"];

/// Adds what the configuration file sets, if the arguments name one. Returns the command that parses the arguments, and
/// the arguments.
///
/// # Errors
///
/// If the file cannot be read, or sets an unknown option: the message has the line and the key.
pub fn added_to(command: Command, given: Vec<OsString>) -> Result<(Command, Vec<OsString>), Failure> {
    // Errors of the command line itself are reported once the arguments of the file are added.
    let matches = command.clone().ignore_errors(true).try_get_matches_from(&given);
    let Some(found) = matches.as_ref().ok().and_then(|matches| matches.subcommand_matches("serve")) else {
        return Ok((command, given));
    };
    let command = match has_stdio(found) {
        // The flag has priority over a conflicting environment variable too.
        true => {
            command.mut_subcommand("serve", |serve| serve.mut_arg(LISTEN, |listen| listen.env(None::<&'static str>)))
        }
        false => command,
    };
    let (Some(serve), Some(path)) = (command.find_subcommand("serve"), found.get_one::<PathBuf>("config")) else {
        return Ok((command, given));
    };
    let all = with_file(serve, found, path, given)?;
    Ok((command, all))
}

/// The arguments with those of this file.
fn with_file(serve: &Command, found: &ArgMatches, path: &Path, given: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let unusable = |why: &dyn std::fmt::Display| Failure::usage(format!("--config {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| unusable(&error))?;
    let table = DeTable::parse(&text).map_err(|error| {
        // The error's own text would quote the line, and perhaps a secret in it.
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        Place { path, text: &text, at }.failure(&format!("not TOML: {}", error.message()))
    })?;
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut all = given;
    for (key, value) in entries {
        let place = Place { path, text: &text, at: key.span().start };
        let option = option_of(serve, key.get_ref(), &place)?;
        let added = arguments(option, value, &place)?;
        check(serve, &added, key.get_ref(), &place)?;
        if !is_given(found, option) && !is_excluded(found, option) {
            all.extend(added);
        }
    }
    Ok(all)
}

/// A position in the file.
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
    at: usize,
}

impl Place<'_> {
    fn failure(&self, why: &str) -> Failure {
        let line = 1 + self.text[..self.at].matches('\n').count();
        Failure::usage(format!("{}:{line}: {why}", self.path.display()))
    }
}

fn option_of<'a>(serve: &'a Command, key: &str, place: &Place<'_>) -> Result<&'a Arg, Failure> {
    if OF_A_START.contains(&key) {
        return Err(place.failure(&format!("`{key}` is said when the program is started, and not in a file")));
    }
    let named = |arg: &&Arg| arg.get_long() == Some(key) && !arg.is_hide_set();
    serve.get_arguments().find(named).ok_or_else(|| {
        let mend = match key.replace('_', "-") {
            other if other != key && serve.get_arguments().any(|arg| arg.get_long() == Some(&other)) => {
                format!("write `{other}`")
            }
            _ => "`arcp serve --help` lists its options, which are the keys without `--`".to_string(),
        };
        place.failure(&format!("`{key}` is no option of `arcp serve`: {mend}"))
    })
}

/// The arguments that mean the same on the command line.
fn arguments(option: &Arg, value: &Spanned<DeValue<'_>>, place: &Place<'_>) -> Result<Vec<OsString>, Failure> {
    let key = option.get_long().unwrap_or_default();
    let of_text = |text: &str| OsString::from(format!("--{key}={text}"));
    let wrong = |expected: &str| {
        let message = format!("`{key}`: expected {expected}, and it is a {}", value.get_ref().type_str());
        Err(place.failure(&message))
    };
    match (option.get_action(), value.get_ref()) {
        (ArgAction::SetTrue, DeValue::Boolean(true)) => Ok(vec![format!("--{key}").into()]),
        (ArgAction::SetTrue, DeValue::Boolean(false)) => Ok(Vec::new()),
        (ArgAction::SetTrue, _) => wrong("true or false"),
        (ArgAction::Append, DeValue::Array(values)) => {
            let texts = values.iter().map(|value| scalar(value.get_ref()));
            texts.collect::<Option<Vec<String>>>().map_or_else(
                || wrong("a list of texts or numbers"),
                |texts| Ok(texts.iter().map(|text| of_text(text)).collect()),
            )
        }
        (ArgAction::Append, DeValue::Table(table)) => {
            let mut pairs = Vec::new();
            for (name, value) in table {
                match scalar(value.get_ref()) {
                    Some(value) => pairs.push(of_text(&format!("{}={value}", name.get_ref()))),
                    None => return wrong("a table of texts or numbers"),
                }
            }
            Ok(pairs)
        }
        (_, value) => match scalar(value) {
            Some(text) => Ok(vec![of_text(&text)]),
            None => wrong("a text or a number"),
        },
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_string()),
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => None,
    }
}

/// Checks that the option takes the value. Conflicts with other options are checked later.
fn check(serve: &Command, added: &[OsString], key: &str, place: &Place<'_>) -> Result<(), Failure> {
    let args = [OsString::from("serve")].into_iter().chain(added.iter().cloned());
    match serve.clone().try_get_matches_from(args) {
        Err(error) if [ErrorKind::ValueValidation, ErrorKind::InvalidValue].contains(&error.kind()) => {
            let said = match error.get(ContextKind::InvalidValue) {
                // A URL may contain a password.
                Some(ContextValue::String(value)) if value.contains("://") => error.to_string().replace(value, "..."),
                Some(_) | None => error.to_string(),
            };
            let why = said.lines().next().unwrap_or_default().trim_start_matches("error: ");
            Err(place.failure(&format!("`{key}`: {why}")))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn is_given(found: &ArgMatches, option: &Arg) -> bool {
    let source = found.value_source(option.get_id().as_str());
    matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

/// Whether the option is about places to listen at, while the command line says `--stdio`.
fn is_excluded(found: &ArgMatches, option: &Arg) -> bool {
    let is_of_places = |name: &str| name == LISTEN || name.starts_with(TLS);
    has_stdio(found) && option.get_long().is_some_and(is_of_places)
}

/// Whether the command line has `--stdio`. Of an invalid command line, not everything is parsed.
fn has_stdio(found: &ArgMatches) -> bool {
    found.get_one::<bool>("stdio") == Some(&true)
}
