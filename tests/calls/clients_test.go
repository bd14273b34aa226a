package calls

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// clients connect to a program that listens: with TLS where it is wrapped.
type clients struct {
	t     *testing.T
	roots *x509.CertPool
	tls   bool
	all   []*client
}

type client struct {
	net.Conn
	raw    *net.TCPConn
	reader *bufio.Reader
}

// clientTime is how long a client waits for anything.
const clientTime = 20 * time.Second

// answer does what the program wants of its clients:
//
//	dial PORT     one more connects: its number (counted from 0) and address
//	stall PORT    the same, but it says nothing
//	greet PORT    the same, and it sends a line with the end of its handshake
//	say N WORD    client N sends a line: ok
//	hear N        client N reads a line: the line, or how the connection ended
//	finish N      client N sends no more: ok
//	hangup N      client N closes: ok
//	abort N       client N resets: ok
func (c *clients) answer(words []string) string {
	switch words[0] {
	case "dial", "stall":
		return c.dial(words[1], words[0] == "stall")
	case "greet":
		return c.greet(words[1])
	}
	n, err := strconv.Atoi(words[1])
	if err != nil || n >= len(c.all) {
		return "no such client"
	}
	one := c.all[n]
	one.SetDeadline(time.Now().Add(clientTime))
	switch words[0] {
	case "say":
		_, err = fmt.Fprintln(one, words[2])
	case "hear":
		line, err := one.reader.ReadString('\n')
		if err != nil {
			return howEnded(err)
		}
		return line[:len(line)-1]
	case "finish":
		err = one.Conn.(interface{ CloseWrite() error }).CloseWrite()
	case "hangup":
		err = one.Close()
	case "abort":
		one.raw.SetLinger(0)
		err = one.raw.Close()
	}
	if err != nil {
		return err.Error()
	}
	return "ok"
}

func (c *clients) dial(port string, silent bool) string {
	conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, clientTime)
	if err != nil {
		return err.Error()
	}
	one := &client{Conn: conn, raw: conn.(*net.TCPConn)}
	c.t.Cleanup(func() { conn.Close() })
	if c.tls && !silent {
		secured := tls.Client(conn, &tls.Config{RootCAs: c.roots, ServerName: "localhost"})
		conn.SetDeadline(time.Now().Add(clientTime))
		if err := secured.Handshake(); err != nil {
			return err.Error()
		}
		one.Conn = secured
	}
	one.reader = bufio.NewReader(one.Conn)
	c.all = append(c.all, one)
	return fmt.Sprintf("%d %s", len(c.all)-1, conn.LocalAddr())
}

// greet dials, and what is written for the end of the handshake and the line after it goes out at once.
func (c *clients) greet(port string) string {
	conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, clientTime)
	if err != nil {
		return err.Error()
	}
	c.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(clientTime))
	joined := &joinedConn{Conn: conn}
	one := &client{Conn: conn, raw: conn.(*net.TCPConn)}
	if c.tls {
		secured := tls.Client(joined, &tls.Config{RootCAs: c.roots, ServerName: "localhost", MinVersion: tls.VersionTLS13})
		if err := secured.Handshake(); err != nil {
			return err.Error()
		}
		joined.shaken = true
		one.Conn = secured
	}
	one.reader = bufio.NewReader(one.Conn)
	c.all = append(c.all, one)
	if _, err := fmt.Fprintln(one, "hello"); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", len(c.all)-1, conn.LocalAddr())
}

// joinedConn holds back what a client of TLS 1.3 says at the end of its handshake until it says more.
type joinedConn struct {
	net.Conn
	heard, shaken bool
	held          []byte
}

func (j *joinedConn) Read(b []byte) (int, error) {
	j.heard = true
	return j.Conn.Read(b)
}

func (j *joinedConn) Write(b []byte) (int, error) {
	j.held = append(j.held, b...)
	if j.heard && !j.shaken {
		return len(b), nil
	}
	_, err := j.Conn.Write(j.held)
	j.held = nil
	return len(b), err
}

// nextPort spreads the ports of programs that listen over those that outgoing connections
// do not get (ip_local_port_range begins at 32768).
var nextPort atomic.Uint32

// freePort finds a port that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	const first, count, tries = 12000, 20000, 100
	for range tries {
		port := first + (os.Getpid()*37+int(nextPort.Add(1)))%count
		l, err := net.Listen("tcp", fmt.Sprint(":", port))
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// listenRules is a rules file that has the port served.
func (tr *trust) listenRules(t *testing.T, port int) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules.toml")
	text := fmt.Sprintf("[[listen]]\nport = %d\ncert_file = %q\nkey_file = %q\n", port, tr.certFile, tr.keyFile)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
