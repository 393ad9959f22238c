//! A process that gets no CPU for a while.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{sleep, timeout};

use crate::program::{Program, ask};

const STALL: Duration = Duration::from_millis(80);

#[tokio::test(flavor = "multi_thread")]
async fn p03_time_outs_during_a_stall_do_not_cost_the_connection() {
    let program = Program::start(&[]);
    let client = program.client().await;
    let pid = Pid::from_raw(program.process.id().try_into().unwrap()).unwrap();
    let mut reset = 0;
    for _ in 0..5 {
        kill_process(pid, Signal::STOP).unwrap();
        let innocent = tokio::spawn({
            let mut client = client.clone();
            async move { ask(&mut client, "ann").await }
        });
        let hasty: Vec<_> = (0..200)
            .map(|_| {
                let mut client = client.clone();
                tokio::spawn(async move { timeout(Duration::from_millis(20), ask(&mut client, "joe")).await.is_err() })
            })
            .collect();
        sleep(STALL).await;
        kill_process(pid, Signal::CONT).unwrap();
        for hasty in hasty {
            reset += u32::from(hasty.await.unwrap());
        }
        // A GOAWAY with ENHANCE_YOUR_CALM would end it with an error.
        let answer = timeout(Duration::from_secs(10), innocent).await.expect("an answer in time");
        assert!(answer.unwrap().is_ok());
    }
    assert!(reset >= 500, "{reset} requests were given up, too few for a test");
}
