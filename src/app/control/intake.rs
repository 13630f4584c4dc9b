//! Takes records of the inputs into the state, and turns what cannot be used into dead letters.
//!
//! Guarantees: a dead letter is made when its record becomes part of the state, so it is written once, in the same
//! transaction as the position behind it. A record that is handed over again makes none.

use crate::{
    control::{AudienceReport, DecisionRecord, Outcome, Rejection, Source, State},
    decision::app_of_id,
    event::UserKeys,
    sink::DeadLetter,
};
use std::collections::BTreeMap;

/// What the concealed id of another application's decision begins with: no application has such a name.
const OTHER: &str = "@other:";

/// The longest beginning of a value that a dead letter repeats.
const PAYLOAD_BYTES_MAX: usize = 256 << 10;
/// The longest key that a dead letter repeats.
const KEY_BYTES_MAX: usize = 32 << 10;

/// One of control's inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Input {
    Decisions,
    Outcomes,
    Audiences,
}

impl Input {
    pub(super) const ALL: [Self; 3] = [Self::Decisions, Self::Outcomes, Self::Audiences];

    /// Whether the time of the stream waits for this input.
    pub(super) fn is_timed(self) -> bool {
        self != Self::Audiences
    }

    /// The name as a metric label.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Decisions => "decisions",
            Self::Outcomes => "outcomes",
            Self::Audiences => "audiences",
        }
    }
}

/// What was taken in since the last commit, besides what the state itself counts.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) dead_letters: Vec<DeadLetter>,
    /// The dead letters by reason.
    pub(super) reasons: BTreeMap<&'static str, u64>,
    /// Decisions of other applications.
    pub(super) foreign: u64,
}

impl Taken {
    fn reject(&mut self, app: &str, source: Option<&Source<'_>>, topic: &str, bytes: Bytes<'_>, rejection: &Rejection) {
        *self.reasons.entry(rejection.reason.as_str()).or_default() += 1;
        self.dead_letters.push(dead_letter(app, source, topic, bytes, rejection));
    }
}

/// Key and value of a record.
pub(super) type Bytes<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// Takes in a record of the topic of decisions.
pub(super) fn take_decision(state: &mut State, app: &str, source: &Source<'_>, bytes: Bytes<'_>, taken: &mut Taken) {
    // A tombstone says that a user was erased.
    let Some(payload) = bytes.1 else {
        state.pass_over(source);
        return;
    };
    match DecisionRecord::read(payload) {
        Ok(decision) if decision.is_of(app) => {
            decision.with(|decision| state.apply_decision(source, decision));
        }
        Ok(_) => taken.foreign += u64::from(state.pass_over(source)),
        Err(rejection) => {
            if state.skip(source) {
                taken.reject(app, Some(source), source.topic, bytes, &rejection);
            }
        }
    }
}

/// Takes in a record of the topic of outcomes.
///
/// With pseudonyms, the outcome's user is named by one, as in decisions, and its other ids by keyed hashes, because others choose
/// them. A dead letter then has no value, because it may name the user anywhere, and the pseudonym of what is in its key.
pub(super) fn take_outcome(
    state: &mut State,
    (app, users): (&str, &UserKeys),
    source: &Source<'_>,
    bytes: Bytes<'_>,
    taken: &mut Taken,
) {
    let outcome = Outcome::read(bytes.1);
    let key = users.pseudonyms().zip(bytes.0).map(|(pseudonyms, key)| pseudonyms.of_bytes(key));
    let bytes = if users.pseudonyms().is_some() { (key.as_deref().map(str::as_bytes), None) } else { bytes };
    match outcome {
        Ok(outcome) => {
            let outcome = concealed(outcome, app, users, state);
            if let Some(rejection) = state.apply_outcome(source, &outcome).rejection {
                taken.reject(app, Some(source), source.topic, bytes, &rejection);
            }
        }
        Err(rejection) => {
            if state.skip(source) {
                taken.reject(app, Some(source), source.topic, bytes, &rejection);
            }
        }
    }
}

/// The outcome with pseudonyms in place of ids. While the key changes, one that is known by the names of the previous key, or
/// belongs to something that is, keeps these.
fn concealed(outcome: Outcome, app: &str, users: &UserKeys, state: &State) -> Outcome {
    let by = |users: &UserKeys| {
        let mut outcome = outcome.clone();
        name_user(&mut outcome, users);
        conceal_ids(&mut outcome, app, users);
        outcome
    };
    let now = by(users);
    let former = users.previous().map(|previous| by(&previous));
    match former.filter(|former| state.knows(former) || !state.finds(&now) && state.finds(former)) {
        Some(former) => former,
        None => now,
    }
}

/// Names the user of an outcome as decisions do.
pub(crate) fn name_user(outcome: &mut Outcome, users: &UserKeys) {
    if let (Some(pseudonyms), Some(user)) = (users.pseudonyms(), &mut outcome.user_key) {
        *user = pseudonyms.of_bytes(user.as_bytes());
    }
}

/// With pseudonyms, puts keyed hashes in place of the ids that bidders and exchanges choose: an outcome that waits for its decision
/// is kept, and such an id may be anything. Equal ids stay equal. What decisions name stays: the id of a decision of this
/// application, and the names of campaigns, creatives and placements.
fn conceal_ids(outcome: &mut Outcome, app: &str, users: &UserKeys) {
    let Some(pseudonyms) = users.pseudonyms() else { return };
    let hash = |id: &mut String| *id = pseudonyms.opaque(id.as_bytes());
    hash(&mut outcome.id);
    outcome.auction_id.iter_mut().chain(&mut outcome.imp_id).for_each(hash);
    if let Some(id) = &mut outcome.decision_id
        && app_of_id(id) != Some(app)
    {
        // That it is of another application stays.
        let is_foreign = id.split_once(':').is_some_and(|(of, _)| of != app);
        hash(id);
        if is_foreign {
            id.insert_str(0, OTHER);
        }
    }
}

/// Takes in a record of the topic of audiences.
pub(super) fn take_audiences(state: &mut State, app: &str, source: &Source<'_>, bytes: Bytes<'_>, taken: &mut Taken) {
    match bytes.1.map(AudienceReport::read) {
        Some(Ok(report)) if report.app == app => {
            state.apply_audiences(source, &report);
        }
        None | Some(Ok(_)) => {
            state.pass_over(source);
        }
        Some(Err(rejection)) => {
            if state.skip(source) {
                taken.reject(app, Some(source), source.topic, bytes, &rejection);
            }
        }
    }
    // Sizes that do not change are not reported.
    state.set_timeless(source);
}

/// Takes the outcomes that waited and then turned out to contradict what is known. Their records are gone, so the dead
/// letter has the outcome as control understood it, and no position. With pseudonyms it has nothing of it, as for any other
/// outcome.
pub(super) fn take_rejected(state: &mut State, (app, users): (&str, &UserKeys), topic: &str, taken: &mut Taken) {
    for (outcome, rejection) in state.take_rejected() {
        let payload = users.pseudonyms().is_none().then(|| outcome.to_json());
        taken.reject(app, None, topic, (None, payload.as_deref()), &rejection);
    }
}

/// A dead letter with the headers of a worker's.
fn dead_letter(
    app: &str,
    source: Option<&Source<'_>>,
    topic: &str,
    (key, payload): Bytes<'_>,
    rejection: &Rejection,
) -> DeadLetter {
    let number = |number: Option<i64>| number.map_or(String::new(), |number| number.to_string()).into_bytes();
    let mut headers = vec![
        ("reason", rejection.reason.as_str().as_bytes().to_vec()),
        ("detail", rejection.detail.as_bytes().to_vec()),
        ("app", app.as_bytes().to_vec()),
        ("topic", topic.as_bytes().to_vec()),
        ("partition", number(source.map(|source| source.partition.into()))),
        ("offset", number(source.map(|source| source.offset))),
        ("timestamp_ms", number(source.map(|source| source.arrived_at / 1_000))),
    ];
    let mut cut = |bytes: Option<&[u8]>, max: usize, header: &'static str| {
        let bytes = bytes?;
        if bytes.len() > max {
            headers.push((header, bytes.len().to_string().into_bytes()));
        }
        Some(bytes[..bytes.len().min(max)].to_vec())
    };
    let key = cut(key, KEY_BYTES_MAX, "key_cut_from_bytes");
    let payload = cut(payload, PAYLOAD_BYTES_MAX, "cut_from_bytes");
    DeadLetter { key, payload, headers }
}
