#include "textflag.h"

// entry asks the kernel for the disposition of every signal. Of a worker it makes nobody's
// child: it forks, and what goes on, in a session of its own and without descriptors that are
// not for it, is the child. Then it goes on to Go's own entry point with the stack as it came.
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

	MOVQ	8(SP), AX		// argv[0], or NULL
	TESTQ	AX, AX
	JEQ	start
	MOVQ	$0x006c737365726f67, BX	// "goressl", with its NUL
	CMPQ	(AX), BX		// 8 zero bytes end the stack
	JNE	start
	MOVQ	$57, AX			// fork()
	SYSCALL
	TESTQ	AX, AX
	JEQ	worker
	SHRQ	$63, AX			// 1 if it failed
	MOVQ	AX, DI
	MOVQ	$231, AX		// exit_group(failed)
	SYSCALL
worker:
	MOVQ	$112, AX		// setsid()
	SYSCALL
	MOVQ	$436, AX		// close_range(5, ~0, 0)
	MOVQ	$5, DI
	MOVL	$0xffffffff, SI
	XORQ	DX, DX
	SYSCALL
start:
	JMP	_rt0_amd64_linux(SB)
