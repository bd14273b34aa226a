"""serve_echo.py PORT|fd:N [FILE]: a thread for each connection; says whom it sees, and echoes.

It first tries to read FILE, and says how that ended."""
import socket
import sys
import threading


def name(address):
    return f"{address[0]}:{address[1]}"


def serve(conn, accepted):
    try:
        conn.sendall(f"{conn.family.name} accepted={name(accepted)} peer={name(conn.getpeername())} "
                     f"own={name(conn.getsockname())}\n".encode())
        while data := conn.recv(65536):
            conn.sendall(data)
        conn.close()
    except OSError as e:
        print("echo ended:", e.strerror, file=sys.stderr, flush=True)


if len(sys.argv) > 2:
    try:
        open(sys.argv[2]).read()
    except OSError as e:
        print(f"server.key: {e.strerror}", file=sys.stderr, flush=True)
if sys.argv[1].startswith("fd:"):
    listener = socket.socket(fileno=int(sys.argv[1][3:]))
else:
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128)
while True:
    threading.Thread(target=serve, args=listener.accept(), daemon=True).start()
