package wire

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// What the log calls operations and answers: the names of preload/wire.h and libtls/wire.h.
var (
	opWords = map[Op]string{
		OpHello: "hello", OpConnect: "connect", OpTaken: "taken", OpVerdict: "verdict", OpRestart: "restart",
		OpUpstream: "upstream", OpNames: "names", OpAddress: "address", OpExec: "exec", OpListen: "listen",
		OpAccept: "accept", OpSweep: "sweep",
		OpSupervise: "supervise", OpFinish: "finish", OpNotices: "notices", OpPassed: "passed",
		OpTLSLoad: "tls_load", OpTLSBuild: "tls_build", OpTLSDrop: "tls_drop", OpTLSStart: "tls_start",
		OpTLSEnd: "tls_end", OpTLSName: "tls_name", OpTLSOCSP: "tls_ocsp", OpTLSDecrypt: "tls_decrypt",
		OpTLSRing: "tls_ring",
	}
	answerWords = map[answer]string{
		AnswerPass: "pass", AnswerChannel: "channel", AnswerError: "error", AnswerPending: "pending",
		AnswerGood: "good", AnswerIsConn: "isconn", AnswerFD: "fd", AnswerAddrs: "addrs", AnswerExec: "exec",
		AnswerScript: "script", AnswerGone: "gone", AnswerArgument: "argument", AnswerProgram: "program",
	}
)

func (o Op) String() string {
	if word, ok := opWords[o]; ok {
		return word
	}
	return strconv.Itoa(int(o))
}

func (a answer) String() string {
	if word, ok := answerWords[a]; ok {
		return word
	}
	return strconv.Itoa(int(a))
}

func (r Reply) outcome() string {
	if r.Answer == AnswerError {
		return unix.ErrnoName(r.Errno)
	}
	return r.Answer.String()
}

func (r TLSReply) outcome() string { return r.Answer.String() }
