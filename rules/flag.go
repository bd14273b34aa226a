package rules

import (
	"errors"
	"fmt"
	"strings"
)

// FromFlag makes the rule of --tls HOST:PORT, where HOST is what a rule's host can be;
// an IPv6 address stands in brackets.
func FromFlag(hostport string) (*Rule, error) {
	pattern, port, err := parseFlag(hostport)
	if err != nil {
		return nil, fmt.Errorf("--tls %q: %w%s", hostport, err, meantFlag(hostport))
	}
	return &Rule{
		Index: 1, origin: "--tls " + hostport, Host: pattern, Ports: []PortRange{{port, port}},
		MinVersion: tls12, Timeout: DefaultTimeout, MinRSABits: DefaultRSABits,
	}, nil
}

func parseFlag(hostport string) (pattern HostPattern, port uint16, err error) {
	i := strings.LastIndexByte(hostport, ':')
	if i < 0 {
		return pattern, 0, errors.New("expected HOST:PORT")
	}
	host := hostport[:i]
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	} else if strings.Contains(host, ":") {
		return pattern, 0, errors.New("expected HOST:PORT, with an IPv6 address in brackets")
	}
	port, ok := parsePort(hostport[i+1:])
	if !ok {
		return pattern, 0, errors.New("expected a port from 1 to 65535")
	}
	pattern, err = ParseHost(host)
	return pattern, port, err
}

// meantFlag is a hint at HOST:PORT.
func meantFlag(s string) string {
	host, port, ok := MeantTarget(s)
	switch {
	case !ok:
		return ""
	case port == "":
		return fmt.Sprintf("; such as --tls %s:443", host)
	case host+":"+port == s:
		return ""
	}
	return fmt.Sprintf("; did you mean --tls %s:%s?", host, port)
}
