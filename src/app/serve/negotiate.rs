//! Which form of a decision a client wants.

/// A form of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Protobuf,
}

impl Form {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
        }
    }

    /// The form that a header `Accept` prefers; JSON if it is the same to the client. `None` if it wants neither.
    pub(super) fn of(accept: Option<&str>) -> Option<Self> {
        let (json, protobuf) = wishes(accept);
        match (json.weight, protobuf.weight) {
            (json, protobuf) if protobuf > json => Some(Self::Protobuf),
            (json, _) if json > 0.0 => Some(Self::Json),
            _ => None,
        }
    }

    /// Whether a client with this header `Accept` takes JSON.
    pub(super) fn takes_json(accept: Option<&str>) -> bool {
        wishes(accept).0.weight > 0.0
    }
}

/// How much JSON and Protobuf are wanted. Who says nothing takes everything.
fn wishes(accept: Option<&str>) -> (Wish, Wish) {
    let accept = accept.filter(|accept| !accept.trim().is_empty()).unwrap_or("*/*");
    let (mut json, mut protobuf) = (Wish::default(), Wish::default());
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
        match name.as_str() {
            "application/json" => json.add(2, weight),
            "application/x-protobuf" | "application/protobuf" | "application/vnd.google.protobuf" => {
                protobuf.add(2, weight);
            }
            "application/*" => [&mut json, &mut protobuf].into_iter().for_each(|wish| wish.add(1, weight)),
            "*/*" => [&mut json, &mut protobuf].into_iter().for_each(|wish| wish.add(0, weight)),
            _ => {}
        }
    }
    (json, protobuf)
}

/// How much a form is wanted. A more exact range overrides a wider one.
#[derive(Default)]
struct Wish {
    exactness: u8,
    weight: f32,
}

impl Wish {
    fn add(&mut self, exactness: u8, weight: f32) {
        if exactness >= self.exactness {
            *self = Self { exactness, weight };
        }
    }
}

/// Whether a header `If-None-Match` has this tag.
pub(super) fn has_tag(header: &str, tag: &str) -> bool {
    header.split(',').map(|it| it.trim().trim_start_matches("W/")).any(|it| it == tag || it == "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_the_one_that_the_client_prefers() {
        for (accept, form) in [
            (None, Some(Form::Json)),
            (Some("*/*"), Some(Form::Json)),
            (Some("application/json"), Some(Form::Json)),
            (Some("application/x-protobuf"), Some(Form::Protobuf)),
            (Some("Application/Protobuf, application/json;q=0.5"), Some(Form::Protobuf)),
            (Some("application/json, application/x-protobuf"), Some(Form::Json)),
            (Some("*/*;q=0.1, application/vnd.google.protobuf"), Some(Form::Protobuf)),
            (Some("application/json;q=0, */*"), Some(Form::Protobuf)),
            (Some("text/html"), None),
            (Some(""), Some(Form::Json)),
            (Some(" "), Some(Form::Json)),
        ] {
            assert_eq!(Form::of(accept), form, "{accept:?}");
        }
        let protobuf = "application/x-protobuf";
        for (accept, takes) in [(None, true), (Some(protobuf), false), (Some("*/*, application/x-protobuf"), true)] {
            assert_eq!(Form::takes_json(accept), takes, "{accept:?}");
        }
    }

    #[test]
    fn a_tag_is_found_in_a_list() {
        for (header, has) in [("\"a\"", true), ("\"b\", W/\"a\"", true), ("*", true), ("\"ab\"", false), ("", false)] {
            assert_eq!(has_tag(header, "\"a\""), has, "{header}");
        }
    }
}
