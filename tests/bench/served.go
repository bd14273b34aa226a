package main

import (
	"fmt"
	"os"
)

// byOwnTLS is the server's own.
const byOwnTLS = "nginx's own TLS"

// served measures nginx as a server that knows no TLS: the clients are the same, and speak
// TLS, for all but the plaintext.
func (l *lab) served(connections int) work {
	wrk := l.wrk(connections)
	return work{
		name:    fmt.Sprint("served", connections),
		title:   fmt.Sprintf("wrk gets a file of 1 KB over %d kept connections with its own OpenSSL from nginx, which has TLS from another", connections),
		units:   []unit{{"requests/s", 0}},
		rounds:  l.effort.rounds,
		prepare: l.startServed,
		contenders: []contender{
			{byTLSWrap, l.countRequests(wrk("https", l.ports.served))},
			{byPlaintext, l.countRequests(wrk("http", l.ports.Plain))},
			{byOwnTLS, l.countRequests(wrk("https", l.ports.TLS))},
			{byStunnel, l.countRequests(wrk("https", l.ports.stunnelServer))},
		},
	}
}

// startServed starts an nginx under tlswrap, and a stunnel in front of the other.
func (l *lab) startServed() error {
	if listening(l.ports.served, l.ports.stunnelServer)() {
		return nil
	}
	rules, conf := l.path("served.toml"), l.path("served.conf")
	text := fmt.Sprintf("[[listen]]\nport = %d\ncert_file = %q\nkey_file = %q\n", l.ports.served, l.cert, l.key)
	if err := os.WriteFile(rules, []byte(text), 0o644); err != nil {
		return err
	}
	if err := fillIn(conf, nginxConf, map[string]any{
		"Dir": l.dir, "Files": l.files, "Pid": "served.pid", "MaxFiles": l.maxFiles, "Ports": ports{Plain: l.ports.served},
	}); err != nil {
		return err
	}
	nginx, err := startDaemon(l.ctx, l.path("served.out"), listening(l.ports.served),
		l.tlswrap(), "--rules", rules, "nginx", "-e", l.path("served.log"), "-c", conf)
	if err != nil {
		return err
	}
	l.daemons = append(l.daemons, nginx)
	stunnel, err := l.startStunnel("stunnel-server", tunnel{At: l.ports.stunnelServer, To: l.ports.Plain, Server: true})
	if err != nil {
		return err
	}
	l.daemons = append(l.daemons, stunnel)
	return nil
}
