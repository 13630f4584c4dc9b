//! Writes consent strings bit by bit, as the specifications say.

/// Bits in the order of the string.
#[derive(Clone, Debug, Default)]
pub struct Writer(Vec<bool>);

impl Writer {
    /// A number, highest bit first.
    pub fn put(&mut self, value: u64, bits: usize) -> &mut Self {
        self.0.extend((0..bits).rev().map(|bit| value >> bit & 1 == 1));
        self
    }

    /// A field with these bits set, counted from 1.
    pub fn field(&mut self, bits: usize, set: &[u16]) -> &mut Self {
        self.0.extend((1..=bits).map(|bit| set.contains(&(bit as u16))));
        self
    }

    /// A number in Fibonacci code.
    pub fn fibonacci(&mut self, number: u64) -> &mut Self {
        let mut terms = vec![1, 2];
        while let [.., before, last] = terms[..] {
            if last > number {
                break;
            }
            terms.push(before + last);
        }
        let mut left = number;
        let mut bits: Vec<bool> = terms
            .iter()
            .rev()
            .map(|term| {
                let is_in = *term <= left;
                left -= if is_in { *term } else { 0 };
                is_in
            })
            .skip_while(|is_in| !is_in)
            .collect();
        bits.reverse();
        self.0.extend(bits);
        self.put(1, 1)
    }

    /// The text, padded to whole bytes and then to whole characters, as the reference encoders do.
    pub fn text(&self) -> String {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut bits = self.0.clone();
        bits.resize(bits.len().next_multiple_of(8), false);
        bits.resize(bits.len().next_multiple_of(6), false);
        let value = |bits: &[bool]| bits.iter().fold(0, |value, bit| value << 1 | usize::from(*bit));
        bits.chunks(6).map(|bits| char::from(ALPHABET[value(bits)])).collect()
    }
}

/// A set of vendors, and how it is written.
#[derive(Clone, Debug)]
pub enum Vendors {
    /// A bit for each vendor.
    Field(Vec<bool>),
    /// First and last vendor of each range.
    Ranges(Vec<(u16, u16)>),
}

impl Vendors {
    /// All vendors up to one, as a field.
    pub fn up_to(last: usize) -> Self {
        Self::Field(vec![true; last])
    }

    fn write(&self, to: &mut Writer) {
        match self {
            Self::Field(bits) => {
                to.put(bits.len() as u64, 16).put(0, 1);
                to.0.extend(bits);
            }
            Self::Ranges(ranges) => {
                let max = ranges.iter().map(|range| range.1).max().unwrap_or(0);
                to.put(max.into(), 16).put(1, 1);
                write_ranges(to, ranges);
            }
        }
    }
}

fn write_ranges(to: &mut Writer, ranges: &[(u16, u16)]) {
    to.put(ranges.len() as u64, 12);
    for (first, last) in ranges {
        if first == last {
            to.put(0, 1).put((*first).into(), 16);
        } else {
            to.put(1, 1).put((*first).into(), 16).put((*last).into(), 16);
        }
    }
}

/// A publisher restriction: purpose, kind, and first and last vendor of each range.
pub type Restriction = (u64, u64, Vec<(u16, u16)>);

/// A TC string before it is written. Each field is one of the string, so that a test changes any of them alone.
#[derive(Clone, Debug)]
pub struct Tc {
    /// In seconds since 1970. The string also has this as the time when it was created.
    pub last_updated: u64,
    /// The consent management platform.
    pub cmp_id: u64,
    /// The version of the vendor list.
    pub vendor_list_version: u64,
    /// The version of the framework's policies.
    pub policy_version: u64,
    /// Whether it is for one service, and not for all of them.
    pub is_service_specific: bool,
    /// The special features that the user opts in to.
    pub special_features: Vec<u16>,
    /// The purposes that the user consents to.
    pub consent: Vec<u16>,
    /// The purposes with legitimate interest.
    pub interest: Vec<u16>,
    /// Whether the publisher's country needs no consent for purpose 1.
    pub is_purpose_one_exempt: bool,
    /// The publisher's country.
    pub publisher: [u8; 2],
    /// The vendors that the user consents to.
    pub vendor_consent: Vendors,
    /// The vendors with legitimate interest.
    pub vendor_interest: Vendors,
    /// What the publisher restricts.
    pub restrictions: Vec<Restriction>,
    /// The disclosed vendors, if the string lists them.
    pub disclosed: Option<Vendors>,
}

/// 1 June 2026, in seconds since 1970.
pub const JUNE: u64 = 1_780_272_000;

impl Default for Tc {
    /// Consent to everything, for 60 vendors.
    fn default() -> Self {
        Self {
            last_updated: JUNE,
            cmp_id: 300,
            vendor_list_version: 100,
            policy_version: 4,
            is_service_specific: true,
            special_features: vec![1, 2],
            consent: (1..=11).collect(),
            interest: vec![2, 7, 8, 9, 10, 11],
            is_purpose_one_exempt: false,
            publisher: *b"DE",
            vendor_consent: Vendors::up_to(60),
            vendor_interest: Vendors::up_to(60),
            restrictions: Vec::new(),
            disclosed: None,
        }
    }
}

impl Tc {
    /// The string.
    pub fn text(&self) -> String {
        let mut to = Writer::default();
        to.put(2, 6).put(self.last_updated * 10, 36).put(self.last_updated * 10, 36);
        to.put(self.cmp_id, 12).put(1, 12).put(1, 6).put(4, 6).put(13, 6);
        to.put(self.vendor_list_version, 12).put(self.policy_version, 6);
        to.put(self.is_service_specific.into(), 1).put(0, 1);
        to.field(12, &self.special_features).field(24, &self.consent).field(24, &self.interest);
        to.put(self.is_purpose_one_exempt.into(), 1);
        for letter in self.publisher {
            to.put(u64::from(letter - b'A'), 6);
        }
        self.vendor_consent.write(&mut to);
        self.vendor_interest.write(&mut to);
        to.put(self.restrictions.len() as u64, 12);
        for (purpose, kind, ranges) in &self.restrictions {
            to.put(*purpose, 6).put(*kind, 2);
            write_ranges(&mut to, ranges);
        }
        let core = to.text();
        let Some(disclosed) = &self.disclosed else { return core };
        let mut to = Writer::default();
        to.put(1, 3);
        disclosed.write(&mut to);
        format!("{core}.{}", to.text())
    }

    /// The string of the Canadian framework with the same values; restrictions are only counted.
    pub fn canadian(&self) -> String {
        let mut to = Writer::default();
        to.put(1, 6).put(self.last_updated * 10, 36).put(self.last_updated * 10, 36);
        to.put(self.cmp_id, 12).put(1, 12).put(1, 6).put(4, 6).put(13, 6);
        to.put(self.vendor_list_version, 12).put(self.policy_version, 6).put(0, 1);
        to.field(12, &self.special_features).field(24, &self.consent).field(24, &self.interest);
        self.vendor_consent.write(&mut to);
        self.vendor_interest.write(&mut to);
        to.put(self.restrictions.len() as u64, 12);
        to.text()
    }
}

/// A GPP string with these sections.
pub fn gpp(sections: &[(u64, &str)]) -> String {
    let mut to = Writer::default();
    to.put(3, 6).put(1, 6).put(sections.len() as u64, 12);
    let mut last = 0;
    for (id, _) in sections {
        to.put(0, 1).fibonacci(id - last);
        last = *id;
    }
    sections.iter().fold(to.text(), |text, (_, section)| text + "~" + section)
}

/// A section for the United States: a version and fields of two bits each.
pub fn us_section(version: u64, fields: &[u64]) -> String {
    let mut to = Writer::default();
    to.put(version, 6);
    for field in fields {
        to.put(*field, 2);
    }
    to.text()
}
