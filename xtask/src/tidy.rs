//! Placeholder written by the scaffold.
/// Arguments.
#[derive(clap::Args)]
pub struct TidyArgs {}
/// Runs the checks.
pub fn tidy(_args: TidyArgs) -> anyhow::Result<i32> {
    anyhow::bail!("not built yet")
}
