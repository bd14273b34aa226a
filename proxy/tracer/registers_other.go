//go:build !amd64

package tracer

import "golang.org/x/sys/unix"

// supported says whether there is a tracer on this kind of machine.
const supported = false

// pause is no call here.
const pause = -1

// registers are a thread's.
type registers struct{}

func (r *registers) read(int) error     { return unix.ENOSYS }
func (r *registers) write(int) error    { return unix.ENOSYS }
func (r *registers) number() int        { return -1 }
func (r *registers) ip() uint64         { return 0 }
func (r *registers) value() int64       { return -int64(unix.ENOSYS) }
func (r *registers) args() [6]uint64    { return [6]uint64{} }
func (r *registers) enter(int)          {}
func (r *registers) skip(int64)         {}
func (r *registers) leave(int64)        {}
func (r *registers) make(int, []uint64) {}
func (r *registers) traceClone()        {}
