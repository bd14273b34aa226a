"""serve_late.py PORT wait|poll|children: greets clients, which a rule may be about at any time; or
serve_late.py PORT close: listens and stops, each when it reads a line."""
import os
import select
import socket
import sys


def serve(listener):
    while True:
        try:
            conn, _ = listener.accept()
        except BlockingIOError:
            select.select([listener], [], [])
            continue
        try:
            conn.setblocking(True)
            conn.sendall(b"hello\n")
            conn.close()
        except OSError:
            pass


def listen():
    return socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128)


if sys.argv[2] == "close":
    while True:
        listener = listen()
        print("listening", flush=True)
        sys.stdin.readline()
        listener.close()
        print("closed", flush=True)
        if not sys.stdin.readline():
            sys.exit()
listener = listen()
if sys.argv[2] == "poll":
    listener.setblocking(False)
if sys.argv[2] == "children":
    for _ in range(3):
        if os.fork() == 0:
            serve(listener)
serve(listener)
