#include "textflag.h"

// entry calls atEntry with the address of the stack as it came, by Go's convention for registers, which wants room
// on the stack for what they have. Then it goes on to Go's own entry point with the stack that it returns.
TEXT entry(SB),NOSPLIT|NOFRAME,$0
	MOVQ	SP, AX
	SUBQ	$64, SP
	XORPS	X15, X15
	MOVQ	·atEntry(SB), DX
	MOVQ	(DX), CX
	CALL	CX
	MOVQ	AX, SP
	JMP	_rt0_amd64_linux(SB)
