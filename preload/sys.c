/*
 * The system call of i386. Six arguments need ebp, and ebx, which position-independent code has a
 * use for: so it is a function, whose frame an unwinder understands (a thread may be cancelled in it).
 */
#include "sys.h"

#if defined(__i386__)
__asm__(".text\n"
        ".globl sys_i386\n"
        ".hidden sys_i386\n"
        ".type sys_i386, @function\n"
        ".macro saved register\n"
        "	push \\register\n"
        "	.cfi_adjust_cfa_offset 4\n"
        "	.cfi_rel_offset \\register, 0\n"
        ".endm\n"
        ".macro restored register\n"
        "	pop \\register\n"
        "	.cfi_adjust_cfa_offset -4\n"
        "	.cfi_restore \\register\n"
        ".endm\n"
        "sys_i386:\n"
        "	.cfi_startproc\n"
        "	saved %ebp\n"
        "	saved %ebx\n"
        "	saved %esi\n"
        "	saved %edi\n"
        "	mov 20(%esp), %eax\n"
        "	mov 4(%eax), %ebx\n"
        "	mov 8(%eax), %ecx\n"
        "	mov 12(%eax), %edx\n"
        "	mov 16(%eax), %esi\n"
        "	mov 20(%eax), %edi\n"
        "	mov 24(%eax), %ebp\n"
        "	mov (%eax), %eax\n"
        "	int $0x80\n"
        "	restored %edi\n"
        "	restored %esi\n"
        "	restored %ebx\n"
        "	restored %ebp\n"
        "	ret\n"
        "	.cfi_endproc\n"
        "	.size sys_i386, . - sys_i386\n");
#endif
