package integration

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// nameServerAddress is where dnsmasq is the name server of this file's tests.
const nameServerAddress = "127.0.0.53"

var dnsmasq sync.Once

// withDNS is what comes before a command whose names are dnsmasq's: a, one and two.dns.test are 127.0.0.5, many.dns.test has so many
// addresses that they do not fit into a datagram, alias.dns.test stands for target.dns.test, plain.pass.test
// has no rule.
func withDNS(t *testing.T, argv ...string) []string {
	t.Helper()
	testkit.Need(t, "dnsmasq", "unshare")
	dnsmasq.Do(func() {
		args := []string{"--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--bind-interfaces", "--user=root", "--pid-file=",
			"--listen-address=" + nameServerAddress, "--host-record=a.dns.test,one.dns.test,two.dns.test,127.0.0.5", "--host-record=plain.pass.test,127.0.0.7",
			"--host-record=target.dns.test,127.0.0.5", "--cname=alias.dns.test,target.dns.test", "--host-record=dual.dns.test,127.0.0.6,::1",
			"--local=/test/"}
		for i := range 60 {
			args = append(args, fmt.Sprintf("--host-record=many.dns.test,127.0.5.%d", i+1))
		}
		cmd := exec.Command("dnsmasq", args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := startFor(cmd); err != nil {
			t.Fatal(err)
		}
	})
	eventually(t, "dnsmasq serves", 20*time.Second, func() bool {
		c, err := net.Dial("tcp", nameServerAddress+":53")
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	dir := t.TempDir()
	script := ""
	for file, text := range map[string]string{
		"hosts":         "127.0.0.1 localhost\n",
		"resolv.conf":   "nameserver " + nameServerAddress + "\nsearch dns.test\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		script += fmt.Sprintf(`mount --bind "$0"/%[1]s "$(realpath /etc/%[1]s)" && `, file)
	}
	return append([]string{"unshare", "--mount", "sh", "-c", script + `exec "$@"`, dir}, argv...)
}

// startFor starts a command that lives as long as this process.
func startFor(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		// The death signal comes when the thread that started the child ends.
		runtime.LockOSThread()
		started <- cmd.Start()
		cmd.Wait()
	}()
	return <-started
}

// askers are programs that find addresses in ways that the shim does not see. A wildcard rule holds for them too.
var askers = map[string]func(t *testing.T, s *site) []string{
	"static":      fetcher("libc", "gcc", "-static", "-DSTATIC"),
	"static musl": fetcher("libc", "musl-gcc", "-static", "-DSTATIC"),
	"Go":          goFetcher(false),
	"Go with cgo": goFetcher(true),
	"busybox-static wget": func(t *testing.T, s *site) []string {
		return []string{busyboxStatic(t), "wget", "-q", "-O", "-", s.url("/fixed")}
	},
	"c-ares": func(t *testing.T, s *site) []string {
		testkit.Need(t, "node")
		return []string{"/usr/bin/node", "-e", `const [host, path, port] = process.argv.slice(1)
require("dns").resolve4(host, (err, all) => {
  if (err) throw err
  require("http").get({host: all[0], port, path, agent: false}, r => r.pipe(process.stdout))
})`, s.host, "/fixed?" + s.marker, s.portString()}
	},
	"the shim": func(t *testing.T, s *site) []string { return curlArgs(s) },
}

func init() {
	for _, how := range []string{"sendto", "sendmsg", "sendmmsg", "connect", "tcp"} {
		for kind, flags := range kinds {
			askers["a question by "+how+", "+kind] = func(t *testing.T, s *site) []string {
				return []string{compile(t, "ask.c", flags...), how, s.host, s.portString(), s.marker}
			}
		}
	}
}

func TestWildcardRulesHoldForProgramsWithResolversOfTheirOwn(t *testing.T) {
	for name, argv := range askers {
		for _, host := range []string{"a.dns.test", "alias.dns.test"} {
			t.Run(strings.ReplaceAll(name, " ", "_")+"/"+host, func(t *testing.T) {
				t.Parallel()
				s := serveAt(t, "127.0.0.5:0", host)
				own := []string{lab.tlswrap, "--ca", lab.rootPEM, "--rules", writeRules(t, fmt.Sprintf("[[rule]]\nhost = \"*.dns.test\"\nport = %d\n", s.port))}
				e := wrapped{bare: true}.run(t, withDNS(t, append(own, argv(t, s)...)...)...).must(t)
				if e.stdout != s.marker+"\n" {
					t.Errorf("it got %q, stderr %q", e.stdout, e.stderr)
				}
			})
		}
	}
}

// serveAt is serveSite at an address that the hosts file does not have.
func serveAt(t *testing.T, address, host string) *site {
	t.Helper()
	marker := newMarker()
	server, err := testkit.ServeHTTP(address, serverConfig(t, testkit.Leaf{Names: []string{host}}), testkit.Site(marker))
	return watched(t, host, marker, server, err)
}

// Answers that do not fit into a datagram.
func TestNameOfManyAddressesIsFoundByEveryResolver(t *testing.T) {
	for name, argv := range askers {
		if strings.HasPrefix(name, "a question by") && !strings.HasPrefix(name, "a question by tcp") {
			continue // these do not ask again
		}
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := serveAt(t, "0.0.0.0:0", "many.dns.test")
			own := []string{lab.tlswrap, "--ca", lab.rootPEM, "--rules", writeRules(t, fmt.Sprintf("[[rule]]\nhost = \"*.dns.test\"\nport = %d\n", s.port))}
			e := wrapped{bare: true}.run(t, withDNS(t, append(own, argv(t, s)...)...)...).must(t)
			if e.stdout != s.marker+"\n" {
				t.Errorf("it got %q, stderr %q", e.stdout, e.stderr)
			}
		})
	}
}

// Two names of one address are told apart, as their synthetic addresses are two.
func TestNamesOfOneAddressAreToldApartForProgramsWithResolversOfTheirOwn(t *testing.T) {
	for name, argv := range askers {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			one, two := serverConfig(t, testkit.Leaf{Names: []string{"one.dns.test"}}), serverConfig(t, testkit.Leaf{Names: []string{"two.dns.test"}})
			config := &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				return map[string]*tls.Config{"one.dns.test": one, "two.dns.test": two}[hello.ServerName], nil
			}}
			marker := newMarker()
			server, err := testkit.ServeHTTP("127.0.0.5:0", config, testkit.Site(marker))
			s := watched(t, "one.dns.test", marker, server, err)
			own := []string{lab.tlswrap, "--ca", lab.rootPEM, "--rules", writeRules(t, fmt.Sprintf("[[rule]]\nhost = \"*.dns.test\"\nport = %d\n", s.port))}
			other := *s
			other.host = "two.dns.test"
			for _, s := range []*site{s, &other} {
				if e := (wrapped{bare: true}).run(t, withDNS(t, append(own, argv(t, s)...)...)...).must(t); e.stdout != marker+"\n" {
					t.Errorf("%s: it got %q, stderr %q", s.host, e.stdout, e.stderr)
				}
			}
		})
	}
}

// What no rule covers is answered as the name server answers it, and what it does not know is unknown.
func TestNamesWithoutRulesAreTheNameServersOwn(t *testing.T) {
	for name, argv := range askers {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			marker := newMarker()
			server, err := testkit.ServeHTTP("127.0.0.7:0", nil, testkit.Site(marker))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Close)
			own := []string{lab.tlswrap, "--rules", writeRules(t, "[[rule]]\nhost = \"*.dns.test\"\nport = 1\n")}
			s := &site{host: "plain.pass.test", port: server.Port(), marker: marker}
			if e := (wrapped{bare: true}).run(t, withDNS(t, append(own, argv(t, s)...)...)...).must(t); e.stdout != marker+"\n" {
				t.Errorf("it got %q, stderr %q", e.stdout, e.stderr)
			}
			s.host = "nowhere.pass.test"
			got := wrapped{bare: true}.run(t, withDNS(t, append(own, argv(t, s)...)...)...)
			want := wrapped{bare: true}.run(t, withDNS(t, argv(t, s)...)...)
			if strings.Contains(got.stdout, marker+"\n") || name == "static" && got.stderr != want.stderr {
				t.Errorf("a name that nobody has: it got %q, stderr %q, and without tlswrap %q", got.stdout, got.stderr, want.stderr)
			}
		})
	}
}

// A rule that shows real addresses shows them to every resolver.
func TestRealAddressesAreShownToProgramsWithResolversOfTheirOwn(t *testing.T) {
	for rule, want := range map[string]string{"": "198.1", "addresses = \"real\"\n": "127.0.0.5"} {
		file := writeRules(t, "[[rule]]\nhost = \"a.dns.test\"\nport = 1\n"+rule)
		e := wrapped{bare: true}.run(t, withDNS(t, lab.tlswrap, "--rules", file, busyboxStatic(t), "nslookup", "a.dns.test")...)
		if _, answer, found := strings.Cut(e.stdout, "a.dns.test"); !found || !strings.Contains(answer, want) {
			t.Errorf("%q shows %q, want %s, stderr %q", rule, e.stdout, want, e.stderr)
		}
	}
}
