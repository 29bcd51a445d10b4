// Package guest tests the quick image: it boots in QEMU with two virtio ports,
// peers with a real BGP daemon and forwards between them.
package guest
