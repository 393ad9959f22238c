//! An xDS server that goes away, and a program that starts without it.

use std::fs;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;

use crate::{
    program::{Program, ask, fetch, until},
    xds_server::XdsServer,
};

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_start_without_the_xds_server_uses_the_last_configuration() {
    let server = XdsServer::start("127.0.0.1:0".parse().unwrap(), None).await;
    let address = server.address;
    let (url, kept) = (address.to_string(), tempfile::tempdir().unwrap());
    let xds = ["--config-type", "GRPC_XDS_SOTW", "--config-grpc-xds-server-url", &url];
    let retry =
        ["--config-grpc-xds-server-connect-retry-interval", "20ms", "--xds-client-backoff-initial-interval=20ms"];
    let state = ["--config-grpc-xds-state-dir", kept.path().to_str().unwrap()];
    let arguments = [&xds[..], &retry, &state].concat();
    let requests_per_unit = |program: &Program, number: u32| {
        let text = format!("requests_per_unit={number},");
        until("the limit", || fetch(program.debug, "GET", "/rlconfig", "").1.contains(&text));
    };
    server.send("1", &["d"], 1);
    let mut program = Program::start(&arguments);
    requests_per_unit(&program, 1);
    let file = kept.path().join("ratelimit.xds");
    until("the file", || file.exists());
    drop(server);
    assert!(ask(&mut program.client().await, "joe").await.is_ok(), "it stays in force");

    program = Program::start(&arguments);
    let mut client = program.client().await;
    assert_eq!(ask(&mut client, "joe").await.unwrap().overall_code(), Code::Ok);
    assert_eq!(ask(&mut client, "joe").await.unwrap().overall_code(), Code::OverLimit);
    let before = fs::read(&file).unwrap();
    let server = XdsServer::start(address, None).await;
    server.send("1", &["d"], 2);
    requests_per_unit(&program, 2);
    until("another file", || fs::read(&file).unwrap() != before);
    drop(server);

    fs::write(&file, &before[..before.len() - 1]).unwrap();
    let forced = ["--force-start-without-initial-config", "true"];
    program = Program::start(&[&arguments[..], &forced].concat());
    assert!(ask(&mut program.client().await, "joe").await.is_err(), "a damaged file is not used");
    let log = fs::read_to_string(program.dir.path().join("log")).unwrap();
    assert!(log.contains("truncated or edited"), "{log}");
}
