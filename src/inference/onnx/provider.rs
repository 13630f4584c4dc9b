//! Execution providers: selects one from `model.providers`.
//!
//! Guarantees: the requested provider is used; or the next one in the list, with a warning that says why; or loading fails with the
//! reason: the library was built without it, or it does not start (no driver, no device, a missing library). ONNX Runtime would fall
//! back silently in all of these cases. This is prevented by making registration fail and, with a GPU, any node that would run on the
//! CPU.

use crate::inference::{ModelSpec, Precision, model::ModelError};
use ort::{
    ep::{self, ExecutionProvider, ExecutionProviderDispatch},
    session::builder::SessionBuilder,
};

/// A supported execution provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provider {
    Cpu,
    Cuda,
    TensorRt,
}

impl Provider {
    pub(super) const ALL: [Self; 3] = [Self::Cpu, Self::Cuda, Self::TensorRt];

    /// Its name in the configuration, in decisions and in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
        }
    }

    /// Whether the loaded library was built with it. A driver or device may still be missing.
    pub(super) fn is_built_in(self) -> bool {
        match self {
            Self::Cpu => true,
            Self::Cuda => ep::CUDA::is_available().unwrap_or(false),
            Self::TensorRt => ep::TensorRT::is_available().unwrap_or(false),
        }
    }

    /// Parses the list of providers.
    pub(super) fn parse(wanted: &[String]) -> Result<Vec<Self>, ModelError> {
        let unknown = |reason: String| ModelError::Provider { reason, available: available() };
        if wanted.is_empty() {
            return Err(unknown("expected at least one".to_owned()));
        }
        let parse = |name: &String| Self::ALL.into_iter().find(|it| it.name() == name);
        wanted
            .iter()
            .map(|name| parse(name).ok_or_else(|| unknown(format!("expected cpu, cuda or tensorrt, found {name:?}"))))
            .collect()
    }

    /// Registers it with a session, so that the session uses it or fails.
    pub(super) fn register(self, builder: SessionBuilder, spec: &ModelSpec) -> ort::Result<SessionBuilder> {
        let device = spec.gpu.device;
        let memory = spec.gpu.memory_limit.map(|limit| limit.as_u64() as usize);
        let cuda = |tf32: bool| -> ExecutionProviderDispatch {
            // Grow the arena as needed instead of by doubling, so that the limit is exact.
            let mut cuda = ep::CUDA::default()
                .with_device_id(device)
                .with_tf32(tf32)
                .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
                .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic);
            if let Some(limit) = memory {
                cuda = cuda.with_memory_limit(limit);
            }
            cuda.build().error_on_failure()
        };
        let precision = spec.gpu.precision;
        let providers = match self {
            Self::Cpu => return Ok(builder),
            Self::Cuda => vec![cuda(precision != Precision::Full)],
            // Nodes without a TensorRT kernel run on CUDA, which is required anyway.
            Self::TensorRt => {
                let mut tensorrt =
                    ep::TensorRT::default().with_device_id(device).with_fp16(precision == Precision::Half);
                if let Some(limit) = memory {
                    tensorrt = tensorrt.with_max_workspace_size(limit);
                }
                vec![tensorrt.build().error_on_failure(), cuda(precision != Precision::Full)]
            }
        };
        Ok(builder.with_execution_providers(providers)?.with_config_entry("session.disable_cpu_ep_fallback", "1")?)
    }
}

/// The names of the providers that the loaded library was built with.
pub(super) fn available() -> String {
    let names: Vec<_> = Provider::ALL.into_iter().filter(|it| it.is_built_in()).map(Provider::name).collect();
    names.join(", ")
}
