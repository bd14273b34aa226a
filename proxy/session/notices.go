package session

import (
	"tlswrap/proxy/guard"
	"tlswrap/proxy/names"
	"tlswrap/proxy/notices"
	"tlswrap/proxy/wire"
)

// NewMap makes the map of a new session's programs: they ask about every port where asked is set, and leave notices of
// what passes where told is set. Where they cannot they ask, and why not is the error beside a map.
func NewMap(maps *names.Maps, asked, told bool) (m *names.Map, n *notices.Notices, err error) {
	if told && !asked {
		n, err = notices.New()
	}
	m, failure := maps.Add(asked || err != nil)
	if failure != nil {
		n.Close()
		return nil, nil, failure
	}
	if n != nil {
		m.Announce(n.Bell)
	}
	return m, n, err
}

// Begin has the session's notices received from now on.
func (s *Session) Begin() {
	if s.notices != nil {
		go s.notices.Await(guard.Func(s.Log, "notices", s.HearNotices))
	}
}

// HearNotices tells of the connects of which there are notices: who tells of something else that a program has done, or
// does away with who is told, calls it before.
func (s *Session) HearNotices() {
	s.notices.Receive(func(all []wire.Notice) { s.owner.Passed(s, all) })
}

// ShareNotices lets a process leave notices, unless it is called otherwise in its own PID namespace, as which it has
// called itself own.
func (s *Session) ShareNotices(c *wire.Call, own uint64) {
	if fd := s.notices.File(); fd >= 0 && c.PID != 0 && uint64(c.PID) == own {
		c.Send(wire.Reply{Answer: wire.AnswerFD}, fd)
	} else {
		c.Send(wire.Reply{Answer: wire.AnswerGone})
	}
}

// Close ends what people and programs are told by, and tell: of a session that has never begun, or that has ended.
func (s *Session) Close() {
	s.Voice.Hush()
	s.Map.Close()
	s.notices.Close()
}
