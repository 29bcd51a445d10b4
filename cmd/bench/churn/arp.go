package churn

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"godwit/dataplane/xdp/fwdlab"
)

// cable sends frames out of a device of the sink's namespace.
type cable struct{ fd int }

func openCable(l *fwdlab.Lab, dev string) (w cable, err error) {
	err = l.Do(fwdlab.Sink, func() error {
		nic, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Ifindex: nic.Index})
	})
	if err != nil {
		return w, fmt.Errorf("open %s: %w", dev, err)
	}
	return w, nil
}

func (w cable) send(frame []byte) error {
	_, err := unix.Write(w.fd, frame)
	if err == unix.ENOBUFS || err == unix.ENETDOWN {
		return nil // lost, like any frame
	}
	return err
}

func (w cable) close() { _ = unix.Close(w.fd) }

// arpRequest asks for an address, and so says who asks (RFC 826).
func arpRequest(mac net.HardwareAddr, from, to netip.Addr) []byte {
	b := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	b = append(b, mac...)
	b = binary.BigEndian.AppendUint16(b, unix.ETH_P_ARP)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, 1)
	b = append(append(b, mac...), from.AsSlice()...)
	b = append(append(b, 0, 0, 0, 0, 0, 0), to.AsSlice()...)
	return append(b, make([]byte, 60-len(b))...)
}
