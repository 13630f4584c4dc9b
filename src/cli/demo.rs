use clap::Args;
/// x
#[derive(Args, Clone, Debug)]
pub(super) struct DemoArgs {}
pub(super) fn run(_: &DemoArgs) -> anyhow::Result<()> { Ok(()) }
