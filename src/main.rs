//! The program: see `aimpoint --help`, or the library's first page.

/// Messages are allocated by one thread and freed by another, millions of times.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    aimpoint::cli::main()
}
