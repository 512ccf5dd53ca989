pub(crate) mod inprocess;
pub(crate) async fn measure(_: &crate::cli::Options, _: &crate::cli::Peers) -> anyhow::Result<bool> { Ok(true) }
