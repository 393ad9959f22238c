//! gRPC server reflection, so that `grpcurl` and its like need no files.

use tonic::service::RoutesBuilder;
use tonic_reflection::server::{Builder, Error};

use crate::descriptors::files_of_services;

/// Adds reflection (v1 and v1alpha) for the named services, such as `envoy.service.ratelimit.v3.RateLimitService`.
pub fn add(routes: &mut RoutesBuilder, services: &[&str]) -> Result<(), Error> {
    let files = files_of_services(services).map_err(Error::DecodeError)?;
    let builder = || {
        let builder = Builder::configure()
            .register_file_descriptor_set(files.clone())
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        // A name that is given here replaces the default of listing every service in the files.
        services
            .iter()
            .chain(&["grpc.health.v1.Health"])
            .fold(builder, |builder, name| builder.with_service_name(*name))
    };
    routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?);
    Ok(())
}
