//! The canonical fields, and where producers keep them.

use super::{
    FieldPath, FieldSpec, InputFormat, InputSpec, Preset, TimeUnit, access_log, json::steps, log_format::LogFormat,
};
use crate::{
    columns::{Slot, Type},
    config_error::ConfigError,
    expression::{Scope, nearest},
};

/// The canonical fields: the name in expressions and in `[input.fields]`, the type, and the paths in the JSON form of
/// `aimpoint.v1.Event`. The first path with a value counts. `item.*` is the first item.
pub const CANONICAL: &[(&str, Type, &[&str])] = &[
    ("event_id", Type::String, &["event_id"]),
    ("event_type", Type::String, &["event_type"]),
    ("occurred_at", Type::Timestamp, &["occurred_at"]),
    ("sent_at", Type::Timestamp, &["sent_at"]),
    ("received_at", Type::Timestamp, &["received_at"]),
    ("user_id", Type::String, &["user_id", "user.user_id"]),
    ("anonymous_id", Type::String, &["anonymous_id", "user.anonymous_id"]),
    ("key_type", Type::String, &["key_type"]),
    ("session_id", Type::String, &["session_id"]),
    ("source.app_id", Type::String, &["source.app_id"]),
    ("source.platform", Type::String, &["source.platform"]),
    ("source.sdk", Type::String, &["source.sdk"]),
    ("page.url", Type::String, &["page.url"]),
    ("page.path", Type::String, &["page.path"]),
    ("page.referrer", Type::String, &["page.referrer"]),
    ("page.title", Type::String, &["page.title"]),
    ("page.category", Type::String, &["page.category"]),
    ("item.id", Type::String, &["items.id"]),
    ("item.category", Type::String, &["items.category"]),
    ("item.price", Type::Double, &["items.price"]),
    ("item.quantity", Type::Double, &["items.quantity"]),
    ("value", Type::Double, &["value"]),
    ("currency", Type::String, &["currency"]),
    ("dwell_ms", Type::Int, &["dwell_ms"]),
    ("scroll_pct", Type::Double, &["scroll_pct"]),
    ("campaign.source", Type::String, &["campaign.source"]),
    ("campaign.medium", Type::String, &["campaign.medium"]),
    ("campaign.name", Type::String, &["campaign.name"]),
    ("campaign.click_id", Type::String, &["campaign.click_id"]),
    ("ad.decision_id", Type::String, &["ad.decision_id"]),
    ("ad.auction_id", Type::String, &["ad.auction_id"]),
    ("ad.imp_id", Type::String, &["ad.imp_id"]),
    ("ad.campaign_id", Type::String, &["ad.campaign_id"]),
    ("ad.creative_id", Type::String, &["ad.creative_id"]),
    ("ad.placement", Type::String, &["ad.placement"]),
    ("ad.price", Type::Double, &["ad.price"]),
    ("ad.min_to_win", Type::Double, &["ad.min_to_win"]),
    ("device.ua", Type::String, &["device.ua"]),
    ("device.type", Type::String, &["device.type"]),
    ("device.os", Type::String, &["device.os"]),
    ("geo.country", Type::String, &["geo.country"]),
    ("geo.region", Type::String, &["geo.region"]),
    ("consent.gdpr_applies", Type::Bool, &["consent.gdpr_applies"]),
    ("consent.tc_string", Type::String, &["consent.tc_string"]),
    ("consent.gpp", Type::String, &["consent.gpp"]),
    (GPP_SECTIONS, Type::Int, &["consent.gpp_sid"]),
    ("consent.us_privacy", Type::String, &["consent.us_privacy"]),
    ("consent.gpc", Type::Bool, &["consent.gpc"]),
    ("consent.coppa", Type::Bool, &["consent.coppa"]),
    ("consent.lmt", Type::Bool, &["consent.lmt"]),
    ("bot", Type::Bool, &["bot"]),
];

/// The canonical field with the GPP sections that apply: a list of ids, or a text of ids. In expressions it is a number
/// in which bit n stands for section n, and bit 62 for all above 61.
pub(super) const GPP_SECTIONS: &str = "consent.gpp_sid";

/// What the names of the fields about consent begin with.
pub(super) const CONSENT: &str = "consent.";

/// Where another producer keeps a canonical field: field, paths in order of preference, unit of a time.
type Table = &'static [(&'static str, &'static [&'static str], TimeUnit)];

const SNOWPLOW: Table = &[
    ("event_id", &["event_id"], TimeUnit::Auto),
    ("event_type", &["event_name", "event"], TimeUnit::Auto),
    ("occurred_at", &["derived_tstamp", "true_tstamp", "dvce_created_tstamp", "collector_tstamp"], TimeUnit::Auto),
    ("sent_at", &["dvce_sent_tstamp"], TimeUnit::Auto),
    ("received_at", &["collector_tstamp"], TimeUnit::Auto),
    ("user_id", &["user_id"], TimeUnit::Auto),
    ("anonymous_id", &["domain_userid", "network_userid"], TimeUnit::Auto),
    ("session_id", &["domain_sessionid"], TimeUnit::Auto),
    ("source.app_id", &["app_id"], TimeUnit::Auto),
    ("source.platform", &["platform"], TimeUnit::Auto),
    ("page.url", &["page_url"], TimeUnit::Auto),
    ("page.path", &["page_urlpath"], TimeUnit::Auto),
    ("page.referrer", &["page_referrer"], TimeUnit::Auto),
    ("page.title", &["page_title"], TimeUnit::Auto),
    ("item.id", &["ti_sku"], TimeUnit::Auto),
    ("item.category", &["ti_category"], TimeUnit::Auto),
    ("item.price", &["ti_price"], TimeUnit::Auto),
    ("item.quantity", &["ti_quantity"], TimeUnit::Auto),
    ("value", &["tr_total"], TimeUnit::Auto),
    ("currency", &["tr_currency", "ti_currency"], TimeUnit::Auto),
    ("campaign.source", &["mkt_source"], TimeUnit::Auto),
    ("campaign.medium", &["mkt_medium"], TimeUnit::Auto),
    ("campaign.name", &["mkt_campaign"], TimeUnit::Auto),
    ("campaign.click_id", &["mkt_clickid"], TimeUnit::Auto),
    ("device.ua", &["useragent"], TimeUnit::Auto),
    ("device.type", &["dvce_type"], TimeUnit::Auto),
    ("device.os", &["os_name"], TimeUnit::Auto),
    ("geo.country", &["geo_country"], TimeUnit::Auto),
    ("geo.region", &["geo_region"], TimeUnit::Auto),
    (
        "bot",
        &[
            // Snake case in the warehouses, camel case in the stream; each path is read in both spellings.
            "contexts_com_iab_snowplow_spiders_and_robots_1.spider_or_robot",
            "contexts_com_iab_snowplow_spiders_and_robots_1_0_0.spider_or_robot",
        ],
        TimeUnit::Auto,
    ),
];

const SEGMENT: Table = &[
    ("event_id", &["messageId"], TimeUnit::Auto),
    ("event_type", &["event", "type"], TimeUnit::Auto),
    ("occurred_at", &["timestamp", "originalTimestamp"], TimeUnit::Auto),
    ("sent_at", &["sentAt"], TimeUnit::Auto),
    ("received_at", &["receivedAt"], TimeUnit::Auto),
    ("user_id", &["userId"], TimeUnit::Auto),
    ("anonymous_id", &["anonymousId"], TimeUnit::Auto),
    ("session_id", &["context.sessionId"], TimeUnit::Auto),
    ("page.url", &["context.page.url", "properties.url"], TimeUnit::Auto),
    ("page.path", &["context.page.path", "properties.path"], TimeUnit::Auto),
    ("page.referrer", &["context.page.referrer", "properties.referrer"], TimeUnit::Auto),
    ("page.title", &["context.page.title", "properties.title"], TimeUnit::Auto),
    ("item.id", &["properties.product_id", "properties.products.product_id"], TimeUnit::Auto),
    ("item.category", &["properties.category", "properties.products.category"], TimeUnit::Auto),
    ("item.price", &["properties.price", "properties.products.price"], TimeUnit::Auto),
    ("item.quantity", &["properties.quantity", "properties.products.quantity"], TimeUnit::Auto),
    ("value", &["properties.revenue", "properties.total", "properties.value"], TimeUnit::Auto),
    ("currency", &["properties.currency"], TimeUnit::Auto),
    ("campaign.source", &["context.campaign.source"], TimeUnit::Auto),
    ("campaign.medium", &["context.campaign.medium"], TimeUnit::Auto),
    ("campaign.name", &["context.campaign.name"], TimeUnit::Auto),
    ("campaign.click_id", &["context.campaign.click_id", "context.referrer.id"], TimeUnit::Auto),
    ("device.ua", &["context.userAgent"], TimeUnit::Auto),
    ("device.type", &["context.device.type"], TimeUnit::Auto),
    ("device.os", &["context.os.name"], TimeUnit::Auto),
];

const GA4: Table = &[
    ("event_type", &["event_name"], TimeUnit::Auto),
    ("occurred_at", &["event_timestamp"], TimeUnit::Micros),
    ("user_id", &["user_id"], TimeUnit::Auto),
    ("anonymous_id", &["user_pseudo_id"], TimeUnit::Auto),
    ("session_id", &["event_params[ga_session_id]"], TimeUnit::Auto),
    ("source.app_id", &["app_info.id", "stream_id"], TimeUnit::Auto),
    ("source.platform", &["platform"], TimeUnit::Auto),
    ("page.url", &["event_params[page_location]"], TimeUnit::Auto),
    ("page.referrer", &["event_params[page_referrer]"], TimeUnit::Auto),
    ("page.title", &["event_params[page_title]"], TimeUnit::Auto),
    ("item.id", &["items.item_id"], TimeUnit::Auto),
    ("item.category", &["items.item_category"], TimeUnit::Auto),
    ("item.price", &["items.price"], TimeUnit::Auto),
    ("item.quantity", &["items.quantity"], TimeUnit::Auto),
    ("value", &["ecommerce.purchase_revenue", "event_params[value]", "event_value_in_usd"], TimeUnit::Auto),
    ("currency", &["event_params[currency]"], TimeUnit::Auto),
    ("dwell_ms", &["event_params[engagement_time_msec]"], TimeUnit::Auto),
    // `traffic_source` is how the user was first acquired; what was collected with the event is more specific.
    ("campaign.source", &["collected_traffic_source.manual_source", "traffic_source.source"], TimeUnit::Auto),
    ("campaign.medium", &["collected_traffic_source.manual_medium", "traffic_source.medium"], TimeUnit::Auto),
    ("campaign.name", &["collected_traffic_source.manual_campaign_name", "traffic_source.name"], TimeUnit::Auto),
    ("campaign.click_id", &["collected_traffic_source.gclid", "event_params[gclid]"], TimeUnit::Auto),
    ("device.type", &["device.category"], TimeUnit::Auto),
    ("device.os", &["device.operating_system"], TimeUnit::Auto),
    ("geo.country", &["geo.country"], TimeUnit::Auto),
    ("geo.region", &["geo.region"], TimeUnit::Auto),
];

const AMPLITUDE: Table = &[
    ("event_id", &["insert_id", "$insert_id"], TimeUnit::Auto),
    ("event_type", &["event_type"], TimeUnit::Auto),
    ("occurred_at", &["time", "event_time"], TimeUnit::Millis),
    ("sent_at", &["client_upload_time"], TimeUnit::Auto),
    ("received_at", &["server_received_time"], TimeUnit::Auto),
    ("user_id", &["user_id"], TimeUnit::Auto),
    ("anonymous_id", &["device_id"], TimeUnit::Auto),
    ("session_id", &["session_id"], TimeUnit::Auto),
    ("source.platform", &["platform"], TimeUnit::Auto),
    ("page.url", &["event_properties.[Amplitude] Page URL"], TimeUnit::Auto),
    ("page.path", &["event_properties.[Amplitude] Page Path"], TimeUnit::Auto),
    ("page.title", &["event_properties.[Amplitude] Page Title"], TimeUnit::Auto),
    ("item.id", &["productId", "event_properties.product_id"], TimeUnit::Auto),
    ("item.price", &["price", "event_properties.price"], TimeUnit::Auto),
    ("item.quantity", &["quantity", "event_properties.quantity"], TimeUnit::Auto),
    ("value", &["revenue", "event_properties.revenue"], TimeUnit::Auto),
    ("currency", &["currency", "event_properties.currency"], TimeUnit::Auto),
    ("device.type", &["device_type", "device_family"], TimeUnit::Auto),
    ("device.os", &["os_name"], TimeUnit::Auto),
    ("geo.country", &["country"], TimeUnit::Auto),
    ("geo.region", &["region"], TimeUnit::Auto),
];

/// What a web server knows about a request.
const ACCESS_LOG: Table = &[
    ("event_type", &["type"], TimeUnit::Auto),
    ("occurred_at", &["time"], TimeUnit::Micros),
    ("user_id", &["user"], TimeUnit::Auto),
    ("anonymous_id", &["client"], TimeUnit::Auto),
    ("page.path", &["path"], TimeUnit::Auto),
    ("page.referrer", &["referrer"], TimeUnit::Auto),
    ("device.ua", &["user_agent"], TimeUnit::Auto),
];

/// The minimum length of the key that hides addresses: that of its hash.
const SECRET_BYTES_MIN: usize = 16;

/// One field: its name, column, and paths.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) ty: Type,
    pub(super) slot: Slot,
    /// Dotted paths in order of preference.
    pub(super) paths: Vec<String>,
    pub(super) unit: TimeUnit,
    /// Whether it is one of the configuration's own.
    pub(super) is_own: bool,
}

/// All fields that expressions can use.
#[derive(Clone, Debug, Default)]
pub struct Fields(pub(super) Vec<Field>);

impl Fields {
    /// Declares the canonical fields and those of the configuration.
    pub fn declare(input: &InputSpec, extra: &[FieldSpec], scope: &mut Scope, errors: &mut Vec<ConfigError>) -> Self {
        let preset: Option<Table> = match (input.format, input.preset) {
            (InputFormat::AccessLog, _) => Some(ACCESS_LOG),
            (_, Preset::Canonical) => None,
            (_, Preset::Snowplow) => Some(SNOWPLOW),
            (_, Preset::Segment) => Some(SEGMENT),
            (_, Preset::Ga4) => Some(GA4),
            (_, Preset::Amplitude) => Some(AMPLITUDE),
        };
        check_input(input, errors);
        for name in input.fields.keys() {
            if !CANONICAL.iter().any(|(known, ..)| known == name) {
                let error = ConfigError::new(format!("input.fields.{name}"), format!("an event has no field {name:?}"));
                let near = nearest(name, CANONICAL.iter().map(|(known, ..)| *known));
                errors.push(match near {
                    Some(near) => error.hint(format!("did you mean {near:?}? A field of your own is a [[field]]")),
                    None => error.hint("a field of your own is declared as a [[field]]"),
                });
            }
        }
        let mut fields = Vec::with_capacity(CANONICAL.len() + extra.len());
        for (name, ty, own) in CANONICAL {
            let slot = scope.declare(name, *ty).expect("canonical names differ, and are the first to be declared");
            let (paths, unit) = match (input.fields.get(*name), preset) {
                (Some(FieldPath::Path(path)), _) => (vec![path.clone()], TimeUnit::Auto),
                (Some(FieldPath::Detailed { path, unit }), _) => (vec![path.clone()], *unit),
                (None, Some(table)) => match table.iter().find(|(known, ..)| known == name) {
                    Some((_, paths, unit)) => (paths.iter().map(|path| (*path).to_owned()).collect(), *unit),
                    None => (Vec::new(), TimeUnit::Auto),
                },
                (None, None) => {
                    // Protobuf times are microseconds by definition; JSON producers use any unit.
                    let json = input.format == InputFormat::Json;
                    let unit = if json { TimeUnit::Auto } else { TimeUnit::Micros };
                    (own.iter().map(|path| (*path).to_owned()).collect(), unit)
                }
            };
            fields.push(Field { name: (*name).to_owned(), ty: *ty, slot, paths, unit, is_own: false });
        }
        for (index, spec) in extra.iter().enumerate() {
            if input.format == InputFormat::Protobuf && !spec.path.starts_with("properties.") {
                errors.push(
                    ConfigError::new(
                        format!("field[{index}].path"),
                        format!("a Protobuf event has no {:?} of one's own", spec.path),
                    )
                    .hint("a field of your own stands in properties, such as properties.color"),
                );
            }
            match scope.declare(&spec.name, spec.ty) {
                Some(slot) => fields.push(Field {
                    name: spec.name.clone(),
                    ty: spec.ty,
                    slot,
                    paths: vec![spec.path.clone()],
                    unit: TimeUnit::Auto,
                    is_own: true,
                }),
                None => errors.push(
                    ConfigError::new(format!("field[{index}].name"), format!("{:?} is declared already", spec.name))
                        .hint("to say where a canonical field stands, use [input.fields]"),
                ),
            }
        }
        for field in &fields {
            for path in &field.paths {
                let key = || match extra.iter().position(|spec| spec.name == field.name) {
                    Some(index) => format!("field[{index}].path"),
                    None => format!("input.fields.{}", field.name),
                };
                if input.format == InputFormat::AccessLog {
                    if !access_log::names().any(|name| name == path) {
                        let known = access_log::names().collect::<Vec<_>>().join(", ");
                        errors.push(
                            ConfigError::new(key(), format!("a line of an access log has no {path:?}"))
                                .hint(format!("it has {known}")),
                        );
                    }
                } else if steps(path).is_none() {
                    errors.push(no_path(key(), path));
                }
            }
        }
        Self(fields)
    }
}

/// Reports settings of the section that do not fit together.
fn check_input(input: &InputSpec, errors: &mut Vec<ConfigError>) {
    let is_mapped = input.preset != Preset::Canonical || !input.fields.is_empty();
    match input.format {
        InputFormat::Protobuf if is_mapped => errors.push(
            ConfigError::new("input.format", "a Protobuf event has its fields where aimpoint.v1.Event has them")
                .hint("remove input.preset and input.fields, or set input.format = \"json\""),
        ),
        InputFormat::AccessLog if input.preset != Preset::Canonical => errors.push(
            ConfigError::new("input.preset", "a line of an access log is not an event of such a producer")
                .hint("remove input.preset, or set input.format = \"json\""),
        ),
        _ => {}
    }
    let secret_bytes = input.secret.as_ref().map_or(0, |secret| secret.reveal().len());
    match (input.format, &input.secret) {
        (InputFormat::AccessLog, _) if secret_bytes < SECRET_BYTES_MIN => errors.push(
            ConfigError::new("input.secret", format!("hiding the addresses needs a key of at least {SECRET_BYTES_MIN} bytes"))
                .hint("an address behind a hash without one is found by trying them all; set AIMPOINT__INPUT__SECRET, the same for every process"),
        ),
        (InputFormat::Json | InputFormat::Protobuf, Some(_)) => errors.push(
            ConfigError::new("input.secret", "nothing is hidden with it").hint("remove it; it is for input.format = \"access_log\""),
        ),
        _ => {}
    }
    match (input.format, &input.log_format) {
        (InputFormat::AccessLog, Some(text)) => {
            if let Err((message, hint)) = LogFormat::parse(text) {
                errors.push(ConfigError::new("input.log_format", message).hint(hint));
            }
        }
        (InputFormat::Json | InputFormat::Protobuf, Some(_)) => errors.push(
            ConfigError::new("input.log_format", "nothing is read by it")
                .hint("remove it; it is for input.format = \"access_log\""),
        ),
        (_, None) => {}
    }
    match &input.unpack {
        Some(_) if input.format != InputFormat::Json => errors.push(
            ConfigError::new("input.unpack", "only a JSON record holds several events")
                .hint("remove it, or set input.format = \"json\""),
        ),
        Some(path) if steps(path).is_none() || path.contains('[') => {
            errors.push(no_path("input.unpack".to_owned(), path));
        }
        _ => {}
    }
}

fn no_path(key: String, path: &str) -> ConfigError {
    ConfigError::new(key, format!("{path:?} is not a path"))
        .hint("write the members from outside in, with dots between, such as context.page.url")
}
