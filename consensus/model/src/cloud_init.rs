//! What a guest is told when it boots, as people gave it: documents for cloud-init, and how they are served. Rendering them is
//! another crate's business; here they are bytes with a bound.

use crate::{
    digest::Blake3,
    ids::{Generation, VmId},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// What one VM's guest is told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CloudInit {
    /// cloud-init user-data, byte for byte as it was given.
    pub user_data: Option<UserData>,
    /// cloud-init network-config, byte for byte; none means that the guest asks DHCP.
    pub network_config: Option<UserData>,
    /// OpenSSH public keys for the default user.
    pub ssh_keys: Vec<String>,
    /// As which cloud the guest is to know its host.
    pub datasource: Datasource,
    /// Which requests EC2's documents are given to.
    pub imds: Imds,
}

/// A part of what a guest is told that does not go with the rest: the field, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Contradiction {
    /// The field, as in the API.
    pub field: &'static str,
    /// The rule, and what would do.
    pub why: String,
}

impl CloudInit {
    /// Whether its parts go together.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), Contradiction> {
        let told = self.datasource;
        if self.network_config.is_some() && told != Datasource::NoCloud {
            let why = format!("the datasource {told} has no place for one; no_cloud has");
            return Err(Contradiction { field: "network_config", why });
        }
        if self.imds == Imds::V2 && told != Datasource::Ec2 {
            let why = format!("the datasource {told} knows no session tokens, so v2 would hide everything; ec2 does");
            return Err(Contradiction { field: "imds", why });
        }
        Ok(())
    }
}

/// What every guest of the cluster is told, beside its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CloudDefaults {
    /// User-data that each VM's own is merged over.
    pub user_data: Option<UserData>,
    /// Vendor-data; a VM's user may refuse it.
    pub vendor_data: Option<UserData>,
    /// Grows with every change; zero before the first.
    pub generation: Generation,
}

/// As which cloud a guest's host shows itself. All documents are served to every guest; this decides what the firmware
/// tells it, and so which of them a stock image asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Datasource {
    /// cloud-init's own, by the URL in the SMBIOS serial number.
    #[default]
    NoCloud,
    /// Amazon EC2: a UUID and serial number that begin with `ec2`.
    Ec2,
    /// OpenStack: the product name `OpenStack Nova`.
    OpenStack,
}

/// Which requests are answered with EC2's documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Imds {
    /// Plain ones (`IMDSv1`), and those with a session token (`IMDSv2`).
    #[default]
    Any,
    /// Only those with a session token: a server in the guest that is tricked into fetching a URL does not send one.
    V2,
}

macro_rules! words {
    ($name:ident, $what:literal, $(($value:ident, $word:literal)),+) => {
        impl $name {
            /// All there are, with the words of the API and of the command line.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$value, $word)),+];

            /// The word of the API and of the command line.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $word),+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = WordError;

            fn from_str(text: &str) -> Result<Self, WordError> {
                let found = Self::ALL.iter().find(|(_, word)| *word == text).map(|(value, _)| *value);
                found.ok_or_else(|| WordError { text: text.chars().take(40).collect(), what: $what })
            }
        }
    };
}

words!(
    Datasource,
    "a datasource (no_cloud, ec2 or open_stack)",
    (NoCloud, "no_cloud"),
    (Ec2, "ec2"),
    (OpenStack, "open_stack")
);
words!(Imds, "a version of the metadata service (any or v2)", (Any, "any"), (V2, "v2"));

/// A word that means nothing here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct WordError {
    text: String,
    what: &'static str,
}

/// What cloud-init tells a VM's `instance`th life from its others by, in EC2's form: `i-` and 17 hexadecimal digits.
///
/// The digits are the last 68 bits of the VM's id, all random but the two of the UUID's variant, with `instance`
/// exclusive-ored in: never the same for two lives of one VM, and none that two VMs would share by construction.
#[must_use]
pub fn instance_id(vm: VmId, instance: u32) -> String {
    let digits = (u128::from_be_bytes(*vm.as_bytes()) & ((1 << 68) - 1)) ^ u128::from(instance);
    format!("i-{digits:017x}")
}

/// cloud-init user-data. Its `Debug` form shows only the size: it often holds secrets, and logs must not.
#[derive(Clone, PartialEq, Eq)]
pub struct UserData(Vec<u8>);

/// A document is larger than any datasource serves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it has {0} bytes; at most {max} are allowed", max = UserData::MAX)]
pub struct UserDataTooLarge(pub usize);

impl UserData {
    /// 64 KiB, OpenStack's limit: a document of this size is served by every datasource but EC2's own cloud.
    pub const MAX: usize = 64 << 10;

    /// Takes the bytes as they are.
    ///
    /// # Errors
    /// If there are more than [`Self::MAX`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, UserDataTooLarge> {
        if bytes.len() > Self::MAX { Err(UserDataTooLarge(bytes.len())) } else { Ok(Self(bytes)) }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for UserData {
    type Error = UserDataTooLarge;

    fn try_from(bytes: Vec<u8>) -> Result<Self, UserDataTooLarge> {
        Self::new(bytes)
    }
}

impl Serialize for UserData {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        crate::bytes::serialize(&self.0, s)
    }
}

impl<'de> Deserialize<'de> for UserData {
    /// Through the constructor, as everything.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        crate::bytes::deserialize(d)
    }
}

impl From<UserData> for Vec<u8> {
    fn from(data: UserData) -> Self {
        data.0
    }
}

impl fmt::Debug for UserData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserData({} bytes, {})", self.0.len(), Blake3::of(&self.0).short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_is_not_printed() {
        let secret = UserData::new(b"password: hunter2".to_vec()).unwrap();
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert!(UserData::new(vec![0; UserData::MAX + 1]).is_err());
        let packed = rmp_serde::to_vec(&secret).unwrap();
        assert_eq!(rmp_serde::from_slice::<UserData>(&packed).unwrap(), secret);
        let large = rmp_serde::to_vec(&UserData(vec![0; UserData::MAX + 1])).unwrap();
        assert!(rmp_serde::from_slice::<UserData>(&large).is_err());
    }

    #[test]
    fn what_a_datasource_cannot_serve_is_found() {
        let told = |datasource, imds, config: bool| CloudInit {
            network_config: config.then(|| UserData::new(Vec::new()).unwrap()),
            datasource,
            imds,
            ..CloudInit::default()
        };
        let field = |told: CloudInit| told.check().err().map(|found| found.field);
        assert_eq!(field(told(Datasource::NoCloud, Imds::Any, true)), None);
        assert_eq!(field(told(Datasource::Ec2, Imds::V2, false)), None);
        assert_eq!(field(told(Datasource::Ec2, Imds::Any, true)), Some("network_config"));
        assert_eq!(field(told(Datasource::NoCloud, Imds::V2, false)), Some("imds"));
        assert_eq!(field(told(Datasource::OpenStack, Imds::V2, false)), Some("imds"));
    }

    #[test]
    fn each_life_has_an_id_of_its_own() {
        let id = |vm: u8, life| instance_id(VmId::from_random([vm; 16]), life);
        assert_eq!(id(2, 1), "i-28202020202020203");
        assert!(id(2, 1) != id(2, 2) && id(2, 1) != id(3, 1));
        assert_eq!(id(255, u32::MAX).len(), 19);
    }

    #[test]
    fn words_read_back_and_are_those_of_the_api() {
        for (value, word) in Datasource::ALL {
            assert_eq!(word.parse(), Ok(*value));
            assert_eq!(serde_json::to_string(value).unwrap(), format!("\"{word}\""));
        }
        for (value, word) in Imds::ALL {
            assert_eq!(word.parse(), Ok(*value));
            assert_eq!(serde_json::to_string(value).unwrap(), format!("\"{word}\""));
        }
        assert!("azure".parse::<Datasource>().is_err());
    }
}
