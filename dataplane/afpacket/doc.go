// Package afpacket gives a line card ports through packet sockets, for devices
// and kernels without XDP. It behaves like package xdp and costs a copy and a
// share of a system call for each frame in each direction.
//
// The kernel's stack sees a copy of what a packet socket receives. Open keeps
// it from acting on that with a program behind the packet sockets (TCX, Linux
// 6.6). Where that is refused, Muted tells, with the reason, and it is left to
// the settings of package netdev: a device without addresses and without IPv6
// answers nothing; the kernel may then still forward IPv4 that is sent to the
// device's MAC if net.ipv4.ip_forward is on, so Open switches forwarding off
// for the device.
//
// A Port belongs to the worker whose pool it uses; Counters, SetMTU and Fds may
// be called by anyone. Rx and Tx do not block and do not allocate.
package afpacket
