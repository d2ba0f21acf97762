//! Release builds put the functions that a gateway runs side by side: the kernel maps 64 KiB around each page of code that is
//! touched, so that an idle gateway would hold nearly all of the program (docs/decisions/0026-order-of-code.md).

use std::env;

/// Made by `loadtest/order`.
const ORDER: &str = "src/order.ld";

fn main() {
    println!("cargo:rerun-if-changed={ORDER}");
    let is = |name: &str, wanted: &str| env::var(name).is_ok_and(|value| value == wanted);
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") && takes_scripts() {
        let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{root}/{ORDER}");
    }
}

/// Whether the linker knows such scripts: GNU's and LLVM's do, others that were asked for may not.
fn takes_scripts() -> bool {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let linker = env::var("RUSTC_LINKER").unwrap_or_default();
    !["mold", "gold", "wild"].iter().any(|other| flags.contains(other) || linker.ends_with(other))
}
