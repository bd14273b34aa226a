package integration

import "testing"

// Memory that cannot be read is EFAULT, as it is to the kernel, and not the end of the program.
func TestPointersToNowhereAreEFAULT(t *testing.T) {
	t.Parallel()
	program := compile(t, "pointers.c")
	alone := wrapped{bare: true}.run(t, program).must(t).stdout
	if got := anyRule().run(t, program).must(t).stdout; got != alone {
		t.Errorf("the program says\n%s, and alone\n%s", got, alone)
	}
}
