package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tlswrap/tests/testkit"
)

// credentials are files in a folder that the rules of a test name.
type credentials struct{ dir string }

func (c credentials) path(name string) string { return filepath.Join(c.dir, name) }

func (c credentials) write(t *testing.T, name string, parts ...string) {
	t.Helper()
	var text []byte
	for _, part := range parts {
		data, err := os.ReadFile(c.path(part))
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, data...)
	}
	if err := os.WriteFile(c.path(name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (c credentials) issue(t *testing.T, by *testkit.Authority, leaf testkit.Leaf, name string) {
	t.Helper()
	cert, err := by.Issue(leaf)
	if err == nil {
		_, _, err = cert.WriteFiles(c.dir, name)
	}
	if err == nil {
		_, _, err = cert.WithoutChain().WriteFiles(c.dir, name+"-alone")
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (c credentials) openssl(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = c.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl %q: %v\n%s", args, err, out)
	}
}

func makeCredentials(t *testing.T) credentials {
	t.Helper()
	testkit.Need(t, "openssl")
	c := credentials{t.TempDir()}
	between, err := lab.root.Intermediate("between")
	if err != nil {
		t.Fatal(err)
	}
	low, err := between.Intermediate("low")
	if err != nil {
		t.Fatal(err)
	}
	client := testkit.Leaf{CommonName: "a client", ClientOnly: true}
	c.issue(t, low, client, "client")
	c.issue(t, lab.root, client, "other")
	past := client
	past.NotBefore, past.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	c.issue(t, lab.root, past, "past")
	for name, a := range map[string]*testkit.Authority{"root.pem": lab.root, "between.pem": between, "low.pem": low} {
		if err := a.WriteFile(c.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	c.openssl(t, "pkcs8", "-topk8", "-v2", "aes256", "-passout", "pass:x", "-in", "client.key", "-out", "encrypted.key")
	c.openssl(t, "ec", "-aes256", "-passout", "pass:x", "-in", "client.key", "-out", "old.key")
	c.openssl(t, "pkey", "-in", "client.key", "-outform", "DER", "-out", "der.key")
	c.openssl(t, "x509", "-in", "root.pem", "-trustout", "-addtrust", "serverAuth", "-out", "trusted.pem")
	c.openssl(t, "x509", "-in", "root.pem", "-outform", "DER", "-out", "root.der")
	for _, key := range []string{"encrypted.key", "old.key", "der.key"} {
		if err := os.Chmod(c.path(key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.write(t, "turned.pem", "between.pem", "low.pem", "client-alone.pem")
	c.write(t, "mixed.pem", "client-alone.pem", "between.pem", "low.pem")
	c.write(t, "torn.pem", "root.pem", "between.pem")
	whole, err := os.ReadFile(c.path("torn.pem"))
	if err == nil {
		err = os.WriteFile(c.path("torn.pem"), whole[:len(whole)-60], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What a run fails of, check has found before, at the same place and in the same words.
func TestCheckFindsWhatARunFailsOf(t *testing.T) {
	c := makeCredentials(t)
	for _, tt := range []struct{ ca, cert, key, line, want string }{
		{"root.pem", "client.pem", "client.key", "", ""},
		{"root.pem", "client.pem", "encrypted.key", "6", "key_file " + c.path("encrypted.key") + " is encrypted, expected a key without a passphrase"},
		{"root.pem", "client.pem", "old.key", "6", "key_file " + c.path("old.key") + " is encrypted, expected a key without a passphrase"},
		{"root.pem", "client.pem", "der.key", "6", "key_file " + c.path("der.key") + " is in DER form, expected PEM"},
		{"root.pem", "client.pem", "other.key", "6", "key_file " + c.path("other.key") + " is not the key of " + c.path("client.pem") + `, whose certificate is "CN=a client"`},
		{"root.pem", "turned.pem", "client.key", "5", "cert_file " + c.path("turned.pem") + ` begins with another certificate, "CN=between", and that of key_file is number 3`},
		{"root.pem", "client.key", "client.key", "5", "cert_file " + c.path("client.key") + " has no CERTIFICATE in PEM form, only PRIVATE KEY"},
		{"trusted.pem", "client.pem", "client.key", "4", "ca_file " + c.path("trusted.pem") + " is in OpenSSL's own form, TRUSTED CERTIFICATE, expected CERTIFICATE"},
		{"root.der", "client.pem", "client.key", "4", "ca_file " + c.path("root.der") + " is in DER form, expected PEM"},
		{"nothing.pem", "client.pem", "client.key", "4", "ca_file cannot be read: open " + c.path("nothing.pem") + ": no such file"},
	} {
		rules := writeRules(t, fmt.Sprintf("[[rule]]\nhost = \"db.example.test\"\n\nca_file = %q\ncert_file = %q\nkey_file = %q\n", c.path(tt.ca), c.path(tt.cert), c.path(tt.key)))
		check := wrapped{bare: true}.run(t, lab.tlswrap, "check", rules)
		ran := wrapped{bare: true}.run(t, lab.tlswrap, "--rules", rules, "true")
		if tt.want == "" {
			if check.status != 0 || ran.status != 0 {
				t.Errorf("good files: check: %d %q, a run: %d %q", check.status, check.stdout, ran.status, ran.stderr)
			}
			continue
		}
		want := rules + ":" + tt.line + ":1: " + tt.want
		if check.status != 1 || !strings.HasPrefix(check.stdout, want) || strings.Count(check.stdout, "\n") != 1 {
			t.Errorf("check: status %d, %q, want %q", check.status, check.stdout, want)
		}
		if ran.status != 125 || ran.stderr != "tlswrap: "+check.stdout {
			t.Errorf("a run: status %d, %q, want %q", ran.status, ran.stderr, "tlswrap: "+check.stdout)
		}
	}
}

// What a run does not mind is found where it is surely not meant.
func TestCheckFindsWhatIsSurelyNotMeant(t *testing.T) {
	c := makeCredentials(t)
	rule := "[[rule]]\nhost = \"db.example.test\"\n"
	for text, want := range map[string]string{
		rule + fmt.Sprintf("cert_file = %q\nkey_file = %q\n", c.path("mixed.pem"), c.path("client.key")):               ":3:1: cert_file " + c.path("mixed.pem") + ` is not in order: its certificate 2, "CN=between", has not issued number 1, "CN=a client"`,
		rule + fmt.Sprintf("cert_file = %q\nkey_file = %q\n", c.path("past.pem"), c.path("past.key")):                  ":3:1: cert_file " + c.path("past.pem") + " has expired on ",
		rule + fmt.Sprintf("ca_file = %q\n", c.path("torn.pem")):                                                       ":3:1: ca_file " + c.path("torn.pem") + " has 1 block that cannot be read",
		rule + fmt.Sprintf("ca_file = %q\n", c.path("past.pem")):                                                       ":3:1: ca_file " + c.path("past.pem") + " has no certificate that has not expired",
		fmt.Sprintf("[[listen]]\nport = 1\ncert_file = %q\nkey_file = %q\n", c.path("other.pem"), c.path("other.key")): ":3:1: cert_file " + c.path("other.pem") + " is not for TLS servers",
		"[[rule]]\nhost = \"*.example.test\"\n":                                                                        `:2:1: rule 1 does not cover a program that connects to an address of "*.example.test" which it has not looked up by the C library (or, where the kernel holds it, at port 53), and it passes: default = "deny" closes that, and default = "pass" in the file says that it is meant`,
		"[[rule]]\nhost = \"10.0.0.1-10.0.0.9\"\n":                                                                     `:2:1: host is "10.0.0.1-10.0.0.9", a range of addresses; expected a CIDR such as "10.0.0.0/28"`,
	} {
		rules := writeRules(t, text)
		e := wrapped{bare: true}.run(t, lab.tlswrap, "check", rules)
		if e.status != 1 || !strings.HasPrefix(e.stdout, rules+want) || strings.Contains(e.stdout, "nothing wrong") {
			t.Errorf("%s: status %d, %q, want %q", text, e.status, e.stdout, rules+want)
		}
	}
}

func TestCheckRemindsOfWhatIsMeant(t *testing.T) {
	for text, want := range map[string]string{
		"default = \"pass\"\n[[rule]]\nhost = \"*.example.test\"\n":                                  ": 1 rule, 1 reminder\n",
		"default = \"pass\"\n[[rule]]\nhost = \"*.a.test\"\n[[rule]]\nhost = \"*.b.test\"\n":         ": 2 rules, 2 reminders\n",
		"default = \"deny\"\n[[rule]]\nhost = \"*.example.test\"\n":                                  ": 1 rule, nothing wrong\n",
		"[[rule]]\nhost = \"*.example.test\"\nport = 1\n[[rule]]\nhost = \"*\"\naction = \"deny\"\n": ": 2 rules, nothing wrong\n",
		"default = \"deny\"\n": ": 0 rules, nothing wrong\n",
	} {
		rules := writeRules(t, text)
		e := wrapped{bare: true}.run(t, lab.tlswrap, "check", rules)
		if e.status != 0 || !strings.HasSuffix(e.stdout, rules+want) {
			t.Errorf("%s: status %d, %q, want %q", text, e.status, e.stdout, rules+want)
		}
	}
}

// What explain says of an address without a name is what becomes of it, by preload and by kernel.
func TestExplainTellsTheTruthOfABareAddress(t *testing.T) {
	port := closedPort(t) // at an address that no line of hosts has
	w := withRules(t, "[[rule]]\nhost = \"*.example.test\"\nport = %s\n", port)
	rules := w.flags[len(w.flags)-1]
	e := wrapped{bare: true}.run(t, lab.tlswrap, "explain", "--rules", rules, "127.0.0.9:"+port).must(t)
	for _, want := range []string{"name      none: a rule with a wildcard counts where a program has looked the name up; explain that\n", "verdict   passed as it is, no TLS added\n"} {
		if !strings.Contains(e.stdout, want) {
			t.Errorf("explain does not say %q:\n%s", want, e.stdout)
		}
	}
	w.flags = append(w.flags, "-v")
	for kind, flags := range kinds {
		if e := w.run(t, compile(t, "probe.c", flags...), "block", "127.0.0.9", port, "x"); !strings.Contains(e.stderr, "127.0.0.9:"+port+": passed as it is, no TLS added (no rule), by "+ways[kind]+"\n") {
			t.Errorf("%s: stderr: %q", kind, e.stderr)
		}
	}
	e = wrapped{bare: true}.run(t, lab.tlswrap, "explain", "198.18.0.1:80")
	if e.status != 1 || !strings.Contains(e.stdout, "198.18.0.1 is a synthetic address, which stands for a name only in the run that has shown it") {
		t.Errorf("explain says of a synthetic address: status %d, %q", e.status, e.stdout)
	}
}

// A flag that others have does what was meant, or says what does.
func TestOtherProgramsFlagsAreUnderstood(t *testing.T) {
	for _, c := range []struct {
		argv []string
		want string
	}{
		{[]string{"-k", "true"}, `no flag switches verification off; verify = "none" in a rule does`},
		{[]string{"--insecure", "true"}, `no flag switches verification off`},
		{[]string{"-V"}, "did you mean --version?"},
		{[]string{"--rulez", "x", "true"}, "did you mean --rules?"},
		{[]string{"-ruls", "x", "true"}, "did you mean --rules?"},
		{[]string{"explain", "--tlss", "db.test:1", "db.test:1"}, "did you mean --tls?"},
		{[]string{"worker", "--sockt", "x"}, "did you mean --socket?"},
		{[]string{"--check", "x"}, "check is a command, which comes first and without dashes: tlswrap check"},
		{[]string{"--tls", "http://db.test:8080", "true"}, "did you mean --tls db.test:8080?"},
		{[]string{"--tls", "db.test", "true"}, "such as --tls db.test:443"},
		{[]string{"explain", "db.test"}, "did you mean tlswrap explain db.test:80?"},
		{[]string{"explain", "--tls", "db.test:99", "db.test"}, "did you mean tlswrap explain db.test:99?"},
		{[]string{"explain", "https://db.test/x"}, "did you mean tlswrap explain db.test:443?"},
		{[]string{"explain", "::1"}, "did you mean tlswrap explain [::1]:80?"},
		{[]string{"explain", "db.test:https"}, "did you mean tlswrap explain db.test:443?"},
	} {
		e := wrapped{bare: true}.run(t, append([]string{lab.tlswrap}, c.argv...)...)
		if e.status != 125 || !strings.Contains(e.stderr, c.want) || strings.Count(e.stderr, "\n") != 1 {
			t.Errorf("%q: status %d, stderr: %q, want %q", c.argv, e.status, e.stderr, c.want)
		}
	}
	for _, argv := range [][]string{{"--version"}, {"check", "--version"}, {"explain", "--version"}, {"worker", "--version"}, {"doctor", "--version"}} {
		if e := (wrapped{bare: true}).run(t, append([]string{lab.tlswrap}, argv...)...); e.status != 0 || !strings.HasPrefix(e.stdout, "tlswrap ") {
			t.Errorf("%q: status %d, stdout: %q, stderr: %q", argv, e.status, e.stdout, e.stderr)
		}
	}
	s := serveTLS(t, "db.example.test", echo)
	w := s.wrapped()
	w.flags = append(w.flags, "--verbose")
	if e := w.run(t, "bash", "-c", `: <>/dev/tcp/$1/$2`, "bash", s.host, s.portString()); !strings.Contains(e.stderr, ": verified, TLS 1.3, ") {
		t.Errorf("--verbose: stderr: %q", e.stderr)
	}
}
