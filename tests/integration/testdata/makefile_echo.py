"""makefile_echo.py HOST PORT MARKER: a line at a time, through a buffered file."""
import socket, sys
host, port, marker = sys.argv[1], int(sys.argv[2]), sys.argv[3]
s = socket.socket()
s.settimeout(20)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
s.connect((host, port))
assert s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
assert s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
assert s.getpeername()[1] == port, s.getpeername()
assert s.getsockname()[1] != 0, s.getsockname()
with s.makefile("rw") as f:
    for i in range(500):
        f.write(f"{i} {marker}\n")
        f.flush()
        assert f.readline() == f"{i} {marker}\n"
print("intact")
