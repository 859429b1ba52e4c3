//! `tidewater-operator`: see [`tidewater_operator::cli`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidewater_runtime::allocators::settle();
    tidewater_operator::cli::main()
}
