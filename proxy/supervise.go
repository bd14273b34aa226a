package proxy

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/target"
	"tlswrap/proxy/wire"
)

// supervisable says whether the worker could answer for the process that asks.
func (w *Worker) supervisable(a asked) {
	fd := a.fds.Take()
	defer fdio.Close(fd)
	number, err := strconv.Atoi(a.Request.Name)
	if err == nil {
		err = target.Reach(int(a.PID), a.Request.Channel, target.Proof{Memory: a.Token[:], FD: fd, Number: number}).Err()
	}
	if err != nil {
		w.log.Info("not supervised", "pid", a.PID, "error", err.Error())
		a.Send(wire.Reply{Answer: wire.AnswerError, Errno: unix.EPERM, Name: err.Error()})
		return
	}
	a.Send(wire.Reply{Answer: wire.AnswerGood})
}

// supervise begins to answer for the processes of a run, and is told of once: the filter is under all of
// them.
func (w *Worker) supervise(a asked) {
	if !a.Session.BeginSupervision() {
		a.Send(wire.Reply{Answer: wire.AnswerError, Errno: unix.EALREADY})
		return
	}
	fd := a.fds.Take()
	err := fmt.Errorf("no listener came along")
	if fd >= 0 {
		err = w.supervisor.Supervise(a.Session, fd)
	}
	if err != nil {
		w.log.Error("not supervised", "pid", a.PID, "error", err.Error())
		a.Send(wire.Reply{Answer: wire.AnswerError, Errno: unix.ENOSYS})
		return
	}
	w.log.Debug("supervised", "pid", a.PID)
	a.Send(wire.Reply{Answer: wire.AnswerGood})
}

// askLocally answers a request of the supervisor's.
func (w *Worker) askLocally(call *wire.Call, req wire.Request, fds wire.Descriptors) {
	defer call.Close()
	if err := w.answerRequest(call, req, fds); err != nil {
		w.log.Warn("refused", "pid", call.PID, "error", err.Error())
	}
}
