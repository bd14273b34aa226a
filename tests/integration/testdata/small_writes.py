"""small_writes.py HOST PORT MARKER: twenty thousand small writes as fast as poll lets
them, which the server answers in the end."""
import select, socket, sys
host, port, marker = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
with socket.create_connection((host, port)) as s:
    s.setblocking(False)
    p = select.poll()
    p.register(s, select.POLLOUT)
    for i in range(20000):
        while True:
            try:
                assert s.send(marker) == len(marker)
                break
            except BlockingIOError:
                if not p.poll(10000):
                    sys.exit(f"not writable for 10 s after {i} writes")
    s.setblocking(True)
    s.sendall(b"\n")
    got = b""
    while len(got) < 20000 * len(marker) + 1:
        block = s.recv(1 << 20)
        if not block:
            break
        got += block
assert got == marker * 20000 + b"\n", len(got)
print("intact")
