//! Hearing changes: what a node that changed a session tells the others through Redis.
//!
//! A push makes a revocation known in milliseconds. Losing one loses nothing but those: the feed
//! tells the same within the staleness bound.

use futures_util::{Stream, StreamExt as _};
use redis::Msg;
use session_core::{Lineage, Mark, SessionId, TokenKeys, Version};

use crate::cold::Changed;
use crate::metrics::Metrics;
use crate::warm::{ordered, unordered};

const FORMAT: u8 = 1;
const CONTENT: usize = 41;
const LEN: usize = CONTENT + 16;

impl Changed {
    /// The message, sealed so that nobody else can raise floors, nor move it to another channel.
    pub(crate) fn encode(&self, channel: &str, lineage: Lineage, keys: &TokenKeys) -> [u8; LEN] {
        let mut message = [0; LEN];
        message[0] = FORMAT;
        message[1..17].copy_from_slice(self.id.as_bytes());
        message[17..25].copy_from_slice(&ordered(self.version.get()));
        message[25..33].copy_from_slice(&ordered(self.mark.get()));
        message[33..41].copy_from_slice(&ordered(lineage.get()));
        let seal = keys.seal(&[channel.as_bytes()], &message[..CONTENT]);
        message[CONTENT..].copy_from_slice(&seal);
        message
    }

    /// The change that a message tells, and in which lineage; `None` if it is none of ours.
    pub(crate) fn decode(
        message: &[u8],
        channel: &str,
        keys: &TokenKeys,
    ) -> Option<(Lineage, Self)> {
        let message: &[u8; LEN] = message.try_into().ok()?;
        let (content, seal) = message.split_last_chunk::<16>()?;
        if content[0] != FORMAT || !keys.opens(&[channel.as_bytes()], content, seal) {
            return None;
        }
        let changed = Self {
            id: SessionId::from_bytes(content[1..17].try_into().ok()?),
            version: Version::new(unordered(content[17..25].try_into().ok()?)),
            mark: Mark::new(unordered(content[25..33].try_into().ok()?)),
        };
        let lineage = Lineage::new(unordered(content[33..41].try_into().ok()?));
        Some((lineage, changed))
    }
}

/// Hands each push of a subscription to `heard`, until the subscription ends.
pub(crate) async fn hear(
    mut messages: impl Stream<Item = Msg> + Unpin,
    channel: &str,
    keys: &TokenKeys,
    metrics: &Metrics,
    heard: &mut impl FnMut(Lineage, Changed),
) {
    while let Some(message) = messages.next().await {
        match Changed::decode(message.get_payload_bytes(), channel, keys) {
            Some((lineage, push)) => {
                metrics.pushes_heard.increment(1);
                heard(lineage, push);
            }
            None => metrics.warm_unreadable.increment(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUSH: Changed = Changed {
        id: SessionId::from_bytes([7; 16]),
        version: Version::DELETED,
        mark: Mark::new(42),
    };
    const LINEAGE: Lineage = Lineage::new(-3);

    #[test]
    fn a_message_reads_as_it_was_written() {
        let keys = TokenKeys::random();
        let message = PUSH.encode("session:changes", LINEAGE, &keys);
        assert_eq!(
            Changed::decode(&message, "session:changes", &keys),
            Some((LINEAGE, PUSH))
        );
    }

    #[test]
    fn a_message_of_a_retired_root_is_heard_and_of_a_leaked_one_not() {
        let (old, new) = (TokenKeys::random(), TokenKeys::random());
        let message = PUSH.encode("session:changes", LINEAGE, &old);
        let heard = |keys| Changed::decode(&message, "session:changes", &keys).is_some();
        assert!(heard(new.clone().retire_root(old.clone()).unwrap()));
        assert!(heard(new.clone().announce_root(old.clone()).unwrap()));
        assert!(!heard(new.clone().retire_leaked_root(old).unwrap()));
        assert!(!heard(new));
    }

    #[test]
    fn a_message_that_was_changed_moved_or_forged_is_refused() {
        let keys = TokenKeys::random();
        let message = PUSH.encode("session:changes", LINEAGE, &keys);
        for at in 0..LEN {
            let mut changed = message;
            changed[at] ^= 1;
            assert_eq!(Changed::decode(&changed, "session:changes", &keys), None);
            assert_eq!(
                Changed::decode(&message[..at], "session:changes", &keys),
                None
            );
        }
        assert_eq!(Changed::decode(&message, "other:changes", &keys), None);
        assert_eq!(
            Changed::decode(&message, "session:changes", &TokenKeys::random()),
            None
        );
    }
}
