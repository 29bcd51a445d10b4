package fabric

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"godwit/fib"
)

// ring is the shared memory of one ordered pair of cards, mapped, and its
// doorbell.
type ring struct {
	mem  []byte
	bell int

	head, producer *uint64
	tail, consumer *uint64
	sleeping       *uint32
}

// openRing maps the ring, creating what is missing. Whoever comes first
// initialises; files are never made shorter, for a peer may have them mapped.
func openRing(dir string, from, to fib.CardID) (*ring, error) {
	if from == to || from == 0 || to == 0 {
		return nil, fmt.Errorf("open fabric ring %d-%d: no such pair of cards", from, to)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make fabric directory: %w", err)
	}
	mem, err := mapRing(Path(dir, from, to))
	if err != nil {
		return nil, fmt.Errorf("open fabric ring %d-%d: %w", from, to, err)
	}
	bell, err := openBell(BellPath(dir, from, to))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open fabric doorbell %d-%d: %w", from, to, err), unix.Munmap(mem))
	}
	return newRing(mem, bell), nil
}

func newRing(mem []byte, bell int) *ring {
	u64 := func(off int) *uint64 { return (*uint64)(unsafe.Pointer(&mem[off])) }
	return &ring{
		mem: mem, bell: bell,
		head: u64(offHead), producer: u64(offProducer),
		tail: u64(offTail), consumer: u64(offConsumer),
		sleeping: (*uint32)(unsafe.Pointer(&mem[offSleeping])),
	}
}

// mapRing opens, reserves, maps and, where the magic is missing, initialises
// the file. The memory is reserved at once: a full tmpfs is an error here and
// not a bus error in the worker.
func mapRing(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd := int(f.Fd())
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	defer unix.Flock(fd, unix.LOCK_UN)
	if err := reserve(fd); err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(fd, 0, ringSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map: %w", err)
	}
	m := (*uint64)(unsafe.Pointer(&mem[offMagic]))
	if atomic.LoadUint64(m) != magic {
		clear(mem[8:pageSize])
		atomic.StoreUint64(m, magic)
	}
	return mem, nil
}

func reserve(fd int) error {
	err := unix.Fallocate(fd, 0, 0, ringSize)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		if err != nil {
			return fmt.Errorf("reserve %d bytes: %w", ringSize, err)
		}
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if st.Size < ringSize {
		if err := unix.Ftruncate(fd, ringSize); err != nil {
			return fmt.Errorf("extend: %w", err)
		}
	}
	return nil
}

// openBell opens the FIFO for both directions, so that neither side ever sees
// the other one's end.
func openBell(path string) (int, error) {
	for range 2 {
		if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, err
		}
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
			return fd, nil
		}
		unix.Close(fd)
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return -1, err
		}
	}
	return -1, errors.New("not a FIFO")
}

func (r *ring) slot(index uint64) []byte {
	at := pageSize + int(index&(slots-1))*slotSize
	return r.mem[at : at+slotSize : at+slotSize]
}

func (r *ring) close() error {
	if r.mem == nil {
		return nil
	}
	err := errors.Join(unix.Munmap(r.mem), unix.Close(r.bell))
	r.mem, r.bell = nil, -1
	return err
}
