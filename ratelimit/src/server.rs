//! The program: settings in, servers up, drained at the end.

use std::{io, sync::Arc, thread, time::Duration};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::SERVICE_NAME;
use proto::{
    drain::{self, Signal},
    health,
    readiness::{Block, Readiness},
    reflection,
    serve::{
        self, Address, Grpc, Listener,
        tls::{self, Tls},
    },
};
use tokio::{
    runtime::{self, Runtime},
    time,
};
use tonic::service::{Routes, RoutesBuilder};

use crate::{
    http,
    service::{CurrentConfig, Service},
    settings::{BackendType, ConfigType, Settings},
    source::{
        dir::Dir,
        xds::{self, Xds},
    },
    store::{self, Memory, Redis, StoreError},
};

/// Name of the service in `grpc.health.v1.Health`.
const HEALTH_NAME: &str = "ratelimit";
/// Pause between looks at what readiness waits for.
const RETRY: Duration = Duration::from_millis(200);

/// Why the program ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener or server failed.
    #[error(transparent)]
    Serve(#[from] serve::Error),
    /// The store cannot be used as it is set.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The xDS server cannot be used as it is set.
    #[error("CONFIG_TYPE is GRPC_XDS_SOTW: {0}")]
    Xds(#[from] xds::Error),
    /// The certificates of the gRPC port cannot be used.
    #[error("TLS on the gRPC port: {0}")]
    Tls(#[from] tls::Error),
    /// Reflection does not know our service.
    #[error("offering reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// No thread for configuration and HTTP.
    #[error("starting the background runtime")]
    Background(#[source] io::Error),
}

/// Serves until SIGTERM or SIGINT, then drains.
pub fn run(settings: &Settings) -> Result<(), Error> {
    let metrics = proto::metrics::install();
    let cores = settings.cores.unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into)).max(1);
    let (trigger, signal) = drain::new();
    let trigger = Arc::new(trigger);
    // Health fails at once; all else goes on until the drain.
    let (leave, leaving) = drain::new();
    let readiness = Readiness::new();
    let config = CurrentConfig::default();
    let memory = Arc::new(Memory::new(settings.memory_max_counters));
    let service = || Ok::<_, Error>(Service::new(config.clone(), open(settings, &memory)?, settings.options()));

    // Everything but decisions happens on this one thread, out of the way of the cores.
    let background =
        runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(Error::Background)?;
    background.spawn(drain_on_sigterm(leave, settings.drain_delay, Arc::clone(&trigger)));
    let tls = settings.grpc_tls.files().map(Tls::load).transpose()?;
    if let Some(tls) = &tls {
        background.spawn(tls.clone().follow());
    }
    let configured = follow_config(settings, &config, &readiness, &background)?;
    background.block_on(async {
        tokio::select! {
            () = configured.wait() => {}
            () = leaving.clone().wait() => {}
        }
    });
    if leaving.is_draining() {
        return Ok(());
    }
    let grpc = Listener::bind_per_core(&settings.grpc_address(), cores)?;
    let public = Listener::bind(&Address::Tcp((settings.host, settings.port).into()))?;
    let debug = Listener::bind(&Address::Tcp((settings.debug_host, settings.debug_port).into()))?;
    let prometheus = Listener::bind(&Address::Tcp(settings.prometheus_addr))?;
    await_store(settings, &readiness, &background)?;
    let on_background = background.enter();
    let endpoints = [
        (public, http::router(service()?, readiness.clone(), leaving.clone())),
        (debug, http::debug_router(config.clone())),
        (prometheus, proto::metrics::router(metrics)),
    ]
    .map(|(listener, router)| background.spawn(serve::http(listener, router, signal.clone())));
    drop(on_background);

    tracing::info!(address = %settings.grpc_address(), cores, store = ?settings.backend_type, "serving");
    let ended = serve::per_core(grpc, &trigger, async |_, listener| {
        let routes = routes(service()?, &readiness, &leaving).await?;
        Ok(Grpc::new(listener).tls(tls.clone()).serve(routes, signal.clone()).await?)
    });
    for endpoint in endpoints {
        if let Ok(Err(error)) = background.block_on(endpoint) {
            tracing::error!(%error, "an HTTP endpoint ended");
        }
    }
    background.shutdown_background();
    ended
}

/// Follows the configuration. What this returns is ready when listeners may open.
fn follow_config(
    settings: &Settings,
    config: &CurrentConfig,
    readiness: &Readiness,
    background: &Runtime,
) -> Result<Readiness, Error> {
    let configured = Readiness::new();
    match settings.config_type {
        ConfigType::File => {
            let mut dir = Dir::new(settings.config_dir(), settings.domains(), config.clone());
            if let Err(error) = dir.load() {
                tracing::error!(%error, "configuration not loaded; requests get errors until it is");
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

/// Not ready before Redis has answered once.
fn await_store(settings: &Settings, readiness: &Readiness, background: &Runtime) -> Result<(), Error> {
    if settings.backend_type == BackendType::Redis {
        let _on = background.enter();
        background.spawn(await_redis(Redis::connect(settings.redis())?, readiness.block("redis")));
    }
    Ok(())
}

/// The store for the runtime this is called in: one memory for all of them, one connection to Redis for each.
fn open(settings: &Settings, memory: &Arc<Memory>) -> Result<store::Any, StoreError> {
    Ok(match settings.backend_type {
        BackendType::Memory => store::Any::Memory(Arc::clone(memory)),
        BackendType::Redis => store::Any::Redis(Redis::connect(settings.redis())?),
    })
}

async fn routes(service: Service<store::Any>, readiness: &Readiness, leaving: &Signal) -> Result<Routes, Error> {
    let mut routes = RoutesBuilder::default();
    routes.add_service(service.into_server());
    routes.add_service(health::service(&[HEALTH_NAME], readiness, leaving).await);
    reflection::add(&mut routes, &[SERVICE_NAME])?;
    Ok(routes.routes())
}

async fn drain_on_sigterm(leave: drain::Trigger, delay: Duration, trigger: Arc<drain::Trigger>) {
    match drain::on_sigterm(leave).await {
        Ok(()) => time::sleep(delay).await,
        Err(error) => tracing::error!(%error, "ending, as without signals nobody could end this in good order"),
    }
    trigger.drain();
}

async fn await_config(config: CurrentConfig, _block: Block) {
    while config.load().is_none() {
        time::sleep(RETRY).await;
    }
}

async fn await_redis(redis: Redis, _block: Block) {
    while let Err(error) = redis.ping().await {
        tracing::warn!(%error, "Redis does not answer yet");
        time::sleep(RETRY).await;
    }
}
