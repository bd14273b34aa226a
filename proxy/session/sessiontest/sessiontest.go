// Package sessiontest makes sessions for the tests of what belongs to one.
package sessiontest

import (
	"log/slog"
	"testing"
	"time"

	"tlswrap/proxy/names"
	"tlswrap/proxy/report"
	"tlswrap/proxy/session"
	"tlswrap/proxy/wire"
)

// New makes a session of user, who may be nil for a new one. Its sentences go to nobody, and ended, which
// may be nil, is called when it has ended.
func New(t testing.TB, user *session.User, ended func()) *session.Session {
	t.Helper()
	shared, err := names.NewMaps().Add(false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shared.Close)
	if user == nil {
		user = session.NewUser(session.NewFailed())
	}
	if ended == nil {
		ended = func() {}
	}
	nothing := func() {}
	return session.New(session.Config{
		User: user, Names: names.NewTable(shared, time.Time{}),
		Reporter: &report.Reporter{Log: slog.New(slog.DiscardHandler), Voice: report.NewVoice(nil, false, true)},
		Owner:    session.Owner{Opened: nothing, Closed: nothing, Freed: nothing, Left: nothing, Passed: func(*session.Session, []wire.Notice) {}, Ended: func(*session.Session) { ended() }},
	})
}
