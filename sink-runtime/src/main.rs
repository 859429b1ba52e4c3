//! `tidewater`, the sink runtime. Everything is in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidewater_runtime::allocators::settle(tidewater_runtime::allocators::PURGE_DELAY);
    tidewater_runtime::cli::main()
}
