//! Records for the tests of this room.

use std::net::Ipv4Addr;
use waifud_model::{
    command::CreateVm,
    digest::{Blake3, Sha256},
    ids::{NodeId, VmId},
    size::ByteSize,
    template::{ImageFormat, Source, TemplateVersion},
    time::Timestamp,
    vm::{Desired, ImageRef, Vm, VmSpec},
};

pub(crate) fn image() -> TemplateVersion {
    TemplateVersion {
        template: "debian-12".parse().unwrap(),
        version: Blake3::of(b"debian"),
        sha256: Sha256([0; 32]),
        size: ByteSize::mib(12),
        virtual_size: ByteSize::gib(2),
        format: ImageFormat::Qcow2,
        source: Source::Upload,
        origin: NodeId::from_random(1),
        added_at: Timestamp(0),
    }
}

/// What may be in a CD drive.
pub(crate) fn cd() -> TemplateVersion {
    TemplateVersion {
        template: "installer".parse().unwrap(),
        version: Blake3::of(b"installer"),
        virtual_size: ByteSize::mib(12),
        format: ImageFormat::Iso,
        ..image()
    }
}

/// A VM that shall run, of the first generation.
pub(crate) fn vm(seed: u8) -> Vm {
    let image = ImageRef { template: "debian-12".parse().unwrap(), version: image().version };
    let create = CreateVm {
        id: VmId::from_random([seed; 16]),
        name: format!("web-{seed}").parse().unwrap(),
        node: NodeId::from_random(1),
        spec: VmSpec::new(1, ByteSize::gib(1), ByteSize::gib(10), image),
        desired: Desired::Running,
    };
    create.record(Ipv4Addr::new(10, 77, 1, seed), Timestamp(0))
}
