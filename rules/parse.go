package rules

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// maxFile is the largest rules file.
const maxFile = 1 << 20

// Load reads and parses a rules file. The error is an Errors where the file could be
// read.
func Load(path string) (*Policy, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the rules: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the rules: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("reading the rules: %s is larger than %d bytes", path, maxFile)
	}
	return Parse(path, data)
}

// Parse reads the rules in data, which stand in the file at path; relative paths in
// them are relative to its folder. The error is an Errors with every mistake.
func Parse(path string, data []byte) (*Policy, error) {
	return parse(path, data, "")
}

func parse(path string, data []byte, origin string) (*Policy, error) {
	d := &document{file: path}
	d.read(data)
	p := &Policy{Path: path, keys: d.top.positions()}
	f := &fields{doc: d, table: &d.top}
	p.Default = map[string]Action{"pass": Pass, "deny": Deny}[f.choice("default", "pass", "deny")]
	p.CAFile = d.path(f, "ca_file")
	p.Enforce = f.boolean("enforce")
	p.KernelTLS = f.boolean("kernel_tls")
	f.known = append(f.known, "rule", "listen")
	f.unknown()
	for i, t := range d.rules {
		p.Rules = append(p.Rules, d.rule(t, i+1, origin))
	}
	for i, t := range d.listens {
		p.Listens = append(p.Listens, d.listen(t, i+1))
	}
	if _, given := d.top.keys["default"]; !given && len(d.rules) == 0 && len(d.listens) == 0 && len(d.errs) == 0 {
		// Nobody means that, and a file that is just being written looks so.
		d.errorf(Pos{path, 1, 1}, "no rule, expected at least one [[rule]] or [[listen]], or default to say what becomes of everything")
	}
	if len(d.errs) > 0 {
		slices.SortStableFunc(d.errs, func(a, b *Error) int {
			if a.Pos.Line != b.Pos.Line {
				return a.Pos.Line - b.Pos.Line
			}
			return a.Pos.Col - b.Pos.Col
		})
		return nil, d.errs
	}
	return p, nil
}

// path takes a file name and makes it relative to the rules file's folder.
func (d *document) path(f *fields, name string) string {
	s, v, ok := f.str(name)
	if !ok {
		return ""
	}
	if s == "" {
		d.errorf(v.pos, "%s is empty, expected a file", name)
		return ""
	}
	return d.resolve(s)
}

// resolve makes a file name relative to the rules file's folder.
func (d *document) resolve(file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(filepath.Dir(d.file), file)
}

func (d *document) rule(t *table, index int, origin string) *Rule {
	f := &fields{doc: d, table: t}
	r := &Rule{Index: index, Pos: t.pos, keys: t.positions(), origin: origin, MinVersion: tls12, Timeout: DefaultTimeout, MinRSABits: DefaultRSABits}
	d.host(f, r)
	d.ports(f, r)
	r.Action = map[string]Action{"tls": TLS, "pass": Pass, "deny": Deny}[f.choice("action", "tls", "pass", "deny")]
	r.RealAddresses = f.choice("addresses", "synthetic", "real") == "real"
	before := len(f.known)
	d.upstream(f, r)
	d.serverName(f, r)
	r.CAFile = d.path(f, "ca_file")
	d.pins(f, r)
	d.clientCert(f, r)
	d.version(f, r)
	d.alpn(f, r)
	r.AllowNoALPN = f.boolean("allow_no_alpn")
	d.legacy(f, r)
	if bits, ok := f.take("min_rsa_bits"); ok {
		d.rsaBits(bits, r)
	}
	d.timeout(f, r)
	r.AllowTruncation = f.boolean("allow_truncation")
	r.VerifyNone = f.choice("verify", "full", "none") == "none"
	r.StartTLS = f.oneOf("starttls", StartTLSProtocols...)
	d.tlsPort(f, r)
	d.via(f, r)
	d.clientTLS(f, r)
	r.PlainErrno = f.choice("errno", ErrnoWords...) == ErrnoWords[1]
	if r.Action != TLS {
		for _, name := range f.known[before:] {
			if v, ok := t.keys[name]; ok {
				d.errorf(v.pos, "%s has no meaning with action = %q", name, r.Action)
			}
		}
	}
	f.unknown()
	return r
}

// ErrnoWords are what the key errno can say; the first is the default.
var ErrnoWords = []string{"precise", "plain"}

func (d *document) tlsPort(f *fields, r *Rule) {
	v, ok := f.take("tls_port")
	if !ok {
		return
	}
	if r.TLSPort, ok = parsePort(v.text); !ok || v.kind != unstable.Integer {
		d.errorf(v.pos, "tls_port is %s, expected a number from 1 to 65535%s", v.describe(), meantValue("tls_port", v))
	}
	switch {
	case r.StartTLS == "":
		d.errorf(v.pos, `tls_port without starttls: for a server that has TLS alone use upstream = ":%s"`, v.text)
	case slices.Contains(changed, r.StartTLS):
		d.errorf(v.pos, "tls_port has no meaning with starttls = %q, whose words are needed under TLS too", r.StartTLS)
	}
}

// clientTLS lets a program that speaks TLS itself through, where that can be: it must not
// have been shown anything before.
func (d *document) clientTLS(f *fields, r *Rule) {
	if r.PassClientTLS = f.choice("client_tls", "refuse", "pass") == "pass"; !r.PassClientTLS {
		return
	}
	pos := f.table.keys["client_tls"].pos
	if slices.Contains(serverFirst, r.StartTLS) {
		d.errorf(pos, `client_tls = "pass" has no meaning with starttls = %q: the program is greeted before it says anything`, r.StartTLS)
	}
	if r.Via.Scheme != "" {
		d.errorf(pos, `client_tls = "pass" would go round the proxy of via`)
	}
}

func (d *document) host(f *fields, r *Rule) {
	s, v, ok := f.str("host")
	if !ok {
		if _, wrong := f.table.keys["host"]; !wrong {
			d.errorf(f.table.pos, "rule without host, %v", errPattern)
		}
		return
	}
	var err error
	if r.Host, err = ParseHost(s); err != nil {
		d.errorf(v.pos, "%v", err)
	}
}

const expectedPort = `expected a number from 1 to 65535, a range such as "8000-8999", or a list of them`

func (d *document) ports(f *fields, r *Rule) {
	v, ok := f.take("port")
	if !ok {
		return
	}
	list := []value{v}
	if v.kind == unstable.Array {
		list = v.list
		if len(list) == 0 {
			d.errorf(v.pos, "port is an empty list, %s", expectedPort)
		}
	}
	for _, e := range list {
		p, ok := parsePorts(e)
		if !ok {
			d.errorf(v.pos, "port is %s, %s%s", e.describe(), expectedPort, meantValue("port", e))
			continue
		}
		r.Ports = append(r.Ports, p)
	}
}

func parsePorts(v value) (PortRange, bool) {
	if v.kind != unstable.Integer && v.kind != unstable.String {
		return PortRange{}, false
	}
	first, last, isRange := strings.Cut(v.text, "-")
	if !isRange {
		last = first
	}
	a, ok1 := parsePort(strings.TrimSpace(first))
	b, ok2 := parsePort(strings.TrimSpace(last))
	return PortRange{a, b}, ok1 && ok2 && a <= b && (!isRange || v.kind == unstable.String)
}

func parsePort(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n > 0
}

func (d *document) upstream(f *fields, r *Rule) {
	s, v, ok := f.str("upstream")
	if !ok {
		return
	}
	var err error
	if r.Upstream, err = parseEndpoint(s); err != nil {
		d.errorf(v.pos, `upstream is %q, expected "host:port", "[v6]:port" or ":port"%s`, s, meantValue("upstream", v))
	}
}

func parseEndpoint(s string) (Endpoint, error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return Endpoint{}, errPattern
	}
	host := s[:i]
	port, ok := parsePort(s[i+1:])
	if !ok {
		return Endpoint{}, errPattern
	}
	if v6, ok := strings.CutPrefix(host, "["); ok {
		v6, closed := strings.CutSuffix(v6, "]")
		ip, err := netip.ParseAddr(v6)
		if !closed || err != nil || !ip.Is6() {
			return Endpoint{}, errPattern
		}
		return Endpoint{ip.String(), port}, nil
	}
	if host == "" {
		return Endpoint{"", port}, nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Is6() {
			return Endpoint{}, errPattern // 2001:db8::1:443 could be either
		}
		return Endpoint{ip.String(), port}, nil
	}
	name, err := NormalizeName(host)
	return Endpoint{name, port}, err
}

func (d *document) via(f *fields, r *Rule) {
	s, v, ok := f.str("via")
	if !ok {
		return
	}
	const expected = `expected "http://host:port" or "socks5://host:port", with user:password@ before the host where the proxy asks for it`
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "socks5" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		d.errorf(v.pos, "via is %q, %s%s", redacted(u), expected, meantValue("via", v))
		return
	}
	p := Proxy{Scheme: u.Scheme, User: u.User.Username()}
	p.Password, _ = u.User.Password()
	if p.Endpoint, err = parseEndpoint(u.Host); err != nil || p.Host == "" || len(p.User) > 255 || len(p.Password) > 255 {
		d.errorf(v.pos, "via is %q, %s%s", redacted(u), expected, meantValue("via", v))
		return
	}
	r.Via = p
}

// redacted keeps a password out of a sentence.
func redacted(u *url.URL) string {
	if u == nil {
		return "no URL"
	}
	return u.Redacted()
}

func (d *document) serverName(f *fields, r *Rule) {
	s, v, ok := f.str("server_name")
	if !ok {
		return
	}
	if ip, err := netip.ParseAddr(s); err == nil {
		r.ServerName = ip.Unmap().String()
		return
	}
	var err error
	if r.ServerName, err = NormalizeName(s); err != nil {
		d.errorf(v.pos, "server_name: %v", err)
	}
}

func (d *document) pins(f *fields, r *Rule) {
	for _, v := range f.strings("pins") {
		pin, ok := parsePin(v.text)
		if !ok {
			d.errorf(v.pos, "pin is %q, expected sha256/ and the base64 of 32 bytes", v.text)
			continue
		}
		r.Pins = append(r.Pins, pin)
	}
	if v, ok := f.table.keys["pins"]; ok && v.kind == unstable.Array && len(v.list) == 0 {
		d.errorf(v.pos, "pins is an empty list, expected at least one pin")
	}
}

// parsePin reads sha256/BASE64. curl writes a second slash; it can also be the first
// digit of the hash.
func parsePin(s string) ([32]byte, bool) {
	digits, ok := strings.CutPrefix(s, "sha256/")
	if !ok {
		return [32]byte{}, false
	}
	for _, b64 := range []string{digits, strings.TrimPrefix(digits, "/")} {
		if hash, err := base64.StdEncoding.DecodeString(b64); err == nil && len(hash) == 32 {
			return [32]byte(hash), true
		}
	}
	return [32]byte{}, false
}

func (d *document) clientCert(f *fields, r *Rule) {
	r.CertFile, r.KeyFile = d.path(f, "cert_file"), d.path(f, "key_file")
	cert, hasCert := f.table.keys["cert_file"]
	key, hasKey := f.table.keys["key_file"]
	switch {
	case hasCert && !hasKey:
		d.errorf(cert.pos, "cert_file without key_file, expected both")
	case hasKey && !hasCert:
		d.errorf(key.pos, "key_file without cert_file, expected both")
	}
}

func (d *document) version(f *fields, r *Rule) {
	s := f.choice("min_version", "1.2", "1.0", "1.1", "1.3")
	r.MinVersion = map[string]uint16{"1.0": tls10, "1.1": tls11, "1.2": tls12, "1.3": tls13}[s]
}

func (d *document) alpn(f *fields, r *Rule) {
	for _, v := range f.strings("alpn") {
		if len(v.text) < 1 || len(v.text) > 255 {
			d.errorf(v.pos, "alpn has a protocol of %d bytes, expected 1 to 255", len(v.text))
		}
		r.ALPN = append(r.ALPN, v.text)
	}
}

// legacy takes what is not offered otherwise, as it is not safe any more.
func (d *document) legacy(f *fields, r *Rule) {
	for _, v := range f.strings("allow_legacy") {
		if !slices.Contains(LegacyCiphers, v.text) {
			hint := DidYouMean(v.text, LegacyCiphers)
			if plainVersion(v.text) != v.text {
				hint = `; older versions of TLS are min_version's, such as "1.0"`
			}
			d.errorf(v.pos, "allow_legacy has %q, expected %s%s", v.text, orList(LegacyCiphers), hint)
		}
		r.AllowLegacy = append(r.AllowLegacy, v.text)
	}
}

func (d *document) rsaBits(v value, r *Rule) {
	n, err := strconv.Atoi(v.text)
	if v.kind != unstable.Integer || err != nil || n < leastRSABits || n > mostRSABits {
		d.errorf(v.pos, "min_rsa_bits is %s, expected a number from %d to %d", v.describe(), leastRSABits, mostRSABits)
		return
	}
	r.MinRSABits = n
}

func (d *document) timeout(f *fields, r *Rule) {
	s, v, ok := f.str("timeout")
	if !ok {
		return
	}
	t, err := time.ParseDuration(s)
	if err != nil || t < minTimeout || t > maxTimeout {
		d.errorf(v.pos, `timeout is %q, expected a duration from %v to %v such as "10s"%s`, s, minTimeout, maxTimeout, meantValue("timeout", v))
		return
	}
	r.Timeout = t
}
