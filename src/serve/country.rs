//! Countries: OpenRTB names them by three letters, and consent rules by two.
//!
//! Source: ISO 3166-1, 249 countries and areas.

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

/// Other codes of two letters, and the country that each stands for: reserved ones for what lies in a country, `UK` and `EL` as
/// the European Union writes them, and `XK` for Kosovo, which databases of addresses use.
const OTHERS: [(&str, &str); 6] = [("UK", "GB"), ("EL", "GR"), ("FX", "FR"), ("EA", "ES"), ("IC", "ES"), ("XK", "XK")];

/// The code of two capital letters for one of two or three letters in either case. `None` if it is no country: it might stand
/// for one with a law.
pub(super) fn two_letters(code: &str) -> Option<&'static str> {
    let code = code.trim_ascii();
    if !code.bytes().all(|letter| letter.is_ascii_alphabetic()) {
        return None;
    }
    if code.len() == 2 {
        let codes = CODES.split(' ').map(|pair| &pair[3..]).chain(OTHERS.map(|(other, _)| other));
        let found = codes.into_iter().find(|it| it.eq_ignore_ascii_case(code))?;
        return Some(OTHERS.iter().find(|(other, _)| *other == found).map_or(found, |(_, country)| country));
    }
    let code = <[u8; 3]>::try_from(code.as_bytes()).ok()?.map(|letter| letter.to_ascii_uppercase());
    let (mut low, mut high) = (0, CODES.len().div_ceil(STEP));
    while low < high {
        let middle = usize::midpoint(low, high);
        let pair = &CODES[middle * STEP..middle * STEP + STEP - 1];
        match pair.as_bytes()[..3].cmp(&code[..]) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => return Some(&pair[3..]),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_country_is_found_by_its_three_letters() {
        let pairs: Vec<&str> = CODES.split(' ').collect();
        assert_eq!(pairs.len(), 249);
        assert!(pairs.is_sorted());
        for pair in pairs {
            assert_eq!(two_letters(&pair[..3]), Some(&pair[3..]));
            assert_eq!(two_letters(&pair[3..]), Some(&pair[3..]));
        }
        for (code, found) in [
            ("DEU", Some("DE")),
            ("USA", Some("US")),
            ("GBR", Some("GB")),
            ("CHE", Some("CH")),
            ("DE", Some("DE")),
            ("XXX", None),
            ("deu", Some("DE")),
            (" gbr ", Some("GB")),
            ("ZZZ", None),
            ("", None),
            ("DEUT", None),
            // What is taken for a country now and then, and is none.
            ("EU", None),
            ("UK", Some("GB")),
            ("el", Some("GR")),
            ("XK", Some("XK")),
            ("ZZ", None),
            ("de", Some("DE")),
            ("EUDE", None),
            // The end of one pair and the start of the next.
            ("W ", None),
            ("ü", None),
        ] {
            assert_eq!(two_letters(code), found, "{code}");
        }
    }
}
