// Package envproxy finds out whether a program goes by way of an HTTP or SOCKS proxy that its
// environment names, past the rules of the hosts behind it, and says so once for each host. It reads
// /proc/PID/environ, and changes nothing but the ports that programs ask about: a proxy's is held in the
// session's map until a connect goes to an address that the program was shown for it. The outgoing
// front shows it look-ups and connections that pass.
package envproxy

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/names"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// A program that uses an HTTP or SOCKS proxy connects to the proxy alone, and names the hosts
// behind it where nobody looks: their rules do not count. What the worker can see is the
// environment that the program was started with, and that it connects to the proxy named there.
// Then a sentence is due, once for each host. The connection itself passes as any other.

// envProxy is a proxy that a program's environment names.
type envProxy struct {
	variable string
	schemes  []bool // of the URLs that it is for: whether https
	tls      bool   // the program speaks TLS with the proxy
	ip       netip.Addr
	name     string // where there is no ip
	ports    []uint16
	exempt   string // no_proxy
}

func (e envProxy) host() string {
	if e.name != "" {
		return e.name
	}
	return e.ip.String()
}

// mostEnviron is how much of an environment is read.
const mostEnviron = 128 << 10

var environs = sync.Pool{New: func() any { return new([mostEnviron]byte) }}

// envProxies returns the proxies of a process's environment, as it was started. Where that cannot
// be read there are none.
func envProxies(pid int32) []envProxy {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/environ", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	environ := environs.Get().(*[mostEnviron]byte)
	defer environs.Put(environ)
	n, err := unix.Read(fd, environ[:])
	if err != nil || !bytes.Contains(environ[:n], []byte("_proxy=")) && !bytes.Contains(environ[:n], []byte("_PROXY=")) {
		return nil
	}
	return parseEnvProxies(string(environ[:n]))
}

func parseEnvProxies(environ string) []envProxy {
	set := make(map[string]string)
	for entry := range strings.SplitSeq(environ, "\x00") {
		name, value, _ := strings.Cut(entry, "=")
		if strings.HasSuffix(name, "_proxy") || strings.HasSuffix(name, "_PROXY") {
			set[name] = value
		}
	}
	// Lower case counts first, where a program reads both.
	get := func(name string) (variable, value string) {
		if value, ok := set[name]; ok {
			return name, value
		}
		name = strings.ToUpper(name)
		return name, set[name]
	}
	_, exempt := get("no_proxy")
	var all []envProxy
	var rest []bool
	add := func(name string, schemes []bool) {
		variable, value := get(name)
		proxy, ok := parseEnvProxy(value)
		if !ok {
			rest = append(rest, schemes...)
			return
		}
		proxy.variable, proxy.schemes, proxy.exempt = variable, schemes, exempt
		all = append(all, proxy)
	}
	add("http_proxy", []bool{false})
	add("https_proxy", []bool{true})
	if len(rest) > 0 {
		add("all_proxy", rest)
	}
	return all
}

// parseEnvProxy reads [scheme://][user[:password]@]host[:port][/].
func parseEnvProxy(value string) (e envProxy, ok bool) {
	scheme, rest, found := strings.Cut(value, "://")
	if !found {
		scheme, rest = "http", value
	}
	e.tls = strings.EqualFold(scheme, "https")
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		host, port = strings.Trim(rest, "[]"), ""
	}
	number, err := strconv.ParseUint(port, 10, 16)
	switch {
	case err == nil && number != 0:
		e.ports = []uint16{uint16(number)}
	case port != "":
		return e, false
	case e.tls:
		e.ports = []uint16{443}
	default: // programs do not agree
		e.ports = []uint16{80, 1080}
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		e.ip = ip.Unmap().WithZone("")
		return e, true
	}
	e.name, err = rules.NormalizeName(host)
	return e, err == nil
}

// sentence is what the program's person should know about hosts that rules cover, and about what
// goes there by http URLs or by https URLs.
func (e envProxy) sentence(hosts []rules.HostPattern, https bool, port uint16) string {
	how := "in plaintext"
	if https || e.tls {
		how = "as the program sends them"
	}
	return fmt.Sprintf("requests for %s by way of %s go to %s, which no rule covers, %s; list what rules cover in no_proxy (a rule can name the proxy in via), or give the proxy a rule",
		listHosts(hosts), e.variable, net.JoinHostPort(e.host(), strconv.Itoa(int(port))), how)
}

// listHosts names the first hosts, and says whether all others are among the rest.
func listHosts(hosts []rules.HostPattern) string {
	var names []string
	last := ""
	for _, h := range hosts {
		if h.All {
			last = "all other hosts"
		} else {
			names = append(names, h.String())
		}
	}
	const most = 3
	if n := len(names); n == 0 {
		return "all hosts"
	} else if n > most && last == "" {
		last = fmt.Sprintf("%d more", n-most)
	}
	list := strings.Join(names[:min(len(names), most)], ", ")
	if last != "" {
		list += " and " + last
	}
	return list
}

// Seen is what a session knows of its programs' proxies. Its methods may be called from any goroutine.
type Seen struct {
	shared *names.Map

	mu    sync.Mutex
	addrs map[string][]netip.Addr // of proxies, as programs looked them up
	held  map[uint16]bool         // ports that are set in the session's map
	told  map[rules.HostPattern]bool
}

// mostProxies is how many names of proxies a session remembers.
const mostProxies = 256

// NewSeen begins with nothing; ports that are to be asked about are held in shared.
func NewSeen(shared *names.Map) *Seen {
	return &Seen{shared: shared, addrs: make(map[string][]netip.Addr), held: make(map[uint16]bool), told: make(map[rules.HostPattern]bool)}
}

// NoteName remembers the addresses of a name that a process has looked up, where that is its
// proxy's.
func (d *Seen) NoteName(pid int32, lookedUp string, addrs []wire.Addr) {
	name, err := rules.NormalizeName(lookedUp)
	if err != nil || !slices.ContainsFunc(envProxies(pid), func(e envProxy) bool { return e.name == name }) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.addrs[name]; !known && len(d.addrs) == mostProxies {
		return
	}
	for _, a := range addrs {
		if known := d.addrs[name]; len(known) < names.MostAddrs && !slices.Contains(known, a.Real()) {
			d.addrs[name] = append(known, a.Real())
		}
	}
}

// NotePassed looks whether a connection that passes, to t, is one to the process's proxy, and
// returns the sentences that are due then about the hosts that http URLs lead to and, of true, https
// URLs. Where it may still become due the proxy's port is held, so that the process asks about later
// connections too.
func (d *Seen) NotePassed(pid int32, t names.Target, hosts map[bool][]rules.HostPattern) []string {
	var due []string
	for _, e := range envProxies(pid) {
		for _, https := range e.schemes {
			if line := d.due(t, e, https, hosts[https]); line != "" {
				due = append(due, line)
			}
		}
	}
	return due
}

// due returns the sentence that is due about some of hosts, or "".
func (d *Seen) due(t names.Target, e envProxy, https bool, hosts []rules.HostPattern) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	hosts = slices.DeleteFunc(slices.Clone(hosts), func(h rules.HostPattern) bool { return d.told[h] || h.InNoProxy(e.exempt) })
	if len(hosts) == 0 {
		return ""
	}
	ip, port := t.Addr.Real(), t.Addr.Port
	if !slices.Contains(e.ports, port) || ip != e.ip && !names.Owns(e.name, d.addrs[e.name], ip) {
		for _, port := range e.ports {
			if !d.held[port] {
				d.held[port] = true
				d.shared.Hold(port)
			}
		}
		return ""
	}
	if r := t.Decision.Rule; r != nil && r.Ports != nil {
		return "" // whoever passes the proxy's port knows
	}
	for _, h := range hosts {
		d.told[h] = true
	}
	if d.held[port] {
		delete(d.held, port)
		d.shared.Release(port)
	}
	return e.sentence(hosts, https, port)
}
