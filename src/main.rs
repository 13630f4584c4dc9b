//! The program: see `aimpoint --help`, or the library's first page.

/// Messages come and go by the million, made by one thread and freed by another.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    aimpoint::cli::main()
}
