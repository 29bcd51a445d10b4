package module

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"godwit/security/audit"
	"godwit/security/elfsig"
	"godwit/security/trust"
)

// ErrRefused is the root of every error that says a file must not run: waiting
// does not help, another file or another trust store does.
var ErrRefused = errors.New("module refused")

// Why a signed module is refused; see also packages elfsig and trust.
var (
	ErrRole    = errors.New("signed for another role")
	ErrDynamic = errors.New("not a static executable: it asks for an interpreter")
)

// storeFloor is the name under which the floors keep the trust store's version.
const storeFloor = "trust"

// Image is a verified executable: a sealed memory file. Close it after use.
type Image struct {
	Path   string // where it came from
	Signed elfsig.Signed
	Key    trust.Key
	// Unverified is why the file would be refused, were the loader not
	// permissive; Signed and Key say nothing then. Nil: it is verified.
	Unverified error

	mem *memory
}

// memory is a sealed memory file, shared by the cache and by images.
type memory struct {
	file   *os.File
	signed *elfsig.Signed
	key    trust.Key // the digest was verified with this key
	refs   atomic.Int32

	unsigned error // why there is no signature
}

func (m *memory) release() error {
	if m.refs.Add(-1) > 0 {
		return nil
	}
	return m.file.Close()
}

// Close releases the image; processes started from it go on.
func (i *Image) Close() error {
	if i.mem == nil {
		return nil
	}
	m := i.mem
	i.mem = nil
	return m.release()
}

// stamp tells whether a file may have changed.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

// Config of a Loader.
type Config struct {
	Trust      string               // directory of the trust store, read at every Verify: a revocation counts at once
	Root       ed25519.PublicKey    // the store must be signed by it; nil: it need not be signed
	Floors     *trust.Floors        // minimum versions; nil: none are kept
	Permissive bool                 // run what would be refused, and say so
	Now        func() time.Time     // clock for the validity of signatures
	Audit      func(audit.Event)    // takes every verdict, on the goroutine of Verify; may be nil
	Store      func(*trust.Store)   // takes the trust store each time it was read; may be nil
	Admit      func(*os.File) error // lets the kernel run a sealed image, before each Start; may be nil
}

// Loader verifies files against a trust store and starts them.
type Loader struct {
	cfg   Config
	spawn *spawner

	mu     sync.Mutex
	held   map[string]*slot // by path
	hashed atomic.Int64     // how many digests were computed
}

// slot holds the verified copy of one file. Whoever verifies the file has it
// locked: a hundred starts at once make one copy, not a hundred.
type slot struct {
	mu    sync.Mutex
	stamp stamp
	mem   *memory // nil: none yet
}

// NewLoader returns a loader that only has a trust store, which need not be
// signed; Close it.
func NewLoader(trustDir string, now func() time.Time) *Loader {
	return New(Config{Trust: trustDir, Now: now})
}

// New returns a loader; Close it.
func New(cfg Config) *Loader {
	return &Loader{cfg: cfg, spawn: newSpawner(), held: map[string]*slot{}}
}

// Close drops the held images. Processes that Start started are killed by the
// kernel if they still run: the thread that started them ends.
func (l *Loader) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for path, h := range l.held {
		h.mu.Lock()
		if h.mem != nil {
			errs = append(errs, h.mem.release())
		}
		h.mem = nil
		h.mu.Unlock()
		delete(l.held, path)
	}
	l.spawn.stop()
	return errors.Join(errs...)
}

// Digests returns how many times a file was hashed so far.
func (l *Loader) Digests() int64 { return l.hashed.Load() }

// Verify returns the file as an image that may be started as the role. The
// error names the file and the reason; it is ErrRefused unless the file could
// not be read. A permissive loader returns an image of whatever it could copy.
func (l *Loader) Verify(path, role string) (*Image, error) {
	e := audit.Event{Time: l.cfg.Now(), Verdict: audit.Allowed, File: path, Role: role}
	img, err := l.verify(path, role, &e)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
		e.Verdict, e.Reason, e.Detail = audit.Denied, Reason(err), err.Error()
	} else if img.Unverified != nil {
		e.Verdict, e.Reason, e.Detail = audit.Permitted, Reason(img.Unverified), img.Unverified.Error()
	}
	if l.cfg.Audit != nil {
		l.cfg.Audit(e)
	}
	return img, err
}

func (l *Loader) verify(path, role string, e *audit.Event) (*Image, error) {
	store, storeErr := l.store()
	if storeErr != nil && !l.cfg.Permissive {
		return nil, storeErr
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open module: %w", pathless(err))
	}
	defer f.Close()
	st, err := stampOf(f)
	if err != nil {
		return nil, err
	}
	h := l.slot(path)
	h.mu.Lock()
	defer h.mu.Unlock()
	mem, fresh, err := h.memory(f, st)
	if err != nil {
		return nil, err
	}
	img := &Image{Path: path, mem: mem}
	err = storeErr
	if err == nil {
		img.Key, err = l.permit(mem, role, store, fresh)
	}
	describe(e, mem, img.Key, fresh)
	switch {
	case err == nil:
		img.Signed = *mem.signed
		if fresh {
			h.hold(st, mem)
		}
		return img, nil
	case l.cfg.Permissive && errors.Is(err, ErrRefused):
		img.Unverified = err
		return img, nil
	}
	return nil, errors.Join(err, mem.release())
}

// describe puts into an event what the file says of itself.
func describe(e *audit.Event, m *memory, key trust.Key, fresh bool) {
	e.Key, e.Cached = key.Label, !fresh
	if s := m.signed; s != nil {
		e.Signed, e.Name, e.Version, e.BuildID, e.KeyID = s.Role, s.Name, s.Version, s.BuildID, s.KeyID.String()
	}
}

// store reads the trust store; a signed one may not be older than it has been.
func (l *Loader) store() (*trust.Store, error) {
	store, err := trust.Load(l.cfg.Trust, l.cfg.Root)
	if err == nil && l.cfg.Floors != nil && store.Version() != "" {
		err = l.cfg.Floors.Check(storeFloor, storeFloor, store.Version())
		if err == nil {
			err = l.cfg.Floors.Raise(storeFloor, storeFloor, store.Version())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if l.cfg.Store != nil {
		l.cfg.Store(store)
	}
	return store, nil
}

// Status reads the trust store and the floors, as Verify would.
func (l *Loader) Status() (*trust.Store, []trust.Floor, error) {
	store, err := l.store()
	floors := []trust.Floor{}
	if l.cfg.Floors != nil {
		var ferr error
		floors, ferr = l.cfg.Floors.List()
		err = errors.Join(err, ferr)
	}
	return store, floors, err
}

func (l *Loader) slot(path string) *slot {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.held[path]
	if h == nil {
		h = &slot{}
		l.held[path] = h
	}
	return h
}

// memory returns the sealed copy of the file with one reference for the
// caller: the held one if the file is unchanged, else a fresh one.
func (h *slot) memory(f *os.File, st stamp) (m *memory, fresh bool, err error) {
	if h.mem != nil && h.stamp == st {
		h.mem.refs.Add(1)
		return h.mem, false, nil
	}
	file, err := sealedCopy(f, st.size)
	if err != nil {
		return nil, false, err
	}
	m = &memory{file: file}
	m.refs.Store(1)
	m.signed, m.unsigned = elfsig.Parse(file, st.size)
	return m, true, nil
}

// permit checks all that speaks against running the sealed bytes as the role.
// The digest comes last: it costs the most.
func (l *Loader) permit(m *memory, role string, store *trust.Store, fresh bool) (trust.Key, error) {
	refuse := func(err error) (trust.Key, error) {
		return trust.Key{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	s := m.signed
	if m.unsigned != nil {
		return refuse(m.unsigned)
	}
	key, err := store.Check(s)
	if err != nil {
		return refuse(err)
	}
	if s.Role != role {
		return refuse(fmt.Errorf("%w: signed as %q, wanted as %q", ErrRole, s.Role, role))
	}
	if s.Dynamic {
		return refuse(ErrDynamic)
	}
	if err := s.CheckTime(l.cfg.Now()); err != nil {
		return refuse(err)
	}
	if l.cfg.Floors != nil {
		if err := l.cfg.Floors.Check(s.Role, s.Name, s.Version); err != nil {
			return refuse(err)
		}
	}
	if fresh || !key.Public.Equal(m.key.Public) {
		l.hashed.Add(1)
		if err := s.Verify(m.file, key.Public); err != nil {
			return refuse(err)
		}
	}
	if fresh {
		m.key = key
	}
	if l.cfg.Floors != nil && s.MinVersion != "" {
		if err := l.cfg.Floors.Raise(s.Role, s.Name, s.MinVersion); err != nil {
			return refuse(err)
		}
	}
	return key, nil
}

// hold keeps a fresh verified copy for the next start, instead of an older one.
func (h *slot) hold(st stamp, m *memory) {
	if h.mem != nil {
		// A memory file that was only read: there is nothing to lose.
		_ = h.mem.release()
	}
	m.refs.Add(1)
	h.stamp, h.mem = st, m
}

// Stamp returns a text that changes when the file or the trust store may have
// changed: the sign to try a refused module again.
func (l *Loader) Stamp(path string) string {
	stamps := []any{pathStamp(path), pathStamp(l.cfg.Trust)}
	for _, name := range []string{trust.RevokedFile, trust.PolicyFile, trust.SignatureFile} {
		stamps = append(stamps, pathStamp(l.cfg.Trust+"/"+name))
	}
	return fmt.Sprint(stamps...)
}

func pathStamp(path string) stamp {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return stamp{}
	}
	return newStamp(&s)
}

func stampOf(f *os.File) (stamp, error) {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return stamp{}, fmt.Errorf("stat module: %w", err)
	}
	if s.Mode&unix.S_IFMT != unix.S_IFREG {
		return stamp{}, fmt.Errorf("%w: not a regular file", ErrRefused)
	}
	if s.Size > elfsig.MaxFileSize {
		return stamp{}, fmt.Errorf("%w: larger than %d bytes", ErrRefused, elfsig.MaxFileSize)
	}
	return newStamp(&s), nil
}

func newStamp(s *unix.Stat_t) stamp {
	return stamp{dev: s.Dev, ino: s.Ino, size: s.Size, mtime: s.Mtim, ctime: s.Ctim}
}

// pathless drops the path from an error that will name it anyway.
func pathless(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// firstFD is the lowest descriptor of an image: above all that a child gets,
// so that the child's own descriptors never replace it before the exec.
const firstFD = 64

const seals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL

// sealedCopy returns a sealed memory file with the file's size bytes.
func sealedCopy(f *os.File, size int64) (*os.File, error) {
	mem, err := newMemory()
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*os.File, error) { return nil, errors.Join(err, mem.Close()) }
	n, err := io.Copy(mem, io.LimitReader(f, size+1))
	if err != nil {
		return fail(fmt.Errorf("copy module: %w", pathless(err)))
	}
	if n != size {
		return fail(fmt.Errorf("copy module: size changed from %d bytes while it was read", size))
	}
	if _, err := unix.FcntlInt(mem.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return fail(fmt.Errorf("seal module: %w", err))
	}
	got, err := unix.FcntlInt(mem.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || got&seals != seals {
		return fail(fmt.Errorf("seal module: seals are %#x: %w", got, errors.Join(err)))
	}
	return mem, nil
}

// newMemory makes an executable memory file at a descriptor ≥ firstFD.
// MFD_EXEC (Linux 6.3) says that it is meant to be executed; older kernels do
// not know it and need no telling.
func newMemory() (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("godwit-module", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("godwit-module", flags)
	}
	if err != nil {
		return nil, fmt.Errorf("create memory file: %w", err)
	}
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstFD)
	if cerr := unix.Close(fd); err != nil || cerr != nil {
		return nil, fmt.Errorf("create memory file: %w", errors.Join(err, cerr))
	}
	return os.NewFile(uintptr(high), "memfd:godwit-module"), nil
}
