//! Naming a stored transfer on the command line: by its id, or the beginning of it.

use std::collections::BTreeSet;

use anyhow::anyhow;

use crate::{
    Channel, ChannelFilter, FileName, IdPrefix, TransferId,
    broker::{Broker, CatalogEntry},
};

/// Candidates that an error lists, at most.
const MOST_LISTED: usize = 10;

/// A stored transfer that is meant.
#[derive(Debug, Clone, clap::Args)]
pub struct WhichTransfer {
    /// Transfer: its id, or the first digits of it, as `list` shows them
    #[arg(value_name = "ID")]
    id: IdPrefix,
    /// Channels to look for it on; wildcards allowed
    #[arg(short, long, default_value = ">")]
    channel: ChannelFilter,
}

impl WhichTransfer {
    /// Of this id, on these channels.
    pub fn new(id: IdPrefix, channel: ChannelFilter) -> Self {
        Self { id, channel }
    }

    /// The transfer; several where several channels have one of that id.
    ///
    /// # Errors
    /// When there is none, the digits stand for several, or the server does not answer.
    pub async fn find(&self, broker: &Broker) -> anyhow::Result<Vec<CatalogEntry>> {
        let mut catalog = broker.catalog(&self.channel).await?;
        catalog.retain(|entry| self.id.begins(entry.manifest.transfer));
        let candidates = catalog.iter().map(|entry| {
            let manifest = &entry.manifest;
            (manifest.transfer, Some(&manifest.channel), Some(&manifest.name))
        });
        let found = choose(&self.id, candidates)?;
        if found.is_none() {
            let (stream, id) = (broker.stream(), &self.id);
            let place = match self.channel.as_str() {
                ">" => format!("on stream {stream}"),
                channel => format!("on channel {channel} of stream {stream}"),
            };
            return Err(anyhow!(
                "there is no transfer {id} {place}: it never was, or has been removed; `list` shows what there is"
            ));
        }
        Ok(catalog)
    }
}

/// The one id that begins so, of these; `None` of none.
///
/// # Errors
/// When several do: lists them.
pub fn choose<'a>(
    prefix: &IdPrefix, candidates: impl IntoIterator<Item = (TransferId, Option<&'a Channel>, Option<&'a FileName>)>,
) -> anyhow::Result<Option<TransferId>> {
    let mut ids = BTreeSet::new();
    let mut lines = Vec::new();
    for (id, channel, name) in candidates.into_iter().filter(|(id, ..)| prefix.begins(*id)) {
        if ids.insert(id) {
            let channel = channel.map_or("-", Channel::as_str);
            let name = name.map_or("-", FileName::as_str);
            lines.push(format!("{id} ({channel}, {name})"));
        }
    }
    if ids.len() > 1 {
        let more = lines.len().saturating_sub(MOST_LISTED);
        lines.truncate(MOST_LISTED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        anyhow::bail!("{prefix} stands for {} transfers, give more digits: {}{more}", ids.len(), lines.join(", "));
    }
    Ok(ids.pop_first())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ambiguous_beginning_lists_what_it_may_mean() {
        let ids: Vec<TransferId> =
            ["abcd0", "abcd1", "ffff0"].iter().map(|id| format!("{id:0<32}").parse().unwrap()).collect();
        let (channel, name): (Channel, FileName) = ("eu".parse().unwrap(), "a.txt".parse().unwrap());
        let find = |prefix: &str| {
            let candidates = ids.iter().map(|id| (*id, Some(&channel), Some(&name)));
            choose(&prefix.parse().unwrap(), candidates)
        };
        assert_eq!(find("ffff").unwrap(), Some(ids[2]));
        assert_eq!(find("abcd1").unwrap(), Some(ids[1]));
        assert_eq!(find("0000").unwrap(), None);
        let error = find("abcd").unwrap_err().to_string();
        assert!(error.contains("2 transfers") && error.contains(&format!("{} (eu, a.txt)", ids[0])), "{error}");
    }
}
