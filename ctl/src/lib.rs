//! the command line of waifud.
