package main

import (
	"bufio"
	"crypto/tls"
	_ "embed"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"text/template"

	"tlswrap/tests/testkit"
)

// ports are where the servers and stunnel listen.
type ports struct {
	Plain, TLS, Full   int // nginx: plaintext, TLS, TLS where nothing is resumed
	TLS12, Full12      int // the same with TLS 1.2
	sinkPlain, sinkTLS int // what takes uploads
	served             int // nginx in plaintext, under tlswrap
	Postgres           int // PostgreSQL, in plaintext and with TLS

	echo, echoTLS, echoBoth int // what gives messages back: in plaintext, and under tlswrap twice
	relayed                 int // to echo

	stunnel, stunnelFull, stunnelSink int // to TLS, Full and sinkTLS
	stunnel12, stunnelFull12          int // to TLS12 and Full12
	stunnelServer, stunnelPostgres    int // in front of Plain, and to Postgres
	stunnelEcho, stunnelEchoServer    int // to the other, and in front of echo
}

//go:embed nginx.conf
var nginxConf string

//go:embed site.conf
var siteConf string

//go:embed stunnel.conf
var stunnelConf string

// tunnel is a service of stunnel.
type tunnel struct {
	At, To   int
	Server   bool   // takes TLS and gives plaintext
	Resume   bool   // the client's
	Protocol string // by whose words the client asks for TLS, or ""
}

func (l *lab) startNginx() error {
	values := map[string]any{
		"Dir": l.dir, "Files": l.files, "Pid": "nginx.pid", "Cert": l.cert, "Key": l.key,
		"Ports": l.ports, "MaxFiles": l.maxFiles,
	}
	if err := fillIn(l.path("site.conf"), siteConf, values); err != nil {
		return err
	}
	if err := fillIn(l.path("nginx.conf"), nginxConf, values); err != nil {
		return err
	}
	var err error
	l.nginx, err = startDaemon(l.ctx, l.path("nginx.out"), listening(l.ports.Plain, l.ports.TLS, l.ports.Full, l.ports.TLS12, l.ports.Full12),
		"nginx", "-e", l.path("nginx.log"), "-c", l.path("nginx.conf"))
	return err
}

// startStunnel starts an stunnel of the given name.
func (l *lab) startStunnel(name string, tunnels ...tunnel) (*daemon, error) {
	conf := l.path(name + ".conf")
	if err := fillIn(conf, stunnelConf, map[string]any{"Tunnels": tunnels, "CA": l.ca, "Cert": l.cert, "Key": l.key}); err != nil {
		return nil, err
	}
	var at []int
	for _, t := range tunnels {
		at = append(at, t.At)
	}
	return startDaemon(l.ctx, l.path(name+".out"), listening(at...), "stunnel", conf)
}

// startSinks starts what takes uploads. It is the same program with and without TLS;
// nginx, which would keep the bytes, is no faster.
func (l *lab) startSinks(cert *testkit.Certificate) error {
	config := &tls.Config{Certificates: []tls.Certificate{cert.TLS()}}
	var err error
	if l.sinkPlain, err = testkit.Serve("127.0.0.1:0", nil, swallow); err != nil {
		return err
	}
	if l.sinkTLS, err = testkit.Serve("127.0.0.1:0", config, swallow); err != nil {
		return err
	}
	l.ports.sinkPlain, l.ports.sinkTLS = int(l.sinkPlain.Port()), int(l.sinkTLS.Port())
	return nil
}

// swallow reads one HTTP request to its end, and says so.
func swallow(conn net.Conn) {
	request, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, request.Body, make([]byte, 256<<10))
	if err == nil && n == request.ContentLength {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	}
}

// fillIn writes a template's text to file.
func fillIn(file, text string, values any) error {
	t, err := template.New(filepath.Base(file)).Parse(text)
	if err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := t.Execute(f, values); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return f.Close()
}
