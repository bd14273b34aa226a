package proxy

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/quote"
)

// Executor is the process that is about to start a program.
type Executor struct {
	UID, GID   uint32
	NoNewPrivs bool // set-user-ID bits and capabilities will be ignored
	IDsDiffer  bool // real and effective ids differ, of the user or of the group
}

// NobodysID is in an Executor whose ids are not known: what a file gives is then more
// than it has.
const NobodysID = ^uint32(0)

// errNoExec is why a library cannot be preloaded that the loader may not map.
var errNoExec = errors.New("the library to preload is on a file system mounted noexec")

// CheckLibrary tells whether the loader could map library, as this process sees it.
func CheckLibrary(library string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(library, &fs); err != nil {
		return fmt.Errorf("the library to preload cannot be looked at: %w", err)
	}
	if fs.Flags&unix.ST_NOEXEC != 0 {
		return errNoExec
	}
	return nil
}

// Inspection is what became of looking at a program's file.
type Inspection struct {
	// Library is what to preload.
	Library string
	// Interpreter is set for a script instead: the file to look at next.
	Interpreter string
}

// Inspect tells whether the shim can be preloaded into the program in file, and with
// which library. The error says why not: the loader itself would only warn, or say
// nothing, and the program would connect without us.
//
// library is the shim for this machine's own kind of program; those for others are in
// folders beside it, named as elf.Machine does (EM_386, EM_AARCH64).
func Inspect(file *os.File, library string, by Executor) (Inspection, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return Inspection{}, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return Inspection{}, errors.New("not a regular file")
	}
	if err := checkPrivileges(file, &st, by); err != nil {
		return Inspection{}, err
	}
	var head [256]byte // BINPRM_BUF_SIZE, include/uapi/linux/binfmts.h
	n, err := file.ReadAt(head[:], 0)
	if err != nil && err != io.EOF {
		return Inspection{}, err
	}
	if bytes.HasPrefix(head[:n], []byte("#!")) {
		return Inspection{Interpreter: interpreter(head[2:n])}, nil
	}
	if !bytes.HasPrefix(head[:n], []byte(elf.ELFMAG)) {
		// execvp and posix_spawnp give a text to the shell; execve fails.
		return Inspection{Library: library}, nil
	}
	f, err := elf.NewFile(file)
	if err != nil {
		return Inspection{}, fmt.Errorf("not a program that this machine can start: %v", err)
	}
	defer f.Close()
	if own, err := sameFile(file, "/proc/self/exe"); err == nil && own {
		return Inspection{Library: library}, nil // tlswrap in tlswrap
	}
	// Linked with -buildid= it has no note.
	if f.Section(".go.buildinfo") != nil || f.Section(".gopclntab") != nil {
		return Inspection{}, errGo
	}
	if err := checkLoader(f); err != nil {
		return Inspection{}, err
	}
	return libraryFor(f, library)
}

// checkPrivileges finds programs that start in secure-execution mode (ld.so(8)), in
// which the loader ignores LD_PRELOAD.
func checkPrivileges(file *os.File, st *unix.Stat_t, by Executor) error {
	if by.IDsDiffer {
		return errors.New("its real and effective user or group differ, and the loader ignores LD_PRELOAD then")
	}
	var fs unix.Statfs_t
	const stNoSUID = 2 // ST_NOSUID, statfs(2)
	if by.NoNewPrivs || (unix.Fstatfs(int(file.Fd()), &fs) == nil && fs.Flags&stNoSUID != 0) {
		return nil
	}
	switch {
	case st.Mode&unix.S_ISUID != 0 && st.Uid != by.UID:
		return errors.New("it is set-user-ID")
	case st.Mode&unix.S_ISGID != 0 && st.Mode&unix.S_IXGRP != 0 && st.Gid != by.GID:
		return errors.New("it is set-group-ID")
	case by.UID == 0:
		return nil // capabilities(7): root's do not grow
	}
	if n, err := unix.Fgetxattr(int(file.Fd()), "security.capability", nil); err == nil && n > 0 {
		return errors.New("it has file capabilities")
	}
	return nil
}

// interpreter reads a "#!" line as fs/binfmt_script.c does.
func interpreter(line []byte) string {
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line = line[:i]
	}
	if fields := bytes.Fields(bytes.TrimRight(line, "\x00")); len(fields) > 0 {
		return string(fields[0])
	}
	return ""
}

var errGo = errors.New("it is a Go program, which makes its system calls without libc")

// checkLoader finds programs that no loader preloads into, or that connect without
// libc.
func checkLoader(f *elf.File) error {
	dynamic := false
	for _, p := range f.Progs {
		switch p.Type {
		case elf.PT_INTERP:
			dynamic = true
		case elf.PT_NOTE:
			if isGoNote(p) {
				return errGo
			}
		}
	}
	if dynamic {
		return nil
	}
	// The loader itself can be started with a program as its argument.
	if names, err := f.DynString(elf.DT_SONAME); err == nil && len(names) == 1 &&
		(strings.HasPrefix(names[0], "ld-") || strings.HasPrefix(names[0], "libc.musl")) {
		return nil
	}
	return errors.New("it is statically linked")
}

// isGoNote reports whether a note segment holds the Go toolchain's build id
// (cmd/internal/buildid).
func isGoNote(p *elf.Prog) bool {
	const most = 4096
	b := make([]byte, min(p.Filesz, most))
	n, _ := p.ReadAt(b, 0)
	return bytes.Contains(b[:n], []byte("Go\x00\x00"))
}

// libraryFor picks the shim for the program's kind of machine.
func libraryFor(f *elf.File, library string) (Inspection, error) {
	own, err := elf.Open(library)
	if err != nil {
		return Inspection{}, fmt.Errorf("the library to preload cannot be read: %v", err)
	}
	defer own.Close()
	if f.Class == own.Class && f.Machine == own.Machine {
		return Inspection{Library: library}, nil
	}
	other := filepath.Join(filepath.Dir(library), f.Machine.String(), filepath.Base(library))
	if _, err := os.Stat(other); err != nil {
		return Inspection{}, fmt.Errorf("it is a %s program, and there is no %s for it", machineName(f), filepath.Base(library))
	}
	return Inspection{Library: other}, nil
}

func machineName(f *elf.File) string {
	bits := map[elf.Class]string{elf.ELFCLASS32: "32-bit", elf.ELFCLASS64: "64-bit"}[f.Class]
	return strings.TrimSpace(bits + " " + strings.TrimPrefix(f.Machine.String(), "EM_"))
}

func sameFile(file *os.File, path string) (bool, error) {
	a, err := file.Stat()
	if err != nil {
		return false, err
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b), err
}

// inspect answers a program that is about to start another.
func (c *caller) inspect(s *session, req request, fd int) reply {
	w := c.worker
	refuse := func(why string) reply {
		w.say(s, fmt.Sprintf("%s: not started, because it cannot be preloaded: %s", quote.Printable([]byte(req.name)), why))
		return reply{answer: answerError, errno: unix.EACCES}
	}
	if req.flags&flagLibraryNoExec != 0 {
		return refuse(errNoExec.Error())
	}
	if req.flags&flagUnfollowed != 0 {
		return refuse("it cannot be told to which folder the file actions of posix_spawn lead")
	}
	if fd < 0 {
		return refuse("it may be executed but not read")
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return reply{answer: answerError, errno: unix.ENFILE}
	}
	file := os.NewFile(uintptr(dup), req.name)
	defer file.Close()
	if fi, err := file.Stat(); err == nil && !fi.Mode().IsRegular() {
		return reply{answer: answerError, errno: unix.EACCES} // as execve(2) has it
	}
	by := Executor{
		UID: c.cred.Uid, GID: c.cred.Gid,
		NoNewPrivs: req.flags&flagNoNewPrivs != 0, IDsDiffer: req.flags&flagIDsDiffer != 0,
	}
	if req.flags&flagIDsReset != 0 {
		by.UID, by.GID = NobodysID, NobodysID
	}
	got, err := Inspect(file, w.config.Library, by)
	switch {
	case err != nil:
		return refuse(err.Error())
	case got.Library == "" && got.Interpreter == "":
		return reply{answer: answerError, errno: unix.ENOEXEC}
	case got.Interpreter != "":
		return reply{answer: answerScript, name: got.Interpreter}
	}
	return reply{answer: answerExec, name: got.Library}
}
