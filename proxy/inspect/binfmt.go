package inspect

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The kernel starts a file with another program where binfmt_misc has an entry for it
// (Documentation/admin-guide/binfmt-misc.rst). Such an entry comes before ELF and "#!", so
// that it is looked for first.

// miscTable is where the kernel shows the entries.
const miscTable = "/proc/sys/fs/binfmt_misc"

// errNoTable says that the kernel may have entries, and does not show them here.
var errNoTable = errors.New("binfmt_misc is not mounted")

// miscEntry is an entry of the table: a file is started with interpreter where its first
// bytes are magic, or else where its name ends with a dot and extension.
type miscEntry struct {
	interpreter string
	opened      bool // when it was registered, and what the name leads to now is not asked
	extension   string
	offset      int
	magic, mask []byte
}

// miscInterpreter finds the program that the kernel would start the file called name, with
// these first bytes, with: "" if no entry is for it.
func miscInterpreter(table, name string, head []byte) (string, error) {
	entries, err := miscEntries(table)
	if err != nil {
		return "", err
	}
	found := miscEntry{}
	for _, e := range entries {
		if !e.matches(name, head) {
			continue
		}
		if found.interpreter != "" && found.interpreter != e.interpreter {
			return "", fmt.Errorf("binfmt_misc has both %s and %s for it", found.interpreter, e.interpreter)
		}
		e.opened = e.opened || found.opened
		found = e
	}
	if found.opened {
		return "", fmt.Errorf("binfmt_misc has it started with a file that was %s when that was registered, and may be another now", found.interpreter)
	}
	return found.interpreter, nil
}

func (e miscEntry) matches(name string, head []byte) bool {
	if e.magic == nil {
		i := strings.LastIndexByte(name, '.')
		return i >= 0 && name[i+1:] == e.extension
	}
	for i, b := range e.magic {
		at, mask := e.offset+i, byte(0xff)
		if i < len(e.mask) {
			mask = e.mask[i]
		}
		if at >= len(head) || (head[at]^b)&mask != 0 {
			return false
		}
	}
	return true
}

// miscEntries reads those that count.
func miscEntries(table string) ([]miscEntry, error) {
	dir, err := os.Open(table)
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(filepath.Dir(table)); err == nil {
			return nil, nil // this kernel has no binfmt_misc
		}
	}
	if err != nil {
		return nil, errNoTable
	}
	defer dir.Close()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &fs); err != nil || fs.Type != unix.BINFMTFS_MAGIC {
		return nil, errNoTable
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var entries []miscEntry
	for _, name := range names {
		if name == "register" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(table, name))
		if errors.Is(err, os.ErrNotExist) {
			continue // it was removed just now
		}
		if err != nil {
			return nil, err
		}
		state, rest, _ := strings.Cut(string(text), "\n")
		if name == "status" {
			if state != "enabled" {
				return nil, nil
			}
			continue
		}
		if state != "enabled" {
			continue
		}
		entry, err := parseMiscEntry(rest)
		if err != nil {
			return nil, fmt.Errorf("binfmt_misc's entry %q: %w", name, err)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// parseMiscEntry reads what fs/binfmt_misc.c, entry_status, writes.
func parseMiscEntry(text string) (e miscEntry, err error) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch key {
		case "interpreter":
			e.interpreter = value
		case "flags:":
			e.opened = strings.Contains(value, "F")
		case "extension":
			e.extension = strings.TrimPrefix(value, ".")
		case "offset":
			e.offset, err = strconv.Atoi(value)
		case "magic":
			e.magic, err = hex.DecodeString(value)
		case "mask":
			e.mask, err = hex.DecodeString(value)
		}
		if err != nil {
			return e, fmt.Errorf("%q: %w", line, err)
		}
	}
	if e.interpreter == "" || (e.extension == "") == (e.magic == nil) || e.offset < 0 {
		return e, io.ErrUnexpectedEOF
	}
	return e, nil
}
