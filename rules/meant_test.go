package rules

import (
	"strings"
	"testing"
)

func TestAMistakeSaysWhatWouldBeRight(t *testing.T) {
	for line, want := range map[string]string{
		`verify = false`:              `verify is false, expected "full" or "none"; did you mean verify = "none"?`,
		`verify = "off"`:              `verify is "off", expected "full" or "none"; did you mean verify = "none"?`,
		`verify = true`:               `did you mean verify = "full"?`,
		`timeout = 30`:                `timeout is 30, expected a string; did you mean timeout = "30s"?`,
		`timeout = "30"`:              `such as "10s"; did you mean timeout = "30s"?`,
		`timeout = "2 minutes"`:       `did you mean timeout = "2m"?`,
		`min_version = 1.2`:           `min_version is 1.2, expected "1.2", "1.0", "1.1" or "1.3"; did you mean min_version = "1.2"?`,
		`min_version = "TLSv1.3"`:     `did you mean min_version = "1.3"?`,
		`min_version = "tls12"`:       `did you mean min_version = "1.2"?`,
		`min_version = "TLS 1.1"`:     `did you mean min_version = "1.1"?`,
		`action = "TLS"`:              `did you mean action = "tls"?`,
		`action = "allow"`:            `did you mean action = "pass"?`,
		`action = "reject"`:           `did you mean action = "deny"?`,
		`alpn = "h2"`:                 `alpn is the string "h2", expected a list of strings; did you mean alpn = ["h2"]?`,
		`allow_truncation = "true"`:   `did you mean allow_truncation = true?`,
		`upstream = 443`:              `did you mean upstream = ":443"?`,
		`upstream = "https://a.b/"`:   `did you mean upstream = "a.b:443"?`,
		`port = "80,443"`:             `did you mean port = [80, 443]?`,
		`port = "8000:8999"`:          `did you mean port = "8000-8999"?`,
		`via = "proxy.test:3128"`:     `did you mean via = "http://proxy.test:3128"?`,
		`via = "socks5h://p.test:1"`:  `did you mean via = "socks5://p.test:1"?`,
		`starttls = "postgresql"`:     `did you mean starttls = "postgres"?`,
		`starttls = "imap4"`:          `did you mean "imap"?`,
		`min_rsa_bits = 512`:          `min_rsa_bits is 512, expected a number from 1024 to 8192`,
		`allow_legacy = ["3des-cbc"]`: `allow_legacy has "3des-cbc", expected "rsa-key-exchange", "3des" or "cbc-sha256"`,
		`allow_legacy = ["tls10"]`:    `older versions of TLS are min_version's, such as "1.0"`,
		`allow_legacy = "3des"`:       `did you mean allow_legacy = ["3des"]?`,
	} {
		_, err := Parse("f", []byte("[[rule]]\nhost = \"a\"\n"+line+"\n"))
		if err == nil || !strings.HasPrefix(err.Error(), "f:3:") || !strings.HasSuffix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %s", line, err, want)
		}
	}
}

func TestAHostThatIsNoneSaysHowItIsWritten(t *testing.T) {
	for host, want := range map[string]string{
		"10.0.0.1-10.0.0.9":       `host is "10.0.0.1-10.0.0.9", a range of addresses; expected a CIDR such as "10.0.0.0/28", which has all of it`,
		"10.0.0.1-9":              `such as "10.0.0.0/28"`,
		"10.0.0.0 - 10.0.1.255":   `such as "10.0.0.0/23"`,
		"2001:db8::1-2001:db8::f": `such as "2001:db8::/124"`,
		"10.0.*.*":                `; did you mean "10.0.0.0/16"?`,
		"10.1.0.0/255.255.0.0":    `; did you mean "10.1.0.0/16"?`,
		".example.com":            `; did you mean "*.example.com"?`,
		"db.test:5432":            `; did you mean host = "db.test" and port = 5432?`,
		"https://db.test/":        `; did you mean host = "db.test" and port = 443?`,
		"[2001:db8::1]":           `; did you mean host = "2001:db8::1"?`,
		"a.test, b.test":          `; each host has a [[rule]] of its own`,
	} {
		if _, err := ParseHost(host); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", host, err, want)
		}
	}
	for _, name := range []string{"10-0-0-1.test", "a-b", "1-2", "10.0.0.1-x.test"} {
		if _, err := ParseHost(name); err != nil {
			t.Errorf("%s is a name: %v", name, err)
		}
	}
}

func TestAFlagsTargetSaysHowItIsWritten(t *testing.T) {
	for flag, want := range map[string]string{
		"http://db.test:8080":  `expected`,
		"http://db.test:8081/": `; did you mean --tls db.test:8081?`,
		"https://db.test":      `; did you mean --tls db.test:443?`,
		"redis://[::1]/0":      `; did you mean --tls [::1]:6379?`,
		"db.test":              `expected HOST:PORT; such as --tls db.test:443`,
		"::1:80":               `with an IPv6 address in brackets`,
		"10.0.0.1-9:80":        `a range of addresses`,
	} {
		if _, err := FromFlag(flag); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", flag, err, want)
		}
	}
}
