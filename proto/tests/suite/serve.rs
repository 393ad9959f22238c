//! How a gRPC server drains, what its health says, and what it takes.

use std::time::Duration;

use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use proto::readiness::Readiness;
use proto::{health, reflection};
use tokio::net::TcpStream;
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::server::{Gate, SERVICE, Server, gated};

#[tokio::test]
async fn a_drain_lets_the_request_in_flight_finish() {
    let gate = Gate::new();
    let server = Server::start(|grpc| grpc, gated(gate.clone()));
    let mut client = RateLimitServiceClient::new(server.channel().await);
    let in_flight = tokio::spawn(async move { client.should_rate_limit(RateLimitRequest::default()).await });
    gate.arrived.acquire().await.unwrap().forget();

    server.trigger.drain();
    // The server has stopped listening before it answers.
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    gate.released.add_permits(1);
    in_flight.await.unwrap().expect("answered although draining");
    server.ended().await;
}

#[tokio::test]
async fn a_drain_has_a_bound() {
    let gate = Gate::new();
    let server = Server::start(|grpc| grpc.drain(Duration::from_millis(100)), gated(gate.clone()));
    let mut client = RateLimitServiceClient::new(server.channel().await);
    let stuck = tokio::spawn(async move { client.should_rate_limit(RateLimitRequest::default()).await });
    gate.arrived.acquire().await.unwrap().forget();
    server.trigger.drain();
    server.ended().await;
    assert!(stuck.await.unwrap().is_err());
}

#[tokio::test]
async fn health_follows_readiness_and_the_drain() {
    let readiness = Readiness::new();
    let block = readiness.block("config");
    let server = Server::start(|grpc| grpc, {
        let readiness = readiness.clone();
        |signal| async move { Routes::new(health::service(&["ratelimit"], &readiness, &signal).await) }
    });
    let mut client = HealthClient::new(server.channel().await);
    let mut watched = Vec::new();
    for service in ["", "ratelimit"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        watched.push(client.watch(request).await.unwrap().into_inner());
    }
    let mut block = Some(block);
    for (step, status) in
        [ServingStatus::NotServing, ServingStatus::Serving, ServingStatus::NotServing].into_iter().enumerate()
    {
        for stream in &mut watched {
            let seen = stream.message().await.unwrap().unwrap().status();
            assert_eq!(seen, status, "step {step}");
        }
        match step {
            0 => drop(block.take()),
            1 => server.trigger.drain(),
            _ => {}
        }
    }
    // Watches end by themselves, so that nobody waits for the drain's bound.
    for stream in &mut watched {
        assert_eq!(stream.message().await.unwrap_err().code(), tonic::Code::Unavailable);
    }
    server.ended().await;
}

#[tokio::test]
async fn reflection_names_the_service() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let server = Server::start(
        |grpc| grpc,
        |_| async {
            let mut routes = RoutesBuilder::default();
            reflection::add(&mut routes, &[SERVICE]).unwrap();
            routes.routes()
        },
    );
    let mut client = ServerReflectionClient::new(server.channel().await);
    let request = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let requests = [
        request(MessageRequest::ListServices(String::new())),
        request(MessageRequest::FileContainingSymbol(SERVICE.to_owned())),
    ];
    let mut answers = client.server_reflection_info(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services")
    };
    assert_eq!(list.service.iter().filter(|service| service.name == SERVICE).count(), 1);
    assert!(
        list.service.iter().all(|service| service.name.starts_with("grpc.") || service.name == SERVICE),
        "{list:?}"
    );
    let file = answers.message().await.unwrap().unwrap().message_response;
    assert!(matches!(file, Some(MessageResponse::FileDescriptorResponse(_))), "{file:?}");
}
