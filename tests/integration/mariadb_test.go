package integration

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// startMariaDB starts a MariaDB server: one with TLS takes connections by TLS alone. The
// marker is the password of its users u and ed, who prove it in different ways.
func startMariaDB(t *testing.T, certifiedHost string, secure bool) *site {
	t.Helper()
	dir, marker := openDir(t), newMarker()
	port := closedPort(t)
	data := filepath.Join(dir, "data")
	certFile, keyFile := certificateFor(t, dir, certifiedHost)
	init := fileIn(t, dir, "init.sql", fmt.Sprintf("CREATE DATABASE d;\n"+
		"CREATE USER u IDENTIFIED BY '%[1]s';\nGRANT ALL ON d.* TO u;\n"+
		"INSTALL SONAME 'auth_ed25519';\nCREATE USER ed IDENTIFIED VIA ed25519 USING PASSWORD('%[1]s');\nGRANT ALL ON d.* TO ed;\n", marker))
	for _, argv := range [][]string{
		{"chown", "-R", "mysql", dir},
		{"mariadb-install-db", "--no-defaults", "--user=mysql", "--datadir=" + data, "--skip-test-db",
			"--auth-root-authentication-method=normal", "--innodb-log-file-size=4M"},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", argv, err, out)
		}
	}
	tls := []string{"--skip-ssl"}
	if secure {
		tls = []string{"--ssl-cert=" + certFile, "--ssl-key=" + keyFile, "--require-secure-transport=ON"}
	}
	startServer(t, dir, "127.0.0.1:"+port, append([]string{"mariadbd", "--no-defaults", "--user=mysql", "--datadir=" + data,
		"--socket=" + filepath.Join(dir, "socket"), "--bind-address=127.0.0.1", "--port=" + port, "--skip-name-resolve", "--init-file=" + init,
		"--tmpdir=" + dir, "--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0", "--local-infile=1"}, tls...)...)
	return &site{host: "db.example.test", port: number(t, port), marker: marker}
}

// mariadb is a client's command for user.
func (s *site) mariadb(name, user string, args ...string) []string {
	return append([]string{name, "--no-defaults", "--protocol=tcp", "-h", s.host, "-P", s.portString(), "-u", user, "-p" + s.marker}, args...)
}

func TestMariaDBClientsWithoutTLS(t *testing.T) {
	s := startMariaDB(t, "db.example.test", true)
	watchPort(t, s.host, s.port, s.marker)
	w := starttlsRule(t, s, "mariadb")
	const status = "select variable_value <> '' from information_schema.session_status where variable_name = 'ssl_version'"
	for _, user := range []string{"u", "ed"} {
		if e := w.run(t, s.mariadb("mariadb", user, "--skip-ssl", "-Ne", status)...).must(t); e.stdout != "1\n" {
			t.Errorf("%s: mariadb printed %q", user, e.stdout)
		}
	}
	lines := fileIn(t, openDir(t), "lines", strings.Repeat(s.marker+"\n", 100000))
	e := w.run(t, s.mariadb("mariadb", "u", "--skip-ssl", "--local-infile=1", "-N", "d", "-e", "create table t (x varchar(100)); load data local infile '"+
		lines+"' into table t; select count(*) from t where x = '"+s.marker+"'; select x from t")...).must(t)
	if want := "100000\n" + strings.Repeat(s.marker+"\n", 100000); e.stdout != want {
		t.Errorf("mariadb printed %s", tail(e.stdout))
	}
	if e := w.run(t, s.mariadb("mariadb-dump", "u", "--skip-ssl", "d")...).must(t); strings.Count(e.stdout, s.marker) != 100000 {
		t.Errorf("mariadb-dump wrote %d lines", strings.Count(e.stdout, s.marker))
	}
	if e := w.run(t, s.mariadb("mariadb", "u", "--skip-ssl", "--compress", "-Ne", "select repeat('"+s.marker+"', 100000)", "d")...).must(t); e.stdout != strings.Repeat(s.marker, 100000)+"\n" {
		t.Errorf("with compression mariadb printed %s", tail(e.stdout))
	}
	e = w.run(t, python, "-c", `import pymysql, sys
host, port, password = sys.argv[1], int(sys.argv[2]), sys.argv[3]
c = pymysql.connect(host=host, port=port, user="u", password=password, database="d", ssl_disabled=True)
with c.cursor() as q:
    q.execute("select count(*) from t where x = %s", password)
    print(q.fetchone()[0])
`, s.host, s.portString(), s.marker).must(t)
	if e.stdout != "100000\n" {
		t.Errorf("pymysql printed %q", e.stdout)
	}
}

func TestMariaDBClientIsToldWhatIsWrong(t *testing.T) {
	s := startMariaDB(t, "db.example.test", true)
	w := starttlsRule(t, s, "mysql")
	e := w.run(t, "mariadb", "--no-defaults", "--skip-ssl", "--protocol=tcp", "-h", s.host, "-P", s.portString(), "-u", "u", "-pwrong")
	if e.status == 0 || !strings.Contains(e.stderr, "ERROR 1045 (28000): Access denied for user 'u'") {
		t.Errorf("a wrong password: %+v", e)
	}
	e = w.run(t, s.mariadb("mariadb", "u", "--ssl-verify-server-cert", "-e", "select 1")...)
	if e.status == 0 || !strings.Contains(e.stderr, "SSL is required, but the server does not support it") {
		t.Errorf("a client that insists on TLS of its own: %+v", e)
	}
}

func TestMariaDBServerThatIsNoGood(t *testing.T) {
	for name, c := range map[string]struct {
		host       string
		secure     bool
		says, told string
	}{
		"stranger": {"other.example.test", true, "certificate is for other.example.test, not db.example.test", "ERROR 1043 (08S01): tlswrap: certificate is for other.example.test"},
		"without":  {"db.example.test", false, `the server does not offer TLS: its greeting, as version "`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := startMariaDB(t, c.host, c.secure)
			if c.secure {
				watchPort(t, s.host, s.port, s.marker)
			}
			e := starttlsRule(t, s, "mysql").run(t, s.mariadb("mariadb", "u", "--skip-ssl", "-e", "select 1")...)
			if e.status == 0 || !strings.Contains(e.stderr, "tlswrap: "+s.hostport()+": "+c.says) || !strings.Contains(e.stderr, c.told) {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestExplainShowsMariaDBsWords(t *testing.T) {
	s := startMariaDB(t, "db.example.test", true)
	e := wrapped{bare: true}.run(t, append([]string{lab.tlswrap, "explain", s.hostport()}, starttlsRule(t, s, "mysql").flags...)...).must(t)
	for _, want := range []string{"starttls  server: ", "MariaDB", "worker: SSLRequest", "verified: chain and name"} {
		if !strings.Contains(e.stdout, want) {
			t.Errorf("explain does not say %q:\n%s", want, e.stdout)
		}
	}
}

// A server that says nothing, and one that nobody says anything to.
func TestMariaDBServerThatIsSilent(t *testing.T) {
	server, err := testkit.Serve("127.0.0.1:0", nil, testkit.Silent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	s := &site{host: "db.example.test", port: server.Port(), marker: newMarker()}
	e := starttlsRule(t, s, "mysql", `timeout = "200ms"`).run(t, s.mariadb("mariadb", "u", "--skip-ssl", "-e", "select 1")...)
	if e.status == 0 || !strings.Contains(e.stderr, "the server did not send its greeting in time") {
		t.Errorf("%+v", e)
	}
}

func TestMariaDBProgramThatSaysNothing(t *testing.T) {
	s := startMariaDB(t, "db.example.test", true)
	w := starttlsRule(t, s, "mysql", `timeout = "500ms"`)
	e := w.run(t, "bash", "-c", `exec 5<>/dev/tcp/$1/$2 && cat <&5 | tr -cd '[:print:]'`, "bash", s.host, s.portString())
	const want = "the program has not said what its protocol begins with"
	if !strings.Contains(e.stdout, want) || !strings.Contains(e.stderr, want) {
		t.Errorf("%+v", e)
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
