package lsm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"godwit/security/cgroup"
)

// ErrUnavailable says that this kernel does not enforce; the rest of the error
// says why.
var ErrUnavailable = errors.New("kernel does not enforce")

// ErrNotSealed says that a file may still change.
var ErrNotSealed = errors.New("not a memory file with all seals")

// PinRoot is the BPF file system.
const PinRoot = "/sys/fs/bpf"

// pinPrefix is known to the programs: inside the group nobody removes what lies
// in folders that begin like this.
const pinPrefix = "godwit-lsm-"

// newPrefix is for pins that are being made.
const newPrefix = "godwit-lsmnew-"

// Enforcer is a policy in force.
type Enforcer struct {
	group   *cgroup.Group
	pins    string // and those that replace them
	fresh   string
	objects *ebpf.Collection
	links   []link.Link
	digests bool // files may be allowed by digest
	reader  *reader

	mu     sync.Mutex
	closed bool
}

// pinsOf is where the links of an instance are pinned, and where those are that
// replace them. The file system takes no dots.
func pinsOf(instance string) (pins, fresh string) {
	instance = strings.ReplaceAll(instance, ".", "+")
	return filepath.Join(PinRoot, pinPrefix+instance), filepath.Join(PinRoot, newPrefix+instance)
}

// Start puts the policy in force for the processes of the group, instead of one
// that another process with this instance's name left. The error is
// ErrUnavailable if the kernel cannot.
func Start(group *cgroup.Group, instance string) (_ *Enforcer, err error) {
	e := &Enforcer{group: group}
	e.pins, e.fresh = pinsOf(instance)
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close(), os.RemoveAll(e.fresh))
		}
	}()
	if err := e.load(); err != nil {
		return nil, err
	}
	if err := e.attach(); err != nil {
		return nil, err
	}
	if err := e.refuses(); err != nil {
		return nil, err
	}
	// Both policies are in force until the old pins go.
	old := pinned(e.pins)
	if err := errors.Join(os.RemoveAll(e.pins), os.Rename(e.fresh, e.pins)); err != nil {
		return nil, fmt.Errorf("pin policy: %w", err)
	}
	if err := errors.Join(gone(old), e.permits()); err != nil {
		return nil, errors.Join(err, os.RemoveAll(e.pins))
	}
	e.reader, err = newReader(e.objects.Maps[enforceMapGwlsmDenials])
	return e, err
}

func (e *Enforcer) load() error {
	id, err := e.group.ID()
	if err != nil {
		return err
	}
	load := loadEnforce
	if e.digests = kernelHasDigests(); e.digests {
		load = loadDigests
	}
	spec, err := load()
	if err != nil {
		return fmt.Errorf("read programs: %w", err)
	}
	if err := errors.Join(spec.Variables[enforceVarScopeId].Set(id), spec.Variables[enforceVarScopeLevel].Set(int32(e.group.Depth))); err != nil {
		return fmt.Errorf("set scope of programs: %w", err)
	}
	if e.objects, err = ebpf.NewCollection(spec); err != nil {
		return fmt.Errorf("%w: load programs: %w", ErrUnavailable, err)
	}
	return nil
}

// attach links the programs to their hooks and pins the links.
func (e *Enforcer) attach() error {
	if err := errors.Join(os.RemoveAll(e.fresh), os.Mkdir(e.fresh, 0o700)); err != nil {
		return fmt.Errorf("%w: pin programs: %w", ErrUnavailable, err)
	}
	for name, prog := range e.objects.Programs {
		l, err := link.AttachLSM(link.LSMOptions{Program: prog})
		if err != nil {
			return fmt.Errorf("%w: attach %s: %w", ErrUnavailable, name, err)
		}
		e.links = append(e.links, l)
		if err := l.Pin(filepath.Join(e.fresh, name)); err != nil {
			return fmt.Errorf("%w: pin %s: %w", ErrUnavailable, name, err)
		}
	}
	return nil
}

// removeTime bounds the wait for the end of a probe's process.
const removeTime = 5 * time.Second

// probe executes a file inside the group that is no program, so that nothing
// runs if the kernel lets it pass, and returns how the kernel refused it.
func (e *Enforcer) probe(allow bool) (err error) {
	// A group with controllers for its children has no processes of its own.
	group, err := e.group.Child("probe", cgroup.Limits{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, group.Remove(removeTime)) }()
	dir, err := group.Open()
	if err != nil {
		return err
	}
	defer dir.Close()
	file, err := memory("godwit-probe", []byte("no program\n"))
	if err != nil {
		return err
	}
	defer file.Close()
	if allow {
		if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, seals); err != nil {
			return fmt.Errorf("seal memory file: %w", err)
		}
		if err := e.Allow(file); err != nil {
			return err
		}
	}
	cmd := exec.Command("/proc/self/fd/" + strconv.Itoa(int(file.Fd())))
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err = cmd.Start(); err == nil {
		_ = cmd.Wait()
	}
	return err
}

// refuses makes sure that the kernel runs the programs.
func (e *Enforcer) refuses() error {
	switch err := e.probe(false); {
	case errors.Is(err, unix.EPERM):
		return nil
	case errors.Is(err, unix.ENOEXEC):
		return fmt.Errorf("%w: the programs load but are not run; the kernel's command line needs bpf among lsm=", ErrUnavailable)
	case err == nil:
		return fmt.Errorf("%w: an unlisted file was executed", ErrUnavailable)
	default:
		return fmt.Errorf("%w: try policy: %w", ErrUnavailable, err)
	}
}

// Replaced programs stay for a moment after their last pin.
const (
	replaceTime = time.Minute
	replacePoll = 5 * time.Millisecond
)

// pinned are the programs behind the links that are pinned in a folder.
func pinned(dir string) (ids []ebpf.ProgramID) {
	pins, err := os.ReadDir(dir)
	if err != nil {
		return nil // there was no policy
	}
	for _, pin := range pins {
		l, err := link.LoadPinnedLink(filepath.Join(dir, pin.Name()), nil)
		if err != nil {
			continue // no link
		}
		if info, err := l.Info(); err == nil {
			ids = append(ids, info.Program)
		}
		_ = l.Close()
	}
	return ids
}

// gone waits until the kernel has let go of all the programs: one that refuses
// mappings must not outlive the one that refuses to execute.
func gone(ids []ebpf.ProgramID) error {
	end := time.Now().Add(replaceTime)
	for _, id := range ids {
		for ; ; time.Sleep(replacePoll) {
			p, err := ebpf.NewProgramFromID(id)
			if errors.Is(err, os.ErrNotExist) {
				break
			}
			if err != nil {
				return fmt.Errorf("ask for program %d: %w", id, err)
			}
			_ = p.Close()
			if time.Now().After(end) {
				return fmt.Errorf("replaced program %d stays in force", id)
			}
		}
	}
	return nil
}

// permits waits until allowed files are executed: until a policy that was there
// before is gone.
func (e *Enforcer) permits() error {
	for end := time.Now().Add(replaceTime); ; time.Sleep(replacePoll) {
		err := e.probe(true)
		if errors.Is(err, unix.ENOEXEC) {
			return nil
		}
		if !errors.Is(err, unix.EPERM) || time.Now().After(end) {
			return fmt.Errorf("%w: an allowed file was refused: %w", ErrUnavailable, err)
		}
	}
}

func memory(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("create memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(content); err != nil {
		return nil, errors.Join(fmt.Errorf("write memory file: %w", err), f.Close())
	}
	return f, nil
}

const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// Allow lets processes of the group execute the memory file, which the caller
// has verified; it must have all seals. The permission ends with the file: when
// nobody has it open and no process runs it.
func (e *Enforcer) Allow(f *os.File) error {
	got, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || got&seals != seals {
		return fmt.Errorf("allow %s: %w", f.Name(), ErrNotSealed)
	}
	if err := e.objects.Maps[enforceMapGwlsmVerified].Put(uint32(f.Fd()), uint32(1)); err != nil {
		return fmt.Errorf("allow %s: %w", f.Name(), err)
	}
	return nil
}

// Group is the control group in which the policy is in force.
func (e *Enforcer) Group() *cgroup.Group { return e.group }

// Close lets go of the policy. It stays in force.
func (e *Enforcer) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	var errs []error
	if e.reader != nil {
		errs = append(errs, e.reader.close())
	}
	for _, l := range e.links {
		errs = append(errs, l.Close())
	}
	if e.objects != nil {
		e.objects.Close()
	}
	return errors.Join(errs...)
}

// Lift ends the policy of an instance, whoever put it in force, within a moment.
func Lift(instance string) error {
	pins, fresh := pinsOf(instance)
	if err := errors.Join(os.RemoveAll(pins), os.RemoveAll(fresh)); err != nil {
		return fmt.Errorf("lift policy: %w", err)
	}
	return nil
}
