package report

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/names"
	"tlswrap/proxy/verdict"
)

// Debugs reports whether a log, which may be nil, has what is for those who work on tlswrap. Nothing
// is worked out for them where it has not.
func Debugs(log *slog.Logger) bool {
	return log != nil && log.Enabled(context.Background(), slog.LevelDebug)
}

// Trail tells the log, at Debug, how a connection goes on. It never has what a connection carries.
type Trail struct {
	Log    *slog.Logger // nil for none
	Target names.Target
	PID    int32
}

// Step does one step of a setup and returns its failure; more is what else the log has of it.
func (t Trail) Step(event string, do func() *verdict.Failure, more ...any) *verdict.Failure {
	if !Debugs(t.Log) {
		return do()
	}
	began := time.Now()
	failure := do()
	more = append(more, "took", Took(began))
	if failure != nil {
		more = append(more, "errno", unix.ErrnoName(failure.Errno), "reason", failure.Reason)
	}
	t.Log.Debug(event, append(Attrs(t.Target, t.PID), more...)...)
	return failure
}

// Ended tells that the connection is over, and why.
func (t Trail) Ended(why string) {
	if Debugs(t.Log) {
		t.Log.Debug("ended", append(Attrs(t.Target, t.PID), "reason", why)...)
	}
}

// Took is how long something took that began at began, as the log has it.
func Took(began time.Time) string { return time.Since(began).Round(time.Microsecond).String() }
