// Package secure tests the kernel's enforcement of signatures, in guests: this
// machine's kernel may refuse BPF LSM programs. It boots Debian's kernels in QEMU
// and reads the results off the console.
package secure
