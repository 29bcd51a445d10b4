package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"godwit/cluster/bus"
)

// sendBuffer is the send buffer of every socket in bytes: some 16 of the
// longest messages or 1,300 short ones wait in the kernel before Send does.
const sendBuffer = 1 << 20

// pathMax is the longest path of a unix socket address, without its zero.
const pathMax = 107

// reach calls f with a path for the file that fits a socket address: a long
// one goes by way of an open directory.
func reach(path string, f func(string) error) error {
	if len(path) <= pathMax {
		return f(path)
	}
	dir, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	return f(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
}

// listen makes a listening socket at path, which must not exist. The path
// appears only when the socket listens: who finds it refusing connections may
// know that its process is dead.
func listen(network, path string) (*net.UnixListener, error) {
	tmp := fmt.Sprintf("%s/.%s.%d", filepath.Dir(path), filepath.Base(path), os.Getpid())
	var l *net.UnixListener
	err := reach(tmp, func(p string) (err error) {
		l, err = net.ListenUnix(network, &net.UnixAddr{Name: p, Net: network})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	mode := os.FileMode(0o600)
	if _, shared := groupOf(path); shared {
		mode = 0o660
	}
	err = errors.Join(os.Chmod(tmp, mode), os.Link(tmp, path))
	if err = errors.Join(err, os.Remove(tmp)); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

// dial connects to the socket at path and checks who is there.
func dial(ctx context.Context, network, path string) (*net.UnixConn, error) {
	var c net.Conn
	err := reach(path, func(p string) (err error) {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, p)
		return err
	})
	if err != nil {
		return nil, err
	}
	uc := c.(*net.UnixConn)
	if _, err := admit(uc, path); err != nil {
		uc.Close()
		return nil, err
	}
	return uc, nil
}

// Types of sockets: the name service keeps message borders, members bundle.
const (
	nameService = "unixpacket"
	members     = "unix"
)

// listenerOf tells which process listens on the socket.
func listenerOf(path string) (pid int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), replyTime)
	defer cancel()
	var d net.Dialer
	err = reach(path, func(p string) error {
		c, err := d.DialContext(ctx, members, p)
		if err != nil {
			return err
		}
		defer c.Close()
		pid, err = admit(c.(*net.UnixConn), path)
		return err
	})
	return pid, err
}

// errForeign is the refusal of a process of another user.
var errForeign = errors.New("process of another user")

// Share lets the processes of a group join the bus in dir, besides those of root
// and of the server's user: modules have users of their own. The server must run.
func Share(dir string, gid int) error {
	const mode = os.ModeSetgid | os.ModeSticky | 0o770 // sockets get the group; others' are not removed
	members, server := memberDir(dir), serverPath(dir)
	err := errors.Join(os.Chown(members, -1, gid), os.Chmod(members, mode), os.Chown(server, -1, gid), os.Chmod(server, 0o660), os.Chown(versionPath(dir), -1, gid))
	if err != nil {
		return fmt.Errorf("share bus: %w", err)
	}
	return nil
}

// groupOf tells the group that may join the bus that a socket belongs to: that
// of the members' folder, if its setgid bit says so.
func groupOf(path string) (gid uint32, shared bool) {
	dir := filepath.Dir(path)
	if path == serverPath(dir) {
		dir = memberDir(dir)
	}
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil || st.Mode&unix.S_ISGID == 0 {
		return 0, false
	}
	return st.Gid, true
}

// admit prepares a new socket of those at path, and tells the process at its
// other end, which must belong to root, to our own user, or to the bus's group.
func admit(c *net.UnixConn, path string) (pid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("admit peer: %w", err)
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); inner != nil {
			return
		}
		pid = int(cred.Pid)
		group, shared := groupOf(path)
		if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() && !(shared && cred.Gid == group) {
			inner = fmt.Errorf("uid %d, pid %d: %w", cred.Uid, cred.Pid, errForeign)
			return
		}
		inner = growSendBuffer(int(fd))
	})
	if err = errors.Join(err, inner); err != nil {
		return 0, fmt.Errorf("admit peer: %w", err)
	}
	return pid, nil
}

// growSendBuffer makes room for the longest message: as root beyond the limit
// net.core.wmem_max.
func growSendBuffer(fd int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer); err != nil {
			return fmt.Errorf("set send buffer: %w", err)
		}
	}
	got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil {
		return fmt.Errorf("read send buffer: %w", err)
	}
	if need := bus.MaxMessage + datagramHeader + 1024; got < need {
		return fmt.Errorf("send buffer of %d bytes is below %d: raise net.core.wmem_max", got, need)
	}
	return nil
}

// read reads one message into b, which is longer than any valid one. A peer
// that closed with data of ours unread shows as a reset first, which hides
// what it sent before: read on.
func read(c *net.UnixConn, b []byte) (int, error) {
	for {
		n, err := c.Read(b)
		if err == nil || !errors.Is(err, syscall.ECONNRESET) {
			return n, err
		}
	}
}

// lost maps the errors of a broken connection to those of the bus.
func lost(err error) error {
	switch {
	case errors.Is(err, net.ErrClosed):
		return bus.ErrClosed
	case errors.Is(err, io.EOF), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.ENOTCONN):
		return bus.ErrPeerGone
	}
	return err
}

// absent tells that no process listens at a path any more.
func absent(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
}

// sweepStale removes the socket if its process is dead; true if there is no
// socket any more.
func sweepStale(path string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), replyTime)
	defer cancel()
	c, err := dial(ctx, nameService, path)
	if err == nil {
		c.Close()
		return false
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		_ = os.Remove(path) // another process may have been faster
	}
	return absent(err)
}
