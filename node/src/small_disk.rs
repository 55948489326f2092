//! A real full disk for tests. A test runs itself again in a mount namespace of its own, where a directory is a RAM disk of
//! few bytes; with its process the mount is gone. Needs no privilege where user namespaces are allowed.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Set in the inner run: where the small disk is.
const DIR: &str = "WAIFUD_TEST_SMALL_DISK";

/// Runs `body` on a disk of `size` (as mount(8) takes it). `test` is the calling test's full name.
pub(crate) fn on_small_disk(test: &str, size: &str, body: impl FnOnce(&Path)) {
    if let Some(dir) = std::env::var_os(DIR) {
        return body(&PathBuf::from(dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-ec"])
        .arg(format!(r#"mount -t tmpfs -o size={size} small "${DIR}"; exec "$@""#))
        .arg("sh")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(DIR, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // "1 passed": a test that was renamed and so did not run must not count.
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
