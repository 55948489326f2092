//! The closed sets of words that come from `waifud-model`, described for OpenAPI.
//!
//! The model knows nothing of HTTP, so its enums cannot describe themselves. Each type here stands for one of them in
//! `#[schema(value_type = …)]`; its words are those of the enum's own serde form, so they cannot drift from the wire.

use serde::Serialize;
use std::borrow::Cow;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

fn words<T: Serialize>(all: &[T]) -> RefOr<Schema> {
    let words = all.iter().filter_map(|value| serde_json::to_value(value).ok());
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).into()
}

/// Names every variant once: they fill the schema, and a `match` over them stops compiling when the model grows one.
macro_rules! words_of {
    ($(#[$doc:meta])* $name:ident = $model:path { $($variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl $name {
            const fn listed(value: $model) -> $model {
                use $model as Model;
                match value { $(Model::$variant)|+ => value }
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                use $model as Model;
                words(&[$($name::listed(Model::$variant)),+])
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }
    };
}

words_of!(
    /// [`waifud_model::observed::VmState`].
    VmState = waifud_model::observed::VmState {
        Pending, Fetching, Preparing, Running, Paused, Stopping, Stopped, Crashed, Failed, Deleting, Unknown
    }
);
words_of!(
    /// [`waifud_model::vm::Desired`].
    Desired = waifud_model::vm::Desired { Running, Stopped, Paused }
);
words_of!(
    /// [`waifud_model::vm::Phase`].
    Phase = waifud_model::vm::Phase { Live, Deleting }
);
words_of!(
    /// [`waifud_model::vm::RestartPolicy`].
    RestartPolicy = waifud_model::vm::RestartPolicy { OnFailure, Always, Never }
);
words_of!(
    /// [`waifud_model::hardware::Firmware`].
    Firmware = waifud_model::hardware::Firmware { Bios, Uefi }
);
words_of!(
    /// [`waifud_model::observed::Waiting`].
    Waiting = waifud_model::observed::Waiting { Cpus, Memory, Disks, Hardware, Cd, Network, CloudInit }
);
words_of!(
    /// [`waifud_model::cloud_init::Datasource`].
    Datasource = waifud_model::cloud_init::Datasource { NoCloud, Ec2, OpenStack }
);
words_of!(
    /// [`waifud_model::cloud_init::Imds`].
    Imds = waifud_model::cloud_init::Imds { Any, V2 }
);
words_of!(
    /// [`waifud_model::observed::Sighting`].
    Sighting = waifud_model::observed::Sighting { Lease, Arp, Agent, Metadata }
);
words_of!(
    /// [`waifud_model::node::Arch`].
    Arch = waifud_model::node::Arch { X86_64, Aarch64 }
);
words_of!(
    /// [`waifud_model::template::ImageFormat`].
    ImageFormat = waifud_model::template::ImageFormat { Qcow2, Raw, Iso }
);
words_of!(
    /// [`waifud_model::token::Role`].
    Role = waifud_model::token::Role { Viewer, Operator, Admin }
);
words_of!(
    /// [`waifud_model::event::EventKind`].
    EventKind = waifud_model::event::EventKind {
        Created, Changed, Deleting, Deleted, Started, Stopped, Crashed, Failed, Opened
    }
);
words_of!(
    /// [`waifud_model::event::SubjectKind`].
    SubjectKind = waifud_model::event::SubjectKind { Cluster, Node, Vm, Template, Token, Peer }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_wire() {
        let schema = serde_json::to_value(Arch::schema()).unwrap();
        assert_eq!(schema, serde_json::json!({ "type": "string", "enum": ["x86_64", "aarch64"] }));
    }
}
