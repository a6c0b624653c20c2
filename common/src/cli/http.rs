//! What a program that runs for long tells whoever watches over it: health and metrics over HTTP.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
};

use super::parse_address;
use crate::{
    broker::Broker,
    metrics::{CONNECTED, CONNECTIONS, describe},
};

/// Where a program listens unless it is told otherwise, and where `health` asks.
pub(super) const DEFAULT_ADDRESS: &str = "127.0.0.1:8223";

/// Connections at once; others wait. Each takes a descriptor, of which files and the server's connection need some, too.
const MOST_CONNECTIONS: usize = 64;

/// How long one connection may take, which is for one request.
const LONGEST: Duration = Duration::from_secs(10);

/// Rest when no connection can be taken, as when there are no descriptors.
const REST: Duration = Duration::from_secs(1);

/// How often what was measured is gathered, so that it does not pile up where nobody asks.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Upper bounds of the histograms' buckets, in seconds: a message takes milliseconds, a large file over a slow link hours.
const BUCKETS: [f64; 14] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 10_000.0];

/// Where to tell it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct HttpArguments {
    /// Serve /metrics (Prometheus), /healthz and /readyz here: 127.0.0.1:8223
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address)]
    http: Option<SocketAddr>,
}

/// What is served.
struct Served {
    broker: Broker,
    metrics: PrometheusHandle,
}

/// A server that ends when it is dropped.
#[derive(Debug)]
pub struct Http(AbortHandle);

impl Drop for Http {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl HttpArguments {
    /// Listens, if that was asked for.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn serve(&self, broker: &Broker) -> anyhow::Result<Option<Http>> {
        let Some(address) = self.http else { return Ok(None) };
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let metrics = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
        describe();
        let served = Arc::new(Served { broker: broker.clone(), metrics });
        let upkeep = served.clone();
        let router = Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(measured))
            .with_state(served);
        tracing::info!(address = %listener.local_addr()?, "serving /metrics, /healthz and /readyz");
        let task = tokio::spawn(async move {
            let upkeep = async {
                loop {
                    tokio::time::sleep(UPKEEP_INTERVAL).await;
                    upkeep.metrics.run_upkeep();
                }
            };
            tokio::select! {
                () = answer(&listener, router) => {}
                () = upkeep => {}
            }
        });
        Ok(Some(Http(task.abort_handle())))
    }
}

/// Answers one request of each connection. `axum::serve` would wait for ever for those that ask slowly, however many they are.
async fn answer(listener: &TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut http = http1::Builder::new();
    http.keep_alive(false);
    let mut connections = JoinSet::new();
    // The semaphore is never closed.
    while let Ok(place) = places.clone().acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection for health or metrics cannot be taken");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        connections.spawn(async move {
            // Who goes away, or writes nonsense, has had an answer or wants none.
            let _ = tokio::time::timeout(LONGEST, connection).await;
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Whether the program can do its work: it is connected to the server.
async fn ready(State(served): State<Arc<Served>>) -> impl IntoResponse {
    if served.broker.is_connected() {
        (StatusCode::OK, "connected\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not connected to the NATS server\n")
    }
}

/// In Prometheus' text format.
async fn measured(State(served): State<Arc<Served>>) -> impl IntoResponse {
    metrics::gauge!(CONNECTED).set(f64::from(u8::from(served.broker.is_connected())));
    metrics::counter!(CONNECTIONS).absolute(served.broker.connects());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], served.metrics.render())
}
