//! Countries as events and bid requests write them: two letters, or three as in OpenRTB.
//!
//! Owns the table of codes that are given out, and what else is written for a country. Guarantees: a text that is no country
//! is [`Country::Unknown`], never a place without a law. Nothing is allocated.
//!
//! Source: ISO 3166-1, 249 countries and areas. Beyond these, codes that are reserved for what lies in one of them, `UK` and
//! `EL` as the European Union writes them, and `XK` for Kosovo, which databases of addresses use.

/// The code of three letters and that of two, sorted.
const CODES: &str = "\
    ABWAW AFGAF AGOAO AIAAI ALAAX ALBAL ANDAD AREAE ARGAR ARMAM ASMAS ATAAQ ATFTF ATGAG AUSAU AUTAT \
    AZEAZ BDIBI BELBE BENBJ BESBQ BFABF BGDBD BGRBG BHRBH BHSBS BIHBA BLMBL BLRBY BLZBZ BMUBM BOLBO \
    BRABR BRBBB BRNBN BTNBT BVTBV BWABW CAFCF CANCA CCKCC CHECH CHLCL CHNCN CIVCI CMRCM CODCD COGCG \
    COKCK COLCO COMKM CPVCV CRICR CUBCU CUWCW CXRCX CYMKY CYPCY CZECZ DEUDE DJIDJ DMADM DNKDK DOMDO \
    DZADZ ECUEC EGYEG ERIER ESHEH ESPES ESTEE ETHET FINFI FJIFJ FLKFK FRAFR FROFO FSMFM GABGA GBRGB \
    GEOGE GGYGG GHAGH GIBGI GINGN GLPGP GMBGM GNBGW GNQGQ GRCGR GRDGD GRLGL GTMGT GUFGF GUMGU GUYGY \
    HKGHK HMDHM HNDHN HRVHR HTIHT HUNHU IDNID IMNIM INDIN IOTIO IRLIE IRNIR IRQIQ ISLIS ISRIL ITAIT \
    JAMJM JEYJE JORJO JPNJP KAZKZ KENKE KGZKG KHMKH KIRKI KNAKN KORKR KWTKW LAOLA LBNLB LBRLR LBYLY \
    LCALC LIELI LKALK LSOLS LTULT LUXLU LVALV MACMO MAFMF MARMA MCOMC MDAMD MDGMG MDVMV MEXMX MHLMH \
    MKDMK MLIML MLTMT MMRMM MNEME MNGMN MNPMP MOZMZ MRTMR MSRMS MTQMQ MUSMU MWIMW MYSMY MYTYT NAMNA \
    NCLNC NERNE NFKNF NGANG NICNI NIUNU NLDNL NORNO NPLNP NRUNR NZLNZ OMNOM PAKPK PANPA PCNPN PERPE \
    PHLPH PLWPW PNGPG POLPL PRIPR PRKKP PRTPT PRYPY PSEPS PYFPF QATQA REURE ROURO RUSRU RWARW SAUSA \
    SDNSD SENSN SGPSG SGSGS SHNSH SJMSJ SLBSB SLESL SLVSV SMRSM SOMSO SPMPM SRBRS SSDSS STPST SURSR \
    SVKSK SVNSI SWESE SWZSZ SXMSX SYCSC SYRSY TCATC TCDTD TGOTG THATH TJKTJ TKLTK TKMTM TLSTL TONTO \
    TTOTT TUNTN TURTR TUVTV TWNTW TZATZ UGAUG UKRUA UMIUM URYUY USAUS UZBUZ VATVA VCTVC VENVE VGBVG \
    VIRVI VNMVN VUTVU WLFWF WSMWS YEMYE ZAFZA ZMBZM ZWEZW";

/// The bytes of a pair of codes and the space behind it.
const STEP: usize = 6;

/// Other codes of two letters, and the country that each stands for.
const OTHERS: [([u8; 2], [u8; 2]); 6] =
    [(*b"UK", *b"GB"), (*b"EL", *b"GR"), (*b"FX", *b"FR"), (*b"EA", *b"ES"), (*b"IC", *b"ES"), (*b"XK", *b"XK")];

/// The number of pairs of letters.
const PAIRS: usize = 26 * 26;

/// By pair of letters: whether ISO 3166-1 gives it out.
const IS_GIVEN: [bool; PAIRS] = {
    let mut given = [false; PAIRS];
    let codes = CODES.as_bytes();
    let mut at = 0;
    while at < codes.len() {
        given[(codes[at + 3] - b'A') as usize * 26 + (codes[at + 4] - b'A') as usize] = true;
        at += STEP;
    }
    given
};

/// What a text says about a country.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Country {
    /// Nothing.
    Unsaid,
    /// A country, by its two capital letters.
    Known([u8; 2]),
    /// `EU`: one of the European Union, and not which.
    EuropeanUnion,
    /// Something else.
    Unknown,
}

impl Country {
    /// Reads a code of two or three letters in either case.
    pub fn read(text: &str) -> Self {
        let text = text.trim_ascii();
        if text.is_empty() {
            return Self::Unsaid;
        }
        if !text.bytes().all(|letter| letter.is_ascii_alphabetic()) {
            return Self::Unknown;
        }
        if let Ok(code) = <[u8; 2]>::try_from(text.as_bytes()) {
            return Self::of_two(code.map(|letter| letter.to_ascii_uppercase()));
        }
        if let Ok(code) = <[u8; 3]>::try_from(text.as_bytes()) {
            return Self::of_three(code.map(|letter| letter.to_ascii_uppercase()));
        }
        Self::Unknown
    }

    fn of_two(code: [u8; 2]) -> Self {
        if code == *b"EU" {
            return Self::EuropeanUnion;
        }
        let [first, second] = code.map(|letter| usize::from(letter - b'A'));
        if IS_GIVEN[first * 26 + second] {
            return Self::Known(code);
        }
        OTHERS.iter().find(|(other, _)| *other == code).map_or(Self::Unknown, |(_, country)| Self::Known(*country))
    }

    fn of_three(code: [u8; 3]) -> Self {
        let codes = CODES.as_bytes();
        let (mut low, mut high) = (0, codes.len().div_ceil(STEP));
        while low < high {
            let middle = usize::midpoint(low, high);
            let pair = &codes[middle * STEP..middle * STEP + STEP - 1];
            match pair[..3].cmp(&code[..]) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Self::Known([pair[3], pair[4]]),
            }
        }
        Self::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_country_is_found_by_its_two_and_its_three_letters() {
        let pairs: Vec<&str> = CODES.split(' ').collect();
        assert_eq!(pairs.len(), 249);
        assert!(pairs.is_sorted());
        for pair in pairs {
            let known = Country::Known(pair.as_bytes()[3..].try_into().unwrap());
            for text in [&pair[..3], &pair[3..], &pair.to_lowercase()[..3], &pair.to_lowercase()[3..]] {
                assert_eq!(Country::read(text), known, "{text}");
            }
        }
        assert_eq!(IS_GIVEN.iter().filter(|is_given| **is_given).count(), 249);
    }

    #[test]
    fn other_ways_to_write_a_country_are_read_and_the_rest_is_no_country() {
        for (text, country) in [
            ("UK", *b"GB"),
            ("uk", *b"GB"),
            ("EL", *b"GR"),
            ("FX", *b"FR"),
            ("XK", *b"XK"),
            ("Deu", *b"DE"),
            (" de ", *b"DE"),
        ] {
            assert_eq!(Country::read(text), Country::Known(country), "{text}");
        }
        assert_eq!((Country::read(""), Country::read("eu")), (Country::Unsaid, Country::EuropeanUnion));
        for text in
            ["ZZ", "XX", "A1", "AP", "XXX", "ZZZ", "276", "-", "Germany", "DE-BY", "D", "de_DE", "\u{ff24}E", "null"]
        {
            assert_eq!(Country::read(text), Country::Unknown, "{text}");
        }
    }
}
