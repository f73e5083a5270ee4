//! Gives the code that turns records into rows a name: a hash of core, venues and the lock file. Checkpoints
//! of another code are not used.

use std::fs;
use std::path::{Path, PathBuf};

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|end| end == "rs") {
            out.push(path);
        }
    }
}

fn main() {
    let mut sources = Vec::new();
    for folder in ["../coby-core/src", "../coby-venues/src"] {
        println!("cargo::rerun-if-changed={folder}");
        files(Path::new(folder), &mut sources);
    }
    println!("cargo::rerun-if-changed=../../Cargo.lock");
    sources.push("../../Cargo.lock".into());
    // FNV-1a, 128 bits.
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for source in sources {
        for byte in fs::read(&source).unwrap_or_default() {
            hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
    println!("cargo::rustc-env=COBY_CODE={hash:032x}");
}
