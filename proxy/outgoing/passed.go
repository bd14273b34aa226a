package outgoing

import (
	"fmt"

	"tlswrap/proxy/names"
	"tlswrap/proxy/report"
	"tlswrap/proxy/session"
	"tlswrap/proxy/wire"
	"tlswrap/rules"
)

// whyPassed is why the program makes a connection itself.
func whyPassed(t names.Target) string {
	if t.Decision.Rule != nil {
		return "a rule passes it"
	}
	return "no rule"
}

// Passed tells of connects that programs have made without a question. Nothing is looked up for them: no rule was about
// their ports.
func (f *Front) Passed(s *session.Session, notices []wire.Notice) {
	p := f.Policy()
	passes := make([]report.Pass, 0, len(notices))
	for _, n := range notices {
		if n.Untold > 0 {
			s.Say(fmt.Sprintf("%d connections passed as they are, no TLS added, without a line for each: there were more at once than could be noted", n.Untold))
		}
		t, ok := s.Names.Shown(p.Rules, n.To)
		if !ok {
			continue // which the program finds out from who it asks what the address stands for
		}
		t.Way = wire.Preload
		why := whyPassed(t)
		if t.Decision.Action != rules.Pass {
			t.Decision, why = rules.Decision{Action: rules.Pass}, "by the rules before"
		}
		passes = append(passes, report.Pass{Target: t, PID: n.PID, Why: why})
	}
	s.PassedBefore(passes)
}

// PassedBy takes the notice of a process that can leave none. Where there is none in it the process has left some, and its
// bell is out of reach.
func (f *Front) PassedBy(call *wire.Call, s *session.Session, req wire.Request) {
	if len(req.Addrs) == 1 {
		f.Passed(s, []wire.Notice{{PID: call.PID, To: req.Addrs[0], Untold: req.Channel}})
	}
}
