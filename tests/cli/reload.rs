//! A reload takes all or nothing, and whatever the file says the process goes on.

use super::process::Running;

const CONFIG: &str = "[engine]\nworkers = 2\n\n[[segment]]\nid = \"first\"\nwhere = 'event_type == \"view\"'\n";

#[test]
fn no_file_ends_a_running_process() {
    let it = Running::start(CONFIG);
    it.wait_until_ready();
    let users: Vec<String> = (0..6_000).map(|user| format!("'user-{user:06}'")).collect();
    let rule = |rule: &str| format!("{CONFIG}\n[[segment]]\nid = 's'\nwhere = '''{rule}'''\n");
    let faulty = [
        // A fault beyond column 65,535.
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
        // Sound segments beside what needs a restart: neither is taken.
        CONFIG.replace("first", "second").replace("workers = 2", "workers = 1"),
    ];
    let count = faulty.len();
    for (number, text) in faulty.into_iter().enumerate() {
        std::fs::write(&it.config, text).unwrap();
        it.signal("-HUP");
        it.wait_for("a refusal", |it| (it.log().matches("was read again and refused").count() > number).then_some(()));
        let config = it.ask("GET", "/config", "").1;
        assert!(config.contains("\"first\"") && !config.contains("\"second\""), "{config}");
    }
    // The file is gone, and a folder is in its place.
    std::fs::remove_file(&it.config).unwrap();
    it.signal("-HUP");
    it.wait_for("a refusal", |it| (it.log().matches("was read again and refused").count() > count).then_some(()));
    std::fs::create_dir(&it.config).unwrap();
    it.signal("-HUP");
    it.wait_for("a refusal", |it| (it.log().matches("was read again and refused").count() > count + 1).then_some(()));
    std::fs::remove_dir(&it.config).unwrap();
    std::fs::write(&it.config, CONFIG.replace("first", "second")).unwrap();
    it.signal("-HUP");
    it.wait_for("the new segment", |it| it.ask("GET", "/config", "").1.contains("\"second\"").then_some(()));
    assert_eq!(it.ask("GET", "/healthz", "").0, 200);
}
