//! Where the configuration comes from, and who waits for it.

use proto::readiness::{Block, Readiness};
use tokio::{runtime::Runtime, time};

use super::{Error, RETRY};
use crate::{
    config::Domains,
    overrides::{self, Overlay},
    service::CurrentConfig,
    settings::{ConfigType, Source, Tuning},
    source::{
        dir::{Dir, Place},
        xds::Xds,
    },
};

/// Follows the configuration. What this returns is ready when listeners may open.
pub(super) fn follow(
    settings: &Source,
    tuning: &Tuning,
    config: &CurrentConfig,
    readiness: &Readiness,
    background: &Runtime,
) -> Result<Readiness, Error> {
    let configured = Readiness::new();
    let overlay = Overlay::from(config.clone());
    if let Some(dir) = tuning.overrides_dir() {
        let mut dir = overrides::Dir::new(dir, overlay.clone());
        // Before the rules, so that none of them is ever in force without its override.
        dir.load();
        background.spawn(dir.follow());
    }
    match settings.config_type {
        ConfigType::File => {
            let dir = Dir::new(settings.place(), settings.domains(), overlay);
            let mut dir = dir.blocking(configured.block("configuration"));
            if let Err(error) = dir.load() {
                tracing::error!(%error, "configuration not loaded; nothing is decided until it is");
            }
            background.spawn(dir.follow());
        }
        ConfigType::GrpcXdsSotw => {
            let xds = Xds::new(settings.xds.clone(), settings.domains(), overlay, configured.block("configuration"))?;
            background.spawn(xds.follow());
        }
    }
    if settings.healthy_with_at_least_one_config_loaded {
        background.spawn(await_config(config.clone(), readiness.block("config")));
    }
    Ok(if settings.force_start_without_initial_config { Readiness::new() } else { configured })
}

/// Follows the second configuration; bad files leave the last good one, and none tries nothing.
pub(super) fn follow_shadow(place: Place, domains: Domains, background: &Runtime) -> CurrentConfig {
    let config = CurrentConfig::default();
    background.spawn(Dir::new(place, domains, config.clone()).follow());
    config
}

async fn await_config(config: CurrentConfig, _block: Block) {
    while config.load().is_none() {
        time::sleep(RETRY).await;
    }
}
