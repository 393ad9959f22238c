//! Where the configuration comes from, and who waits for it.

use proto::readiness::{Block, Readiness};
use tokio::{runtime::Runtime, time};

use super::{Error, RETRY};
use crate::{
    service::CurrentConfig,
    settings::{ConfigType, Source},
    source::{dir::Dir, xds::Xds},
};

/// Follows the configuration. What this returns is ready when listeners may open.
pub(super) fn follow(
    settings: &Source,
    config: &CurrentConfig,
    readiness: &Readiness,
    background: &Runtime,
) -> Result<Readiness, Error> {
    let configured = Readiness::new();
    match settings.config_type {
        ConfigType::File => {
            let dir = Dir::new(settings.place(), settings.domains(), config.clone());
            let mut dir = dir.blocking(configured.block("configuration"));
            if let Err(error) = dir.load() {
                tracing::error!(%error, "configuration not loaded; nothing is decided until it is");
            }
            background.spawn(dir.follow());
        }
        ConfigType::GrpcXdsSotw => {
            let xds =
                Xds::new(settings.xds.clone(), settings.domains(), config.clone(), configured.block("configuration"))?;
            background.spawn(xds.follow());
        }
    }
    if settings.healthy_with_at_least_one_config_loaded {
        background.spawn(await_config(config.clone(), readiness.block("config")));
    }
    Ok(if settings.force_start_without_initial_config { Readiness::new() } else { configured })
}

async fn await_config(config: CurrentConfig, _block: Block) {
    while config.load().is_none() {
        time::sleep(RETRY).await;
    }
}
