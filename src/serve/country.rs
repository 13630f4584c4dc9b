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

/// The code of two letters for one of two or three, in capital letters. `None` if no country has the code.
pub(super) fn two_letters(code: &str) -> Option<&str> {
    if code.len() == 2 {
        return CODES.as_bytes().chunks(STEP).any(|pair| pair.get(3..5) == Some(code.as_bytes())).then_some(code);
    }
    if code.len() != 3 || !code.bytes().all(|letter| letter.is_ascii_uppercase()) {
        return None;
    }
    let (mut low, mut high) = (0, CODES.len().div_ceil(STEP));
    while low < high {
        let middle = usize::midpoint(low, high);
        let pair = &CODES[middle * STEP..middle * STEP + STEP - 1];
        match pair[..3].cmp(code) {
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
            ("deu", None),
            ("ZZZ", None),
            ("", None),
            ("DEUT", None),
            // What is taken for a country now and then, and is none.
            ("EU", None),
            ("UK", None),
            ("ZZ", None),
            ("de", None),
            ("EUDE", None),
            // The end of one pair and the start of the next.
            ("W ", None),
            ("ü", None),
        ] {
            assert_eq!(two_letters(code), found, "{code}");
        }
    }
}
