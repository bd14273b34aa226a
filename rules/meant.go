package rules

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// What somebody may have meant who wrote what is a mistake: a hint at the end of the sentence, which says
// how it is written. It never counts by itself.

// otherWords are other ways to say what a key has its own words for.
var otherWords = map[string]map[string]string{
	"verify":      {"false": "none", "no": "none", "off": "none", "true": "full", "yes": "full", "on": "full", "peer": "full"},
	"client_auth": {"false": "none", "no": "none", "off": "none", "true": "require", "yes": "require", "required": "require", "request": "optional"},
	"default":     passOrDeny,
	"action":      passOrDeny,
	"client_tls":  {"allow": "pass", "true": "pass", "deny": "refuse", "false": "refuse", "reject": "refuse"},
	"starttls":    {"postgresql": "postgres", "pop": "pop3", "jabber": "xmpp", "managesieve": "sieve", "esmtp": "smtp"},
}

var passOrDeny = map[string]string{
	"allow": "pass", "accept": "pass", "permit": "pass", "plain": "pass", "false": "pass", "none": "pass",
	"reject": "deny", "block": "deny", "drop": "deny", "refuse": "deny", "true": "tls", "encrypt": "tls", "require": "tls",
}

// meantWord is a hint at one of the words that a key can have.
func meantWord(name string, v value, words []string) string {
	said := strings.ToLower(strings.TrimSpace(v.text))
	for _, word := range []string{said, plainVersion(said), otherWords[name][said]} {
		if slices.Contains(words, word) {
			return fmt.Sprintf("; did you mean %s = %q?", name, word)
		}
	}
	const shortest = 4 // of what can be a slip of the pen
	if len(said) < shortest {
		return ""
	}
	return DidYouMean(said, words)
}

// plainVersion takes what others write before the number of a version of TLS away.
func plainVersion(s string) string {
	s, named := strings.CutPrefix(strings.TrimPrefix(strings.ToLower(s), "tls"), "v")
	s = strings.TrimPrefix(s, " ")
	if len(s) == 2 && !strings.Contains(s, ".") && s[0] == '1' { // tls12
		return s[:1] + "." + s[1:]
	}
	if s == "1" && named {
		return "1.0"
	}
	return s
}

// meantValue is a hint at how a value of a key is written.
func meantValue(name string, v value) string {
	text := ""
	switch name {
	case "timeout":
		text = meantDuration(v)
	case "upstream":
		if _, ok := parsePort(v.text); ok {
			text = strconv.Quote(":" + v.text)
		} else if host, port, ok := MeantTarget(v.text); ok && port != "" {
			text = strconv.Quote(host + ":" + port)
		}
	case "tls_port":
		if _, ok := parsePort(v.text); ok {
			text = v.text
		}
	case "port":
		text = meantPorts(v)
	case "via":
		text = meantProxy(v.text)
	case "host":
		if v.kind == unstable.Array {
			return "; each host has a [[rule]] of its own"
		}
	}
	if text == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s = %s?", name, text)
}

func meantDuration(v value) string {
	said := strings.ReplaceAll(v.text, " ", "")
	for _, unit := range []string{"", "s"} {
		said := strings.NewReplacer("seconds", "s", "second", "s", "sec", "s", "minutes", "m", "minute", "m", "min", "m").Replace(said) + unit
		if t, err := time.ParseDuration(said); err == nil && t >= minTimeout && t <= maxTimeout {
			return strconv.Quote(said)
		}
	}
	return ""
}

func meantPorts(v value) string {
	if v.kind != unstable.String {
		return ""
	}
	for _, between := range []string{":", "..", " - ", "–"} {
		if r := strings.Replace(v.text, between, "-", 1); r != v.text {
			if _, ok := parsePorts(value{kind: unstable.String, text: r}); ok {
				return strconv.Quote(r)
			}
		}
	}
	var list []string
	for part := range strings.FieldsFuncSeq(v.text, func(c rune) bool { return c == ',' || c == ' ' }) {
		if _, ok := parsePorts(value{kind: unstable.String, text: part}); !ok {
			return ""
		}
		if strings.Contains(part, "-") {
			part = strconv.Quote(part)
		}
		list = append(list, part)
	}
	if len(list) < 2 {
		return ""
	}
	return "[" + strings.Join(list, ", ") + "]"
}

func meantProxy(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = "http", s
	}
	if scheme = strings.ToLower(scheme); strings.HasPrefix(scheme, "socks") {
		scheme = "socks5"
	}
	rest = strings.TrimRight(rest, "/")
	// What has a password in it is not repeated.
	if e, err := parseEndpoint(rest); err != nil || e.Host == "" || scheme != "http" && scheme != "socks5" {
		return ""
	}
	return strconv.Quote(scheme + "://" + rest)
}

// schemePorts are where URLs without a port lead.
var schemePorts = map[string]string{
	"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21", "ldap": "389", "ldaps": "636", "smtp": "25", "imap": "143", "imaps": "993", "pop3": "110",
	"postgres": "5432", "postgresql": "5432", "mysql": "3306", "redis": "6379", "rediss": "6379", "amqp": "5672", "mqtt": "1883", "irc": "6667",
}

// MeantTarget finds host and port in what somebody wrote where HOST:PORT was expected, a URL for instance.
// port is "" where there is none.
func MeantTarget(s string) (host, port string, ok bool) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Is6() {
		return "[" + s + "]", "", true
	}
	if i := strings.LastIndexByte(s, ':'); i > 0 && schemePorts[s[i+1:]] != "" {
		s = s[:i+1] + schemePorts[s[i+1:]]
	}
	u, err := url.Parse(s)
	if err != nil || !strings.Contains(s, "://") {
		if u, err = url.Parse("//" + s); err != nil {
			return "", "", false
		}
	}
	if host, port = u.Hostname(), u.Port(); port == "" {
		port = schemePorts[strings.ToLower(u.Scheme)]
	}
	if _, valid := parsePort(port); port != "" && !valid {
		port = ""
	}
	if _, err := parseHost(host); err != nil {
		return "", "", false
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host, port, true
}

// meantHost is a hint at how a host is written.
func meantHost(s string) string {
	plain := strings.Trim(s, ".")
	switch {
	case strings.ContainsAny(s, ", ;"):
		return "; each host has a [[rule]] of its own"
	case strings.HasPrefix(s, "."):
		if _, err := NormalizeName(plain); err == nil {
			return fmt.Sprintf("; did you mean %q?", "*."+plain)
		}
	case strings.HasSuffix(s, ".*"):
		return meantNetwork(s)
	}
	if base, mask, ok := strings.Cut(s, "/"); ok {
		ip, err := netip.ParseAddr(mask)
		if addr, err2 := netip.ParseAddr(base); err == nil && err2 == nil && ip.Is4() && addr.Is4() {
			return fmt.Sprintf("; did you mean %q?", netip.PrefixFrom(addr, maskBits(ip)).Masked())
		}
	}
	host, port, ok := MeantTarget(s)
	host = strings.Trim(host, "[]")
	switch {
	case !ok || host == s:
		return ""
	case port == "":
		return fmt.Sprintf("; did you mean host = %q?", host)
	}
	return fmt.Sprintf("; did you mean host = %q and port = %s?", host, port)
}

func maskBits(mask netip.Addr) int {
	bits := 0
	for _, b := range mask.AsSlice() {
		for ; b&0x80 != 0; b <<= 1 {
			bits++
		}
	}
	return bits
}

// meantNetwork is for 10.0.0.* and the like.
func meantNetwork(s string) string {
	base, stars := s, 0
	for ; strings.HasSuffix(base, ".*"); stars++ {
		base = strings.TrimSuffix(base, ".*")
	}
	ip, err := netip.ParseAddr(base + strings.Repeat(".0", stars))
	if err != nil || !ip.Is4() {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", netip.PrefixFrom(ip, 32-8*stars))
}

// addressRange finds a range of addresses, which no rule can have, and the smallest network that has all
// of it. The last address may be given by its end alone.
func addressRange(s string) (network netip.Prefix, ok bool) {
	first, last, _ := strings.Cut(s, "-")
	from, err := netip.ParseAddr(strings.TrimSpace(first))
	if err != nil {
		return network, false
	}
	last = strings.TrimSpace(last)
	to, err := netip.ParseAddr(last)
	if err != nil {
		kept := strings.Split(from.String(), ".")
		given := strings.Split(last, ".")
		if len(given) >= len(kept) {
			return network, false
		}
		if to, err = netip.ParseAddr(strings.Join(append(kept[:len(kept)-len(given)], given...), ".")); err != nil {
			return network, false
		}
	}
	if from.Is4() != to.Is4() {
		return network, false
	}
	for bits := from.BitLen(); bits >= 0; bits-- {
		if network = netip.PrefixFrom(from, bits).Masked(); network.Contains(to) {
			break
		}
	}
	return network, true
}
