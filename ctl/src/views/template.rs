//! Templates and their versions.

use crate::output::{Cell, Column, Details, Look, Row};
use serde::Serialize;
use waifud_api::template::{Template, TemplateVersion};
use waifud_model::template::ImageFormat;

impl Row for Template {
    const COLUMNS: &'static [Column] = &[
        Column::text("NAME"),
        Column::text("VERSION"),
        Column::number("VERSIONS"),
        Column::number("SIZE"),
        Column::number("DISK"),
        Column::number("VMS"),
        Column::text("NODES"),
        Column::text("ADDED"),
    ];

    /// Version, sizes and age are those of the newest, which the name stands for.
    fn cells(&self, look: &Look) -> Vec<Cell> {
        let newest = self.versions.first();
        let of = |show: &dyn Fn(&TemplateVersion) -> String| newest.map_or_else(|| "-".to_owned(), show);
        vec![
            self.name.to_string().into(),
            of(&|version| look.digest(version.version)).into(),
            self.versions.len().to_string().into(),
            of(&|version| look.size(version.size)).into(),
            of(&|version| look.size(version.virtual_size)).into(),
            self.versions.iter().map(|version| version.vms).sum::<u32>().to_string().into(),
            of(&|version| look.words(&version.nodes)).into(),
            of(&|version| look.since(Some(version.added_at))).into(),
        ]
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}

/// A version of a template as a row.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct VersionRow(pub(crate) TemplateVersion);

impl Row for VersionRow {
    const COLUMNS: &'static [Column] = &[
        Column::text("VERSION"),
        Column::number("SIZE"),
        Column::number("DISK"),
        Column::text("FORMAT"),
        Column::number("VMS"),
        Column::text("NODES"),
        Column::text("ADDED"),
        Column::wide("SOURCE"),
        Column::wide("SHA256"),
    ];

    fn cells(&self, look: &Look) -> Vec<Cell> {
        let version = &self.0;
        vec![
            look.digest(version.version).into(),
            look.size(version.size).into(),
            look.size(version.virtual_size).into(),
            format(version).into(),
            version.vms.to_string().into(),
            look.words(&version.nodes).into(),
            look.since(Some(version.added_at)).into(),
            version.url.as_deref().unwrap_or("upload").into(),
            version.sha256.to_string().into(),
        ]
    }

    /// As it is given to `create` and `template delete`.
    fn name(&self) -> String {
        format!("{}@{}", self.0.template, self.0.version)
    }
}

const fn format(version: &TemplateVersion) -> &'static str {
    match version.format {
        ImageFormat::Qcow2 => "qcow2",
        ImageFormat::Raw => "raw",
        ImageFormat::Iso => "iso",
    }
}

/// All that is known of a version.
pub(crate) fn details(version: &TemplateVersion, look: &Look) -> Details {
    Details::default()
        .with("template", &version.template)
        .with("version", version.version)
        .with("sha256", version.sha256)
        .with("size", look.size(version.size))
        .with("disk", look.size(version.virtual_size))
        .with("format", format(version))
        .with("source", version.url.as_deref().unwrap_or("upload"))
        .with("nodes", look.words(&version.nodes))
        .with("vms", version.vms)
        .with("added", look.since(Some(version.added_at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        output::{Format, Out, Terminal},
        views::vm::tests::look,
    };
    use expect_test::expect;

    fn version() -> TemplateVersion {
        serde_json::from_str(
            r#"{
                "template": "tiny", "version": "9f3c21ab01cd0000000000000000000000000000000000000000000000000000",
                "sha256": "00000000000000000000000000000000000000000000000000000000000000ff", "size": 12582912,
                "virtual_size": 67108864, "format": "qcow2", "url": null, "nodes": ["n1", "n3"], "vms": 2,
                "added_at": "2026-03-01T12:00:00Z"
            }"#,
        )
        .unwrap()
    }

    #[test]
    fn templates_and_versions() {
        let out = |format| Out::of(format, look(true), Terminal { out: true, ..Terminal::default() });
        let templates = [Template { name: "tiny".parse().unwrap(), versions: vec![version(), version()] }];
        expect![[r#"
            NAME  VERSION       VERSIONS    SIZE    DISK  VMS  NODES  ADDED
            tiny  9f3c21ab01cd         2  12 MiB  64 MiB    4  n1,n3  1h
        "#]]
        .assert_eq(&out(None).list_text(&templates).unwrap());
        expect![[r#"
            VERSION         SIZE    DISK  FORMAT  VMS  NODES  ADDED  SOURCE  SHA256
            9f3c21ab01cd  12 MiB  64 MiB  qcow2     2  n1,n3  1h     upload  00000000000000000000000000000000000000000000000000000000000000ff
        "#]].assert_eq(&out(Some(Format::Wide)).list_text(&[VersionRow(version())]).unwrap());
    }
}
