//! Consent in profiles: decides for each row what may be done with it, and keeps what the user chose.
//!
//! Owns two things in a profile: the remembered consent, and the basis of the last verdict, by which decisions without an
//! event are made. The rules are those of [`crate::privacy::consent`].
//!
//! Guarantees: a verdict depends only on the row and on what its user's profile holds before it, so a replay gives the
//! same one. An event that may not be written changes no profile and makes none, except that what it says about consent is
//! kept if it is one of the remembered events. If such an event withdraws the permission to write, everything else in the
//! profile is dropped.
//!
//! Limits: what is kept goes with the profile. A user who does nothing for `profile.ttl` is unknown again.

use crate::{
    columns::{MISSING_INT, Slot, Text, Truth, Type},
    config_error::ConfigError,
    event::EventBatch,
    expression::{Program, Scope},
    privacy::consent::{
        Activity, Basis, ConsentGate, ConsentSpec, Framework, LegalBasis, Permissions, Reason, RememberedConsent,
        SectionIds, Signals, Verdict,
    },
};
use std::collections::HashSet;

/// What a profile keeps of a user's consent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptConsent {
    /// What the user chose.
    pub remembered: RememberedConsent,
    /// The basis of the last verdict.
    pub basis: Option<Basis>,
}

impl KeptConsent {
    /// The number of words.
    pub const WORDS: usize = RememberedConsent::WORDS + Basis::WORDS;
    /// Set in the last word if there is a basis. No basis has this bit.
    const IS_GIVEN: u64 = 1 << 63;

    /// What these words of a profile hold.
    ///
    /// # Panics
    /// If they are not [`Self::WORDS`] words.
    pub fn read(words: &[u64]) -> Self {
        let (remembered, basis) = split(words);
        Self { remembered: RememberedConsent::read(remembered), basis: Self::read_basis(basis) }
    }

    /// Writes it into these words of a profile.
    ///
    /// # Panics
    /// If they are not [`Self::WORDS`] words.
    pub fn write(&self, words: &mut [u64]) {
        let (remembered, basis) = words.split_at_mut(RememberedConsent::WORDS);
        Self::write_remembered(&self.remembered, remembered);
        match &self.basis {
            Some(it) => Self::write_basis(it, basis),
            None => basis.fill(0),
        }
    }

    /// The basis in the words of the last verdict.
    pub(super) fn read_basis(words: &[u64]) -> Option<Basis> {
        let [first, second] = words.try_into().expect("a layout with this cell");
        (second & Self::IS_GIVEN != 0).then(|| Basis::decode([first, second & !Self::IS_GIVEN])).flatten()
    }

    /// Writes a basis into the words of the last verdict.
    pub(super) fn write_basis(basis: &Basis, words: &mut [u64]) {
        let [first, second] = basis.encode();
        words.copy_from_slice(&[first, second | Self::IS_GIVEN]);
    }

    /// Writes what is remembered into its words.
    pub(super) fn write_remembered(remembered: &RememberedConsent, words: &mut [u64]) {
        let words = words.first_chunk_mut().expect("a layout with this cell");
        remembered.write(words);
    }

    /// Whether words from outside are what [`Self::write`] writes.
    pub(super) fn fits(words: &[u64]) -> bool {
        let mut again = [0; Self::WORDS];
        Self::read(words).write(&mut again);
        again == words && RememberedConsent::fits(split(words).0)
    }

    /// What may be done with the user's data without an event: what the last one permitted.
    pub fn permissions(&self) -> Permissions {
        self.verdict().permissions
    }

    /// The last verdict. Before the first one it is unknown whether a law applies, and nothing is permitted.
    pub fn verdict(&self) -> Verdict {
        let basis = self.basis.unwrap_or(Basis {
            framework: Framework::Unknown,
            section: 0,
            legal_basis: LegalBasis::Nothing,
            reasons: [Reason::UnknownLaw; 5],
            is_remembered: false,
            is_limited: false,
            last_updated: 0,
            cmp_id: 0,
            vendor_list_version: 0,
            policy_version: 0,
        });
        Verdict { permissions: basis.permissions(), basis }
    }
}

fn split(words: &[u64]) -> (&[u64; RememberedConsent::WORDS], &[u64; Basis::WORDS]) {
    let (remembered, basis) = words.split_first_chunk().expect("a layout with this cell");
    (remembered, basis.try_into().expect("a layout with this cell"))
}

/// The columns of the consent signals.
#[derive(Debug)]
struct SignalSlots {
    gdpr: Slot,
    tc_string: Slot,
    gpp: Slot,
    gpp_sid: Slot,
    us_privacy: Slot,
    gpc: Slot,
    coppa: Slot,
    lmt: Slot,
    country: Slot,
    region: Slot,
    /// Whether the event's consent is remembered.
    is_remembered: Slot,
}

/// The consent gate with the columns that it reads, and its verdicts on the rows of the last batch.
#[derive(Debug)]
pub(super) struct ConsentRows {
    gate: ConsentGate,
    slots: SignalSlots,
    /// By row of the last batch.
    rows: Vec<JudgedRow>,
    /// The hashes of users whose kept basis a row of the last batch may change.
    changing: HashSet<u64>,
}

#[derive(Debug)]
struct JudgedRow {
    verdict: Verdict,
    /// Whether the event's own consent is remembered.
    is_remembered: bool,
    /// Whether its user's profile has a newer event.
    is_late: bool,
    /// Whether its user's profile keeps this basis already.
    is_kept: bool,
}

/// The verdict on a row.
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// What is remembered from now on.
    pub(super) remembered: RememberedConsent,
    /// Whether the event's own consent is remembered.
    pub(super) is_remembered: bool,
}

impl ConsentRows {
    /// Compiles `[consent]`. `None` if consent is not checked.
    pub(super) fn compile(
        spec: &ConsentSpec,
        program: &mut Program,
        scope: &mut Scope,
        errors: &mut Vec<ConfigError>,
    ) -> Option<Self> {
        let rules = spec.compile(errors)?;
        let before = errors.len();
        let mut slot = |key: &str, source: &str, ty: Type| {
            let added = program.add(scope, source, Some(ty));
            added.map_err(|error| errors.push(error.config_error(format!("consent.{key}")))).ok()
        };
        let slots = SignalSlots {
            gdpr: slot("enabled", "consent.gdpr_applies", Type::Bool)?,
            tc_string: slot("enabled", "consent.tc_string", Type::String)?,
            gpp: slot("enabled", "consent.gpp", Type::String)?,
            gpp_sid: slot("enabled", "consent.gpp_sid", Type::Int)?,
            us_privacy: slot("enabled", "consent.us_privacy", Type::String)?,
            gpc: slot("enabled", "consent.gpc", Type::Bool)?,
            coppa: slot("enabled", "consent.coppa", Type::Bool)?,
            lmt: slot("enabled", "consent.lmt", Type::Bool)?,
            country: slot("country", &spec.country, Type::String)?,
            region: slot("region", &spec.region, Type::String)?,
            is_remembered: slot("remember", &spec.remember, Type::Bool)?,
        };
        (errors.len() == before).then(|| Self {
            gate: ConsentGate::new(rules),
            slots,
            rows: Vec::new(),
            changing: HashSet::new(),
        })
    }

    /// Starts a batch.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.changing.clear();
    }

    /// Passes over a row that is no event of its user.
    pub(super) fn pass_over(&mut self) {
        let verdict = KeptConsent::default().verdict();
        self.rows.push(JudgedRow { verdict, is_remembered: false, is_late: false, is_kept: false });
    }

    /// Decides on a row whose user's profile remembers this, and has its newest event at this time.
    pub(super) fn judge(
        &mut self,
        batch: &EventBatch,
        row: usize,
        remembered: RememberedConsent,
        newest: i64,
    ) -> Judged {
        let columns = &batch.columns;
        let text = |slot| {
            let text: Text = columns.get(slot).strings()[row];
            if text.is_missing() { "" } else { columns.texts.get(text) }
        };
        let flag = |slot| match columns.get(slot).bools()[row] {
            Truth::Missing => None,
            truth => Some(truth.holds()),
        };
        let slots = &self.slots;
        let sections = columns.get(slots.gpp_sid).ints()[row];
        let signals = Signals {
            gdpr: flag(slots.gdpr),
            tc_string: text(slots.tc_string),
            gpp: text(slots.gpp),
            gpp_sid: SectionIds::from_bits(if sections == MISSING_INT { 0 } else { sections as u64 }),
            us_privacy: text(slots.us_privacy),
            gpc: flag(slots.gpc),
            coppa: flag(slots.coppa),
            lmt: flag(slots.lmt),
            country: text(slots.country),
            region: text(slots.region),
        };
        let time = batch.times[row].0;
        // A choice is from no later than its record: else a fast clock would let an old consent outlive a withdrawal.
        let at = time.min(batch.logged_at[row].0);
        let is_remembered = columns.get(slots.is_remembered).bools()[row].holds();
        let remembered = if is_remembered { remembered.merge(self.gate.observe(&signals, at)) } else { remembered };
        let verdict = self.gate.decide(&signals, &remembered, at);
        self.rows.push(JudgedRow { verdict, is_remembered, is_late: time < newest, is_kept: false });
        Judged { verdict, remembered, is_remembered }
    }

    /// The verdict on a row of the last batch.
    pub(super) fn verdict(&self, row: usize) -> Verdict {
        self.rows[row].verdict
    }

    /// Compares the basis of the row that was judged last with that in its user's profile. Most users' is the same at each
    /// event, and then it need not be written after the earlier rows are decided.
    pub(super) fn compare_basis(&mut self, user_hash: u64, kept: &[u64]) {
        let Some(row) = self.rows.last_mut() else { return };
        let is_same = row.verdict.permissions.allows(Activity::Write)
            && KeptConsent::read_basis(kept).is_some_and(|it| it == row.verdict.basis);
        if is_same {
            row.is_kept = self.changing.is_empty() || !self.changing.contains(&user_hash);
        } else {
            self.changing.insert(user_hash);
        }
    }

    /// Whether the profile of a row's user keeps the basis of its verdict already, and no earlier row of the batch changes it.
    pub(super) fn is_kept(&self, row: usize) -> bool {
        self.rows[row].is_kept
    }

    /// Whether its user's profile had a newer event than a row of the last batch.
    pub(super) fn is_late(&self, row: usize) -> bool {
        self.rows[row].is_late
    }

    /// Whether a row of the last batch withdraws the permission to write.
    pub(super) fn is_withdrawal(&self, row: usize) -> bool {
        let JudgedRow { verdict, is_remembered, .. } = &self.rows[row];
        *is_remembered && !verdict.permissions.allows(Activity::Write)
    }
}

impl Judged {
    /// Whether the row may change its user's profile.
    pub(super) fn may_write(&self) -> bool {
        self.verdict.permissions.allows(Activity::Write)
    }
}
