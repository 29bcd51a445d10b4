package lsm

// The objects are committed and regenerate to themselves with Debian's clang.
// The -idirafter folders hold asm/types.h on Debian. The second asks for what
// Linux has since 6.8.
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang -strip llvm-strip -go-package lsm -cflags "-O2 -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" -type denial -type digest -target bpfel,bpfeb enforce bpf/enforce.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang -strip llvm-strip -go-package lsm -cflags "-O2 -Wall -Werror -DWITH_DIGESTS -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" -target bpfel,bpfeb digests bpf/enforce.c
