package testkit

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// Server accepts connections until it is closed.
type Server struct {
	addr  net.Addr
	close func()
}

// Port is where the server listens.
func (s *Server) Port() uint16 { return uint16(s.addr.(*net.TCPAddr).Port) }

// Close ends the listener and every connection. It may be called again.
func (s *Server) Close() { s.close() }

// Serve listens on addr ("127.0.0.1:0" takes any port) and gives every connection to
// handle, on a goroutine of its own; the connection is closed when handle returns. With
// a config the connections are *tls.Conn, with nil they are *net.TCPConn. Close waits
// for the handlers.
func Serve(addr string, config *tls.Config, handle func(net.Conn)) (*Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	a := &acceptor{listener: l, config: config, handle: handle, conns: make(map[net.Conn]struct{})}
	a.running.Go(a.run)
	return &Server{addr: l.Addr(), close: a.close}, nil
}

type acceptor struct {
	listener net.Listener
	config   *tls.Config
	handle   func(net.Conn)
	running  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

func (a *acceptor) run() {
	for {
		conn, err := a.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of descriptors: the next that closes makes room
			continue
		}
		a.start(conn)
	}
}

func (a *acceptor) start(tcp net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		tcp.Close()
		return
	}
	a.conns[tcp] = struct{}{}
	a.running.Go(func() {
		conn := tcp
		if a.config != nil {
			conn = tls.Server(tcp, a.config)
		}
		a.handle(conn)
		conn.Close()
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.conns, tcp)
	})
}

func (a *acceptor) close() {
	a.mu.Lock()
	a.closed = true
	for c := range a.conns {
		c.Close()
	}
	a.mu.Unlock()
	a.listener.Close()
	a.running.Wait()
}

// Echo sends every line back as it is. It ends with the client's end of file.
func Echo(conn net.Conn) {
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadSlice('\n')
		if len(line) > 0 {
			if _, err := conn.Write(line); err != nil {
				return
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// EchoLine sends one line back and closes.
func EchoLine(conn net.Conn) {
	line, _ := bufio.NewReader(conn).ReadBytes('\n')
	conn.Write(line)
}

// Silent reads and never says a word: no TLS server hello either, where the connection
// is a plain one.
func Silent(conn net.Conn) { io.Copy(io.Discard, conn) }

// Reset waits for the client's first bytes and resets the connection.
func Reset(conn net.Conn) {
	conn.Read(make([]byte, 1))
	conn.(*net.TCPConn).SetLinger(0)
}

// Hangup waits for the client's first message and closes the connection cleanly.
func Hangup(conn net.Conn) { conn.Read(make([]byte, 16<<10)) }

// Say returns a handler that waits for the client's first message and answers with
// words, whatever was asked, as a server of another protocol does.
func Say(words string) func(net.Conn) {
	return func(conn net.Conn) {
		conn.Read(make([]byte, 16<<10))
		io.WriteString(conn, words)
	}
}

// Cut returns a handler for a TLS connection that reads a line, answers with words and
// then ends the TCP connection without close_notify.
func Cut(words string) func(net.Conn) {
	return func(conn net.Conn) {
		if _, err := bufio.NewReader(conn).ReadSlice('\n'); err != nil {
			return
		}
		io.WriteString(conn, words)
		conn.(*tls.Conn).NetConn().Close()
	}
}
