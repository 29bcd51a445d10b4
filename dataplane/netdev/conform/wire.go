package conform

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"godwit/dataplane/netdev/netlab"
)

// Wire is a packet socket on a host's end of a link: it sends and sees what is on the wire.
type Wire struct{ fd int }

// NewWire opens the device in the namespace.
func NewWire(t *testing.T, l *netlab.Lab, ns, dev string) *Wire {
	t.Helper()
	w := &Wire{}
	must(t, l.Do(ns, func() (err error) {
		nic, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		const all = unix.ETH_P_ALL << 8 // in network order
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: nic.Index})
	}))
	t.Cleanup(func() { unix.Close(w.fd) })
	unix.SetsockoptInt(w.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	return w
}

// Send puts a frame on the wire.
func (w *Wire) Send(t *testing.T, frame []byte) {
	t.Helper()
	if _, err := unix.Write(w.fd, frame); err != nil {
		t.Fatalf("send on wire: %v", err)
	}
}

// Receive takes the next frame; nil if none comes in time.
func (w *Wire) Receive(t *testing.T, wait time.Duration) []byte {
	t.Helper()
	buf := make([]byte, 1<<14)
	for end := time.Now().Add(wait); ; {
		left := time.Until(end)
		if left <= 0 {
			return nil
		}
		unix.Poll([]unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if n, _, err := unix.Recvfrom(w.fd, buf, unix.MSG_DONTWAIT); err == nil {
			return buf[:n]
		}
	}
}

// Frame makes an Ethernet frame of n bytes with a pattern in it.
func Frame(n int, id byte) []byte {
	f := make([]byte, n)
	copy(f, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5})
	for i := 14; i < n; i++ {
		f[i] = id + byte(i)
	}
	return f
}
