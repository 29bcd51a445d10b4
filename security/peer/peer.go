// Package peer tells who is at the other end of a unix socket, as the kernel
// noted it when the other end connected or began to listen.
package peer

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Peer is a process.
type Peer struct {
	UID, PID int
	Groups   []uint32 // its group and the supplementary ones
}

// In tells whether the process is in one of the groups.
func (p Peer) In(groups []uint32) bool {
	return slices.ContainsFunc(groups, func(g uint32) bool { return slices.Contains(p.Groups, g) })
}

// maxGroups is the kernel's bound (NGROUPS_MAX).
const maxGroups = 65536

// Of asks the kernel (SO_PEERCRED, SO_PEERGROUPS; unix(7)).
func Of(c *net.UnixConn) (Peer, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("ask who is at the other end: %w", err)
	}
	var p Peer
	var inner error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); inner != nil {
			return
		}
		p = Peer{UID: int(cred.Uid), PID: int(cred.Pid)}
		p.Groups, inner = groups(fd)
		p.Groups = append(p.Groups, cred.Gid)
	})
	if err = errors.Join(err, inner); err != nil {
		return Peer{}, fmt.Errorf("ask who is at the other end: %w", err)
	}
	return p, nil
}

// groups are the supplementary groups. The kernel says how many there are if
// the room is too small.
func groups(fd uintptr) ([]uint32, error) {
	for room := uint32(32); room <= maxGroups; {
		list, size := make([]uint32, room), 4*room
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS, uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&size)), 0)
		runtime.KeepAlive(list)
		switch {
		case e == 0:
			return list[:size/4], nil
		case e != unix.ERANGE || size/4 <= room:
			return nil, e
		}
		room = size / 4
	}
	return nil, unix.ERANGE
}
