//! Compiles the messages with `protox`, so that `protoc` does not have to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["event", "outcome", "decision", "profile"].map(|name| format!("proto/aimpoint/v1/{name}.proto"));
    println!("cargo:rerun-if-changed=proto/aimpoint");
    let descriptors = protox::compile(&files, ["proto"])?;
    prost_build::Config::new().compile_fds(descriptors)?;
    Ok(())
}
