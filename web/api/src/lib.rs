//! the HTTP interface: wire types, problems, typed client.
