//! The documents of one VM, rendered once and then only looked up.
//!
//! In: an [`Instance`]. Out: [`Document`]s by the path a guest asks for. Paths are taken as they stand in the request
//! line, without the query; empty segments do not count, so `//user-data` is `/user-data`. Nothing is decoded: a path
//! that is spelled otherwise than cloud-init spells it is not found. A lookup never creates anything.

use crate::{Instance, InstanceId, ec2, merge, nocloud, openstack};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::{collections::BTreeMap, fmt, io, sync::Arc};
use waifud_model::{cloud_init::Imds, ids::VmId};

/// One document.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    bytes: Arc<[u8]>,
    content_type: &'static str,
}

/// Shows the size only: a document may be user-data.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({}, {} bytes)", self.content_type, self.bytes.len())
    }
}

impl Document {
    /// The body.
    #[must_use]
    pub const fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// The value of `Content-Type`.
    #[must_use]
    pub const fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// A line or a listing.
    pub(crate) fn text(text: impl AsRef<str>) -> Self {
        Self { bytes: text.as_ref().as_bytes().into(), content_type: "text/plain; charset=utf-8" }
    }

    /// What a person gave, byte for byte: of no type, so that nobody reads it as what it is not.
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), content_type: "application/octet-stream" }
    }

    /// JSON that YAML parsers take for the same value.
    ///
    /// `value` must be a struct or of such: the order of `serde_json`'s own maps depends on features that any crate of
    /// the build can switch on.
    pub(crate) fn json(value: &impl Serialize) -> Self {
        Self { bytes: json(value).into(), content_type: "application/json" }
    }
}

/// Paths, without leading or trailing slash, and what is found there.
pub(crate) type Paths = BTreeMap<String, Document>;

/// All documents of one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    vm: VmId,
    instance_id: InstanceId,
    life: u32,
    openstack_uuid: String,
    imds: Imds,
    nocloud: Paths,
    ec2: Paths,
    openstack: Paths,
}

impl Documents {
    /// Renders everything. The same instance gives the same bytes, on every node.
    #[must_use]
    pub fn render(instance: &Instance) -> Self {
        let user_data = merge::user_data(instance.defaults.user_data.as_ref(), instance.cloud_init.user_data.as_ref());
        let user_data = user_data.as_deref();
        Self {
            vm: instance.id,
            instance_id: instance.instance_id(),
            life: instance.instance,
            openstack_uuid: instance.openstack_uuid(),
            imds: instance.cloud_init.imds,
            nocloud: nocloud::render(instance, user_data),
            ec2: ec2::render(instance, user_data),
            openstack: openstack::render(instance, user_data),
        }
    }

    /// Whose they are.
    #[must_use]
    pub const fn vm(&self) -> VmId {
        self.vm
    }

    /// Which life of the VM they are for.
    #[must_use]
    pub const fn instance_id(&self) -> &InstanceId {
        &self.instance_id
    }

    /// The same as a number.
    #[must_use]
    pub const fn life(&self) -> u32 {
        self.life
    }

    /// Is this what cloud-init remembers that life by, from whichever datasource?
    #[must_use]
    pub fn is_for(&self, instance_id: &str) -> bool {
        instance_id == self.instance_id.as_str() || instance_id == self.openstack_uuid
    }

    /// Which requests for [`Self::ec2`] may be answered.
    #[must_use]
    pub const fn imds(&self) -> Imds {
        self.imds
    }

    /// NoCloud: `/meta-data`, `/user-data`, `/vendor-data` and `/network-config`, a slash more or less.
    ///
    /// All four are always there: what the VM does not have is empty.
    #[must_use]
    pub fn nocloud(&self, path: &str) -> Option<&Document> {
        self.nocloud.get(&segments(path).join("/"))
    }

    /// EC2: `/` and everything under `/latest` and the dated versions. A folder is found with and without the slash at
    /// its end, a leaf only without.
    #[must_use]
    pub fn ec2(&self, path: &str) -> Option<&Document> {
        let mut segments = segments(path);
        // Every version has the same tree, which is kept once; a path without a version is the list of them.
        if let Some(version) = segments.first_mut() {
            if !ec2::VERSIONS.contains(version) {
                return None;
            }
            *version = ec2::LATEST;
        }
        let folder = segments.join("/") + "/";
        let leaf = || folder.strip_suffix('/').filter(|_| !path.ends_with('/'));
        self.ec2.get(folder.as_str()).or_else(|| self.ec2.get(leaf()?))
    }

    /// OpenStack: `/openstack`, its versions, and the files of each.
    #[must_use]
    pub fn openstack(&self, path: &str) -> Option<&Document> {
        let mut segments = segments(path);
        if let Some(version) = segments.get_mut(1) {
            if !openstack::VERSIONS.contains(version) {
                return None;
            }
            *version = openstack::LATEST;
        }
        self.openstack.get(&segments.join("/"))
    }
}

fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|s| !s.is_empty()).collect()
}

fn json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = value.serialize(&mut Serializer::with_formatter(&mut bytes, YamlSafe(PrettyFormatter::new())));
    // Writing structs of strings and numbers into memory cannot fail: there is no I/O and no key that is not a string.
    debug_assert!(written.is_ok(), "{written:?}");
    bytes.push(b'\n');
    bytes
}

/// JSON whose strings mean the same to PyYAML.
///
/// JSON leaves some characters as they are that YAML 1.1 refuses or folds into a space (PyYAML 6 `reader.py`
/// `NON_PRINTABLE`, `scanner.py` `scan_line_break`); they are written as escapes. Others beyond ASCII stay: escapes of
/// surrogates, which JSON would need for some, are two characters to PyYAML.
struct YamlSafe(PrettyFormatter<'static>);

impl YamlSafe {
    const fn must_escape(c: char) -> bool {
        matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    }
}

impl Formatter for YamlSafe {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for c in fragment.chars() {
            if Self::must_escape(c) {
                write!(writer, "\\u{:04x}", u32::from(c))?;
            } else {
                writer.write_all(c.encode_utf8(&mut [0; 4]).as_bytes())?;
            }
        }
        Ok(())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests;
