#include "textflag.h"

// entry asks the kernel for the disposition of every signal, and goes on to Go's own
// entry point with the stack as it came.
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
	JMP	_rt0_amd64_linux(SB)
