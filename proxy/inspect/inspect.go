// Package inspect looks at programs before they start: whether the shim can be preloaded into the one in
// a file, with which library, or what the kernel starts in its place. It opens programs that it was
// given, the library, and the table of binfmt_misc, and connects to nothing. tlswrap calls it for the
// program that it becomes, and the worker for those that a program starts.
package inspect

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/quote"
)

// Executor is the process that is about to start a program.
type Executor struct {
	UID, GID   uint32
	NoNewPrivs bool // set-user-ID bits and capabilities will be ignored
	IDsDiffer  bool // real and effective ids differ, of the user or of the group

	Interprets bool // it is what the kernel starts another file with, with arguments of its own
	Mapped     bool // a dynamic loader maps it, and the kernel is not asked to start it
}

// UnknownID is in an Executor whose ids are not known: what a file gives is then more
// than it has.
const UnknownID = ^uint32(0)

// ErrNoExec is why a library cannot be preloaded that the loader may not map.
var ErrNoExec = errors.New("the library to preload is on a file system mounted noexec")

// CheckLibrary tells whether the loader could map library, as this process sees it.
func CheckLibrary(library string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(library, &fs); err != nil {
		return fmt.Errorf("the library to preload cannot be looked at: %w", err)
	}
	if fs.Flags&unix.ST_NOEXEC != 0 {
		return ErrNoExec
	}
	return nil
}

// Result is what became of looking at a program's file.
type Result struct {
	// Library is what to preload.
	Library string
	// Interpreter is set instead where the kernel starts another file with this one: the
	// file to look at next.
	Interpreter string
	// Loader is set instead for a dynamic loader: a file among its arguments is the next.
	Loader *Loader
}

// File tells whether the shim can be preloaded into the program in file, and with
// which library. The error says why not: the loader itself would only warn, or say
// nothing, and the program would connect without us.
//
// library is the shim for this machine's own kind of program; those for others are in
// folders beside it, named as elf.Machine does (EM_386, EM_AARCH64).
func File(file *os.File, library string, by Executor) (Result, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return Result{}, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return Result{}, errors.New("not a regular file")
	}
	if err := checkPrivileges(file, &st, by); err != nil {
		return Result{}, err
	}
	head := make([]byte, headSize)
	n, err := file.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return Result{}, err
	}
	if !by.Mapped {
		other, err := miscInterpreter(miscTable, file.Name(), head)
		switch {
		case err != nil && !errors.Is(err, errNoTable):
			return Result{}, err
		case other != "":
			return Result{Interpreter: other}, nil
		case bytes.HasPrefix(head, []byte("#!")):
			path, err := scriptInterpreter(head)
			return Result{Interpreter: path}, err
		case err != nil && !bytes.HasPrefix(head, []byte(elf.ELFMAG)) && bytes.IndexByte(head[:n], 0) >= 0:
			return Result{}, fmt.Errorf("it cannot be told what this machine starts it with: %w", err)
		case !bytes.HasPrefix(head, []byte(elf.ELFMAG)):
			return Result{Interpreter: shell}, nil
		}
	}
	f, err := elf.NewFile(file)
	if err != nil {
		return Result{}, fmt.Errorf("not a program that this machine can start: %v", err)
	}
	defer f.Close()
	return program(file, f, library, by)
}

// program is File for an ELF file that the kernel starts itself.
func program(file *os.File, f *elf.File, library string, by Executor) (Result, error) {
	if own, err := sameFile(file, "/proc/self/exe"); err == nil && own {
		return Result{Library: library}, nil // tlswrap in tlswrap
	}
	if err := checkCalls(file, f); err != nil {
		return Result{}, err
	}
	library, err := libraryFor(f, library)
	if err != nil {
		return Result{}, err
	}
	if path := loadedBy(f); path != "" {
		if !by.Mapped && !isLoaderName(filepath.Base(path)) {
			return Result{}, fmt.Errorf("it is loaded by %s, which is not known to preload", quote.Printable([]byte(path)))
		}
		return Result{Library: library}, nil
	}
	loader := asLoader(f)
	switch {
	case loader == nil:
		return Result{}, errors.New("it is statically linked")
	case by.Interprets:
		return Result{}, errors.New("it is a dynamic loader, and it cannot be told which program it is given")
	}
	loader.Library = library
	return Result{Loader: loader}, nil
}

// checkPrivileges finds programs that start in secure-execution mode (ld.so(8)), in
// which the loader ignores LD_PRELOAD.
func checkPrivileges(file *os.File, st *unix.Stat_t, by Executor) error {
	if by.IDsDiffer {
		return errors.New("its real and effective user or group differ, and the loader ignores LD_PRELOAD then")
	}
	var fs unix.Statfs_t
	const stNoSUID = 2 // ST_NOSUID, statfs(2)
	if by.NoNewPrivs || by.Mapped || (unix.Fstatfs(int(file.Fd()), &fs) == nil && fs.Flags&stNoSUID != 0) {
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

// checkCalls finds programs that connect without libc, or that have another do it.
func checkCalls(file *os.File, f *elf.File) error {
	if name := emulator(file); name != "" {
		return fmt.Errorf("it is %s, and it cannot be told whether the program that it emulates is preloaded", name)
	}
	const without = "it is a %s program, which makes its system calls without libc"
	for _, s := range f.Sections {
		switch s.Name {
		case ".go.buildinfo", ".gopclntab": // linked with -buildid= it has no note
			return fmt.Errorf(without, "Go")
		case ".fpcdata", "fpc.resources":
			return fmt.Errorf(without, "Free Pascal")
		}
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_NOTE && isGoNote(p) {
			return fmt.Errorf(without, "Go")
		}
	}
	return nil
}

// emulated are the processors that qemu-user has programs for.
var emulated = strings.Fields(`aarch64 aarch64_be alpha arm armeb cris hexagon hppa i386 loongarch64 m68k
	microblaze microblazeel mips mips64 mips64el mipsel mipsn32 mipsn32el nios2 or1k ppc ppc64 ppc64le
	riscv32 riscv64 s390x sh4 sh4eb sparc sparc32plus sparc64 tilegx x86_64 xtensa xtensaeb`)

// emulator returns the name of a file that is one of qemu-user's programs, by the name that
// it was asked for or that it has: nothing in it tells.
func emulator(file *os.File) string {
	own, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	for _, path := range []string{file.Name(), own} {
		name := filepath.Base(path)
		cpu, is := strings.CutPrefix(name, "qemu-")
		if is && slices.Contains(emulated, strings.TrimSuffix(cpu, "-static")) {
			return name
		}
	}
	return ""
}

// loadedBy returns the path of a program's dynamic loader, or "" for a static one.
func loadedBy(f *elf.File) string {
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			path := make([]byte, min(p.Filesz, unix.PathMax))
			n, _ := p.ReadAt(path, 0)
			return unix.ByteSliceToString(path[:n]) // the kernel reads no further than a NUL
		}
	}
	return ""
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
func libraryFor(f *elf.File, library string) (string, error) {
	own, err := elf.Open(library)
	if err != nil {
		return "", unreadable(err)
	}
	defer own.Close()
	if f.Class == own.Class && f.Machine == own.Machine {
		return library, nil
	}
	if f.Machine != own.Machine && f.Machine != narrow[own.Machine] {
		return "", fmt.Errorf("it is a %s program, and it cannot be told what this machine starts it with", machineName(f))
	}
	other := filepath.Join(filepath.Dir(library), f.Machine.String(), filepath.Base(library))
	if _, err := os.Stat(other); err != nil {
		return "", fmt.Errorf("it is a %s program, and there is no %s for it", machineName(f), filepath.Base(library))
	}
	return other, nil
}

// narrow is the 32-bit machine whose programs a kernel starts by itself.
var narrow = map[elf.Machine]elf.Machine{elf.EM_X86_64: elf.EM_386, elf.EM_AARCH64: elf.EM_ARM}

// Kinds are the kinds of machine for whose programs there is a shim: that of library, and those in folders
// beside it. without is the one whose programs this machine may start besides, where there is none for it.
func Kinds(library string) (kinds []string, without string, err error) {
	own, err := elf.Open(library)
	if err != nil {
		return nil, "", unreadable(err)
	}
	defer own.Close()
	kinds = []string{kindName(own.Machine)}
	if other, ok := narrow[own.Machine]; ok {
		without = kindName(other)
	}
	others, _ := filepath.Glob(filepath.Join(filepath.Dir(library), "EM_*", filepath.Base(library)))
	for _, path := range others {
		f, err := elf.Open(path)
		if err != nil {
			continue
		}
		f.Close()
		if f.Machine.String() != filepath.Base(filepath.Dir(path)) {
			continue
		}
		if kinds = append(kinds, kindName(f.Machine)); f.Machine == narrow[own.Machine] {
			without = ""
		}
	}
	return kinds, without, nil
}

func unreadable(err error) error { return fmt.Errorf("the library to preload cannot be read: %v", err) }

func kindName(m elf.Machine) string { return strings.TrimPrefix(m.String(), "EM_") }

func machineName(f *elf.File) string {
	bits := map[elf.Class]string{elf.ELFCLASS32: "32-bit", elf.ELFCLASS64: "64-bit"}[f.Class]
	return strings.TrimSpace(bits + " " + kindName(f.Machine))
}

func sameFile(file *os.File, path string) (bool, error) {
	a, err := file.Stat()
	if err != nil {
		return false, err
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b), err
}
