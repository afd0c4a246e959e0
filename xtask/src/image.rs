//! Placeholder written by the scaffold.
/// Arguments.
#[derive(clap::Args)]
pub struct ImageArgs {}
/// Arguments.
#[derive(clap::Args)]
pub struct LockArgs {}
/// Builds the image.
pub fn image(_args: ImageArgs) -> anyhow::Result<i32> {
    anyhow::bail!("not built yet")
}
/// Refreshes the lock.
pub fn lock(_args: LockArgs) -> anyhow::Result<i32> {
    anyhow::bail!("not built yet")
}
