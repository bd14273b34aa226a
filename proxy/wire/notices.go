package wire

import "encoding/binary"

// Notice is what a program's shim tells without being answered: a connect that passes.
type Notice struct {
	PID    int32 // of the process; 0 where that is in another PID namespace
	To     Addr
	Untold uint64 // connects before that there was no notice of
}

// Bell is what programs have to know to wake the worker.
type Bell struct {
	Token Token
	Name  string // of an abstract address, with the NUL that it begins with
}

// Marshal makes a struct tw_bell of it.
func (p Bell) Marshal() []byte {
	b := make([]byte, MapBellLen)
	binary.NativeEndian.PutUint32(b, uint32(len(p.Name)))
	copy(b[4:], p.Token[:])
	copy(b[4+TokenLen:], p.Name)
	return b
}

// SharedNotices is struct tw_notices of preload/wire.h.
type SharedNotices struct {
	Next, Taken, Asleep, Untold uint32

	_  [4]uint32
	At [MostNotices]SharedNotice
}

// SharedNotice is struct tw_notice.
type SharedNotice struct {
	Turn uint32
	PID  int32
	To   [AddrLen]byte // which ParseAddr reads
}
