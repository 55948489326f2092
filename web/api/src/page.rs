//! Parts of lists: how many items, and after which one. Every list stands in the order of what its items go by, and goes on
//! after a name whether or not something still has it, so that nothing is told twice or left out while others delete.
//!
//! ```text
//! GET /vms?limit=2               web-1, web-2     Waifu-Next: web-2
//! GET /vms?limit=2&after=web-2   web-3            no header: this is the end
//! ```

use crate::{
    net::NetPeer,
    node::Node,
    paths,
    template::Template,
    text::serde_by_text,
    token::{ApiToken, JoinToken},
    vm::Vm,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{fmt, str::FromStr};
use utoipa::{
    IntoParams,
    openapi::path::{Parameter, ParameterIn},
};
use waifud_model::{
    ids::TokenId,
    name::{NodeName, PeerName, TemplateName, VmName},
};

/// How many items a part has at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(u32);

impl Limit {
    /// The most that can be asked for: about a megabyte and a half of VMs. Who wants all of them names no limit.
    pub const MAX: u32 = 1000;

    /// So many items.
    ///
    /// # Errors
    /// If it is none, or more than [`Limit::MAX`].
    pub fn new(items: u32) -> Result<Self, LimitError> {
        if (1..=Self::MAX).contains(&items) { Ok(Self(items)) } else { Err(LimitError(items.to_string())) }
    }
}

/// A text that is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a number from 1 to {max}; leave it out for the whole list", max = Limit::MAX)]
pub struct LimitError(String);

impl FromStr for Limit {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let refuse = || LimitError(text.chars().take(20).collect());
        Self::new(text.parse().map_err(|_| refuse())?)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

serde_by_text!(Limit);

/// What is listed, and what its list goes by.
pub trait Listed: DeserializeOwned {
    /// What the list is sorted by: no two items have the same.
    type Cursor: Ord + Clone + fmt::Display + FromStr<Err: fmt::Display>;

    /// Where the list is.
    const PATH: &str;

    /// What this item goes by.
    fn cursor(&self) -> &Self::Cursor;
}

/// Each kind of item differs only in where its list is and what it goes by.
macro_rules! listed {
    ($($item:ty: $field:ident $cursor:ty, $path:expr;)+) => {$(
        impl Listed for $item {
            type Cursor = $cursor;

            const PATH: &str = $path;

            fn cursor(&self) -> &$cursor {
                &self.$field
            }
        }
    )+};
}

listed! {
    Vm: name VmName, paths::VMS;
    Template: name TemplateName, paths::TEMPLATES;
    Node: name NodeName, paths::NODES;
    NetPeer: name PeerName, paths::NET_PEERS;
    ApiToken: id TokenId, paths::TOKENS;
    JoinToken: id TokenId, paths::JOIN_TOKENS;
}

/// Which part of a list is wanted; the whole of it where nothing is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageQuery<C> {
    /// How many items at most.
    pub limit: Option<Limit>,
    /// Only items after this one.
    pub after: Option<C>,
}

/// The same as the description of the API has it, which cannot be derived for all `C`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "only its description is wanted")]
struct Described {
    /// How many items at most, 1 to 1000; all if not given. `Waifu-Next` says what to go on after.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Only items after this one, which need not be there any more.
    after: Option<String>,
}

impl<C> IntoParams for PageQuery<C> {
    fn into_params(place: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        Described::into_params(place)
    }
}

impl<C> PageQuery<C> {
    /// The whole list.
    pub const ALL: Self = Self { limit: None, after: None };

    /// True if nothing is said.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.limit.is_none() && self.after.is_none()
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T: Listed> {
    /// Its items.
    pub items: Vec<T>,
    /// What the next part comes after; none at the end.
    pub next: Option<T::Cursor>,
}

impl<T: Listed> Page<T> {
    /// The part of `list` that is wanted. The list is in order.
    pub fn of(list: impl IntoIterator<Item = T>, query: &PageQuery<T::Cursor>) -> Self {
        let wanted = |item: &T| query.after.as_ref().is_none_or(|after| item.cursor() > after);
        let limit = query.limit.map_or(usize::MAX, |Limit(items)| items as usize);
        let mut list = list.into_iter().filter(wanted);
        let items: Vec<T> = list.by_ref().take(limit).collect();
        let next = items.last().filter(|_| list.next().is_some()).map(|last| last.cursor().clone());
        Self { items, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
    struct Item(VmName);

    impl Listed for Item {
        type Cursor = VmName;

        const PATH: &str = "";

        fn cursor(&self) -> &VmName {
            &self.0
        }
    }

    proptest! {
        /// Whatever is deleted on the way, the item a part goes on after among it: who stays is told once, in order, and who
        /// has gone before its turn is not told.
        #[test]
        fn all_parts_are_the_whole(
            names in prop::collection::btree_set("[a-c][a-c1-3-]{0,3}[a-c]", 0..30),
            limit in 1..35_u32,
            deleted in prop::collection::vec((0..6_usize, any::<prop::sample::Index>()), 0..6),
        ) {
            let mut there: BTreeSet<VmName> = names.into_iter().map(|name| VmName::new(name).unwrap()).collect();
            let mut query = PageQuery { limit: Some(Limit::new(limit).unwrap()), after: None };
            let mut told: Vec<VmName> = Vec::new();
            let mut gone = BTreeSet::new();
            for turn in 0.. {
                let page = Page::of(there.iter().cloned().map(Item), &query);
                prop_assert!(page.items.len() <= limit as usize);
                prop_assert!(page.items.iter().all(|Item(name)| !gone.contains(name)));
                told.extend(page.items.into_iter().map(|Item(name)| name));
                let Some(next) = page.next else { break };
                prop_assert_eq!(Some(&next), told.last());
                for (_, which) in deleted.iter().filter(|(when, _)| *when == turn) {
                    let name = if which.index(2) == 0 { next.clone() } else { which.get(&Vec::from_iter(&there)).to_owned().clone() };
                    there.remove(&name);
                    gone.insert(name);
                    if there.is_empty() { break }
                }
                query.after = Some(next);
            }
            prop_assert!(told.is_sorted_by(|a, b| a < b));
            prop_assert!(there.iter().all(|name| told.contains(name)));
        }
    }

    #[test]
    fn limits_have_bounds_and_say_so() {
        assert_eq!("1".parse(), Ok(Limit(1)));
        assert_eq!("1000".parse(), Ok(Limit(1000)));
        for bad in ["0", "1001", "-1", "x", "", "1.5", "99999999999999999999999999999999"] {
            let error = bad.parse::<Limit>().unwrap_err().to_string();
            assert!(error.ends_with("is not a number from 1 to 1000; leave it out for the whole list"), "{error}");
        }
    }
}
