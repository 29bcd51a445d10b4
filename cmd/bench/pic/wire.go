package pic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"godwit/dataplane/netdev"
)

// inSpace runs f on a thread of its own in a network namespace. Sockets that f
// opens stay there.
func inSpace(name string, f func() error) error {
	ch := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		fd, err := unix.Open("/run/netns/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			ch <- fmt.Errorf("enter %s: %w", name, err)
			return
		}
		err = unix.Setns(fd, unix.CLONE_NEWNET)
		_ = unix.Close(fd)
		if err != nil {
			ch <- fmt.Errorf("enter %s: %w", name, err)
			return
		}
		ch <- f()
	}()
	return <-ch
}

// probePort marks the probes: the destination port of all of them.
const probePort = 47808

// sink takes probes from a device and notes when they came.
type sink struct {
	fd   int
	done chan struct{}

	mu    sync.Mutex
	seen  map[flow]int
	first map[netip.Addr]time.Time // since the last reset
	last  time.Time
	total int
}

// flow is what tells probes apart.
type flow struct {
	to   netip.Addr
	from uint16 // source port
}

// newSink listens on all devices of a namespace.
func newSink(space string) (*sink, error) {
	s := &sink{done: make(chan struct{})}
	s.reset()
	err := inSpace(space, func() (err error) {
		if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_IP))); err != nil {
			return err
		}
		tv := unix.Timeval{Usec: 100_000}
		return errors.Join(unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20),
			unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv))
	})
	if err != nil {
		return nil, fmt.Errorf("listen in %s: %w", space, err)
	}
	go s.run()
	return s, nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

func (s *sink) reset() {
	s.mu.Lock()
	s.seen, s.first, s.total = map[flow]int{}, map[netip.Addr]time.Time{}, 0
	s.mu.Unlock()
}

// close ends the sink; its reader looks ten times a second.
func (s *sink) close() {
	s.mu.Lock()
	fd := s.fd
	s.fd = -1
	s.mu.Unlock()
	<-s.done
	_ = unix.Close(fd)
}

func (s *sink) run() {
	defer close(s.done)
	buf, oob := make([]byte, 128), make([]byte, 128)
	for {
		s.mu.Lock()
		fd := s.fd
		s.mu.Unlock()
		if fd < 0 {
			return
		}
		n, on, _, from, err := unix.Recvmsg(fd, buf, oob, 0)
		if err != nil || n < 28 {
			continue
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		s.take(buf[:n], stamp(oob[:on]))
	}
}

// take notes an IPv4 packet.
func (s *sink) take(b []byte, at time.Time) {
	l4 := int(b[0]&0xf) * 4
	if b[9] != unix.IPPROTO_UDP || len(b) < l4+4 || binary.BigEndian.Uint16(b[l4+2:]) != probePort {
		return
	}
	f := flow{netip.AddrFrom4([4]byte(b[16:20])), binary.BigEndian.Uint16(b[l4:])}
	s.mu.Lock()
	s.total++
	s.last = at
	s.seen[f]++
	if _, ok := s.first[f.to]; !ok {
		s.first[f.to] = at
	}
	s.mu.Unlock()
}

// stamp is the kernel's time of reception.
func stamp(oob []byte) time.Time {
	list, err := unix.ParseSocketControlMessage(oob)
	if err == nil {
		for _, m := range list {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
				ts := (*unix.Timespec)(unsafe.Pointer(&m.Data[0]))
				return time.Unix(ts.Sec, ts.Nsec)
			}
		}
	}
	return time.Now()
}

// source sends probes, each flow from a socket of its own.
type source struct {
	fds  []int
	stop chan struct{}
	done chan struct{}
	err  error // of start, once halted
}

// newSource opens a socket for each flow.
func newSource(space string, flows []flow) (*source, error) {
	s := &source{}
	err := inSpace(space, func() error {
		for _, f := range flows {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				return err
			}
			s.fds = append(s.fds, fd)
			if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.Bind(fd, &unix.SockaddrInet4{Port: int(f.from)}),
				unix.Connect(fd, &unix.SockaddrInet4{Port: probePort, Addr: f.to.As4()})); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.close()
		return nil, fmt.Errorf("send from %s: %w", space, err)
	}
	return s, nil
}

// only closes all sockets but those named, in order.
func (s *source) only(keep []int) {
	var fds []int
	for i, fd := range s.fds {
		if len(keep) > 0 && keep[0] == i {
			fds, keep = append(fds, fd), keep[1:]
			continue
		}
		_ = unix.Close(fd)
	}
	s.fds = fds
}

var payload = make([]byte, 32)

// round sends one probe of each flow.
func (s *source) round() {
	for _, fd := range s.fds {
		_, _ = unix.Write(fd, payload) // an ICMP error of before, or a full queue: the next one comes soon
	}
}

// start sends a round every period until halt.
func (s *source) start(period time.Duration) {
	s.stop, s.done = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(s.done)
		// Before ordinary threads: probes that wait for a processor would count as outage. Locked
		// for good: the thread ends with the goroutine.
		runtime.LockOSThread()
		if err := netdev.Urgent(0, netdev.NAPIPriority); err != nil {
			s.err = err
		}
		next := time.Now()
		for {
			select {
			case <-s.stop:
				return
			default:
			}
			s.round()
			next = next.Add(period)
			if d := time.Until(next); d > 0 {
				ts := unix.NsecToTimespec(int64(d))
				_ = unix.Nanosleep(&ts, nil)
			} else {
				next = time.Now()
			}
		}
	}()
}

func (s *source) halt() {
	if s.stop != nil {
		close(s.stop)
		<-s.done
		s.stop = nil
	}
}

func (s *source) close() {
	s.halt()
	for _, fd := range s.fds {
		_ = unix.Close(fd)
	}
}

// setLink sets a device of a namespace up or down.
func setLink(space, dev string, up bool) error {
	return inSpace(space, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		ifr, err := unix.NewIfreq(dev)
		if err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
			return fmt.Errorf("read flags of %s: %w", dev, err)
		}
		flags := ifr.Uint16() &^ unix.IFF_UP
		if up {
			flags |= unix.IFF_UP
		}
		ifr.SetUint16(flags)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
			return fmt.Errorf("set flags of %s: %w", dev, err)
		}
		return nil
	})
}
