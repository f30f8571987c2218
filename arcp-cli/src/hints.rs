//! Suggestions for users who type options or commands of other programs.

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

/// Words that a user may type, and what they may mean: the first of these that exists at that place is suggested.
type Meant = (&'static [&'static str], &'static [&'static str]);

/// Options. What is meant is an option, or a positional argument.
const OPTIONS: &[Meant] = &[
    (&["--time-limit", "--timeout", "--deadline", "--max-time"], &["max-runtime", "timeout", "give-up-after"]),
    (&["--all", "-a"], &["limit", "filter"]),
    (&["--args", "--arguments", "--body", "--data", "--file", "--input-file", "--payload"], &["input"]),
    (&["--async", "--no-wait", "--background", "--daemon", "-d"], &["detach", "background"]),
    (&["--json", "--format"], &["output"]),
    (&["--address", "--endpoint", "--host", "--port", "--runtime", "--server", "-p"], &["url", "listen"]),
    (&["--addr", "--bind", "--url"], &["listen", "url"]),
    (&["--db", "--database", "--file", "--path", "--store"], &["store", "file"]),
    (&["--dest", "--out", "--to"], &["to", "out"]),
    (&["--agent", "--agent-name", "--name", "--tool"], &["agent"]),
    (&["--id", "--job", "--job-id"], &["job", "jobs", "id"]),
    (&["--expires-in", "--ttl"], &["expires"]),
    (&["--auth", "--bearer"], &["token"]),
    (&["--token-file"], &["tokens"]),
    (&["--no-auth"], &["anonymous"]),
    (&["--in-memory", "--memory"], &["store"]),
    (&["--owner", "--user"], &["principal"]),
    (&["--force"], &["now"]),
    (&["--count", "--last", "--lines", "-n"], &["tail", "limit"]),
    (&["--cert"], &["tls-cert"]),
    (&["--key"], &["tls-key"]),
    (&["--ca-cert", "--cacert"], &["ca"]),
    (&["--idempotency-key"], &["key"]),
    (&["--debug", "--verbose", "-v"], &["log"]),
];

/// Names of positional arguments that are shown by themselves.
const ALONE: &[&str] = &["input", "agent"];

/// Commands and subcommands.
const COMMANDS: &[Meant] = &[
    (&["call", "exec", "invoke", "launch", "run"], &["submit"]),
    (&["daemon", "host", "init", "server", "start", "up"], &["serve", "run"]),
    (&["down", "halt", "shutdown"], &["stop"]),
    (&["job", "jobs", "queue", "status"], &["ls"]),
    (&["event", "events", "log", "output", "tail"], &["logs"]),
    (&["follow", "monitor", "stream"], &["watch"]),
    (&["describe", "get", "info", "inspect"], &["show"]),
    (&["abort", "delete", "kill", "remove", "rm", "terminate"], &["cancel", "revoke", "evict", "rm", "remove"]),
    (&["create", "issue", "make", "new"], &["add", "create", "submit"]),
    (&["rerun", "resubmit"], &["retry"]),
    (&["prompts", "questions"], &["inbox"]),
    (&["reply"], &["answer"]),
    (&["allow", "grant"], &["approve"]),
    (&["reject", "refuse"], &["deny"]),
    (&["check", "health", "ping"], &["doctor"]),
    (&["instances", "servers"], &["runtimes"]),
    (&["cron"], &["schedule"]),
    (&["push", "upload"], &["put", "artifact"]),
    (&["download", "fetch", "pull"], &["get", "artifact"]),
    (&["fsck", "lint", "test", "validate", "verify"], &["check"]),
    (&["fix"], &["repair"]),
    (&["copy", "dump", "export"], &["backup"]),
];

/// Adds to the error what this program calls the option or command, if that is known.
pub fn added_to(mut error: clap::Error, command: &Command, given: &[OsString]) -> clap::Error {
    let place = Place::of(command, given);
    let said = |kind| match error.get(kind) {
        Some(ContextValue::String(said)) => Some(said.as_str()),
        Some(_) | None => None,
    };
    let tip = if error.kind() == ErrorKind::UnknownArgument {
        said(ContextKind::InvalidArg).and_then(|said| place.option(said))
    } else {
        said(ContextKind::InvalidSubcommand).and_then(|said| place.command(said))
    };
    if let Some(tip) = tip {
        // Clap's own suggestion is by spelling, and means something else.
        error.remove(ContextKind::SuggestedArg);
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
    }
    error
}

/// The command whose argument was not accepted.
struct Place<'a> {
    command: &'a Command,
    /// Its name with the names of the commands above it.
    path: String,
}

impl<'a> Place<'a> {
    fn of(program: &'a Command, given: &[OsString]) -> Place<'a> {
        let mut place = Place { command: program, path: program.get_name().to_string() };
        for word in given.iter().skip(1).filter_map(|word| word.to_str()).filter(|word| !word.starts_with('-')) {
            let Some(below) = place.command.find_subcommand(word) else {
                break;
            };
            place = Place { command: below, path: format!("{} {}", place.path, below.get_name()) };
        }
        place
    }

    fn option(&self, said: &str) -> Option<String> {
        let mut meant = OPTIONS.iter().filter(|(words, _)| words.contains(&said)).flat_map(|(_, meant)| *meant);
        let found = match said.starts_with('-') {
            true => meant.find_map(|name| self.argument(name)),
            false if said.starts_with("job_") => return Some("a job alone is shown by 'arcp show <ID>'".to_string()),
            false => ALONE.iter().find_map(|name| self.argument(name)).filter(|arg| !arg.is_positional()),
        };
        found.map(|arg| {
            let values: Vec<String> =
                arg.get_value_names().into_iter().flatten().map(|name| format!("<{name}>")).collect();
            let about = first_words(arg.get_help());
            match arg.get_long().filter(|_| !arg.is_positional()) {
                Some(long) if arg.get_action().takes_values() => {
                    format!("here that is '--{long} {}' ({about})", values.join(" "))
                }
                Some(long) => format!("here that is '--{long}' ({about})"),
                None => format!("here that is '{} {}', without an option ({about})", self.path, values.join(" ")),
            }
        })
    }

    fn argument(&self, name: &str) -> Option<&'a Arg> {
        let is_it = |arg: &&Arg| arg.get_long() == Some(name) || arg.is_positional() && arg.get_id() == name;
        self.command.get_arguments().filter(|arg| !arg.is_hide_set()).find(is_it)
    }

    fn command(&self, said: &str) -> Option<String> {
        let mut meant = COMMANDS.iter().filter(|(words, _)| words.contains(&said)).flat_map(|(_, meant)| *meant);
        let found = meant.find_map(|name| self.command.find_subcommand(name))?;
        Some(format!("here that is '{} {}' ({})", self.path, found.get_name(), first_words(found.get_about())))
    }
}

/// The beginning of a help text, up to the first punctuation.
fn first_words(help: Option<&StyledStr>) -> String {
    let help = help.map(ToString::to_string).unwrap_or_default();
    let end = help.find([':', ';', '.', '[', '\n']).unwrap_or(help.len());
    help[..end].trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_is_there() {
        let program = crate::args::command();
        let mut places = vec![&program];
        let mut at = 0;
        while let Some(place) = places.get(at).copied() {
            places.extend(place.get_subcommands());
            at += 1;
        }
        let has_option =
            |name: &str| places.iter().any(|&command| Place { command, path: String::new() }.argument(name).is_some());
        let has_command = |name: &str| places.iter().any(|command| command.find_subcommand(name).is_some());
        let missing = |all: &[Meant], there: &dyn Fn(&str) -> bool| {
            let meant = all.iter().flat_map(|(_, meant)| *meant);
            meant.filter(|name| !there(name)).map(ToString::to_string).collect::<Vec<String>>()
        };
        assert_eq!(missing(OPTIONS, &has_option), Vec::<String>::new());
        assert_eq!(missing(COMMANDS, &has_command), Vec::<String>::new());
    }
}
