//! Placeholder written by the scaffold.
/// Arguments.
#[derive(clap::Args)]
pub struct DemoArgs {}
/// Arguments.
#[derive(clap::Args)]
pub struct TestArgs {}
/// Arguments.
#[derive(clap::Args)]
pub struct ScenarioArgs {}
/// The demo.
pub fn demo(_args: DemoArgs) -> anyhow::Result<i32> {
    anyhow::bail!("not built yet")
}
/// Tests.
pub fn test(_args: TestArgs) -> anyhow::Result<i32> {
    anyhow::bail!("not built yet")
}
/// Scenarios.
pub fn scenario(_args: ScenarioArgs) -> anyhow::Result<i32> {
    anyhow::bail!("not built yet")
}
