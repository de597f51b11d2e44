//! Compiles the storefront's SHA-256 to WebAssembly.

use std::path::Path;
use std::{env, fs};

const SOURCE: &str = "assets/storefront/sha256.wat";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    let out = env::var_os("OUT_DIR").expect("cargo says where to build");
    let wasm = wat::parse_file(SOURCE).unwrap_or_else(|error| panic!("{error}"));
    fs::write(Path::new(&out).join("sha256.wasm"), wasm).expect("cargo's folder can be written");
}
