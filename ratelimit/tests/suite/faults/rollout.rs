//! Replicas that end, in good order or not, behind a real Envoy under load.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpSocket;

use crate::{
    envoy::{Client, Envoy},
    load::Load,
    program::Program,
};

const CLIENTS: usize = 16;

/// A port that other tests do not get while nobody listens on it.
struct Port {
    number: u16,
    _held: TcpSocket,
}

impl Port {
    fn hold() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // The program sets it as well, and only those who do share a port.
        socket.set_reuseport(true).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self { number: socket.local_addr().unwrap().port(), _held: socket }
    }

    fn serve(&self) -> Program {
        Program::start_at(self.number, &["--drain-delay", "500ms"])
    }
}

/// Clients that ask one request after another, each for another user.
fn clients(front: &Path) -> Load {
    Load::begin((0..CLIENTS).map(|client| {
        let (mut connection, mut index) = (Client::connect(front), 0);
        move || {
            index += 1;
            connection.get(&format!("{client}-{index}"))
        }
    }))
}

fn pid(program: &Program) -> Pid {
    Pid::from_raw(program.process.id().try_into().unwrap()).unwrap()
}

/// Replaces each of three replicas, one after another, so many times.
fn roll_out(times: usize) {
    let ports = [(); 3].map(|()| Port::hold());
    let mut replicas: Vec<_> = ports.iter().map(Port::serve).collect();
    let envoy = Envoy::start(&ports.each_ref().map(|port| port.number));
    envoy.await_healthy(3);
    let load = clients(&envoy.front());
    load.go_on(200);
    for round in 0..times {
        for (port, replica) in ports.iter().zip(&mut replicas) {
            kill_process(pid(replica), Signal::TERM).unwrap();
            let asked = Instant::now();
            let status = replica.process.wait().unwrap();
            let took = asked.elapsed();
            assert!(status.success(), "round {round}: {status}");
            assert!(took < Duration::from_secs(20), "round {round}: it ended after {took:?}");
            *replica = port.serve();
            envoy.await_healthy(3);
            load.go_on(50);
        }
    }
    let (answered, failed) = load.end();
    println!("{times} rollouts, {answered} requests, {} failed", failed.len());
    assert!(failed.is_empty(), "{} of {answered} failed: {failed:?}; {}", failed.len(), envoy.report());
}

#[test]
fn p02_a_rollout_fails_no_request() {
    roll_out(1);
}

#[test]
#[ignore = "takes minutes"]
fn p02_twenty_rollouts_fail_no_request() {
    roll_out(20);
}

#[test]
fn p01_a_killed_replica_fails_no_more_than_is_in_flight() {
    let ports = [(); 2].map(|()| Port::hold());
    let mut replicas = ports.each_ref().map(Port::serve);
    let envoy = Envoy::start(&ports.each_ref().map(|port| port.number));
    envoy.await_healthy(2);
    let load = clients(&envoy.front());
    load.go_on(500);
    kill_process(pid(&replicas[0]), Signal::KILL).unwrap();
    replicas[0].process.wait().unwrap();
    envoy.await_healthy(1);
    load.go_on(500);
    replicas[0] = ports[0].serve();
    envoy.await_healthy(2);
    load.go_on(500);
    let (answered, failed) = load.end();
    println!("{answered} requests, {} failed", failed.len());
    assert!(failed.len() <= CLIENTS, "{} of {answered} failed: {failed:?}; {}", failed.len(), envoy.report());
}
