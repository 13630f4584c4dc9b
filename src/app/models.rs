//! Loading models, and checking them against the pipeline.

use super::Setup;
use crate::{
    config::ConfigLoadError,
    config_error::ConfigError,
    engine::{Pipeline, PipelineSpec},
    inference::{
        Exactness, Experiment, ExplainSpec, Manifest, Model, ModelError, ModelFiles, ModelFolder, ModelMailbox,
        ModelSpec, ModelWatcher, OnnxModel, Refusal, Runtime, Unfinished, validate, warm, within,
    },
};
use anyhow::Context;

/// The models that decide: the declared one, if any, then the variants in order.
#[derive(Default)]
pub(crate) struct Models(pub(crate) Vec<OnnxModel>);

impl Models {
    /// A copy of each model for each worker.
    pub(crate) fn copies(&self, workers: usize) -> Result<Vec<Vec<Box<dyn Model>>>, ModelError> {
        let mut copies: Vec<Vec<Box<dyn Model>>> = (0..workers).map(|_| Vec::new()).collect();
        for model in &self.0 {
            copies.iter_mut().zip(model.copies(workers)?).for_each(|(worker, copy)| worker.push(copy));
        }
        Ok(copies)
    }
}

impl Setup {
    /// Loads the declared model and checks it against the pipeline. From a folder, loads the active version.
    pub(crate) fn model(&self, pipeline: &Pipeline) -> anyhow::Result<Option<OnnxModel>> {
        let explain = &self.config.pipeline.explain;
        self.config.model.as_ref().map(|spec| self.load(spec, explain, pipeline)).transpose()
    }

    pub(super) fn load(
        &self,
        spec: &ModelSpec,
        explain: &ExplainSpec,
        pipeline: &Pipeline,
    ) -> anyhow::Result<OnnxModel> {
        let runtime = Runtime::load(self.config.inference.onnxruntime.as_deref())?;
        let mut loader = self.loader(runtime, spec, pipeline);
        loader.sections.explain = explain.clone();
        loader.sections.scoring.heads = spec.heads.keys().cloned().collect();
        let path = spec.path.clone();
        let load = move || -> anyhow::Result<OnnxModel> {
            if !path.is_dir() {
                return loader.load_file();
            }
            let version = ModelFolder::at(&path).active()?;
            loader.load(&version).with_context(|| format!("load version {version} of {}", path.display()))
        };
        load_within_limit(spec, load)?
    }

    /// Loads the declared model and the variants.
    pub(crate) fn models(&self, pipeline: &Pipeline) -> anyhow::Result<Models> {
        let Some(model) = self.model(pipeline)? else { return Ok(Models::default()) };
        let mut models = vec![model];
        let explain = &self.config.pipeline.explain;
        for spec in &self.config.variants {
            let name = spec.name.as_deref().unwrap_or_default();
            models.push(self.load(spec, explain, pipeline).with_context(|| format!("load the variant {name}"))?);
        }
        Ok(Models(models))
    }

    /// The model that decides for a user, with the name of the user's variant if there is an experiment.
    pub(crate) fn deciding(&self, models: Models, user: &str) -> anyhow::Result<(Option<String>, OnnxModel)> {
        let names: Vec<Option<&str>> = self.config.variants.iter().map(|variant| variant.name.as_deref()).collect();
        let experiment = Experiment::new(&self.config.pipeline.experiment, &names)
            .map_err(|errors| ConfigLoadError::Invalid(self.document.explain(&errors)))?;
        let arm = experiment.as_ref().map_or(0, |experiment| experiment.arm_of(user.as_bytes()));
        let model = models.0.into_iter().nth(arm).context("no model decides for this user")?;
        Ok((experiment.map(|experiment| experiment.reference(arm).variant), model))
    }

    /// A loader for the versions of a model folder.
    pub(crate) fn loader(&self, runtime: Runtime, spec: &ModelSpec, pipeline: &Pipeline) -> VersionLoader {
        VersionLoader {
            runtime,
            folder: ModelFolder::at(&spec.path),
            spec: spec.clone(),
            sections: PipelineSpec { label: None, ..self.config.pipeline.clone() },
            app: self.config.app.name.clone(),
            topic: self.config.topics.clickstream.clone(),
            declared: pipeline.model_features(),
            fingerprint: pipeline.fingerprint().to_owned(),
            rows: self.config.engine.batch_max_rows,
        }
    }

    /// Watches the model folders. Returns for each worker the receiving ends of the watches, by arm.
    pub(super) fn watch_models(
        &self,
        pipeline: &Pipeline,
        models: &Models,
        workers: usize,
    ) -> anyhow::Result<Vec<Vec<(usize, ModelMailbox)>>> {
        let mut ends: Vec<Vec<(usize, ModelMailbox)>> = (0..workers).map(|_| Vec::new()).collect();
        let declared = self.config.model.iter().chain(&self.config.variants);
        for (arm, (spec, model)) in declared.zip(&models.0).enumerate().filter(|(_, (spec, _))| spec.path.is_dir()) {
            let runtime = Runtime::load(self.config.inference.onnxruntime.as_deref())?;
            let loader = self.loader(runtime, spec, pipeline);
            let load = move |version: &str, copies: usize| loader.copies(version, copies);
            let folder = ModelFolder::at(&spec.path);
            let (watch, handed) = ModelWatcher::new(folder, &model.info().version, workers, spec.load_timeout, load);
            watch.start().context("start the thread that watches the model folder")?;
            ends.iter_mut().zip(handed).for_each(|(worker, handed)| worker.push((arm, handed)));
        }
        Ok(ends)
    }

    /// Gives a pipeline its models.
    pub(crate) fn with_models(
        &self,
        pipeline: Pipeline,
        copies: Vec<Box<dyn Model>>,
    ) -> Result<Pipeline, ConfigLoadError> {
        let explained = |errors: Vec<ConfigError>| ConfigLoadError::Invalid(self.document.explain(&errors));
        let mut copies = copies.into_iter();
        let Some(model) = copies.next() else { return Ok(pipeline) };
        let pipeline = pipeline.with_model(model).map_err(explained)?;
        let names = self.config.variants.iter().map(|variant| variant.name.clone().unwrap_or_default());
        pipeline.with_variants(names.zip(copies).collect()).map_err(explained)
    }
}

/// Loads versions of a model folder.
pub(crate) struct VersionLoader {
    runtime: Runtime,
    folder: ModelFolder,
    spec: ModelSpec,
    sections: PipelineSpec,
    app: String,
    topic: String,
    declared: Vec<String>,
    fingerprint: String,
    /// The largest batch.
    rows: usize,
}

impl VersionLoader {
    /// Reads, checks and warms up a version.
    pub(crate) fn load(&self, version: &str) -> Result<OnnxModel, Refusal> {
        let (spec, files, manifest) = self.folder.read(version, &self.spec).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|it| format!(": {it}")).unwrap_or_default();
            Refusal::Unreadable(format!("{error}{cause}"))
        })?;
        self.check(&spec, files, &manifest)
    }

    /// Reads, checks and warms up the declared file.
    fn load_file(&self) -> anyhow::Result<OnnxModel> {
        let spec = &self.spec;
        let mut model = OnnxModel::load(&self.runtime, spec, &self.declared, &self.fingerprint)?;
        validate(&mut model, None, spec.gpu.precision.into(), self.rows, spec.deadline)
            .with_context(|| format!("load model {}", spec.path.display()))?;
        Ok(model)
    }

    /// Checks and warms up a model whose files have been read.
    pub(crate) fn check(&self, spec: &ModelSpec, files: ModelFiles, manifest: &Manifest) -> Result<OnnxModel, Refusal> {
        let unfit = |error: &dyn std::fmt::Display| Refusal::Unfit(error.to_string());
        // Features in the configuration are declared by a person and take precedence over the manifest's fingerprint.
        if self.spec.features.is_none()
            && self.spec.inputs.is_empty()
            && let Some(fingerprint) = &manifest.fingerprint
            && *fingerprint != self.fingerprint
        {
            let (model, declared) = (fingerprint.clone(), self.fingerprint.clone());
            return Err(unfit(&ModelError::Fingerprint { path: spec.path.clone(), model, declared }));
        }
        let mut model = OnnxModel::from_bytes(&self.runtime, spec, files, &self.declared, &self.fingerprint)
            .map_err(|error| unfit(&error))?;
        let twin = model.twin().map_err(|error| unfit(&error))?;
        let list = |errors: Vec<ConfigError>| errors.iter().map(ConfigError::to_string).collect::<Vec<_>>().join("; ");
        Pipeline::compile(&self.sections, (self.app.as_str(), self.topic.as_str()))
            .and_then(|pipeline| pipeline.with_model(Box::new(twin)))
            .map_err(|errors| Refusal::Unfit(list(errors)))?;
        let exactness = Exactness::from(self.spec.gpu.precision);
        validate(&mut model, manifest.golden.as_ref(), exactness, self.rows, self.spec.deadline)?;
        Ok(model)
    }

    /// Loads copies of a version and warms each up.
    fn copies(&self, version: &str, copies: usize) -> Result<Vec<Box<dyn Model>>, Refusal> {
        let model = self.load(version)?;
        let mut copies = model.copies(copies).map_err(|error| Refusal::Unfit(error.to_string()))?;
        // A batching copy waits for rows of the other workers, which do not exist yet.
        let limit = self.spec.deadline + self.spec.batch.max_delay;
        for copy in &mut copies {
            warm(copy.as_mut(), self.rows, limit)?;
        }
        Ok(copies)
    }
}

/// A model that could not be loaded in time.
#[derive(Debug, thiserror::Error)]
#[error("load model {path}: {why}")]
pub(crate) struct LoadError {
    path: String,
    why: String,
}

/// Loads a model within `model.load_timeout`.
pub(crate) fn load_within_limit<T: Send + 'static>(
    spec: &ModelSpec,
    load: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    within(spec.load_timeout, load).map_err(|unfinished| {
        let path = spec.path.display().to_string();
        let why = match unfinished {
            Unfinished::Late(_) => {
                let limit = crate::duration::display(spec.load_timeout);
                format!("it was not loaded and checked within model.load_timeout, which is {limit}")
            }
            other => other.to_string(),
        };
        LoadError { path, why }.into()
    })
}
