//! A reload applies everything or nothing, and the process keeps running whatever the file contains.

use super::process::Running;

const CONFIG: &str = "[engine]\nworkers = 2\n\n[[segment]]\nid = \"first\"\nwhere = 'event_type == \"view\"'\n";

#[test]
fn no_file_can_stop_a_running_process() {
    let it = Running::start(CONFIG);
    it.wait_until_ready();
    let users: Vec<String> = (0..6_000).map(|user| format!("'user-{user:06}'")).collect();
    let rule = |rule: &str| format!("{CONFIG}\n[[segment]]\nid = 's'\nwhere = '''{rule}'''\n");
    let faulty = [
        // An error after column 65,535.
        rule(&format!("user_id in [{}] && nosuch > 1.0", users.join(","))),
        rule(&format!("value{} > 1.0", "+value".repeat(30_000))),
        rule(&format!("event_type{} == 'a'", ".lowerAscii()".repeat(10_000))),
        rule(&format!("{}true{}", "(".repeat(50_000), ")".repeat(50_000))),
        rule(&format!("{}bot", "!".repeat(100_000))),
        rule("event_type.matches('(\\\\w{100}){1000}')"),
        format!("x={}", "[".repeat(100_000)),
        format!("x={}{}", "{a=".repeat(100_000), "1}".repeat(100_000)),
        format!("{CONFIG}\n{} = 1\n", vec!["a"; 100_000].join(".")),
        format!("{CONFIG}# {}", "x".repeat(3 << 20)),
        "\u{0}".repeat(1_000),
        format!("{CONFIG}\n[time]\npast_limit = \"1990\"\n"),
        String::new() + "[log]\nfilter = \"a=nolevel\"\n" + CONFIG,
        // Valid segments together with a change that needs a restart: neither is applied.
        CONFIG.replace("first", "second").replace("workers = 2", "workers = 1"),
    ];
    let count = faulty.len();
    for (number, text) in faulty.into_iter().enumerate() {
        std::fs::write(&it.config, text).unwrap();
        it.signal("-HUP");
        it.wait_for("a refusal", |it| (it.log().matches("reload refused").count() > number).then_some(()));
        let config = it.ask("GET", "/config", "").1;
        assert!(config.contains("\"first\"") && !config.contains("\"second\""), "{config}");
    }
    // The file is missing, then a folder is in its place.
    std::fs::remove_file(&it.config).unwrap();
    it.signal("-HUP");
    it.wait_for("a refusal", |it| (it.log().matches("reload refused").count() > count).then_some(()));
    std::fs::create_dir(&it.config).unwrap();
    it.signal("-HUP");
    it.wait_for("a refusal", |it| (it.log().matches("reload refused").count() > count + 1).then_some(()));
    std::fs::remove_dir(&it.config).unwrap();
    std::fs::write(&it.config, CONFIG.replace("first", "second")).unwrap();
    it.signal("-HUP");
    it.wait_for("the new segment", |it| it.ask("GET", "/config", "").1.contains("\"second\"").then_some(()));
    assert_eq!(it.ask("GET", "/healthz", "").0, 200);
}

/// For containers without a shell to send a signal from.
#[test]
fn a_request_with_the_token_reloads_the_whole_configuration_or_nothing() {
    const TOKEN: &str = "0123456789abcdef";
    let config = format!("{CONFIG}\n[admin]\ntoken = \"{TOKEN}\"\n");
    let it = Running::start(&config);
    it.wait_until_ready();
    let reload = |token: &str| it.ask_with(token, "POST", "/reload", "");
    let segments = || it.ask_with(TOKEN, "GET", "/config", "").1;

    assert_eq!(reload("0123456789abcdee").0, 401);
    let (status, said) = reload(TOKEN);
    assert!(status == 200 && said.contains("1 segments"), "{status} {said}");

    // Two errors, each reported with its position, and a secret that must not appear.
    let faulty = config.replace("event_type", "event_typ")
        + "[kafka.client]\n\"sasl.password\" = \"hunter2hunter2\"\n[commit]\ninterval = \"9s\"\n";
    std::fs::write(&it.config, &faulty).unwrap();
    let (status, said) = reload(TOKEN);
    assert_eq!(status, 422, "{said}");
    for part in ["nothing has changed", "did you mean \"event_type\"?", "commit.interval: 9s is not between 1ms and 5s"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("hunter2") && !said.contains(TOKEN), "{said}");
    assert!(segments().contains("\"first\""), "the old segments stay");

    std::fs::write(&it.config, config.replace("workers = 2", "workers = 1").replace("first", "second")).unwrap();
    let (status, said) = reload(TOKEN);
    assert!(status == 422 && said.contains("restart for what has changed in engine"), "{status} {said}");
    assert!(segments().contains("\"first\""), "the old segments stay");

    std::fs::write(&it.config, config.replace("first", "second")).unwrap();
    assert_eq!(reload(TOKEN).0, 200);
    assert!(segments().contains("\"second\""));
    let metrics = it.ask_with(TOKEN, "GET", "/metrics", "").1;
    for line in ["aimpoint_reloads_total{outcome=\"taken\"} 2", "aimpoint_reloads_total{outcome=\"refused\"} 2"] {
        assert!(metrics.lines().any(|other| other == line), "{line}");
    }
}

#[test]
fn a_reload_request_without_a_configured_token_is_refused_with_the_next_step() {
    let it = Running::start(CONFIG);
    it.wait_until_ready();
    let (status, said) = it.ask("POST", "/reload", "");
    assert!(status == 403 && said.contains("set admin.token (AIMPOINT__ADMIN__TOKEN)"), "{status} {said}");
    assert!(it.ask("GET", "/metrics", "").1.contains("aimpoint_reloads_total{outcome=\"taken\"} 0"));
}
