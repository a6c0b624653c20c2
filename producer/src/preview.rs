//! What sending a file would do.

use natsfer_common::{
    Channel, Closing, FileName, TransferId,
    broker::{Broker, BrokerError, code},
};

use crate::{ProducerError, SendOptions, source::Source, upload::MOST_REVISIONS};

/// What sending a file would do, by its name, size and time: its bytes are not compared with what is stored. Nothing was changed to find
/// out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The transfer that it would be, or is.
    pub transfer: TransferId,
    /// The channel.
    pub channel: Channel,
    /// The name that it would be sent under.
    pub name: FileName,
    /// Its size in bytes.
    pub size: u64,
    /// What the stream has of it.
    pub before: Before,
}

/// What the stream has of a file that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// Something: its sender has not finished it.
    Part,
    /// All of it. If the file still has the bytes that were sent, sending it again publishes nothing but what receivers have asked for.
    All,
    /// This user may not look.
    Unknown,
}

/// What the stream has under one id.
enum Found {
    /// This file, or nothing.
    This(Before),
    /// What is in the way: it was taken back, or is another file's. The next id is tried.
    InTheWay,
}

/// Looks what is stored of a file.
pub(crate) async fn preview(broker: &Broker, source: &Source, options: &SendOptions) -> Result<Preview, ProducerError> {
    let name = options.name.clone().ok_or(ProducerError::NoName)?;
    let (channel, size) = (options.channel.clone(), source.version().map_or(0, |version| version.size));
    let mut last = None;
    for revision in 0..MOST_REVISIONS {
        let Some(transfer) = source.transfer_id(&channel, &name, revision) else { break };
        last = Some(transfer);
        if let Found::This(before) = look(broker, &channel, transfer, &name).await? {
            return Ok(Preview { transfer, channel, name, size, before });
        }
    }
    match last {
        Some(transfer) => Err(ProducerError::IdTaken { transfer }),
        None => Err(ProducerError::NoName),
    }
}

async fn look(broker: &Broker, channel: &Channel, transfer: TransferId, name: &FileName) -> Result<Found, BrokerError> {
    let open = broker.subjects().open(channel, transfer);
    let opened = match broker.last_message(broker.stream().control(), &open).await {
        Ok(Some(opened)) => opened,
        Ok(None) | Err(BrokerError::NoStream { .. }) => return Ok(Found::This(Before::Nothing)),
        Err(error) if error.is(code::STREAM_NOT_FOUND) => return Ok(Found::This(Before::Nothing)),
        Err(BrokerError::Denied { .. }) => return Ok(Found::This(Before::Unknown)),
        Err(error) => return Err(error),
    };
    let manifest = opened.manifest(channel, transfer).filter(|manifest| manifest.name == *name);
    let Some(manifest) = manifest else { return Ok(Found::InTheWay) };
    let closing = match broker.closing_record(channel, transfer).await {
        Err(BrokerError::Denied { .. }) => return Ok(Found::This(Before::Unknown)),
        record => record?.map(|record| record.closing),
    };
    Ok(match closing {
        Some(Closing::Cancelled { .. }) => Found::InTheWay,
        Some(Closing::Complete(_)) => Found::This(Before::All),
        None if manifest.inline.is_some() => Found::This(Before::All),
        None => Found::This(Before::Part),
    })
}
