// Package vm tests what this machine's kernel may not have, in guests: it boots
// Debian's kernel in QEMU with a test binary and reads the results off the
// console.
package vm
