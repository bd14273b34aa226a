package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// pgbench measures short queries after STARTTLS: PostgreSQL's clients ask for TLS first.
func (l *lab) pgbench() work {
	return work{
		name:    "pgbench",
		title:   "pgbench selects rows one by one over 8 connections",
		units:   []unit{{"transactions/s", 0}},
		rounds:  l.effort.rounds,
		prepare: l.startPostgres,
		contenders: []contender{
			{byTLSWrap, l.transactions("disable", l.ports.Postgres, l.tlswrap(), "--rules", l.path("postgres.toml"))},
			{byPlaintext, l.transactions("disable", l.ports.Postgres)},
			{byOpenSSL, l.transactions("verify-full", l.ports.Postgres)},
			{byStunnel, l.transactions("disable", l.ports.stunnelPostgres)},
		},
	}
}

// transactions has pgbench work, after the words of wrapper.
func (l *lab) transactions(mode string, port int, wrapper ...string) func() ([]float64, error) {
	command := append(wrapper, l.client("pgbench", mode, port, "-S", "-n", "-M", "prepared", "-c", "8",
		"-T", strconv.Itoa(int(l.effort.requests.Seconds())))...)
	return func() ([]float64, error) {
		out, err := l.run(command...)
		if err != nil {
			return nil, err
		}
		_, rate, _ := strings.Cut(out, "\ntps = ")
		rate, _, _ = strings.Cut(rate, " ")
		v, err := strconv.ParseFloat(rate, 64)
		if err != nil || v == 0 {
			return nil, fmt.Errorf("pgbench counted nothing:\n%s", out)
		}
		return []float64{v}, nil
	}
}

// client is a client of PostgreSQL's.
func (l *lab) client(name, mode string, port int, args ...string) []string {
	return append([]string{"env", "PGSSLMODE=" + mode, "PGSSLROOTCERT=" + l.ca, "PGHOST=localhost",
		"PGPORT=" + strconv.Itoa(port), "PGUSER=bench", "PGDATABASE=postgres", name}, args...)
}

// startPostgres starts a server, and a stunnel that asks it for TLS.
func (l *lab) startPostgres() error {
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		return fmt.Errorf("PostgreSQL is not installed")
	}
	bin, dir := bins[len(bins)-1], l.path("postgres")
	conf := fmt.Sprintf("port = %d\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '%s'\nfsync = off\n"+
		"ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\nssl_min_protocol_version = 'TLSv1.3'\n", l.ports.Postgres, dir)
	for _, step := range [][]string{
		// The server does not run as root, and wants to own its key.
		{"chmod", "o+x", l.dir},
		{"install", "-d", "-o", "postgres", dir},
		l.asPostgres(filepath.Join(bin, "initdb"), "-D", dir, "-U", "bench", "-A", "trust", "--no-sync"),
		{"install", "-o", "postgres", "-m", "600", l.cert, filepath.Join(dir, "server.pem")},
		{"install", "-o", "postgres", "-m", "600", l.key, filepath.Join(dir, "server.key")},
	} {
		if _, err := l.run(step...); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "postgresql.conf"), []byte(conf), 0o644); err != nil {
		return err
	}
	// It listens before it lets anybody in.
	ready := func() bool {
		_, err := l.run(l.client("pg_isready", "disable", l.ports.Postgres)...)
		return err == nil
	}
	server, err := startDaemon(l.ctx, l.path("postgres.out"), ready,
		l.asPostgres(filepath.Join(bin, "postgres"), "-D", dir)...)
	if err != nil {
		return err
	}
	l.daemons = append(l.daemons, server)
	stunnel, err := l.startStunnel("stunnel-postgres",
		tunnel{At: l.ports.stunnelPostgres, To: l.ports.Postgres, Resume: true, Protocol: "pgsql"})
	if err != nil {
		return err
	}
	l.daemons = append(l.daemons, stunnel)
	rules := fmt.Sprintf("ca_file = %q\n[[rule]]\nhost = \"localhost\"\nport = %d\nstarttls = \"postgres\"\n", l.ca, l.ports.Postgres)
	if err := os.WriteFile(l.path("postgres.toml"), []byte(rules), 0o644); err != nil {
		return err
	}
	_, err = l.run(l.client("pgbench", "disable", l.ports.Postgres, "-i", "-q", "-s", "1")...)
	return err
}

func (l *lab) asPostgres(command ...string) []string {
	return append([]string{"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"}, command...)
}
