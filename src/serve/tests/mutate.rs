//! What is proposed to a host of agents.

use super::{NOW, decision, keep};
use crate::{
    event::UserKeys,
    proto::{
        iab::{
            mutation::{Intent, Mutation, Operation, RtbRequest, RtbResponse, mutation::Value},
            openrtb::{
                BidRequest, BidResponse,
                bid_request::{Device, Eid, Geo, Imp, Pmp, Regs, User, eid::Uid, pmp::Deal, regs, user},
                bid_response::{Bid, SeatBid},
            },
        },
        v1,
    },
    serve::{Enrichment, Mutator, ServeSpec, Store},
};

fn mutator(text: &str) -> Mutator {
    let spec: ServeSpec = toml::from_str(text).unwrap();
    let mut errors = Vec::new();
    let rules = spec.rules(&mut errors);
    assert_eq!(errors, []);
    Mutator::new("s1", spec.identity, UserKeys::default(), rules)
}

const OPEN: &str = "[consent]\nenabled = false";

fn offer(id: &str, bid_micros: i64, shaded_micros: i64, currency: &str) -> v1::CampaignOffer {
    let currency = currency.to_owned();
    v1::CampaignOffer { id: id.to_owned(), bid_micros, shaded_micros, currency, ..v1::CampaignOffer::default() }
}

fn store() -> Store {
    let store = Store::default();
    let mut ann = decision("ann", NOW, &["1", "2"]);
    ann.segments.push(v1::Segment { id: "2".to_owned(), segtax: 6, ..v1::Segment::default() });
    ann.segments.push(v1::Segment { id: "gone".to_owned(), expires_at: NOW, ..v1::Segment::default() });
    ann.model = Some(v1::Model { version: "v7".to_owned(), ..v1::Model::default() });
    ann.campaigns = vec![
        offer("shoes", 3_000_000, 2_100_000, "USD"),
        offer("hats", 1_500_000, 0, "USD"),
        offer("free", 0, 0, "USD"),
        offer("yen", 10_000, 0, "JPY"),
    ];
    keep(&store, 0, "ann", &ann);
    keep(&store, 0, "bob", &decision("bob", NOW, &[]));
    keep(&store, 0, "old", &decision("old", 0, &["1"]));
    store
}

fn about(user: &str) -> RtbRequest {
    let user = User { buyeruid: user.to_owned(), ..User::default() };
    let bid_request = Some(BidRequest { user: Some(user), ..BidRequest::default() });
    RtbRequest { id: "r1".to_owned(), bid_request, ..RtbRequest::default() }
}

fn bid(id: &str, cid: &str, price: f64) -> Bid {
    Bid { id: id.to_owned(), impid: "1".to_owned(), cid: cid.to_owned(), price, ..Bid::default() }
}

fn with_bids(seat: &str, bid: Vec<Bid>, cur: &str) -> RtbRequest {
    let seatbid = vec![SeatBid { bid, seat: seat.to_owned() }];
    let mut request = about("ann");
    request.bid_request.as_mut().unwrap().imp = vec![Imp { id: "1".to_owned(), ..Imp::default() }];
    RtbRequest { bid_response: Some(BidResponse { seatbid, cur: cur.to_owned() }), ..request }
}

fn propose(mutator: &mut Mutator, request: &RtbRequest) -> (RtbResponse, Enrichment) {
    let (response, outcome) = mutator.propose(&store(), request, NOW + 1);
    assert_eq!(response.id, request.id);
    assert_eq!(response.metadata.as_ref().unwrap().api_version, "1.0");
    assert_eq!(response.mutations.is_empty(), outcome != Enrichment::Enriched);
    (response, outcome)
}

/// The paths and prices of the bids that are to be lowered.
fn lowered(mutations: &[Mutation]) -> Vec<(&str, f64)> {
    let shades = mutations.iter().filter(|it| it.intent() == Intent::BidShade);
    let price = |it: &Mutation| match &it.value {
        Some(Value::AdjustBid(adjust)) => adjust.price.unwrap(),
        other => panic!("{other:?}"),
    };
    shades.inspect(|it| assert_eq!(it.op(), Operation::Replace)).map(|it| (it.path.as_str(), price(it))).collect()
}

#[test]
fn segments_are_one_mutation_with_each_id_once() {
    let (response, outcome) = propose(&mut mutator(OPEN), &about("ann"));
    assert_eq!(outcome, Enrichment::Enriched);
    assert_eq!(response.metadata.unwrap().model_version, "v7");
    let [only] = &response.mutations[..] else { panic!("{:?}", response.mutations) };
    assert_eq!((only.intent(), only.op()), (Intent::ActivateSegments, Operation::Add));
    assert_eq!(only.path, "/user/data/segment");
    let Some(Value::Ids(ids)) = &only.value else { panic!("{only:?}") };
    assert_eq!(ids.id, ["1", "2"]);
}

#[test]
fn only_our_bids_that_cost_more_are_lowered() {
    let mut mutator = mutator(OPEN);
    let bids = || {
        vec![
            bid("a", "shoes", 3.0),
            bid("b", "shoes", 2.1),
            bid("c", "hats", 1.500_001),
            bid("d", "hats", f64::NAN),
            bid("e", "other", 9.0),
            bid("f", "free", 9.0),
            bid("g", "yen", 9.0),
            bid("h/i", "shoes", 9.0),
            bid("", "shoes", 9.0),
        ]
    };
    let all = [("/seatbid/s1/bid/a", 2.1), ("/seatbid/s1/bid/c", 1.5)];
    for currency in ["", "USD"] {
        let (response, _) = propose(&mut mutator, &with_bids("s1", bids(), currency));
        assert_eq!(lowered(&response.mutations), all, "{currency:?}");
        assert_eq!(response.mutations[0].intent(), Intent::ActivateSegments);
    }
    let (yen, _) = propose(&mut mutator, &with_bids("s1", bids(), "JPY"));
    assert_eq!(lowered(&yen.mutations), [("/seatbid/s1/bid/g", 0.01)]);
    let (other, _) = propose(&mut mutator, &with_bids("s2", bids(), "USD"));
    assert_eq!(lowered(&other.mutations), []);
    // Who has no seat has no bids, not even those without one.
    let mut nobody = Mutator::new("", ServeSpec::default().identity, UserKeys::default(), None);
    assert_eq!(lowered(&propose(&mut nobody, &with_bids("", bids(), "USD")).0.mutations), []);
}

#[test]
fn no_price_is_below_the_floor_of_its_impression_or_deal() {
    let mut mutator = mutator(OPEN);
    let deal = |id: &str, bidfloor, bidfloorcur: &str| Deal {
        id: id.to_owned(),
        bidfloor,
        bidfloorcur: bidfloorcur.to_owned(),
    };
    // The decision bids 3 USD, shaded 2.1 USD, and the bid that is there costs 5 USD.
    for (floor, currency, dealid, expected) in [
        (0.0, "", "", Some(2.1)),
        (2.0, "", "", Some(2.1)),
        (2.5, "USD", "", Some(2.5)),
        (3.0, "", "", Some(3.0)),
        (3.01, "", "", None),
        (f64::NAN, "", "", None),
        (f64::INFINITY, "", "", None),
        (-1.0, "", "", Some(2.1)),
        (0.5, "EUR", "", None),
        (0.0, "EUR", "", Some(2.1)),
        // A deal has a floor of its own.
        (3.01, "", "cheap", Some(2.1)),
        (0.0, "", "dear", Some(2.8)),
        (0.0, "", "euro", None),
        (0.0, "", "unknown", None),
    ] {
        let mut of_ann = bid("a", "shoes", 5.0);
        of_ann.dealid = dealid.to_owned();
        let mut request = with_bids("s1", vec![of_ann], "USD");
        let imp = &mut request.bid_request.as_mut().unwrap().imp[0];
        (imp.bidfloor, imp.bidfloorcur) = (floor, currency.to_owned());
        let deals = vec![deal("cheap", 1.0, ""), deal("dear", 2.8, "USD"), deal("euro", 0.1, "EUR")];
        imp.pmp = Some(Pmp { deals });
        let (response, _) = propose(&mut mutator, &request);
        let found: Vec<f64> = lowered(&response.mutations).into_iter().map(|(_, price)| price).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{floor} {currency} {dealid}");
        // Without its impression, the floor is not known.
        request.bid_request.as_mut().unwrap().imp[0].id = "2".to_owned();
        assert_eq!(lowered(&propose(&mut mutator, &request).0.mutations), []);
    }
}

#[test]
fn deals_of_the_campaigns_are_activated_for_each_impression_that_lacks_them() {
    let store = Store::default();
    let mut ann = decision("ann", NOW, &[]);
    let with_deals = |id: &str, deals: &[&str]| v1::CampaignOffer {
        deals: deals.iter().map(|it| (*it).to_owned()).collect(),
        ..offer(id, 1_000_000, 0, "USD")
    };
    ann.campaigns =
        vec![with_deals("shoes", &["d1", "d2"]), with_deals("hats", &["d2", "d3"]), with_deals("plain", &[])];
    keep(&store, 0, "ann", &ann);
    let imp = |id: &str, deals: &[&str]| {
        let deals = deals.iter().map(|it| Deal { id: (*it).to_owned(), ..Deal::default() }).collect();
        Imp { id: id.to_owned(), pmp: Some(Pmp { deals }), ..Imp::default() }
    };
    let mut request = about("ann");
    request.bid_request.as_mut().unwrap().imp = vec![
        Imp { id: "1".to_owned(), ..Imp::default() },
        imp("2", &["d1", "other"]),
        imp("3", &["d3", "d2", "d1"]),
        imp("4/5", &[]),
        imp("", &[]),
    ];
    let mut mutator = mutator(OPEN);
    let mut proposed = |accepted: &[Intent]| {
        let applicable_intents = accepted.iter().map(|it| (*it).into()).collect();
        let (response, outcome) =
            mutator.propose(&store, &RtbRequest { applicable_intents, ..request.clone() }, NOW + 1);
        let found = response.mutations.into_iter().map(|it| {
            assert_eq!((it.intent(), it.op()), (Intent::ActivateDeals, Operation::Add));
            let Some(Value::Ids(ids)) = it.value else { panic!("it has no ids") };
            (it.path, ids.id)
        });
        (found.collect::<Vec<_>>(), outcome)
    };
    let ids = |ids: &[&str]| ids.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    let all = vec![("/imp/1".to_owned(), ids(&["d1", "d2", "d3"])), ("/imp/2".to_owned(), ids(&["d2", "d3"]))];
    for accepted in [&[][..], &[Intent::ActivateDeals]] {
        assert_eq!(proposed(accepted), (all.clone(), Enrichment::Enriched), "{accepted:?}");
    }
    assert_eq!(proposed(&[Intent::ActivateSegments]), (vec![], Enrichment::NoSegments));
}

#[test]
fn only_what_the_host_accepts_is_proposed() {
    let mut mutator = mutator(OPEN);
    for (accepted, expected) in [
        (&[][..], &[Intent::ActivateSegments, Intent::BidShade][..]),
        (&[Intent::BidShade, Intent::AddMetrics], &[Intent::BidShade]),
        (&[Intent::ActivateSegments], &[Intent::ActivateSegments]),
    ] {
        let mut request = with_bids("s1", vec![bid("a", "shoes", 3.0)], "USD");
        request.applicable_intents = accepted.iter().map(|it| (*it).into()).collect();
        let (response, _) = propose(&mut mutator, &request);
        assert_eq!(response.mutations.iter().map(Mutation::intent).collect::<Vec<_>>(), expected, "{accepted:?}");
    }
    // One that is not known is none of ours.
    for accepted in [vec![Intent::SuppressDeals.into()], vec![4_711]] {
        let request = RtbRequest { applicable_intents: accepted, ..about("ann") };
        assert_eq!(propose(&mut mutator, &request).1, Enrichment::NotAsked);
    }
}

#[test]
fn a_request_without_anything_to_propose_says_why() {
    let mut mutator = mutator(OPEN);
    let only = |intent: Intent, request| RtbRequest { applicable_intents: vec![intent.into()], ..request };
    for (request, outcome) in [
        (only(Intent::BidShade, about("ann")), Enrichment::NoChange),
        (only(Intent::BidShade, with_bids("s1", vec![], "USD")), Enrichment::NoChange),
        (only(Intent::ActivateDeals, about("bob")), Enrichment::NoChange),
        (only(Intent::ActivateSegments, about("bob")), Enrichment::NoSegments),
        (about("bob"), Enrichment::NoSegments),
        (about("old"), Enrichment::Expired),
        (about("eve"), Enrichment::Unknown),
        (about(""), Enrichment::NoId),
        (RtbRequest { id: "r2".to_owned(), ..RtbRequest::default() }, Enrichment::NoId),
    ] {
        assert_eq!(propose(&mut mutator, &request).1, outcome, "{request:?}");
    }
}

#[test]
fn users_are_named_as_in_json() {
    let text = "[[identity]]\nfrom = \"device.ifa\"\nkey_type = \"app\"\n[[identity]]\nfrom = \"user.eids\"\n\
                source = \"a.example\"\nkey_type = \"person\"\n[consent]\nenabled = false";
    let mut mutator = mutator(text);
    let eid =
        |source: &str, id: &str, atype| Eid { source: source.to_owned(), uids: vec![Uid { id: id.to_owned(), atype }] };
    let with = |eids: Vec<Eid>, older: Vec<Eid>, ifa: &str| {
        let ext = user::Ext { eids: older, ..user::Ext::default() };
        let user = User { eids, ext: Some(ext), ..User::default() };
        let device = Device { ifa: ifa.to_owned(), ..Device::default() };
        let bid_request = BidRequest { user: Some(user), device: Some(device), ..BidRequest::default() };
        RtbRequest { bid_request: Some(bid_request), ..RtbRequest::default() }
    };
    let zeros = "00000000-0000-0000-0000-000000000000";
    for (request, outcome) in [
        (with(vec![eid("a.example", "ann", None)], vec![], zeros), Enrichment::Enriched),
        (with(vec![eid("a.example", "ann", Some(3))], vec![], ""), Enrichment::Enriched),
        (with(vec![], vec![eid("a.example", "ann", Some(3))], ""), Enrichment::Enriched),
        (with(vec![eid("a.example", "ann", Some(1))], vec![], ""), Enrichment::NoId),
        (with(vec![eid("b.example", "ann", Some(3))], vec![], ""), Enrichment::NoId),
        (with(vec![], vec![], "ann"), Enrichment::Unknown),
    ] {
        assert_eq!(propose(&mut mutator, &request).1, outcome, "{request:?}");
    }
}

/// A request from a country without a law of consent, changed.
fn in_law(change: impl Fn(&mut Regs, &mut User, &mut Device)) -> RtbRequest {
    let mut request = about("ann");
    let bid_request = request.bid_request.as_mut().unwrap();
    let geo = Geo { country: "JPN".to_owned(), region: String::new() };
    let (mut regs, mut device) = (Regs::default(), Device { geo: Some(geo), ..Device::default() });
    change(&mut regs, bid_request.user.as_mut().unwrap(), &mut device);
    (bid_request.regs, bid_request.device) = (Some(regs), Some(device));
    request
}

#[test]
fn signals_of_the_request_forbid_it_as_in_json() {
    let mut mutator = mutator("[consent]\nenabled = true\nvendor_id = 7\nwithout_law = [\"emit\"]");
    let outcome = |mutator: &mut Mutator, request: &RtbRequest| propose(mutator, request).1;
    assert_eq!(outcome(&mut mutator, &in_law(|_, _, _| {})), Enrichment::Enriched);
    let no_country = in_law(|_, _, device| device.geo = None);
    assert!(matches!(outcome(&mut mutator, &no_country), Enrichment::Refused(_)));
    for (name, expected, change) in [
        ("gdpr", None, (|regs, _, _| regs.gdpr = Some(true)) as fn(&mut Regs, &mut User, &mut Device)),
        ("older gdpr", None, |regs, _, _| regs.ext = Some(regs::Ext { gdpr: Some(true), ..regs::Ext::default() })),
        ("coppa", None, |regs, _, _| regs.coppa = Some(true)),
        ("lmt", None, |_, _, device| device.lmt = Some(true)),
        ("country", Some("signal_unreadable"), |_, _, device| {
            device.geo = Some(Geo { country: "ZZ".to_owned(), ..Geo::default() });
        }),
        ("gpc", Some("signal_unreadable"), |regs, _, _| {
            regs.ext = Some(regs::Ext { gpc: Some("yes".to_owned()), ..regs::Ext::default() });
        }),
        ("two gdpr", Some("signals_conflict"), |regs, _, _| {
            regs.gdpr = Some(false);
            regs.ext = Some(regs::Ext { gdpr: Some(true), ..regs::Ext::default() });
        }),
        ("two strings", Some("signals_conflict"), |_, user, _| {
            user.consent = Some("CP".to_owned());
            user.ext = Some(user::Ext { consent: Some("CO".to_owned()), ..user::Ext::default() });
        }),
    ] {
        let Enrichment::Refused(reason) = outcome(&mut mutator, &in_law(change)) else { panic!("{name}") };
        assert!(expected.is_none_or(|it| it == reason), "{name}: {reason}");
    }
    // What is said twice in the same way, and what says nothing, is no conflict.
    let same = in_law(|regs, user, _| {
        regs.gdpr = Some(false);
        regs.ext = Some(regs::Ext { gdpr: Some(false), gpc: Some("0".to_owned()), ..regs::Ext::default() });
        user.ext = Some(user::Ext { consent: Some(String::new()), ..user::Ext::default() });
    });
    assert_eq!(outcome(&mut mutator, &same), Enrichment::Enriched);
}
