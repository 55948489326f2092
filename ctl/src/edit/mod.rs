//! Changing documents of the cluster: in an editor, or at once from files. Nothing somebody wrote is ever lost, and nothing
//! somebody else changed in between is overwritten unseen.
//!
//! ```text
//!             ┌───────────────────────────────────────────────── put together, marked where both changed the same ──┐
//!             v                                                                                                     │
//!   read ──> draft ──> editor ──> save ──┬── taken                                                                  │
//!             ^                          ├── changed in between: read again ──┬── this text did not: save once more │
//!             └── with the refusal on top┼── refused                          └── it did ────────────────────────────┘
//!                                        └── anything else: the text is kept, and its place told
//! ```
//!
//! In: a [`Target`], which knows what is edited and how it is asked for. It decides nothing about what a document may say: that
//! is the server's.

mod draft;
mod merge;
mod notes;
mod program;

use crate::{confirm, context::Context, exit::Failure};
use draft::Draft;
use program::Editor;
use std::{future::Future, path::Path};
use waifud_api::{
    cloud_init::CloudInitSaved,
    exit::Exit,
    problem::{Problem, ProblemCode},
    user_data::UserDataIn,
};
use waifud_model::ids::Generation;

/// How often a change is made again to what was changed meanwhile without touching the same documents. A start or a stop in
/// between is one such change; this many within one moment are not a person's.
const TRIES: usize = 5;
/// What an empty document begins with in the editor.
const BLANK: &str = "#cloud-config\n";

/// What is edited.
pub(crate) trait Target {
    /// The documents that are read and replaced as a whole.
    type Documents: Clone + PartialEq;

    /// The edited text, for people: `user-data of web-1`.
    fn what(&self) -> String;
    /// The same in one word, for the name of a file.
    fn stem(&self) -> String;
    /// The edited text among the documents.
    fn text<'a>(&self, documents: &'a Self::Documents) -> Option<&'a UserDataIn>;
    /// Puts another text there, or takes it away.
    fn set_text(&self, documents: &mut Self::Documents, text: Option<UserDataIn>);
    /// Has the person choose what is still open, once it is known that something changes; not if the documents would be refused
    /// anyway.
    fn decide(
        &mut self,
        context: &Context,
        documents: &Self::Documents,
        expect: Generation,
    ) -> impl Future<Output = Result<(), Failure>>;
    /// The documents, and of which generation they are.
    fn read(&self, context: &Context) -> impl Future<Output = Result<(Self::Documents, Generation), Failure>>;
    /// Replaces them, if they still are of this generation.
    fn save(
        &self,
        context: &Context,
        documents: &Self::Documents,
        expect: Generation,
    ) -> impl Future<Output = Result<CloudInitSaved, Failure>>;
    /// How to go on with a text that is kept in a file.
    fn again(&self, path: &Path) -> String;
}

/// Makes `change` to the documents, without a person. None if nothing changes by it and `always` does not ask for it.
pub(crate) async fn at_once<T: Target>(
    context: &Context,
    target: &mut T,
    change: impl Fn(&mut T::Documents),
    always: bool,
) -> Result<Option<CloudInitSaved>, Failure> {
    let (base, mut generation) = target.read(context).await?;
    let mut wanted = base.clone();
    change(&mut wanted);
    if wanted == base && !always {
        return Ok(None);
    }
    target.decide(context, &wanted, generation).await?;
    for _ in 0..TRIES {
        match target.save(context, &wanted, generation).await {
            Err(failure) if is(&failure, ProblemCode::Stale) => {
                let (now, at) = target.read(context).await?;
                if now != base {
                    tell_difference(context, target, &base, &now);
                    return Err(failure);
                }
                generation = at;
            }
            end => return end.map(Some),
        }
    }
    Err(restless(&target.what()))
}

/// Keeps a text that exists nowhere else, because it came through a pipe, if it came to nothing.
pub(crate) fn keep<T: Target>(target: &T, text: &UserDataIn, failure: Failure) -> Failure {
    let Ok(text) = std::str::from_utf8(text.0.as_bytes()) else { return failure };
    match Draft::new(&target.stem(), text, "") {
        Ok(draft) => draft.keep(failure, |path| target.again(path)),
        Err(_) => failure,
    }
}

/// Has a person change the text in an editor. None if they changed nothing.
pub(crate) async fn by_hand<T: Target>(context: &Context, target: &mut T) -> Result<Option<CloudInitSaved>, Failure> {
    let editor = Editor::find()?;
    let (documents, generation) = target.read(context).await?;
    let text = text_of(target, &documents)?;
    let given = if text.is_empty() { BLANK.to_owned() } else { text.clone() };
    let draft = Draft::new(&target.stem(), &given, &given)?;
    let mut work = Work { context, editor, documents, generation, text, given, draft, mine: None, refused: None };
    match work.through(target).await {
        Ok(saved) => Ok(saved),
        Err(failure) => Err(work.draft.keep(failure, |path| target.again(path))),
    }
}

/// A text in an editor, and what it is to become part of.
struct Work<'a, D> {
    context: &'a Context,
    editor: Editor,
    /// The documents it was made from, and their generation.
    documents: D,
    generation: Generation,
    /// The text among them.
    text: String,
    /// What the editor was first opened with.
    given: String,
    draft: Draft,
    /// The text as it was before another's change was put into it; kept until the end.
    mine: Option<Draft>,
    /// The text that was refused last.
    refused: Option<String>,
}

impl<D: Clone + PartialEq> Work<'_, D> {
    async fn through<T: Target<Documents = D>>(&mut self, target: &mut T) -> Result<Option<CloudInitSaved>, Failure> {
        loop {
            self.editor.open(self.draft.path(), self.context.terminal).await?;
            let text = self.draft.text()?;
            if text == self.given || text == self.text {
                return Ok(None);
            }
            if merge::is_marked(&text) {
                let words = "Both changes are marked below; leave of each what is to stay, and take the marks out.";
                self.refuse(&text, words.to_owned(), || Failure::Ended {
                    exit: Exit::Conflict,
                    message: "both changes are still marked".to_owned(),
                    hint: None,
                })
                .await?;
                continue;
            }
            let document = match document(&text) {
                Ok(document) => document,
                Err(words) => {
                    self.refuse(&text, words.clone(), || Failure::Usage(words.clone())).await?;
                    continue;
                }
            };
            if document.is_none() {
                confirm::agree(self.context, &format!("The text is empty. Take the {} away?", target.what())).await?;
            }
            match self.save(target, document).await {
                Err(failure) if is(&failure, ProblemCode::Stale) => self.meet(target, &text).await?,
                Err(failure) if is_refusal(&failure) => {
                    let words = failure.problem().map(said).unwrap_or_default();
                    self.refuse(&text, words, move || failure).await?;
                }
                end => return end.map(Some),
            }
        }
    }

    /// Saves, and saves again where only something else was changed in between.
    async fn save<T: Target<Documents = D>>(
        &mut self,
        target: &mut T,
        document: Option<UserDataIn>,
    ) -> Result<CloudInitSaved, Failure> {
        for _ in 0..TRIES {
            let mut wanted = self.documents.clone();
            target.set_text(&mut wanted, document.clone());
            target.decide(self.context, &wanted, self.generation).await?;
            match target.save(self.context, &wanted, self.generation).await {
                Err(failure) if is(&failure, ProblemCode::Stale) => {
                    let (now, at) = target.read(self.context).await?;
                    let same = text_of(target, &now)? == self.text;
                    if !same {
                        return Err(failure);
                    }
                    (self.documents, self.generation) = (now, at);
                }
                end => return end,
            }
        }
        Err(restless(&target.what()))
    }

    /// Somebody else changed the same text in between: both changes go into the draft.
    async fn meet<T: Target<Documents = D>>(&mut self, target: &T, mine: &str) -> Result<(), Failure> {
        let (now, at) = target.read(self.context).await?;
        let theirs = text_of(target, &now)?;
        tell_difference(self.context, target, &self.documents, &now);
        let merged = merge::merge(&self.text, mine, &theirs);
        let kept = Draft::new(&format!("{}-mine", target.stem()), mine, "")?;
        let how = if merged.clean {
            "Both changes are in the text below; look whether they go together, and save."
        } else {
            "Both changes are marked below; leave of each what is to stay, and take the marks out."
        };
        let words = vec![
            format!("Somebody else changed the {} in between.", target.what()),
            how.to_owned(),
            format!("Your text alone is in {} until this is done.", kept.path().display()),
        ];
        self.draft.put(&words, &merged.text)?;
        (self.documents, self.generation, self.text) = (now, at, theirs);
        (self.mine, self.refused) = (Some(kept), None);
        // It is no longer what nobody wrote, even if it is left as it is.
        self.given = String::new();
        Ok(())
    }

    /// Puts the refusal on top of the text for the next round. The same text twice, or a person who has had enough, ends it.
    async fn refuse(&mut self, text: &str, words: String, end: impl FnOnce() -> Failure) -> Result<(), Failure> {
        if self.refused.as_deref() == Some(text) {
            return Err(end());
        }
        self.refused = Some(text.to_owned());
        words.lines().for_each(|line| self.context.hint(line));
        if text.starts_with("#cloud-config") {
            let how = "Lines are counted from #cloud-config on. Left as it is, the text is kept and the cluster is not changed.";
            return self.draft.put(&[words, how.to_owned()], text);
        }
        // In a script or a MIME message there is no place for words of ours.
        self.draft.put(&[], text)?;
        match confirm::ask("Edit it again? [Y/n] ").await?.as_deref() {
            Some("" | "y" | "Y" | "yes") => Ok(()),
            _ => Err(end()),
        }
    }
}

/// The text among the documents, where it is text.
fn text_of<T: Target>(target: &T, documents: &T::Documents) -> Result<String, Failure> {
    let bytes = target.text(documents).map(|data| data.0.as_bytes()).unwrap_or_default();
    String::from_utf8(bytes.to_vec()).map_err(|_| {
        let message = format!("the {} is no text (compressed, perhaps) and cannot be edited by hand", target.what());
        Failure::ended(Exit::Failed, message, "give all of it with --file")
    })
}

/// The text as a document; none for an empty one. Or why it cannot be sent.
fn document(text: &str) -> Result<Option<UserDataIn>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    UserDataIn::new(text.as_bytes().to_vec()).map(Some).map_err(|e| e.to_string())
}

/// Is it this refusal?
pub(crate) fn is(failure: &Failure, code: ProblemCode) -> bool {
    failure.problem().is_some_and(|problem| problem.code == code)
}

/// Did the server refuse the text itself?
fn is_refusal(failure: &Failure) -> bool {
    [ProblemCode::Invalid, ProblemCode::TooLarge].into_iter().any(|code| is(failure, code))
}

/// The refusal as lines.
fn said(problem: &Problem) -> String {
    let errors = problem.errors.iter().map(|error| format!("{}: {}", error.field, error.message));
    let errors = errors.filter(|error| *error != problem.detail);
    let lines: Vec<_> = std::iter::once(problem.detail.clone()).chain(errors).collect();
    lines.join("\n")
}

fn restless(what: &str) -> Failure {
    let message = format!("something else goes on changing beside the {what}, {TRIES} times just now");
    Failure::Ended { exit: Exit::Conflict, message, hint: Some("waifuctl events".to_owned()) }
}

/// Says on stderr what somebody else changed.
fn tell_difference<T: Target>(context: &Context, target: &T, before: &T::Documents, after: &T::Documents) {
    let (Ok(before), Ok(after)) = (text_of(target, before), text_of(target, after)) else { return };
    let lines = merge::difference(&before, &after);
    if lines.is_empty() {
        context.hint(&format!("Somebody else changed what stands beside the {} in between.", target.what()));
    } else {
        context.hint(&format!("Somebody else changed the {} in between:", target.what()));
        lines.iter().for_each(|line| context.hint(line));
    }
}
