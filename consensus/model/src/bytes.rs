//! Bytes as bytes: serde takes a `Vec<u8>` or `[u8; N]` for a list of numbers, which MessagePack writes with two bytes
//! for every byte over 127. For `#[serde(with = "crate::bytes")]`; JSON, which has no bytes, keeps the list.

use serde::{
    Deserializer, Serializer,
    de::{self, SeqAccess, Visitor},
};
use std::{fmt, marker::PhantomData};

/// Capacity is never reserved for more than this on the word of an input.
const TRUSTED: usize = 4096;

pub(crate) fn serialize<S: Serializer>(bytes: &impl AsRef<[u8]>, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_bytes(bytes.as_ref())
}

pub(crate) fn deserialize<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<Vec<u8>>,
{
    d.deserialize_byte_buf(Bytes(PhantomData))
}

struct Bytes<T>(PhantomData<T>);

impl<'de, T: TryFrom<Vec<u8>>> Visitor<'de> for Bytes<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes of the right number")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<T, E> {
        self.visit_byte_buf(bytes.to_vec())
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<T, E> {
        let len = bytes.len();
        T::try_from(bytes).map_err(|_| E::invalid_length(len, &"bytes of the right number"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
        let mut bytes = Vec::with_capacity(list.size_hint().unwrap_or(0).min(TRUSTED));
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        self.visit_byte_buf(bytes)
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Record {
        #[serde(with = "crate::bytes")]
        many: Vec<u8>,
        #[serde(with = "crate::bytes")]
        four: [u8; 4],
    }

    #[test]
    fn bytes_are_compact_and_read_back_everywhere() {
        let record = Record { many: vec![200; 1000], four: [255; 4] };
        let packed = rmp_serde::to_vec_named(&record).unwrap();
        assert!(packed.len() < 1030, "{}", packed.len());
        assert_eq!(rmp_serde::from_slice::<Record>(&packed).unwrap(), record);
        let json = serde_json::to_string(&record).unwrap();
        assert!(json.ends_with(r#""four":[255,255,255,255]}"#));
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
        assert!(serde_json::from_str::<Record>(r#"{"many":[],"four":[1,2,3]}"#).is_err());
    }
}
