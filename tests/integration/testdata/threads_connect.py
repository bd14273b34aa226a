"""Eight threads connect all the time, to a port that passes and to one that a rule covers."""
import errno, socket, sys, threading

port, marker = int(sys.argv[1]), sys.argv[2].encode() + b"\n"
listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
listener.setblocking(False)
change = threading.Condition()
outcomes = {}

def attempt():
    try:
        for to in listener.getsockname()[1], port:
            with socket.socket() as c:
                c.settimeout(20)
                c.connect(("127.0.0.1", to))
                if to == port:
                    c.sendall(marker)
                    if c.makefile("rb").readline() != marker:
                        return "the end"
        return "connected"
    except OSError as e:
        return "failed" if e.errno in (errno.ENETDOWN, errno.ECONNRESET, errno.EPIPE) else str(e)

def work(i):
    while True:
        outcome = attempt()
        with change:
            outcomes[i].add(outcome)
            change.notify_all()

def drain():
    listener.setblocking(True)
    while True:
        listener.accept()[0].close()

print("ready", flush=True)
for i in range(8):
    outcomes[i] = set()
    threading.Thread(target=work, args=(i,), daemon=True).start()
threading.Thread(target=drain, daemon=True).start()
for line in sys.stdin:
    want = "failed" if "fail" in line else "connected"
    with change:
        for seen in outcomes.values():
            seen.clear()
        change.wait_for(lambda: all(want in seen for seen in outcomes.values()), 25)
        odd = set().union(*outcomes.values()) - {"connected", "failed"}
    print(odd or want, flush=True)
