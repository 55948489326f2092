//! cloud-init user-data in a request: text where it is text, base64 where it is not (gzip, some MIME parts).
//!
//! It often holds secrets. So it goes in only; what comes out is [`UserDataInfo`], its digest and size.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use utoipa::ToSchema;
use waifud_model::{
    cloud_init::{UserData, UserDataTooLarge},
    digest::Blake3,
};

/// User-data on its way in. JSON: the text itself, or `{"base64": "…"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserDataIn(pub UserData);

/// The two forms in JSON.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
enum Form {
    /// The document, byte for byte.
    Text(String),
    /// The document in standard base64 with padding.
    Encoded { base64: String },
}

impl UserDataIn {
    /// Takes the bytes as they are.
    ///
    /// # Errors
    /// If there are more than [`UserData::MAX`].
    pub fn new(bytes: Vec<u8>) -> Result<Self, UserDataTooLarge> {
        UserData::new(bytes).map(Self)
    }
}

impl Serialize for UserDataIn {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0.as_bytes()) {
            Ok(text) => s.serialize_str(text),
            Err(_) => Form::Encoded { base64: STANDARD.encode(self.0.as_bytes()) }.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for UserDataIn {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let bytes =
            match Form::deserialize(d).map_err(|_| D::Error::custom("expected a text or {\"base64\": \"…\"}"))? {
                Form::Text(text) => text.into_bytes(),
                Form::Encoded { base64 } => {
                    STANDARD.decode(base64).map_err(|e| D::Error::custom(format!("base64: {e}")))?
                }
            };
        Self::new(bytes).map_err(D::Error::custom)
    }
}

impl utoipa::PartialSchema for UserDataIn {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        Form::schema()
    }
}

impl ToSchema for UserDataIn {
    fn name() -> std::borrow::Cow<'static, str> {
        std::borrow::Cow::Borrowed("UserData")
    }
}

/// What may be known of a VM's user-data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserDataInfo {
    /// BLAKE3 of the bytes.
    #[schema(value_type = String)]
    pub digest: Blake3,
    /// How many bytes.
    pub size: u64,
}

impl From<&UserData> for UserDataInfo {
    fn from(data: &UserData) -> Self {
        Self { digest: Blake3::of(data.as_bytes()), size: data.as_bytes().len() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_in_either_form() {
        for (bytes, json) in
            [(b"#cloud-config\n".to_vec(), r##""#cloud-config\n""##), (vec![0x1f, 0x8b, 0xff], r#"{"base64":"H4v/"}"#)]
        {
            let data = UserDataIn::new(bytes).unwrap();
            assert_eq!(serde_json::to_string(&data).unwrap(), json);
            assert_eq!(serde_json::from_str::<UserDataIn>(json).unwrap(), data);
        }
        for bad in ["3", r#"{"base64":"%"}"#, r#"{"base32":"x"}"#] {
            assert!(serde_json::from_str::<UserDataIn>(bad).is_err(), "{bad}");
        }
    }
}
