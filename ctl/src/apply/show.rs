//! A plan for eyes.

use super::{
    compare::Field,
    plan::{Action, Plan, Step},
    read::Image,
};
use crate::{
    commands::create::reasons,
    output::{Tone, printable},
};
use std::{collections::BTreeMap, fmt::Write as _};
use waifud_api::vm::VmCreate;

/// Longest value that is shown whole; labels and descriptions can be pages.
const VALUE_MAX: usize = 60;

/// The whole plan, one object after the other, and what it comes to.
pub(crate) fn plan(plan: &Plan, colour: bool) -> String {
    let mut text = String::new();
    let width = plan.steps.iter().map(|step| step.object.to_string().chars().count()).max().unwrap_or(0);
    for step in &plan.steps {
        one(&mut text, step, width, colour);
    }
    text.push_str(&counts(plan));
    text.push('\n');
    text
}

fn one(text: &mut String, step: &Step, width: usize, colour: bool) {
    let (mark, tone) = match &step.action {
        Action::AddVersion { .. } | Action::Create { .. } => ("+", Tone::Good),
        Action::Change { .. } | Action::Label { .. } => ("~", Tone::Warn),
        Action::Delete { .. } => ("-", Tone::Bad),
        Action::Unchanged => ("=", Tone::Plain),
        Action::Cannot { .. } => ("!", Tone::Bad),
    };
    let what = match &step.action {
        Action::AddVersion { image, .. } => from(image),
        Action::Create { request, placement, .. } => {
            let place = placement.as_ref().map(|placement| format!("; on {}: {}", placement.node, reasons(placement)));
            format!("{}{}", made_of(request), place.unwrap_or_default())
        }
        Action::Change { vm, .. } => format!("on {}", vm.node),
        Action::Label { .. } => "labels".to_owned(),
        Action::Delete { vm } => format!("on {}, disk {}: in no file", vm.node, vm.disk),
        Action::Unchanged => "unchanged".to_owned(),
        Action::Cannot { .. } => "cannot be done".to_owned(),
    };
    let object = step.object.to_string();
    let _ = writeln!(text, "{} {object:width$}  {}", tone.paint(mark, colour), printable(&what));
    let (fields, why): (&[Field], &[String]) = match &step.action {
        Action::Change { difference, .. } => (&difference.fields, &[]),
        Action::Label { fields, .. } => (fields, &[]),
        Action::Cannot { fields, why, .. } => (fields, why),
        _ => (&[], &[]),
    };
    self::fields(text, fields, colour);
    for why in why {
        let _ = writeln!(text, "    {}", Tone::Bad.paint(&printable(why), colour));
    }
    for note in &step.notes {
        let _ = writeln!(text, "    note: {}", printable(note));
    }
}

fn fields(text: &mut String, fields: &[Field], colour: bool) {
    let width = fields.iter().map(|field| field.field.chars().count()).max().unwrap_or(0);
    for field in fields {
        let value = |value: &Option<String>| value.as_deref().map_or_else(|| "(none)".to_owned(), short);
        let takes = field.takes.and_then(super::compare::Takes::words).map(|words| format!("  ({words})"));
        let lost = field.new.is_none() && field.field.starts_with("disks.");
        let lost = if lost { Tone::Bad.paint("  with all that is on it", colour) } else { String::new() };
        let (old, new) = (value(&field.old), value(&field.new));
        let _ =
            writeln!(text, "    {:width$}  {old} → {new}{lost}{}", printable(&field.field), takes.unwrap_or_default());
    }
}

fn short(value: &str) -> String {
    let value = printable(value);
    match value.char_indices().nth(VALUE_MAX) {
        Some((at, _)) => format!("{}…", value.get(..at).unwrap_or_default()),
        None => value,
    }
}

fn from(image: &Image) -> String {
    match image {
        Image::Url { url, sha256 } => format!("a version from {url}, SHA-256 {}", sha256.short()),
        Image::File { path, sha256 } => {
            let sha256 = sha256.map(|sha256| format!(", SHA-256 {}", sha256.short())).unwrap_or_default();
            format!("a version from {}{sha256}", path.display())
        }
    }
}

/// `debian-12, 2 CPUs, 4 GiB, disk 20 GiB, not started`.
fn made_of(request: &VmCreate) -> String {
    let cpus = if request.cpus == 1 { "1 CPU".to_owned() } else { format!("{} CPUs", request.cpus) };
    let mut words = vec![request.template.to_string(), cpus, request.memory.to_string()];
    words.extend(request.disk.map(|disk| format!("disk {disk}")));
    words.extend(request.disks.iter().map(|(name, size)| format!("{name} {size}")));
    words.extend((!request.start).then(|| "not started".to_owned()));
    words.join(", ")
}

/// `1 to create, 2 to change, 3 unchanged`.
fn counts(plan: &Plan) -> String {
    let mut counts = BTreeMap::<u8, (usize, &str)>::new();
    for step in &plan.steps {
        let words = match &step.action {
            Action::AddVersion { .. } => "template versions to add",
            Action::Create { .. } => "to create",
            Action::Change { .. } | Action::Label { .. } => "to change",
            Action::Delete { .. } => "to delete",
            Action::Unchanged => "unchanged",
            Action::Cannot { .. } => "that cannot be done",
        };
        counts.entry(step.action.rank()).or_insert((0, words)).0 += 1;
    }
    let one = |words: &str| words.replace("versions", "version");
    let words: Vec<_> = counts
        .values()
        .map(|(count, words)| if *count == 1 { format!("1 {}", one(words)) } else { format!("{count} {words}") })
        .collect();
    words.join(", ")
}

#[cfg(test)]
mod tests;
