//! Reading the receipts: that a receiver has landed a file.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures_util::TryStreamExt;
use serde_json::Value;

use crate::Server;

const HEADER: &str = "Natsfer-Receipt";
const LIMIT: Duration = Duration::from_secs(30);

/// One message.
#[derive(Clone, Debug)]
pub(super) struct Receipt {
    pub(super) transfer: String,
    pub(super) receiver: String,
    digest: Value,
    size: Value,
}

/// All there are.
pub(super) async fn read(server: &Server) -> Result<Vec<Receipt>> {
    let stream = server.jetstream().await.get_stream("NATSFER").await?;
    let config = pull::Config {
        filter_subject: "natsfer.receipt.>".into(),
        ack_policy: AckPolicy::None,
        memory_storage: true,
        ..Default::default()
    };
    let mut consumer = stream.create_consumer(config).await?;
    let info = consumer.info().await?;
    let (name, count) = (info.name.clone(), usize::try_from(info.num_pending)?);
    let mut receipts = Vec::new();
    // A request for nothing would wait.
    if count > 0 {
        let mut messages = consumer.batch().max_messages(count).expires(LIMIT).messages().await?;
        while let Some(message) = messages.try_next().await.map_err(anyhow::Error::from_boxed)? {
            receipts.push(parse(&message).with_context(|| format!("a receipt on {}", message.subject))?);
        }
    }
    stream.delete_consumer(&name).await?;
    ensure!(receipts.len() == count, "{count} receipts are stored, {} came", receipts.len());
    Ok(receipts)
}

/// Whether a receiver has dealt with everything, and said so: it acknowledges after its receipt.
pub(super) async fn inbox_is_idle(server: &Server, receiver: &str) -> Result<bool> {
    let stream = server.jetstream().await.get_stream_no_info("NATSFER").await?;
    let info = stream.consumer_info(receiver).await?;
    Ok(info.num_pending == 0 && info.num_ack_pending == 0)
}

fn parse(message: &async_nats::Message) -> Result<Receipt> {
    let header = message.headers.as_ref().and_then(|headers| headers.get(HEADER)).context("no header")?;
    let record: Value = serde_json::from_str(header.as_str())?;
    let text = |field: &str| record[field].as_str().map(str::to_owned).with_context(|| format!("no {field}: {record}"));
    let receipt = Receipt {
        transfer: text("transfer")?,
        receiver: text("receiver")?,
        digest: record["digest"].clone(),
        size: record["size"].clone(),
    };
    ensure!(message.subject.ends_with(&receipt.transfer), "it is about another transfer: {record}");
    Ok(receipt)
}

/// What is wrong with the receipts, given what `send` said and who received: there must be one for each, and no other.
pub(super) fn faults(receipts: &[Receipt], sent: &[Value], receivers: &[&str]) -> Vec<String> {
    let mut expected = BTreeMap::new();
    for event in sent {
        let transfer = event["transfer"].as_str().unwrap_or_default();
        expected.extend(receivers.iter().map(|receiver| ((transfer, *receiver), (0, event))));
    }
    let mut faults = Vec::new();
    for receipt in receipts {
        match expected.get_mut(&(receipt.transfer.as_str(), receipt.receiver.as_str())) {
            None => faults.push(format!("a receipt that nobody expects: {receipt:?}")),
            Some((count, event)) => {
                *count += 1;
                if receipt.digest != event["digest"] || receipt.size != event["size"] {
                    faults.push(format!("{receipt:?} for {event}"));
                }
            }
        }
    }
    let wrong = expected.iter().filter(|(_, (count, _))| *count != 1);
    faults.extend(wrong.map(|((transfer, receiver), (count, _))| {
        format!("{count} receipts, not one, of {receiver} for transfer {transfer}")
    }));
    faults
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use async_nats::HeaderMap;
    use async_nats::jetstream::stream;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn all_receipts_are_read_and_nothing_is_left() {
        let server = Server::start().await;
        let js = server.jetstream().await;
        let subjects = vec!["natsfer.>".into()];
        js.create_stream(stream::Config { name: "NATSFER".into(), subjects, ..Default::default() }).await.unwrap();
        assert!(read(&server).await.unwrap().is_empty());
        for receiver in ["a", "b"] {
            let mut headers = HeaderMap::new();
            let receipt = json!({"version": 1, "transfer": "t", "receiver": receiver, "digest": "d", "size": 3});
            headers.insert(HEADER, receipt.to_string());
            let ack = js.publish_with_headers("natsfer.receipt.x.y.t", headers, "".into()).await.unwrap();
            ack.await.unwrap();
        }
        let found = read(&server).await.unwrap();
        assert_eq!(found.iter().map(|receipt| &*receipt.receiver).collect::<Vec<_>>(), ["a", "b"]);
        let sent = [json!({"transfer": "t", "digest": "d", "size": 3})];
        assert!(faults(&found, &sent, &["a", "b"]).is_empty());
        assert!(crate::steps::consumers(&server, "NATSFER").await.is_empty());
    }

    #[test]
    fn one_receipt_for_each_and_no_other() {
        let sent = [json!({"transfer": "t", "digest": "d", "size": 3})];
        let receipt = |receiver: &str, size: u64| Receipt {
            transfer: "t".into(),
            receiver: receiver.into(),
            digest: "d".into(),
            size: size.into(),
        };
        let (a, b) = (receipt("a", 3), receipt("b", 3));
        let count = |receipts: &[Receipt]| faults(receipts, &sent, &["a", "b"]).len();
        assert_eq!(count(&[a.clone(), b.clone()]), 0);
        assert_eq!(count(std::slice::from_ref(&a)), 1);
        assert_eq!(count(&[a.clone(), b.clone(), b.clone()]), 1);
        assert_eq!(count(&[a.clone(), b.clone(), receipt("c", 3)]), 1);
        assert_eq!(count(&[a, receipt("b", 4)]), 1);
    }
}
