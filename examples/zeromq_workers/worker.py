"""A worker for hyper-deferred, in Python. `pip install pyzmq`, then `python3 worker.py ENDPOINT`."""

import sys

import zmq

socket = zmq.Context().socket(zmq.DEALER)
socket.probe_router = socket.immediate = 1  # Each new connection greets, and is asked who it is.
socket.heartbeat_ivl = 1000  # One whose other end vanished is given up.
socket.connect(sys.argv[1])

while True:
    verb, *frames = socket.recv_multipart()
    if verb == b"WHO":
        socket.send_multipart([b"READY"])
    elif verb == b"PING":
        socket.send_multipart([b"PONG"])
    elif verb == b"JOB":
        job, method, target, headers, body = frames[:5]
        answer = b"Python did %s %s\n" % (method, target)
        socket.send_multipart([b"REPLY", job, b"200", b"content-type: text/plain", answer])
