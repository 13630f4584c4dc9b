//! Users of other processes.

use super::{HOUR, LIMITS, Server, decision};
use crate::{
    app::serve::owners::Owners,
    serve::{Lookup, Store},
    sink::partition_of,
};
use serde_json::json;

/// The partition that a user's first letter names: 0 for a.
fn by_letter(key: &[u8], _: i32) -> i32 {
    i32::from(key[0]) - i32::from(b'a')
}

/// A process that has read the partition of ann, is reading that of cid, and knows that another one has that of bob.
fn server() -> Server {
    let owners = Owners::new("http://own:1");
    owners.set([
        ("shop-serve-a@http://own:1".to_owned(), vec![0, 2]),
        ("shop-serve-b@http://other:1".to_owned(), vec![1]),
    ]);
    let server = Server::of(Store::of_some(by_letter), LIMITS, None, true, None, Some(owners));
    server.shared.store.set_share(4, &[0].into());
    for user in ["ann", "bob", "cid"] {
        server.keep_in(by_letter(user.as_bytes(), 4), user, &decision(user, HOUR));
    }
    server
}

#[test]
fn who_asks_for_a_user_of_another_process_is_sent_there() {
    let server = server();
    assert_eq!(server.get("/v1/decisions/ann").status, 200);
    assert_eq!(server.get("/v1/decisions/a%2Fb").status, 404);
    let sent = server.get("/v1/decisions/b%2Fob%20%C3%A4");
    assert_eq!((sent.status, sent.header("location")), (307, Some("http://other:1/v1/decisions/b%2Fob%20%C3%A4")));
    assert_eq!(sent.header("aimpoint-partition"), Some("1"));
    for (user, partition) in [("cid", "2"), ("dan", "3")] {
        let none = server.get(&format!("/v1/decisions/{user}"));
        assert_eq!(
            (none.status, none.header("retry-after"), none.header("location")),
            (503, Some("1"), None),
            "{user}"
        );
        assert_eq!(none.header("aimpoint-partition"), Some(partition));
    }
    // Once it has been read to its end, it is answered for.
    server.shared.store.set_share(4, &[0, 2].into());
    assert_eq!(server.get("/v1/decisions/cid").status, 200);
    server.shared.store.set_share(4, &[2].into());
    server.shared.store.forget_partition(0);
    assert_eq!(server.get("/v1/decisions/ann").status, 503);
}

#[test]
fn a_batch_says_who_has_the_users_of_others() {
    let server = server();
    let answer = server.ask("POST", "/v1/decisions:batch", "", r#"{"users":["bob","ann","cid"]}"#).json();
    let elsewhere = |partition: i32, owner: Option<&str>| json!({"status": "elsewhere", "decision": null, "partition": partition, "owner": owner});
    assert_eq!(answer["decisions"][0], elsewhere(1, Some("http://other:1")));
    assert_eq!(answer["decisions"][1]["status"], "found");
    assert_eq!(answer["decisions"][2], elsewhere(2, None));
}

#[test]
fn a_bid_request_about_a_user_of_another_process_stays_as_it_is_and_says_whose_it_is() {
    let server = server();
    let enrich = |body: &str| server.ask("POST", "/openrtb2/enrich", "", body);
    let request = r#"{"user":{"buyeruid":"bob"},"regs":{"gdpr":0}}"#;
    let answer = enrich(request);
    assert_eq!((answer.status, answer.text()), (200, request));
    let told = ["aimpoint-outcome", "aimpoint-partition", "aimpoint-owner"].map(|name| answer.header(name));
    assert_eq!(told, [Some("elsewhere"), Some("1"), Some("http://other:1")]);
    let answer = enrich(r#"{"user":{"buyeruid":"cid"},"regs":{"gdpr":0}}"#);
    assert_eq!((answer.header("aimpoint-outcome"), answer.header("aimpoint-owner")), (Some("elsewhere"), None));
    // A further id is known here.
    let request = r#"{"user":{"buyeruid":"ann","id":"bob"},"regs":{"gdpr":0}}"#;
    assert_eq!(enrich(request).header("aimpoint-outcome"), Some("enriched"));
    // Nobody is looked for without consent.
    let request = r#"{"user":{"buyeruid":"bob"},"regs":{"gdpr":1}}"#;
    let refused = enrich(request);
    assert_eq!((refused.header("aimpoint-outcome"), refused.header("aimpoint-owner")), (Some("refused"), None));
}

#[test]
fn a_partition_that_was_given_up_is_forgotten_with_its_erasures() {
    let server = server();
    let store = &server.shared.store;
    assert_eq!(store.sizes().users, 3);
    store.forget_partition(1);
    assert_eq!(store.sizes().users, 2);
    store.forget_partition(0);
    assert_eq!(store.sizes().users, 1);
    assert!(matches!(store.look_up("ann", 0, |_| ()), Lookup::Unknown));
    server.keep("ann", &decision("ann", HOUR));
    assert!(matches!(store.look_up("ann", 0, |_| ()), Lookup::Found(())), "it is gained again");
}

#[test]
fn only_the_partition_that_a_user_is_in_counts() {
    let server = Server::of(Store::of_some(partition_of), LIMITS, None, true, None, Some(Owners::new("http://own:1")));
    // Whose partition is another one since the topic has four in place of two.
    let moved: Vec<String> = (0..100).map(|it| format!("u{it}")).collect();
    let moved = moved.iter().find(|it| partition_of(it.as_bytes(), 2) != partition_of(it.as_bytes(), 4)).unwrap();
    let [before, own] = [2, 4].map(|count| partition_of(moved.as_bytes(), count));
    let store = &server.shared.store;
    store.set_share(4, &[before, own].into());
    server.keep_in(before, moved, &decision(moved, HOUR));
    assert!(matches!(store.look_up(moved, 0, |_| ()), Lookup::Unknown), "an erasure may have ended it elsewhere");
    server.keep_in(own, moved, &decision(moved, HOUR));
    assert!(matches!(store.look_up(moved, 0, |_| ()), Lookup::Found(())));
    store.forget_partition(own);
    assert!(matches!(store.look_up(moved, 0, |_| ()), Lookup::Unknown));
    store.set_share(4, &[before].into());
    assert!(matches!(store.look_up(moved, 0, |_| ()), Lookup::Elsewhere(it) if it == own));
}
