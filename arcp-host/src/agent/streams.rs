//! Streams of a job: those that its agent opens, and those that clients open to the agent (RFC
//! §11).

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::ops::Bound;
use std::time::Duration;

use arcp_proto::error::ErrorCode;
use arcp_proto::model::event::JobError;
use arcp_proto::model::stream::{ChunkNotes, StreamTerms};
use arcp_proto::runtime::{AgentCall, AgentReply, ChunkData, INBOUND, Input, StreamCall, StreamWord};

use super::task::AsyncContext;
use super::{AgentControl, CallError, Context, ControlState, Stopped};

/// The streams that an agent knows.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// The number of streams that the agent has opened.
    opened: u32,
    /// The open streams of the agent.
    own: BTreeMap<u32, Own>,
    /// Streams that clients have opened and the agent has not taken.
    new: VecDeque<(u32, StreamTerms)>,
    /// Chunks and ends that clients have sent and the agent has not taken. The runtime bounds them.
    said: BTreeMap<u32, VecDeque<Said>>,
    /// The stream from which a program was last given something.
    served: u32,
}

/// A stream that the agent has opened.
#[derive(Debug, Default)]
struct Own {
    /// Whether the reader wants nothing more for now.
    held: bool,
    ended: Option<JobError>,
}

/// Something that a client has sent in a stream.
#[derive(Debug)]
enum Said {
    Chunk(Vec<u8>),
    End(Option<JobError>),
}

impl Streams {
    fn hear(&mut self, number: u32, word: StreamWord) {
        match word {
            StreamWord::Hold | StreamWord::GoOn => {
                if let Some(own) = self.own.get_mut(&number) {
                    own.held = word == StreamWord::Hold;
                }
            }
            StreamWord::Ended(error) => {
                if let Some(own) = self.own.get_mut(&number) {
                    own.ended = Some(error);
                }
            }
            StreamWord::Opened(terms) => {
                self.new.push_back((number, terms));
                self.said.insert(number, VecDeque::new());
            }
            StreamWord::Chunk { data, notes: _ } => self.say(number, Said::Chunk(data)),
            StreamWord::Closed(error) => self.say(number, Said::End(error)),
        }
    }

    fn say(&mut self, number: u32, said: Said) {
        if let Some(of_stream) = self.said.get_mut(&number) {
            of_stream.push_back(said);
        }
    }

    fn next_number(&mut self) -> u32 {
        let number = self.opened % INBOUND;
        self.opened += 1;
        self.own.insert(number, Own::default());
        number
    }

    /// Takes the next thing that a client has sent in a stream.
    fn take(&mut self, number: u32) -> Option<Said> {
        let said = self.said.get_mut(&number)?.pop_front()?;
        if let Said::End(_) = said {
            self.said.remove(&number);
        }
        Some(said)
    }

    /// The stream from which a program is given something next: streams take turns.
    fn next_said(&mut self) -> Option<u32> {
        let has_said = |(number, said): (&u32, &VecDeque<Said>)| (!said.is_empty()).then_some(*number);
        let later = self.said.range((Bound::Excluded(self.served), Bound::Unbounded)).find_map(has_said);
        self.served = later.or_else(|| self.said.iter().find_map(has_said))?;
        Some(self.served)
    }

    /// Whether the agent may write to its stream; `None` while it has to wait.
    fn may_say(&self, number: u32, stopping: bool) -> Option<Result<(), CallError>> {
        match self.own.get(&number) {
            None => Some(Err(CallError::Refused(over()))),
            Some(Own { ended: Some(error), .. }) => Some(Err(CallError::Refused(error.clone()))),
            // After a stop the agent may still write its last chunks.
            Some(Own { held: true, .. }) if !stopping => None,
            Some(Own { ended: None, .. }) => Some(Ok(())),
        }
    }
}

/// Chooses the number of a stream that the agent is about to open.
pub(crate) fn begin(job: &Context) -> u32 {
    job.link.state().streams.next_number()
}

/// Ends a stream of the agent; returns whether it was still open for writing.
pub(crate) fn finish(job: &Context, number: u32) -> bool {
    job.link.state().streams.own.remove(&number).is_some_and(|own| own.ended.is_none())
}

/// Whether the runtime has ended a stream of the agent.
pub(crate) fn is_over(job: &Context, number: u32) -> bool {
    job.link.state().streams.own.get(&number).is_none_or(|own| own.ended.is_some())
}

/// Whether the reader of a stream wants more.
pub(crate) fn may_say(job: &Context, number: u32) -> bool {
    may_say_one_of(&job.link.state(), &[number])
}

/// Whether a low-priority chunk can be sent without waiting for the reader or for credit.
pub(crate) fn may_say_at_once(job: &Context, number: u32) -> bool {
    let state = job.link.state();
    may_say_one_of(&state, &[number]) && (state.over || state.has_credit())
}

/// Waits until the reader of one of these streams wants more.
pub(crate) fn wait_to_say(job: &Context, numbers: &[u32]) {
    let mut state = job.link.state();
    while !may_say_one_of(&state, numbers) {
        state = job.link.wait(state, None);
    }
}

fn may_say_one_of(state: &ControlState, numbers: &[u32]) -> bool {
    state.over || numbers.iter().any(|number| state.streams.may_say(*number, state.stopping).is_some())
}

/// The next thing that clients have sent in a stream, for a program that reads it.
pub(crate) enum InputWord {
    /// A stream was opened.
    Opened(u32, StreamTerms),
    /// The next chunk of a stream.
    Chunk(u32, Vec<u8>),
    /// A stream ended.
    End(u32, Option<JobError>),
}

/// Takes the next word of any stream to the agent.
pub(crate) fn next_input(job: &Context) -> Option<InputWord> {
    let mut state = job.link.state();
    if let Some((number, terms)) = state.streams.new.pop_front() {
        return Some(InputWord::Opened(number, terms));
    }
    let number = state.streams.next_said()?;
    let word = state.streams.take(number)?;
    drop(state);
    Some(match word {
        Said::Chunk(data) => {
            took(job, number);
            InputWord::Chunk(number, data)
        }
        Said::End(error) => {
            took(job, number);
            InputWord::End(number, error)
        }
    })
}

/// Tells the runtime that the agent took the next chunk of a stream.
fn took(job: &Context, number: u32) {
    say_free(job, number, StreamCall::Took);
}

/// Tells the runtime that the agent takes no more of a stream; chunks that wait are discarded.
fn leave(job: &Context, number: u32) {
    if job.link.state().streams.said.remove(&number).is_some() {
        say_free(job, number, StreamCall::Leave);
    }
}

fn say_free(job: &Context, number: u32, says: StreamCall) {
    job.inbox.put(Input::Agent { job: job.job, call: AgentCall::Stream { stream: number, says } });
}

fn over() -> JobError {
    JobError::new(ErrorCode::FailedPrecondition, "the stream is over")
}

/// A stream that is being opened. If nobody awaits the answer any more, the stream is closed.
struct Opening<'a> {
    job: &'a Context,
    number: u32,
    answered: bool,
}

impl Opening<'_> {
    fn begin(job: &Context) -> Opening<'_> {
        Opening { job, number: begin(job), answered: false }
    }

    /// The number of the stream, if it was opened.
    fn end(mut self, reply: Result<AgentReply, Stopped>) -> Result<u32, CallError> {
        let opened = super::replies::event_of(reply?);
        self.answered = true;
        if opened.is_err() {
            finish(self.job, self.number);
        }
        opened.map(|_| self.number)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if !self.answered && finish(self.job, self.number) {
            say_free(self.job, self.number, StreamCall::Leave);
        }
    }
}

/// A stream that an agent has opened. It is closed on drop.
#[derive(Debug)]
pub struct StreamWriter<'j> {
    job: &'j Context,
    number: u32,
    /// The number of chunks left out since the last one that was sent.
    shed: u32,
}

impl<'j> StreamWriter<'j> {
    /// Opens a stream of a kind, or with a media type or an encoding. It is closed with the job at
    /// the latest. A write waits while the runtime has no credit for the agent, or while the reader
    /// of the stream slows it down; other streams of the job are not affected by a slow reader.
    ///
    /// ```no_run
    /// use arcp_host::agent::{AgentError, Context, Outcome, StreamWriter};
    /// use arcp_proto::model::stream::StreamKind;
    ///
    /// fn count(job: &Context) -> Result<Outcome, AgentError> {
    ///     let mut stream = StreamWriter::open(job, StreamKind::Text)?;
    ///     for n in 0..10 {
    ///         stream.text(format!("{n}\n"))?;
    ///     }
    ///     stream.close(None)?;
    ///     Ok(Outcome::Empty)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] with `RESOURCE_EXHAUSTED` at
    /// [`open_streams_per_job`](arcp_proto::limits::PromptLimits::open_streams_per_job);
    /// [`CallError::Stopped`] as soon as the job is told to stop.
    pub fn open(job: &'j Context, terms: impl Into<StreamTerms>) -> Result<StreamWriter<'j>, CallError> {
        let opening = Opening::begin(job);
        let opened = job.ask(AgentCall::Stream { stream: opening.number, says: StreamCall::Open(terms.into()) });
        let number = opening.end(opened)?;
        Ok(StreamWriter { job, number, shed: 0 })
    }

    /// Writes a chunk of text. It may be split further, never inside a character.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] with `CANCELLED` once the stream was ended by the runtime or a
    /// client; [`CallError::Stopped`] if the job has ended.
    pub fn text(&mut self, text: impl Into<String>) -> Result<(), CallError> {
        self.chunk(ChunkData::Text(text.into()), ChunkNotes::default())
    }

    /// Writes a chunk of bytes. It may be split further.
    ///
    /// # Errors
    ///
    /// As [`text`](Self::text).
    pub fn bytes(&mut self, bytes: impl Into<Vec<u8>>) -> Result<(), CallError> {
        self.chunk(ChunkData::Binary(bytes.into()), ChunkNotes::default())
    }

    /// Writes a chunk with notes: attributes, its role, and whether only the submitter may see its
    /// text. A chunk with [`low_priority`](ChunkNotes::low_priority) is left out if it would have
    /// to wait.
    ///
    /// # Errors
    ///
    /// As [`text`](Self::text).
    pub fn chunk(&mut self, data: ChunkData, notes: ChunkNotes) -> Result<(), CallError> {
        let low = notes.low_priority;
        let call = chunk_call(self.number, data, notes, self.shed);
        let mut state = self.job.link.state();
        loop {
            match state.say_in_stream(self.number, &call) {
                Some(said) => {
                    said?;
                    // Posted under the lock, so that calls of one job keep their order.
                    self.job.inbox.put(Input::Agent { job: self.job.job, call });
                    self.shed = 0;
                    return Ok(());
                }
                None if low => {
                    self.shed += 1;
                    return Ok(());
                }
                None => state = self.job.link.wait(state, None),
            }
        }
    }

    /// Ends the stream.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn close(mut self, reason: Option<&str>) -> Result<(), Stopped> {
        self.end(StreamCall::Close { reason: reason.map(String::from), shed: self.shed })
    }

    /// Ends the stream with an error.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub fn fail(mut self, error: JobError) -> Result<(), Stopped> {
        self.end(StreamCall::Fail { error, shed: self.shed })
    }

    fn end(&mut self, says: StreamCall) -> Result<(), Stopped> {
        match finish(self.job, self.number) {
            true => self.job.call(AgentCall::Stream { stream: self.number, says }),
            false => Ok(()),
        }
    }
}

impl Drop for StreamWriter<'_> {
    fn drop(&mut self) {
        // If the job is over, nothing needs to be closed.
        let _ = self.end(StreamCall::Close { reason: None, shed: self.shed });
    }
}

/// As [`StreamWriter`], for async agents. If it is dropped without being closed, it is closed with
/// the job.
#[derive(Debug)]
pub struct AsyncStreamWriter {
    job: AsyncContext,
    number: u32,
    shed: u32,
}

impl AsyncStreamWriter {
    /// Opens a stream: see [`StreamWriter::open`].
    ///
    /// # Errors
    ///
    /// As [`StreamWriter::open`].
    pub async fn open(job: &AsyncContext, terms: impl Into<StreamTerms>) -> Result<AsyncStreamWriter, CallError> {
        let opening = Opening::begin(&job.0);
        let opened = job.ask(AgentCall::Stream { stream: opening.number, says: StreamCall::Open(terms.into()) }).await;
        let number = opening.end(opened)?;
        Ok(AsyncStreamWriter { job: job.clone(), number, shed: 0 })
    }

    /// Writes a chunk of text.
    ///
    /// # Errors
    ///
    /// As [`StreamWriter::text`].
    pub async fn text(&mut self, text: impl Into<String>) -> Result<(), CallError> {
        self.chunk(ChunkData::Text(text.into()), ChunkNotes::default()).await
    }

    /// Writes a chunk of bytes.
    ///
    /// # Errors
    ///
    /// As [`StreamWriter::text`].
    pub async fn bytes(&mut self, bytes: impl Into<Vec<u8>>) -> Result<(), CallError> {
        self.chunk(ChunkData::Binary(bytes.into()), ChunkNotes::default()).await
    }

    /// Writes a chunk with notes: see [`StreamWriter::chunk`].
    ///
    /// # Errors
    ///
    /// As [`StreamWriter::text`].
    pub async fn chunk(&mut self, data: ChunkData, notes: ChunkNotes) -> Result<(), CallError> {
        let (number, low) = (self.number, notes.low_priority);
        let mut call = Some(chunk_call(number, data, notes, self.shed));
        let job = &self.job;
        let said = poll_fn(|cx| {
            job.link().poll(cx, |state| {
                let said = match state.say_in_stream(number, call.as_ref()?) {
                    Some(said) => said,
                    None => return low.then_some(Ok(false)),
                };
                Some(said.map(|()| {
                    // Posted under the lock, so that calls of one job keep their order.
                    call.take().into_iter().for_each(|call| {
                        job.0.inbox.put(Input::Agent { job: job.0.job, call });
                    });
                    true
                }))
            })
        })
        .await?;
        self.shed = if said { 0 } else { self.shed + 1 };
        Ok(())
    }

    /// Ends the stream.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if the job has ended.
    pub async fn close(self, reason: Option<&str>) -> Result<(), Stopped> {
        let says = StreamCall::Close { reason: reason.map(String::from), shed: self.shed };
        match finish(&self.job.0, self.number) {
            true => self.job.call(AgentCall::Stream { stream: self.number, says }).await,
            false => Ok(()),
        }
    }
}

fn chunk_call(stream: u32, data: ChunkData, notes: ChunkNotes, shed: u32) -> AgentCall {
    AgentCall::Stream { stream, says: StreamCall::Chunk { data, notes: Box::new(notes), shed } }
}

/// A stream that a client has opened to a job. It is closed if it is dropped before its end.
#[derive(Debug)]
pub struct StreamInput<'j> {
    job: &'j Context,
    number: u32,
    terms: StreamTerms,
}

impl<'j> StreamInput<'j> {
    /// Waits at most `span` for a client to open a stream to the job: see
    /// [`Terms::takes_input`](crate::registry::Terms::takes_input).
    ///
    /// # Errors
    ///
    /// [`Stopped`] as soon as the job is told to stop.
    pub fn within(job: &'j Context, span: Duration) -> Result<Option<StreamInput<'j>>, Stopped> {
        let opened = job.link.wait_for(span, |state| state.streams.new.pop_front())?;
        Ok(opened.map(|(number, terms)| StreamInput { job, number, terms }))
    }

    /// The terms with which it was opened.
    pub fn terms(&self) -> &StreamTerms {
        &self.terms
    }

    /// Waits for the next chunk; `None` after the last one. A chunk that was not taken counts
    /// against what the client may send.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] if the stream ends with an error; [`CallError::Stopped`] as soon as
    /// the job is told to stop.
    pub fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, CallError> {
        let number = self.number;
        // The clock cannot represent the end of this span, so there is none.
        let said = self.job.link.wait_for(Duration::MAX, |state| state.streams.take(number))?;
        heard(said, || took(self.job, number))
    }
}

impl Drop for StreamInput<'_> {
    fn drop(&mut self) {
        leave(self.job, self.number);
    }
}

/// As [`StreamInput`], for async agents.
#[derive(Debug)]
pub struct AsyncStreamInput {
    job: AsyncContext,
    number: u32,
    terms: StreamTerms,
}

impl AsyncStreamInput {
    /// Waits for a client to open a stream to a job: see [`StreamInput::within`].
    ///
    /// # Errors
    ///
    /// [`Stopped`] as soon as the job is told to stop.
    pub async fn next(job: &AsyncContext) -> Result<AsyncStreamInput, Stopped> {
        let (number, terms) = poll_fn(|cx| {
            job.link().poll(cx, |state| match state.streams.new.pop_front() {
                _ if state.stopping || state.over => Some(Err(Stopped)),
                opened => opened.map(Ok),
            })
        })
        .await?;
        Ok(AsyncStreamInput { job: job.clone(), number, terms })
    }

    /// The terms with which it was opened.
    pub fn terms(&self) -> &StreamTerms {
        &self.terms
    }

    /// Waits for the next chunk: see [`StreamInput::next_chunk`].
    ///
    /// # Errors
    ///
    /// As [`StreamInput::next_chunk`].
    pub async fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, CallError> {
        let number = self.number;
        let said = poll_fn(|cx| {
            self.job.link().poll(cx, |state| match state.streams.take(number) {
                _ if state.stopping || state.over => Some(Err(Stopped)),
                said => said.map(Ok),
            })
        })
        .await?;
        heard(Some(said), || took(&self.job.0, number))
    }
}

impl Drop for AsyncStreamInput {
    fn drop(&mut self) {
        leave(&self.job.0, self.number);
    }
}

fn heard(said: Option<Said>, took: impl FnOnce()) -> Result<Option<Vec<u8>>, CallError> {
    match said {
        Some(Said::Chunk(data)) => {
            took();
            Ok(Some(data))
        }
        Some(Said::End(error)) => {
            took();
            error.map_or(Ok(None), |error| Err(CallError::Refused(error)))
        }
        None => Ok(None),
    }
}

impl ControlState {
    /// Takes the credit for a chunk; `None` if there is none, or if the stream is held.
    fn say_in_stream(&mut self, number: u32, call: &AgentCall) -> Option<Result<(), CallError>> {
        if self.over {
            return Some(Err(Stopped.into()));
        }
        if let Err(why) = self.streams.may_say(number, self.stopping)? {
            return Some(Err(why));
        }
        self.spend(call).map(|spent| spent.map_err(CallError::from))
    }
}

impl AgentControl {
    /// Notes what happened to a stream.
    pub(crate) fn hear_of_stream(&self, number: u32, word: StreamWord) {
        self.change(|state| state.streams.hear(number, word));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use arcp_proto::id::{JobId, Principal};
    use arcp_proto::json::Json;
    use arcp_proto::model::agent::AgentRef;
    use arcp_proto::runtime::AgentSpec;

    use super::super::Inbox;
    use super::*;
    use crate::agent::context;

    /// An inbox that keeps all calls of agents.
    #[derive(Default)]
    pub(crate) struct Said(pub(crate) Mutex<Vec<Input>>);

    impl Inbox for Said {
        fn put(&self, input: Input) {
            self.0.lock().expect("nobody panicked").push(input);
        }
    }

    /// Ends a stream of a job, as the runtime does.
    pub(crate) fn refused(job: &Context, number: u32) {
        job.link.hear_of_stream(number, StreamWord::Ended(over()));
    }

    /// A spec to start an agent with.
    pub(crate) fn spec() -> AgentSpec {
        AgentSpec {
            agent: AgentRef::parse("a").expect("a name"),
            input: Json::empty_object(),
            principal: Principal::new("p").expect("a name"),
            trace: String::new(),
            unsampled: false,
            extensions: Json::empty_object(),
            credit: 0,
            credit_bytes: 0,
            checkpoint: None,
            restarts: 0,
            lease: Json::empty_object(),
            artifact_bytes: 0,
            credentials: Vec::new(),
        }
    }

    pub(crate) fn job() -> (Context, Arc<Said>) {
        let (said, control) = (Arc::new(Said::default()), Arc::new(AgentControl::default()));
        control.change(|state| state.give(10, 1000));
        (context(JobId::from_ulid(ulid::Ulid::nil()), spec(), control, said.clone()), said)
    }

    #[test]
    fn a_held_stream_leaves_low_chunks_out_and_says_how_many_and_a_cancelled_one_says_nothing_more() {
        let (job, said) = job();
        let number = begin(&job);
        let mut stream = StreamWriter { job: &job, number, shed: 0 };
        let low = || ChunkNotes { low_priority: true, ..ChunkNotes::default() };
        let text = || ChunkData::Text("t".into());
        job.link.hear_of_stream(number, StreamWord::Hold);
        assert!(stream.chunk(text(), low()).is_ok() && stream.chunk(text(), low()).is_ok());
        assert!(said.0.lock().expect("nobody panicked").is_empty(), "both are left out");
        job.link.hear_of_stream(number, StreamWord::GoOn);
        stream.text("u").expect("it may");
        let last = said.0.lock().expect("nobody panicked").pop();
        let Some(Input::Agent { call: AgentCall::Stream { says: StreamCall::Chunk { shed: 2, .. }, .. }, .. }) = last
        else {
            panic!("{last:?}");
        };
        let error = JobError::new(ErrorCode::Cancelled, "enough");
        job.link.hear_of_stream(number, StreamWord::Ended(error.clone()));
        assert_eq!(stream.text("v"), Err(CallError::Refused(error)));
        drop(stream);
        assert!(said.0.lock().expect("nobody panicked").is_empty(), "nobody closes what is over");
    }

    #[test]
    fn a_stream_that_is_broken_off_says_why_and_is_not_closed_besides() {
        let (job, said) = job();
        let number = begin(&job);
        let error = JobError::new(ErrorCode::from("NO_MORE"), "there is no more");
        let stream = StreamWriter { job: &job, number, shed: 3 };
        assert_eq!(stream.fail(error.clone()), Ok(()));
        let said = said.0.lock().expect("nobody panicked");
        let [Input::Agent { call: AgentCall::Stream { stream, says }, .. }] = said.as_slice() else {
            panic!("{said:?}");
        };
        assert_eq!((*stream, says), (number, &StreamCall::Fail { error, shed: 3 }));
    }

    #[test]
    fn a_stream_that_nobody_waits_for_to_be_open_does_not_stay_open() {
        let (job, said) = job();
        let number = Opening::begin(&job).number;
        let last = said.0.lock().expect("nobody panicked").pop();
        let Some(Input::Agent { call: AgentCall::Stream { stream, says: StreamCall::Leave }, .. }) = last else {
            panic!("{last:?}");
        };
        assert_eq!(stream, number);
        let opened = Opening::begin(&job).end(Ok(AgentReply::Taken { event: None })).expect("it is open");
        assert!(said.0.lock().expect("nobody panicked").is_empty());
        assert!(finish(&job, opened), "something may be said in it");
    }

    #[test]
    fn what_a_program_says_of_low_priority_waits_neither_for_the_reader_nor_for_credit() {
        let (job, _) = job();
        let number = begin(&job);
        assert!(may_say_at_once(&job, number));
        job.link.hear_of_stream(number, StreamWord::Hold);
        assert!(!may_say_at_once(&job, number));
        job.link.hear_of_stream(number, StreamWord::GoOn);
        job.link.change(|state| state.credit = 0);
        assert!(!may_say_at_once(&job, number));
    }

    #[test]
    fn a_program_is_given_something_of_each_stream_in_turn() {
        let (job, _) = job();
        let chunk = || StreamWord::Chunk { data: vec![0], notes: ChunkNotes::default() };
        let numbers = [INBOUND, INBOUND + 1, INBOUND + 2];
        for number in numbers {
            job.link.hear_of_stream(number, StreamWord::Opened(StreamTerms::default()));
            (0..2).for_each(|_| job.link.hear_of_stream(number, chunk()));
        }
        let given: Vec<u32> = std::iter::from_fn(|| next_input(&job))
            .filter_map(|word| if let InputWord::Chunk(number, _) = word { Some(number) } else { None })
            .collect();
        assert_eq!(given, [numbers, numbers].concat());
    }

    #[test]
    fn an_end_is_said_to_be_taken_and_what_an_agent_leaves_is_held_no_longer() {
        let (job, said) = job();
        let says = || match said.0.lock().expect("nobody panicked").pop() {
            Some(Input::Agent { call: AgentCall::Stream { stream, says }, .. }) => Some((stream, says)),
            _ => None,
        };
        for number in [INBOUND, INBOUND + 1] {
            job.link.hear_of_stream(number, StreamWord::Opened(StreamTerms::default()));
            job.link.hear_of_stream(number, StreamWord::Closed(None));
        }
        let next = || StreamInput::within(&job, Duration::ZERO).expect("it goes on").expect("it was opened");
        let mut first = next();
        assert_eq!(first.next_chunk(), Ok(None));
        drop(first);
        assert_eq!((says(), says()), (Some((INBOUND, StreamCall::Took)), None), "it is over: nobody leaves it");
        drop(next());
        assert_eq!(says(), Some((INBOUND + 1, StreamCall::Leave)));
        assert!(job.link.state().streams.said.is_empty());
    }
}
