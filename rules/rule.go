// Package rules is the rules file: what it says, where it is wrong, and what it means for a connection.
// It knows nothing of sockets. It reads the keys and certificates that rules name, for who checks them and for
// package trust, which uses them. Command and worker call it, and a Policy does not change once it is parsed.
//
// It is larger than others because what the file may say, what is checked of it and what it then means
// are one vocabulary, which each key is a word of.
package rules

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Action is what becomes of a connection.
type Action uint8

// The actions that a rule can have.
const (
	TLS  Action = iota // verified TLS
	Pass               // the program's own connection, untouched
	Deny               // refused
)

func (a Action) String() string { return [...]string{"tls", "pass", "deny"}[a] }

// Limits of a rule's timeout.
const (
	DefaultTimeout = 30 * time.Second
	minTimeout     = 100 * time.Millisecond
	maxTimeout     = 10 * time.Minute
)

// Limits of a rule's min_rsa_bits. With shorter keys crypto/rsa verifies nothing, and longer ones crypto/tls
// does not take.
const (
	DefaultRSABits = 2048
	leastRSABits   = 1024
	mostRSABits    = 8192
)

// What allow_legacy can have: RSA key exchange (RFC 5246, section 7.4.7.1), and ciphers.
const (
	LegacyRSA       = "rsa-key-exchange"
	Legacy3DES      = "3des"
	LegacyCBCSHA256 = "cbc-sha256"
)

// LegacyCiphers are all of them.
var LegacyCiphers = []string{LegacyRSA, Legacy3DES, LegacyCBCSHA256}

// TLS versions as the wire has them (RFC 8446, section 4.2.1).
const (
	tls10 = 0x0301 + iota
	tls11
	tls12
	tls13
)

// Endpoint is where to connect to instead. Host is "" for the host that the program
// asked for; Port is 0 where the rule has no upstream.
type Endpoint struct {
	Host string
	Port uint16
}

func (e Endpoint) String() string {
	if strings.Contains(e.Host, ":") {
		return fmt.Sprintf("[%s]:%d", e.Host, e.Port)
	}
	return fmt.Sprintf("%s:%d", e.Host, e.Port)
}

// PortRange is the ports from First to Last, both included.
type PortRange struct{ First, Last uint16 }

// Rule is one [[rule]] table. Paths are absolute, or relative to the working folder
// where the file's own path was.
type Rule struct {
	Index  int // from 1
	Pos    Pos
	keys   map[string]Pos // where each key stands
	origin string         // "built-in rule", "--tls example.com:443", or "" for a file's

	Host   HostPattern
	Ports  []PortRange // nil: all
	Action Action

	Upstream        Endpoint
	ServerName      string // to be verified instead of the name the program asked for
	CAFile          string
	Pins            [][32]byte // SHA-256 of the leaf's SubjectPublicKeyInfo
	CertFile        string
	KeyFile         string
	MinVersion      uint16
	ALPN            []string
	RealAddresses   bool
	Timeout         time.Duration // for connecting and the handshake
	AllowTruncation bool
	VerifyNone      bool
	MinRSABits      int      // of every RSA key in a verified chain
	AllowNoALPN     bool     // a server that chooses none of ALPN is accepted
	AllowLegacy     []string // what is offered beside what is safe, of LegacyCiphers
	StartTLS        string   // the dialogue before TLS, one of StartTLSProtocols, or ""
	TLSPort         uint16   // tried first, without StartTLS (RFC 8314's implicit TLS); 0 for none
	Via             Proxy    // through which the upstream is reached; the zero Proxy: directly
	PassClientTLS   bool     // a program that speaks TLS itself is let through
	PlainErrno      bool     // a program is told of a failure by an errno that every connect(2) has
}

// StartTLSProtocols are the dialogues that a rule can ask for.
var StartTLSProtocols = []string{
	"smtp", "lmtp", "submission", "imap", "pop3", "nntp", "sieve", "ftp", "ldap", "xmpp", "xmpp-server",
	"postgres", "postgres-direct", "mysql", "mariadb", "irc",
}

// Of these the server speaks first, or seems to: the program reads before it writes.
var serverFirst = []string{"smtp", "lmtp", "submission", "imap", "pop3", "nntp", "sieve", "ftp", "mysql", "mariadb"}

// With these the worker changes what is said under TLS too, or chooses an ALPN.
var changed = []string{"ftp", "postgres", "postgres-direct", "mysql", "mariadb"}

// Proxy is a way to the upstream: an HTTP proxy that knows CONNECT (RFC 9110, section
// 9.3.6), or a SOCKS5 proxy (RFC 1928).
type Proxy struct {
	Scheme         string // "http" or "socks5"; "" is no proxy
	Endpoint              // Host is never ""
	User, Password string // Basic (RFC 7617), or of RFC 1929; "" is none
}

// String names the rule for a sentence: "rule 3, /etc/tlswrap/rules.toml:21".
func (r *Rule) String() string {
	switch r.origin {
	case "":
		return fmt.Sprintf("rule %d, %s:%d", r.Index, r.Pos.File, r.Pos.Line)
	case builtinOrigin:
		return fmt.Sprintf("%s %d", r.origin, r.Index)
	}
	return r.origin
}

const builtinOrigin = "built-in rule"

func (r *Rule) matchesPort(port uint16) bool {
	if r.Ports == nil {
		return true
	}
	for _, p := range r.Ports {
		if p.First <= port && port <= p.Last {
			return true
		}
	}
	return false
}

// coversPorts reports whether r matches every port that other does.
func (r *Rule) coversPorts(other *Rule) bool {
	if r.Ports == nil {
		return true
	}
	if other.Ports == nil {
		return len(r.Ports) == 1 && r.Ports[0] == PortRange{1, 65535}
	}
	for _, p := range other.Ports {
		inside := false
		for _, q := range r.Ports {
			inside = inside || q.First <= p.First && p.Last <= q.Last
		}
		if !inside {
			return false
		}
	}
	return true
}

// portsString lists the ports for people.
func (r *Rule) portsString() string {
	if r.Ports == nil {
		return "all ports"
	}
	s := ""
	for i, p := range r.Ports {
		if i > 0 {
			s += ", "
		}
		s += strconv.Itoa(int(p.First))
		if p.First != p.Last {
			s += "-" + strconv.Itoa(int(p.Last))
		}
	}
	return "port " + s
}
