//! `tidewater-operator`: see [`tidewater_operator::cli`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // At once: it is at rest most of the time.
    tidewater_runtime::allocators::settle(0);
    tidewater_operator::cli::main()
}
