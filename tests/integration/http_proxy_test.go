package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tlswrap/tests/testkit"
)

// proxiedCurl is curl that goes by the environment, and not by its own settings.
func proxiedCurl(args ...string) []string {
	return append([]string{curl, "-q", "-sS", "--fail"}, args...)
}

// plainSite starts a web site without TLS, and returns its host and port and what it says.
func plainSite(t *testing.T, host string) (hostport, marker string) {
	t.Helper()
	marker = newMarker()
	server, err := testkit.ServeHTTP(listenAddr(t, host), nil, testkit.Site(marker))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return fmt.Sprintf("%s:%d", host, server.Port()), marker
}

// mustSay fails the test unless tlswrap said exactly these lines, and the program ended well.
func (e ended) mustSay(t *testing.T, lines ...string) {
	t.Helper()
	var said []string
	for line := range strings.Lines(e.stderr) {
		if strings.HasPrefix(line, "tlswrap: ") {
			said = append(said, strings.TrimSuffix(line, "\n"))
		}
	}
	if got, want := strings.Join(said, "\n"), strings.Join(lines, "\n"); e.status != 0 || got != want {
		t.Errorf("status %d, tlswrap said\n%s\nwant\n%s\nall of it: %s", e.status, got, want, tail(e.stderr))
	}
}

// byProxy is the sentence about requests that go to a proxy in plaintext.
func byProxy(hosts, variable, addr string) string {
	return fmt.Sprintf("tlswrap: requests for %s by way of %s go to %s, which no rule covers, in plaintext; "+
		"list what rules cover in no_proxy (a rule can name the proxy in via), or give the proxy a rule", hosts, variable, addr)
}

func TestPlaintextToTheProxyOfTheEnvironmentIsToldOnce(t *testing.T) {
	const host = "other.example.test" // its address is not the proxy's
	hostport, marker := plainSite(t, host)
	_, sitePort, _ := strings.Cut(hostport, ":")
	url := "http://" + hostport + "/fixed"
	addr := startTinyproxy(t, "", &site{port: number(t, sitePort)})
	_, port, _ := strings.Cut(addr, ":")
	http := "http_proxy=http://" + addr
	told := byProxy(host, "http_proxy", addr)
	rule := func(host string, more ...string) string {
		return fmt.Sprintf("[[rule]]\nhost = %q\n%s\n", host, strings.Join(more, "\n"))
	}
	port80 := rule(host, "port = 80")
	wget := []string{"wget", "--no-config", "-nv", "-O", "-", url}
	urllib := []string{python, "-c", "import sys, urllib.request as u; sys.stdout.buffer.write(u.urlopen(sys.argv[1]).read())", url}
	for name, c := range map[string]struct {
		rules string // "" for the built-in ones, with --tls
		env   []string
		argv  []string
		want  []string
	}{
		"curl":                         {port80, []string{http}, proxiedCurl(url), []string{told}},
		"curl with CONNECT":            {port80, []string{http}, proxiedCurl("-p", url), []string{told}},
		"without a scheme":             {port80, []string{"http_proxy=" + addr + "/"}, proxiedCurl(url), []string{told}},
		"with a password":              {port80, []string{"http_proxy=http://u:p@" + addr}, proxiedCurl(url), []string{told}},
		"all_proxy":                    {port80, []string{"ALL_PROXY=http://" + addr}, proxiedCurl(url), []string{byProxy(host, "ALL_PROXY", addr)}},
		"wget":                         {port80, []string{http}, wget, []string{told}},
		"urllib and upper case":        {port80, []string{"HTTP_PROXY=http://" + addr}, urllib, []string{byProxy(host, "HTTP_PROXY", addr)}},
		"the proxy by its name":        {port80, []string{"http_proxy=http://Plain.example.test:" + port}, wget, []string{byProxy(host, "http_proxy", "plain.example.test:"+port)}},
		"a proxy of synthetic names":   {port80 + rule("db.example.test", "port = 81"), []string{"http_proxy=http://plain.example.test:" + port}, wget, []string{byProxy(host+", db.example.test", "http_proxy", "plain.example.test:"+port)}},
		"localhost":                    {port80, []string{"http_proxy=http://localhost:" + port}, proxiedCurl(url), []string{byProxy(host, "http_proxy", "localhost:"+port)}},
		"set by a script":              {port80, nil, append([]string{"sh", "-c", `export http_proxy=http://"$1"; shift; "$@"`, "sh", addr}, proxiedCurl(url)...), []string{told}},
		"three programs":               {port80, []string{http}, append([]string{"sh", "-c", `"$@" && "$@" && "$@"`, "sh"}, proxiedCurl(url)...), []string{told}},
		"after another connection":     {port80, []string{http, "no_proxy=127.0.0.2"}, proxiedCurl("http://127.0.0.2:"+sitePort+"/fixed", url), []string{told}},
		"after one that a rule passes": {port80 + rule("127.0.0.2", "port = "+sitePort, `action = "pass"`), []string{http, "no_proxy=127.0.0.2"}, proxiedCurl("http://127.0.0.2:"+sitePort+"/fixed", url), []string{told}},
		"no_proxy about others":        {port80, []string{http, "no_proxy=r.example.test, xother.example.test,127.0.0.1,10.0.0.0/8"}, proxiedCurl(url), []string{told}},
		"a rule that passes all ports of the proxy's host": {port80 + rule("127.0.0.0/8", `action = "pass"`), []string{http}, proxiedCurl(url), []string{told}},
		"many rules": {
			rule("*.wild.test") + port80 + rule("mail.example.test", "port = [25, 587]") + rule("10.1.0.0/16", "port = 8080") +
				rule("six.example.test", "port = 80") + rule("no.example.test", "port = 80", `action = "deny"`) + rule("lan4.example.test", "port = 80"),
			[]string{http, "no_proxy=lan4.example.test"}, proxiedCurl(url), []string{byProxy("*.wild.test, "+host+", 10.1.0.0/16 and 1 more", "http_proxy", addr)},
		},
		"built-in rules": {"", []string{http}, proxiedCurl(url), []string{byProxy(host+" and all other hosts", "http_proxy", addr)}},

		"a rule that passes the proxy's port": {port80 + rule("127.0.0.1", "port = "+port, `action = "pass"`), []string{http}, proxiedCurl(url), nil},
		"a program that goes by another way":  {port80, []string{http}, quietCurl(url), nil},
		"upper case and curl":                 {port80, []string{"HTTP_PROXY=http://" + addr}, proxiedCurl(url), nil},
		"no_proxy of the domain":              {port80, []string{http, "no_proxy=localhost, .example.test"}, proxiedCurl("-x", addr, "--noproxy", "nobody.test", url), nil},
		"no_proxy of all":                     {"", []string{http, "NO_PROXY=*"}, proxiedCurl("-x", addr, "--noproxy", "nobody.test", url), nil},
		"rules of other protocols":            {rule(host, "port = 5432", `starttls = "postgres"`) + rule(host, "port = 6667"), []string{http}, proxiedCurl(url), nil},
		"a rule that passes the host before":  {rule(host, `action = "pass"`) + port80, []string{http}, proxiedCurl(url), nil},
	} {
		t.Run(name, func(t *testing.T) {
			flags := []string{"--rules", writeRules(t, c.rules)}
			if c.rules == "" {
				flags = []string{"--tls", host + ":80"}
			}
			e := wrapped{flags: flags, env: c.env}.run(t, c.argv...)
			if !strings.Contains(e.stdout, marker) {
				t.Errorf("the program got %q, want %q", e.stdout, marker)
			}
			e.mustSay(t, c.want...)
		})
	}
}

// What goes to a proxy under a rule, or is refused, has no such sentence.
func TestProxyOfTheEnvironmentThatARuleCovers(t *testing.T) {
	s := serveSite(t, "db.example.test")
	addr := startTinyproxy(t, "", s)
	s.watchProxy(t, addr)
	env := []string{"http_proxy=http://" + addr, "no_proxy=db.example.test"}

	via := throughProxy(t, s, "http://"+addr)
	via.env = env
	via.run(t, proxiedCurl(s.url("/fixed"))...).must(t)

	// TLS with the proxy, by a rule for it.
	covered := wrapped{flags: []string{"--ca", lab.rootPEM, "--tls", s.hostport(), "--tls", "db.example.test:80"},
		env: []string{"http_proxy=http://" + s.hostport()}}
	got := covered.run(t, proxiedCurl("http://db.example.test/fixed?"+s.marker)...).must(t).stdout
	if got != s.marker+"\n" {
		t.Errorf("the program got %q from the proxy", got)
	}

	denying := wrapped{flags: []string{"--rules", writeRules(t, fmt.Sprintf("default = \"deny\"\nca_file = %q\n[[rule]]\nhost = %q\nport = %d\n", lab.rootPEM, s.host, s.port))},
		env: env[:1]}
	e := denying.run(t, proxiedCurl(s.url("/fixed"))...)
	if want := "tlswrap: " + addr + ": refused: no rule allows it (default = \"deny\"; a rule with action = \"tls\" or \"pass\" would)\n"; e.status == 0 || !strings.Contains(e.stderr, want) || strings.Contains(e.stderr, "by way of") {
		t.Errorf("status %d, stderr %s, want %s", e.status, e.stderr, want)
	}
}

// What https URLs send by CONNECT is not plaintext, but the host's rule does not count.
func TestTheProgramsOwnTLSToTheProxyIsToldOnce(t *testing.T) {
	s := serveSite(t, "db.example.test")
	addr := startTinyproxy(t, "", s)
	file := writeRules(t, "[[rule]]\nhost = \"db.example.test\"\nport = 443\n")
	w := wrapped{flags: []string{"--rules", file}, env: []string{"https_proxy=http://" + addr}}
	url := strings.Replace(s.url("/fixed"), "http:", "https:", 1)
	argv := append([]string{"sh", "-c", `"$@" && "$@"`, "sh"}, proxiedCurl("--cacert", lab.rootPEM, url)...)
	w.run(t, argv...).mustSay(t, strings.Replace(byProxy("db.example.test", "https_proxy", addr), "in plaintext", "as the program sends them", 1))
}

// The log has the sentence too, without the proxy's password.
func TestTheLogTellsOfTheProxyWithoutItsPassword(t *testing.T) {
	hostport, _ := plainSite(t, "db.example.test")
	addr := startTinyproxy(t, "secret", &site{port: number(t, hostport[strings.Index(hostport, ":")+1:])})
	log := filepath.Join(t.TempDir(), "log")
	file := writeRules(t, "[[rule]]\nhost = \"db.example.test\"\nport = 80\n")
	w := wrapped{flags: []string{"--log", log, "--rules", file}, env: []string{"http_proxy=http://u:secret@" + addr}}
	w.run(t, proxiedCurl("http://"+hostport+"/fixed")...).mustSay(t, byProxy("db.example.test", "http_proxy", addr))
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(data); strings.Count(text, "by way of http_proxy") != 1 || strings.Contains(text, "secret") {
		t.Errorf("the log says\n%s", text)
	}
}
