package process

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// A worker has two descriptors for each connection of its programs, the channel's and the upstream's, and
// some more while one is set up. It begins with the limit of its program, which has one for each.

// spareDescriptors are those that a worker has beside its connections.
const spareDescriptors = 64

// MoreDescriptors raises the limits of open descriptors so that connections take as many as the program that
// had them before may have. Where that is not allowed (without CAP_SYS_RESOURCE), the soft limit becomes the
// hard one.
func MoreDescriptors() {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return
	}
	most := 2*limit.Max + spareDescriptors
	if most < limit.Max || unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: most}) != nil {
		unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit.Max, Max: limit.Max})
	}
}

// DescriptorHint is what a sentence about err goes on with for a person where the worker has no descriptor
// left, or "".
func DescriptorHint(err error) string {
	var limit unix.Rlimit
	if !errors.Is(err, unix.EMFILE) || unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return ""
	}
	return fmt.Sprintf(" (tlswrap's worker may open %d, and needs two for each connection: raise the hard limit, ulimit -Hn)", limit.Cur)
}
