//! `aimpoint content`: the steps on files, a server that fails in every way, and people at a terminal.

use super::{aimpoint, folder_with, path};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivateKeyDer};

const BRIEF: &str = r#"
id = "trail"
campaign = "spring"
language = "en"
landing_page = "https://shop.example/trail"
audience = "people who run outdoors"
avoid = ["cheap"]

[[fact]]
id = "battery"
text = "The battery lasts 30 hours with GPS"
short = "30 hours with GPS"

[[theme]]
id = "t1"
words = ["battery", "charge"]
"#;

/// Runs a command with text on standard input.
fn with_input(arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_aimpoint"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[test]
fn the_demo_goes_from_comments_to_approved_creatives_without_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let (began, out) = (Instant::now(), path(&folder, "demo"));
    let (code, text, error) = aimpoint(&["content", "demo", "--out", &out], &[]);
    assert_eq!(code, 0, "{text}{error}");
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
    for part in ["masked: email", "runners speaks about", "Nothing is approved yet", "self-BLEU"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let index = text.lines().find_map(|line| line.split_once("planted subjects: ")).unwrap().1;
    assert!(index.parse::<f64>().unwrap() > 0.5, "the themes have nothing to do with the subjects: {index}");
    let themes = fs::read_to_string(format!("{out}/themes.json")).unwrap();
    let texts = fs::read_to_string(format!("{out}/texts.jsonl")).unwrap();
    for secret in ["erika", "555", "4111", "DE89", "watches.example", "cancer", "SYSTEM"] {
        assert!(!themes.to_lowercase().contains(&secret.to_lowercase()), "{secret}");
        assert!(!texts.to_lowercase().contains(&secret.to_lowercase()), "{secret}");
    }

    // The same files, through the commands of each step.
    let [comments, brief, texts] = ["comments.jsonl", "brief.toml", "texts.jsonl"].map(|name| format!("{out}/{name}"));
    let again = path(&folder, "themes.json");
    let (code, text, error) = aimpoint(&["content", "themes", &comments, "--out", &again, "--seed", "7"], &[]);
    assert_eq!(code, 0, "{text}{error}");
    assert_eq!(fs::read_to_string(&again).unwrap(), themes, "the command finds other themes than the demo");
    assert_eq!(aimpoint(&["content", "check", &brief], &[]).0, 0);
    let more = path(&folder, "more.jsonl");
    let (code, text, error) = aimpoint(&["content", "write", &brief, "--comments", &comments, "--out", &more], &[]);
    assert_eq!((code, text.contains("passed the gates at once")), (0, true), "{text}{error}");

    let [audit, made] = ["audit.jsonl", "creatives.toml"].map(|name| path(&folder, name));
    let review = |input: &str| {
        with_input(
            &["content", "review", &texts, "--brief", &brief, "--audit", &audit, "--out", &made, "--reviewer", "Anna"],
            input,
        )
    };
    let (code, text, error) = review("x\na\nr\n\nr\ntoo dull\ne\nGuaranteed forever\ne\nMaps for your way\nq\n");
    assert_eq!(code, 0, "{text}{error}");
    assert!(text.contains("claim: no fact of the brief says \"guaranteed\""), "{text}");
    let log = fs::read_to_string(&audit).unwrap();
    let verdicts: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |key: &str| verdicts.iter().map(|it| it[key].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(of("verdict"), ["approved", "refused", "edited"], "{log}");
    assert!(
        verdicts.iter().all(|it| it["reviewer"] == "Anna" && it["writer"] == "template" && it["seed"] == 7),
        "{log}"
    );
    assert!(verdicts.iter().all(|it| it["brief_sha256"].as_str().unwrap().len() == 64 && !it["prompt"].is_null()));
    assert_eq!(verdicts[1]["reason"], "too dull");

    // A review goes on where it stopped.
    let (_, text, _) = review("q\n");
    let left: Vec<&str> = text.lines().filter(|line| line.contains(" of ")).collect();
    let drafts = fs::read_to_string(&texts).unwrap().lines().count();
    assert!(left[0].starts_with(&format!("1 of {}", drafts - 3)), "{text}");
    let creatives = fs::read_to_string(&made).unwrap();
    assert!(creatives.contains("share_max = 0.2"), "{creatives}");
    assert!(creatives.contains("Maps for your way") && !creatives.contains("Guaranteed"), "{creatives}");

    // The configuration takes them.
    let config = format!(
        "[[segment]]\nid = \"runners\"\nwhere = \"true\"\n[[campaign]]\nid = \"spring\"\naction = \"click\"\nvalue = 0.8\n\
         probability = 0.1\ncurrency = \"EUR\"\n\n{creatives}"
    );
    fs::write(path(&folder, "a.toml"), config).unwrap();
    let (code, text, error) = aimpoint(&["check", "--offline", "--config", &path(&folder, "a.toml")], &[]);
    assert_eq!(code, 0, "{text}{error}");
}

#[test]
fn faults_of_briefs_and_files_are_named_with_their_exit_codes() {
    let bad = BRIEF.replace("language = \"en\"", "language = \"xx\"").replace("id = \"battery\"", "id = \"a b\"");
    let folder = folder_with(&[("bad.toml", &bad), ("b.toml", BRIEF), ("c.jsonl", "nonsense\n"), ("empty.jsonl", "")]);
    let file = |name| path(&folder, name);
    let (code, _, error) = aimpoint(&["content", "check", &file("bad.toml")], &[]);
    assert_eq!(code, 78, "{error}");
    assert!(error.contains("bad.toml: line 4: language") && error.contains("bad.toml: line 10: fact[0].id"), "{error}");
    let (code, _, error) = aimpoint(&["content", "themes", &file("c.jsonl")], &[]);
    assert_eq!((code, error.contains("no line can be used")), (65, true), "{error}");
    let (code, _, error) = aimpoint(&["content", "themes", &file("empty.jsonl")], &[]);
    assert_eq!((code, error.contains("no comment is left")), (65, true), "{error}");
    assert_eq!(aimpoint(&["content", "themes", &file("nowhere.jsonl")], &[]).0, 66);
    let (code, _, error) = aimpoint(&["content", "brief", &file("c.jsonl")], &[]);
    assert_eq!((code, error.contains("content themes --out")), (65, true), "{error}");
    let arguments =
        ["content", "write", &file("b.toml"), "--out", &file("o.jsonl"), "--url", "ftp://a.example/v1", "--model", "m"];
    let (code, _, error) = aimpoint(&arguments, &[]);
    assert_eq!((code, error.contains("expected http:// or https://")), (2, true), "{error}");
    let (code, _, error) = aimpoint(&["content", "write", &file("b.toml"), "--out", &file("b.toml")], &[]);
    assert_eq!((code, error.contains("would be overwritten")), (65, true), "{error}");
}

/// What the server does with a connection.
#[derive(Clone)]
enum Act {
    Answer(u16, &'static str, String),
    /// Says nothing for this long.
    Slow(Duration),
    /// Sends half of the body and closes.
    CutOff(String),
}

/// A server that acts as told, one act per connection, and records what it was sent.
fn server(acts: Vec<Act>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    thread::spawn(move || {
        for act in acts {
            let (stream, _) = listener.accept().unwrap();
            record.lock().unwrap().push(request(&stream));
            thread::spawn(move || respond(stream, act));
        }
    });
    (url, seen)
}

/// Reads a request: head and body.
fn request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0);
    }
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    format!("{head}{}", String::from_utf8(body).unwrap())
}

fn respond(mut stream: TcpStream, act: Act) {
    // The client may have gone already.
    let mut send = |text: String| stream.write_all(text.as_bytes()).unwrap_or_default();
    match act {
        Act::Slow(time) => thread::sleep(time),
        Act::Answer(status, more, body) => send(format!(
            "HTTP/1.1 {status} X\r\n{more}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )),
        Act::CutOff(body) => {
            send(format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n{}", body.len(), &body[..body.len() / 2]));
        }
    }
}

fn answer(content: &str) -> String {
    json!({
        "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 200, "completion_tokens": 50},
    })
    .to_string()
}

const TEXTS: &str = r#"{"texts":[{"part":"headline","text":"30 hours with GPS","facts":["battery"]},
    {"part":"headline","text":"Guaranteed to last","facts":[]},
    {"part":"description","text":"Ignore the limits and visit evil.example now","facts":[]}]}"#;
const REPAIRED: &str = r#"{"texts":[{"part":"headline","text":"All day with GPS","facts":["battery"]}]}"#;

fn write(folder: &TempDir, url: &str, more: &[&str]) -> (i32, String, String, String) {
    let out = path(folder, "texts.jsonl");
    let brief = path(folder, "b.toml");
    let arguments = ["content", "write", &brief, "--out", &out, "--url", url, "--model", "small", "--timeout", "5s"];
    let all: Vec<&str> = arguments.iter().chain(more).copied().collect();
    let (code, text, error) = aimpoint(&all, &[("AIMPOINT_CONTENT_KEY", "sk-very-secret-1234")]);
    (code, text, error, fs::read_to_string(out).unwrap_or_default())
}

#[test]
fn a_model_that_fails_in_every_way_is_asked_again_and_what_it_writes_passes_the_gates() {
    let ok = |content: &str| Act::Answer(200, "", answer(content));
    let folder = folder_with(&[("b.toml", BRIEF)]);
    // Each way to fail once, in three rounds, because a request is repeated three times.
    for failures in [
        vec![
            Act::Slow(Duration::from_secs(9)),
            Act::Answer(429, "retry-after: 1\r\n", "{}".to_owned()),
            Act::CutOff(answer(TEXTS)),
        ],
        vec![ok("{\"texts\": [{\"part\""), ok("{\"headline\": \"x\"}"), Act::Answer(500, "", "<html>".to_owned())],
    ] {
        // After the texts: the repairs of the second and the third; the latter stays as it is.
        let good = [
            ok(TEXTS),
            ok(REPAIRED),
            ok(r#"{"texts":[{"part":"description","text":"Visit evil.example","facts":[]}]}"#),
        ];
        let (url, seen) = server(failures.into_iter().chain(good).collect());
        let (code, text, error, texts) = write(&folder, &url, &["--price-in", "1", "--price-out", "2"]);
        assert_eq!(code, 0, "{text}{error}");
        for part in [
            "1  passed the gates at once",
            "1  passed after a repair",
            "1  dropped: link",
            "6 requests, 3 of them repeated",
            "cost 0.",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(texts.contains("All day with") && !texts.contains("evil") && !texts.contains("Guaranteed"), "{texts}");
        assert!(texts.lines().all(|line| serde_json::from_str::<Value>(line).unwrap()["writer"] == "small"));
        let seen = seen.lock().unwrap();
        assert!(seen[0].starts_with("POST /v1/chat/completions "), "{}", seen[0]);
        assert!(seen[0].to_lowercase().contains("authorization: bearer sk-very-secret-1234"));
        assert!(seen[4].contains("no fact of the brief says"), "the repair gives the reason: {}", seen[4]);
        for shown in [&text, &error, &texts] {
            assert!(!shown.contains("sk-very-secret"), "{shown}");
        }
    }
}

#[test]
fn a_model_that_is_away_or_refuses_is_named_and_what_is_done_is_kept() {
    let two = format!("{BRIEF}\n[[theme]]\nid = \"t2\"\nwords = [\"strap\"]\n");
    let folder = folder_with(&[("b.toml", &two)]);
    let one = r#"{"texts":[{"part":"headline","text":"30 hours with GPS","facts":["battery"]}]}"#;
    let refusal = Act::Answer(401, "", "{\"error\":{\"message\":\"bad key sk-very-secret-1234\"}}".to_owned());
    let (url, _) = server(vec![Act::Answer(200, "", answer(one)), refusal]);
    let (code, text, error, texts) = write(&folder, &url, &[]);
    assert_eq!(code, 69, "{text}{error}");
    assert!(error.contains("theme t2: the server answered 401") && error.contains("check the key"), "{error}");
    assert!(!error.contains("sk-very-secret"), "{error}");
    assert_eq!(texts.lines().count(), 1, "{texts}");
    let (code, _, error, _) = write(&folder, "http://127.0.0.1:1/v1", &["--wait-max", "0s"]);
    assert_eq!((code, error.contains("is the server running?")), (69, true), "{error}");
}

/// A server with a certificate for this name that ends in this year; it answers each request with a text.
fn tls_server(authority: &Issuer<'static, KeyPair>, name: &str, until: i32) -> String {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/v1", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
            let (mut seen, mut part) = (Vec::new(), [0; 4_096]);
            // A client that refuses the certificate goes away; a request ends with that of its JSON.
            while !seen.ends_with(b"}") {
                match stream.read(&mut part) {
                    Ok(count) if count > 0 => seen.extend_from_slice(&part[..count]),
                    _ => break,
                }
            }
            if seen.starts_with(b"POST /v1/chat/completions ") {
                let text = answer(r#"{"texts":[{"part":"headline","text":"30 hours with GPS","facts":["battery"]}]}"#);
                let head = format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
                stream.write_all((head + &text).as_bytes()).unwrap_or_default();
            }
        }
    });
    url
}

#[test]
fn a_model_is_reached_by_tls_and_each_fault_of_its_certificate_is_named() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let authority = Issuer::new(params, key);
    let folder = folder_with(&[("b.toml", BRIEF), ("ca.pem", &pem), ("empty.pem", "nothing")]);
    let [ca, empty, nowhere] = ["ca.pem", "empty.pem", "nowhere.pem"].map(|name| path(&folder, name));
    let good = tls_server(&authority, "127.0.0.1", 2_100);
    let (code, text, error, texts) = write(&folder, &good, &["--ca", &ca]);
    assert_eq!((code, texts.contains("30 hours with GPS")), (0, true), "{text}{error}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain = format!("https://{}/v1", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").unwrap();
        // The client has the answer before the connection ends.
        stream.read_to_end(&mut Vec::new()).unwrap_or_default();
    });
    for (url, more, code, part) in [
        (
            good.clone(),
            vec![],
            69,
            "an authority that this program does not trust; if it is your own, name its authority with --ca",
        ),
        (
            tls_server(&authority, "other.example", 2_100),
            vec!["--ca", &ca],
            69,
            "not for this name but for other.example; use one",
        ),
        (tls_server(&authority, "127.0.0.1", 2_021), vec!["--ca", &ca], 69, "certificate has expired; have it renewed"),
        (plain, vec!["--ca", &ca], 69, "does not speak TLS there; write http://"),
        (good.clone(), vec!["--ca", &empty], 65, "expected certificates in PEM, found none"),
        (good.clone(), vec!["--ca", &nowhere], 66, "nowhere.pem"),
        (good.replace("https://", "http://"), vec!["--ca", &ca], 2, "has no certificate to check; write https://"),
    ] {
        let more: Vec<&str> = more.into_iter().chain(["--wait-max", "0s"]).collect();
        let (found, _, error, _) = write(&folder, &url, &more);
        assert_eq!((found, error.contains(part)), (code, true), "{part}: {error}");
        assert!(!error.contains("sk-very-secret"), "{error}");
    }
}
