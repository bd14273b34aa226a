package testkit

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestNeedsWhatNobodyHas is run by the test below alone.
func TestNeedsWhatNobodyHas(t *testing.T) {
	if os.Getenv("TLSWRAP_TEST_NEED") == "" {
		t.SkipNow()
	}
	for _, what := range []string{"a-program-of-nobody", "libnobody.so.1", "a/header/of/nobody.h"} {
		for _, name := range []string{"first", "second"} {
			t.Run(name, func(t *testing.T) { Need(t, what) })
		}
	}
}

func TestNeedSaysOnceWhatIsMissing(t *testing.T) {
	for all, want := range map[string]string{"": "ok", "1": "exit status 1"} {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestNeedsWhatNobodyHas$")
		cmd.Env = append(os.Environ(), "TLSWRAP_TEST_NEED=1", allVariable+"="+all, listVariable+"=")
		out, err := cmd.CombinedOutput()
		how := "ok"
		if err != nil {
			how = err.Error()
		}
		if how != want {
			t.Errorf("%s=%q: %s, want %s\n%s", allVariable, all, how, want, out)
		}
		for _, line := range []string{
			"not tested: TestNeedsWhatNobodyHas/first: a-program-of-nobody is not installed\n",
			"not tested: TestNeedsWhatNobodyHas/first#01: libnobody.so.1 is not installed\n",
			"not tested: TestNeedsWhatNobodyHas/first#02: a/header/of/nobody.h is not installed\n",
		} {
			if said := strings.Count(string(out), line) == 1; said != (all == "") {
				t.Errorf("%s=%q: %q is said: %v\n%s", allVariable, all, line, said, out)
			}
		}
		if failed := strings.Count(string(out), "--- FAIL: TestNeedsWhatNobodyHas/"); all == "1" && failed != 6 {
			t.Errorf("%d of 6 tests fail where all have to run:\n%s", failed, out)
		}
	}
}
