//! The program: settings in, servers up, drained at the end.

use std::{io, sync::Arc, time::Duration};

use opentelemetry_otlp::ExporterBuildError;
use proto::{
    readiness::Readiness,
    serve::{
        self, Grpc, Listener,
        tls::{self, Tls},
    },
    xds,
};
use tokio::runtime::{self, Runtime};

use self::{
    endpoints::{Http, Routers},
    store::Stores,
};
use crate::{
    http::{self, Debug},
    metrics, rlqs,
    service::{CurrentConfig, Service},
    settings::{self, Settings},
    shadow::{self, Report, Trial},
    store::StoreError,
    talkers::Talkers,
    trace::Tracer,
};

mod config;
mod drain;
mod endpoints;
mod store;

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
    /// A file that the settings name cannot be used.
    #[error(transparent)]
    Settings(#[from] settings::Error),
    /// Traces cannot be sent as it is set.
    #[error("TRACING_ENABLED: {0}")]
    Tracing(#[from] ExporterBuildError),
    /// No thread for statsd.
    #[error("starting to send metrics to statsd")]
    Statsd(#[source] io::Error),
    /// No thread for configuration and HTTP.
    #[error("starting the background runtime")]
    Background(#[source] io::Error),
}

/// Serves until SIGTERM or SIGINT, then drains.
pub fn run(settings: &Settings) -> Result<(), Error> {
    settings.upstream.log();
    let (handle, statsd) = metrics(settings)?;
    // Everything but decisions happens on this one thread, out of the way of the cores.
    let background =
        runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(Error::Background)?;
    let drain = drain::on_sigterm(settings.grpc.drain_delay, &background);
    let readiness = Readiness::new();
    let tls = settings.tls.files().map(Tls::load).transpose()?;
    if let Some(tls) = &tls {
        background.spawn(tls.clone().follow());
    }

    let config = CurrentConfig::default();
    let configured = config::follow(&settings.source, &settings.tuning, &config, &readiness, &background)?;
    background.block_on(async {
        tokio::select! {
            () = configured.wait() => {}
            () = drain.leaving.clone().wait() => {}
        }
    });
    if drain.leaving.is_draining() {
        return Ok(());
    }

    let (address, cores) = (settings.grpc.address(), settings.grpc.cores());
    let grpc = Listener::bind_per_core(&address, cores)?;
    let http = Http::bind(settings)?;
    let stores = Stores::new(settings);
    stores.block_readiness(&readiness, &drain.trigger, &background)?;
    let clients = Arc::new(settings.tls.clients());
    let on_background = background.enter();
    let tracer = settings.tracing.options().map(|options| Tracer::start(&options)).transpose()?;
    let talkers = settings.tuning.talkers();
    let (trial, differences) = shadow(settings, &config, &stores, &background)?.unzip();
    let service = || {
        let service = Service::new(config.clone(), stores.open()?, settings.options());
        let sketch = talkers.as_ref().map(Talkers::sketch);
        let service = service.clients(Arc::clone(&clients)).traced(tracer.clone());
        Ok::<_, Error>(service.watching(sketch).tried(trial.clone()))
    };
    let on_http = service()?;
    let quotas = settings.rlqs.ttl().map(|ttl| {
        let (quotas, clients, draining) = (rlqs::Quotas::new(ttl), Arc::clone(&clients), drain.draining.clone());
        rlqs::Service::new(quotas, config.clone(), clients, stores.local(), draining)
    });
    let answers = Routers {
        public: http::router(on_http.clone(), readiness.clone(), drain.leaving.clone()),
        debug: Debug { service: on_http, stats: handle.clone(), talkers: talkers.clone(), shadow: differences }
            .router(),
        prometheus: handle.map(|handle| proto::metrics::router_at(&settings.stats.prometheus_path, handle)),
    };
    drop(on_background);
    let http = http.serve(answers, &settings.grpc, &drain.draining, &background);

    tracing::info!(%address, cores, store = ?settings.backend_type(), "serving");
    let (limits, admission) = (settings.grpc.limits(), settings.grpc.admission());
    let ended = serve::per_core(grpc, &drain.trigger, async |_, listener| {
        let routes = endpoints::grpc(service()?, quotas.clone(), &readiness, &drain.leaving).await?;
        let grpc = Grpc::new(listener).limits(limits).admission(admission.clone()).tls(tls.clone());
        Ok(grpc.serve(routes, drain.draining.clone()).await?)
    });
    http.join(&background);
    if let Err(error) = stores.close(&background) {
        tracing::warn!(%error, "leases were not given back; their hits stay counted until their windows end");
    }
    if let Some(tracer) = tracer {
        tracer.end();
    }
    background.shutdown_timeout(Duration::from_millis(100));
    // Sends what has been measured since the last time.
    drop(statsd);
    match stores.given_up() {
        Some(error) => Err(error.into()),
        None => ended,
    }
}

/// Begins to try the second configuration, if there is one.
fn shadow(
    settings: &Settings,
    config: &CurrentConfig,
    stores: &Stores,
    background: &Runtime,
) -> Result<Option<(Trial, Report)>, Error> {
    let Some(place) = settings.tuning.shadow_config() else { return Ok(None) };
    let second = config::follow_shadow(place, settings.source.domains(), background);
    let every = u64::try_from(settings.tuning.shadow_config_every).unwrap_or(u64::MAX);
    let (trial, shadow) = shadow::new(config.clone(), second, stores.open_apart()?, settings.options(), every);
    let report = shadow.report();
    background.spawn(shadow.run());
    Ok(Some((trial, report)))
}

/// Begins to measure for those who are to be told.
fn metrics(settings: &Settings) -> Result<(Option<proto::metrics::Handle>, Option<metrics::Sender>), Error> {
    let installed = settings.stats.metrics()?.map(metrics::install).transpose().map_err(Error::Statsd)?;
    Ok(installed.map_or((None, None), |(handle, statsd)| (Some(handle), statsd)))
}
