#include "textflag.h"

// entry asks the kernel for the disposition of every signal, and goes on to Go's own entry
// point with the stack as it came. Before that, the worker of a single run (goressl) forks,
// and the parent exits: with 0, or the error number. The child goes on in a session of its
// own, without descriptors that are not for it. Every worker is made undumpable, and gets a
// large timer slack.
TEXT entry(SB),NOSPLIT|NOFRAME,$0
	MOVQ	$1, R12			// signal number
	XORQ	R13, R13		// the ignored ones
	SUBQ	$64, SP			// struct sigaction: the handler comes first
next:
	MOVQ	$13, AX			// rt_sigaction(signal, NULL, old, 8)
	MOVQ	R12, DI
	XORQ	SI, SI
	MOVQ	SP, DX
	MOVQ	$8, R10
	SYSCALL
	TESTQ	AX, AX
	JNE	skip
	CMPQ	0(SP), $1		// SIG_IGN
	JNE	skip
	MOVQ	R12, CX
	DECQ	CX
	MOVQ	$1, BX
	SHLQ	CX, BX
	ORQ	BX, R13
skip:
	INCQ	R12
	CMPQ	R12, $64
	JLE	next
	ADDQ	$64, SP
	MOVQ	R13, ·ignoredAtStart(SB)
	MOVB	$1, ·entered(SB)

	CMPQ	0(SP), $1		// argc
	JLT	start
	MOVQ	8(SP), AX		// argv[0]; behind all strings are 8 zero bytes
	MOVQ	$0x006c737365726f67, BX	// "goressl", with its NUL
	CMPQ	(AX), BX
	JEQ	own
	CMPQ	0(SP), $2
	JLT	start
	MOVQ	16(SP), AX		// argv[1]
	MOVQ	(AX), AX
	SHLQ	$8, AX
	MOVQ	$0x0072656b726f7700, BX	// "worker", with its NUL
	CMPQ	AX, BX
	JEQ	slack
start:
	JMP	_rt0_amd64_linux(SB)
own:
	// The child is born undumpable: nobody can open its memory, and nobody has, as one
	// could have opened this process's before.
	MOVQ	$157, AX		// prctl(PR_SET_DUMPABLE, 0)
	MOVQ	$4, DI
	XORQ	SI, SI
	SYSCALL
	MOVQ	$57, AX			// fork()
	SYSCALL
	TESTQ	AX, AX
	JEQ	child
	XORQ	DI, DI
	TESTQ	AX, AX
	JGT	parent
	SUBQ	AX, DI			// the error number
parent:
	MOVQ	$231, AX		// exit_group
	SYSCALL
child:
	MOVQ	$112, AX		// setsid()
	SYSCALL
	MOVQ	$436, AX		// close_range(5, ~0, 0)
	MOVQ	$5, DI
	MOVL	$0xffffffff, SI
	XORQ	DX, DX
	SYSCALL
slack:
	MOVQ	$157, AX		// prctl(PR_SET_DUMPABLE, 0), for tlswrap worker
	MOVQ	$4, DI
	XORQ	SI, SI
	SYSCALL
	// Go's runtime has a thread that looks after the others every 20 µs while they are
	// at work, for which the processor of a virtual machine has to be stopped each time.
	// With a slack of 1 ms a new connection takes a tenth less of the worker's time.
	// Other threads have it from this one.
	MOVQ	$157, AX		// prctl(PR_SET_TIMERSLACK, 1e6 ns)
	MOVQ	$29, DI
	MOVQ	$1000000, SI
	SYSCALL
	JMP	start
