//! The descriptors of every Envoy message, and of [`crate::messages`].

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorError, DescriptorPool};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// The set that `envoy-types` was generated from, encoded.
const ENVOY: &[u8] = include_bytes!(env!("ENVOY_DESCRIPTOR_SET"));

static POOL: LazyLock<Result<DescriptorPool, DescriptorError>> = LazyLock::new(|| {
    let mut pool = DescriptorPool::decode(without_comments(ENVOY).as_ref())?;
    pool.add_file_descriptor_protos(own_files())?;
    Ok(pool)
});

/// The same set of files without comments and custom options, which nobody reads here and which take most of the memory. What
/// is no such set stays as it is.
fn without_comments(set: &[u8]) -> Cow<'_, [u8]> {
    let Ok(mut files) = FileDescriptorSet::decode(set) else { return set.into() };
    for file in &mut files.file {
        file.source_code_info = None;
    }
    files.encode_to_vec().into()
}

/// Every message, enum and service by its full name. Built at the first call, which takes some tens of milliseconds.
pub fn pool() -> Result<&'static DescriptorPool, &'static DescriptorError> {
    POOL.as_ref()
}

/// The files that declare the named gRPC services, and all that those import; without comments.
pub fn files_of_services(services: &[&str]) -> Result<FileDescriptorSet, prost::DecodeError> {
    let mut files: HashMap<String, FileDescriptorProto> =
        FileDescriptorSet::decode(ENVOY)?.file.into_iter().map(|file| (file.name().to_owned(), file)).collect();
    let declares = |file: &FileDescriptorProto| {
        file.service.iter().any(|service| services.contains(&format!("{}.{}", file.package(), service.name()).as_str()))
    };
    let mut pending: Vec<String> =
        files.values().filter(|file| declares(file)).map(|file| file.name().to_owned()).collect();
    let mut seen = HashSet::new();
    let mut closure = Vec::new();
    while let Some(name) = pending.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        if let Some(mut file) = files.remove(&name) {
            file.source_code_info = None;
            pending.extend(file.dependency.iter().cloned());
            closure.push(file);
        }
    }
    Ok(FileDescriptorSet { file: closure })
}

fn own_files() -> [FileDescriptorProto; 3] {
    let cel_expression = message_field("expr_match", 1, ".xds.type.v3.CelExpression");
    [
        file(
            "xds/type/matcher/v3/cel.proto",
            "xds.type.matcher.v3",
            &["xds/type/v3/cel.proto"],
            message("CelMatcher", vec![cel_expression, string_field("description", 2)]),
        ),
        file(
            "xds/type/matcher/v3/http_inputs.proto",
            "xds.type.matcher.v3",
            &[],
            message("HttpAttributesCelMatchInput", vec![]),
        ),
        file(
            "udpa/type/v1/typed_struct.proto",
            "udpa.type.v1",
            &["google/protobuf/struct.proto"],
            message(
                "TypedStruct",
                vec![string_field("type_url", 1), message_field("value", 2, ".google.protobuf.Struct")],
            ),
        ),
    ]
}

fn file(name: &str, package: &str, imports: &[&str], message: DescriptorProto) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(name.to_owned()),
        package: Some(package.to_owned()),
        dependency: imports.iter().map(|&import| import.to_owned()).collect(),
        message_type: vec![message],
        syntax: Some("proto3".to_owned()),
        ..Default::default()
    }
}

fn message(name: &str, field: Vec<FieldDescriptorProto>) -> DescriptorProto {
    DescriptorProto { name: Some(name.to_owned()), field, ..Default::default() }
}

fn string_field(name: &str, number: i32) -> FieldDescriptorProto {
    FieldDescriptorProto { r#type: Some(Type::String.into()), type_name: None, ..message_field(name, number, "") }
}

fn message_field(name: &str, number: i32, type_name: &str) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(Type::Message.into()),
        type_name: Some(type_name.to_owned()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use prost::Name;

    use super::*;
    use crate::messages::{CelMatcher, HttpAttributesCelMatchInput, TypedStruct};

    #[test]
    fn the_pool_knows_envoys_messages_and_our_three() {
        let pool = pool().unwrap();
        for name in [
            "envoy.config.listener.v3.Listener".to_owned(),
            CelMatcher::full_name(),
            HttpAttributesCelMatchInput::full_name(),
            TypedStruct::full_name(),
        ] {
            assert!(pool.get_message_by_name(&name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_pool_holds_no_comments() {
        let mut files = pool().unwrap().files();
        assert!(files.all(|file| file.file_descriptor_proto().source_code_info.is_none()));
    }

    #[test]
    fn a_services_files_stand_on_their_own() {
        let files = files_of_services(&["envoy.service.ratelimit.v3.RateLimitService"]).unwrap();
        let pool = DescriptorPool::from_file_descriptor_set(files).unwrap();
        assert!(pool.get_service_by_name("envoy.service.ratelimit.v3.RateLimitService").is_some());
        assert!(pool.get_service_by_name("envoy.service.auth.v3.Authorization").is_none());
    }
}
