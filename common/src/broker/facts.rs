//! What can be found out about the server, the account and the streams, for whoever judges them.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::{
    Broker, BrokerError, ConsumerKind, ConsumerSpec, StartAt, StreamConfig,
    connection::read_answer,
    consumer::{Existing, name_of_its_own},
    headers::LOOK,
};
use crate::{ChannelFilter, Kind};

/// What the server has said of itself when it greeted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its version.
    pub version: String,
    /// Its name, of its own choice.
    pub name: String,
    /// The cluster it is in, if any.
    pub cluster: Option<String>,
    /// Whether it wants to know who connects.
    pub auth_required: bool,
    /// Whether this connection is encrypted.
    pub encrypted: bool,
    /// Whether it does not leave this machine.
    pub local: bool,
    /// Its limit for one message, headers included, in bytes, as it says when it greets.
    pub max_payload: usize,
    /// What this account or user was seen to be granted of that: less, if a larger message was refused.
    pub granted_payload: usize,
}

/// Who the server takes this client for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Identity {
    /// The user: its name, or its key.
    #[serde(default)]
    pub user: String,
    /// Its account.
    #[serde(default)]
    pub account: String,
}

/// What JetStream says of the account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AccountFacts {
    /// Bytes stored in files.
    pub storage: u64,
    /// Streams.
    pub streams: u64,
    /// Consumers.
    pub consumers: u64,
    /// What it may have.
    pub limits: AccountLimits,
}

/// What an account may have; less than 0 is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AccountLimits {
    /// Bytes stored in files.
    pub max_storage: i64,
    /// Streams.
    pub max_streams: i64,
    /// Consumers.
    pub max_consumers: i64,
    /// Messages that a consumer delivers and that are not acknowledged.
    #[serde(default)]
    pub max_ack_pending: i64,
}

/// A stream as it stands.
#[derive(Debug, Clone)]
pub struct StreamFacts {
    /// Its name.
    pub name: String,
    /// How it is set up.
    pub config: StreamConfig,
    /// Messages in it.
    pub messages: u64,
    /// Bytes they take.
    pub bytes: u64,
    /// Its consumers.
    pub consumers: u64,
    /// How much the server's clock is ahead of this machine's, in milliseconds, and how much that may be off.
    pub clock_ahead: Option<(i64, i64)>,
}

impl Broker {
    /// What the server has said when it greeted.
    pub fn server(&self) -> ServerFacts {
        let info = self.client.server_info();
        ServerFacts {
            version: info.version,
            name: info.server_name,
            cluster: info.cluster,
            auth_required: info.auth_required,
            encrypted: self.encrypted || info.tls_required,
            local: info.client_ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
            max_payload: info.max_payload,
            granted_payload: self.max_payload(),
        }
    }

    /// Who the server takes this client for.
    ///
    /// # Errors
    /// When it may not be asked.
    pub async fn identity(&self) -> Result<Identity, BrokerError> {
        #[derive(Deserialize)]
        struct Answer {
            data: Identity,
        }
        let what = "asking who this is";
        let answer = self.request(what, "$SYS.REQ.USER.INFO".into(), None, Bytes::new()).await?;
        Ok(read_answer::<Answer>(what, &answer)?.data)
    }

    /// What the account has in JetStream, and may have.
    ///
    /// # Errors
    /// When JetStream is not there, or this user may not ask.
    pub async fn account(&self) -> Result<AccountFacts, BrokerError> {
        let once = self.with_patience(Duration::ZERO);
        once.api("asking what the account has in JetStream", "INFO", &json!({})).await
    }

    /// What time it is by the server's clock; `None` where it does not say so to this user. Ages of what is stored go by it.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn server_time(&self) -> Result<Option<Timestamp>, BrokerError> {
        let control = self.stream().control();
        match self.stream_info(control).await {
            Ok(info) if info.ts.is_some() => return Ok(info.ts),
            Ok(_) | Err(BrokerError::Denied { .. }) => {}
            Err(error) => return Err(error),
        }
        // Who may list transfers may make a consumer for that, which is gone in a second.
        let inbox = self.client.new_inbox();
        let spec = ConsumerSpec {
            stream: control.into(),
            name: name_of_its_own(LOOK, &inbox),
            filters: vec![self.subjects().filter(Kind::Open, &ChannelFilter::default())],
            start: StartAt::First,
            headers_only: true,
            kind: ConsumerKind::Push { inbox },
        };
        match self.create_consumer_now(&spec, Existing::Update).await {
            Ok(state) => Ok(state.at),
            Err(BrokerError::Denied { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A stream as it stands; by its answer, also how the server's clock differs.
    ///
    /// # Errors
    /// When there is none, or this user may not look at it.
    pub async fn stream_facts(&self, name: &str) -> Result<StreamFacts, BrokerError> {
        let before = Timestamp::now();
        let info = self.with_patience(Duration::ZERO).stream_info(name).await?;
        let after = Timestamp::now();
        let clock_ahead = info.ts.map(|ts| {
            let half = after.duration_since(before).as_millis() / 2;
            let here = before.as_millisecond().saturating_add(i64::try_from(half).unwrap_or(0));
            // The server may write down only milliseconds.
            (ts.as_millisecond().saturating_sub(here), i64::try_from(half).unwrap_or(i64::MAX).saturating_add(1))
        });
        Ok(StreamFacts {
            name: name.into(),
            config: info.config,
            messages: info.state.messages,
            bytes: info.state.bytes,
            consumers: info.state.consumer_count,
            clock_ahead,
        })
    }
}
