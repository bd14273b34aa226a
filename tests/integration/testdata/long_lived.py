"""Connects when told to, and serves, while workers come and go."""
import errno, socket, sys

host, port, marker = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode() + b"\n"

def say(f):
    try:
        print(f(), flush=True)
    except OSError as e:
        print(errno.errorcode.get(e.errno, e), flush=True)

def connect(to):
    c = socket.socket()
    c.settimeout(20)
    c.connect((to, port))
    return c

def passes():
    for _ in range(3):
        connect("127.0.0.1").close()
    return "passed"

def talk(to):
    global last
    last = connect(to)
    last.sendall(marker)
    return "echoed" if last.makefile("rb").readline() == marker else "lost"

def lookup():
    global synthetic
    synthetic = socket.gethostbyname(host)
    return synthetic.startswith("198.1")

def accept(words):
    c = listener.accept()[0]
    c.sendall(words)
    c.close()
    return "served"

def nearby():
    server, client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    server.bind("")  # a name of the kernel's choice
    server.listen()
    client.connect(server.getsockname())
    client.sendall(b"x")
    return "talked" if server.accept()[0].recv(1) == b"x" else "lost"

listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
commands = {
    "pass": passes,
    "talk": lambda: talk("127.0.0.1"),
    "talk by name": lambda: talk(host),
    "look up": lookup,
    "talk to synthetic": lambda: talk(synthetic),
    "talk on this machine": nearby,
    "read": lambda: last.recv(1),
    "accept": lambda: accept(marker),
    "accept without TLS": lambda: accept(b"no secret\n"),
}
for command in sys.stdin:
    say(commands[command.strip()])
