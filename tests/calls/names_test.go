package calls

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// name is a line of the names that the program names looks up: a hosts file's or a name server's.
type name struct {
	address string
	names   []string
}

func allNames() []name {
	all := []name{
		{"127.0.0.1", []string{"localhost"}}, {"127.0.0.2", []string{"covered.test", "COVERED.Test"}}, {"::1", []string{"six.test"}},
		{"127.0.0.3", []string{"plain.test"}}, {"127.0.0.2", []string{"twin.test"}}, {"127.0.0.2", []string{"covered"}},
	}
	for i := range 40 {
		all = append(all, name{fmt.Sprintf("127.0.1.%d", i+1), []string{"many.test"}})
	}
	return all
}

// withNames is what comes before a program whose names are allNames: from /etc/hosts where the shim sees
// it, and from a name server for programs without it, whose questions the kernel sees. What this machine's name
// server says of others is nobody's concern.
func withNames(t *testing.T, k kind) []string {
	t.Helper()
	dir := t.TempDir()
	var hosts strings.Builder
	for _, n := range allNames() {
		if !k.shimless() || n.names[0] == "localhost" {
			fmt.Fprintln(&hosts, n.address, strings.Join(n.names, " "))
		}
	}
	server, err := nameServer()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"hosts": hosts.String(), "resolv.conf": fmt.Sprintf("nameserver %s\nsearch test\n", server), "nsswitch.conf": "hosts: files dns\n",
	}
	script := ""
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		script += fmt.Sprintf(`mount --bind "$0"/%[1]s "$(realpath /etc/%[1]s)" && `, file)
	}
	return []string{"unshare", "--mount", "sh", "-c", script + `exec "$@"`, dir}
}

// nameServer starts a name server that knows allNames, on a loopback address that nobody else has, and
// returns that.
var nameServer = sync.OnceValues(func() (netip.Addr, error) {
	var errs []error
	for i := range 200 {
		address := netip.AddrFrom4([4]byte{127, 53, byte(os.Getpid()), byte(i + 1)})
		at := netip.AddrPortFrom(address, 53).String()
		datagrams, err := net.ListenPacket("udp", at)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		streams, err := net.Listen("tcp", at)
		if err != nil {
			datagrams.Close()
			errs = append(errs, err)
			continue
		}
		go serveDatagrams(datagrams)
		go serveStreams(streams)
		return address, nil
	}
	return netip.Addr{}, errors.Join(errs...)
})

func serveDatagrams(c net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		const most = 512 // without EDNS, RFC 1035, section 2.3.4
		if reply := answer(buf[:n], most); reply != nil {
			c.WriteTo(reply, from)
		}
	}
}

func serveStreams(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			for {
				var length [2]byte
				if _, err := io.ReadFull(c, length[:]); err != nil {
					return
				}
				question := make([]byte, int(length[0])<<8|int(length[1]))
				if _, err := io.ReadFull(c, question); err != nil {
					return
				}
				const most = 65535
				reply := answer(question, most)
				c.Write(append([]byte{byte(len(reply) >> 8), byte(len(reply))}, reply...))
			}
		}()
	}
}

// answer answers one question. What is longer than most is said to be truncated.
func answer(question []byte, most int) []byte {
	var asked dnsmessage.Message
	if asked.Unpack(question) != nil || len(asked.Questions) != 1 {
		return nil
	}
	q := asked.Questions[0]
	reply := dnsmessage.Message{
		Header: dnsmessage.Header{ID: asked.ID, Response: true, RecursionDesired: asked.RecursionDesired,
			RecursionAvailable: true, RCode: dnsmessage.RCodeNameError},
		Questions: asked.Questions,
	}
	for _, n := range allNames() {
		if !strings.EqualFold(n.names[0]+".", q.Name.String()) {
			continue
		}
		reply.RCode = dnsmessage.RCodeSuccess
		address := netip.MustParseAddr(n.address)
		header := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET}
		switch {
		case q.Type == dnsmessage.TypeA && address.Is4():
			header.Type = q.Type
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: address.As4()}})
		case q.Type == dnsmessage.TypeAAAA && address.Is6():
			header.Type = q.Type
			reply.Answers = append(reply.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: address.As16()}})
		}
	}
	packed, err := reply.Pack()
	if err == nil && len(packed) > most {
		reply.Answers, reply.Truncated = nil, true
		packed, err = reply.Pack()
	}
	if err != nil {
		return nil
	}
	return packed
}
