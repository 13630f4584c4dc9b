use super::{
    load::{FILE_BYTES_MAX, on_large_stack},
    *,
};
use std::ffi::OsString;

fn load(text: &str, environment: &[(&str, &str)], sets: &[&str]) -> Result<Config, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("aimpoint.toml");
    std::fs::write(&path, text).expect("a file in it");
    let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    match Config::load(Some(&path), environment, &sets) {
        Ok((config, _)) => Ok(config),
        Err(ConfigLoadError::Invalid(text)) => Err(text.replace(&path.display().to_string(), "aimpoint.toml")),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn the_commented_defaults_are_the_defaults() {
    // They write out [consent], and declare by that what it says.
    let nothing = load("", &[], &[]).map(|config| Config { has_consent: true, ..config });
    assert_eq!(load(DEFAULTS, &[], &[]), nothing);
    assert!(load(DEFAULTS, &[], &[]).is_ok());
}

#[test]
fn all_faults_are_reported_at_once_with_their_positions() {
    let text = "\
[kafka]
brokers = 5

[kafka.client]
\"group.id\" = \"x\"

[commit]
interval = \"soon\"

[enigne]
workers = 2

[topics]
decisions = \"clickstream\"

[[segment]]
id = \"a\"
were = \"true\"
";
    let message = load(text, &[], &[]).expect_err("everything in it is wrong");
    for part in [
        "aimpoint.toml:2:11: kafka.brokers: ",
        "aimpoint.toml:8:12: commit.interval: ",
        "enigne: there is no such section",
        "did you mean [engine]?",
        "topics.decisions: \"clickstream\" is already topics.clickstream",
        "segment[0].were: unknown field `were`",
        "    2 | brokers = 5\n      |           ^\n",
    ] {
        assert!(message.contains(part), "{part:?} is missing in:\n{message}");
    }
}

#[test]
fn a_setting_that_the_guarantees_depend_on_is_rejected_by_name() {
    let message = load("[kafka.consumer]\n\"group.id\" = \"x\"\n", &[], &[]).expect_err("group.id is refused");
    assert!(message.contains("aimpoint.toml:2:14: kafka.consumer.group.id: \"group.id\" cannot be set"), "{message}");
    assert!(message.contains("set app.name"), "{message}");
}

#[test]
fn static_membership_is_rejected_with_the_consumer_group_protocol() {
    let kept = "[kafka.consumer]\n\"group.protocol\" = \"consumer\"\n";
    assert!(load(kept, &[], &[]).is_ok());
    let message = load(&format!("[app]\nstatic_membership = true\n{kept}"), &[], &[]).expect_err("both are refused");
    assert!(message.contains("aimpoint.toml:2:21: app.static_membership: with \"group.protocol\""), "{message}");
}

#[test]
fn writing_only_changes_is_rejected_where_decisions_are_shown_at_once() {
    let at_once = "[commit]\ndelivery = \"at_least_once\"\n[emission]\n";
    assert!(load(at_once, &[], &[]).is_ok());
    assert!(load("[emission]\nevery = \"1m\"\n", &[], &[]).is_ok());
    let message = load(&format!("{at_once}every = \"1m\"\n"), &[], &[]).expect_err("both are refused");
    assert!(message.contains("aimpoint.toml:3:1: emission: with commit.delivery"), "{message}");
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let text = "[commit]\ninterval = \"100ms\"\n[engine]\nworkers = 1\n";
    let environment = [("AIMPOINT__COMMIT__INTERVAL", "50ms"), ("AIMPOINT__ENGINE__WORKERS", "3"), ("PATH", "/bin")];
    let config = load(text, &environment, &["commit.interval=10ms", "kafka.brokers=a:1,b:2"]).unwrap();
    assert_eq!(config.commit.interval.as_millis(), 10);
    assert_eq!((config.engine.workers, config.kafka.brokers.as_str()), (3, "a:1,b:2"));

    let message =
        load(text, &[("AIMPOINT__COMMIT__INTERVAL", "soon")], &["engine.workers=many", "nonsense"]).unwrap_err();
    assert!(message.contains("AIMPOINT__COMMIT__INTERVAL: commit.interval: "), "{message}");
    assert!(message.contains("--set engine.workers: engine.workers: "), "{message}");
    assert!(message.contains("--set takes key=value"), "{message}");
}

#[test]
fn client_settings_come_from_the_environment_and_secrets_are_masked() {
    let environment =
        [("AIMPOINT__KAFKA__CLIENT__SASL_PASSWORD", "hush"), ("AIMPOINT__KAFKA__CONSUMER__FETCH_MIN_BYTES", "7")];
    let config = load("[kafka.client]\n\"security.protocol\" = \"SASL_PLAINTEXT\"\n", &environment, &[]).unwrap();
    let settings = config.kafka.consumer_settings();
    for (name, value) in [("sasl.password", "hush"), ("fetch.min.bytes", "7"), ("security.protocol", "SASL_PLAINTEXT")]
    {
        assert!(settings.contains(&(name.to_owned(), value.to_owned())), "{name} in {settings:?}");
    }
    for shown in [format!("{config:?}"), config.shown().to_string()] {
        assert!(shown.contains("***") && !shown.contains("hush"), "{shown}");
        assert!(shown.contains("SASL_PLAINTEXT"), "{shown}");
    }
    assert!(config.holds_secrets());
    assert!(!load("", &[], &[]).unwrap().holds_secrets());
}

#[test]
fn the_users_whose_decisions_are_explained_are_not_shown() {
    let shown = load("[explain]\nusers = [\"ann@shop.example\", \"bob\"]\n", &[], &[]).unwrap().shown();
    assert_eq!(shown["explain"]["users"], serde_json::json!(["***", "***"]));
    assert!(!shown.to_string().contains("ann@shop"), "{shown}");
}

#[test]
fn a_new_secret_is_a_change_although_both_are_masked() {
    let with = |password: &str, token: &str| {
        let environment = [("AIMPOINT__KAFKA__CLIENT__SASL_PASSWORD", password), ("AIMPOINT__ADMIN__TOKEN", token)];
        load("", &environment, &[]).unwrap()
    };
    let (one, other) = (with("hush-1", "0123456789abcdef"), with("hush-2", "fedcba9876543210"));
    assert_eq!(one.shown(), other.shown());
    assert_eq!(one.needs_restart(&other), ["kafka", "admin"]);
    assert!(one.needs_restart(&one.clone()).is_empty());
}

#[test]
fn an_override_is_taken_literally_by_the_type_of_its_key() {
    let client = |value: &str| {
        let config = load("", &[("AIMPOINT__KAFKA__CLIENT__SASL_PASSWORD", value)], &[]).unwrap();
        let flag = load("", &[], &[&format!("kafka.client.sasl.password={value}")]).unwrap();
        let found = [config, flag].map(|config| config.kafka.client_settings());
        assert_eq!(found[0], found[1], "a variable and a flag");
        found[0][0].1.clone()
    };
    for value in [
        "1e5",
        "0x1F",
        "+5",
        "007",
        "12345678",
        "1_000",
        "true",
        "\"quoted\"",
        "'quoted'",
        "[a]",
        "{a=1}",
        "a\nb",
        " a ",
        "nan",
    ] {
        assert_eq!(client(value), value);
    }
    let text = |value: &str| load("", &[("AIMPOINT__APP__NAME", value)], &[]).map(|config| config.app.name);
    assert_eq!(["1e5", "0x1F", "007"].map(|value| text(value).unwrap()), ["1e5", "0x1F", "007"]);
    assert!(text("\"a\"").unwrap_err().contains("AIMPOINT__APP__NAME: app.name: "), "quotes are no part of a name");
    let token = load("", &[("AIMPOINT__ADMIN__TOKEN", "1234567890123456")], &[]).unwrap().admin.token.unwrap();
    assert_eq!(token.reveal(), "1234567890123456");

    // Numbers, booleans, durations, sizes, addresses, lists and tables.
    let config = load(
        "[model]\npath = \"m.onnx\"\n",
        &[
            ("AIMPOINT__ENGINE__WORKERS", "3"),
            ("AIMPOINT__EXPLAIN__SHARE", "0.25"),
            ("AIMPOINT__SCORING__PRIOR", "1"),
            ("AIMPOINT__APP__STATIC_MEMBERSHIP", "true"),
            ("AIMPOINT__COMMIT__INTERVAL", "10ms"),
            ("AIMPOINT__INPUT__MAX_BYTES", "65536"),
            ("AIMPOINT__ADMIN__ADDRESS", "127.0.0.1:9464"),
            ("AIMPOINT__MODEL__PROVIDERS", "[\"cuda\", \"cpu\"]"),
            ("AIMPOINT__MODEL__HEADS", "{ bought = \"p\" }"),
            ("AIMPOINT__MODEL__VERSION", "3"),
            ("AIMPOINT__INPUT__FIELDS__USER_ID", "who.id"),
            ("AIMPOINT__INPUT__FIELDS__OCCURRED_AT", "{ path = \"at\", unit = \"s\" }"),
            ("AIMPOINT__TOPICS__REPLICATION", "-1"),
        ],
        &["segment=[{ id = \"a\", where = \"true\" }]"],
    )
    .unwrap();
    let model = config.model.as_ref().unwrap();
    assert_eq!((config.engine.workers, config.pipeline.explain.share, config.topics.replication), (3, 0.25, -1));
    assert_eq!((config.app.static_membership, config.commit.interval.as_millis()), (true, 10));
    assert_eq!((config.pipeline.input.max_bytes.as_u64(), model.version.as_deref()), (65_536, Some("3")));
    assert_eq!((model.providers.len(), model.heads["bought"].as_str()), (2, "p"));
    assert_eq!((config.pipeline.segments.len(), config.pipeline.input.fields.len()), (1, 2));

    for (name, value, part) in [
        ("AIMPOINT__ENGINE__WORKERS", "many", "engine.workers: expected a whole number, found \"many\""),
        ("AIMPOINT__ENGINE__WORKERS", "1.5", "engine.workers: expected a whole number"),
        ("AIMPOINT__ENGINE__WORKERS", "", "engine.workers: expected a whole number"),
        ("AIMPOINT__ENGINE__WORKERS", "99999999999999999999", "engine.workers: "),
        ("AIMPOINT__APP__STATIC_MEMBERSHIP", "yes", "app.static_membership: expected true or false, found \"yes\""),
        ("AIMPOINT__EXPLAIN__SHARE", "half", "explain.share: expected a number"),
        ("AIMPOINT__MODEL__PROVIDERS", "cuda,cpu", "model.providers: expected a TOML list"),
        ("AIMPOINT__EXPERIMENT__SHARES", "b=0.1", "experiment.shares: expected a TOML table"),
        ("AIMPOINT__COMMIT__INTERVAL", "10", "commit.interval: "),
        ("AIMPOINT__COMMIT__INTERVALL", "10ms", "commit.intervall: unknown field `intervall`"),
        ("AIMPOINT__KAFKA", "a:9092", "kafka: expected a TOML table"),
        ("AIMPOINT__ENIGNE__WORKERS", "3", "enigne: there is no such section"),
        ("AIMPOINT__", "3", "is not a key"),
        ("AIMPOINT__A__B__C__D__E__F__G__H__I__J__K__L__M__N__O__P__Q", "3", "no key has more than 16 parts"),
    ] {
        let message = load("[model]\npath = \"m.onnx\"\n", &[(name, value)], &[]).unwrap_err();
        assert!(
            message.contains(&format!("{name}: ")) && message.contains(part),
            "{name}={value}: {part:?} is missing in\n{message}"
        );
        assert!(!message.contains("aimpoint.toml:"), "it is no line of the file:\n{message}");
    }
}

#[test]
fn no_fault_hides_another() {
    let text = "\
[commit]
intervall = \"10ms\"
interval = 5
delivery = \"twice\"

[engine]
workers = \"two\"
batch_max_rows = 0

[[field]]
name = \"color\"
type = \"colour\"
path = 7

[[feature]]
name = \"n\"
aggregate = \"count\"
window = 24
where = 'event_typ == \"view\"'

[[segment]]
name = \"x\"

[[segment]]
id = \"\"
where = 'colr == 1'

[input.fields]
user_id = 5
event_id = { path = \"a\", unti = \"s\" }
";
    let message = load(text, &[], &[]).unwrap_err();
    for part in [
        "aimpoint.toml:2:",
        "commit.intervall: unknown field `intervall`",
        "commit.interval: expected a text in quotes, found the number 5",
        "for instance interval = \"25ms\"",
        "commit.delivery: unknown variant `twice`",
        "engine.workers: expected a whole number, found the text \"two\"",
        "engine.batch_max_rows: 0 is not between",
        "field[0].type: unknown variant `colour`",
        "field[0].path: expected a text in quotes, found the number 7",
        "feature[0].window: expected a text in quotes, found the number 24",
        "feature[0].where: nothing here is named \"event_typ\"",
        "segment[0].id: missing field `id`",
        "segment[0].where: missing field `where`",
        "segment[1].id: the name is empty",
        "segment[1].where: nothing here is named \"colr\"",
        "input.fields.user_id: expected a text in quotes or a table, found the number 5",
        "input.fields.event_id.unti: unknown field",
    ] {
        assert!(message.contains(part), "{part:?} is missing in:\n{message}");
    }
    assert!(!message.contains("untagged"), "{message}");
    let lines: Vec<usize> = message
        .lines()
        .filter_map(|line| line.strip_prefix("aimpoint.toml:")?.split(':').next()?.parse().ok())
        .collect();
    assert!(lines.is_sorted(), "they are message in the order of the file: {lines:?}");
}

#[test]
fn unreadable_names_are_faults() {
    let long = "n".repeat(257);
    for (text, part) in [
        ("[[segment]]\nid = \"\"\nwhere = \"true\"", "segment[0].id: the name is empty"),
        ("[[segment]]\nid = \" \"\nwhere = \"true\"", "segment[0].id: \" \" begins or ends with a space"),
        ("[[segment]]\nid = \"a\\u0007\"\nwhere = \"true\"", "segment[0].id: \"a\\u{7}\" has a control character"),
        (&format!("[[segment]]\nid = \"{long}\"\nwhere = \"true\""), "segment[0].id: a name of 257 bytes"),
        ("[[segment]]\nid = \"a\"\nname = \"\"\nwhere = \"true\"", "segment[0].name: the name is empty"),
        ("[[field]]\nname = \"\"\ntype = \"string\"\npath = \"a\"", "field[0].name: the name is empty"),
        ("[[field]]\nname = \"a b\"\ntype = \"string\"\npath = \"a\"", "field[0].name: \"a b\" cannot be used"),
        ("[model]\npath = \"\"", "model.path: "),
        ("[model]\npath = \"m\"\nname = \"\"", "model.name: the name is empty"),
        ("[model]\npath = \"m\"\nversion = \"\"", "model.version: the name is empty"),
        ("[model]\npath = \"m\"\nheads = { \"\" = \"p\" }", "the name is empty"),
        ("[experiment]\nname = \"\"", "experiment.name: the name is empty"),
        ("[app]\ninstance = \"\"", "app.instance: "),
    ] {
        let message = load(text, &[], &[]).unwrap_err();
        assert!(message.contains(part), "{part:?} is missing in:\n{message}");
    }
}

#[test]
fn the_hint_for_a_duration_or_size_without_a_unit_has_one() {
    for (text, part) in [
        ("[commit]\ninterval = \"25\"", "for instance interval = \"25ms\""),
        ("[commit]\ninterval = 25", "for instance interval = \"25ms\""),
        ("[input]\nmax_bytes = \"lots\"", "for instance max_bytes = \"1 MiB\""),
        ("[time]\nallowed_lateness = \"7\"", "for instance allowed_lateness = \"7days\""),
        ("[label]\nwhere = \"true\"\nwithin = 30", "for instance within = \"30d\""),
        ("[model]\npath = \"m\"\ndeadline = \"1\"", "for instance deadline = \"1s\""),
        ("[[shadow]]\nname = \"a\"\npath = \"m\"\ngpu = { memory_limit = \"2 giga\" }", "shadow[0].gpu.memory_limit: "),
    ] {
        let message = load(text, &[], &[]).unwrap_err();
        assert!(message.contains(part), "{part:?} is missing in:\n{message}");
    }
}

#[test]
fn client_settings_are_checked_by_name_and_value() {
    for (text, part) in [
        ("\"sasl.pasword\" = \"c4nary\"", "librdkafka has no setting \"sasl.pasword\""),
        ("sasl.pasword = \"c4nary\"", "did you mean \"sasl.password\"?"),
        ("\"fetch.min.bytes\" = \"c4nary\"", "kafka.client.fetch.min.bytes: librdkafka does not accept it"),
        ("\"sasl.jaas.config\" = \"c4nary\"", "librdkafka does not accept this value"),
        ("\"ssl.key.password\" = [\"c4nary\"]", "a setting cannot be a list"),
    ] {
        let message = load(&format!("[kafka.client]\n{text}\n"), &[], &[]).unwrap_err();
        assert!(message.contains(part), "{part:?} is missing in:\n{message}");
        assert!(!message.contains("c4nary") || message.contains("fetch.min.bytes"), "{message}");
    }
    let config = load("[kafka.client]\nsocket.timeout.ms = 5000\n\"client.rack\" = \"a\"\n", &[], &[]).unwrap();
    let settings = config.kafka.client_settings();
    assert!(settings.contains(&("socket.timeout.ms".to_owned(), "5000".to_owned())), "{settings:?}");
}

#[test]
fn folders_binary_files_and_huge_files_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &Path| Config::load(Some(path), std::iter::empty(), &[]).unwrap_err().to_string();
    assert!(message(folder.path()).contains("this is a folder"));
    let file = folder.path().join("a.toml");
    std::fs::write(&file, b"[app]\nname = \"\xff\"\n").unwrap();
    assert!(message(&file).contains("line 2 is not UTF-8"), "{}", message(&file));
    std::fs::write(&file, vec![b' '; (FILE_BYTES_MAX + 1) as usize]).unwrap();
    assert!(message(&file).contains("has more than"), "{}", message(&file));
    assert!(message(Path::new("/dev/zero")).contains("has more than"));
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_reported_by_name_and_unrelated_ones_are_ignored() {
    use std::os::unix::ffi::OsStringExt;
    let bad = OsString::from_vec(vec![0xff]);
    assert!(Config::load(None, [("OTHER".into(), bad.clone())].into_iter(), &[]).is_ok());
    let message = Config::load(None, [("AIMPOINT__APP__NAME".into(), bad)].into_iter(), &[]).unwrap_err().to_string();
    assert!(message.contains("AIMPOINT__APP__NAME: app.name: the value is not UTF-8"), "{message}");
}

#[test]
fn a_fault_inside_a_rule_points_into_the_rule() {
    let text = "[[segment]]\nid = \"a\"\nwhere = '''\nvalue > 1.0\n  && scor > 0.5'''\n".to_owned();
    let document = Document::parse("aimpoint.toml", text).unwrap();
    let mut error = ConfigError::new("segment[0].where", "nothing here is named \"scor\"");
    error.at = Some((2, 6));
    let message = document.explain(&[error]);
    assert!(message.starts_with("aimpoint.toml:5:6: segment[0].where: "), "{message}");
    assert!(message.contains("    5 |   && scor > 0.5'''\n      |      ^\n"), "{message}");
}

#[test]
fn a_panic_while_reading_a_configuration_is_an_error() {
    let message = on_large_stack::<()>(Some(Path::new("a.toml")), || panic!("index {} out of bounds", 4))
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "read the configuration a.toml: this is a bug in Aimpoint, please report it: index 4 out of bounds"
    );
    let message = on_large_stack::<()>(None, || panic!("nothing")).unwrap_err();
    assert!(matches!(message, ConfigLoadError::Bug { words, .. } if words == "nothing"));
}

#[test]
fn a_string_that_is_not_a_date_is_rejected() {
    for text in ["1990", "2026", "199", "19901", "1990-", "1990-1", "[199]", "é990", "soon", "", "1990-13-01"] {
        let message = load(&format!("[time]\npast_limit = \"{text}\"\n"), &[], &[]).unwrap_err();
        assert!(
            message.contains(&format!("time.past_limit: {text:?} is not a date; write one such as \"1990-01-01\"")),
            "{message}"
        );
        let message = load("", &[], &[&format!("time.past_limit={text}")]).unwrap_err();
        assert!(message.contains("is not a date"), "{message}");
    }
}

#[test]
fn a_date_may_be_one_of_toml_or_a_text() {
    let text = |from: &str| {
        format!("[[campaign]]\nid = \"spring\"\nvalue = 0.8\ncurrency = \"EUR\"\nfrom = {from}\nuntil = 2026-03-31\n")
    };
    for (from, found) in
        [("2026-03-01", "2026-03-01"), ("\"2026-03-01\"", "2026-03-01"), ("2026-03-01T08:00:00", "2026-03-01T08:00:00")]
    {
        let config = load(&text(from), &[], &[]).unwrap();
        assert_eq!(config.pipeline.campaigns[0].from.as_deref(), Some(found));
        assert_eq!(config.pipeline.campaigns[0].until.as_deref(), Some("2026-03-31"));
    }
    let message = load(&text("2026-03-32"), &[], &[]).unwrap_err();
    assert!(message.contains("aimpoint.toml:5"), "{message}");
}

#[test]
fn wrong_numbers_and_sizes_are_explained() {
    for (text, part) in [
        ("[engine]\nworkers = -1", "engine.workers: expected a whole number from 0 to 18446744073709551615, found -1"),
        ("[duplicates]\nmax_ids = 65536", "duplicates.max_ids: expected a whole number from 0 to 65535, found 65536"),
        (
            "[duplicates]\nmax_ids = 99999999999999999999",
            "duplicates.max_ids: expected a whole number from 0 to 65535, found 99999999999999999999",
        ),
        (
            "[topics]\npartitions = 3000000000",
            "topics.partitions: expected a whole number from -2147483648 to 2147483647",
        ),
        ("[input]\nmax_bytes = \"1e6\"", "input.max_bytes: \"1e6\" is not a size; write a whole number and its unit"),
        ("[admin]\ntoken = 1234567890123456789012", "admin.token: expected a text in quotes, found a number"),
        ("[admin]\ntoken = true", "admin.token: expected a text in quotes, found true or false"),
    ] {
        let message = load(text, &[], &[]).unwrap_err();
        assert!(message.contains(part), "{part:?} is missing in:\n{message}");
        assert!(!message.contains("123456789012345"), "{message}");
    }
    for name in ["AIMPOINT__", "AIMPOINT____A", "AIMPOINT__KAFKA____BROKERS", "AIMPOINT__KAFKA__"] {
        let message = load("", &[(name, "1")], &[]).unwrap_err();
        assert!(message.starts_with(&format!("{name}: the variable's name is not a key\n")), "{message}");
        assert!(!message.contains("no such section"), "{message}");
    }
    let message = load("", &[("AIMPOINT__KAFKA__CLIENT", "{\"sasl.pasword\"=\"c4naryc4nary\"}")], &[]).unwrap_err();
    assert!(message.contains("librdkafka has no setting \"sasl.pasword\"") && !message.contains("c4nary"), "{message}");
}

#[test]
fn a_client_setting_without_quotes_is_taken_literally() {
    for value in [
        "1e5",
        "0x1F",
        "+5",
        "1.50",
        "1_000",
        "123456789.123456789",
        "1979-05-27",
        "true",
        "00:00:01",
        "nan",
        "12345678901234567890123",
    ] {
        let settings = |section: &str| {
            let config = load(section, &[], &[]).unwrap_or_else(|error| panic!("{value}: {error}"));
            config.kafka.client_settings()
        };
        let name = || "sasl.password".to_owned();
        for section in [
            format!("[kafka.client]\n\"sasl.password\" = {value}\n"),
            format!("[kafka.client]\nsasl.password = {value} # a comment\n"),
            format!("[kafka]\nclient = {{ \"sasl.password\" = {value} }}\n"),
        ] {
            assert_eq!(settings(&section), [(name(), value.to_owned())], "{section}");
        }
    }
    let message = load("[kafka.client]\n\"socket.timeout.ms\" = 1e5\n", &[], &[]).unwrap_err();
    assert!(message.contains("kafka.client.socket.timeout.ms: librdkafka does not accept it"), "{message}");
}

#[test]
fn brokers_are_hosts_with_ports() {
    for brokers in [
        "a",
        "a:9092",
        "a:9092,b:9092",
        " a:9092 , b_1.x-y.example:1,",
        "127.0.0.1:9092",
        "[::1]:9092",
        "[::1]",
        "SASL_SSL://a:9092",
    ] {
        assert!(load("", &[("AIMPOINT__KAFKA__BROKERS", brokers)], &[]).is_ok(), "{brokers}");
    }
    for brokers in [
        "[\"a:1\",\"b:2\"]",
        "9092",
        "a:0",
        "a:65536",
        "a:9092;b:9092",
        "a:b:1",
        ":9092",
        "a b:1",
        "::1",
        "http s://a:1",
        "\"a:1\"",
    ] {
        let message = load("", &[("AIMPOINT__KAFKA__BROKERS", brokers)], &[]).unwrap_err();
        assert!(
            message.contains("AIMPOINT__KAFKA__BROKERS: kafka.brokers: ") && message.contains("is not host:port"),
            "{message}"
        );
    }
}

#[test]
fn lines_of_invalid_toml_are_shown_up_to_what_may_be_secret() {
    for (text, shown) in [
        ("[input]\nformat = \"access_log\", secret = \"c4nary\"", "format = \"access_log\" ***"),
        ("[app]\nname = \"a\" \"b\"", "name = \"a\" ***"),
        ("[app]\nname = a", "name = a"),
        ("[app]\nname = \"a", "name = \"a"),
        ("[model]\nproviders = [\"cuda\", \"cpu\"", "providers = [\"cuda\", \"cpu\""),
        ("[app]\nname =", "name ="),
        ("[input]\nfields = { user_id = \"who\", = }", "fields = ***"),
        ("[[segment]]\nid = \"a\"\nwhere = 'value == 3' x", "where = 'value == 3' ***"),
    ] {
        let message = load(text, &[], &[]).unwrap_err();
        assert!(message.contains("this is not TOML"), "{message}");
        assert!(
            message.lines().any(|line| line.ends_with(&format!("| {shown}"))),
            "{shown:?} is missing in:\n{message}"
        );
        assert!(!message.contains("c4nary"), "{message}");
    }
}

#[test]
fn invalid_toml_is_reported_with_its_position() {
    let message = load("[kafka\nbrokers = \"a\"\n[app]\nname = = 3\n", &[], &[]).unwrap_err();
    assert!(message.contains("aimpoint.toml:1:") && message.contains("aimpoint.toml:4:"), "{message}");
}

#[test]
fn a_shadow_needs_a_unique_name_and_a_model_to_compare_with() {
    let errors = |text: &str| {
        let document = Document::parse("aimpoint.toml", text.to_owned()).unwrap();
        let mut errors = Vec::new();
        let config = Config::read(&document, None, &mut errors);
        (config, errors.into_iter().map(|error| format!("{}: {}", error.key, error.message)).collect::<Vec<_>>())
    };
    let model = "[model]\npath = \"m.onnx\"\n";
    let shadow = |more: &str| format!("[[shadow]]\npath = \"s.onnx\"\n{more}\n");
    let (config, found) = errors(&format!("{model}{}", shadow("name = \"b\"")));
    assert_eq!((found, config.shadows.len()), (Vec::new(), 1));
    let (_, found) = errors(&shadow("name = \"b\""));
    assert!(found.len() == 1 && found[0].contains("the model that decides, but there is none"), "{found:?}");
    let (_, found) = errors(&format!("{model}{}{}{}", shadow("name = \"b\""), shadow(""), shadow("name = \"b\"")));
    assert!(found.len() == 2, "{found:?}");
    assert!(found[0].starts_with("shadow[1]: a shadow needs a name"), "{found:?}");
    let (_, message) = errors(&format!("[topics]\nshadow_scores = \"s\"\n{model}"));
    assert!(
        message.len() == 1 && message[0].starts_with("topics.shadow_scores: no shadow is configured"),
        "{message:?}"
    );
    assert!(found[1].starts_with("shadow[2].name: \"b\" is the name of another shadow"), "{found:?}");
}

#[test]
fn variants_shares_and_the_model_are_checked_together() {
    let model = "[model]\npath = \"m.onnx\"\nheads = { bought = \"p\" }\n";
    let variant = |more: &str| format!("[[variant]]\npath = \"v.onnx\"\n{more}\n");
    let named = variant("name = \"b\"\nheads = { bought = \"q\" }");
    let experiment = "[experiment]\nname = \"spring\"\nshares = { b = 0.1 }\n";
    let config = load(&format!("{model}{named}{experiment}"), &[], &["experiment.shares.b=0.25"]).unwrap();
    assert_eq!(
        (config.variants.len(), config.pipeline.experiment.shares["b"]),
        (1, 0.25),
        "a flag overrides the share"
    );
    assert!(config.variants[0].path.is_absolute(), "it is relative to the configuration");
    for (text, part) in [
        (format!("{named}{experiment}"), "variant[0]: a variant decides for a share of the users, but no model"),
        (format!("{model}{named}"), "experiment.name: variants need the name of their experiment"),
        (format!("{model}{experiment}"), "aimpoint.toml:6:16: experiment.shares.b: no variant is named \"b\""),
        (
            format!("{model}{}{experiment}", variant("name = \"b\"")),
            "variant[0].heads: expected the heads of [model], [\"bought\"], found []",
        ),
        (
            format!("{model}{named}{}", experiment.replace("0.1", "0.00001")),
            "experiment.shares.b: 0.00001 is not between",
        ),
        (format!("{model}batch = {{ max_rows = 3 }}\n"), "aimpoint.toml:4:22: model.batch.max_rows: 3 is not between"),
        (
            format!("{model}{named}batch = {{ max_delay = \"1s\" }}\n{experiment}"),
            "variant[0].batch.max_delay: 1s is more than",
        ),
    ] {
        let message = load(&text, &[], &[]).unwrap_err();
        assert!(message.contains(part), "{part:?} is missing in:\n{message}");
    }
}
