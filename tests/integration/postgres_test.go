package integration

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// startPostgres starts a PostgreSQL server that takes connections by TLS alone. The marker
// is the password of its user "u".
func startPostgres(t *testing.T, certifiedHost string, tls bool) *site {
	t.Helper()
	dir, marker, port := openDir(t), newMarker(), closedPort(t)
	argv := initPostgres(t, dir, port, marker)
	certFile, keyFile := certificateFor(t, dir, certifiedHost)
	ssl := map[bool]string{true: "on", false: "off"}[tls]
	kind := map[bool]string{true: "hostssl", false: "host"}[tls]
	hba := fileIn(t, dir, "pg_hba.conf", kind+" all all 127.0.0.1/32 scram-sha-256\n")
	if out, err := exec.Command("chown", "postgres", keyFile, hba).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	argv = append(asPostgres(argv...), "-c", "hba_file="+hba, "-c", "ssl="+ssl, "-c", "ssl_cert_file="+certFile, "-c", "ssl_key_file="+keyFile)
	startServer(t, dir, "127.0.0.1:"+port, argv...)
	return &site{host: "db.example.test", port: number(t, port), marker: marker}
}

// initPostgres makes the data of a server whose user "u" has a password, and gives them and
// dir to the user postgres. It returns the command that starts the server.
func initPostgres(t *testing.T, dir, port, password string) []string {
	t.Helper()
	bin, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bin) == 0 {
		bin = []string{"/usr/lib/postgresql"}
	}
	testkit.Need(t, "setpriv", filepath.Join(bin[0], "initdb"))
	data := filepath.Join(dir, "data")
	passwordFile := fileIn(t, dir, "password", password+"\n")
	for _, argv := range [][]string{
		{"chown", "postgres:postgres", dir, passwordFile},
		asPostgres(filepath.Join(bin[0], "initdb"), "-D", data, "-U", "u", "--pwfile", passwordFile, "-A", "scram-sha-256", "--no-sync"),
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", argv, err, out)
		}
	}
	return []string{filepath.Join(bin[0], "postgres"), "-D", data, "-p", port, "-k", dir, "-h", "127.0.0.1", "-c", "fsync=off"}
}

func asPostgres(argv ...string) []string {
	return append([]string{"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"}, argv...)
}

// psql runs PostgreSQL's clients against the server, with TLS of their own as mode says.
func (s *site) psql(t *testing.T, w wrapped, mode string, argv ...string) ended {
	t.Helper()
	w.env = append(w.env, "PGSSLMODE="+mode, "PGHOST="+s.host, "PGPORT="+s.portString(), "PGUSER=u",
		"PGDATABASE=postgres", "PGPASSWORD="+s.marker)
	return w.run(t, argv...)
}

func TestPostgresClientsWithoutTLS(t *testing.T) {
	s := startPostgres(t, "db.example.test", true)
	watchPort(t, s.host, s.port, s.marker)
	w := starttlsRule(t, s, "postgres")
	for _, mode := range []string{"disable", "prefer"} {
		e := s.psql(t, w, mode, "psql", "-XAtc", "select ssl, repeat('"+s.marker+"', 100000) from pg_stat_ssl where pid = pg_backend_pid()").must(t)
		if want := "t|" + strings.Repeat(s.marker, 100000) + "\n"; e.stdout != want {
			t.Errorf("sslmode=%s: psql printed %s", mode, tail(e.stdout))
		}
	}
	s.psql(t, w, "disable", "pgbench", "-i", "-q", "-s", "1").must(t)
	if e := s.psql(t, w, "disable", "pgbench", "-c", "4", "-t", "50").must(t); !strings.Contains(e.stdout, "number of failed transactions: 0") {
		t.Errorf("pgbench said %s", e.stdout)
	}
	if e := s.psql(t, w, "disable", "pg_dump", "-t", "pgbench_accounts").must(t); strings.Count(e.stdout, "\n") < 100000 {
		t.Errorf("pg_dump wrote %d lines", strings.Count(e.stdout, "\n"))
	}
	if e := s.psql(t, w, "require", "psql", "-XAtc", "select 1"); e.status == 0 || !strings.Contains(e.stderr, "server does not support SSL") {
		t.Errorf("sslmode=require: %+v", e)
	}
}

func TestPostgresClientIsToldWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		host string
		tls  bool
		want string
	}{
		"wrong name": {"other.example.test", true, "certificate is for other.example.test, not db.example.test"},
		"no TLS":     {"db.example.test", false, "the server does not offer TLS: it answered SSLRequest with N"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startPostgres(t, c.host, c.tls)
			e := s.psql(t, starttlsRule(t, s, "postgres"), "disable", "psql", "-XAtc", "select 1")
			if e.status == 0 || !strings.Contains(e.stderr, c.want) {
				t.Errorf("status %d, stderr %s, want %s", e.status, e.stderr, c.want)
			}
		})
	}
}
