package integration

import "testing"

func TestDaemonThatClosedAllDescriptorsConnects(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	e := s.wrapped().run(t, python, testFile(t, "wipe_echo.py"), s.host, s.portString(), s.marker).must(t)
	if e.stdout != "intact\nintact\nintact\n" {
		t.Errorf("stdout: %q, stderr: %q", e.stdout, e.stderr)
	}
}

func TestProgramThatClosedAllDescriptorsConnects(t *testing.T) {
	wipe := compile(t, "wipe.c")
	for _, how := range []string{"close_range", "closefrom", "close"} {
		t.Run(how, func(t *testing.T) {
			s := serveTLS(t, "db.example.test", echo)
			mustSayIntact(t, s.wrapped(), wipe, how, s.host, s.portString(), s.marker)
		})
	}
}

func TestThreadsConnectAtOnce(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	mustSayIntact(t, s.wrapped(), compile(t, "threads.c"), s.host, s.portString(), s.marker, "500")
}

func TestForkedProcessesConnectAtOnce(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	mustSayIntact(t, s.wrapped(), python, testFile(t, "fork_echo.py"), s.host, s.portString(), s.marker, "500")
}

func TestHalfCloseIsNoEndOfTheConnection(t *testing.T) {
	s := serveTLS(t, "db.example.test", echo)
	// Many, for the server's end of file and the program's reading race.
	script := `import socket, sys, time
line = sys.argv[3].encode() + b"\n"
for _ in range(50):
    with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as s:
        s.sendall(line * 1000)
        s.shutdown(socket.SHUT_WR)
        got = s.recv(1)
        while block := s.recv(1000):
            got += block
        assert got == line * 1000, len(got)
print("intact")`
	mustSayIntact(t, s.wrapped(), python, "-c", script, s.host, s.portString(), s.marker)
}
