//! Finds the built panel, or puts a stub page in its place, so that a build needs no npm.
//!
//! In: `panel/dist`, made by `npm run build` in `panel/`. Out: `WAIFUD_PANEL_DIR` for rust-embed. With
//! `WAIFUD_REQUIRE_PANEL` set (releases, CI) the stub is refused.

use std::{env, error::Error, fs, path::PathBuf};

const STUB: &str = include_str!("src/panel/stub.html");

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=src/panel/stub.html");
    println!("cargo::rerun-if-env-changed=WAIFUD_REQUIRE_PANEL");
    let built = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("panel/dist");
    // Cargo watches it for the panel to appear. A path that is not there would have everything built again each time;
    // where it cannot be made, the sources are read-only and no panel will appear.
    if fs::create_dir_all(&built).is_ok() {
        println!("cargo::rerun-if-changed=panel/dist");
    }
    let dir = if built.join("index.html").is_file() {
        built
    } else if env::var_os("WAIFUD_REQUIRE_PANEL").is_some() {
        return Err(
            "panel/dist/index.html is missing: run `npm ci --ignore-scripts && npm run build` in web/panel".into()
        );
    } else {
        println!(
            "cargo::warning=the panel is not built, a stub page takes its place: run `npm ci --ignore-scripts && npm run build` in web/panel"
        );
        let stub = PathBuf::from(env::var("OUT_DIR")?).join("panel");
        fs::create_dir_all(&stub)?;
        fs::write(stub.join("index.html"), STUB)?;
        stub
    };
    println!("cargo::rustc-env=WAIFUD_PANEL_DIR={}", dir.display());
    Ok(())
}
