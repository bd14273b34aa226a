package machine

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"tlswrap/proxy/seccomp"
	"tlswrap/proxy/thread"
	"tlswrap/proxy/tracer"
)

// tryTracer tells why programs cannot be traced, or nil: this process traces another, which puts a filter under
// itself and makes calls.
func tryTracer() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{Stage}
	cmd.Env = []string{"GOMAXPROCS=1"}
	begin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("no process could be started to try it with: %w", err)
	}
	defer cmd.Wait()
	defer begin.Close()
	said := bufio.NewReader(out)
	line, err := said.ReadString('\n')
	if err != nil {
		return err
	}
	tid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return err
	}
	t, err := tracer.Trace(slog.New(slog.DiscardHandler), cmd.Process.Pid, tid, attemptCookie)
	if err != nil {
		return err
	}
	defer t.Close()
	begin.Close()
	var words bytes.Buffer
	if _, err := io.Copy(&words, said); err != nil {
		return err
	}
	return errorOf(words.String())
}

// attemptCookie is no run's, and not what an unused register has.
const attemptCookie = 1

// beTraced is the other side: it says which thread is to be traced, and once its standard input has ended, why
// that was no use, or nothing.
func beTraced() int {
	var err error
	thread.Run(func() {
		fmt.Println(unix.Gettid())
		io.Copy(io.Discard, os.Stdin)
		if err = seccomp.InstallTraced(attemptCookie); err == nil {
			err = seccomp.Prove()
		}
	})
	fmt.Print(words(err))
	return 0
}
