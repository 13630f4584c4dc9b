use super::*;
use crate::content::brief::{Brief, read, tests::BRIEF};
use std::collections::VecDeque;

/// Answers in the given order, and remembers what it was sent.
#[derive(Default)]
struct Script {
    answers: VecDeque<Result<Response, TransportError>>,
    sent: Vec<Value>,
    waits: Vec<Duration>,
}

impl Transport for Script {
    fn post(&mut self, body: &[u8]) -> Result<Response, TransportError> {
        self.sent.push(serde_json::from_slice(body).unwrap());
        self.answers.pop_front().unwrap_or_else(|| Err(TransportError("no answer is left".to_owned())))
    }

    fn wait(&mut self, time: Duration) {
        self.waits.push(time);
    }
}

#[expect(clippy::unnecessary_wraps, reason = "a script is made of results")]
fn envelope(content: &str, finish: &str) -> Result<Response, TransportError> {
    let body = json!({
        "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20},
    });
    Ok(Response { status: 200, retry_after: None, body: body.to_string().into_bytes() })
}

const GOOD: &str = r#"{"texts":[{"part":"headline","text":" 30 hours with GPS ","facts":["battery","nonsense"]}]}"#;

#[expect(clippy::unnecessary_wraps, reason = "a script is made of results")]
fn status(status: u16, retry_after: Option<u64>) -> Result<Response, TransportError> {
    let body = br#"{"error":{"message":"slow\n\u001b[31m down"}}"#.to_vec();
    Ok(Response { status, retry_after: retry_after.map(Duration::from_secs), body })
}

fn run(answers: Vec<Result<Response, TransportError>>) -> (Result<Vec<Draft>, String>, ChatWriter<Script>) {
    let settings =
        ChatSettings { model: "m".to_owned(), temperature: 0.7, tokens_max: 10_000, wait_max: Duration::from_mins(1) };
    let mut writer = ChatWriter::new(Script { answers: answers.into(), ..Script::default() }, settings);
    let brief: Brief = read(BRIEF).unwrap();
    let ask = Ask { brief: &brief, theme: &brief.themes[0], count: 2, seed: 5 };
    let result = writer.write(&ask).map(|it| it.drafts).map_err(|error| error.to_string());
    (result, writer)
}

#[test]
fn an_answer_by_the_schema_becomes_drafts() {
    let (drafts, writer) = run(vec![envelope(GOOD, "stop")]);
    let draft = Draft {
        part: Part::Headline,
        text: "30 hours with GPS".to_owned(),
        theme: "t1".to_owned(),
        facts: vec!["battery".to_owned()],
    };
    assert_eq!(drafts.unwrap(), [draft]);
    assert_eq!(writer.usage(), Usage { requests: 1, repeated: 0, tokens_in: 100, tokens_out: 20 });
    let sent = &writer.transport.sent[0];
    assert_eq!((sent["model"].as_str(), sent["seed"].as_u64()), (Some("m"), Some(5)));
    assert_eq!(sent["response_format"]["json_schema"]["schema"]["properties"]["texts"]["maxItems"], 6);
    let data: Value = serde_json::from_str(sent["messages"][1]["content"].as_str().unwrap()).unwrap();
    assert_eq!(data["facts"], json!([{"id": "battery", "text": "The battery lasts 30 hours with GPS"}]));
}

#[test]
fn what_can_pass_is_tried_again_with_growing_waits_and_another_seed() {
    let slow = || Err(TransportError("no answer within 30s".to_owned()));
    for bad in [
        slow(),
        status(429, None),
        status(503, None),
        envelope(&GOOD[..30], "stop"),
        envelope(GOOD, "length"),
        envelope(r#"{"texts":[{"part":"poem","text":"x","facts":[]}]}"#, "stop"),
        envelope(r#"{"texts":[]}"#, "stop"),
        envelope("Sure! Here are your texts.", "stop"),
    ] {
        let (drafts, writer) = run(vec![bad.clone(), bad.clone(), envelope(GOOD, "stop")]);
        assert_eq!(drafts.map(|it| it.len()), Ok(1), "{bad:?}");
        assert_eq!((writer.usage().requests, writer.usage().repeated), (3, 2));
        assert_eq!(writer.transport.waits, [Duration::from_millis(500), Duration::from_secs(1)]);
        let seeds: Vec<_> = writer.transport.sent.iter().map(|it| it["seed"].as_u64()).collect();
        assert_eq!(seeds, [Some(5), Some(6), Some(7)]);
        let (drafts, writer) = run(vec![bad; 9]);
        assert!(drafts.is_err());
        assert_eq!(writer.usage().requests, 4, "there is an end");
    }
}

#[test]
fn what_cannot_pass_is_said_at_once() {
    for (answer, part) in [
        (status(401, None), "the server answered 401: slow [31m down; check the key"),
        (status(404, None), "check the address"),
        (status(400, None), "the server answered 400"),
        (status(429, Some(300)), "the server limits requests"),
    ] {
        let (drafts, writer) = run(vec![answer]);
        let error = drafts.unwrap_err();
        assert!(error.replace('\u{1b}', "").contains(part), "{error}");
        assert_eq!(writer.usage().requests, 1, "{part}");
    }
}

#[test]
fn a_short_wait_that_the_server_asks_for_is_kept() {
    let (drafts, writer) = run(vec![status(429, Some(7)), envelope(GOOD, "stop")]);
    assert!(drafts.is_ok());
    assert_eq!(writer.transport.waits, [Duration::from_secs(7)]);
}

#[test]
fn requests_stop_at_the_token_budget() {
    let (drafts, mut writer) = run(vec![envelope(GOOD, "stop"), envelope(GOOD, "stop")]);
    assert!(drafts.is_ok());
    writer.settings.tokens_max = 120;
    let brief = read(BRIEF).unwrap();
    let ask = Ask { brief: &brief, theme: &brief.themes[0], count: 2, seed: 5 };
    let error = writer.write(&ask).unwrap_err();
    assert!(
        matches!(&error, WriteError::Away(why) if why.contains("the token budget is spent (120 of 120)")),
        "{error}"
    );
    assert_eq!(writer.usage().requests, 1);
}

#[test]
fn each_kind_of_bad_answer_is_named() {
    let refused =
        json!({"choices": [{"message": {"refusal": "I cannot"}, "finish_reason": "stop"}]}).to_string().into_bytes();
    for (answer, part) in [
        (Ok(Response { status: 200, retry_after: None, body: b"<html>".to_vec() }), "is this the address"),
        (Ok(Response { status: 200, retry_after: None, body: b"{\"choices\":[]}".to_vec() }), "there is no choice"),
        (Ok(Response { status: 200, retry_after: None, body: refused }), "the model refused: I cannot"),
        (envelope(GOOD, "length"), "cut off"),
        (envelope("Sure!", "stop"), "response_format"),
        (
            envelope(r#"{"texts":[{"part":"headline","text":"x","facts":[],"more":1}]}"#, "stop"),
            "schema (unknown field",
        ),
        (
            envelope(
                &format!(r#"{{"texts":[{{"part":"headline","text":"{}","facts":[]}}]}}"#, "x".repeat(2_000)),
                "stop",
            ),
            "more than 1000 characters",
        ),
    ] {
        let (drafts, _) = run(vec![answer; 4]);
        let error = drafts.unwrap_err();
        assert!(error.contains(part), "{part}: {error}");
    }
}
