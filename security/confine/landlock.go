package confine

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rights of Landlock's first version (Linux 5.13), and of the third (6.2).
const (
	readRights  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	writeRights = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	fileRights  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	truncateABI = 3
)

// files lets the process use only those files of the policy that are there, and
// execute none. A kernel without Landlock leaves it at the permissions.
func files(p Policy) error {
	if len(p.Read)+len(p.Write) == 0 {
		return nil
	}
	abi, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if e == unix.ENOSYS || e == unix.EOPNOTSUPP {
		return nil
	}
	if e != 0 {
		return fmt.Errorf("ask for Landlock: %w", e)
	}
	write := uint64(writeRights)
	if abi >= truncateABI {
		write |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	// The first field alone is what the first version takes.
	handled := readRights | write | unix.LANDLOCK_ACCESS_FS_EXECUTE
	fd, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&handled)), unsafe.Sizeof(handled), 0)
	runtime.KeepAlive(&handled)
	if e != 0 {
		return fmt.Errorf("make Landlock rules: %w", e)
	}
	defer unix.Close(int(fd))
	for _, list := range []struct {
		paths  []string
		rights uint64
	}{{p.Read, readRights}, {p.Write, readRights | write}} {
		for _, path := range list.paths {
			if err := allow(int(fd), path, list.rights); err != nil {
				return fmt.Errorf("allow %s: %w", path, err)
			}
		}
	}
	return allThreads("Landlock rules", unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0)
}

// allow adds what is at a path to the rules; one that is not there is left out.
func allow(rules int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= fileRights
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, e := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	runtime.KeepAlive(&rule)
	if e != 0 {
		return e
	}
	return nil
}
