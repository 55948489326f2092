//! Values that only the configuration knows.

use std::str::FromStr;

/// How guests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Accel {
    /// On the CPU where it can, else emulated.
    #[default]
    Auto,
    /// On the CPU, or not at all.
    Kvm,
    /// Emulated.
    Tcg,
}

impl FromStr for Accel {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            _ => Err("expected auto, kvm or tcg"),
        }
    }
}
