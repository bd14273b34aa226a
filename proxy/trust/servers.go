package trust

import (
	"container/list"
	"crypto/tls"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// mostServers bounds what is known of servers under one rule.
const mostServers = 1024

// Servers is what the connections of a rule know of the servers that they have been to: the TLS sessions that can
// be resumed, and what of a ClientHello was of use. Its methods may be called from any goroutine.
type Servers struct {
	mu     sync.Mutex
	of     map[serverKey]*list.Element
	recent *list.List // of *Server, the one that was asked for last in front
}

// serverKey tells servers apart. Those of one name at several addresses need not have the same TLS sessions,
// nor the same key exchanges.
type serverKey struct {
	name string // that is verified
	addr netip.AddrPort
}

func newServers() *Servers {
	return &Servers{of: make(map[serverKey]*list.Element), recent: list.New()}
}

// At returns the server that has to be name, at an address. The one that nobody has asked for longest is forgotten
// where there are too many.
func (s *Servers) At(name string, addr netip.AddrPort) *Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := serverKey{name, addr}
	if e := s.of[key]; e != nil {
		s.recent.MoveToFront(e)
		return e.Value.(*Server)
	}
	if len(s.of) == mostServers {
		oldest := s.recent.Back()
		delete(s.of, s.recent.Remove(oldest).(*Server).key)
	}
	server := &Server{key: key}
	s.of[key] = s.recent.PushFront(server)
	return server
}

// Server is one of them. It is the cache of its own TLS sessions, whatever name crypto/tls has for it.
type Server struct {
	key serverKey

	mu       sync.Mutex
	sessions []*tls.ClientSessionState // the newest is the last
	spent    bool                      // the only one has been used before

	takes choice    // what a full offer came to
	until time.Time // for how long that counts,
	left  int       // and for how many connections
	wary  time.Time // until when nothing is left out, as the server has refused to do without
}

// mostSessions bounds the TLS sessions of one server. As many connections can be set up at a time, and be resumed,
// with a server that takes each ticket once.
const mostSessions = 8

// Get implements tls.ClientSessionCache. A ticket is used once, as RFC 8446 (appendix C.4) would have it, so that a server
// that takes each one once resumes connections that are made at the same time. The last one is used again, since
// TLS 1.2 has no more than one, and a server may take its ticket more often than it sends another.
func (s *Server) Get(string) (*tls.ClientSessionState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.sessions)
	if n == 0 {
		return nil, false
	}
	session := s.sessions[n-1]
	if n > 1 {
		s.sessions[n-1] = nil
		s.sessions = s.sessions[:n-1]
	} else {
		s.spent = true
	}
	return session, true
}

// Put implements tls.ClientSessionCache. A nil session says that the one which Get has returned was of no use.
func (s *Server) Put(_ string, session *tls.ClientSessionState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spent {
		s.sessions, s.spent = nil, false
	}
	if session == nil {
		return
	}
	if len(s.sessions) == mostSessions {
		s.sessions = slices.Delete(s.sessions, 0, 1)
	}
	s.sessions = append(s.sessions, session)
}
