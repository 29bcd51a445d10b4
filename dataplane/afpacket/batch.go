package afpacket

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"

	"godwit/dataplane/graph"
)

// mmsghdr is struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// auxdata is struct tpacket_auxdata behind its control header.
type auxdata struct {
	hdr                      unix.Cmsghdr
	status, length, snap     uint32
	mac, network, tci, etype uint16
	_                        [24]byte // room for a control message we did not ask for
}

// Bits of tpacket_auxdata's status.
const (
	vlanValid  = 1 << 4
	etypeValid = 1 << 6
)

// batch is the arguments of recvmmsg and sendmmsg, made once.
type batch struct {
	msgs []mmsghdr
	iovs []unix.Iovec
	aux  []auxdata
}

func (b *batch) init(aux bool) {
	b.msgs = make([]mmsghdr, graph.VectorSize)
	b.iovs = make([]unix.Iovec, graph.VectorSize)
	if aux {
		b.aux = make([]auxdata, graph.VectorSize)
	}
	for i := range b.msgs {
		b.msgs[i].hdr.Iov = &b.iovs[i]
		b.msgs[i].hdr.Iovlen = 1
	}
}

// point makes message i use the buffer, which is not empty.
func (b *batch) point(i int, buf []byte) {
	b.iovs[i].Base = &buf[0]
	b.iovs[i].SetLen(len(buf))
}

// call does recvmmsg or sendmmsg on messages from first. It does not block.
func (b *batch) call(nr uintptr, fd, first, n int) (int, unix.Errno) {
	for i := range b.aux {
		m := &b.msgs[i].hdr
		m.Control = (*byte)(unsafe.Pointer(&b.aux[i]))
		m.SetControllen(int(unsafe.Sizeof(auxdata{})))
		m.Flags = 0
	}
	done, _, e := unix.Syscall6(nr, uintptr(fd), uintptr(unsafe.Pointer(&b.msgs[first])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(done), 0
}

// length is the length of received message i, and whether it lost its end.
func (b *batch) length(i int) (n int, truncated bool) {
	return int(b.msgs[i].len), b.msgs[i].hdr.Flags&unix.MSG_TRUNC != 0
}

// size is the length of message i as it was pointed to.
func (b *batch) size(i int) uint64 { return uint64(b.iovs[i].Len) }

// tag is the VLAN tag that the kernel took out of received message i.
func (b *batch) tag(i int) (tag [4]byte, ok bool) {
	a := &b.aux[i]
	if b.msgs[i].hdr.Controllen < uint64(unix.CmsgLen(20)) || a.hdr.Level != unix.SOL_PACKET || a.hdr.Type != unix.PACKET_AUXDATA {
		return tag, false
	}
	if a.status&vlanValid == 0 {
		return tag, false
	}
	etype := uint16(unix.ETH_P_8021Q)
	if a.status&etypeValid != 0 {
		etype = a.etype
	}
	binary.BigEndian.PutUint16(tag[:], etype)
	binary.BigEndian.PutUint16(tag[2:], a.tci)
	return tag, true
}

// boundTo reads the device of a packet socket; false if it has none any more.
func boundTo(fd int, sa *unix.RawSockaddrLinklayer) bool {
	n := uint32(unsafe.Sizeof(*sa))
	_, _, e := unix.Syscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(sa)), uintptr(unsafe.Pointer(&n)))
	return e == 0 && sa.Ifindex > 0
}
