//! Wakes, in whatever order: none is lost, and each client gets one answer.

use crate::support::{PATIENCE, Park, Watched, text};

#[test]
fn one_wake_after_the_other_is_noticed_while_nothing_else_happens() {
    let (park, responders, _outcomes) = Park::new();
    let server = Watched::on_loopback(|| park);
    let mut parked: Vec<_> = (0..5)
        .map(|_| {
            let mut client = server.connect();
            client.get("/");
            (client, responders.recv_timeout(PATIENCE).unwrap())
        })
        .collect();
    let mut control = server.connect();
    server.await_stats(&mut control, |stats| stats.parked == 5);
    let mut answered = Vec::new();
    while let Some((mut client, responder)) = parked.pop() {
        responder.send(text("woken")).unwrap();
        let head = client.read_head();
        assert_eq!(client.read_body(&head), b"woken");
        // It stays: a hang-up would be something else that happens.
        answered.push(client);
    }
    drop((answered, control));
    assert_eq!(server.finish().answered, 5);
}
