"""A pyzmq worker for tests: notes each job in a file before it answers. Usage: ENDPOINT FILE."""

import os
import sys

import zmq

notes = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
socket = zmq.Context().socket(zmq.DEALER)
socket.probe_router = socket.immediate = 1  # Each new connection greets, and is asked who it is.
socket.connect(sys.argv[1])

while True:
    verb, *frames = socket.recv_multipart()
    if verb == b"WHO":
        socket.send_multipart([b"READY", b"4"])
    elif verb == b"PING":
        socket.send_multipart([b"PONG"])
    elif verb == b"JOB":
        job, method, target, headers, body = frames[:5]
        os.write(notes, b"%s %s\n" % (method, target))
        if target == b"/huge":
            body = bytes(100 * 1024 * 1024)
        socket.send_multipart([b"REPLY", job, b"200", b"x-method: " + method, target + body])
