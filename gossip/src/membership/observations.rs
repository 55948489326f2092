//! What nodes see, as keys and values: this node's own, which it keeps publishing, and everybody's, as a snapshot.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;
use waifud_model::ids::NodeId;

/// Longest key, in bytes. A VM's is 39 bytes long, an image's 70.
pub const KEY_MAX: usize = 128;
/// Longest value, in bytes. chitchat stops a message at the first value that does not fit into what is left of 64 KiB;
/// larger ones would hold up everything behind them.
pub const VALUE_MAX: usize = 8 << 10;
/// Most keys of one node: several thousand VMs and images.
pub const KEYS_MAX: usize = 8_192;

/// A key of our own, in every life from the start: so version 0 means that nothing of a life has arrived yet, and the
/// observations of the life before are shown until then.
pub(super) const LIFE_KEY: &str = ".";

/// Why something was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// An empty, reserved or long key, or one that is not plain ASCII: chitchat cuts keys after their first byte, which
    /// would end gossip on every node that hears of it.
    #[error("{0:?} is not an observation's key: 1 to {KEY_MAX} printable ASCII characters, and not {LIFE_KEY:?}")]
    Key(String),
    /// A long value.
    #[error("the observation {key} is {len} bytes long; at most {VALUE_MAX} are gossiped")]
    Value {
        /// The key.
        key: String,
        /// The value's length.
        len: usize,
    },
    /// Too many keys.
    #[error("a node publishes at most {KEYS_MAX} observations")]
    Count,
}

/// What this node publishes: the truth that chitchat's copy is made to agree with.
#[derive(Debug, Default)]
pub(super) struct Published {
    values: Mutex<BTreeMap<String, String>>,
    changed: Notify,
}

impl Published {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, key: String, value: String) -> Result<(), PublishError> {
        let plain = key.bytes().all(|byte| byte.is_ascii_graphic());
        if key.is_empty() || key.len() > KEY_MAX || key == LIFE_KEY || !plain {
            return Err(PublishError::Key(key.chars().take(KEY_MAX).collect()));
        }
        if value.len() > VALUE_MAX {
            return Err(PublishError::Value { key, len: value.len() });
        }
        let mut values = self.lock();
        if values.get(&key) == Some(&value) {
            return Ok(());
        }
        if values.len() >= KEYS_MAX && !values.contains_key(&key) {
            return Err(PublishError::Count);
        }
        values.insert(key, value);
        drop(values);
        self.changed.notify_one();
        Ok(())
    }

    pub(super) fn remove(&self, key: &str) {
        if self.lock().remove(key).is_some() {
            self.changed.notify_one();
        }
    }

    /// Waits for the next change; one that happened meanwhile counts.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Everything, for the start of a life.
    pub(super) fn all(&self) -> Vec<(String, String)> {
        self.lock().iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Makes chitchat's copy of this node's state agree. True if it did not.
    pub(super) fn restore(&self, state: &mut chitchat::NodeState) -> bool {
        let values = self.lock();
        let surplus: Vec<String> = state
            .key_values()
            .filter(|(key, _)| *key != LIFE_KEY && !values.contains_key(*key))
            .map(|(key, _)| key.to_owned())
            .collect();
        let missing = values.iter().filter(|(key, value)| state.get(key) != Some(value));
        let missing: Vec<(String, String)> = missing.map(|(key, value)| (key.clone(), value.clone())).collect();
        let differs = !surplus.is_empty() || !missing.is_empty();
        surplus.iter().for_each(|key| state.delete(key));
        missing.into_iter().for_each(|(key, value)| state.set(key, value));
        differs
    }
}

/// What one node published.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeObservations {
    values: BTreeMap<String, String>,
    stamp: Stamp,
}

/// Which version of which life a copy was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Stamp {
    generation: u64,
    version: u64,
    collected: u64,
}

impl Stamp {
    fn of(state: &chitchat::NodeState) -> Self {
        Self {
            generation: state.chitchat_id().generation_id,
            version: state.max_version(),
            collected: state.last_gc_version(),
        }
    }
}

impl NodeObservations {
    /// The value under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// All keys and values, in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The keys that begin with `prefix` and their values, in key order.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.values
            .range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded))
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// A copy of `state`, or `last` again if nothing changed since that was made, or nothing of this life arrived.
    pub(super) fn copy(state: &chitchat::NodeState, last: Option<&Arc<Self>>) -> Arc<Self> {
        let stamp = Stamp::of(state);
        match last {
            Some(last) if last.stamp == stamp || stamp.version == 0 => last.clone(),
            _ => {
                let values = state.key_values().filter(|(key, _)| *key != LIFE_KEY);
                Arc::new(Self { values: values.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(), stamp })
            }
        }
    }
}

/// What all members published. Values of nodes that did not change are shared with the snapshot before.
pub type Observations = BTreeMap<NodeId, Arc<NodeObservations>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_refused_values_leave_the_old_ones() {
        let published = Published::default();
        published.set("vm/1".into(), "running".into()).unwrap();
        let long = published.set("vm/1".into(), "x".repeat(VALUE_MAX + 1));
        assert_eq!(long, Err(PublishError::Value { key: "vm/1".into(), len: VALUE_MAX + 1 }));
        published.set("limit".into(), "x".repeat(VALUE_MAX)).unwrap();
        assert!(matches!(published.set(String::new(), "x".into()), Err(PublishError::Key(_))));
        assert!(matches!(published.set("k".repeat(KEY_MAX + 1), "x".into()), Err(PublishError::Key(_))));
        for bad in [LIFE_KEY, "ärger", "two words", "tab\t"] {
            assert!(matches!(published.set(bad.into(), "x".into()), Err(PublishError::Key(_))), "{bad}");
        }
        assert_eq!(published.all()[1], ("vm/1".into(), "running".into()));
        for n in published.all().len()..KEYS_MAX {
            published.set(format!("k{n}"), String::new()).unwrap();
        }
        assert_eq!(published.set("one-more".into(), String::new()), Err(PublishError::Count));
        published.set("vm/1".into(), "stopped".into()).unwrap();
    }

    #[test]
    fn chitchats_copy_is_made_to_agree() {
        let published = Published::default();
        published.set("a".into(), "1".into()).unwrap();
        published.set("b".into(), "2".into()).unwrap();
        let mut state = chitchat::NodeState::for_test();
        state.set(LIFE_KEY, "7");
        state.set("b", "overwritten");
        state.set("c", "made up");
        assert!(published.restore(&mut state));
        let values: Vec<_> = state.key_values().collect();
        assert_eq!(values, [(LIFE_KEY, "7"), ("a", "1"), ("b", "2")]);
        assert!(!published.restore(&mut state), "nothing is left to do");
        published.remove("a");
        assert!(published.restore(&mut state));
        assert_eq!(state.get("a"), None);
    }

    #[test]
    fn copies_are_shared_until_something_changes() {
        let mut state = chitchat::NodeState::for_test();
        state.set("vm/1", "running");
        state.set("vm/2", "stopped");
        state.set("w", "x");
        let first = NodeObservations::copy(&state, None);
        assert!(Arc::ptr_eq(&first, &NodeObservations::copy(&state, Some(&first))));
        assert_eq!(first.with_prefix("vm/").collect::<Vec<_>>(), [("vm/1", "running"), ("vm/2", "stopped")]);
        state.delete("vm/1");
        let second = NodeObservations::copy(&state, Some(&first));
        assert_eq!((second.get("vm/1"), first.get("vm/1")), (None, Some("running")));
        let new_life = chitchat::NodeState::for_test();
        assert!(Arc::ptr_eq(&second, &NodeObservations::copy(&new_life, Some(&second))));
    }
}
