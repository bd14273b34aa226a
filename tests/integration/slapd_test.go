package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// startSlapd starts a directory server that answers under TLS alone. The marker is the
// password of cn=admin.
func startSlapd(t *testing.T, certifiedHost string, tls bool) *site {
	t.Helper()
	dir, marker := openDir(t), newMarker()
	certFile, keyFile := certificateFor(t, dir, certifiedHost)
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	secure := fmt.Sprintf("TLSCertificateFile %s\nTLSCertificateKeyFile %s\nsecurity ssf=128\n", certFile, keyFile)
	if !tls {
		secure = ""
	}
	conf := fileIn(t, dir, "slapd.conf", fmt.Sprintf(`
include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile %[1]s/pid
%[2]s
database mdb
suffix "dc=example"
rootdn "cn=admin,dc=example"
rootpw %[3]s
directory %[1]s/data
dbnosync
`, dir, secure, marker))
	port := closedPort(t)
	startServer(t, dir, "127.0.0.1:"+port, "slapd", "-d", "0", "-f", conf, "-h", "ldap://127.0.0.1:"+port)
	return &site{host: "db.example.test", port: number(t, port), marker: marker}
}

func (s *site) ldap(t *testing.T, stdin, program string, args ...string) ended {
	t.Helper()
	w := starttlsRule(t, s, "ldap")
	w.stdin = strings.NewReader(stdin)
	return w.run(t, append([]string{program, "-x", "-H", "ldap://" + s.hostport(), "-D", "cn=admin,dc=example", "-w", s.marker}, args...)...)
}

func TestLDAPProgramsWithoutTLS(t *testing.T) {
	s := startSlapd(t, "db.example.test", true)
	watchPort(t, s.host, s.port, s.marker)
	const entries = 2000
	var ldif strings.Builder
	fmt.Fprint(&ldif, "dn: dc=example\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: x\n\n")
	for i := range entries {
		fmt.Fprintf(&ldif, "dn: cn=p%d,dc=example\nobjectClass: person\ncn: p%d\nsn: x\ndescription: %s\n\n", i, i, strings.Repeat(s.marker, 40))
	}
	s.ldap(t, ldif.String(), "ldapadd").must(t)
	e := s.ldap(t, "", "ldapsearch", "-LLL", "-o", "ldif-wrap=no", "-b", "dc=example", "(objectClass=person)", "description").must(t)
	if n := strings.Count(e.stdout, "description: "+strings.Repeat(s.marker, 40)+"\n"); n != entries {
		t.Errorf("ldapsearch found %d entries: %s", n, tail(e.stdout))
	}
	e = starttlsRule(t, s, "ldap").run(t, quietCurl("-u", "cn=admin,dc=example:"+s.marker, "ldap://"+s.hostport()+"/dc=example?description?sub?(objectClass=person)")...).must(t)
	if n := strings.Count(e.stdout, "description: "+strings.Repeat(s.marker, 40)+"\n"); n != entries {
		t.Errorf("curl found %d entries: %s", n, tail(e.stdout))
	}
	// One that asks for TLS itself is told by the server that it has begun.
	if e := s.ldap(t, "", "ldapsearch", "-Z", "-LLL", "-b", "dc=example", "-s", "base"); !strings.Contains(e.stderr, "TLS already started") {
		t.Errorf("ldapsearch -Z: status %d, %s", e.status, e.stderr)
	}
}

func TestLDAPProgramIsToldWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		host string
		tls  bool
		want string
	}{
		"wrong name": {"other.example.test", true, "certificate is for other.example.test, not db.example.test"},
		"no TLS":     {"db.example.test", false, "the server refused TLS: result 2, \"unsupported extended operation\""},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSlapd(t, c.host, c.tls)
			e := s.ldap(t, "", "ldapsearch", "-b", "dc=example")
			if e.status == 0 || !strings.Contains(e.stderr, c.want) {
				t.Errorf("status %d, stderr %s, want %s", e.status, e.stderr, c.want)
			}
		})
	}
}
