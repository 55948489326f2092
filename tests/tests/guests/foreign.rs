//! A domain that somebody else made on a host, under a name and UUID that look like ours: without our mark it is none of our
//! business.

use super::guest::virsh;
use anyhow::{Result, ensure};
use std::fs;
use waifud_tests::lab::Host;

const XML: &str = include_str!("foreign.xml");
const NAME: &str = "ec2f0f0f-0f0f-4f0f-8f0f-0f0f0f0f0f0f";

/// The domain, and how it was when it was started.
#[derive(Debug)]
pub(crate) struct Foreign {
    as_made: Looks,
}

#[derive(Debug, PartialEq, Eq)]
struct Looks {
    definition: String,
    state: String,
    process: String,
}

impl Foreign {
    /// Defines it and starts it.
    pub(crate) fn start(host: &Host) -> Result<Self> {
        fs::write(host.path("/var/lib/libvirt/foreign.xml"), XML)?;
        virsh(host, &["define", "/var/lib/libvirt/foreign.xml"])?;
        virsh(host, &["start", NAME])?;
        Ok(Self { as_made: look(host)? })
    }

    /// Fails if anything has happened to it.
    pub(crate) fn is_untouched(&self, host: &Host) -> Result<()> {
        let now = look(host)?;
        ensure!(now == self.as_made, "somebody else's domain is not as it was: {now:?}, but was {:?}", self.as_made);
        Ok(())
    }

    /// Its line in a list of domains.
    pub(crate) fn name(&self) -> &'static str {
        NAME
    }
}

fn look(host: &Host) -> Result<Looks> {
    Ok(Looks {
        definition: virsh(host, &["dumpxml", "--inactive", NAME])?,
        state: virsh(host, &["domstate", "--reason", NAME])?,
        process: fs::read_to_string(host.path(&format!("/run/libvirt/qemu/{NAME}.pid")))?,
    })
}
