package libtls

import (
	"errors"
	"os"

	"tlswrap/proxy/fdio"
	"tlswrap/proxy/libtls/engine"
	"tlswrap/proxy/wire"
)

// sessionFile is a program's file for the sessions of its client (tls_config_set_session_fd(3)). Its file system
// may not answer, so everything that is done with it takes a turn of the user's.
type sessionFile struct {
	file  *os.File
	turns fdio.Turns
}

var errNoTurn = errors.New("too many files of this user cannot be read")

func newSessionFile(c *wire.Call, fd int) *sessionFile {
	return &sessionFile{os.NewFile(uintptr(fd), "session"), c.Turns}
}

// forEngine is f, or nil where there is none.
func (f *sessionFile) forEngine() engine.SessionFile {
	if f == nil {
		return nil
	}
	return f
}

// ReadAt implements engine.SessionFile.
func (f *sessionFile) ReadAt(b []byte, at int64) (int, error) {
	if !f.turns.Take() {
		return 0, errNoTurn
	}
	defer f.turns.Leave()
	return f.file.ReadAt(b, at)
}

// WriteAt implements engine.SessionFile.
func (f *sessionFile) WriteAt(b []byte, at int64) (int, error) {
	if !f.turns.Take() {
		return 0, errNoTurn
	}
	defer f.turns.Leave()
	return f.file.WriteAt(b, at)
}

// Truncate implements engine.SessionFile.
func (f *sessionFile) Truncate(size int64) error {
	if !f.turns.Take() {
		return errNoTurn
	}
	defer f.turns.Leave()
	return f.file.Truncate(size)
}

func (f *sessionFile) close() { f.turns.CloseLater(f.file.Close) }
