package trust

import (
	"crypto/tls"
	"net/netip"
	"sync"
	"testing"
)

// single is a server's configuration which takes each ticket once, and sends one with each handshake.
func single(tb testing.TB) *tls.Config {
	var mu sync.Mutex
	used := make(map[string]bool)
	config := &tls.Config{MinVersion: tls.VersionTLS13}
	config.SetSessionTicketKeys([][32]byte{{1}})
	config.UnwrapSession = func(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
		mu.Lock()
		defer mu.Unlock()
		if used[string(ticket)] {
			return nil, nil
		}
		used[string(ticket)] = true
		return config.DecryptTicket(ticket, state)
	}
	return config
}

// Connections that are made at the same time begin with as many full handshakes, and resume from then on.
func TestConnectionsAtTheSameTimeAreResumed(t *testing.T) {
	several := &tls.Config{}
	several.SetSessionTicketKeys([][32]byte{{1}})
	of12 := several.Clone()
	of12.MaxVersion = tls.VersionTLS12
	for what, server := range map[string]*tls.Config{"tickets of one use": single(t), "tickets of any use": several, "TLS 1.2": of12} {
		t.Run(what, func(t *testing.T) {
			l := newLab(t)
			for round := range 4 {
				offers := make([]Offer, mostSessions)
				configs := make([]*tls.Config, mostSessions)
				for i := range offers { // all of them before the first has ended
					configs[i] = l.client.Clone()
					offers[i] = l.trust.Offer(configs[i], anAddress, Offer{}, false)
				}
				if resumed := l.together(server, configs); round > 0 && resumed != mostSessions {
					t.Errorf("round %d: %d of %d were resumed", round, resumed, mostSessions)
				}
			}
		})
	}
}

// together has all handshakes begin before the first of them ends, and returns how many resumed a session.
func (l *lab) together(server *tls.Config, configs []*tls.Config) (resumed int) {
	var begun, ended sync.WaitGroup
	var mu sync.Mutex
	begun.Add(len(configs))
	server = server.Clone()
	server.Certificates = []tls.Certificate{l.cert}
	server.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		begun.Done()
		begun.Wait()
		return nil, nil
	}
	for _, config := range configs {
		here, there := connected(l.t)
		ended.Go(func() {
			defer here.Close()
			if err := tls.Server(here, server).Handshake(); err != nil {
				l.t.Error(err)
			}
		})
		ended.Go(func() {
			defer there.Close()
			client := tls.Client(there, config)
			if err := client.Handshake(); err != nil {
				l.t.Error(err)
			}
			client.Read(make([]byte, 1)) // which takes the ticket
			mu.Lock()
			defer mu.Unlock()
			if client.ConnectionState().DidResume {
				resumed++
			}
		})
	}
	ended.Wait()
	return resumed
}

// A ticket is used once while there is another, and the last one for as long as it works.
func TestTicketsAreUsedOnceWhileThereIsAnother(t *testing.T) {
	one, two, three := new(tls.ClientSessionState), new(tls.ClientSessionState), new(tls.ClientSessionState)
	var s Server
	gives := func(want ...*tls.ClientSessionState) {
		t.Helper()
		for i, w := range want {
			if got, has := s.Get(""); got != w || has != (w != nil) {
				t.Errorf("ticket %d is %p, not %p", i, got, w)
			}
		}
	}
	gives(nil)
	s.Put("", one)
	s.Put("", two)
	gives(two, one, one)
	s.Put("", three)
	gives(three, three)
	s.Put("", nil)
	gives(nil)
	s.Put("", one)
	s.Put("", two)
	gives(two)
	s.Put("", nil)
	gives(one)
}

func TestServersAreBounded(t *testing.T) {
	servers := newServers()
	at := func(port int) *Server {
		return servers.At("a.example.test", netip.AddrPortFrom(anAddress.Addr(), uint16(port)))
	}
	first, second := at(1), at(2)
	for port := 3; port <= mostServers; port++ {
		at(port)
	}
	if at(1) != first {
		t.Error("a server was forgotten while there was room")
	}
	at(mostServers + 1)
	if len(servers.of) != mostServers || servers.recent.Len() != mostServers || at(1) != first || at(2) == second {
		t.Errorf("%d servers are known; of the first two the one that was asked for longer ago should have gone", len(servers.of))
	}
	for range 2 * mostSessions {
		first.Put("", new(tls.ClientSessionState))
	}
	if len(first.sessions) != mostSessions {
		t.Errorf("%d sessions", len(first.sessions))
	}
}
