//! The program: see `aimpoint --help`, or the library's first page.

fn main() -> std::process::ExitCode {
    aimpoint::cli::main()
}
