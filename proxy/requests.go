package proxy

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/guard"
	"tlswrap/proxy/libtls"
	"tlswrap/proxy/names"
	"tlswrap/proxy/quote"
	"tlswrap/proxy/report"
	"tlswrap/proxy/session"
	"tlswrap/proxy/wire"
)

// asked is one request of a run's program.
type asked struct {
	*wire.Call
	*run
	wire.Request
	fds *wire.Descriptors // that came along; what is not taken is closed
}

// request is a kind of request: how many descriptors it may bring, and who answers it.
type request struct {
	most   int
	answer func(*Worker, asked)
}

// requests are all that there are.
var requests = map[wire.Op]request{
	wire.OpHello:    {2, (*Worker).hello},
	wire.OpConnect:  {2, func(w *Worker, a asked) { w.outgoing.Connect(a.Call, a.run.outgoing, a.Request, a.fds) }},
	wire.OpVerdict:  {0, (*Worker).verdict},
	wire.OpRestart:  {0, (*Worker).restart},
	wire.OpUpstream: {0, (*Worker).lend},
	wire.OpNames:    {1, (*Worker).resolve},
	wire.OpAddress:  {0, (*Worker).address},
	wire.OpExec:     {1, (*Worker).inspect},
	wire.OpListen:   {1, func(w *Worker, a asked) { w.serving.Listen(a.Call, a.Session, a.Request, a.fds.Take()) }},
	wire.OpAccept:   {1, func(w *Worker, a asked) { w.serving.Accepted(a.Call, a.Session, a.fds.Take()) }},
	wire.OpSweep:    {0, (*Worker).sweep},

	wire.OpSupervise: {1, (*Worker).supervise},
	wire.OpFinish:    {0, (*Worker).finish},
	wire.OpNotices:   {0, func(_ *Worker, a asked) { a.ShareNotices(a.Call, a.Channel) }},
	wire.OpPassed:    {0, func(w *Worker, a asked) { w.outgoing.PassedBy(a.Call, a.Session, a.Request) }},

	wire.OpTLSLoad:    {1, byLibtls((*libtls.State).Load)},
	wire.OpTLSBuild:   {1, byLibtls((*libtls.State).Build)},
	wire.OpTLSDrop:    {0, byLibtls((*libtls.State).Drop)},
	wire.OpTLSStart:   {3, byLibtls((*libtls.State).Start)},
	wire.OpTLSEnd:     {0, byLibtls((*libtls.State).End)},
	wire.OpTLSName:    {1, byLibtls((*libtls.State).Name)},
	wire.OpTLSOCSP:    {2, byLibtls((*libtls.State).Compute)},
	wire.OpTLSDecrypt: {1, byLibtls((*libtls.State).Compute)},
	wire.OpTLSRing:    {0, byLibtls((*libtls.State).Ring)},
}

func byLibtls(answer func(*libtls.State, *wire.Call, wire.Request, *wire.Descriptors)) func(*Worker, asked) {
	return func(_ *Worker, a asked) { answer(a.run.libtls, a.Call, a.Request, a.fds) }
}

// serve answers one connection, and closes it.
func (w *Worker) serve(fd int) {
	call, err := wire.NewCall(fd, w.turnsOf)
	if err != nil {
		w.log.Warn("refused", "error", err.Error())
		return
	}
	w.serveCall(call)
}

// serveCaller answers one connection that the supervisor has given to a program.
func (w *Worker) serveCaller(fd int, by wire.Caller) { w.serveCall(wire.NewCallBy(fd, by, w.turnsOf)) }

func (w *Worker) serveCall(call *wire.Call) {
	defer call.Close()
	guard.Run(w.log, "request", nil, func() {
		if err := w.answer(call); err != nil {
			w.log.Warn("refused", "pid", call.PID, "uid", call.UID, "error", err.Error())
		}
	})
}

// answer answers one request. The error is why it is not served.
func (w *Worker) answer(call *wire.Call) error {
	req, fds, err := call.Receive()
	if err != nil {
		return err
	}
	return w.answerRequest(call, req, fds)
}

// answerRequest answers a request that has been received, or that the supervisor makes in the name of a
// program; it takes over fds.
func (w *Worker) answerRequest(call *wire.Call, req wire.Request, fds wire.Descriptors) (err error) {
	defer func() { fds.Close() }()
	if report.Debugs(w.log) {
		defer w.logRequest(call, req, time.Now())
	}
	kind, known := requests[req.Op]
	if !known {
		return fmt.Errorf("control request of unknown kind %d", req.Op)
	}
	if len(fds) > kind.most {
		return fmt.Errorf("control request of kind %d with %d descriptors", req.Op, len(fds))
	}
	r := w.run(req.Token)
	if r == nil {
		if r, err = w.open(call, req, &fds); err != nil {
			return err
		}
	}
	a := asked{call, r, req, &fds}
	if call.HoldsFiles() {
		defer time.AfterFunc(filesTime, guard.Func(w.log, "files", a.tooLate)).Stop()
	}
	if req.Op != wire.OpFinish { // which comes from outside
		r.Join(call, req, &fds)
	}
	r.HearNotices() // of what its program did before
	kind.answer(w, a)
	return nil
}

// logRequest tells the log of a request that came at began, once it is answered. Its body stays out, which
// may be a password, and so do a program's arguments and the session's token.
func (w *Worker) logRequest(call *wire.Call, req wire.Request, began time.Time) {
	attrs := []any{"op", req.Op.String(), "pid", call.PID, "uid", call.UID}
	if req.Name != "" && req.Flags&wire.FlagArgument == 0 {
		attrs = append(attrs, "name", req.Name)
	}
	if len(req.Addrs) > 0 {
		addrs := make([]string, len(req.Addrs))
		for i, a := range req.Addrs {
			addrs[i] = netip.AddrPortFrom(a.Real(), a.Port).String()
		}
		attrs = append(attrs, "addresses", addrs)
	}
	w.log.Debug("request", append(attrs, "answer", call.Answered(), "took", report.Took(began))...)
}

// filesTime is how long the files that come with a request may take to be read. The shim waits longer.
const filesTime = 7 * time.Second

// tooLate refuses a request whose files cannot be read, and whose goroutine waits for them.
func (a asked) tooLate() {
	if !a.HoldsFiles() {
		return
	}
	about := ""
	if a.Request.Name != "" {
		about = quote.Printable([]byte(a.Request.Name)) + ": "
	}
	a.Say(fmt.Sprintf("%srefused: a file that is needed for it was not read within %v", about, filesTime))
	a.Abandon()
}

// turnsOf has the turns of a user's programs for files. Those who may not begin sessions share theirs: of
// them there may be any number.
func (w *Worker) turnsOf(uid uint32) fdio.Turns {
	if t := w.turns[uid]; t != nil {
		return t
	}
	return w.otherTurns
}

// open begins a run. tlswrap says hello with its standard error before it becomes the
// program. Whoever asks a long-lived worker without that is a program of one that died: its
// run goes on here.
func (w *Worker) open(call *wire.Call, req wire.Request, fds *wire.Descriptors) (*run, error) {
	hello := req.Op == wire.OpHello && req.Flags&wire.FlagStderr != 0
	if req.Op == wire.OpFinish {
		return nil, fmt.Errorf("control request for a session that has ended")
	}
	if !hello && w.config.EndWithSessions {
		return nil, fmt.Errorf("control request for no session of this worker")
	}
	if !w.allowed(call.UID) {
		if hello {
			call.Send(wire.Reply{Answer: wire.AnswerError, Errno: unix.EACCES})
		}
		return nil, fmt.Errorf("user %d may not use this worker", call.UID)
	}
	var v *report.Voice
	if hello {
		var stderr *os.File
		if fd := fds.Take(); fd >= 0 {
			stderr = os.NewFile(uintptr(fd), "stderr")
		}
		v = report.NewVoice(stderr, req.Flags&wire.FlagVerbose != 0, req.Flags&wire.FlagQuiet != 0)
	}
	r, err := w.newRun(req.Token, call.UID, v)
	if err == session.ErrManySessions && hello {
		call.Send(wire.Reply{Answer: wire.AnswerError, Errno: unix.ENETDOWN})
	}
	return r, err
}

// hello is answered where tlswrap waits for that, and wants to know whether the worker reaches it.
func (w *Worker) hello(a asked) {
	if a.Flags&wire.FlagStderr == 0 {
		return
	}
	r := wire.Reply{Answer: wire.AnswerGood}
	if w.policy.Load().Rules.Enforce {
		r.Number = wire.NumberEnforce
	}
	if a.Request.Name != "" {
		r.Errno, r.Name = w.reach(a)
	}
	a.Send(r)
}

// finish is answered when the session has ended, unless the worker ends with it.
func (w *Worker) finish(a asked) {
	<-a.Session.Finish()
	a.Send(wire.Reply{Answer: wire.AnswerGood})
}

// verdict says how setting up a connection has ended.
func (w *Worker) verdict(a asked) {
	if e := a.Find(a.Channel); e != nil {
		a.Send(e.Verdict(a.Flags))
	} else {
		a.Send(wire.Reply{Answer: wire.AnswerGone})
	}
}

// lend passes the TCP socket for one call, restart for good, and disconnected.
func (w *Worker) lend(a asked)    { a.sendSocket(session.Entry.Lend) }
func (w *Worker) restart(a asked) { a.sendSocket(session.Entry.Restart) }

func (a asked) sendSocket(of func(session.Entry) int) {
	fd, waiting := -1, 0
	if e := a.Find(a.Channel); e != nil {
		fd, waiting = of(e), e.Waiting()
	}
	if fd < 0 {
		a.Send(wire.Reply{Answer: wire.AnswerGone})
		return
	}
	defer unix.Close(fd)
	a.Send(wire.Reply{Answer: wire.AnswerFD, Number: uint16(min(waiting, math.MaxUint16))}, fd)
}

// resolve answers a program that has looked a name up, with its /etc/hosts if that came along.
func (w *Worker) resolve(a asked) {
	fd := a.fds.Take()
	hosts, err := w.resolver.ReadHosts(fd)
	fdio.Close(fd)
	a.LeaveFiles() // looking names up takes its own time
	if w.policy.Load().HasURLHosts() {
		a.run.outgoing.Proxies.NoteName(a.PID, a.Request.Name, a.Addrs)
	}
	var addrs []wire.Addr
	if err == nil {
		addrs, err = w.shown(a.Session, a.Request, hosts)
	} else {
		err = fmt.Errorf("%s: %w", quote.Printable([]byte(a.Request.Name)), err)
	}
	if err != nil {
		a.Say(err.Error())
		a.Send(wire.Reply{Answer: wire.AnswerError, Errno: unix.EADDRNOTAVAIL})
		return
	}
	a.Send(wire.Reply{Answer: wire.AnswerAddrs, Addrs: addrs})
}

// address says what a synthetic address stands for.
func (w *Worker) address(a asked) {
	if len(a.Addrs) != 1 {
		a.Send(wire.Reply{Answer: wire.AnswerGone})
		return
	}
	synthetic := a.Addrs[0]
	id, ok := a.Names.Lookup(synthetic.Real())
	if !ok {
		if a.Flags&wire.FlagDestination != 0 {
			a.Failed("failed", names.Target{Addr: synthetic}, a.PID, names.Nobody(synthetic.Real()))
		}
		a.Send(wire.Reply{Answer: wire.AnswerGone})
		return
	}
	a.Send(wire.Reply{Answer: wire.AnswerAddrs, Name: id.Name, Addrs: []wire.Addr{synthetic.With(id.IP, id.Scope)}})
}

// sweep closes what programs have stopped to listen on, and answers then.
func (w *Worker) sweep(a asked) {
	w.serving.Sweep(a.Session)
	a.Send(wire.Reply{Answer: wire.AnswerGood})
}
