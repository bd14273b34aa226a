package process

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A person who reads that there are no descriptors learns which limit to raise.
func TestASentenceSaysWhichLimitToRaise(t *testing.T) {
	hint := DescriptorHint(os.NewSyscallError("socketpair", unix.EMFILE))
	if !strings.Contains(hint, "needs two for each connection: raise the hard limit, ulimit -Hn") {
		t.Errorf("it says %q", hint)
	}
	if hint := DescriptorHint(unix.ENOMEM); hint != "" {
		t.Errorf("of another error it says %q", hint)
	}
}

func TestTheSoftLimitBecomesTheHardOneAtLeast(t *testing.T) {
	var before, after unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: before.Max / 2, Max: before.Max})
	MoreDescriptors()
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &after); err != nil {
		t.Fatal(err)
	}
	if after.Cur < before.Max {
		t.Errorf("it is %d, and the hard one was %d", after.Cur, before.Max)
	}
}
