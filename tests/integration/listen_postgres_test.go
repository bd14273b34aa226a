package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// servePostgres starts a PostgreSQL server that knows nothing of TLS, under the listen rule
// of a worker of another account. The marker is the password of its user "u".
func servePostgres(t *testing.T) *served {
	t.Helper()
	s := serveUnder(t, "")
	argv := initPostgres(t, openDir(t), s.portString(), s.marker)
	socket := filepath.Join(s.dir, "socket")
	wrapped{bare: true}.start(t, lab.tlswrap, "worker", "--socket", socket, "--rules", s.rules, "--allow", "postgres")
	eventually(t, "the worker listens", 20*time.Second, func() bool {
		_, err := os.Stat(socket)
		return err == nil
	})
	s.running = wrapped{bare: true, dir: "/"}.start(t, asPostgres(append([]string{lab.tlswrap, "--worker", socket}, argv...)...)...)
	s.listens(t)
	return s
}

// client is a client of PostgreSQL's that is not wrapped.
func (s *served) client(t *testing.T, mode string, more []string, argv ...string) ended {
	t.Helper()
	return s.psql(t, wrapped{bare: true, env: append(more, "PGSSLROOTCERT="+lab.rootPEM)}, mode, argv...)
}

func TestPostgresServerGetsTLSWithoutKnowingIt(t *testing.T) {
	s := servePostgres(t)
	const lines = 100000
	query := fmt.Sprintf("select repeat('%s', %d)", s.marker, lines)
	// By sslmode=allow a client begins without TLS, and asks when it is refused.
	for _, mode := range []string{"verify-full", "require", "prefer", "allow"} {
		for _, gss := range []string{"prefer", "disable"} {
			e := s.client(t, mode, []string{"PGGSSENCMODE=" + gss}, "psql", "-XAtc", query).must(t)
			if e.stdout != strings.Repeat(s.marker, lines)+"\n" {
				t.Errorf("sslmode=%s gssencmode=%s: psql printed %s", mode, gss, tail(e.stdout))
			}
		}
	}
	if e := s.client(t, "verify-full", nil, "psql", "-Xc", `\conninfo`).must(t); !strings.Contains(e.stdout, "protocol: TLSv1.3") {
		t.Errorf("psql says %s", e.stdout)
	}
	e := s.client(t, "verify-full", nil, "psql", "-XAtc", "select client_addr, ssl from pg_stat_activity natural join pg_stat_ssl where pid = pg_backend_pid()").must(t)
	if e.stdout != "127.0.0.1|f\n" {
		t.Errorf("the server sees its client as %s", e.stdout)
	}
	s.client(t, "verify-full", nil, "pgbench", "-i", "-q", "-s", "1").must(t)
	if e := s.client(t, "verify-full", nil, "pgbench", "-C", "-c", "4", "-t", "25").must(t); !strings.Contains(e.stdout, "number of failed transactions: 0") {
		t.Errorf("pgbench said %s", e.stdout)
	}
	if e := s.client(t, "verify-full", nil, "pg_dump", "-t", "pgbench_accounts").must(t); strings.Count(e.stdout, "\n") < lines {
		t.Errorf("pg_dump wrote %d lines", strings.Count(e.stdout, "\n"))
	}
}

func TestPostgresServerTellsAClientThatItHasToUseTLS(t *testing.T) {
	s := servePostgres(t)
	e := s.client(t, "disable", nil, "psql", "-XAtc", "select 1")
	if e.status != 2 || !strings.Contains(e.stderr, "FATAL:  this server is reached by TLS only") {
		t.Errorf("status %d, stderr %s", e.status, e.stderr)
	}
	w := wrapped{bare: true, env: []string{"PGSSLROOTCERT=" + lab.rootPEM, "PGHOSTADDR=127.0.0.1"}}
	wrong := *s.site
	wrong.host = "wrong.example.test"
	if e := wrong.psql(t, w, "verify-full", "psql", "-XAtc", "select 1"); e.status != 2 || !strings.Contains(e.stderr, `does not match host name "wrong.example.test"`) {
		t.Errorf("status %d, stderr %s", e.status, e.stderr)
	}
	// And a client of ours, which knows no TLS, works with it.
	e = s.psql(t, starttlsRule(t, s.site, "postgres"), "disable", "psql", "-XAtc", "select 1").must(t)
	if e.stdout != "1\n" {
		t.Errorf("psql printed %s", e.stdout)
	}
}
