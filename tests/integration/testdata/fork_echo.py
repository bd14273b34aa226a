"""fork_echo.py HOST PORT MARKER COUNT: a process a connection, all at once; and one
connection made before the fork that the child talks over."""
import os, socket, sys
host, port, marker, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])

def talk(s, number):
    line = f"{number} {marker}\n".encode()
    s.sendall(line)
    s.shutdown(socket.SHUT_WR)
    got = b""
    while block := s.recv(65536):
        got += block
    assert got == line, got

inherited = socket.create_connection((host, port))
ready, go = os.pipe()
children = []
for number in range(count):
    pid = os.fork()
    if pid == 0:
        try:
            os.close(go)
            os.read(ready, 1)  # the end of file starts all at once
            talk(inherited if number == 0 else socket.create_connection((host, port)), number)
        except BaseException as e:
            print(number, repr(e), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    children.append(pid)
os.close(go)
failed = [pid for pid in children if os.waitpid(pid, 0)[1] != 0]
try:
    os.wait()
    sys.exit("there is a child that is none of mine")
except ChildProcessError:
    pass
print("intact" if not failed else f"{len(failed)} failed")
