//! Agents of every kind say and are said things in streams, over sockets.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and anything else fails")]

use arcp_blocking::{Client, Job, JobUpdate, StreamSender};
use arcp_host::agent::{
    AsyncContext, AsyncStreamInput, AsyncStreamWriter, Context, Outcome, StreamInput, StreamWriter,
};
use arcp_host::process::ProcessAgent;
use arcp_host::registry::{Registry, Terms};
use arcp_host::samples;
use arcp_host::store::MemoryStore;
use arcp_proto::client::ResultData;
use arcp_proto::id::WireId;
use arcp_proto::json::Json;
use arcp_proto::model::stream::{StreamEvent, StreamKind, StreamReader, StreamSays, StreamTerms};
use arcp_tests::server::{PATIENCE, Running, submit};

/// What was read of the streams of a job.
#[derive(Default)]
struct Read {
    data: Vec<u8>,
    chunks: u64,
    ends: Vec<StreamSays>,
    result: Option<ResultData>,
}

/// Reads the streams of a job until it ends; `seen` is called with each event of them.
fn read(job: &Job, mut seen: impl FnMut(&StreamEvent)) -> Read {
    let (mut reader, mut read) = (StreamReader::default(), Read::default());
    loop {
        match job.next_update_in(PATIENCE).expect("in time") {
            JobUpdate::Event { event, .. } => {
                let Some(of_stream) = reader.read(&event) else { continue };
                let event = of_stream.expect("the stream is whole");
                match &event.says {
                    StreamSays::Chunk { data, .. } => {
                        read.data.extend(data);
                        read.chunks += 1;
                    }
                    end @ (StreamSays::Closed { .. } | StreamSays::Failed { .. }) => read.ends.push(end.clone()),
                    StreamSays::Opened { .. } => {}
                }
                seen(&event);
            }
            JobUpdate::Ended { result, .. } => {
                read.result = Some(result);
                return read;
            }
            other => panic!("{other:?}"),
        }
    }
}

fn echoes() -> Registry {
    let mut registry = Registry::default();
    registry.add("function", None, |job: &Context| {
        let mut out = StreamWriter::open(job, StreamKind::Binary)?;
        let mut input = StreamInput::within(job, PATIENCE)?.expect("somebody says something");
        while let Some(chunk) = input.next_chunk()? {
            out.bytes(chunk)?;
        }
        out.close(Some("all"))?;
        Ok(Outcome::Empty)
    });
    registry.add_async("task", None, |job: AsyncContext, _: Json| async move {
        let mut out = AsyncStreamWriter::open(&job, StreamKind::Binary).await?;
        let mut input = AsyncStreamInput::next(&job).await?;
        while let Some(chunk) = input.next_chunk().await? {
            out.bytes(chunk).await?;
        }
        out.close(Some("all")).await?;
        Ok(Outcome::Empty)
    });
    // The chunk is echoed as it was read, but for the number of its stream.
    let program = r#"read -r input
        echo '{"kind":"stream.open","body":{"stream":"o","kind":"binary"}}'
        while read -r line; do
            case "$line" in
            *stream.open*) ;;
            *stream.close*) echo '{"kind":"stream.close","body":{"stream":"o","reason":"all"}}'; exit 0 ;;
            *) data=${line#*'"data":'}
               printf '%s\n' '{"kind":"stream.chunk","body":{"stream":"o","data":'"$data"'}' ;;
            esac
        done"#;
    registry.add("program", None, ProcessAgent::shell(program).answered());
    for name in ["function", "task", "program"] {
        registry.set_terms(name, Terms { takes_input: true, ..Terms::default() });
    }
    registry
}

fn opens<'c>(client: &'c Client, job: &Job) -> StreamSender<'c> {
    let name = WireId::new("mine").expect("a name");
    StreamSender::open(client, job.id.clone(), name, StreamTerms::new(StreamKind::Binary)).expect("it is open")
}

#[test]
fn a_function_a_task_and_a_program_say_back_what_a_client_says_to_them() {
    let server = Running::serve(Running::host_of(Box::<MemoryStore>::default(), echoes(), |_| {}));
    let client = server.client();
    for agent in ["function", "task", "program"] {
        let job = client.submit(submit(agent, "{}")).expect("accepted");
        let pieces: [&[u8]; 3] = [b"a\n", &[0, 255, 7], "\u{e9}".as_bytes()];
        let read = read(&job, |event| {
            // Its agent runs: what it opens goes from it.
            if matches!(event.says, StreamSays::Opened { inbound: false, .. }) {
                let mut stream = opens(&client, &job);
                for piece in pieces {
                    stream.send(piece).expect("taken");
                }
                stream.close(None).expect("closed");
            }
        });
        assert_eq!(read.data, pieces.concat(), "{agent}");
        let all = |end: &StreamSays| matches!(end, StreamSays::Closed { reason: Some(why), final_sequence: Some(2), .. } if why == "all");
        assert!(read.ends.iter().any(all), "{agent}: {:?}", read.ends);
    }
}

#[test]
fn the_sample_streams_every_kind() {
    let mut registry = Registry::default();
    samples::add_to(&mut registry);
    let server = Running::serve(Running::host_of(Box::<MemoryStore>::default(), registry, |_| {}));
    let client = server.client();
    for kind in StreamKind::ALL {
        let job = client.submit(submit("streamer", &format!(r#"{{"kind":"{kind}","chunks":4,"bytes":300}}"#)));
        let read = read(&job.expect("accepted"), |_| {});
        assert_eq!(read.chunks, 4, "{kind}");
        let expected: Vec<u8> = match kind {
            StreamKind::Binary => (0..1200).map(|k| (k % 256) as u8).collect(),
            StreamKind::Metric => Vec::new(),
            _ => (0..1200).map(|k| b'a' + (k % 26) as u8).collect(),
        };
        assert!(read.data == expected, "{kind}");
        assert!(matches!(read.result, Some(ResultData::Inline(json)) if json.as_str() == r#"{"chunks":4}"#));
    }
}
