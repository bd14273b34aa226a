"""Tries all ways to an address that no look-up has shown; each has to fail."""
import errno, socket, sys

port = int(sys.argv[1])
S, D = socket.SOCK_STREAM, socket.SOCK_DGRAM
ways = {
    "connect": (S, lambda s, to: s.connect(to)),
    "sendto": (S, lambda s, to: s.sendto(b"theirs", socket.MSG_FASTOPEN, to)),
    "sendmsg": (S, lambda s, to: s.sendmsg([b"theirs"], [], socket.MSG_FASTOPEN, to)),
    "datagram connect": (D, lambda s, to: (s.connect(to), s.send(b"theirs"))),
    "datagram sendto": (D, lambda s, to: s.sendto(b"theirs", to)),
    "datagram sendmsg": (D, lambda s, to: s.sendmsg([b"theirs"], [], 0, to)),
}
listener = socket.create_server(("127.0.0.1", 0))
for _ in range(2):  # the second time by what the worker has shared
    socket.create_connection(listener.getsockname())
    for family, ip in (socket.AF_INET, "198.18.77.1"), (socket.AF_INET6, "::ffff:198.18.77.1"), (socket.AF_INET6, "2001:2::ffff:77:1"):
        for way, (kind, go) in ways.items():
            with socket.socket(family, kind) as s:
                try:
                    go(s, (ip, port))
                    print(way, ip, "went")
                except OSError as e:
                    if e.errno != errno.EHOSTUNREACH:
                        print(way, ip, e)
print("done")
