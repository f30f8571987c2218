//! Agents of every kind send and receive streams, over sockets.

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
use arcp_tests::kept::Folder;
use arcp_tests::raw::open_payload;
use arcp_tests::server::{PATIENCE, Running, next, submit};
use serde_json::{Value, json};
use tungstenite::Message;

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

/// Opens two streams, and says things in the one that its reader holds, in the other, and
/// beside them once a file is there; its result is in which order they were answered.
const BESIDE: &str = r#"
    read -r input
    for n in 0 1; do echo '{"kind":"stream.open","id":'$n',"body":{"stream":"s'$n'"}}'; read -r answer; done
    until [ -e "$GO_ON" ]; do sleep 0.02; done
    for n in 11 12; do echo '{"kind":"stream.chunk","id":'$n',"body":{"stream":"s0","data":"'$n'"}}'; done
    echo '{"kind":"stream.close","id":13,"body":{"stream":"s0"}}'
    echo '{"kind":"stream.open","id":14,"body":{"stream":"s0"}}'
    echo '{"kind":"stream.chunk","id":20,"body":{"stream":"s1","data":"beside"}}'
    echo '{"kind":"progress","id":21,"body":{"current":1}}'
    order=
    for n in 1 2 3 4 5 6; do read -r line; id=${line#*'"id":'}; order="$order ${id%%,*}"; done
    echo '{"result":"'$order'"}'
"#;

#[test]
fn what_a_program_says_beside_a_stream_that_is_held_does_not_wait_for_it() {
    let folder = Folder::new("beside");
    let go_on = folder.0.join("go-on");
    let mut registry = Registry::default();
    registry.add("beside", None, ProcessAgent::shell(BESIDE).answered().with_variable("GO_ON", &go_on));
    let server = Running::serve(Running::host_of(Box::<MemoryStore>::default(), registry, |_| {}));
    let mut socket = server.websocket();
    let mut say = |kind: &str, payload: Value, stream: &Value, is_last: &dyn Fn(&[Value]) -> bool| {
        let mut frame = json!({"arcp": "1.0", "id": kind, "type": kind, "payload": payload});
        if stream.is_string() {
            frame["stream_id"] = stream.clone();
        }
        socket.send(Message::text(frame.to_string())).expect("sent");
        let mut frames = Vec::new();
        while !is_last(&frames) {
            frames.push(next(&mut socket).unwrap_or_else(|| panic!("closed after {kind}: {frames:?}")));
        }
        frames
    };
    let comes = |kind: &'static str| move |frames: &[Value]| frames.last().is_some_and(|frame| frame["type"] == kind);
    let mut hello = open_payload("tok-a");
    hello["capabilities"]["streaming"] = json!(true);
    say("session.open", hello, &Value::Null, &comes("session.accepted"));
    let are_open = |frames: &[Value]| frames.iter().filter(|frame| frame["type"] == "stream.open").count() == 2;
    let opened = say("tool.invoke", json!({"tool": "beside"}), &Value::Null, &are_open);
    let slow = opened.iter().find(|frame| frame["type"] == "stream.open").expect("the first one")["stream_id"].clone();
    // A chunk, and none for three seconds.
    say("backpressure", json!({"desired_rate_per_second": 0.33}), &slow, &|_| true);
    say("ping", json!({}), &Value::Null, &comes("pong"));
    std::fs::write(&go_on, "").expect("written");
    let frames = say("ping", json!({}), &Value::Null, &comes("job.completed"));
    let ended = frames.last().expect("it ends").to_string();
    let order = " 11 14 20 21 12 13";
    assert!(ended.contains(order), "the chunk and the end of the stream waited, and nothing else: {ended}");
    let of_slow: Vec<&Value> = frames.iter().filter(|frame| frame["stream_id"] == slow).map(|f| &f["type"]).collect();
    assert_eq!(of_slow, ["stream.chunk", "stream.chunk", "stream.close"], "each in its order");
}
