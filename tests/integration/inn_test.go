package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// innDir is INN's programs and libraries.
func innDir() string { return filepath.Join(lab.dir, "inn") }

// asNews is INN's user, which its server does not run without.
func asNews(argv ...string) []string {
	return append([]string{"setpriv", "--reuid=news", "--regid=news", "--clear-groups"}, argv...)
}

// startINN starts a news server that takes passwords under TLS alone, with the group
// test.big. The marker is that of its user "u".
func startINN(t *testing.T, certifiedHost string, tls bool) *site {
	t.Helper()
	testkit.Need(t, "setpriv", "openssl")
	testkit.NeedFetched(t, innDir())
	dir, marker, port := openDir(t), newMarker(), closedPort(t)
	for _, d := range []string{"articles", "overview", "incoming/bad", "outgoing", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	certFile, keyFile := certificateFor(t, dir, certifiedHost)
	secure := fmt.Sprintf("tlscertfile: %s\ntlskeyfile: %s\n", certFile, keyFile)
	if !tls {
		secure = ""
	}
	conf := fileIn(t, dir, "inn.conf", fmt.Sprintf(`
mta: "/bin/false %%s"
domain: example.test
pathhost: news.example.test
bindaddress: 127.0.0.1
hismethod: hisv6
ovmethod: tradindexed
enableoverview: true
maxartsize: 0
localmaxartsize: 0
nnrpdloadlimit: 0
runasuser: news
runasgroup: news
pathbin: %[1]s
pathnews: %[2]s
pathetc: %[2]s
pathdb: %[2]s
pathrun: %[2]s
pathlog: %[2]s
pathspool: %[2]s
patharticles: %[2]s/articles
pathoverview: %[2]s/overview
pathincoming: %[2]s/incoming
pathtmp: %[2]s/tmp
`+secure, innDir(), dir))
	const none = "0000000000 0000000001" // articles
	hash, err := exec.Command("openssl", "passwd", "-6", marker).Output()
	if err != nil {
		t.Fatal(err)
	}
	users := fileIn(t, dir, "users", "u:"+string(hash))
	for name, text := range map[string]string{
		"readers.conf": fmt.Sprintf("auth all {\n hosts: *\n auth: \"ckpasswd -f %s\"\n require_encryption: true\n}\n"+
			"access all {\n users: u\n newsgroups: *\n access: RPA\n}\n", users),
		"storage.conf":  "method tradspool {\n newsgroups: *\n class: 0\n}\n",
		"newsfeeds":     "ME:!*/!local::\n\nnone:!*:Tf:none\n",
		"active":        "control " + none + " n\ncontrol.cancel " + none + " n\njunk " + none + " y\ntest.big " + none + " y\n",
		"incoming.conf": "", "control.ctl": "", "moderators": "", "passwd.nntp": "", "expire.ctl": "",
		"newsgroups": "", "active.times": "", "history": "",
	} {
		fileIn(t, dir, name, text)
	}
	env := []string{"env", "INNCONF=" + conf, "LD_LIBRARY_PATH=" + innDir()}
	for _, argv := range [][]string{
		{"chown", "-R", "news:news", dir},
		asNews(append(env, filepath.Join(innDir(), "makedbz"), "-i", "-o")...),
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", argv, err, out)
		}
	}
	startServer(t, dir, "127.0.0.1:"+port, asNews(append(env, filepath.Join(innDir(), "innd"), "-f", "-P", port)...)...)
	return &site{host: "db.example.test", port: number(t, port), marker: marker}
}

const articleLines = 60000

// nntpJob logs in, posts an article of megabytes and reads it.
func (s *site) nntpJob() string {
	return fmt.Sprintf(`
import sys, warnings
warnings.simplefilter("ignore")
import nntplib
n = nntplib.NNTP(%[1]q, %[2]d)
assert "STARTTLS" not in n.getcapabilities()
n.login("u", %[3]q)
lines = [%[3]q.encode()] * %[4]d
n.post(b"From: a@example.test\r\nNewsgroups: test.big\r\nSubject: big\r\nMessage-ID: <1@example.test>\r\n\r\n" + b"\r\n".join(lines) + b"\r\n")
n.group("test.big")
assert n.body("<1@example.test>")[1].lines == lines
print(n.quit()[:3])
`, s.host, s.port, s.marker, articleLines)
}

func TestNewsReaderWithoutTLSPostsAndReads(t *testing.T) {
	s := startINN(t, "db.example.test", true)
	watchPort(t, s.host, s.port, s.marker)
	w := starttlsRule(t, s, "nntp")
	w.stdin = strings.NewReader(s.nntpJob())
	if e := w.run(t, python, "-").must(t); e.stdout != "205\n" {
		t.Errorf("stdout %q", e.stdout)
	}
}

func TestNewsReaderIsToldWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		host string
		tls  bool
		want string
	}{
		"wrong name": {"other.example.test", true, "certificate is for other.example.test, not db.example.test"},
		"no TLS":     {"db.example.test", false, "the server did not send the go-ahead for TLS: it said"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startINN(t, c.host, c.tls)
			s.keepSecret(t)
			w := starttlsRule(t, s, "nntp")
			w.stdin = strings.NewReader(s.nntpJob())
			if e := w.run(t, python, "-"); e.status == 0 || !strings.Contains(e.stderr, c.want) {
				t.Errorf("status %d, stderr %s, want %s", e.status, e.stderr, c.want)
			}
		})
	}
}
