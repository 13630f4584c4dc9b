//! The section `[serve]`.

use crate::serve::ServeSpec;

fn faults(text: &str) -> Vec<String> {
    let spec: ServeSpec = toml::from_str(text).unwrap();
    let mut errors = Vec::new();
    spec.check(false, &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn the_defaults_have_no_faults_and_each_fault_is_named_with_its_next_step() {
    assert_eq!(faults(""), Vec::<String>::new());
    let consent = "\n[consent]\nenabled = false";
    for (text, found) in [
        ("token = \"short\"", "serve.token: a token needs at least 16 ASCII characters and no spaces; for instance"),
        ("token = \"0123456789abcdef\"\ntoken_file = \"x\"", "serve.token_file: there is a token already"),
        ("threads = 0", "serve.threads: 0 is not between 1 and 256"),
        ("connections_max = 0", "serve.connections_max: 0 is not between 1 and 100000"),
        ("body_max = \"1B\"", "serve.body_max: 1 B is not between 1 KiB and 16.0 MiB"),
        ("body_timeout = \"1ms\"", "serve.body_timeout: 1ms is not between 10ms and 1m"),
        ("write_timeout = \"2m\"", "serve.write_timeout: 2m is not between 100ms and 1m"),
        ("answer_max = \"1 GiB\"", "serve.answer_max: 1.0 GiB is not between 1 KiB and 64.0 MiB"),
        ("stale_max = \"2days\"", "serve.stale_max: 2days is not between 1s and 1day"),
        ("drain = \"1h\"", "serve.drain: 1h is not between 0s and 10m"),
        ("identity = []", "serve.identity: no bid request would name a user"),
        (
            "identity = [{ from = \"user.eids\", key_type = \"person\" }]",
            "serve.identity[0].source: ids of user.eids have a source; for instance source = \"shop.example\"",
        ),
        (
            "identity = [{ from = \"user.id\", source = \"x\", key_type = \"person\" }]",
            "serve.identity[0].source: only ids of user.eids have a source; set from = \"user.eids\", or remove it",
        ),
        (
            "provider = { name = \"x\" }",
            "serve.provider: it is not declared what a bid request's consent signals permit",
        ),
        ("[grpc]", "serve.grpc: it is not declared what a bid request's consent signals permit"),
        (
            &format!("address = \"127.0.0.1:9471\"\n[grpc]{consent}"),
            "serve.grpc.address: HTTP has this address: serve.address",
        ),
        (&format!("provider = {{}}{consent}"), "serve.provider: an OpenRTB Data object names its provider"),
        ("[consent]\nenabled = true\nwithout_law = []", "serve.consent.vendor_id: it is missing"),
    ] {
        let all = faults(text);
        assert!(all.len() == 1 && all[0].starts_with(found), "{text}: {all:?}");
    }
    assert_eq!(faults(&format!("provider = {{ name = \"x\" }}\n[grpc]{consent}")), Vec::<String>::new());
    // Another section may declare it.
    let spec: ServeSpec = toml::from_str("provider = { name = \"x\" }\n[grpc]").unwrap();
    let mut errors = Vec::new();
    spec.check(true, &mut errors);
    assert_eq!(errors, []);
}
