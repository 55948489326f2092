//! the API served by every node, and the panel.
