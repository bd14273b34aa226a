package proxy

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/target"
	"tlswrap/proxy/wire"
)

// reach says why the worker could not answer for the process that asks, or nothing.
func (w *Worker) reach(a asked) (unix.Errno, string) {
	fd := a.fds.Take()
	defer fdio.Close(fd)
	number, err := strconv.Atoi(a.Request.Name)
	if err != nil {
		return unix.EFAULT, err.Error()
	}
	access := target.Reach(int(a.PID), a.Request.Channel, target.Proof{Memory: a.Token[:], FD: fd, Number: number})
	err = access.Err()
	if err == nil {
		return 0, ""
	}
	w.log.Info("not supervised", "pid", a.PID, "error", err.Error())
	if access.Memory != nil {
		return unix.EFAULT, err.Error()
	}
	return unix.EBADF, err.Error()
}

// supervise begins to answer for the processes of a run. It is told of once, as the filter is under all of
// them, and again where somebody keeps the listener who finds that it is not answered for any more.
func (w *Worker) supervise(a asked) {
	if !a.Session.BeginSupervision() {
		a.Send(wire.Reply{Answer: wire.AnswerError, Errno: unix.EALREADY})
		return
	}
	given, err := w.superviseBy(a, a.fds.Take())
	if err != nil {
		a.Session.EndSupervision()
		w.log.Error("not supervised", "pid", a.PID, "error", err.Error())
		a.Send(wire.Reply{Answer: wire.AnswerError, Errno: unix.ENOSYS, Name: err.Error()})
		return
	}
	w.log.Debug("supervised", "pid", a.PID, "traced", a.Request.Name != "")
	a.Send(wire.Reply{Answer: wire.AnswerGood}, given...)
	given.Close()
}

// superviseBy takes the listener that has come along, or traces the thread that is named, and returns what
// is given for a listener.
func (w *Worker) superviseBy(a asked, listener int) (wire.Descriptors, error) {
	if listener >= 0 {
		life, pending, err := w.supervisor.Supervise(a.Session, listener)
		if err != nil {
			return nil, err
		}
		return wire.Descriptors{life, pending}, nil
	}
	tid, err := strconv.Atoi(a.Request.Name)
	if err != nil {
		return nil, errors.New("no listener came along")
	}
	return nil, w.supervisor.Trace(a.Session, int(a.PID), tid)
}

// askLocally answers a request of the supervisor's.
func (w *Worker) askLocally(call *wire.Call, req wire.Request, fds wire.Descriptors) {
	defer call.Close()
	if err := w.answerRequest(call, req, fds); err != nil {
		w.log.Warn("refused", "pid", call.PID, "error", err.Error())
	}
}
