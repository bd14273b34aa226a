package fdio

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// NewMemoryFile makes a file that programs map, and can only read. What is never written to takes no memory.
func NewMemoryFile(name string, size int) (fd int, memory []byte, err error) {
	// The worker's own mapping is older than the seal and stays writable (fcntl(2), F_SEAL_FUTURE_WRITE).
	return newMemoryFile(name, size, unix.F_SEAL_FUTURE_WRITE)
}

// NewSharedFile makes one that programs write to.
func NewSharedFile(name string, size int) (fd int, memory []byte, err error) {
	return newMemoryFile(name, size, 0)
}

func newMemoryFile(name string, size, seal int) (fd int, memory []byte, err error) {
	fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, nil, os.NewSyscallError("memfd_create", err)
	}
	err = os.NewSyscallError("ftruncate", unix.Ftruncate(fd, int64(size)))
	if err == nil {
		memory, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		err = os.NewSyscallError("mmap", err)
	}
	if err == nil {
		// No program can make another's access a SIGBUS, or the worker's.
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL|seal)
		err = os.NewSyscallError("fcntl", err)
	}
	if err != nil {
		unix.Munmap(memory)
		unix.Close(fd)
		return -1, nil, err
	}
	return fd, memory, nil
}

// ReadFile reads a file of at most most bytes from its beginning and closes it. What is no file, a pipe, is
// empty, as for libtls, which goes by the size.
func ReadFile(fd int, most int64) ([]byte, error) {
	if fd < 0 {
		return nil, errors.New("tlswrap's worker got no descriptor")
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return []byte{}, nil
	}
	if st.Size > most {
		return nil, fmt.Errorf("larger than %d bytes", most)
	}
	data := make([]byte, st.Size)
	for done := 0; done < len(data); {
		n, err := unix.Pread(fd, data[done:], int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("pread", err)
		}
		if n == 0 {
			return data[:done], nil
		}
		done += n
	}
	return data, nil
}
