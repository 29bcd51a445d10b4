#include "textflag.h"

// Constants of space.go.
#define CHILD     0x80000000
#define FIRSTNODE 0x90000000
#define REFMASK   0x0fffffff
#define GROUPMASK 0x000fffff

#define BROADCASTD(v, z) MOVL $v, AX; VPBROADCASTD AX, z
#define BROADCASTQ(v, z) MOVL $v, AX; VPBROADCASTQ AX, z

// func gather4(base unsafe.Pointer, root, def uint32, addrs, groups *uint32, n int) (odd uint64)
//
// Z0 address, Z2 entry, K1 lanes in use; see batch.go.
TEXT ·gather4(SB), NOSPLIT, $0-48
	MOVQ base+0(FP), SI
	MOVL root+8(FP), AX
	VPBROADCASTD AX, Z16
	MOVL def+12(FP), AX
	VPBROADCASTD AX, Z17
	MOVQ addrs+16(FP), DI
	MOVQ groups+24(FP), DX
	MOVQ n+32(FP), R9
	BROADCASTD(REFMASK, Z18)
	BROADCASTD(0x1c, Z19)
	BROADCASTD(32, Z20)
	BROADCASTD(FIRSTNODE, Z21)
	BROADCASTD(CHILD, Z22)
	BROADCASTD(GROUPMASK, Z23)
	XORQ R10, R10 // odd
	XORQ CX, CX   // lane

loop4:
	MOVL $0xffff, R8
	MOVQ R9, R11
	SUBQ CX, R11
	CMPQ R11, $16
	JGE  full4
	MOVQ CX, R12
	MOVQ R11, CX
	MOVL $1, R8
	SHLL CX, R8
	DECL R8
	MOVQ R12, CX

full4:
	KMOVW R8, K1
	VMOVDQU32.Z (DI)(CX*4), K1, Z0

	// The root: 16 bits.
	VPSRLD $16, Z0, Z1
	VPADDD Z16, Z1, Z1
	KMOVW K1, K2
	VPXORD Z2, Z2, Z2
	VPGATHERDD (SI)(Z1*4), K2, Z2

	// Lanes at a node: its next stride bits.
	VPCMPUD $5, Z21, Z2, K1, K2
	VPSRLD $26, Z2, Z3
	VPANDD Z19, Z3, Z3
	VPSLLD $16, Z0, Z4
	VPSUBD Z3, Z20, Z5
	VPSRLVD Z5, Z4, Z6
	VPANDD Z18, Z2, Z7
	VPADDD Z7, Z6, Z6
	VPGATHERDD (SI)(Z6*4), K2, Z2

	// Leaves: the group, or the default one. What is none is odd.
	VPCMPUD $5, Z22, Z2, K1, K3
	VPANDD Z23, Z2, Z8
	VPTESTNMD Z8, Z8, K1, K4
	VMOVDQA32 Z17, K4, Z8
	VMOVDQU32 Z8, K1, (DX)(CX*4)
	KMOVW K3, R8
	SHLQ CX, R8
	ORQ  R8, R10
	ADDQ $16, CX
	CMPQ CX, R9
	JLT  loop4

	MOVQ R10, odd+40(FP)
	VZEROUPPER
	RET

// A round of 8 lanes: X what is left of the upper half of the address, H all
// of it, E entry, P bits done.
//
// K4 the lanes at a node that ends within the upper half, K5 those at a skip
// that does.
#define ROUND(H, X, E, P, SKIPPED) \
	VPSRLQ $26, E, Z24; \
	VPANDQ Z19, Z24, Z24; \
	VPADDQ P, Z24, Z25; \
	VPCMPUQ $5, Z21, E, K4; \
	VPCMPUQ $2, Z20, Z25, K4, K4; \
	VPCMPUQ $5, Z22, E, K5; \
	VPCMPUQ $1, Z21, E, K5, K5; \
	VPSUBQ Z24, Z20, Z26; \
	VPSRLVQ Z26, X, Z26; \
	VPANDQ Z18, E, Z27; \
	VPADDQ Z27, Z26, Z26; \
	VPSLLVQ Z24, X, K4, X; \
	VMOVDQA64 Z25, K4, P; \
	KORW K4, K7, K7; \
	KMOVW K4, K6; \
	VPGATHERQD (SI)(Z26*4), K6, Y28; \
	KORTESTW K5, K5; \
	VPMOVZXDQ Y28, K4, E; \
	JEQ SKIPPED; \
	KMOVW K5, K6; \
	VPGATHERQQ 16(SI)(Z27*4), K6, Z28; \ // length, hit
	VPSLLQ $32, Z28, Z24; \
	VPSRLQ $32, Z24, Z24; \
	VPCMPUQ $2, Z20, Z24, K5, K5; \
	KORW K5, K7, K7; \
	KMOVW K5, K6; \
	VPGATHERQQ (SI)(Z27*4), K6, Z25; \ // key
	KMOVW K5, K6; \
	VPGATHERQQ 24(SI)(Z27*4), K6, Z26; \ // miss
	VPRORQ $32, Z25, Z25; \
	VPXORQ H, Z25, Z25; \
	VPSUBQ Z24, Z20, Z27; \
	VPSRLVQ Z27, Z25, Z25; \
	VPTESTNMQ Z25, Z25, K5, K6; \
	VPSLLQ $32, Z26, Z26; \
	VPSRLQ $32, Z26, K5, E; \
	VPSRLQ $32, Z28, K6, E; \
	VPSLLVQ Z24, H, K6, X; \
	VMOVDQA64 Z24, K6, P

#define START(off, H, X, E, P) \
	VMOVDQU64 (off)(DI), H; \
	VMOVDQU64 (off+64)(DI), Z24; \
	VPERMT2Q Z24, Z23, H; \
	VPSRLQ $48, H, Z25; \
	VPADDQ Z16, Z25, Z25; \
	VPSLLQ $16, H, X; \
	VMOVDQA64 Z29, P; \
	KXNORW K6, K6, K6; \
	VPGATHERQD (SI)(Z25*4), K6, Y28; \
	VPMOVZXDQ Y28, E

#define FINISH(off, E, SHIFT) \
	VPCMPUQ $5, Z22, E, K4; \
	VPANDQ Z30, E, E; \
	VPTESTNMQ E, E, K5; \
	VMOVDQA64 Z17, K5, E; \
	VPMOVQD E, Y28; \
	VMOVDQU32 Y28, (off)(DX); \
	KMOVW K4, R8; \
	SHLQ $SHIFT, R8; \
	ORQ R8, R10

DATA evens<>+0(SB)/8, $0
DATA evens<>+8(SB)/8, $2
DATA evens<>+16(SB)/8, $4
DATA evens<>+24(SB)/8, $6
DATA evens<>+32(SB)/8, $8
DATA evens<>+40(SB)/8, $10
DATA evens<>+48(SB)/8, $12
DATA evens<>+56(SB)/8, $14
GLOBL evens<>(SB), RODATA|NOPTR, $64

// func gather6(base unsafe.Pointer, root, def uint32, addrs *[32][2]uint64, groups *[32]uint32) (odd uint64)
TEXT ·gather6(SB), NOSPLIT, $0-40
	MOVQ base+0(FP), SI
	MOVL root+8(FP), AX
	VPBROADCASTQ AX, Z16
	MOVL def+12(FP), AX
	VPBROADCASTQ AX, Z17
	MOVQ addrs+16(FP), DI
	MOVQ groups+24(FP), DX
	BROADCASTQ(REFMASK, Z18)
	BROADCASTQ(0x1c, Z19)
	BROADCASTQ(64, Z20)
	BROADCASTQ(FIRSTNODE, Z21)
	BROADCASTQ(CHILD, Z22)
	VMOVDQU64 evens<>(SB), Z23
	BROADCASTQ(16, Z29)
	BROADCASTQ(GROUPMASK, Z30)
	START(0, Z0, Z4, Z8, Z12)
	START(128, Z1, Z5, Z9, Z13)
	START(256, Z2, Z6, Z10, Z14)
	START(384, Z3, Z7, Z11, Z15)

loop6:
	KXORW K7, K7, K7
	ROUND(Z0, Z4, Z8, Z12, second)
second:
	ROUND(Z1, Z5, Z9, Z13, third)
third:
	ROUND(Z2, Z6, Z10, Z14, fourth)
fourth:
	ROUND(Z3, Z7, Z11, Z15, next)
next:
	KORTESTW K7, K7
	JNE loop6

	XORQ R10, R10
	FINISH(0, Z8, 0)
	FINISH(32, Z9, 8)
	FINISH(64, Z10, 16)
	FINISH(96, Z11, 24)
	MOVQ R10, odd+32(FP)
	VZEROUPPER
	RET
