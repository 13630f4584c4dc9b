//! Puts secrets everywhere, with correct and wrong syntax, and searches all output for them.

use super::{aimpoint, folder_with, path, process::Running};
use std::{io::Read, io::Write, net::TcpStream, time::Duration};

/// Must not appear in any output, not even its beginning.
const CANARY: &str = "c4nary5ecretOfTheHouse";

fn assert_silent(out: &str, what: &str) {
    assert!(!out.contains(&CANARY[..8]), "{what}:\n{out}");
}

#[test]
fn no_error_in_a_file_shows_a_secret() {
    let lines = [
        "[admin]\ntoken = \"CANARY\nx = 1",
        "[admin]\ntoken = CANARY",
        "[admin]\ntoken \"CANARY\"",
        "[admin]\ntoken = \"CANARY with spaces\"",
        "[admin]\ntoken = [\"CANARY\"]",
        "[admin]\ntoken = { a = \"CANARY\" }",
        "[admin]\ntokn = \"CANARY\"",
        "[admin]\ntkn = \"CANARY\"",
        "[admn]\ntoken = \"CANARY\"",
        "[admn]\ntokn = \"CANARY\"\nx = = 1",
        "admin = \"CANARY\"",
        "admin = { token = \"CANARY\", address = 5 }",
        "admin = { token = \"CANARY\", address = }",
        "admin.token = \"CANARY\"\nadmin.token = \"CANARY\"",
        "[input]\nsecret = \"CANARY\"",
        "[input]\nsecret = \"CANARY",
        "[input]\nsecrt = \"CANARY\"",
        "[input]\nsecret = 5 CANARY",
        "[kafka]\nclient = \"sasl.password=CANARY\"",
        "[kafka]\nclinet = { \"sasl.password\" = \"CANARY\" }",
        "kafka = \"CANARY\"",
        "[kafka.client]\n\"sasl.pasword\" = \"CANARY\"",
        "[kafka.client]\nsasl.pasword = \"CANARY\"",
        "[kafka.client]\n\"sasl.password = \"CANARY\"",
        "[kafka.client]\n\"sasl.password = CANARY\" = 5",
        "[kafka.client]\n\"sasl.password\" = [\"CANARY\"]",
        "[kafka.client]\nsasl.password = \"CANARY\"\nsasl.password = \"CANARY\"",
        "[kafka.client]\n\"sasl.password\" = \"CANARY\"\n\"group.id\" = 5\nbad",
        "[kafka.client]\n\"sasl.jaas.config\" = 'password=\"CANARY\";'",
        "[kafka.client]\n\"sasl.kerberos.kinit.cmd\" = \"kinit CANARY\"\n\"group.id\" = \"x\"",
        "[kafka.client]\n\"sasl.kerberos.kinit.comand\" = \"kinit CANARY\"",
        "[kafka.client]\n\"sasl.oauthbearer.config\" = \"scope=CANARY\"\n\"sasl.mechanisms\" = \"OAUTHBEARER\"",
        "[kafka.client]\n\"ssl.key.pem\" = \"CANARY\"",
        "[kafka.client]\n\"ssl.key.pem\" = \"\"\"\n-----BEGIN PRIVATE KEY-----\nCANARY==\n-----END PRIVATE KEY-----\n\"\"\"\n\"x\" = 1",
        "[kafka.client]\n\"ssl.key.pem\" = \"\"\"\n-----BEGIN PRIVATE KEY-----\nCANARY==\n-----END PRIVATE KEY-----\n",
        "[kafka.client]\n\"ssl.keystore.pasword\" = \"CANARY\"",
        "[kafka.producer]\n\"sasl.password\" = \"CANARY\"\n\"acks\" = \"0\"",
        "[kafka.consumer]\nsasl.oauthbearer.client.secret = \"CANARY\"\nsasl.oauthbearer.client.secrets = \"CANARY\"",
        "[otlp]\nendpoint = \"https://ann:CANARY@host:4318\"",
        "[otlp]\nendpoint = \"http://ann:CANARY@host:4318\"",
        "[otlp]\nendpoint = \"http://ann:CANARY@host:4318/?x=1\"",
        "[kafka]\nbrokers = \"SASL_SSL://ann:CANARY@host:9092\"",
        "[kafka]\nbrokers = \"ann:CANARY@host:9092,other:9092\"",
        "[otlp]\nheaders = \"authorization=CANARY\"",
        "[input]\nformat = \"access_log\", secret = \"CANARY\"",
        "[input]\nformat = \"access_log\", secret = CANARY",
        "[input]\nformat = \"access_log\" secret = \"CANARY\"",
        "[input]\nformat = \"access_log, secret = \"CANARY\"",
        "[input]\nformat = \"access_log\", secrt = \"CANARY\"",
        "[input]\nformat = 'access_log', secrt = 'CANARY'",
        "[input]\nformat = access_log, secrt = CANARY",
        "[input]\nformat = \"access_log, secrt = \"CANARY\"",
        "[input]\nformat = [\"access_log\", secrt = \"CANARY\"]",
        "[input]\nformat = \"access_log\"; secrt = \"CANARY\"",
        "[input]\nsecrt \"CANARY\"",
        "[input]\nsecrt: \"CANARY\"",
        "[input]\nfields = { user_id = \"a\" }, secrt = \"CANARY\"",
        "[kafka.client]\n\"security.protocol\" = \"SASL_PLAINTEXT\", \"sasl.password\" = \"CANARY\"",
        "[kafka.client]\n\"security.protocol\" = \"SASL_PLAINTEXT\", \"sasl.pasword\" = \"CANARY\"",
        "[kafka.client]\n\"security.protocol\" = \"SASL_PLAINTEXT, \"sasl.pasword\" = \"CANARY\"",
        "[kafka.client]\n\"sasl.pasword\" \"CANARY\"",
        "[kafka.client]\nsasl.pasword: CANARY",
        "[kafka]\nbrokers = \"ann:CANARY@host:9092\" x",
        "[kafka]\nbrokers = \"ann:CANARY@host:9092",
        "[kafka]\nclient = { \"security.protocol\" = \"SASL_PLAINTEXT\", \"sasl.pasword\" = \"CANARY\"",
        "[app]\nname = \"a\", admin.token = \"CANARY\"",
        "[app]\nname = \"a\" x # tokn = \"CANARY\"",
        "[app]\n# tokn = \"CANARY\" \u{1}",
        "[app] tokn = \"CANARY\"",
        "[kafka.client]\nsasl.username = \"u\"; sasl.password = \"CANARY\"",
        "[kafka.client]\nsasl.username = \"u\"; sasl.pasword = \"CANARY\"",
        "[admin]\naddress = \"127.0.0.1:9464\", tokn = \"CANARY\"",
        "[kafka]\nbrokers = \"h:9092\", client = { \"sasl.password\" = \"CANARY\" }",
        "[kafka]\nbrokers = \"h:9092\", clinet = { \"sasl.pasword\" = \"CANARY\" }",
        "[kafka.client]\n\"bootstrap.servers\" = \"u:CANARY@h\"",
        "[kafka.client]\n\"metadata.broker.list\" = \"a:1,SSL://u:CANARY@h:1\"",
        "[kafka.client]\n\"sasl.password\" = 1979-05-27 CANARY",
        "[otlp]\nendpoint = \"http://h:4318/v1?token=CANARY\"",
        "[otlp]\nendpoint = \"http://h:4318/v1?x=1&key=CANARY#a\"",
        "[[segment]]\nwhere = '''value > 3\n[kafka.client]\n\"sasl.pasword\" = \"CANARY\"",
        "[[segment]]\nwhere = \"\"\"value > 3 \\q\n\"sasl.pasword\" = \"CANARY\" \\q",
        "[app\n[kafka.client\n\"sasl.pasword\" = \"CANARY\" x",
        "[app]\nnam = \"a\" # the password is CANARY",
        "[app]\nname = = \"a\" # the password is CANARY",
    ];
    for text in lines {
        let text = text.replace("CANARY", CANARY);
        let folder = folder_with(&[("a.toml", &text)]);
        let (code, out, error) = aimpoint(&["check", "--offline", "--config", &path(&folder, "a.toml")], &[]);
        assert!(code == 78 || code == 0, "{text}: {error}");
        assert_silent(&(out + &error), &text);
    }
}

#[test]
fn no_error_in_the_environment_or_command_line_shows_a_secret() {
    for (name, value) in [
        ("AIMPOINT__ADMIN__TOKEN", "c4nary5 "),
        ("AIMPOINT__ADMIN__TOKN", CANARY),
        ("AIMPOINT__ADMIN", CANARY),
        ("AIMPOINT__INPUT__SECRET", CANARY),
        ("AIMPOINT__KAFKA__CLIENT__SASL_PASSWORD", CANARY),
        ("AIMPOINT__KAFKA__CLIENT__SASL_PASWORD", CANARY),
        ("AIMPOINT__KAFKA__CLIENT", CANARY),
        ("AIMPOINT__KAFKA__CLIENT", "{ \"sasl.pasword\" = \"c4nary5ecret\" }"),
        ("AIMPOINT__KAFKA__CLIENT", "{ \"security.protocol\" = \"SSL\", \"sasl.pasword\" = \"c4nary5ecret\""),
        ("AIMPOINT__KAFKA__BROKERS", "ann:c4nary5ecret@host"),
        ("AIMPOINT__KAFKA__SASL_PASSWORD", CANARY),
        ("AIMPOINT__SASL_PASSWORD", CANARY),
        ("AIMPOINT__KAFKA__CLIENT__SSL_KEY_PEM", CANARY),
    ] {
        let (_, out, error) = aimpoint(&["check", "--offline", "--set", "commit.interval=5"], &[(name, value)]);
        assert!(error.contains("commit.interval"), "{error}");
        assert_silent(&(out + &error), name);
    }
    let joined = format!("kafka.client.sasl.password={CANARY}");
    let colon = format!("kafka.client.sasl.password:{CANARY}");
    let wrong = format!("kafka.client.sasl.pasword={CANARY}");
    for arguments in [
        &["check", "--offline", "--set", "kafka.client.sasl.password", CANARY][..],
        &["check", "--offline", "--set", &colon],
        &["check", "--offline", "--set", &wrong],
        &["chekc", "--set", &joined],
        &["metrics", "--set", &joined],
        &["metrics", &format!("--set={joined}")],
        &["check", "--offline", "--set", &joined, "--set", "nonsense"],
        &["check", "--offline", "--set", CANARY],
    ] {
        let (code, out, error) = aimpoint(arguments, &[]);
        assert!(code == 2 || code == 78, "{arguments:?}: {error}");
        assert_silent(&(out + &error), &format!("{arguments:?}"));
    }
}

#[test]
fn an_all_digit_password_is_accepted_and_never_shown() {
    let environment = [("AIMPOINT__KAFKA__CLIENT__SASL_PASSWORD", "73519264")];
    let (code, out, error) = aimpoint(&["check", "--offline"], &environment);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("sasl.password = ***"), "{out}");
    assert!(!(out + &error).contains("73519264"));
    let (code, out, error) =
        aimpoint(&["doctor", "--set", "kafka.brokers=127.0.0.1:1", "--log", "debug"], &environment);
    assert_eq!(code, 69, "{error}");
    assert!(!(out + &error).contains("73519264"));
}

/// The response of a running process at a path, with the token.
fn served(it: &Running, path: &str) -> String {
    let mut stream = TcpStream::connect(&it.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {CANARY}\r\nConnection: close\r\n\r\n",
        it.address
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_running_process_shows_no_secret_in_its_endpoints_logs_or_reloads() {
    let text = |more: &str| {
        format!(
            "[log]\nfilter = \"debug\"\n[admin]\ntoken = \"{CANARY}\"\n[input]\nformat = \"access_log\"\nsecret = \"{CANARY}\"\n\
             [kafka.client]\n\"sasl.username\" = \"ann\"\n\"sasl.password\" = \"{CANARY}\"\n\"debug\" = \"all\"\n{more}"
        )
    };
    let it = Running::start(&text(""));
    for path in ["/config", "/metrics", "/snapshot", "/version", "/log"] {
        assert_silent(&served(&it, path), path);
    }
    let config = served(&it, "/config");
    assert!(config.contains("***") && config.contains("ann"), "{config}");
    for (number, more) in [
        format!("\"sasl.pasword\" = \"{CANARY}\"\n"),
        format!("\"ssl.key.pem\" = \"{CANARY}\n"),
        format!("sasl.kerberos.kinit.cmd = \"kinit {CANARY}\"\n[commit]\ninterval = 5\n"),
        // Valid, but it needs a restart.
        "[engine]\nworkers = 1\n".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        std::fs::write(&it.config, text(more)).unwrap();
        it.signal("-HUP");
        it.wait_for("a refusal", |it| (it.log().matches("reload refused").count() > number).then_some(()));
    }
    assert_silent(&it.log(), "the log");
}
