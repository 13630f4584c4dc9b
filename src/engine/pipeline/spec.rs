//! The configuration sections that define the pipeline.

use crate::{
    decision::{DecisionSpec, emission::EmissionSpec},
    evaluation::LabelSpec,
    event::{DuplicateSpec, FieldSpec, InputSpec, PseudonymSpec, TimeSpec},
    inference::{ExperimentSpec, ExplainSpec, ScoringSpec},
    privacy::{consent::ConsentSpec, erasure::ErasureSpec},
    profile::{FeatureSpec, ProfileSpec},
    targeting::{SegmentSpec, TargetingSpec, campaign::CampaignSpec, creative::CreativeSpec},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The configuration sections that define the pipeline.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct PipelineSpec {
    /// `[input]`
    pub input: InputSpec,
    /// `[[field]]`
    #[serde(rename = "field")]
    pub fields: Vec<FieldSpec>,
    /// `[time]`
    pub time: TimeSpec,
    /// `[identity]`
    pub identity: PseudonymSpec,
    /// `[duplicates]`
    pub duplicates: DuplicateSpec,
    /// `[profile]`
    pub profile: ProfileSpec,
    /// `[[feature]]`
    #[serde(rename = "feature")]
    pub features: Vec<FeatureSpec>,
    /// `[[segment]]`
    #[serde(rename = "segment")]
    pub segments: Vec<SegmentSpec>,
    /// `[[campaign]]`
    #[serde(rename = "campaign")]
    pub campaigns: Vec<CampaignSpec>,
    /// `[[creative]]`
    #[serde(rename = "creative")]
    pub creatives: Vec<CreativeSpec>,
    /// `[targeting]`
    pub targeting: TargetingSpec,
    /// `[scoring]`
    pub scoring: ScoringSpec,
    /// `[experiment]`
    pub experiment: ExperimentSpec,
    /// `[explain]`
    pub explain: ExplainSpec,
    /// `[decision]`
    pub decision: DecisionSpec,
    /// `[emission]`
    pub emission: EmissionSpec,
    /// `[consent]`
    pub consent: ConsentSpec,
    /// `[erasure]`
    pub erasure: ErasureSpec,
    /// `[label]`, which only exports use.
    pub label: Option<LabelSpec>,
}
