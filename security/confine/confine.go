// Package confine lets a module give up what its role does not need: the user
// root, capabilities and the way back to them, files, core dumps, programs to
// execute, memory to make executable, namespaces, and system calls that only harm.
//
// Self must be called before the process reads anything from others. It counts
// for all threads, and for good.
//
// It needs a program that was built without cgo (Go's runtime knows all threads
// then).
package confine

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// denied are system calls that no module makes, unless its role allows them.
var denied = []uintptr{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KCMP, unix.SYS_PIDFD_GETFD,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE,
	unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX,
	unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_SYSLOG, unix.SYS_VHANGUP,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL, unix.SYS_USERFAULTFD, unix.SYS_PERF_EVENT_OPEN,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_PERSONALITY, unix.SYS_UNSHARE, unix.SYS_SETNS,
}

// noExec are system calls whose third argument may not have PROT_EXEC.
var noExec = []uintptr{unix.SYS_MMAP, unix.SYS_MPROTECT, unix.SYS_PKEY_MPROTECT}

// newNamespaces are the flags of clone(2) that make namespaces.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// Self confines the process. An error says what of it the kernel did not do, and
// then the process should end; a kernel without Landlock is none.
func Self(p Policy) error {
	r, ok := roles[p.Role]
	if !ok {
		return fmt.Errorf("confine: no role %q", p.Role)
	}
	parent := unix.Getppid()
	err := errors.Join(
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}), // memory holds passwords
		allThreads("no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0),
		dropBounding(uint64(p.Caps)),
		become(p.UID, p.GID),
		setCaps(uint64(p.Caps)),
	)
	if err != nil {
		return err
	}
	// A change of user forgets this one (prctl(2)).
	if err := allThreads("signal on the parent's death", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0); err != nil {
		return err
	}
	if unix.Getppid() != parent {
		return errors.New("confine: the supervisor has died")
	}
	return errors.Join(files(p), filter(r))
}

// become changes user and group; capabilities stay permitted.
func become(uid, gid int) error {
	if uid == 0 {
		return nil
	}
	if err := allThreads("capabilities to be kept", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0); err != nil {
		return err
	}
	if err := syscall.Setgroups([]int{}); err != nil {
		return fmt.Errorf("leave groups: %w", err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("become group %d: %w", gid, err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("become user %d: %w", uid, err)
	}
	return nil
}

func allThreads(what string, nr, a, b, c uintptr) error {
	if _, _, e := syscall.AllThreadsSyscall6(nr, a, b, c, 0, 0, 0); e != 0 {
		return fmt.Errorf("set %s: %w", what, e)
	}
	return nil
}

// maxCap bounds the capabilities that are dropped from the bounding set; the
// kernel refuses the first number that it does not know.
const maxCap = 64

func dropBounding(keep uint64) error {
	for n := range uintptr(maxCap) {
		if keep&(1<<n) != 0 {
			continue
		}
		if err := allThreads("bounding set", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n, 0); errors.Is(err, unix.EINVAL) {
			break
		} else if err != nil {
			return err
		}
	}
	return nil
}

func setCaps(keep uint64) error {
	var have [2]unix.CapUserData
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&hdr, &have[0]); err != nil {
		return fmt.Errorf("get capabilities: %w", err)
	}
	for i := range have {
		have[i].Permitted &= uint32(keep >> (32 * i))
		have[i].Effective, have[i].Inheritable = have[i].Permitted, 0 // a change of user cleared the effective ones
	}
	hdr.Pid = 0 // each thread its own
	err := allThreads("capabilities", unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&have[0])), 0)
	runtime.KeepAlive(&hdr)
	runtime.KeepAlive(&have)
	return err
}

// Offsets in struct seccomp_data, little endian.
const (
	offNumber = 0
	offArch   = 4
	offArg0   = 16
	offArg2   = 16 + 2*8
)

var arches = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}

// x32Bit marks the numbers of amd64's second set of system calls.
const x32Bit = 0x40000000

// program is the filter: EPERM for what is denied, the end for another
// architecture's system calls.
func program(arch uint32, r role) []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		above = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		mask  = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		end   = unix.BPF_RET | unix.BPF_K
	)
	refuse := unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)}
	p := []unix.SockFilter{
		{Code: load, K: offArch},
		{Code: equal, Jt: 1, K: arch},
		{Code: end, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: load, K: offNumber},
		{Code: above, Jf: 1, K: x32Bit},
		refuse,
	}
	for _, nr := range slices.Concat(denied, r.denied) {
		if slices.Contains(r.allowed, nr) {
			continue
		}
		p = append(p, unix.SockFilter{Code: equal, Jf: 1, K: uint32(nr)}, refuse)
	}
	for _, nr := range noExec {
		p = append(p,
			unix.SockFilter{Code: equal, Jf: 4, K: uint32(nr)},
			unix.SockFilter{Code: load, K: offArg2},
			unix.SockFilter{Code: mask, Jf: 1, K: unix.PROT_EXEC},
			refuse,
			unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ALLOW})
	}
	return append(p,
		// Whoever asks is told to use clone, whose flags can be read here.
		unix.SockFilter{Code: equal, Jf: 1, K: unix.SYS_CLONE3},
		unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		unix.SockFilter{Code: equal, Jf: 3, K: unix.SYS_CLONE},
		unix.SockFilter{Code: load, K: offArg0},
		unix.SockFilter{Code: mask, Jf: 1, K: newNamespaces},
		refuse,
		unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ALLOW})
}

func filter(r role) error {
	arch, ok := arches[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("filter system calls: not known for %s", runtime.GOARCH)
	}
	p := program(arch, r)
	fprog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(p)
	if e != 0 {
		return fmt.Errorf("filter system calls: %w", e)
	}
	return nil
}
