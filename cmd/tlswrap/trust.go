package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// mayServe returns an error unless a worker of user uid's that serves the socket at path is ours,
// root's, or there by the will of one of us: nobody else can have put the socket there, except uid,
// in a folder that root has given to that user.
func mayServe(path string, uid uint32) error {
	if uid == 0 || uid == uint32(os.Geteuid()) {
		return nil
	}
	if by, err := placedBy(path, uid); err != nil {
		return fmt.Errorf("%s: user %d runs the worker there, and it cannot be told who has put it there: %w", path, uid, err)
	} else if by != "" {
		return fmt.Errorf("%s: the worker there is a stranger's, user %d's: %s", path, uid, by)
	}
	return nil
}

// mostLinks are the symbolic links in one path, as for the kernel.
const mostLinks = 40

// placedBy says who, beside root and user uid, can have put what is at path there, or "": nobody.
func placedBy(path string, uid uint32) (string, error) {
	at, rest := "/", strings.Split(path, "/")
	for links := 0; ; {
		fi, err := os.Lstat(at)
		if err != nil {
			return "", err
		}
		if owner := fi.Sys().(*syscall.Stat_t).Uid; owner != 0 && owner != uid {
			return fmt.Sprintf("%s belongs to user %d", at, owner), nil
		}
		switch {
		case fi.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(at)
			if err != nil {
				return "", err
			}
			if links++; links > mostLinks {
				return "", &os.PathError{Op: "readlink", Path: at, Err: syscall.ELOOP}
			}
			rest = append(strings.Split(target, "/"), rest...)
			if at = filepath.Dir(at); filepath.IsAbs(target) {
				at = "/"
			}
		case fi.IsDir() && fi.Mode().Perm()&0o022 != 0:
			return fmt.Sprintf("others can write to the folder %s", at), nil
		}
		for len(rest) > 0 && (rest[0] == "" || rest[0] == ".") {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			return "", nil
		}
		// at is a folder now and no link, so that .. is its parent.
		at, rest = filepath.Join(at, rest[0]), rest[1:]
	}
}
