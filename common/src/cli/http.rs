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
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, task::AbortHandle};

use super::parse_address;
use crate::{
    broker::Broker,
    metrics::{CONNECTED, CONNECTIONS, describe},
};

/// Where a program listens unless it is told otherwise, and where `health` asks.
pub(super) const DEFAULT_ADDRESS: &str = "127.0.0.1:8223";

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
                Err(error) = async { axum::serve(listener, router).await } => {
                    tracing::error!(%error, "health and metrics are not served any more");
                }
                () = upkeep => {}
            }
        });
        Ok(Some(Http(task.abort_handle())))
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
