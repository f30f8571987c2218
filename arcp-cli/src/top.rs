//! `arcp top`: the jobs of a runtime on a terminal, updated live.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::time::{Duration, Instant};

use arcp_blocking::Client;
use arcp_host::stderr::{say, visible};
use arcp_proto::id::WireId;
use arcp_proto::model::job::{JobStatus, JobSummary};
use arcp_proto::model::request::ListQuery;
use arcp_proto::time::UtcMs;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::widgets::{Paragraph, Row, Table, TableState};
use ratatui::{DefaultTerminal, Frame};

use crate::args::{Output, Where};
use crate::connect::Chosen;
use crate::counts::Counts;
use crate::exit::{Exit, Failure};
use crate::follow::{Following, follow};
use crate::list::all;
use crate::times::{age, now};
use crate::values;
use crate::watch::watched;

const KEYS: &str = "up/down select   w watch   c cancel   q quit";
const HEADER: [&str; 6] = ["JOB", "STATUS", "AGENT", "AGE", "EVENTS", "PER SECOND"];
/// Ended jobs are shown if they were submitted within this time.
const RECENT: Duration = Duration::from_secs(600);

/// Show jobs, sessions, event rates and lag, live.
///
/// Keys: up and down select a job, w watches it (Ctrl-C returns), c cancels it, q quits.
/// Sessions and lag are shown to operators and auditors only.
#[derive(Debug, clap::Args)]
pub struct Top {
    /// The refresh interval.
    #[arg(long, default_value = "1s", value_name = "SPAN", value_parser = values::some_span)]
    pub every: Duration,
    /// The runtime.
    #[command(flatten)]
    pub place: Where,
}

/// Shows jobs until the user quits.
pub fn run(args: &Top) -> Result<Exit, Failure> {
    if !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
        return Err(Failure::usage("arcp top draws on a terminal: use `arcp ls`, or `arcp ls -o json`"));
    }
    let chosen = Chosen::of(&args.place)?;
    let client = chosen.connect()?;
    let mut screen = Screen { look: Look::now(&chosen, &client)?, ..Screen::new(chosen.url()) };
    let mut terminal = ratatui::init();
    let ended = show(&mut terminal, &mut screen, args.every, &chosen, &client);
    ratatui::restore();
    ended
}

fn show(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    every: Duration,
    chosen: &Chosen,
    client: &Client,
) -> Result<Exit, Failure> {
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        let due = screen.look.at + every;
        if !event::poll(due.saturating_duration_since(Instant::now()))? {
            screen.renew(Look::now(chosen, client)?);
            continue;
        }
        let Event::Key(key) = event::read()? else {
            continue;
        };
        match screen.press(key) {
            Act::None => {}
            Act::Quit => return Ok(Exit::Success),
            Act::Cancel(job) => {
                screen.note = match client.cancel(job.clone(), Some("arcp top".to_string())) {
                    Ok(()) => format!("{job} is being cancelled"),
                    Err(error) => format!("{job}: {error}"),
                };
            }
            Act::Watch(job) => {
                ratatui::restore();
                watch(client, &job)?;
                *terminal = ratatui::init();
            }
        }
    }
}

/// Follows a job on the same terminal, until its end or Ctrl-C.
fn watch(client: &Client, job: &WireId) -> Result<(), Failure> {
    let (followed, _) = watched(client, job, job.as_str())?;
    let following = Following { output: Output::Text, no_ask: false, save: None };
    match follow(client, &followed, following) {
        Ok(_) => say(format_args!("arcp: Enter goes back to the table")),
        Err(failure) => say(format_args!("arcp: {}; Enter goes back to the table", failure.message)),
    }
    client.unwatch(job.clone())?;
    io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

/// The state of a runtime at one time.
struct Look {
    at: Instant,
    /// The jobs, the newest first.
    jobs: Vec<JobSummary>,
    counts: Option<Counts>,
}

impl Look {
    fn now(chosen: &Chosen, client: &Client) -> Result<Look, Failure> {
        let unfinished = [JobStatus::Pending, JobStatus::Running, JobStatus::Blocked, JobStatus::Paused];
        let unfinished = ListQuery { status: unfinished.to_vec(), ..ListQuery::default() };
        let since = now().0.saturating_sub(RECENT.as_millis() as u64);
        let recent = ListQuery { created_after: Some(UtcMs(since)), ..ListQuery::default() };
        let mut jobs = BTreeMap::new();
        for query in [unfinished, recent] {
            jobs.extend(all(client, query)?.into_iter().map(|job| (job.job.clone(), job)));
        }
        let counts = Counts::of(chosen);
        Ok(Look { at: Instant::now(), jobs: jobs.into_values().rev().collect(), counts })
    }
}

/// The action of a key.
enum Act {
    None,
    Quit,
    Watch(WireId),
    Cancel(WireId),
}

/// The state of the screen.
struct Screen {
    url: String,
    look: Look,
    /// Events per second since the look before: of each job, and in total.
    rates: BTreeMap<WireId, f64>,
    rate: f64,
    selected: TableState,
    /// The job that is cancelled if the next key confirms it.
    doomed: Option<WireId>,
    note: String,
}

impl Screen {
    fn new(url: String) -> Screen {
        Screen {
            url,
            look: Look { at: Instant::now(), jobs: Vec::new(), counts: None },
            rates: BTreeMap::new(),
            rate: 0.0,
            selected: TableState::new().with_selected(0),
            doomed: None,
            note: String::new(),
        }
    }

    /// Takes in the next look. The selection stays on its job.
    fn renew(&mut self, look: Look) {
        let selected = self.job().map(|job| job.job.clone());
        let before: BTreeMap<&WireId, u64> = self.look.jobs.iter().map(|job| (&job.job, job.last_event)).collect();
        let seconds = (look.at - self.look.at).as_secs_f64().max(0.001);
        let grown = |job: &JobSummary| job.last_event - before.get(&job.job).copied().unwrap_or(0).min(job.last_event);
        self.rates = look.jobs.iter().map(|job| (job.job.clone(), grown(job) as f64 / seconds)).collect();
        // Without the total of the runtime, the sum of the shown jobs is used.
        self.rate = match (&self.look.counts, &look.counts) {
            (Some(before), Some(after)) => after.events.saturating_sub(before.events) as f64 / seconds,
            (None, _) | (_, None) => self.rates.values().sum(),
        };
        self.look = look;
        let place = selected.and_then(|id| self.look.jobs.iter().position(|job| job.job == id));
        self.selected.select(Some(place.unwrap_or(0)));
    }

    fn job(&self) -> Option<&JobSummary> {
        self.look.jobs.get(self.selected.selected()?)
    }

    fn press(&mut self, key: KeyEvent) -> Act {
        if key.kind == KeyEventKind::Release {
            return Act::None;
        }
        if let Some(job) = self.doomed.take() {
            self.note.clear();
            return if key.code == KeyCode::Char('y') { Act::Cancel(job) } else { Act::None };
        }
        let is = |keys: &[KeyCode]| keys.contains(&key.code);
        let interrupts = key.modifiers.contains(KeyModifiers::CONTROL) && is(&[KeyCode::Char('c')]);
        if interrupts || is(&[KeyCode::Char('q'), KeyCode::Esc]) {
            return Act::Quit;
        }
        if is(&[KeyCode::Up, KeyCode::Char('k')]) {
            self.selected.select_previous();
        } else if is(&[KeyCode::Down, KeyCode::Char('j')]) {
            let next = self.selected.selected().map_or(0, |at| at + 1);
            self.selected.select(Some(next.min(self.look.jobs.len().saturating_sub(1))));
        } else if is(&[KeyCode::Char('w'), KeyCode::Enter]) {
            return self.job().map_or(Act::None, |job| Act::Watch(job.job.clone()));
        } else if is(&[KeyCode::Char('c')]) {
            self.doomed = self.job().map(|job| job.job.clone());
            self.note = self.doomed.as_ref().map(|job| format!("cancel {job}? y/n")).unwrap_or_default();
        }
        Act::None
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let [head, table, foot] =
            Layout::vertical([Constraint::Length(2), Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
        frame.render_widget(Paragraph::new(self.head()), head);
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let widths = [30, 10, 24, 5, 9, 10].map(Constraint::Length);
        let rows: Vec<Row<'_>> = self.look.jobs.iter().map(|job| self.row(job)).collect();
        let rows = Table::new(rows, widths)
            .header(Row::new(HEADER).style(bold))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        frame.render_stateful_widget(rows, table, &mut self.selected);
        let foot_text = if self.note.is_empty() { KEYS } else { &self.note };
        frame.render_widget(Paragraph::new(foot_text), foot);
    }

    fn head(&self) -> String {
        let rate = self.rate;
        match &self.look.counts {
            Some(counts) => {
                let Counts { unfinished_jobs, running_agents, waiting_jobs, sessions, connections, .. } = counts;
                let (unsent, undurable) = (counts.unsent_bytes, counts.undurable_bytes);
                let store = if counts.store_failed { "   THE STORE FAILS" } else { "" };
                format!(
                    "{}   jobs {unfinished_jobs} ({running_agents} running, {waiting_jobs} waiting)   \
                     sessions {sessions} ({connections} connected)\n\
                     events/s {rate:.1}   lag {unsent} B unsent, {undurable} B not durable{store}",
                    self.url
                )
            }
            None => {
                let open = self.look.jobs.iter().filter(|job| !matches!(job.status, Some(JobStatus::Ended(_)))).count();
                format!(
                    "{}   jobs {open}\nevents/s {rate:.1}   sessions and lag: for operators, over ws:// or wss://",
                    self.url
                )
            }
        }
    }

    fn row(&self, job: &JobSummary) -> Row<'static> {
        let rate = self.rates.get(&job.job).copied().unwrap_or(0.0);
        Row::new([
            visible(job.job.as_str()),
            job.status.map_or("unknown", JobStatus::as_str).to_string(),
            visible(&job.agent),
            age(job.created_at),
            job.last_event.to_string(),
            format!("{rate:.1}"),
        ])
    }
}
