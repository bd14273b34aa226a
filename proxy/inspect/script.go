package inspect

import (
	"bytes"
	"errors"
)

// headSize is how much of a file the kernel reads to find out what it is: BINPRM_BUF_SIZE in
// include/uapi/linux/binfmts.h. Behind a shorter file there are zeros.
const headSize = 256

// shell is what execvp and posix_spawnp give a text to that execve has refused with ENOEXEC.
const shell = "/bin/sh"

// scriptInterpreter returns the file that the kernel starts a script with, whose first headSize bytes
// are head. It does what load_script in fs/binfmt_script.c does (since Linux 5.1; before, no more
// than 128 bytes counted): blanks and tabs alone separate, and a path that may go on behind head is none.
func scriptInterpreter(head []byte) (string, error) {
	line := head[len("#!"):]
	text, _, ended := bytes.Cut(line, []byte{0}) // the kernel looks for a newline no further than a NUL
	text, _, newline := bytes.Cut(text, []byte("\n"))
	path := bytes.TrimLeft(text, " \t")
	if i := bytes.IndexAny(path, " \t"); i >= 0 {
		return string(path[:i]), nil
	}
	switch {
	case len(path) > 0 && (newline || ended):
		return string(path), nil
	case newline || !ended:
		return shell, nil // ENOEXEC: it names nothing, or a path without an end
	}
	return "", errors.New(`its "#!" line ends before it names an interpreter`) // ENOENT
}
