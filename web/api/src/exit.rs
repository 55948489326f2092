//! The exit statuses of the command line. Scripts rely on them, so they are part of the interface.

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Exit {
    /// It is done.
    Done = 0,
    /// It was refused, or it failed.
    Failed = 1,
    /// The command line or a value in it cannot be right.
    Usage = 2,
    /// The thing does not exist.
    NotFound = 3,
    /// The cluster has no quorum and cannot take writes.
    NoQuorum = 4,
    /// No endpoint answers.
    Unreachable = 5,
    /// The wait ended before the work did; the work goes on.
    TimedOut = 6,
    /// It collides with something: a name, a newer change, a use.
    Conflict = 7,
    /// Some of several things were done.
    Partly = 8,
    /// The caller may not.
    NotAllowed = 9,
}

impl Exit {
    /// All, in order.
    pub const ALL: [Self; 10] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::NotFound,
        Self::NoQuorum,
        Self::Unreachable,
        Self::TimedOut,
        Self::Conflict,
        Self::Partly,
        Self::NotAllowed,
    ];

    /// The number the process ends with.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// In a few words, for the help.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "refused or failed",
            Self::Usage => "the command line, or a value in it, cannot be right",
            Self::NotFound => "there is no such VM, template, version, node, peer or token",
            Self::NoQuorum => "the cluster has no quorum: it answers, but takes no changes",
            Self::Unreachable => "no endpoint could be reached",
            Self::TimedOut => "the wait ended first; the work goes on",
            Self::Conflict => "it collides with a name, a newer change, or a use",
            Self::Partly => "some of several things were done, others not",
            Self::NotAllowed => "the caller may not: no token, a bad one, or too small a role",
        }
    }
}
