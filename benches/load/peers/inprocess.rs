#[derive(Debug, clap::Args)]
pub(crate) struct Order {}
pub(crate) fn serve(_: &Order) -> anyhow::Result<()> { Ok(()) }
