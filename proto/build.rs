//! Compiles the messages with `protox`, so that `protoc` does not have to be installed, writes the proto3 JSON form of
//! decisions, and lists all fields for the test that compares them with released ones. The messages of others, which are
//! in `iab`, come with their service and with their descriptors.

use protox::prost_reflect::{
    prost::Message,
    prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet},
};
use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["event", "outcome", "decision", "profile"].map(|name| format!("proto/aimpoint/v1/{name}.proto"));
    println!("cargo:rerun-if-changed=proto/aimpoint");
    let descriptors = protox::compile(&files, ["proto"])?;
    let mut lines = Vec::new();
    for file in &descriptors.file {
        let mut messages: Vec<_> = file.message_type.iter().map(|it| (file.package().to_owned(), it)).collect();
        let mut enums: Vec<_> = file.enum_type.iter().map(|it| (file.package().to_owned(), it)).collect();
        while let Some((outer, message)) = messages.pop() {
            let path = format!("{outer}.{}", message.name());
            for field in &message.field {
                let kind = [field.r#type().as_str_name(), field.type_name()].join(" ");
                let label = field.label().as_str_name();
                lines.push(format!("{path}.{} = {} {label} {}", field.name(), field.number(), kind.trim_end()));
            }
            messages.extend(message.nested_type.iter().map(|it| (path.clone(), it)));
            enums.extend(message.enum_type.iter().map(|it| (path.clone(), it)));
        }
        for (outer, it) in enums {
            let path = format!("{outer}.{}", it.name());
            lines.extend(it.value.iter().map(|value| format!("{path}.{} = {}", value.name(), value.number())));
        }
    }
    lines.sort();
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("fields.txt"), lines.join("\n") + "\n")?;
    write_json_forms(&descriptors)?;
    prost_build::Config::new().btree_map(["."]).compile_fds(descriptors)?;
    compile_service()
}

/// Compiles the service of the Agentic RTB Framework, and keeps its descriptors for clients that ask for them.
fn compile_service() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/iab");
    let descriptors = protox::compile(["proto/iab/service.proto"], ["proto"])?;
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("iab.descriptors"), descriptors.encode_to_vec())?;
    let generator = tonic_prost_build::configure().build_client(false).build_transport(false);
    generator.include_file("iab.rs").compile_fds(descriptors)?;
    Ok(())
}

/// Writes the proto3 JSON form of all that a decision contains. Names are those of the messages, unchanged.
fn write_json_forms(descriptors: &FileDescriptorSet) -> Result<(), Box<dyn std::error::Error>> {
    let mut builder = pbjson_build::Builder::new();
    let mut names = vec![".aimpoint.v1.KeyType".to_owned()];
    for file in &descriptors.file {
        builder.register_file_descriptor(file.clone());
        if file.name().ends_with("/decision.proto") {
            let messages = file.message_type.iter().map(DescriptorProto::name);
            let enums = file.enum_type.iter().map(EnumDescriptorProto::name);
            names.extend(messages.chain(enums).map(|name| format!(".aimpoint.v1.{name}")));
        }
    }
    builder.btree_map(["."]).preserve_proto_field_names().ignore_unknown_fields().build(&names)?;
    Ok(())
}
