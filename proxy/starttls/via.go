package starttls

import (
	"encoding/base64"
	"encoding/binary"
	"io"
	"net/netip"
	"strings"

	"tlswrap/proxy/quote"
	"tlswrap/rules"
)

// Via returns the dialogue with a proxy that is to connect to a target. It reads no byte
// that is the target's.
func Via(p rules.Proxy, to rules.Endpoint) func(*Dialogue) error {
	return func(d *Dialogue) error {
		d.proxy = true
		if p.Scheme == "socks5" {
			return d.socks5(p, to)
		}
		return d.httpConnect(p, to)
	}
}

// httpConnect is RFC 9110, section 9.3.6.
func (d *Dialogue) httpConnect(p rules.Proxy, to rules.Endpoint) error {
	request := "CONNECT " + to.String() + " HTTP/1.1\r\nHost: " + to.String() + "\r\n"
	if p.User != "" {
		request += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(p.User+":"+p.Password)) + "\r\n"
	}
	d.note(false, []byte("CONNECT "+to.String()))
	if err := d.write([]byte(request + "\r\n")); err != nil {
		return err
	}
	d.expect("the answer to CONNECT")
	status, err := d.line()
	if err != nil {
		return err
	}
	version, code, _ := strings.Cut(status, " ")
	if !strings.HasPrefix(version, "HTTP/1.") || !strings.HasPrefix(code, "2") {
		return errorf("the proxy did not connect to %s: it said %s", to, quote.Line([]byte(status)))
	}
	for {
		if line, err := d.line(); err != nil || line == "" {
			return err
		}
	}
}

// SOCKS5: RFC 1928, with the passwords of RFC 1929.
const (
	socksVersion    = 5
	socksNoAuth     = 0
	socksPassword   = 2
	socksConnect    = 1
	socksIPv4       = 1
	socksName       = 3
	socksIPv6       = 4
	passwordVersion = 1
)

// What a proxy answers (RFC 1928, section 6).
var socksReplies = []string{
	"", "general failure", "not allowed", "network unreachable", "host unreachable",
	"connection refused", "TTL expired", "it does not know CONNECT", "it does not know this type of address",
}

func (d *Dialogue) socks5(p rules.Proxy, to rules.Endpoint) error {
	method := byte(socksNoAuth)
	if p.User != "" {
		method = socksPassword
	}
	answer, err := d.exchange([]byte{socksVersion, 1, method}, 2, "its choice of authentication")
	if err != nil {
		return err
	}
	if answer[0] != socksVersion {
		return errorf("the proxy does not speak SOCKS5: it said %s", quote.Line(answer))
	}
	if answer[1] != method {
		if p.User == "" {
			return errorf("the proxy wants a user and a password, and via has none")
		}
		return errorf("the proxy does not take passwords")
	}
	if method == socksPassword {
		b := append([]byte{passwordVersion, byte(len(p.User))}, p.User...)
		b = append(append(b, byte(len(p.Password))), p.Password...)
		if answer, err = d.exchange(b, 2, "the answer to the password"); err != nil {
			return err
		}
		if answer[1] != 0 {
			return errorf("the proxy did not accept user and password")
		}
	}
	return d.socks5Connect(to)
}

func (d *Dialogue) socks5Connect(to rules.Endpoint) error {
	b := []byte{socksVersion, socksConnect, 0}
	switch ip, err := netip.ParseAddr(to.Host); {
	case err != nil:
		b = append(append(b, socksName, byte(len(to.Host))), to.Host...)
	case ip.Is4():
		b = append(append(b, socksIPv4), ip.AsSlice()...)
	default:
		b = append(append(b, socksIPv6), ip.AsSlice()...)
	}
	b = binary.BigEndian.AppendUint16(b, to.Port)
	const what = "the answer to CONNECT"
	d.note(false, []byte("SOCKS5 CONNECT "+to.String()))
	answer, err := d.exchange(b, 4, what)
	if err != nil {
		return err
	}
	if code := int(answer[1]); code != 0 {
		why := "unknown reason"
		if code < len(socksReplies) {
			why = socksReplies[code]
		}
		return errorf("the proxy did not connect to %s: %s", to, why)
	}
	// The address that it connects from follows.
	rest := 2
	switch answer[3] {
	case socksIPv4:
		rest += 4
	case socksIPv6:
		rest += 16
	case socksName:
		n, err := d.ReadByte()
		if err != nil {
			return err
		}
		rest += int(n)
	default:
		return errorf("the proxy answered with an address of type %d", answer[3])
	}
	if _, err = d.exchange(nil, rest, what); err == nil {
		d.note(true, []byte("connected"))
	}
	return err
}

// exchange sends b, and reads n bytes, which are what.
func (d *Dialogue) exchange(b []byte, n int, what string) ([]byte, error) {
	d.expect(what)
	if len(b) > 0 {
		if err := d.write(b); err != nil {
			return nil, err
		}
	}
	answer := make([]byte, n)
	have, err := io.ReadFull(d, answer)
	if err != nil && have > 0 {
		err = errorf("%v, after %s", d.explain(err), quote.Line(answer[:have]))
	}
	return answer, err
}
