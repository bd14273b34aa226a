package testkit

import (
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRefusingIsForWhatIsStartedAlone(t *testing.T) {
	var out []byte
	err := Refusing([]Refusal{{unix.SYS_SOCKET, unix.EMFILE}, {unix.SYS_UNAME, unix.EPERM}}, func() (err error) {
		out, err = exec.Command("uname").CombinedOutput()
		return err
	})
	if err == nil || !strings.Contains(string(out), "Operation not permitted") {
		t.Errorf("below the filter: %v, %q", err, out)
	}
	if out, err := exec.Command("uname").CombinedOutput(); err != nil {
		t.Errorf("beside it: %v, %q", err, out)
	}
}
