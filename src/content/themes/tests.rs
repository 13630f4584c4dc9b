use super::*;
use crate::content::{
    voices::{Comment, Intake, Voices},
    words::{grams, words},
};

/// Parts of comments about three subjects; the subject is the row.
const PARTS: [([&str; 4], [&str; 4], [&str; 4]); 3] = [
    (
        ["The battery", "Charging this thing", "Battery life", "The charger"],
        ["lasts for days", "takes an hour on the cable", "is great on long trips", "drains overnight, which is bad"],
        ["and I charge it twice a week", "even with power saving", "so the plug stays home", "on a single charge"],
    ),
    (
        ["The strap", "This wrist band", "My strap", "The buckle of the band"],
        ["feels soft on skin", "broke after a month", "is comfortable during sleep", "scratches my wrist, awful"],
        ["and the leather looks good", "though the clasp is tight", "with any wrist size", "like soft leather should"],
    ),
    (
        ["Delivery", "The parcel", "My courier", "Shipping of the package"],
        ["arrived a day early, great", "was late again", "left it with a neighbour", "came in a damaged box"],
        ["and tracking worked", "but support refunded the shipping", "in a small carton", "before the courier called"],
    ),
];

fn comments() -> Vec<(usize, Comment)> {
    let mut all = Vec::new();
    for (subject, (starts, middles, ends)) in PARTS.iter().enumerate() {
        for number in 0..64_usize {
            let text = format!("{} {} {}", starts[number % 4], middles[number / 4 % 4], ends[number / 16]);
            let segments =
                if subject == 0 && number % 2 == 0 || number % 8 == 0 { vec!["commuters".to_owned()] } else { vec![] };
            let user = format!("u{}", number % 40);
            all.push((subject, Comment { user, text, likes: (number % 5) as f64, segments, ..Comment::default() }));
        }
    }
    all
}

fn voices(comments: &[(usize, Comment)]) -> Voices {
    // Texts of the same parts are alike on purpose.
    let mut voices = Voices::new(Intake { alike: 1.0, ..Intake::default() });
    for (_, comment) in comments {
        voices.add(comment);
    }
    voices
}

fn options() -> ThemeOptions {
    ThemeOptions { language: "en".to_owned(), count: Some(3), seed: 3 }
}

#[test]
fn planted_subjects_become_themes_with_words_points_and_segments() {
    let comments = comments();
    let voices = voices(&comments);
    let found = find(voices.voices(), &options(), None).unwrap();
    let truth: Vec<usize> = comments.iter().map(|(subject, _)| *subject).collect();
    let labels: Vec<usize> = found.labels.iter().map(|label| label.unwrap_or(9)).collect();
    let index = adjusted_rand_index(&labels, &truth);
    assert!(index > 0.9, "{index}");
    let of_subject = |subject: usize| {
        let label = labels[truth.iter().position(|it| *it == subject).unwrap()];
        &found.report.themes[label]
    };
    for (subject, word) in [(0, "battery"), (1, "strap"), (2, "courier")] {
        let theme = of_subject(subject);
        assert!(theme.words.iter().any(|it| it == word), "{word}: {:?}", theme.words);
        assert!((1..=3).contains(&theme.points.len()), "{:?}", theme.points);
        let share = &theme.segments[0];
        assert_eq!((share.segment.as_str(), share.is_over_represented()), ("commuters", subject == 0), "{share:?}");
    }
    assert!(of_subject(1).points.iter().any(|it| it.starts_with("Mostly criticised")), "{:?}", of_subject(1).points);
    assert_eq!(find(voices.voices(), &options(), None).unwrap().report, found.report, "the same seed, the same themes");
}

#[test]
fn no_theme_quotes_five_words_and_no_word_is_of_fewer_than_three_people() {
    let mut comments = comments();
    // One person repeats a rare word, and three write a comment that is exactly a label and a point.
    for number in 0..30 {
        let text = format!("Battery zanzibar number {number} charge trips zanzibar");
        comments.push((0, Comment { user: "one".to_owned(), text, likes: 1e6, ..Comment::default() }));
    }
    let found = find(voices(&comments).voices(), &options(), None).unwrap();
    for theme in &found.report.themes {
        for text in theme.points.iter().cloned().chain([theme.words.join(" ")]) {
            comments.push((0, Comment { user: format!("{text}1"), text, ..Comment::default() }));
        }
    }
    let voices = voices(&comments);
    let found = find(voices.voices(), &options(), None).unwrap();
    let said: HashSet<u64> =
        comments.iter().flat_map(|(_, it)| grams(&words(&it.text), 5).collect::<Vec<_>>()).collect();
    let printed = serde_json::to_string(&found.report).unwrap();
    assert!(!printed.contains("zanzibar"), "{printed}");
    for theme in &found.report.themes {
        for text in theme.points.iter().cloned().chain([theme.words.join(" ")]) {
            assert!(!grams(&words(&text), 5).any(|gram| said.contains(&gram)), "{text}");
        }
    }
}

#[test]
fn other_languages_are_left_out_and_nothing_is_found_in_nothing() {
    let mut comments = comments();
    for number in 0..20 {
        let colour = ["rot", "blau", "grün", "weiß"][number % 4];
        let place = ["zu Hause", "im Büro", "auf dem Rad", "im Garten", "unterwegs"][number / 4];
        let text = format!("Der Akku in {colour} hält {place} den ganzen Tag und das ist wirklich gut so");
        comments.push((0, Comment { user: number.to_string(), text, ..Comment::default() }));
    }
    let found = find(voices(&comments).voices(), &options(), None).unwrap();
    assert_eq!(found.report.other_languages, 20);
    assert!(found.labels[comments.len() - 20..].iter().all(Option::is_none));
    let nothing = find(&[], &ThemeOptions { count: None, ..options() }, None).unwrap();
    assert!(nothing.report.themes.is_empty() && nothing.labels.is_empty());
}

#[test]
fn an_embedder_takes_the_place_of_the_bag_of_words() {
    /// Knows three subjects by their first word that it recognises.
    struct Subjects;
    impl Embedder for Subjects {
        fn name(&self) -> String {
            "subjects".to_owned()
        }
        fn embed(&mut self, texts: &[&str]) -> Result<Vectors, EmbedError> {
            let subject = |text: &&str| {
                let text = text.to_lowercase();
                let place =
                    [&["batter", "charg"][..], &["strap", "band"], &["deliver", "parcel", "courier", "shipping"]];
                let found = place
                    .iter()
                    .position(|words| words.iter().any(|word| text.split(' ').take(2).any(|it| it.starts_with(word))));
                (0..3).map(move |it| f32::from(u8::from(Some(it) == found)) * 7.0).collect::<Vec<_>>()
            };
            Ok(Vectors::Dense { values: texts.iter().flat_map(subject).collect(), width: 3 })
        }
    }
    struct Broken;
    impl Embedder for Broken {
        fn name(&self) -> String {
            "broken".to_owned()
        }
        fn embed(&mut self, _: &[&str]) -> Result<Vectors, EmbedError> {
            Err(EmbedError { name: self.name(), reason: "no input named ids".to_owned() })
        }
    }
    let comments = comments();
    let voices = voices(&comments);
    let options = ThemeOptions { count: None, ..options() };
    let found = find(voices.voices(), &options, Some(&mut Subjects)).unwrap();
    assert_eq!(
        (found.report.embedding.as_str(), found.report.themes.len()),
        ("subjects", 3),
        "{:?}",
        found.report.tried
    );
    let error = find(voices.voices(), &options, Some(&mut Broken)).unwrap_err().to_string();
    assert_eq!(error, "embed texts with broken: no input named ids");
}
