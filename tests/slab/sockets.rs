//! What is set on the socket of a client.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::SockRef;

use crate::support::{Park, Watched, untimed};

/// The server's end of a client's connection, duplicated: of all descriptors of the process, the one whose peer it is.
fn accepted_from(client: SocketAddr) -> OwnedFd {
    let process = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let numbers = fs::read_dir("/proc/self/fd").unwrap();
    numbers
        .filter_map(|number| number.unwrap().file_name().to_str().unwrap().parse().ok())
        // Of a process that is this one. What is closed meanwhile is none.
        .filter_map(|number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok())
        .find(|descriptor| SockRef::from(descriptor).peer_addr().is_ok_and(|peer| peer.as_socket() == Some(client)))
        .unwrap()
}

#[test]
fn a_small_response_does_not_wait_for_the_one_before_it_to_be_acknowledged() {
    let (park, _responders, _outcomes) = Park::new();
    let server = Watched::run(untimed, || park);
    let mut client = server.connect();
    client.text("/now");
    let socket = accepted_from(client.local_addr());
    assert!(SockRef::from(&socket).tcp_nodelay().unwrap());
    drop((client, socket));
    server.finish();
}
