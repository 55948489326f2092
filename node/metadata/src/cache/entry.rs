//! What the cache holds for one VM, how it is written into Redis, and why it is believed when it is read.
//!
//! ```text
//!   waifud:<cluster id>:ci:<vm id>   hash   vm ip generation instance expires config user-data mac
//!   waifud:<cluster id>:ip:<ip>      string the VM's id, to find the above
//! ```
//!
//! `mac` is BLAKE3 keyed by what is derived from the cluster's secret, over all other fields and the cluster's id, each with
//! its length before it. So whoever can write to Redis can remove entries, or bring back an older one until it expires, but
//! cannot make one. That an older one is not taken for the current is up to the reader, who says which generation it needs.

use blake3::Hash;
use std::{collections::HashMap, net::Ipv4Addr, str::FromStr};
use waifud_cloudinit::{Documents, Instance};
use waifud_model::ids::{ClusterId, Generation, VmId};

/// Separates this key from whatever else is derived from the cluster's secret.
const CONTEXT: &str = "waifud shared cache of rendered cloud-config, version 1";

/// The hash's fields in the order in which they are authenticated; the last is not.
pub(super) const FIELDS: [&str; 8] = ["vm", "ip", "generation", "instance", "expires", "config", "user-data", "mac"];

/// One VM's cloud-config, as its owner has rendered it.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The VM.
    pub vm: VmId,
    /// Its address.
    pub ip: Ipv4Addr,
    /// The generation of the specification that this was rendered from.
    pub generation: Generation,
    /// Which life of the VM it is for.
    pub instance: u32,
    /// The [`Instance`] as JSON: what all documents are rendered from.
    pub config: String,
    /// The user-data as the guest gets it, for people and their tools.
    pub user_data: Vec<u8>,
}

/// Shows whose it is, not what is in it: user-data has secrets.
impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Entry({}, {}, generation {}, {} bytes)", self.vm, self.ip, self.generation, self.size())
    }
}

/// Why an entry cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// It cannot be written as JSON, or is not the JSON of an instance. Of entries that were read it can only be that
    /// another release of waifud wrote it.
    #[error("the cached configuration of a VM cannot be read")]
    Config(#[source] serde_json::Error),
    /// A field is absent or is not what it should be.
    #[error("the cached entry has no usable field `{0}`")]
    Field(&'static str),
    /// It was not written by a node of this cluster.
    #[error("the cached entry was not written by a node of this cluster")]
    Forged,
}

impl Entry {
    /// What is cached of this instance.
    ///
    /// # Errors
    /// If the instance cannot be written as JSON.
    pub fn of(instance: &Instance, generation: Generation) -> Result<Self, EntryError> {
        let documents = Documents::render(instance);
        Ok(Self {
            vm: instance.id,
            ip: instance.ip,
            generation,
            instance: instance.instance,
            config: serde_json::to_string(instance).map_err(EntryError::Config)?,
            user_data: documents.nocloud("/user-data").map(|document| document.bytes().to_vec()).unwrap_or_default(),
        })
    }

    /// What the documents are rendered from.
    ///
    /// # Errors
    /// If another release wrote it in a way that this one does not know.
    pub fn to_instance(&self) -> Result<Instance, EntryError> {
        serde_json::from_str(&self.config).map_err(EntryError::Config)
    }

    /// Bytes of what takes most of them.
    pub(super) fn size(&self) -> usize {
        self.config.len() + self.user_data.len()
    }
}

/// Names keys, and signs and checks entries, for one cluster.
#[derive(Clone)]
pub(super) struct Seal {
    cluster: ClusterId,
    key: [u8; 32],
}

impl Seal {
    pub(super) fn new(cluster: ClusterId, secret: &[u8]) -> Self {
        Self { cluster, key: blake3::derive_key(CONTEXT, secret) }
    }

    pub(super) fn vm_key(&self, vm: VmId) -> String {
        format!("waifud:{}:ci:{vm}", self.cluster)
    }

    pub(super) fn ip_key(&self, ip: Ipv4Addr) -> String {
        format!("waifud:{}:ip:{ip}", self.cluster)
    }

    /// All fields of an entry that ends at `expires` (seconds since 1970), in the order of [`FIELDS`].
    pub(super) fn write(&self, entry: &Entry, expires: u64) -> [Vec<u8>; 8] {
        let mut fields = [
            entry.vm.to_string().into_bytes(),
            entry.ip.to_string().into_bytes(),
            entry.generation.to_string().into_bytes(),
            entry.instance.to_string().into_bytes(),
            expires.to_string().into_bytes(),
            entry.config.clone().into_bytes(),
            entry.user_data.clone(),
            Vec::new(),
        ];
        fields[7] = self.mac(&fields[..7]).to_hex().as_bytes().to_vec();
        fields
    }

    /// The entry that these fields are; none if it ended before `now`, whatever Redis thinks of that.
    pub(super) fn read(&self, fields: &[Option<Vec<u8>>], now: u64) -> Result<Option<Entry>, EntryError> {
        let named: HashMap<&str, &Vec<u8>> =
            FIELDS.iter().copied().zip(fields).filter_map(|(name, field)| Some((name, field.as_ref()?))).collect();
        if named.is_empty() {
            return Ok(None);
        }
        let mut present = Vec::with_capacity(FIELDS.len());
        for name in FIELDS {
            present.push(named.get(name).ok_or(EntryError::Field(name))?.as_slice());
        }
        // Nothing is parsed before it is known to be ours.
        let mac = std::str::from_utf8(present[7]).ok().and_then(|text| Hash::from_hex(text).ok());
        if mac != Some(self.mac(&present[..7])) {
            return Err(EntryError::Forged);
        }
        if parsed::<u64>(present[4], "expires")? <= now {
            return Ok(None);
        }
        Ok(Some(Entry {
            vm: parsed(present[0], "vm")?,
            ip: parsed(present[1], "ip")?,
            generation: Generation(parsed(present[2], "generation")?),
            instance: parsed(present[3], "instance")?,
            config: parsed(present[5], "config")?,
            user_data: present[6].to_vec(),
        }))
    }

    fn mac(&self, fields: &[impl AsRef<[u8]>]) -> Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let cluster = self.cluster.to_string();
        for field in std::iter::once(cluster.as_bytes()).chain(fields.iter().map(AsRef::as_ref)) {
            hasher.update(&u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(field);
        }
        hasher.finalize()
    }
}

fn parsed<T: FromStr>(bytes: &[u8], name: &'static str) -> Result<T, EntryError> {
    std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).ok_or(EntryError::Field(name))
}
