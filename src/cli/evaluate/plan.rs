//! From the configuration and the arguments to what is measured.

use super::{EvaluateArgs, PolicyName};
use crate::{
    app::{self, Setup},
    cli::Exit,
    config::ConfigLoadError,
    control::{CampaignSetup, micros},
    effect::{AttributionPlan, CampaignPlan, Dimension, Label, Plan, PolicyPlan, Rotating, TargetPolicy, TouchKind},
    evaluation::Confidence,
    targeting::{
        campaign::{CampaignSpec, Reward},
        creative::Catalogue,
        policy::{CreativePolicy, Policy},
    },
};
use anyhow::Context;
use std::{collections::BTreeMap, time::Duration};

/// The relative effect that experiments are planned for, unless it is asked for another.
const EFFECT: f64 = 0.1;
/// The groupings without `--by`.
const DEFAULT: [&str; 2] = ["campaign", "model_version"];

/// What is asked of an evaluation.
#[derive(Debug, Default)]
pub(in crate::cli) struct Asked {
    pub(in crate::cli) by: Vec<Dimension>,
    pub(in crate::cli) click_within: Option<Duration>,
    pub(in crate::cli) conversion_within: Option<Duration>,
    pub(in crate::cli) complete_until: Option<jiff::Timestamp>,
    pub(in crate::cli) confidence: Confidence,
    /// The relative effect that experiments are planned for; 0 is a tenth.
    pub(in crate::cli) effect: f64,
    pub(in crate::cli) charts: bool,
    pub(in crate::cli) attribution: Option<Attribution>,
    /// Whether each label is told.
    pub(in crate::cli) labels: bool,
}

/// What is asked of an attribution.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Attribution {
    touch: TouchKind,
    lookback: Option<Duration>,
    half_life: Duration,
}

impl Asked {
    pub(super) fn of(args: &EvaluateArgs) -> Self {
        Self {
            by: args.by.clone(),
            click_within: args.click_within,
            conversion_within: args.conversion_within,
            complete_until: args.complete_until,
            confidence: args.confidence.into(),
            effect: args.effect,
            charts: !args.report.is_empty(),
            attribution: args.attribution.then_some(Attribution {
                touch: args.touch,
                lookback: args.lookback,
                half_life: args.half_life,
            }),
            labels: false,
        }
    }
}

/// The campaigns as control takes them, and what to measure.
pub(in crate::cli) fn plan_of(setup: &Setup, asked: Asked) -> anyhow::Result<(Vec<CampaignSetup>, Plan)> {
    let setups = app::campaigns(setup)?;
    let pipeline = &setup.config.pipeline;
    let attribution = setup.config.control().attribution;
    let by = if asked.by.is_empty() {
        DEFAULT.iter().map(|name| Dimension::parse(name)).collect::<Result<_, _>>().map_err(anyhow::Error::msg)?
    } else {
        asked.by
    };
    let of = |campaign: &CampaignSetup, spec: &CampaignSpec| CampaignPlan {
        label: Label::of_action(spec.action.as_deref()),
        reward: Label::of_reward(campaign.reward),
        currency: campaign.currency,
        arms: spec.arms.iter().map(|arm| (arm.name.clone(), arm.share)).collect(),
        holdout: spec.holdout,
        features: spec.rotation.as_ref().map(|rotation| rotation.features.clone()).unwrap_or_default(),
    };
    let declared = |campaign: &CampaignSetup| {
        let spec = pipeline.campaigns.iter().find(|spec| spec.id == campaign.id)?;
        Some((campaign.id.clone(), of(campaign, spec)))
    };
    let plan = Plan {
        by,
        campaigns: setups.iter().filter_map(declared).collect(),
        variants: pipeline.experiment.shares.iter().map(|(name, share)| (name.clone(), *share)).collect(),
        click_after: micros(asked.click_within.unwrap_or(attribution.label_age(Reward::Click))),
        conversion_after: micros(asked.conversion_within.unwrap_or(attribution.label_age(Reward::Conversion))),
        complete_until: asked.complete_until.map(jiff::Timestamp::as_microsecond),
        confidence: asked.confidence,
        effect: if asked.effect > 0.0 { asked.effect } else { EFFECT },
        minimum_audience: pipeline.targeting.minimum_audience,
        attribution: asked.attribution.map(|of| AttributionPlan {
            touch: of.touch,
            lookback: micros(of.lookback.unwrap_or(attribution.click)),
            half_life: of.half_life,
        }),
        charts: asked.charts,
        labels: asked.labels,
    };
    Ok((setups, plan))
}

/// The policy to estimate, if one is named.
pub(super) fn policy(
    setup: &Setup,
    args: &EvaluateArgs,
    setups: &[CampaignSetup],
) -> anyhow::Result<Option<PolicyPlan>> {
    let Some(name) = args.policy else { return Ok(None) };
    let policy = match name {
        PolicyName::Uniform => TargetPolicy::Uniform,
        PolicyName::Weight => TargetPolicy::Weight,
        PolicyName::Best => TargetPolicy::Best(learned(args)?),
        PolicyName::Learned => TargetPolicy::Learned(learned(args)?),
    };
    let pipeline = &setup.config.pipeline;
    let mut errors = Vec::new();
    let catalogue = Catalogue::compile(&pipeline.creatives, &mut errors);
    if !errors.is_empty() {
        return Err(ConfigLoadError::Invalid(setup.document.explain(&errors)).into());
    }
    let rotating = |campaign: &CampaignSetup| {
        let spec = pipeline.campaigns.iter().find(|spec| spec.id == campaign.id)?;
        let rotation = spec.rotation.clone().unwrap_or_default();
        (catalogue.of(&campaign.id).len() > 0).then(|| Rotating {
            campaign: campaign.id.clone(),
            audiences: rotation.audiences,
            features: rotation.features,
            floor: campaign.floor,
            reward: Label::of_reward(campaign.reward),
        })
    };
    let campaigns: Vec<Rotating> = setups.iter().filter_map(rotating).collect();
    if campaigns.is_empty() {
        return Err(Exit::Config.because("--policy: no campaign has creatives; declare some under [[creative]]"));
    }
    let name = name.as_str().to_owned();
    Ok(Some(PolicyPlan { name, policy, campaigns, catalogue, clip: args.clip, seed: args.seed }))
}

/// What control has learned of each campaign's creatives.
fn learned(args: &EvaluateArgs) -> anyhow::Result<BTreeMap<String, CreativePolicy>> {
    let path = args.learned.as_ref().ok_or_else(|| {
        Exit::Usage
            .because("--policy best and learned need --learned FILE, as aimpoint control --once --policy writes it")
    })?;
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let policy =
        Policy::parse(&bytes).map_err(|error| Exit::Data.because(format!("read {}: {error}", path.display())))?;
    Ok(policy.campaigns.into_iter().filter_map(|(id, campaign)| Some((id, campaign.creatives?))).collect())
}
