package integration

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// startMariaDB starts a server that lets people in by TLS alone. The marker is the name and
// the password of its user, and the password of the user "ed", who logs in with ed25519.
func startMariaDB(t *testing.T, certifiedHost string, withTLS bool) *site {
	t.Helper()
	testkit.Need(t, "mariadbd", "mariadb-install-db")
	dir, marker, port := openDir(t), newMarker(), closedPort(t)
	data := filepath.Join(dir, "data")
	if out, err := exec.Command("install", "-d", "-o", "mysql", data).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	small := []string{"--datadir=" + data, "--tmpdir=" + data, "--user=mysql", "--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M"}
	install := append([]string{"--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"}, small...)
	if out, err := exec.Command("mariadb-install-db", install...).CombinedOutput(); err != nil {
		t.Fatalf("mariadb-install-db: %v\n%s", err, out)
	}
	users := fileIn(t, dir, "users.sql", fmt.Sprintf(`
INSTALL SONAME 'auth_ed25519';
CREATE DATABASE d;
CREATE USER %[1]q IDENTIFIED VIA mysql_native_password USING PASSWORD(%[1]q);
CREATE USER ed IDENTIFIED VIA ed25519 USING PASSWORD(%[1]q);
GRANT ALL ON d.* TO %[1]q, ed;
`, marker))
	certFile, keyFile := certificateFor(t, dir, certifiedHost)
	if out, err := exec.Command("chown", "mysql", users, keyFile).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	argv := append([]string{"mariadbd", "--no-defaults", "--bind-address=127.0.0.1", "--port=" + port,
		"--socket=" + filepath.Join(data, "socket"), "--pid-file=" + filepath.Join(data, "pid"), "--init-file=" + users,
		"--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", "--max-allowed-packet=64M"}, small...)
	if withTLS {
		argv = append(argv, "--require-secure-transport=ON", "--ssl-cert="+certFile, "--ssl-key="+keyFile)
	} else {
		argv = append(argv, "--skip-ssl")
	}
	startServer(t, dir, "127.0.0.1:"+port, argv...)
	s := &site{host: "db.example.test", port: number(t, port), marker: marker}
	mariadbGreeting(t, s) // it listens before it has read the users
	return s
}

// mariadb is the command line of one of MariaDB's clients that logs in at the site.
func (s *site) mariadb(program string, more ...string) []string {
	return append([]string{program, "--no-defaults", "--protocol=tcp", "-h" + s.host, "-P" + s.portString(),
		"-u" + s.marker, "-p" + s.marker}, more...)
}

func TestMariaDBClientsWithoutTLS(t *testing.T) {
	s := startMariaDB(t, "db.example.test", true)
	watchPort(t, s.host, s.port, s.marker)
	w := starttlsRule(t, s, "mariadb")
	w.dir = t.TempDir()
	_, content := secretFile(t, w.dir, s.marker)
	run := func(t *testing.T, program string, more ...string) ended {
		return w.run(t, s.mariadb(program, append(more, "d")...)...).must(t)
	}
	run(t, "mariadb", "--skip-ssl", "-e", "CREATE TABLE up (n INT AUTO_INCREMENT PRIMARY KEY, line VARCHAR(200))")
	for name, flags := range map[string][]string{"plain": {"--skip-ssl"}, "compressed": {"--skip-ssl", "--compress"}, "TLS if there is": {"--ssl"}} {
		t.Run(name, func(t *testing.T) {
			flags = append(flags, "--local-infile=1", "-NBre")
			run(t, "mariadb", append(flags, `TRUNCATE up; LOAD DATA LOCAL INFILE 'up.bin' INTO TABLE up LINES TERMINATED BY '\r\n' (line)`)...)
			e := run(t, "mariadb", append(flags, "SELECT CONCAT(line, '\r') FROM up ORDER BY n; SHOW STATUS WHERE Variable_name IN ('Compression', 'Ssl_version')")...)
			lines, status, _ := strings.Cut(e.stdout, "Compression\t")
			want := map[bool]string{true: "ON", false: "OFF"}[name == "compressed"] + "\nSsl_version\tTLSv1.3\n"
			if lines != string(content) || status != want {
				t.Errorf("%d bytes came back of %d, and then %q", len(lines), len(content), status)
			}
		})
	}
	t.Run("mariadb-dump", func(t *testing.T) {
		e := run(t, "mariadb-dump", "--skip-ssl", "--skip-extended-insert")
		if n, want := strings.Count(e.stdout, "INSERT INTO"), bytes.Count(content, []byte("\n")); n != want {
			t.Errorf("%d lines were dumped of %d", n, want)
		}
	})
	t.Run("ed25519", func(t *testing.T) {
		if e := run(t, "mariadb", "--skip-ssl", "-ued", "-NBe", "SELECT 1"); e.stdout != "1\n" {
			t.Errorf("stdout %q", e.stdout)
		}
	})
	t.Run("wrong password", func(t *testing.T) {
		e := w.run(t, s.mariadb("mariadb", "--skip-ssl", "-pwrong", "-e", "SELECT 1")...)
		if e.status == 0 || strings.Contains(e.stderr, "tlswrap:") || !strings.Contains(e.stderr, "ERROR 1045 (28000): Access denied for user") {
			t.Errorf("status %d, stderr %s", e.status, e.stderr)
		}
	})
	t.Run("pymysql", func(t *testing.T) {
		w.stdin = strings.NewReader(fmt.Sprintf(pymysqlJob, s.host, s.port, s.marker))
		if e := w.run(t, "/usr/bin/python3", "-").must(t); e.stdout != "1\n3\n" {
			t.Errorf("stdout %q", e.stdout)
		}
	})
}

// A packet has at most 16 MiB: what is larger comes as several.
const pymysqlJob = `
import pymysql, threading
def login(): return pymysql.connect(host=%[1]q, port=%[2]d, user=%[3]q, password=%[3]q, database="d")
c = login()
with c.cursor() as q:
    q.execute("CREATE TABLE blobs (n INT PRIMARY KEY, b LONGBLOB)")
    b = (%[3]q * 700000).encode()
    assert len(b) > 1 << 24
    print(q.execute("INSERT INTO blobs VALUES (1, _binary %%s)", b))
    q.execute("SELECT b FROM blobs")
    assert q.fetchone()[0] == b
c.commit()
def small(n):
    c = login()
    with c.cursor() as q: q.execute("INSERT INTO blobs VALUES (%%s, 'x')", n)
    c.commit()
    c.close()
threads = [threading.Thread(target=small, args=(n,)) for n in (2, 3)]
for t in threads: t.start()
for t in threads: t.join()
with c.cursor() as q:
    q.execute("SELECT COUNT(*) FROM blobs")
    print(q.fetchone()[0])
c.close()
`

func TestMariaDBClientIsToldWhatIsWrong(t *testing.T) {
	good, plain := startMariaDB(t, "db.example.test", true), startMariaDB(t, "db.example.test", false)
	misnamed := &site{host: "wrong.example.test", port: good.port, marker: good.marker}
	// What a program itself is told depends on whether it had been let in.
	const connecting, answered = "ERROR 2002 (HY000): Can't connect to ", "ERROR 1043 (08S01): tlswrap: "
	for name, c := range map[string]struct {
		*site
		flag, program, want string
	}{
		"wrong name":       {misnamed, "--skip-ssl", answered, "certificate is for db.example.test, not wrong.example.test"},
		"no TLS":           {plain, "--skip-ssl", connecting, `the server does not offer TLS: the greeting of its version "5.5.5-10.`},
		"stripped":         {strippedMariaDB(t, good), "--skip-ssl", connecting, "the server does not offer TLS"},
		"goes on in plain": {plainMariaDB(t, good), "--skip-ssl", answered, "the server does not speak TLS on this port"},
		"turns away": {serveGreeting(t, good, []byte("\x13\x00\x00\x00\xff\x10\x04Too many clients"), testkit.Silent), "--skip-ssl",
			connecting, `the server refused the connection: error 1040, "Too many clients"`},
		"TLS of its own": {good, "--ssl-verify-server-cert", "SSL is required, but the server does not support it", ""},
	} {
		t.Run(name, func(t *testing.T) {
			watch := lab.sniffer.Watch([]byte(c.marker), c.port)
			e := starttlsRule(t, c.site, "mysql").run(t, c.mariadb("mariadb", c.flag, "-e", "SELECT 1")...)
			if e.status == 0 || !strings.Contains(e.stderr, c.want) || !strings.Contains(e.stderr, c.program) {
				t.Errorf("status %d, stderr %s", e.status, e.stderr)
			}
			if report, err := watch.Stop(); err != nil || len(report.Leaks) > 0 {
				t.Errorf("the secret crossed the wire in plaintext: %v %v", report.Leaks, err)
			}
		})
	}
	t.Run("asks for TLS", func(t *testing.T) {
		w := starttlsRule(t, good, "mysql")
		w.stdin = strings.NewReader(fmt.Sprintf(`
import socket
s = socket.create_connection((%q, %d))
s.recv(4096)
s.sendall(b"\x20\0\0\1\x85\xae\x0f\0" + bytes(28))
answer = s.recv(4096)
print(answer[3], answer[5] + answer[6] * 256, answer[7:].decode())
`, good.host, good.port))
		e := w.run(t, "/usr/bin/python3", "-")
		if want := "2 1043 #08S01tlswrap: the program asks for TLS itself"; !strings.HasPrefix(e.stdout, want) {
			t.Errorf("stdout %q, want %q\nstderr %s", e.stdout, want, e.stderr)
		}
	})
	t.Run("says nothing", func(t *testing.T) {
		w := starttlsRule(t, good, "mysql", `timeout = "2s"`)
		w.stdin = strings.NewReader(fmt.Sprintf(`
import socket
s = socket.create_connection((%q, %d))
print(s.recv(4096)[4])
print(s.recv(4096)[13:].decode())
`, good.host, good.port))
		e := w.run(t, "/usr/bin/python3", "-")
		if want := "10\ntlswrap: the program did not answer the server's greeting in time\n"; e.stdout != want {
			t.Errorf("stdout %q, want %q\nstderr %s", e.stdout, want, e.stderr)
		}
	})
	t.Run("gives up", func(t *testing.T) {
		if e := starttlsRule(t, good, "mysql").run(t, "nc.openbsd", "-z", good.host, good.portString()).must(t); e.stderr != "" {
			t.Errorf("stderr %s", e.stderr)
		}
	})
}

// strippedMariaDB is somebody on the way to a server who takes its offer of TLS away.
func strippedMariaDB(t *testing.T, s *site) *site {
	t.Helper()
	greeting := mariadbGreeting(t, s)
	end := bytes.IndexByte(greeting[5:], 0) + 5 // of the version
	const low, ssl = 14, 0x0800
	greeting[end+low+1] &^= ssl >> 8
	return serveGreeting(t, s, greeting, testkit.Silent)
}

// plainMariaDB is somebody who offers TLS and then goes on without.
func plainMariaDB(t *testing.T, s *site) *site {
	t.Helper()
	return serveGreeting(t, s, mariadbGreeting(t, s), func(c net.Conn) {
		c.Read(make([]byte, 4096))
		c.Write([]byte("\x07\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00")) // OK
		testkit.Silent(c)
	})
}

func mariadbGreeting(t *testing.T, s *site) []byte {
	t.Helper()
	c, err := net.Dial("tcp", "127.0.0.1:"+s.portString())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	greeting := make([]byte, 4096)
	n, err := c.Read(greeting)
	if err != nil {
		t.Fatal(err)
	}
	return greeting[:n]
}

func serveGreeting(t *testing.T, s *site, greeting []byte, then func(net.Conn)) *site {
	t.Helper()
	server, err := testkit.Serve(listenAddr(t, s.host), nil, func(c net.Conn) {
		c.Write(greeting)
		then(c)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return &site{host: s.host, port: server.Port(), marker: s.marker}
}

// serveCachingSHA2 is a server as MySQL's are: it wants the password itself, which clients
// give to nobody without TLS but by the server's key.
func serveCachingSHA2(t *testing.T) *site {
	t.Helper()
	const host = "db.example.test"
	marker, config := newMarker(), serverConfig(t, testkit.Leaf{Names: []string{host}})
	const (
		nonce    = "abcdefghijklmnopqrst\x00"
		greeting = "\x0a8.4.0\x00\x01\x00\x00\x00" + "abcdefgh" + "\x00\xff\xff\x2d\x02\x00\xff\xc7\x15" +
			"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + "ijklmnopqrst\x00" + "caching_sha2_password\x00"
		ok = "\x00\x00\x00\x02\x00\x00\x00"
	)
	server, err := testkit.Serve(listenAddr(t, host), nil, func(tcp net.Conn) {
		send := func(c net.Conn, number byte, payload string) {
			io.WriteString(c, string([]byte{byte(len(payload)), 0, 0, number})+payload)
		}
		receive := func(c net.Conn, number byte) string {
			head := make([]byte, 4)
			if _, err := io.ReadFull(c, head); err != nil {
				return ""
			}
			payload := make([]byte, int(head[0])|int(head[1])<<8)
			io.ReadFull(c, payload)
			if head[3] != number {
				t.Errorf("packet %d instead of %d: %q", head[3], number, payload)
			}
			return string(payload)
		}
		send(tcp, 0, greeting)
		request := receive(tcp, 1)
		if request == "" {
			return
		}
		c := tls.Server(tcp, config)
		if answer := receive(c, 2); len(request) != 32 || !strings.HasPrefix(answer, request) || !strings.Contains(answer, "caching_sha2_password") {
			t.Errorf("SSLRequest %q, and the answer %q", request, answer)
		}
		send(c, 3, "\x01\x04")
		if password := receive(c, 4); password != marker+"\x00" {
			send(c, 5, "\xff\x15\x04#28000Access denied")
			return
		}
		send(c, 5, ok)
		for {
			if command := receive(c, 0); command == "" || command == "\x01" {
				return
			}
			send(c, 1, ok)
		}
	})
	return watched(t, host, marker, server, err)
}

func TestMySQLPasswordIsGivenToAServerThatWantsItItself(t *testing.T) {
	s := serveCachingSHA2(t)
	w := starttlsRule(t, s, "mysql")
	login := s.mariadb("mariadb", "--skip-ssl", "-e", "DO 1")
	w.run(t, login...).must(t)
	if e := w.run(t, append(login, "-pwrong")...); e.status == 0 || !strings.Contains(e.stderr, "ERROR 1045 (28000): Access denied") {
		t.Errorf("status %d, stderr %s", e.status, e.stderr)
	}
	w.stdin = strings.NewReader(fmt.Sprintf(`
import pymysql
with pymysql.connect(host=%[1]q, port=%[2]d, user=%[3]q, password=%[3]q) as c:
    with c.cursor() as q: q.execute("DO 1")
`, s.host, s.port, s.marker))
	w.run(t, "/usr/bin/python3", "-").must(t)
}

func TestExplainShowsMariaDBsDialogue(t *testing.T) {
	s := startMariaDB(t, "db.example.test", true)
	w := starttlsRule(t, s, "mysql")
	e := wrapped{flags: append([]string{"explain"}, append(w.flags, s.hostport())...)}.run(t)
	e.must(t)
	for _, want := range []string{"server: greeting of version 5.5.5-10.", "worker: SSLRequest\n", "verified: chain and name, for db.example.test"} {
		if !strings.Contains(e.stdout, want) {
			t.Errorf("no %q in %s", want, e.stdout)
		}
	}
}

// withoutMySQLsTLS takes CLIENT_SSL out of a greeting's capabilities.
func withoutMySQLsTLS(b []byte) []byte {
	const head, mark = 4, 10 // of the packet; of the protocol's version
	if len(b) > 40 && b[3] == 0 && b[head] == mark {
		end := head + bytes.IndexByte(b[head:], 0) // of the server's version
		b[end+1+4+8+1+1] &^= 0x08
	}
	return b
}
