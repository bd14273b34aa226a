"""wipe_echo.py HOST PORT MARKER: closes every descriptor, as a daemon does, and connects."""
import os, socket, sys
host, port, marker = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if os.fork():
    os.wait()
    sys.exit(0)
os.setsid()
os.closerange(3, 4096)
for turn in range(3):
    with socket.create_connection((host, port)) as s, s.makefile("rw") as f:
        f.write(f"{turn} {marker}\n")
        f.flush()
        assert f.readline() == f"{turn} {marker}\n"
        os.write(1, b"intact\n")
