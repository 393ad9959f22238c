//! Traces at a collector.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
};

use tonic::Request;

use crate::{
    program::Program,
    requests::{descriptor, request},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Path and body of one HTTP request, which is answered with 200.
fn take(stream: TcpStream) -> (String, Vec<u8>) {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap();
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    (first.split(' ').nth(1).unwrap().to_owned(), body)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_a_span_below_its_callers() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let taken = tokio::task::spawn_blocking(move || take(collector.accept().unwrap().0));
    let arguments = ["--tracing-enabled", "true", "--tracing-sampling-rate", "0", "--tracing-service-name", "limits"];
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let program = Program::start_with(&arguments, &variables);
    let mut client = program.client().await;
    for parent in [None, Some(format!("00-{TRACE}-00f067aa0ba902b7-01"))] {
        let mut request = Request::new(request("d", vec![descriptor(&[("user", "secret-value")])]));
        if let Some(parent) = parent {
            request.metadata_mut().insert("traceparent", parent.parse().unwrap());
        }
        client.should_rate_limit(request).await.unwrap();
    }
    let (path, body) = taken.await.unwrap();
    assert_eq!(path, "/v1/traces");
    let trace =
        TRACE.as_bytes().chunks(2).map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 16).unwrap());
    assert!(contains(&body, &trace.collect::<Vec<_>>()), "the caller had decided that its trace is sampled");
    assert!(contains(&body, b"limits") && contains(&body, b"ShouldRateLimit"));
    let spans = body.windows(16).filter(|window| window == b"RateLimitService").count();
    assert_eq!(spans, 2, "name and rpc.service of one span; the request without a caller's trace is not sampled");
    assert!(!contains(&body, b"secret-value"));
}
