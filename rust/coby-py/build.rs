//! Tells the module what it was built for.

use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Cargo names the profile only here: <target>/<profile>/build/<package>/out.
    let out = std::env::var("OUT_DIR").unwrap_or_default();
    let profile = Path::new(&out).ancestors().nth(3).and_then(Path::file_name).unwrap_or_default();
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=COBY_PROFILE={}", profile.display());
    println!("cargo::rustc-env=COBY_TARGET={target}");
}
