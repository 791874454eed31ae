//! The examples as programs.

use std::path::PathBuf;
use std::process::Command;

/// Builds the example `name`, which cargo does by itself only when it runs all tests, and tells where it is.
pub(crate) fn build(name: &str, features: &str) -> PathBuf {
    // This test is target/<profile>/deps/<test>; the example goes to target/<profile>/examples.
    let test = std::env::current_exe().unwrap();
    let profile_dir = test.parent().and_then(|deps| deps.parent()).expect("cargo ran this test");
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--features", features, "--example", name, "--profile", profile, "--target-dir"])
        .arg(profile_dir.parent().expect("a profile is in the target directory"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the example {name} does not build");
    profile_dir.join("examples").join(name)
}
