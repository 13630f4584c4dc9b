//! The last scene: a bid request for one of the customers, before and after, as `aimpoint serve` answers it.
//!
//! It is the store and the enricher of serve, filled with the records that the demo has read. The request is made up. Its
//! time is that of the customer's decision, which lies in the past of the data. Without `[serve.provider]`, or if no
//! customer is in a segment, there is no such scene.

use super::{
    decisions::Decision,
    report::{WIDTH, title, wrapped},
};
use crate::{
    app::Setup,
    serve::{Enricher, Enrichment, RecordReader, Store},
};
use anyhow::Context;
use std::io::Write;

/// Prints both.
pub(super) fn print(to: &mut impl Write, setup: &Setup, decisions: &[Decision]) -> anyhow::Result<()> {
    let Some((before, after, outcome)) = enriched(setup, decisions)? else { return Ok(()) };
    title(to, "A bid request for a customer, before and after POST /openrtb2/enrich of aimpoint serve")?;
    for (name, text) in [("before", &before), (outcome.as_str(), &after)] {
        for (index, line) in wrapped(text, WIDTH - 14).into_iter().enumerate() {
            writeln!(to, "  {:<10}{line}", if index == 0 { name } else { "" })?;
        }
    }
    Ok(())
}

/// A request, what becomes of it, and how that is called.
fn enriched(setup: &Setup, decisions: &[Decision]) -> anyhow::Result<Option<(String, String, Enrichment)>> {
    let spec = setup.config.serve();
    let (Some(provider), Some(last)) = (&spec.provider, decisions.iter().rfind(|it| !it.segments.is_empty())) else {
        return Ok(None);
    };
    let store = Store::default();
    let mut reader = RecordReader::new(&setup.config.app.name);
    let mut user = None;
    for decision in decisions {
        // What serve would count and leave out is left out here as well.
        let Ok((key, change)) = reader.read(decision.key.as_deref(), Some(&decision.payload)) else { continue };
        if std::ptr::eq(decision, last) {
            user = Some(key.to_owned());
        }
        store.apply(decision.place.0, key, change, 0);
    }
    let Some(user) = user else { return Ok(None) };
    let request = request(&user);
    // The configuration was checked, so there are no errors.
    let mut enricher =
        Enricher::new(provider, spec.identity.clone(), setup.config.users(), spec.rules(&mut Vec::new()));
    let mut after = Vec::new();
    let at = last.read()?.decided_at;
    let outcome = enricher.enrich(&store, &request, at, &mut after).context("enrich the demo's bid request")?;
    let after = String::from_utf8(after).context("read the enriched bid request")?;
    Ok(Some((request, after, outcome)))
}

/// What an exchange may send when this customer opens a page.
fn request(user: &str) -> String {
    let user = serde_json::Value::from(user);
    format!(
        r#"{{"id":"80ce30c53c16","imp":[{{"id":"1","banner":{{"w":300,"h":250}},"bidfloor":0.50}}],"site":{{"domain":"news.example"}},"device":{{"geo":{{"country":"USA"}}}},"regs":{{"us_privacy":"1YNN"}},"user":{{"buyeruid":{user}}},"tmax":100}}"#
    )
}
