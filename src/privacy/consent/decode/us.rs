//! Reads the GPP sections for the United States and the US privacy string, with `iab_gpp`.
//!
//! Each section is checked before it is decoded, because `iab_gpp` 0.1.2 reads the undefined value 3 as "not
//! applicable", and ignores what follows a section: here both are malformed. It refuses a section whose field
//! `MspaCoveredTransaction` is 0, and so does the gate.
//!
//! What a field counts as:
//! - an opt-out of 1 is an opt-out; a notice of an opt-out that was not provided (2) counts as one;
//! - any consent about a known child, given or refused, says that the user is a child;
//! - a sensitive category needs a yes (2); no answer (0) is no yes;
//! - a refused consent (1) to further use of personal data counts as an opt-out.

use super::{
    super::{SensitiveCategory as Category, facts::UsFlag},
    Bits, Reason, Said, UsFacts,
};
use iab_gpp::sections::{
    us_common::{Consent, Notice, OptOut},
    usca::UsCa,
    usco::UsCo,
    usct::UsCt,
    usde::UsDe,
    usfl::UsFl,
    usia::UsIa,
    usmn::UsMn,
    usmt::UsMt,
    usnat::{Core as NationalCore, UsNat},
    usne::UsNe,
    usnh::UsNh,
    usnj::UsNj,
    usor::UsOr,
    uspv1::{Flag, UspV1},
    ustn::UsTn,
    ustx::UsTx,
    usut::UsUt,
    usva::UsVa,
};

/// The value of a two-bit field that no section defines.
const UNDEFINED: u64 = 3;

/// A field of a section that means one of two things.
trait Field {
    /// Whether the user, or the publisher, said no.
    fn is_no(&self) -> bool;
    /// Whether there was a yes.
    fn is_yes(&self) -> bool;
}

impl Field for Consent {
    fn is_no(&self) -> bool {
        *self == Self::NoConsent
    }
    fn is_yes(&self) -> bool {
        *self == Self::Consent
    }
}

impl Field for OptOut {
    fn is_no(&self) -> bool {
        *self == Self::OptedOut
    }
    fn is_yes(&self) -> bool {
        *self == Self::DidNotOptOut
    }
}

/// Collects the fields of a decoded section.
macro_rules! collect {
    ($id:expr, $core:expr;
     notices $($notice:ident)+; opt_outs $($opt_out:ident => $flag:ident)+;
     children $($($child:ident).+)+; personal $($personal:ident)?;
     sensitive $($field:ident => $category:ident)+) => {{
        let core = &$core;
        let mut facts = UsFacts { section: $id as u8, ..UsFacts::default() };
        $(facts.set(UsFlag::NoticeMissing, core.$notice == Notice::NotProvided);)+
        $(facts.set(UsFlag::$flag, core.$opt_out.is_no());)+
        $(facts.set(UsFlag::KnownChild, core.$($child).+ != Consent::NotApplicable);)+
        $(facts.set(UsFlag::PersonalDataRefused, core.$personal.is_no());)?
        $(facts.refuse(Category::$category, !core.sensitive_data_processing.$field.is_yes());)+
        facts
    }};
}

/// What a section says.
pub(super) fn read(id: u32, text: &str) -> Result<UsFacts, Reason> {
    let shape = Shape::of(id, text)?;
    shape.check(text)?;
    decode(id, text)
}

/// The layout of a section: a version of six bits, and then fields of two bits each.
#[derive(Clone, Copy, Debug)]
struct Shape {
    fields: usize,
    /// Whether a segment with Global Privacy Control may follow.
    has_gpc: bool,
}

impl Shape {
    fn of(id: u32, text: &str) -> Result<Self, Reason> {
        let version = Bits::new(text.split('.').next().unwrap_or_default())
            .and_then(|mut bits| bits.read(6))
            .ok_or(Reason::StringMalformed)?;
        let (fields, has_gpc) = match (id, version) {
            (7, 1) => (27, true),
            (7, 2) => (32, true),
            (7.., 0 | 2..) if id <= 23 => return Err(Reason::StringVersion),
            (8, _) => (20, true),
            (9, _) => (17, false),
            (10, _) => (16, true),
            (11, _) => (18, false),
            (12, _) => (19, true),
            (13, _) => (20, false),
            (14 | 20, _) => (20, true),
            (15 | 17, _) => (23, true),
            (16 | 18 | 19 | 22 | 23, _) => (18, true),
            (21, _) => (24, true),
            _ => return Err(Reason::SectionUnknown),
        };
        Ok(Self { fields, has_gpc })
    }

    fn check(self, text: &str) -> Result<(), Reason> {
        let mut segments = text.split('.');
        let is_core_good = segments.next().and_then(|core| self.check_core(core)).is_some();
        let is_rest_good = match (segments.next(), segments.next()) {
            (None, _) => true,
            (Some(gpc), None) => self.has_gpc && check_gpc(gpc).is_some(),
            _ => false,
        };
        if is_core_good && is_rest_good { Ok(()) } else { Err(Reason::StringMalformed) }
    }

    fn check_core(self, text: &str) -> Option<()> {
        let mut bits = Bits::new(text)?;
        bits.read(6)?;
        for _ in 0..self.fields {
            if bits.read(2)? == UNDEFINED {
                return None;
            }
        }
        bits.is_padding().then_some(())
    }
}

/// The segment with Global Privacy Control: its type 1 in two bits, and a flag.
fn check_gpc(text: &str) -> Option<()> {
    let mut bits = Bits::new(text)?;
    let kind = bits.read(2)?;
    bits.flag()?;
    (kind == 1 && bits.is_padding()).then_some(())
}

fn decode(id: u32, text: &str) -> Result<UsFacts, Reason> {
    macro_rules! parse {
        ($section:ty) => {
            text.parse::<$section>().map_err(|_| Reason::StringMalformed)?
        };
    }
    let gpc = |mut facts: UsFacts, gpc: Option<bool>| {
        facts.set(UsFlag::Gpc, gpc == Some(true));
        facts
    };
    Ok(match id {
        7 => {
            let it = parse!(UsNat);
            let facts = match it.core {
                NationalCore::V1(core) => collect! { id, core;
                    notices sharing_notice sale_opt_out_notice sharing_opt_out_notice targeted_advertising_opt_out_notice;
                    opt_outs sale_opt_out => SaleOptOut sharing_opt_out => SharingOptOut
                        targeted_advertising_opt_out => TargetedAdvertisingOptOut;
                    children known_child_sensitive_data_consents.from_13_to_16
                        known_child_sensitive_data_consents.under_13;
                    personal personal_data_consent;
                    sensitive racial_or_ethnic_origin => Origin religious_or_philosophical_beliefs => Beliefs
                        health_data => Health sex_life_or_sexual_orientation => Sexuality
                        citizenship_or_immigration_status => Citizenship genetic_unique_identification => Genetic
                        biometric_unique_identification => Biometric precise_geolocation_data => PreciseGeolocation
                        identification_documents => Documents financial_data => Financial
                        union_membership => UnionMembership mail_email_or_text_messages => Messages
                },
                NationalCore::V2(core) => collect! { id, core;
                    notices sharing_notice sale_opt_out_notice sharing_opt_out_notice targeted_advertising_opt_out_notice;
                    opt_outs sale_opt_out => SaleOptOut sharing_opt_out => SharingOptOut
                        targeted_advertising_opt_out => TargetedAdvertisingOptOut;
                    children known_child_sensitive_data_consents.process_sensitive_data_from_13_to_16
                        known_child_sensitive_data_consents.process_sensitive_data_under_13
                        known_child_sensitive_data_consents.process_personal_data_from_16_to_17;
                    personal personal_data_consent;
                    sensitive racial_or_ethnic_origin => Origin religious_or_philosophical_beliefs => Beliefs
                        health_data => Health sex_life_or_sexual_orientation => Sexuality
                        citizenship_or_immigration_status => Citizenship genetic_unique_identification => Genetic
                        biometric_unique_identification => Biometric precise_geolocation_data => PreciseGeolocation
                        identification_documents => Documents financial_account_data => Financial
                        union_membership => UnionMembership mail_email_or_text_messages => Messages
                        general_health_data => Health crime_victim_status => CrimeVictim
                        national_origin => Origin transgender_or_nonbinary_status => Gender
                },
                _ => return Err(Reason::StringVersion),
            };
            gpc(facts, it.gpc)
        }
        8 => {
            let it = parse!(UsCa);
            let facts = collect! { id, it.core;
                notices sale_opt_out_notice sharing_opt_out_notice;
                opt_outs sale_opt_out => SaleOptOut sharing_opt_out => SharingOptOut;
                children known_child_sensitive_data_consents.sell_personal_information
                    known_child_sensitive_data_consents.share_personal_information;
                personal personal_data_consent;
                sensitive identification_documents => Documents financial_data => Financial
                    precise_geolocation => PreciseGeolocation origin_beliefs_or_union => Origin
                    origin_beliefs_or_union => Beliefs origin_beliefs_or_union => UnionMembership
                    mail_email_or_text_messages => Messages genetic_data => Genetic
                    biometric_unique_identification => Biometric health_data => Health
                    sex_life_or_sexual_orientation => Sexuality
            };
            gpc(facts, it.gpc)
        }
        9 => {
            let it = parse!(UsVa);
            collect! { id, it.core;
                notices sharing_notice sale_opt_out_notice targeted_advertising_opt_out_notice;
                opt_outs sale_opt_out => SaleOptOut targeted_advertising_opt_out => TargetedAdvertisingOptOut;
                children known_child_sensitive_data_consents; personal;
                sensitive racial_or_ethnic_origin => Origin religious_or_philosophical_beliefs => Beliefs
                    health_diagnosis_data => Health sex_life_or_sexual_orientation => Sexuality
                    citizenship_or_immigration_status => Citizenship genetic_unique_identification => Genetic
                    biometric_unique_identification => Biometric precise_geolocation_data => PreciseGeolocation
            }
        }
        10 => {
            let it = parse!(UsCo);
            let facts = collect! { id, it.core;
                notices sharing_notice sale_opt_out_notice targeted_advertising_opt_out_notice;
                opt_outs sale_opt_out => SaleOptOut targeted_advertising_opt_out => TargetedAdvertisingOptOut;
                children known_child_sensitive_data_consents; personal;
                sensitive racial_or_ethnic_origin => Origin religious_beliefs => Beliefs
                    health_condition_or_diagnosis => Health sex_life_or_sexual_orientation => Sexuality
                    citizenship_data => Citizenship genetic_unique_identification => Genetic
                    biometric_unique_identification => Biometric
            };
            gpc(facts, it.gpc)
        }
        11 => {
            let it = parse!(UsUt);
            collect! { id, it.core;
                notices sharing_notice sale_opt_out_notice targeted_advertising_opt_out_notice;
                opt_outs sale_opt_out => SaleOptOut targeted_advertising_opt_out => TargetedAdvertisingOptOut;
                children known_child_sensitive_data_consents; personal;
                sensitive racial_or_ethnic_origin => Origin religious_beliefs => Beliefs
                    sexual_orientation => Sexuality citizenship_or_immigration_status => Citizenship
                    health_data => Health genetic_unique_identification => Genetic
                    biometric_unique_identification => Biometric specific_geolocation_data => PreciseGeolocation
            }
        }
        12 => {
            let it = parse!(UsCt);
            let facts = collect! { id, it.core;
                notices sharing_notice sale_opt_out_notice targeted_advertising_opt_out_notice;
                opt_outs sale_opt_out => SaleOptOut targeted_advertising_opt_out => TargetedAdvertisingOptOut;
                children known_child_sensitive_data_consents.process_sensitive_data_from_known_child
                    known_child_sensitive_data_consents.sell_personal_data_from_13_to_16
                    known_child_sensitive_data_consents.process_personal_data_from_13_to_16;
                personal;
                sensitive racial_or_ethnic_origin => Origin religious_beliefs => Beliefs
                    health_condition_or_diagnosis => Health sex_life_or_sexual_orientation => Sexuality
                    citizenship_or_immigration_status => Citizenship genetic_unique_identification => Genetic
                    biometric_unique_identification => Biometric precise_geolocation_data => PreciseGeolocation
            };
            gpc(facts, it.gpc)
        }
        13 => {
            let it = parse!(UsFl);
            collect! { id, it.core;
                notices processing_notice sale_opt_out_notice targeted_advertising_opt_out_notice;
                opt_outs sale_opt_out => SaleOptOut targeted_advertising_opt_out => TargetedAdvertisingOptOut;
                children known_child_sensitive_data_consents.under_13
                    known_child_sensitive_data_consents.from_13_to_16
                    known_child_sensitive_data_consents.from_16_to_18;
                personal additional_data_processing_consent;
                sensitive racial_or_ethnic_origin => Origin religious_beliefs => Beliefs health_data => Health
                    sex_life_or_sexual_orientation => Sexuality citizenship_or_immigration_status => Citizenship
                    genetic_unique_identification => Genetic biometric_unique_identification => Biometric
                    precise_geolocation_data => PreciseGeolocation
            }
        }
        14 => {
            let it = parse!(UsMt);
            let facts = collect! { id, it.core;
                notices sharing_notice sale_opt_out_notice targeted_advertising_opt_out_notice;
                opt_outs sale_opt_out => SaleOptOut targeted_advertising_opt_out => TargetedAdvertisingOptOut;
                children known_child_sensitive_data_consents.process_sensitive_data_from_known_child
                    known_child_sensitive_data_consents.sell_personal_data_from_13_to_16
                    known_child_sensitive_data_consents.process_personal_data_from_13_to_16;
                personal additional_data_processing_consent;
                sensitive racial_or_ethnic_origin => Origin religious_beliefs => Beliefs health_data => Health
                    sex_life_or_sexual_orientation => Sexuality citizenship_or_immigration_status => Citizenship
                    genetic_unique_identification => Genetic biometric_unique_identification => Biometric
                    precise_geolocation_data => PreciseGeolocation
            };
            gpc(facts, it.gpc)
        }
        15 => {
            let it = parse!(UsOr);
            let facts = collect! { id, it.core;
                notices processing_notice sale_opt_out_notice targeted_advertising_opt_out_notice;
                opt_outs sale_opt_out => SaleOptOut targeted_advertising_opt_out => TargetedAdvertisingOptOut;
                children known_child_sensitive_data_consents.process_sensitive_data_from_known_child
                    known_child_sensitive_data_consents.sell_personal_data_from_13_to_16
                    known_child_sensitive_data_consents.process_personal_data_from_13_to_16;
                personal additional_data_processing_consent;
                sensitive racial_or_ethnic_origin => Origin religious_beliefs => Beliefs health_data => Health
                    sex_life_or_sexual_orientation => Sexuality transgender_or_nonbinary_status => Gender
                    citizenship_or_immigration_status => Citizenship national_origin => Origin
                    crime_victim_status => CrimeVictim genetic_data => Genetic biometric_data => Biometric
                    precise_geolocation_data => PreciseGeolocation
            };
            gpc(facts, it.gpc)
        }
        16 => {
            let it = parse!(UsTx);
            let facts = collect! { id, it.core;
                notices processing_notice sale_opt_out_notice targeted_advertising_opt_out_notice;
                opt_outs sale_opt_out => SaleOptOut targeted_advertising_opt_out => TargetedAdvertisingOptOut;
                children known_child_sensitive_data_consents; personal additional_data_processing_consent;
                sensitive racial_or_ethnic_origin => Origin religious_beliefs => Beliefs health_data => Health
                    sex_life_or_sexual_orientation => Sexuality citizenship_or_immigration_status => Citizenship
                    genetic_unique_identification => Genetic biometric_unique_identification => Biometric
                    precise_geolocation_data => PreciseGeolocation
            };
            gpc(facts, it.gpc)
        }
        17 => {
            let it = parse!(UsDe);
            let facts = collect! { id, it.core;
                notices processing_notice sale_opt_out_notice targeted_advertising_opt_out_notice;
                opt_outs sale_opt_out => SaleOptOut targeted_advertising_opt_out => TargetedAdvertisingOptOut;
                children known_child_sensitive_data_consents.process_sensitive_data_from_known_child
                    known_child_sensitive_data_consents.sell_personal_data_from_13_to_16
                    known_child_sensitive_data_consents.process_personal_data_from_13_to_16
                    known_child_sensitive_data_consents.sell_personal_data_from_16_to_18
                    known_child_sensitive_data_consents.process_personal_data_from_16_to_18;
                personal additional_data_processing_consent;
                sensitive racial_or_ethnic_origin => Origin religious_beliefs => Beliefs health_data => Health
                    sex_life_or_sexual_orientation => Sexuality citizenship_or_immigration_status => Citizenship
                    genetic_data => Genetic biometric_data => Biometric precise_geolocation_data => PreciseGeolocation
                    transgender_or_nonbinary_status => Gender
            };
            gpc(facts, it.gpc)
        }
        18 => {
            let it = parse!(UsIa);
            let facts = collect! { id, it.core;
                notices processing_notice sale_opt_out_notice targeted_advertising_opt_out_notice;
                opt_outs sale_opt_out => SaleOptOut targeted_advertising_opt_out => TargetedAdvertisingOptOut;
                children known_child_sensitive_data_consents; personal;
                sensitive racial_or_ethnic_origin => Origin religious_beliefs => Beliefs health_data => Health
                    sexual_orientation => Sexuality citizenship_status => Citizenship
                    genetic_unique_identification => Genetic biometric_unique_identification => Biometric
                    precise_geolocation_data => PreciseGeolocation
            };
            gpc(facts, it.gpc)
        }
        19 => {
            let it = parse!(UsNe);
            let facts = collect! { id, it.core;
                notices processing_notice sale_opt_out_notice targeted_advertising_opt_out_notice;
                opt_outs sale_opt_out => SaleOptOut targeted_advertising_opt_out => TargetedAdvertisingOptOut;
                children known_child_sensitive_data_consents; personal additional_data_processing_consent;
                sensitive racial_or_ethnic_origin => Origin religious_beliefs => Beliefs health_data => Health
                    sexual_orientation => Sexuality citizenship_or_immigration_status => Citizenship
                    genetic_unique_identification => Genetic biometric_unique_identification => Biometric
                    precise_geolocation_data => PreciseGeolocation
            };
            gpc(facts, it.gpc)
        }
        20 => {
            let it = parse!(UsNh);
            let facts = collect! { id, it.core;
                notices processing_notice sale_opt_out_notice targeted_advertising_opt_out_notice;
                opt_outs sale_opt_out => SaleOptOut targeted_advertising_opt_out => TargetedAdvertisingOptOut;
                children known_child_sensitive_data_consents.process_sensitive_data_from_known_child
                    known_child_sensitive_data_consents.sell_personal_data_from_13_to_16
                    known_child_sensitive_data_consents.process_personal_data_from_13_to_16;
                personal additional_data_processing_consent;
                sensitive racial_or_ethnic_origin => Origin religious_beliefs => Beliefs health_data => Health
                    sex_life_or_sexual_orientation => Sexuality citizenship_or_immigration_status => Citizenship
                    genetic_unique_identification => Genetic biometric_unique_identification => Biometric
                    precise_geolocation_data => PreciseGeolocation
            };
            gpc(facts, it.gpc)
        }
        21 => {
            let it = parse!(UsNj);
            let facts = collect! { id, it.core;
                notices processing_notice sale_opt_out_notice targeted_advertising_opt_out_notice;
                opt_outs sale_opt_out => SaleOptOut targeted_advertising_opt_out => TargetedAdvertisingOptOut;
                children known_child_sensitive_data_consents.process_sensitive_data_from_known_child
                    known_child_sensitive_data_consents.sell_personal_data_from_13_to_16
                    known_child_sensitive_data_consents.process_personal_data_from_13_to_16
                    known_child_sensitive_data_consents.sell_personal_data_from_16_to_17
                    known_child_sensitive_data_consents.process_personal_data_from_16_to_17;
                personal additional_data_processing_consent;
                sensitive racial_or_ethnic_origin => Origin religious_beliefs => Beliefs health_data => Health
                    sex_life_or_sexual_orientation => Sexuality citizenship_or_immigration_status => Citizenship
                    genetic_unique_identification => Genetic biometric_unique_identification => Biometric
                    precise_geolocation_data => PreciseGeolocation transgender_or_nonbinary_status => Gender
                    financial_data => Financial
            };
            gpc(facts, it.gpc)
        }
        22 => {
            let it = parse!(UsTn);
            let facts = collect! { id, it.core;
                notices processing_notice sale_opt_out_notice targeted_advertising_opt_out_notice;
                opt_outs sale_opt_out => SaleOptOut targeted_advertising_opt_out => TargetedAdvertisingOptOut;
                children known_child_sensitive_data_consents; personal additional_data_processing_consent;
                sensitive racial_or_ethnic_origin => Origin religious_beliefs => Beliefs health_data => Health
                    sexual_orientation => Sexuality citizenship_or_immigration_status => Citizenship
                    genetic_unique_identification => Genetic biometric_unique_identification => Biometric
                    precise_geolocation_data => PreciseGeolocation
            };
            gpc(facts, it.gpc)
        }
        23 => {
            let it = parse!(UsMn);
            let facts = collect! { id, it.core;
                notices processing_notice sale_opt_out_notice targeted_advertising_opt_out_notice;
                opt_outs sale_opt_out => SaleOptOut targeted_advertising_opt_out => TargetedAdvertisingOptOut;
                children known_child_sensitive_data_consents; personal additional_data_processing_consent;
                sensitive racial_or_ethnic_origin => Origin religious_beliefs => Beliefs
                    health_condition_or_diagnosis => Health sex_life_or_sexual_orientation => Sexuality
                    citizenship_or_immigration_status => Citizenship genetic_unique_identification => Genetic
                    biometric_unique_identification => Biometric precise_geolocation_data => PreciseGeolocation
            };
            gpc(facts, it.gpc)
        }
        _ => return Err(Reason::SectionUnknown),
    })
}

/// What a US privacy string says. Three dashes mean that the law does not apply to this user.
pub(super) fn privacy_string(text: &str) -> Said<UsFacts> {
    const BYTES: usize = 4;
    if text.len() != BYTES {
        return Said::Bad(Reason::StringMalformed);
    }
    if !text.starts_with('1') {
        return Said::Bad(Reason::StringVersion);
    }
    let Ok(UspV1 { opt_out_notice, opt_out_sale, .. }) = text.parse() else {
        return Said::Bad(Reason::StringMalformed);
    };
    if text == "1---" {
        return Said::Nothing;
    }
    let mut facts = UsFacts { section: 6, ..UsFacts::default() };
    facts.set(UsFlag::SaleOptOut, opt_out_sale == Flag::Yes);
    // Without an answer about the notice, the user may not have had one.
    facts.set(UsFlag::NoticeMissing, opt_out_notice != Flag::Yes);
    Said::Facts(facts)
}
