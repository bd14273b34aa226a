package record_test

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/record"
	"tlswrap/proxy/upstream"
	"tlswrap/tests/testkit"
)

// A peer that gathers what it sends (RFC 896) says its first words when its handshake is over, and they do not
// wait for a delayed acknowledgement: that would be 40 ms.
func TestAPeersFirstWordsDoNotWait(t *testing.T) {
	root, err := testkit.NewAuthority("acknowledge test")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := root.Issue(testkit.Leaf{Names: []string{"record.test"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		version uint16
		server  bool // ours
	}{{"of a client", tls.VersionTLS13, true}, {"of a server", tls.VersionTLS12, false}} {
		t.Run(test.name, func(t *testing.T) {
			server := &tls.Config{Certificates: []tls.Certificate{cert.TLS()}, SessionTicketsDisabled: true, MaxVersion: test.version}
			client := &tls.Config{RootCAs: root.Pool(), ServerName: "record.test"}
			least := time.Hour
			for range 10 {
				ours, theirs := tcpPair(t)
				up := overTCP(t, ours)
				theirs.SetNoDelay(false)
				var peer *tls.Conn
				var conn *record.Conn
				if test.server {
					peer, conn = tls.Client(theirs, client), record.Server(up, server.Clone())
				} else {
					peer, conn = tls.Server(theirs, server), record.Client(up, client.Clone())
				}
				began := make(chan time.Time, 1)
				go func() {
					if err := peer.Handshake(); err != nil {
						t.Error(err)
					}
					began <- time.Now()
					peer.Write([]byte("words"))
				}()
				if err := conn.Handshake(); err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Read(make([]byte, 16)); err != nil {
					t.Fatal(err)
				}
				least = min(least, time.Since(<-began))
				conn.Close()
				peer.Close()
			}
			if least > 20*time.Millisecond {
				t.Errorf("they took %v", least)
			}
		})
	}
}

// tcpPair is a TCP connection.
func tcpPair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	one, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return one.(*net.TCPConn), other.(*net.TCPConn)
}

// overTCP makes an upstream of a connection.
func overTCP(t *testing.T, conn *net.TCPConn) *upstream.Conn {
	t.Helper()
	file, err := conn.File()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	defer file.Close()
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	up, err := upstream.New(fd)
	if err != nil {
		t.Fatal(err)
	}
	return up
}
