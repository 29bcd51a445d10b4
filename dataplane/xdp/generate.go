package xdp

// The objects are committed and regenerate to themselves with Debian's clang.
// The -idirafter folders hold asm/types.h on Debian.
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang -strip llvm-strip -go-package xdp -cflags "-O2 -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" -target bpfel,bpfeb capture bpf/capture.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang -strip llvm-strip -go-package xdp -no-global-types -cflags "-O2 -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" -target bpfel,bpfeb express bpf/express.c
